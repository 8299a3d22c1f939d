"""What all distributions share: log_prob and draws, once parameters and values are known to fit."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import NamedTuple

from .. import backend, ops
from ..autodiff import no_grad
from ..backend import Generator, xp

EULER_GAMMA = 0.5772156649015329


class Support(NamedTuple):
    """Where a density lives: in words, as a test of raw values, and whether values are integers."""

    words: str
    contains: Callable
    integers: bool = False


REALS = Support("finite values", lambda x: xp.isfinite(x))
POSITIVE_REALS = Support("finite values above 0", lambda x: xp.isfinite(x) & (x > 0))


def _sum_to_one(x):
    """Whether the vectors along the last axis sum to 1 within rounding."""
    return abs(x.sum(axis=-1) - 1) <= 4 * x.shape[-1] * float(xp.finfo(x.dtype).eps)


SIMPLEX = Support(
    "vectors of positive numbers that sum to 1", lambda x: (x > 0).all(axis=-1) & _sum_to_one(x)
)
LOG_SIMPLEX = Support(
    "finite logarithms of vectors that sum to 1",
    lambda y: xp.isfinite(y).all(axis=-1) & _sum_to_one(xp.exp(y)),
)


def labels(count: int) -> Support:
    """The integers from 0 to count − 1."""
    return Support(f"integers from 0 to {count - 1}", lambda x: (x >= 0) & (x < count), integers=True)


class Distribution:
    """The base of all distributions: sets what is below in `__init__`, computes in `_log_prob` and `_draw`.

    shape: that of log-densities and of the parameters; () for parameters that hold for any shape.
    event: the axes that one value has beyond that: (K,) for a vector of K, () for a number.
    dtype: of the parameters and of draws.
    support: where log_prob is defined."""

    shape: tuple[int, ...]
    event: tuple[int, ...] = ()
    support: Support = REALS

    def log_prob(self, x):
        """log p(x), of the distribution's `shape`; that of x without `event` where it is ().

        x: an array or Tensor of the shape `shape` + `event` in the parameters' dtype (integers where
            `support` says so), or a number. Raises TypeError or ValueError for another x; values are looked
            at on the CPU only."""
        return self._log_prob(self._value(x))

    def sample(self, rng: Generator | None = None, shape: tuple[int, ...] | None = None):
        """A draw as a raw array, without history.

        rng: the source; the default generator if None. Raises TypeError for what is no generator of tinygen.
        shape: that of a draw (without `event`) where the distribution's own is (); ValueError if it is not.
        """
        rng, shape = self._source(rng), self._draw_shape(shape)
        with no_grad():
            return ops.raw(self._draw(rng, shape))

    def entropy(self):
        """−E log p(x), where it has a closed form; NotImplementedError where it has not."""
        raise NotImplementedError(
            f"{type(self).__name__} has no entropy in closed form; "
            "tinygen.distributions.monte_carlo_entropy(p, samples) estimates it"
        )

    # What a distribution defines

    def _log_prob(self, x):
        """log p(x) of an x that fits. Broadcasts, since mixtures give x an axis of 1."""
        raise NotImplementedError

    def _draw(self, rng: Generator, shape: tuple[int, ...]):
        """A draw of the shape `shape` + `event`, recorded where gradients reach parameters through it."""
        raise NotImplementedError

    # What is accepted

    def _parameters(self, **given) -> list:
        """The parameters in one shape and dtype, which become those of the distribution; numbers take them
        over from the others, or are float32 scalars."""
        arrays = {self._named(name): x for name, x in given.items() if not isinstance(x, Real)}
        for name, x in arrays.items():
            require_array(name, x)
        like = max(arrays.values(), key=lambda x: len(x.shape), default=xp.zeros((), "float32"))
        for name, x in arrays.items():
            require_shape(name, x, like.shape)
            require_dtype(name, x, like.dtype)
        self.shape, self.dtype = like.shape, like.dtype
        return [self._number(x) if isinstance(x, Real) else spread(x, like.shape) for x in given.values()]

    def _logits(self, logits):
        """Logits whose last axis is for K outcomes."""
        (logits,) = self._parameters(logits=logits)
        if not logits.shape or not logits.shape[-1]:
            raise ValueError(
                f"{self._named('logits')}: expected shape (..., K) with K > 0, got {logits.shape}"
            )
        self.shape = logits.shape[:-1]
        return logits

    def _number(self, x: Real):
        """A number as an array of the distribution's shape and dtype."""
        return xp.full(self.shape, x, self.dtype)

    def _integer(self, name: str, value: int, least: int = 1) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{self._named(name)}: expected an int of at least {least}, got {value!r}")
        return value

    def _value(self, x):
        """x as an array or Tensor; an error if it does not fit the parameters or leaves the support."""
        name = f"{type(self).__name__}.log_prob: x"
        if isinstance(x, Real):
            x = xp.asarray(x) if self.support.integers else xp.full((), x, self.dtype)
        require_array(name, x)
        if self.event:
            self._require_event(name, x)
        else:
            require_shape(name, x, self.shape)
        if not self.support.integers:
            require_dtype(name, x, self.dtype if self.shape else x.dtype)
        elif x.dtype.kind not in "iu":
            raise TypeError(f"{name}: expected {self.support.words}, got {x.dtype}")
        require_inside(name, ops.raw(x), self.support, self.event)
        return x

    def _require_event(self, name: str, x) -> None:
        shape = self.shape or x.shape[:-1]
        if x.shape != (*shape, *self.event):
            axes = [*(self.shape or ["..."]), *self.event]
            raise ValueError(f"{name}: expected shape ({', '.join(map(str, axes))}), got {x.shape}")

    def _source(self, rng: Generator | None) -> Generator:
        if rng is None:
            return backend.default_generator()
        if not isinstance(rng, Generator):
            expected = "a tinygen generator or None"
            raise TypeError(f"{self._named('rng')}: expected {expected}, got {type(rng).__name__}")
        return rng

    def _draw_shape(self, shape: tuple[int, ...] | None) -> tuple[int, ...]:
        if shape is None or shape == self.shape:
            return self.shape
        if self.shape or not isinstance(shape, tuple):
            expected = f"{self.shape}, that of the parameters" if self.shape else "a tuple of ints"
            raise ValueError(f"{self._named('shape')}: expected {expected}, got {shape}")
        return shape

    def _named(self, argument: str) -> str:
        return f"{type(self).__name__}: {argument}"


class Reparameterized(Distribution):
    """One whose draw is a differentiable function z = g(ε, parameters) of noise ε that knows no parameters.

    Gradients of an expectation then go through the draw: ∇ E[f(z)] = E[∇ f(g(ε, parameters))]. D. P. Kingma
    and M. Welling, Auto-Encoding Variational Bayes, 2014 (KW), section 2.4, names three roads to such a g:
    the inverse of the distribution function (`InverseCDF`), location-scale families (`LocationScale`) and
    compositions of these (`Composition`)."""

    def rsample(self, rng: Generator | None = None, shape: tuple[int, ...] | None = None):
        """A draw through which gradients reach the parameters; arguments and errors as in `sample`."""
        return self._draw(self._source(rng), self._draw_shape(shape))


def open_uniform(rng: Generator, shape: tuple[int, ...], dtype):
    """Draws from the uniform distribution on (0, 1), where inverse distribution functions are finite."""
    step = float(xp.finfo(dtype).eps) / 2  # the generator's, and that from 1 to the number below it
    return xp.clip(rng.uniform(shape, dtype), step / 2, 1 - step)


def spread(x, shape: tuple[int, ...]):
    """x, or the scalar x for all elements of a shape."""
    return x if x.shape == shape else ops.broadcast_to(x, shape)


def require_array(name: str, x) -> None:
    if not hasattr(x, "shape"):
        raise TypeError(f"{name}: expected a Tensor, an array or a number, got {type(x).__name__}")


def require_shape(name: str, x, shape: tuple[int, ...]) -> None:
    """Refuse x if it has neither this shape nor is one of the two a scalar."""
    if x.shape != shape and () not in (x.shape, shape):
        raise ValueError(f"{name}: expected shape {shape}, got {x.shape}")


def require_dtype(name: str, x, dtype) -> None:
    """Refuse x if it has not this dtype, or no floating one."""
    if x.dtype != dtype or x.dtype.kind != "f":
        expected = dtype if dtype.kind == "f" else "a floating dtype"
        raise TypeError(f"{name}: expected {expected}, got {x.dtype}")


def require_inside(name: str, x, support: Support, event: tuple[int, ...] = ()) -> None:
    """Refuse raw values outside a support, each of the shape `event`, on the CPU only: on a GPU, looking at
    values would hold up every training step."""
    if backend.current_device().name != "cpu":
        return
    inside = xp.asarray(support.contains(x))
    if not inside.all():
        outside = xp.broadcast_to(x, (*inside.shape, *event))[~inside][0]
        raise ValueError(f"{name}: expected {support.words}, got {outside}")
