"""Every primitive: what it declares, its values, its derivatives to second order, also where they are hard.

The registry is walked, so a primitive without a domain, a formula, a rule or a strategy fails here, as does a
function of tinygen.ops whose values are compared with nothing.
"""

import math
import pkgutil
from importlib import import_module
from inspect import signature

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special

import tinygen as tg
from tinygen import ops
from tinygen.autodiff import registry
from tinygen.gradients import check_gradients
from tinygen.gradients.strategies import (
    DOMAINS,
    array_shapes,
    arrays,
    calls,
    generators,
    indices,
    one_axis,
)
from tinygen.gradients.strategies.arrays import magnitudes
from tinygen.ops.blocks import staircase

for module in pkgutil.walk_packages(tg.__path__, "tinygen."):
    import_module(module.name)  # whatever defines primitives has registered them now


def tensors(xs, dtype):
    return [tg.Tensor(np.asarray(x, dtype), requires_grad=True) for x in xs]


def several(y):
    return y if isinstance(y, tuple) else (y,)


def derivatives(f, x, dtype="float64"):
    """The first and second derivatives of an elementwise function at x."""
    x = tg.Tensor(np.asarray(x, dtype), requires_grad=True)
    ones = np.ones(x.shape, dtype)
    (first,) = tg.grad(f(x), x, ones, create_graph=True)
    (second,) = tg.grad(first, x, ones) if first.requires_grad else (tg.Tensor(0 * ones),)
    return first.data, second.data


def gradient(f, *inputs):
    """The gradients of the sum of f with respect to its inputs."""
    xs = tensors(inputs, "float64")
    found = tg.grad(f(*xs).sum(), xs)
    return found[0].data if len(xs) == 1 else tuple(g.data for g in found)


# The registry -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", sorted(registry))
@given(data=st.data())
def test_primitive(name, data):
    primitive = registry[name]
    known = primitive.primitive
    assert known.domain, "no domain"
    assert set(known.rules) == set(known.inputs), "an input without a rule"
    assert all(rule.formula for rule in known.rules.values()), "a rule without a formula"

    call = data.draw(calls(primitive))
    check_gradients(lambda *xs: primitive(*xs, **call.static), *call.inputs, order=2)
    check_single_precision(primitive, call)


def check_single_precision(primitive, call):
    """float32 gives float32, also in each rule by itself, and the numbers of float64 to rounding."""
    single = everything(primitive, call, "float32")
    double = everything(primitive, call, "float64")
    for computed, exact in zip(single, double):
        assert computed.dtype == "float32"
        assert_allclose(computed, exact, rtol=1e-4, atol=1e-5 * max(1, abs(exact).max(initial=0)))


def everything(primitive, call, dtype):
    """The outputs for a call's arrays, rounded to float32, in a dtype; the gradients; and what the rules give
    for these before the engine makes it fit its input's shape and dtype."""
    inputs = [in_dtype(x, dtype) for x in call.inputs]
    static = {name: in_dtype(value, dtype) for name, value in call.static.items()}
    if "dtype" in static:  # of astype
        static["dtype"] = dtype
    xs = tensors(inputs, dtype)
    y = primitive(*xs, **static)
    ys = several(y)
    cotangents = tuple(np.cos(np.arange(y.size)).reshape(y.shape).astype(dtype) for y in ys)
    gradients = tg.grad(ys, xs, cotangents)
    outputs = tuple(y.data for y in ys)
    g, out = (cotangents, outputs) if isinstance(y, tuple) else (cotangents[0], outputs[0])
    rules = apply_rules(primitive.primitive, inputs, {**static, "g": g, "out": out})
    assert all(np.array_equal(x.data, given) for x, given in zip(xs, inputs)), "an input was changed"
    return [*outputs, *(x_bar.data for x_bar in gradients), *rules]


def in_dtype(value, dtype):
    return value.astype("float32").astype(dtype) if is_float(value) else value


def is_float(value):
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def apply_rules(known, inputs, named):
    """What each rule gives when it is called on raw arrays, with the values that it asks for by name."""
    named = {**known.static, **named}
    if known.variadic:
        (name,) = known.inputs
        calls = [(known.rules[name], {**named, name: tuple(inputs), "i": i}) for i in range(len(inputs))]
    else:
        named |= dict(zip(known.inputs, inputs))
        named |= {f"{name}_shape": x.shape for name, x in zip(known.inputs, inputs)}
        calls = [(known.rules[name], named) for name in known.inputs]
    return [rule.function(*(named[n] for n in signature(rule.function).parameters)) for rule, named in calls]


def words_of(primitive):
    """The domain of each input."""
    domain, inputs = primitive.primitive.domain, primitive.primitive.inputs
    return [domain[name] if isinstance(domain, dict) else domain for name in inputs]


ELEMENTWISE = [
    name
    for name, primitive in sorted(registry.items())
    if not primitive.primitive.static and set(words_of(primitive)) <= set(DOMAINS)
]


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,)])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_0d_and_zero_size(name, shape):
    rng = np.random.default_rng(0)
    words = words_of(registry[name])
    inputs = [DOMAINS[word](rng, magnitudes(rng, math.prod(shape))).reshape(shape) for word in words]
    check_gradients(registry[name], *inputs, order=2)
    assert registry[name](*tensors(inputs, "float32")).shape == shape


# Values -------------------------------------------------------------------------------------------------


def as_called(name):
    """Arguments as a primitive takes them: the inputs, then the static arguments by name."""
    return calls(registry[name]).map(lambda call: (call.inputs, call.static))


@st.composite
def on_shape(draw, *arguments, domain="real", **limits):
    """An array, and arguments for which its shape gives strategies."""
    x = draw(arrays(draw(array_shapes(**limits)), domain))
    return [x, *(draw(argument(x.shape)) for argument in arguments)], {}


@st.composite
def joined(draw, name, new_axes):
    """A list of arrays with an axis from the front or from the back."""
    inputs, static = draw(as_called(name))
    return [inputs, static["axis"] - draw(st.sampled_from([0, inputs[0].ndim + new_axes]))], {}


@st.composite
def cut(draw):
    x = draw(arrays(draw(array_shapes(min_dims=1)), "real"))
    axis = draw(one_axis(x.ndim))
    size = x.shape[axis]
    equal = st.sampled_from([n for n in range(1, 4) if size % n == 0])
    places = st.lists(st.integers(0, size + 1), max_size=3).map(sorted)
    return [x, draw(equal | places), axis], {}


@st.composite
def taken(draw):
    x = draw(arrays(draw(array_shapes(min_dims=1, min_side=1)), "real"))
    axis = draw(one_axis(x.ndim))
    shape = list(x.shape)
    shape[axis] = draw(st.integers(0, 4))
    return [x, draw(generators).integers(-x.shape[axis], x.shape[axis], shape), axis], {}


@st.composite
def repeated(draw):
    x = draw(arrays(draw(array_shapes()), "real"))
    axis = draw(st.none() | one_axis(x.ndim)) if x.ndim else None
    size = x.size if axis is None else x.shape[axis]
    each = st.lists(st.integers(0, 2), min_size=size, max_size=size)
    return [x, draw(st.integers(0, 3) | each), axis], {}


@st.composite
def with_ones(draw):
    x = draw(arrays(draw(array_shapes(max_side=2)), "real"))
    ones = [a for a in range(x.ndim) if x.shape[a] == 1]
    some = st.lists(st.sampled_from(ones), unique=True).map(tuple) if ones else st.just(())
    return [x, draw(st.none() | some | some.map(lambda axes: tuple(a - x.ndim for a in axes)))], {}


@st.composite
def labelled(draw):
    logits = draw(arrays(draw(array_shapes(min_dims=1, min_side=1)), "real"))
    return [logits, draw(generators).integers(0, logits.shape[-1], logits.shape[:-1])], {}


@st.composite
def matrices(draw):
    """Every case of matmul, vectors and batches that broadcast."""
    shapes = draw(hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_side=3, max_dims=2))
    return [draw(arrays(shape, "real")) for shape in shapes.input_shapes], {}


@st.composite
def affine(draw):
    *batch, i, o = draw(st.lists(st.integers(0, 3), min_size=2, max_size=4))
    return [draw(arrays(shape, "real")) for shape in [(*batch, i), (i, o), (o,)]], {}


def pairs_of_axes(shape):
    return st.permutations(range(-len(shape), 0)).map(lambda order: [order[0] + len(shape), order[1]])


def widths(shape):
    margin = st.integers(0, 2)
    pair = st.tuples(margin, margin)
    return margin | pair | st.tuples(*[pair] * len(shape)) if shape else margin


SAME_IN_NUMPY = """absolute add subtract multiply divide negative power square sqrt reciprocal sign exp expm1
    log log1p sin cos tanh maximum minimum logaddexp clip sum mean var std max min cumsum flip transpose
    broadcast_to tril triu""".split()

# name -> (what gives the right values, strategy of pairs (arguments, arguments by name))
VALUES = {
    **{name: (getattr(np, name), as_called(name)) for name in SAME_IN_NUMPY},
    "sigmoid": (special.expit, as_called("sigmoid")),
    "softplus": (lambda x: np.logaddexp(x, 0), as_called("softplus")),
    "log_sigmoid": (special.log_expit, as_called("log_sigmoid")),
    "relu": (lambda x: np.where(x > 0, x, 0), as_called("relu")),
    "leaky_relu": (lambda x, slope: np.where(x > 0, x, slope * x), as_called("leaky_relu")),
    "elu": (lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x)), as_called("elu")),
    "where": (np.where, as_called("where").map(lambda c: ([c[1]["condition"], *c[0]], {}))),
    "bernoulli_log_likelihood": (
        lambda logits, x: x * special.log_expit(logits) + (1 - x) * special.log_expit(-logits),
        as_called("bernoulli_log_likelihood"),
    ),
    "astype": (lambda x, dtype: x.astype(dtype), as_called("astype")),
    "norm": (lambda x, **over: np.sqrt(np.sum(x**2, **over)), as_called("norm")),
    "prod": (np.prod, as_called("sum")),
    "logsumexp": (lambda x, **over: np.log(np.sum(np.exp(x), **over)), as_called("logsumexp")),
    "softmax": (special.softmax, as_called("softmax")),
    "log_softmax": (special.log_softmax, as_called("log_softmax")),
    "categorical_cross_entropy": (
        lambda logits, labels: (
            -np.log(np.take_along_axis(special.softmax(logits, -1), labels[..., None], -1)[..., 0])
        ),
        labelled(),
    ),
    "reshape": (lambda x, shape: x.reshape(shape), as_called("reshape")),
    "swapaxes": (np.swapaxes, on_shape(lambda s: one_axis(len(s)), lambda s: one_axis(len(s)), min_dims=1)),
    "moveaxis": (np.moveaxis, on_shape(pairs_of_axes, pairs_of_axes, min_dims=2)),
    "expand_dims": (np.expand_dims, on_shape(lambda s: one_axis(len(s) + 1) | st.just((0, -1)))),
    "squeeze": (np.squeeze, with_ones()),
    "repeat": (np.repeat, repeated()),
    "pad": (
        lambda x, width, value: np.pad(x, width, constant_values=value),
        on_shape(widths, lambda s: st.sampled_from([0, -1.5])),
    ),
    "getitem": (lambda x, index: x[index], on_shape(indices)),
    "take_along_axis": (np.take_along_axis, taken()),
    "diagonal": (
        np.diagonal,
        on_shape(lambda s: st.integers(-3, 3), pairs_of_axes, min_dims=2).map(
            lambda c: ([*c[0][:2], *c[0][2]], {})
        ),
    ),
    "concatenate": (np.concatenate, joined("concatenate", 0)),
    "stack": (np.stack, joined("stack", 1)),
    "split": (lambda x, parts, axis: tuple(np.split(x, parts, axis)), cut()),
    "unstack": (lambda x, axis: tuple(np.moveaxis(x, axis, 0)), as_called("unstack")),
    "matmul": (np.matmul, matrices()),
    "linear": (lambda x, weight, bias: x @ weight + bias, affine()),
    "inverse": (np.linalg.inv, as_called("inverse")),
    "slogdet": (lambda a: tuple(np.linalg.slogdet(a)), as_called("slogdet")),
}
ELSEWHERE = {  # tests/test_convolution.py
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "average_pool2d",
    "max_pool2d",
    "upsample_nearest2d",
}


def test_every_function_has_its_values_checked():
    functions = {name for name, value in vars(ops).items() if callable(value) and name[0] != "_"}
    assert functions - {"Tensor", "raw"} == set(VALUES) | ELSEWHERE


@pytest.mark.parametrize("name", sorted(VALUES))
@given(data=st.data())
def test_values_and_gradients_of_functions(name, data):
    function, (oracle, arguments) = getattr(ops, name), VALUES[name]
    args, by_name = data.draw(arguments)
    right = several(oracle(*args, **by_name))

    def from_tensors(*xs):
        """The function of the first float arrays among the arguments."""
        xs = iter(xs)
        if isinstance(args[0], list):
            return function(list(xs), *args[1:], **by_name)
        return function(*(next(xs) if is_float(arg) else arg for arg in args), **by_name)

    floats = args[0] if isinstance(args[0], list) else [arg for arg in args if is_float(arg)]
    raw, wrapped = several(function(*args, **by_name)), several(from_tensors(*tensors(floats, "float64")))
    assert len(raw) == len(wrapped) == len(right)
    for values, tensor, expected in zip(raw, wrapped, right):
        assert not isinstance(values, tg.Tensor) and isinstance(tensor, tg.Tensor)
        assert tensor.shape == np.shape(values) == np.shape(expected)
        assert tensor.dtype == values.dtype == expected.dtype
        assert_allclose(values, expected, rtol=1e-12, atol=1e-14)
        assert_array_equal(tensor.data, values)
    check_gradients(from_tensors, *floats, order=2)


@pytest.mark.parametrize(
    "function, shape, expected",
    [
        (lambda x: ops.sum(x, 0), (0, 3), np.zeros(3)),
        (lambda x: ops.sum(x), (0, 3), 0.0),
        (lambda x: ops.prod(x, 0), (0, 3), np.ones(3)),
        (lambda x: ops.norm(x), (0,), 0.0),
        (lambda x: ops.mean(x, 1), (0, 3), np.zeros(0)),
        (lambda x: ops.max(x, 1), (0, 3), np.zeros(0)),
        (lambda x: ops.std(x, 1), (0, 3), np.zeros(0)),
        (lambda x: ops.logsumexp(x, 1), (0, 3), np.zeros(0)),
        (lambda x: ops.softmax(x), (0, 3), np.zeros((0, 3))),
        (lambda x: ops.cumsum(x), (0, 3), np.zeros(0)),
        (lambda x: x @ np.ones((3, 0)), (2, 3), np.zeros((2, 0))),
        (lambda x: x @ np.ones((0, 3)), (2, 0), np.zeros((2, 3))),
        (lambda x: ops.linear(x, np.ones((3, 2)), np.ones(2)), (0, 3), np.zeros((0, 2))),
        (lambda x: ops.inverse(x), (0, 2, 2), np.zeros((0, 2, 2))),
        (lambda x: x[x.data > 0], (0, 3), np.zeros(0)),
        (lambda x: ops.concatenate([x, x]), (0, 3), np.zeros((0, 3))),
        (lambda x: ops.max(x), (), 0.0),
        (lambda x: ops.sum(x, ()), (), 0.0),
        (lambda x: ops.cumsum(x), (), np.zeros(1)),
        (lambda x: x.reshape(1, 1).T[0, 0], (), 0.0),
        (lambda x: ops.transpose(x), (), 0.0),
        (lambda x: ops.flip(x), (), 0.0),
        (lambda x: x[...], (), 0.0),
        (lambda x: x[None], (), np.zeros(1)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zero_size_and_0d(function, shape, expected, dtype):
    x = tg.Tensor(np.zeros(shape, dtype), requires_grad=True)
    y = function(x)
    assert_array_equal(y.data, expected)
    assert y.shape == np.shape(expected)
    (x_bar,) = tg.grad(y, x, np.ones(y.shape, dtype), create_graph=True)
    assert (x_bar.shape, x_bar.dtype) == (shape, dtype)


# Where derivatives are hard -----------------------------------------------------------------------------


def test_norm_at_0():
    assert_array_equal(gradient(ops.norm, np.zeros(3)), np.zeros(3))
    rows = np.array([[0.0, 0.0], [3.0, 4.0]])
    assert_allclose(gradient(lambda x: ops.norm(x, axis=1), rows), [[0, 0], [0.6, 0.8]])


@pytest.mark.parametrize("axis, ddof", [(None, 0), (0, 0), (1, 1)])
def test_std_and_var_of_constants(axis, ddof):
    x = np.full((2, 4), 0.1)
    assert_allclose(gradient(lambda x: ops.std(x, axis, ddof=ddof), x), 0 * x, atol=1e-15)
    assert_allclose(gradient(lambda x: ops.var(x, axis, ddof=ddof), x), 0 * x, atol=1e-15)
    assert_array_equal(gradient(lambda x: ops.std(x, axis, ddof=ddof), 0 * x), 0 * x)


@pytest.mark.parametrize("zeros", [[], [1], [0, 3], [0, 1, 4], [0, 1, 2, 3, 4]])
def test_prod_with_zeros_is_right_to_second_order(zeros):
    n = 5
    x = np.array([0.5, -2.0, 3.0, 1.5, -0.7])
    x[zeros] = 0.0

    def without(*left_out):
        return math.prod(x[i] for i in range(n) if i not in left_out)

    (t,) = tensors([x], "float64")
    (first,) = tg.grad(ops.prod(t), t, create_graph=True)
    hessian = [tg.grad(first[i], t, retain_graph=True)[0].data for i in range(n)]
    assert_allclose(first.data, [without(i) for i in range(n)])
    assert_allclose(hessian, [[without(i, j) * (i != j) for j in range(n)] for i in range(n)])


FAR_OUT = {
    # first and second derivative at −x and x, for an x where eˣ or its square overflows
    "tanh": ([0, 0], [0, 0]),
    "sigmoid": ([0, 0], [0, 0]),
    "softplus": ([0, 1], [0, 0]),
    "log_sigmoid": ([1, 0], [0, 0]),
    "elu": ([0, 1], [0, 0]),
}


@pytest.mark.parametrize("dtype, x", [("float64", 720.0), ("float32", 90.0)])
@pytest.mark.parametrize("name", FAR_OUT)
def test_derivatives_far_out(name, dtype, x):
    for computed, exact in zip(derivatives(getattr(ops, name), [-x, x], dtype), FAR_OUT[name]):
        assert_allclose(computed, exact, rtol=0, atol=1e-35)


@pytest.mark.parametrize(
    "name, first, second",
    [
        ("tanh", lambda x: 1 / np.cosh(x) ** 2, lambda x: -2 * np.tanh(x) / np.cosh(x) ** 2),
        ("softplus", special.expit, lambda x: special.expit(x) * special.expit(-x)),
        ("log_sigmoid", lambda x: special.expit(-x), lambda x: -special.expit(x) * special.expit(-x)),
    ],
)
def test_derivatives_over_the_whole_range(name, first, second):
    x = np.linspace(-40, 40, 161)
    computed = derivatives(getattr(ops, name), x)
    assert_allclose(computed[0], first(x), rtol=1e-12, atol=1e-15)
    assert_allclose(computed[1], second(x), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "unsafe",
    [ops.log, ops.sqrt, ops.reciprocal, lambda x: x**-1.5, lambda x: 1 / x, lambda x: x**0.5, ops.norm],
)
def test_what_where_does_not_choose_sends_nothing_back(unsafe):
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = derivatives(lambda x: ops.where(x > 0, unsafe(x), 0.0), [0.0])
    assert_array_equal(first, [0])
    assert_array_equal(second, [0])


@pytest.mark.parametrize("power, first, second", [(0, 0, 0), (1, 1, 0), (2, 0, 2), (3, 0, 0)])
@pytest.mark.parametrize("kind", [int, float, np.float64, np.array])
def test_powers_at_0(power, first, second, kind):
    computed = derivatives(lambda x: x ** kind(power), [0.0])
    assert_array_equal(np.concatenate(computed), [first, second])


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0,), (1, 0)])
@pytest.mark.parametrize("x", [[[1.0, 1.0]], [[1.0, 1.0, 0.0], [2.0, 1.0, 2.0]], [[3.0, 3.0, 3.0]] * 2])
def test_ties_of_max_and_min_share_equally(name, axis, x):
    tied = np.array(x) == getattr(np, name)(x, axis, keepdims=True)
    shares = tied / tied.sum(axis, keepdims=True)
    assert_allclose(gradient(lambda x: getattr(ops, name)(x, axis), x), shares)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_ties_of_maximum_and_minimum_share_equally(name):
    a, b = gradient(getattr(ops, name), np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.0]))
    larger = [1 / 2, 0, 1]
    assert_array_equal(a, larger if name == "maximum" else [1 / 2, 1, 0])
    assert_array_equal(a + b, np.ones(3))


@pytest.mark.parametrize(
    "function, x, expected",
    [
        (ops.relu, 0.0, 0),
        (ops.absolute, 0.0, 0),
        (abs, 0.0, 0),
        (ops.leaky_relu, 0.0, 0.01),
        (lambda x: ops.leaky_relu(x, 0), 0.0, 0),
        (lambda x: ops.clip(x, -1, 1), -1.0, 0),
        (lambda x: ops.clip(x, -1, 1), 1.0, 0),
        (lambda x: ops.clip(x, None, 1), 1.0, 0),
        (lambda x: ops.clip(x, -1), -1.0, 0),
        (ops.sign, 0.0, 0),
        (ops.elu, 0.0, 1),
    ],
)
def test_subgradients_at_kinks(function, x, expected):
    assert gradient(function, np.array(x)) == expected


def test_bernoulli_log_likelihood_of_any_logits():
    logits, x = np.meshgrid([-1000.0, -40.0, 0.0, 40.0, 1000.0], [0.0, 1.0])
    values = ops.bernoulli_log_likelihood(logits, x)
    assert_allclose(values[0], [0, -np.exp(-40), -np.log(2), -40, -1000], atol=1e-15)
    assert_allclose(values[1], [-1000, -40, -np.log(2), -np.exp(-40), 0], atol=1e-15)
    to_logits, to_x = gradient(ops.bernoulli_log_likelihood, logits, x)
    assert_allclose(to_logits, x - special.expit(logits), rtol=1e-12)
    assert_array_equal(to_x, logits)
    _, second = derivatives(lambda logits: ops.bernoulli_log_likelihood(logits, x), logits)
    assert_allclose(second, -special.expit(logits) * special.expit(-logits), rtol=1e-12, atol=1e-15)


def test_logits_of_any_size():
    logits = np.array([[1000.0, 0.0, -1000.0], [0.0, 1e4, -1e4]])
    assert_array_equal(ops.categorical_cross_entropy(logits, np.array([2, 1])), [2000, 0])
    found = gradient(lambda x: ops.categorical_cross_entropy(x, np.array([2, 1])), logits)
    assert_array_equal(found, [[1, 0, -1], [0, 0, 0]])


def test_logsumexp_of_rows_of_minus_infinity():
    x = np.array([[-np.inf, -np.inf], [-np.inf, 1.0], [1000.0, 1000.0]])
    assert_allclose(ops.logsumexp(x, 1), [-np.inf, 1, 1000 + np.log(2)])
    (t,) = tensors([x], "float64")
    (first,) = tg.grad(ops.logsumexp(t, 1).sum(), t, create_graph=True)
    assert_allclose(first.data, [[0, 0], [0, 1], [1 / 2, 1 / 2]], rtol=1e-12)
    (second,) = tg.grad(first[:, 0].sum(), t)
    assert_allclose(second.data, [[0, 0], [0, 0], [1 / 4, -1 / 4]], rtol=1e-12)


@pytest.mark.parametrize(
    "index",
    [
        np.array([0, 2, 0, 0]),
        np.array([-1, 2]),
        [1, 1],
        (np.array([0, 0, 1]), slice(None)),
        (slice(None), np.array([[3, 3], [0, 3]])),
        (np.array([0, 0, 2]), np.array([1, 1, 1])),
        (None, np.array([1, 1]), ..., 2),
        (1, np.array([2, 2, 2])),
    ],
)
def test_repeated_indices_add_up(index):
    x = np.arange(12.0).reshape(3, 4)
    counts = np.zeros((3, 4))
    np.add.at(counts, tuple(index) if isinstance(index, tuple) else index, 1)
    assert_array_equal(gradient(lambda x: x[index], x), counts)


def test_repeated_indices_of_take_along_axis_add_up():
    x = np.arange(6.0).reshape(2, 3)
    found = gradient(lambda x: ops.take_along_axis(x, np.array([[0, 0, 2, 0], [1, -1, 2, 1]]), 1), x)
    assert_array_equal(found, [[3, 0, 1], [0, 2, 2]])


@pytest.mark.parametrize(
    "a_shape, b_shape",
    [
        ((3,), (3,)),
        ((3,), (3, 2)),
        ((2, 3), (3,)),
        ((2, 3), (3, 4)),
        ((3,), (5, 3, 2)),
        ((5, 2, 3), (3,)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 2, 3), (5, 3, 4)),
        ((5, 1, 2, 3), (4, 3, 2)),
        ((1, 2, 3), (5, 3, 2)),
        ((2, 0), (0, 3)),
        ((0, 2, 3), (3, 4)),
        ((0,), (0,)),
    ],
)
def test_every_case_of_matmul(a_shape, b_shape):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=a_shape), rng.normal(size=b_shape)
    y = ops.matmul(*tensors([a, b], "float64"))
    assert y.shape == np.shape(a @ b)
    assert_allclose(y.data, a @ b, rtol=1e-12, atol=1e-14)
    check_gradients(ops.matmul, a, b, order=2)


@pytest.mark.parametrize("name", ["matmul_t", "t_matmul"])
@given(data=st.data())
def test_the_relatives_of_a_product_are_products_with_a_transpose(name, data):
    (a, b), _ = data.draw(as_called(name))
    y = registry[name](a, b)
    expected = a @ b.swapaxes(-1, -2) if name == "matmul_t" else a.swapaxes(-1, -2) @ b
    assert_allclose(y, expected, rtol=1e-12, atol=1e-14)


@given(as_called("permuted"))
def test_a_permutation_is_an_index_and_its_gradient_the_inverse(call):
    (x,), static = call
    x = tg.Tensor(x, requires_grad=True)
    y = registry["permuted"](x, **static)
    assert_array_equal(y.data, x.data[..., static["places"]])
    assert_array_equal(tg.grad(y, x, y)[0].data, x.data)


@pytest.mark.parametrize("name", ["blocks_matmul", "blocks_matmul_t", "blocks_of_t_matmul"])
@given(data=st.data())
def test_products_with_blocks_are_products_with_the_whole_matrix(name, data):
    (a, b), static = data.draw(as_called(name))
    blocks = static["blocks"]
    y = registry[name](a, b, **static)
    if name == "blocks_matmul":
        expected = a @ blocks.matrix(b)
    elif name == "blocks_matmul_t":
        expected = a @ blocks.matrix(b).T
    else:
        expected = blocks.keep(a.T @ b)
    assert_allclose(y, expected, rtol=1e-12, atol=1e-14)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 10), st.integers(0, 99))
def test_blocks_hold_all_ones_of_a_mask_and_each_place_once(rows, columns, side, seed):
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.3
    blocks = staircase(mask, side)
    held = blocks.matrix(np.ones(blocks.size))
    assert held.sum() == blocks.size and (held[mask] == 1).all()
    assert_array_equal(blocks.matrix(blocks.keep(mask)), mask)


def test_blocks_of_a_staircase_leave_out_almost_half():
    mask = np.triu(np.ones((1000, 1000), bool))
    assert staircase(mask, 100).size == 0.55 * mask.size
    assert staircase(mask[:, ::-1], 100).size == staircase(mask.T, 100).size == 0.55 * mask.size
    assert staircase(mask, 1000).blocks == ((0, 1000, 0, 1000),)


def test_gradients_of_products_lie_in_memory_as_their_arguments():
    """A gradient that is a transposed view is slow to add to and to step by."""
    x, w = tensors([np.ones((3, 4)), np.ones((4, 5))], "float64")
    (x_bar,) = tg.grad((x @ w).sum(), x, create_graph=True)
    gradients = tg.grad((x_bar**2).sum() + (x @ w).sum(), [w])
    assert all(g.data.flags.c_contiguous for g in (x_bar, *gradients))


# Promotion ----------------------------------------------------------------------------------------------

NUMBER = np.float64(0.5)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * NUMBER,
        lambda x: NUMBER * x,
        lambda x: x + NUMBER,
        lambda x: NUMBER - x,
        lambda x: x / NUMBER,
        lambda x: NUMBER / x,
        lambda x: x**NUMBER,
        lambda x: NUMBER**x,
        lambda x: x * np.int64(2),
        lambda x: x * x.data.sum(),
        lambda x: x.sum() * NUMBER,
        lambda x: ops.maximum(x, NUMBER),
        lambda x: ops.minimum(NUMBER, x),
        lambda x: ops.logaddexp(x, NUMBER),
        lambda x: ops.where(x > NUMBER, x, NUMBER),
        lambda x: ops.clip(x, NUMBER, np.float64(2.0)),
        lambda x: ops.leaky_relu(x, NUMBER),
        lambda x: ops.elu(x, NUMBER),
        lambda x: ops.pad(x, 1, NUMBER),
    ],
)
def test_numpys_numbers_promote_nothing(function):
    (x,) = tensors([[0.2, 0.7, 1.5]], "float32")
    y = function(x)
    assert y.dtype == "float32"
    (x_bar,) = tg.grad(y.sum(), x)
    assert x_bar.dtype == "float32"


# The same in PyTorch ------------------------------------------------------------------------------------

AGAINST_TORCH = {
    "tanh": lambda torch: torch.tanh,
    "softplus": lambda torch: torch.nn.functional.softplus,
    "log_sigmoid": lambda torch: torch.nn.functional.logsigmoid,
    "elu": lambda torch: torch.nn.functional.elu,
    "logaddexp": lambda torch: torch.logaddexp,
    "power": lambda torch: torch.pow,
    "divide": lambda torch: torch.divide,
    "multiply": lambda torch: torch.multiply,
    "max": lambda torch: lambda x, axis, keepdims: torch.amax(x, over(x, axis), keepdims),
    "logsumexp": lambda torch: lambda x, axis, keepdims: torch.logsumexp(x, over(x, axis), keepdims),
    "var": lambda torch: lambda x, axis, **rest: torch.var(x, over(x, axis), **in_torch(rest)),
    "std": lambda torch: lambda x, axis, **rest: torch.std(x, over(x, axis), **in_torch(rest)),
    "softmax": lambda torch: torch.softmax,
    "log_softmax": lambda torch: torch.log_softmax,
    "cumsum": lambda torch: torch.cumsum,
    "matmul": lambda torch: torch.matmul,
    "inverse": lambda torch: torch.inverse,
    "slogdet": lambda torch: lambda a: tuple(torch.linalg.slogdet(a)),
}


def over(x, axis):
    """An axis of NumPy's in PyTorch's words, where None does not stand for all axes."""
    return tuple(range(x.ndim)) if axis is None else axis


def in_torch(static):
    return {"keepdim": static["keepdims"], "correction": static["ddof"]}


@pytest.mark.filterwarnings("ignore:.*degrees of freedom:UserWarning")  # of batches without an element
@pytest.mark.parametrize("name", AGAINST_TORCH)
@given(data=st.data())
def test_against_torch(name, data):
    torch = pytest.importorskip("torch", reason="compares derivatives with those of PyTorch")
    # Reducing over no axis means over all of them there.
    call = data.draw(calls(registry[name]).filter(lambda call: call.static.get("axis") != ()))
    # At exponent 0 PyTorch's gradient for the base is a constant 0, so its derivative misses 1 / a.
    assume(name != "power" or call.inputs[1].all())
    theirs = AGAINST_TORCH[name](torch)
    xs = tensors(call.inputs, "float64")
    us = [torch.tensor(x, requires_grad=True) for x in call.inputs]

    ys, vs = several(registry[name](*xs, **call.static)), several(theirs(*us, **call.static))
    cs = [np.cos(np.arange(y.size)).reshape(y.shape) for y in ys]
    first = tg.grad(ys, xs, cs, create_graph=True)
    expected = torch.autograd.grad(vs, us, [torch.tensor(c) for c in cs], create_graph=True)
    for computed, exact in zip((*ys, *first), (*vs, *expected)):
        assert_allclose(computed.data, exact.detach().numpy(), rtol=1e-9, atol=1e-11)

    if any(g.requires_grad for g in expected):
        second = tg.grad(sum((g * g).sum() for g in first), xs, allow_unused=True)
        expected = torch.autograd.grad(sum((g * g).sum() for g in expected), us, allow_unused=True)
        for x, computed, exact in zip(call.inputs, second, expected):
            values = 0 * x if computed is None else computed.data
            assert_allclose(values, 0 * x if exact is None else exact.numpy(), rtol=1e-9, atol=1e-10)
