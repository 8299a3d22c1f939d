"""Elementwise primitives: each output element depends on the input elements at its place alone.

Every VJP stands as a formula beside the line that computes it, ȳ being the gradient of the output.
Inputs broadcast as in NumPy; the engine sums each gradient back to its input's shape.

Subgradients at kinks, for the whole of tinygen: where maximum, minimum, max, min or max pooling meet a tie,
those who tie share the gradient equally; relu, leaky_relu, absolute and clip have 0, the slope, 0 and 0 at
theirs; norm and std have 0 where they are 0.
"""

from __future__ import annotations

from .. import backend
from ..autodiff import Tensor, primitive
from ..backend import xp
from ..kernels import kernel

NONZERO = "nonzero"
POSITIVE = "positive"
REAL = "real"


def _over(g, x):
    """g / x, but 0 where 0 meets 0: what `where` did not select sends nothing back, not a NaN."""
    return g / (x + ((x == 0) & (g == 0)))


# Arithmetic ---------------------------------------------------------------------------------------


@primitive(broadcasts=True, domain=REAL)
def add(a, b):
    """a + b."""
    return a + b


add.vjp("a", lambda g: g, formula="ā = ȳ")
add.vjp("b", lambda g: g, formula="b̄ = ȳ")


@primitive(broadcasts=True, domain=REAL)
def subtract(a, b):
    """a − b."""
    return a - b


subtract.vjp("a", lambda g: g, formula="ā = ȳ")
subtract.vjp("b", lambda g: -g, formula="b̄ = −ȳ")


@primitive(broadcasts=True, domain=REAL)
def multiply(a, b):
    """a b."""
    return a * b


multiply.vjp("a", lambda g, b: g * b, formula="ā = ȳ b")
multiply.vjp("b", lambda g, a: g * a, formula="b̄ = ȳ a")


@primitive(broadcasts=True, domain={"a": REAL, "b": NONZERO})
def divide(a, b):
    """a / b."""
    return a / b


divide.vjp("a", lambda g, b: _over(g, b), formula="ā = ȳ / b")
divide.vjp("b", lambda g, a, b: -_over(_over(g, b) * a, b), formula="b̄ = −ȳ a / b²")


@primitive(domain=REAL)
def negative(x):
    """−x."""
    return -x


negative.vjp("x", lambda g: -g, formula="x̄ = −ȳ")


@primitive(broadcasts=True, domain={"a": POSITIVE, "b": REAL})
def power(a, b):
    """a to the power b. A negative a needs an integer b, and no gradient for b."""
    return a**b


@power.vjp("a", formula="ā = ȳ b aᵇ⁻¹")
def _(g, a, b):
    # At a = 0 the power may be infinite. Where b = 0 or ȳ = 0 the gradient is 0 all the same.
    a = a + ((a == 0) & ((b == 0) | (g == 0)))
    return g * (b * a ** (b - 1))


# At a = 0 the power is 0 for every b > 0, and so is this, whatever stands for log 0.
power.vjp("b", lambda g, a, out: g * (out * log(a + (a == 0))), formula="b̄ = ȳ y log a")


@primitive(domain=REAL)
def square(x):
    """x²."""
    return x * x


square.vjp("x", lambda g, x: g * (2 * x), formula="x̄ = 2 x ȳ")


@primitive(domain=POSITIVE)
def sqrt(x):
    """The square root of x."""
    return xp.sqrt(x)


sqrt.vjp("x", lambda g, out: 0.5 * _over(g, out), formula="x̄ = ȳ / 2y")


@primitive(domain=NONZERO)
def reciprocal(x):
    """1 / x."""
    return 1 / x


reciprocal.vjp("x", lambda g, x: -_over(_over(g, x), x), formula="x̄ = −ȳ / x²")


@primitive(domain=NONZERO)
def absolute(x):
    """|x|."""
    return abs(x)


absolute.vjp("x", lambda g, x: g * sign(x), formula="x̄ = ȳ sign x")


@primitive(domain=NONZERO)
def sign(x):
    """−1, 0 or 1 by the sign of x; its gradient is zero."""
    return xp.sign(x)


sign.vjp("x", lambda g, x_shape: xp.zeros(x_shape, g.dtype), formula="x̄ = 0")


# Exponentials and circular functions --------------------------------------------------------------


@primitive(domain=REAL)
def exp(x):
    """eˣ."""
    return xp.exp(x)


exp.vjp("x", lambda g, out: g * out, formula="x̄ = ȳ y")


@primitive(domain=REAL)
def expm1(x):
    """eˣ − 1, exact near 0."""
    return xp.expm1(x)


expm1.vjp("x", lambda g, out: g * (out + 1), formula="x̄ = ȳ (y + 1)")


@primitive(domain=POSITIVE)
def log(x):
    """The natural logarithm of x."""
    return xp.log(x)


log.vjp("x", lambda g, x: _over(g, x), formula="x̄ = ȳ / x")


@primitive(domain="above -1")
def log1p(x):
    """log(1 + x), exact near 0."""
    return xp.log1p(x)


log1p.vjp("x", lambda g, x: _over(g, 1 + x), formula="x̄ = ȳ / (1 + x)")


@primitive(domain=REAL)
def sin(x):
    """The sine of x, in radians."""
    return xp.sin(x)


sin.vjp("x", lambda g, x: g * cos(x), formula="x̄ = ȳ cos x")


@primitive(domain=REAL)
def cos(x):
    """The cosine of x, in radians."""
    return xp.cos(x)


cos.vjp("x", lambda g, x: -(g * sin(x)), formula="x̄ = −ȳ sin x")


# Sigmoids and rectifiers --------------------------------------------------------------------------


@primitive(domain=REAL)
def tanh(x):
    """The hyperbolic tangent of x."""
    return xp.tanh(x)


tanh.vjp("x", lambda g, out: g - g * (out * out), formula="x̄ = (1 − y²) ȳ")


@primitive(domain=REAL)
@kernel("T x", "T y", "T e = exp(-fabs(x)); y = max(e, T(x >= 0)) / (1 + e)")
def sigmoid(x):
    """σ(x) = 1 / (1 + e⁻ˣ), to full relative precision at both ends."""
    e = xp.exp(-abs(x))
    return xp.maximum(e, x >= 0) / (1 + e)  # the numerator is 1 for x ≥ 0 and eˣ below


sigmoid.vjp("x", lambda g, out: g * (out * (1 - out)), formula="x̄ = ȳ y (1 − y)")


@primitive(domain=REAL)
@kernel("T x", "T y", "y = max(x, T(0)) + log1p(exp(-fabs(x)))")
def softplus(x):
    """log(1 + eˣ), without overflow."""
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-abs(x)))


softplus.vjp("x", lambda g, x: g * sigmoid(x), formula="x̄ = ȳ σ(x)")


@primitive(domain=REAL)
@kernel("T x", "T y", "y = min(x, T(0)) - log1p(exp(-fabs(x)))")
def log_sigmoid(x):
    """log σ(x) = −softplus(−x)."""
    return xp.minimum(x, 0) - xp.log1p(xp.exp(-abs(x)))


log_sigmoid.vjp("x", lambda g, x: g * sigmoid(-x), formula="x̄ = ȳ σ(−x)")


def _positive_part(x, out):
    # clip takes a third of the time of NumPy's maximum with a number, but makes floats of whole numbers.
    if isinstance(x, xp.ndarray) and x.dtype.kind == "f":
        return x.clip(0, xp.inf, out=out)
    return xp.maximum(x, 0, out=out)


@primitive(domain=NONZERO)
def relu(x):
    """max(x, 0)."""
    return backend.elementwise(_positive_part, x)


@primitive(domain={"h": REAL, "y": NONZERO})
def _relu_slope(h, y):
    """p = h [y > 0]"""
    return backend.elementwise(lambda h, y, out: xp.multiply(h, y > 0, out=out), h, y)


relu.vjp("x", lambda g, out: _relu_slope(g, raw(out)), formula="x̄ = ȳ [y > 0]")
_relu_slope.vjp("h", lambda g, y: _relu_slope(g, y), formula="h̄ = p̄ [y > 0]")
_relu_slope.vjp("y", lambda g, y_shape: xp.zeros(y_shape, g.dtype), formula="ȳ = 0")


@primitive(domain=NONZERO)
def _leaky_relu(x, *, slope):
    return backend.elementwise(lambda x, out: xp.maximum(x, slope * x, out=out), x)


@primitive(domain={"h": REAL, "y": NONZERO})
def _leaky_relu_slope(h, y, *, slope):
    """p = h if y > 0, else slope h"""

    def product(h, y, out):
        return xp.multiply(h, (y > 0).astype(y.dtype).clip(slope, 1), out=out)

    return backend.elementwise(product, h, y)


_leaky_relu.vjp(
    "x",
    lambda g, out, slope: _leaky_relu_slope(g, raw(out), slope=slope),
    formula="x̄ = ȳ if y > 0, else slope ȳ",
)
_leaky_relu_slope.vjp(
    "h", lambda g, y, slope: _leaky_relu_slope(g, y, slope=slope), formula="h̄ = p̄ if y > 0, else slope p̄"
)
_leaky_relu_slope.vjp("y", lambda g, y_shape: xp.zeros(y_shape, g.dtype), formula="ȳ = 0")


def leaky_relu(x, slope=0.01):
    """x where it is positive, slope x elsewhere; 0 ≤ slope < 1 (else ValueError)."""
    if not 0 <= slope < 1:
        raise ValueError(f"leaky_relu: slope: expected 0 <= slope < 1, got {slope}")
    return _leaky_relu(x, slope=slope)


@primitive(domain=NONZERO)
def _elu(x, *, alpha):
    return xp.maximum(x, 0) + alpha * xp.expm1(xp.minimum(x, 0))


_elu.vjp(
    "x",
    lambda g, x, out, alpha: g * ((x > 0) + (out + alpha) * (x <= 0)),
    formula="x̄ = ȳ if x > 0, else (y + α) ȳ = α eˣ ȳ",
)


def elu(x, alpha=1.0):
    """x where it is positive, α (eˣ − 1) elsewhere (Clevert, Unterthiner and Hochreiter 2016, eq. 15)."""
    return _elu(x, alpha=alpha)


# Choices ------------------------------------------------------------------------------------------


def _wins(a, b):
    """1 where a > b, ½ where they tie, 0 where a < b: the share of a in max(a, b)'s gradient."""
    dtype = xp.result_type(*(raw(x) for x in (a, b)))
    return ((a > b).astype(dtype) + (a >= b).astype(dtype)) * 0.5


def raw(x):
    """The array of a Tensor; anything else as it is."""
    return x.data if isinstance(x, Tensor) else x


@primitive(broadcasts=True, domain="distinct")
def maximum(a, b):
    """The larger of a and b."""
    return xp.maximum(a, b)


maximum.vjp("a", lambda g, a, b: g * _wins(a, b), formula="ā = ȳ [a > b], ½ ȳ at ties")
maximum.vjp("b", lambda g, a, b: g * _wins(b, a), formula="b̄ = ȳ [b > a], ½ ȳ at ties")


@primitive(broadcasts=True, domain="distinct")
def minimum(a, b):
    """The smaller of a and b."""
    return xp.minimum(a, b)


minimum.vjp("a", lambda g, a, b: g * _wins(b, a), formula="ā = ȳ [a < b], ½ ȳ at ties")
minimum.vjp("b", lambda g, a, b: g * _wins(a, b), formula="b̄ = ȳ [b < a], ½ ȳ at ties")


@primitive(broadcasts=True, domain=REAL)
def _clip(x, *, a_min, a_max):
    return xp.clip(x, a_min, a_max)


@_clip.vjp("x", formula="x̄ = ȳ [a_min < x < a_max]")
def _(g, x, a_min, a_max):
    inside = True if a_min is None else x > a_min
    return g * (inside if a_max is None else inside & (x < a_max))


def clip(x, a_min=None, a_max=None):
    """x brought between a_min and a_max: numbers, arrays, or None for no bound."""
    return _clip(x, a_min=a_min, a_max=a_max)


@primitive(broadcasts=True, domain=REAL)
def _where(x, y, *, condition):
    # CuPy's where takes no plain True or False.
    return xp.where(condition if hasattr(condition, "shape") else xp.asarray(condition), x, y)


_where.vjp("x", lambda g, condition: _where(g, 0.0, condition=condition), formula="x̄ = [c] ȳ")
_where.vjp("y", lambda g, condition: _where(0.0, g, condition=condition), formula="ȳ₂ = [not c] ȳ")


def where(condition, x, y):
    """x where the boolean array `condition` holds, y elsewhere. What is not chosen gets gradient 0."""
    return _where(x, y, condition=raw(condition))


@primitive(broadcasts=True, domain=REAL)
def logaddexp(a, b):
    """log(eᵃ + eᵇ), without overflow."""
    return xp.logaddexp(a, b)


logaddexp.vjp("a", lambda g, a, b: g * sigmoid(a - b), formula="ā = ȳ σ(a − b)")
logaddexp.vjp("b", lambda g, a, b: g * sigmoid(b - a), formula="b̄ = ȳ σ(b − a)")


# Likelihoods from logits --------------------------------------------------------------------------


@primitive(domain=REAL)
@kernel("T l, T x", "T y", "y = x * l - (max(l, T(0)) + log1p(exp(-fabs(l))))")
def _bernoulli_log_likelihood(logits, x):
    return x * logits - (xp.maximum(logits, 0) + xp.log1p(xp.exp(-abs(logits))))


_bernoulli_log_likelihood.vjp(
    "logits", lambda g, logits, x: g * (x - sigmoid(logits)), formula="l̄ = ȳ (x − σ(l))"
)
_bernoulli_log_likelihood.vjp("x", lambda g, logits: g * logits, formula="x̄ = ȳ l")


def bernoulli_log_likelihood(logits, x):
    """log p(x) = x l − log(1 + eˡ) of x in {0, 1} where P(x = 1) = σ(l), elementwise, in nats.

    logits, x: arrays of one shape (else ValueError; nothing broadcasts). Exact for logits of any size. For
    x in (0, 1) it is the negative cross-entropy, which is no log-likelihood."""
    if raw(logits).shape != raw(x).shape:
        raise ValueError(
            f"bernoulli_log_likelihood: x: expected the shape of logits, {raw(logits).shape}, "
            f"got {raw(x).shape}"
        )
    return _bernoulli_log_likelihood(logits, x)


# Types --------------------------------------------------------------------------------------------


@primitive(domain=REAL)
def _astype(x, *, dtype):
    return x.astype(dtype)


# The engine gives every gradient its input's dtype: that is all there is to do.
_astype.vjp("x", lambda g: g, formula="x̄ = ȳ")


def astype(x, dtype):
    """x in another floating dtype (else TypeError)."""
    if xp.dtype(dtype).kind != "f":
        raise TypeError(f"astype: dtype: expected a floating one, got {dtype}")
    return _astype(x, dtype=dtype)
