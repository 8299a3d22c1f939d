"""The checker under test: each planted fault is caught and located, and nothing that is right is accused.

A fault is planted by giving a primitive another rule for the length of a test. What is checked is a model in
which the primitive is called among others; the error must name it, the input, the line of the call and the
line of the rule.
"""

import inspect
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen import nn, ops
from tinygen.autodiff import Rule, Tensor, primitive, registry
from tinygen.backend import xp
from tinygen.gradients import GradientError, check_gradients, strategies
from tinygen.gradients.differences import KINK, STEEP
from tinygen.gradients.locate import AROUND, CHANGED, CHANGES, INFINITE, RANDOM, SINGLE, _Recording, _Search
from tinygen.gradients.patterns import IGNORES_G, MISSING_SUM, STALE, TRANSPOSED, ZERO

HERE = __file__
A, B = np.array([[0.5, -1.5, 0.8], [1.2, 0.4, -0.7]]), np.array([[1.1, 0.6, -0.9], [-0.3, 2.0, 1.3]])


def raw(x):
    return x.data if isinstance(x, Tensor) else x


def t(x):
    return x.swapaxes(-1, -2)


def spread(g, x_shape, axis, keepdims=False):
    return ops.broadcast_to(g if keepdims else ops.expand_dims(g, axis), x_shape)


def line(function) -> str:
    return f"{HERE}:{function.__code__.co_firstlineno}"


@contextmanager
def planted(function, parameter, rule):
    """Inside the block a primitive has another rule for one input."""
    known = function.primitive
    right = known.rules[parameter]
    known.rules[parameter] = Rule(known, parameter, rule, right.formula)
    known.plans.clear()
    try:
        yield
    finally:
        known.rules[parameter] = right
        known.plans.clear()


def wrong(f, *inputs, **arguments) -> GradientError:
    with pytest.raises(GradientError) as caught:
        check_gradients(f, *inputs, **arguments)
    return caught.value


def among_others(f):
    """A model in which f stands between other primitives."""

    def model(*xs):
        ys = f(*(0.9 * x + 0.05 * ops.sin(x) for x in xs))
        ys = ys if isinstance(ys, tuple) else (ys,)
        return tuple(ops.tanh(0.4 * y) * y for y in ys)

    return model


COUNTS = dict.fromkeys(
    [
        "planted faults located",
        "calls of right primitives not accused",
        "calls in right expressions not accused",
    ],
    0,
)


class Plant(NamedTuple):
    """A wrong rule for an input of a primitive, a function that calls it, and how it must be reported."""

    name: str
    input: str
    rule: object
    f: object
    shapes: list
    pattern: str | None = None
    order: int = 1
    domain: str = "positive"


S, M, Q = (2, 3), (3, 4), (3, 3)  # shapes
IMAGE, KERNEL = (1, 5, 4, 2), (3, 2, 2, 3)
CONV = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}
FIRST = (slice(None), slice(0, 1))
RARE = 1.5  # few of the values drawn are above


def in_one_of_a_hundred(shape):
    factor = np.ones(shape)
    factor.ravel()[37] = 1.001
    return xp.asarray(factor)


P = Plant
FAULTS = [
    # Elementwise
    P("add", "a", lambda g: 2 * g, lambda a, b: ops.add(a, b), [S, S], "constant factor 2"),
    P("subtract", "b", lambda g: g, lambda a, b: ops.subtract(a, b), [S, S], "constant factor -1"),
    P("multiply", "a", lambda g, a: g * a, lambda a, b: ops.multiply(a, b), [S, S], "swapped with"),
    P("multiply", "b", lambda g, a: a + 0 * g, lambda a, b: ops.multiply(a, b), [S, S], IGNORES_G),
    P("multiply", "b", lambda g, a: g.sum() * a, lambda a, b: ops.multiply(a, b), [S, S]),
    P("divide", "b", lambda g, a, b: -g * a / b, lambda a, b: ops.divide(a, b), [S, S]),
    P("divide", "a", lambda g, b: g * b, lambda a, b: ops.divide(a, b), [S, (3,)]),
    P("negative", "x", lambda g: g, lambda x: ops.negative(x), [S], "constant factor -1"),
    P("power", "a", lambda g, a, b: g * b * a**b, lambda a, b: ops.power(a, b), [S, S]),
    P("power", "b", lambda g, out: g * out, lambda a, b: ops.power(a, b), [S, S]),
    P("square", "x", lambda g, x: g * x, lambda x: ops.square(x), [S], "constant factor 0.5"),
    P("sqrt", "x", lambda g, out: g / out, lambda x: ops.sqrt(x), [S], "constant factor 2"),
    P(
        "reciprocal",
        "x",
        lambda g, out: g * out * out,
        lambda x: ops.reciprocal(x),
        [S],
        "constant factor -1",
    ),
    P("absolute", "x", lambda g: g, lambda x: ops.absolute(x), [(4, 5)], domain="nonzero"),
    P("sign", "x", lambda g: g, lambda x: ops.sign(x), [S], domain="nonzero"),
    P("exp", "x", lambda g: g, lambda x: ops.exp(x), [S]),
    P("exp", "x", lambda g, out, x: g * out * (1 + 0.5 * (raw(x) > RARE)), lambda x: ops.exp(x), [(5, 5)]),
    P("expm1", "x", lambda g, out: g * out, lambda x: ops.expm1(x), [S]),
    P("log", "x", lambda g, x: 1.001 * g / x, lambda x: ops.log(x), [S], "constant factor 1.001"),
    P("log1p", "x", lambda g, x: g / x, lambda x: ops.log1p(x), [S]),
    P("sin", "x", lambda g, x: 0 * g, lambda x: ops.sin(x), [S], ZERO),
    P("cos", "x", lambda g, x: g * ops.sin(x), lambda x: ops.cos(x), [S], "constant factor -1"),
    P(
        "cos",
        "x",
        lambda g, x: -g * ops.sin(x) * in_one_of_a_hundred((10, 10)),
        lambda x: ops.cos(x),
        [(10, 10)],
    ),
    P("sigmoid", "x", lambda g, out: g * out * (1 + out), lambda x: ops.sigmoid(x), [S]),
    P("softplus", "x", lambda g, x: g * ops.sigmoid(-x), lambda x: ops.softplus(x), [S]),
    P("log_sigmoid", "x", lambda g, x: (g * ops.sigmoid(-x))[::-1], lambda x: ops.log_sigmoid(x), [(3,)]),
    P("relu", "x", lambda g, out: g * (out > 1), lambda x: ops.relu(x), [(4, 5)], domain="nonzero"),
    P(
        "leaky_relu",
        "x",
        lambda g, out: g * (out > 0),
        lambda x: ops.leaky_relu(x),
        [(4, 5)],
        domain="nonzero",
    ),
    P("elu", "x", lambda g, x: g * (x > 0), lambda x: ops.elu(x, 2.0), [(4, 5)], domain="nonzero"),
    P("maximum", "a", lambda g: g, lambda a, b: ops.maximum(a, b), [(4, 5), (4, 5)], domain="distinct"),
    P("clip", "x", lambda g: g, lambda x: ops.clip(x, 0.5, 1.2), [(4, 5)], domain="distinct"),
    P("where", "y", lambda g: g, lambda x, y: ops.where(x.data > 1, x, y), [(4, 5), (4, 5)]),
    P(
        "logaddexp",
        "a",
        lambda g, a, b: g * ops.sigmoid(b - a),
        lambda a, b: ops.logaddexp(a, b),
        [S, S],
        "swap",
    ),
    P(
        "bernoulli_log_likelihood",
        "x",
        lambda g, x: g * x,
        lambda y, x: ops.bernoulli_log_likelihood(y, x),
        [S, S],
    ),
    # Reductions
    P(
        "sum",
        "x",
        lambda g, x_shape, axis: spread(g, x_shape, axis) / 3,
        lambda x: ops.sum(x, 1),
        [S],
        "constant factor 1/3",
    ),
    P("sum", "x", lambda g, x_shape: spread(g, x_shape, 0), lambda x: ops.sum(x, 1), [Q], TRANSPOSED),
    P(
        "sum",
        "x",
        lambda g, x_shape, axis: 0 * spread(g, x_shape, axis) + 1,
        lambda x: ops.sum(x, 1),
        [S],
        IGNORES_G,
    ),
    P(
        "mean",
        "x",
        lambda g, x_shape, axis: spread(g, x_shape, axis),
        lambda x: ops.mean(x, 0),
        [(4, 3)],
        "constant factor 4",
    ),
    P("var", "x", lambda g, x, x_shape, axis: spread(g, x_shape, axis) * x, lambda x: ops.var(x, 1), [S]),
    P("std", "x", lambda g, x: 0 * x, lambda x: ops.std(x, 1), [S], ZERO),
    P("norm", "x", lambda g, x, x_shape, axis: spread(g, x_shape, axis) * x, lambda x: ops.norm(x, 1), [S]),
    P(
        "max",
        "x",
        lambda g, x_shape, axis: spread(g, x_shape, axis),
        lambda x: ops.max(x, 1),
        [M],
        domain="distinct",
    ),
    P(
        "min",
        "x",
        lambda g, x, axis: -g.max() * (raw(x) == raw(x).min()),
        lambda x: ops.min(x, 1),
        [M],
        domain="distinct",
    ),
    P("cumsum", "x", lambda g, axis: ops.cumsum(g, axis), lambda x: ops.cumsum(x, 0), [M]),
    P(
        "logsumexp",
        "x",
        lambda g, x, x_shape, axis: spread(g, x_shape, axis) * ops.exp(x),
        lambda x: ops.logsumexp(x, 1),
        [M],
    ),
    P("softmax", "x", lambda g, out: g * out, lambda x: ops.softmax(x), [M]),
    P("softmax", "x", lambda g, out, axis: out * (g - (g * out).sum(axis=0)), lambda x: ops.softmax(x), [Q]),
    P("log_softmax", "x", lambda g, out: g - ops.exp(out), lambda x: ops.log_softmax(x), [M]),
    # Shaping
    P("reshape", "x", lambda g, x_shape: t(g.reshape(x_shape[::-1])), lambda x: ops.reshape(x, (6,)), [S]),
    P(
        "reshape",
        "x",
        lambda g, x_shape: g.reshape(x_shape[::-1]),
        lambda x: ops.reshape(x, (6,)),
        [S],
        TRANSPOSED,
    ),
    P("transpose", "x", lambda g: g, lambda x: ops.transpose(x), [Q], TRANSPOSED),
    P("flip", "x", lambda g: g, lambda x: ops.flip(x, 0), [(3,)]),
    P("broadcast_to", "x", lambda g: g[:1], lambda x: ops.broadcast_to(x, (4, 3)), [(3,)], MISSING_SUM),
    P("pad", "x", lambda g, widths, x_shape: g[: x_shape[0]], lambda x: ops.pad(x, 1), [(4,)]),
    P("getitem", "x", lambda g, x_shape: ops.pad(g, (0, 2)), lambda x: x[1:4], [(5,)]),
    P(
        "getitem",
        "x",
        lambda g, index, x_shape: ops.getitem(ops.pad(g, (0, 2)), index),
        lambda x: x[[0, 0, 2]],
        [(3,)],
    ),
    P(
        "scatter",
        "y",
        lambda g: g[:2],
        lambda x: registry["scatter"](x, index=slice(1, 3), shape=(4,)),
        [(2,)],
    ),
    P(
        "concatenate",
        "xs",
        lambda g, i: g[:2],
        lambda a, b: ops.concatenate([a, b]),
        [(2,), (2,)],
        "swapped with",
    ),
    P("stack", "xs", lambda g, i: g[0], lambda a, b: ops.stack([a, b]), [(2,), (2,)], "swapped with"),
    P("split", "x", lambda g: ops.concatenate(g[::-1]), lambda x: ops.split(x, 2), [(4,)]),
    P(
        "unstack",
        "x",
        lambda g, axis: ops.stack(g, axis) * 0.5,
        lambda x: ops.unstack(x),
        [(4,)],
        "constant factor 0.5",
    ),
    P("tril", "x", lambda g: ops.triu(g), lambda x: ops.tril(x), [Q]),
    # Linear algebra
    P("matmul", "a", lambda g, b: g @ b, lambda a, b: ops.matmul(a, b), [Q, Q]),
    P("matmul", "b", lambda g, a: g @ t(a), lambda a, b: ops.matmul(a, b), [Q, Q]),
    P("matmul", "b", lambda g, a: t(g) @ a, lambda a, b: ops.matmul(a, b), [Q, Q], TRANSPOSED),
    P("matmul", "b", lambda g, a: t(g) @ a, lambda a, b: ops.matmul(a, b), [S, M], TRANSPOSED),
    P("linear", "bias", lambda g: g[0], lambda x, w, b: ops.linear(x, w, b), [S, M, (4,)], MISSING_SUM),
    P("linear", "bias", lambda g: g, lambda x, w, b: ops.linear(x, w, b), [S, M, (4,)], MISSING_SUM),
    P(
        "linear",
        "bias",
        lambda g: g.mean(axis=0),
        lambda x, w, b: ops.linear(x, w, b),
        [S, M, (4,)],
        "constant factor 0.5",
    ),
    P(
        "linear",
        "x",
        lambda g, weight: 0 * g @ t(weight),
        lambda x, w, b: ops.linear(x, w, b),
        [S, M, (4,)],
        ZERO,
    ),
    P("linear", "weight", lambda g, x: t(t(g) @ x)[::-1], lambda x, w, b: ops.linear(x, w, b), [S, M, (4,)]),
    P("inverse", "a", lambda g, out: -out @ g @ out, lambda a: ops.inverse(a + 4 * xp.eye(3)), [Q]),
    P(
        "slogdet",
        "a",
        lambda g, a: g[1] * ops.inverse(a),
        lambda a: ops.slogdet(a + 4 * xp.eye(3))[1],
        [Q],
        TRANSPOSED,
    ),
    # Convolution
    P(
        "conv2d",
        "x",
        lambda g, w, x_shape: ops.conv_transpose2d(g, w[::-1, ::-1]),
        lambda x, w: ops.conv2d(x, w),
        [IMAGE, KERNEL],
    ),
    P(
        "conv2d",
        "w",
        lambda g, x, w_shape: registry["conv2d_kernel"](x, g, kernel=w_shape[:2], **CONV)[::-1],
        lambda x, w: ops.conv2d(x, w),
        [IMAGE, KERNEL],
    ),
    P(
        "conv2d_kernel",
        "y",
        lambda g, x: -ops.conv2d(x, g),
        lambda x, y: registry["conv2d_kernel"](x, y, kernel=(3, 2), **CONV),
        [IMAGE, (1, 3, 3, 3)],
        "constant factor -1",
    ),
    P(
        "conv_transpose2d",
        "y",
        lambda g, w: ops.conv2d(g, w) + 0.01,
        lambda y, w: ops.conv_transpose2d(y, w),
        [(1, 3, 3, 3), KERNEL],
    ),
    P(
        "windows",
        "x",
        lambda g, x_shape: xp.zeros(x_shape),
        lambda x: registry["windows"](x, kernel=(2, 2), stride=(2, 2)),
        [(1, 4, 4, 1)],
        ZERO,
    ),
    # Right at first order: wrong in the derivative of the rule
    P("tanh", "x", lambda g, out: g * (1 - raw(out) ** 2), lambda x: ops.tanh(x), [S], None, 2),
    P("sigmoid", "x", lambda g, out: g * out * (1 - raw(out)), lambda x: ops.sigmoid(x), [S], None, 2),
    P("exp", "x", lambda g, out: g * raw(out), lambda x: ops.exp(x), [S], ZERO, 2),
    P("divide", "a", lambda g, b: g / raw(b), lambda a, b: ops.divide(a, b), [S, S], ZERO, 2),
    P(
        "logsumexp",
        "x",
        lambda g, x, out, x_shape, axis: raw(g)[:, None] * ops.exp(x - out[:, None]),
        lambda x: ops.logsumexp(x, 1),
        [M],
        ZERO,
        2,
    ),
    P("matmul", "a", lambda g, b: g @ t(raw(b)), lambda a, b: ops.matmul(a, b), [Q, Q], ZERO, 2),
    P(
        "matmul",
        "a",
        lambda g, b: (1.01 if isinstance(g, Tensor) else 1) * g @ t(b),
        lambda a, b: ops.matmul(a, b),
        [Q, Q],
    ),
    P(
        "conv2d",
        "w",
        lambda g, x: registry["conv2d_kernel"](raw(x), g, kernel=(3, 2), **CONV),
        lambda x, w: ops.conv2d(x, w),
        [IMAGE, KERNEL],
        ZERO,
        2,
    ),
]


def values(shapes, domain):
    """Numbers from 0.3 to 2, all different, negative ones too if it is not "positive"."""
    rng = np.random.default_rng(len(shapes))
    sizes = [int(np.prod(shape)) for shape in shapes]
    drawn = rng.permutation(np.linspace(0.3, 2, sum(sizes)))
    if domain != "positive":
        drawn *= rng.choice([-1, 1], sum(sizes))
    return [x.reshape(shape) for x, shape in zip(np.split(drawn, np.cumsum(sizes)[:-1]), shapes)]


def named(plant):
    return f"{plant.name}-{plant.input}-{plant.pattern or 'no pattern'}-{plant.order}"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("plant", FAULTS, ids=named)
def test_a_planted_fault_is_located(plant):
    xs = values(plant.shapes, plant.domain)
    model = among_others(plant.f)
    check_gradients(model, *xs, order=2)
    with planted(registry[plant.name], plant.input, plant.rule):
        error = wrong(model, *xs, order=2)
    assert {fault.primitive for fault in error.faults} == {plant.name}
    assert {fault.input.partition("[")[0] for fault in error.faults} == {plant.input}
    assert {fault.rule_at for fault in error.faults} == {line(plant.rule)}
    (fault,) = [fault for fault in error.faults if fault.where == line(plant.f)][:1]
    assert fault.order == plant.order
    assert (fault.pattern or "").startswith(plant.pattern or "")
    assert 0 < error.passed < error.nodes
    for words in (plant.name, plant.input, line(plant.f), line(plant.rule), fault.pattern or ""):
        assert words in str(error)
    COUNTS["planted faults located"] += 1


# Users' own primitives, inside models -------------------------------------------------------------------


def users(rule, **options):
    """A user's primitive with a wrong rule for x."""

    @primitive(**options)
    def softsign(x):
        return x / (1 + abs(x))

    softsign.vjp("x", rule, formula="x̄ = ȳ / (1 + |x|)²")
    return softsign


SAVED = [xp.asarray(np.full((4, 5), 0.7))]
STATE = {}


def remembers(x):
    """A forward function that leaves its input where a rule finds the one of the last call."""
    STATE["x"] = x
    return x / (1 + abs(x))


USERS = {
    "factor": (lambda g, x: 2 * g / (1 + abs(x)) ** 2, "constant factor 2"),
    "power": (lambda g, x: g / (1 + abs(x)), None),
    "sign": (lambda g, x: -g / (1 + abs(x)) ** 2, "constant factor -1"),
    "a captured array": (lambda g: g / (1 + abs(SAVED[0])) ** 2, STALE),
    "ȳ left out": (lambda g, x: 0 * g + 1 / (1 + abs(x)) ** 2, IGNORES_G),
    "zero": (lambda g: 0 * g, ZERO),
    "transposed": (lambda g, x: t(g / (1 + abs(x)) ** 2), TRANSPOSED),
    "one row": (lambda g, x: (g / (1 + abs(x)) ** 2)[:1], None),
    "an exception": (lambda g, x: g / (1 + abs(x) + missing) ** 2, None),  # noqa: F821
    "shifted": (lambda g, x: xp.roll(g / (1 + abs(x)) ** 2, 1, axis=1), None),
    "no number": (lambda g, x: g * xp.nan, None),
    "one element": (lambda g, x: g / (1 + abs(x)) ** 2 * ONE_WRONG, None),
    "in one branch": (lambda g, x: g / (1 + abs(x)) ** 2 * (1 + (x > 0.9)), None),
    "in place": (lambda g, x: g.__itruediv__((1 + abs(x)) ** 2), CHANGED),
}
ONE_WRONG = np.ones((4, 5))
ONE_WRONG[2, 3] = 1.001


class Net(nn.Module):
    def __init__(self, activation):
        self.first, self.second = nn.Linear(3, 5), nn.Linear(5, 5)
        self.activation = activation

    def forward(self, x):
        x = self.activation(self.first(x))
        for _ in range(2):
            x = self.activation(self.second(x)) + x  # the second place
        return (x * x).mean()


NET_LINES = [inspect.getsourcelines(Net.forward)[1] + k for k in (1, 3)]


@pytest.mark.parametrize("fault", USERS)
def test_a_fault_in_a_users_primitive_inside_a_module(fault):
    rule, pattern = USERS[fault]
    net = Net(users(rule)).astype("float64")
    error = wrong(net, np.random.default_rng(0).normal(size=(4, 3)), params=net)
    assert (error.primitive, error.input, error.rule_at) == ("softsign", "x", line(rule))
    assert {fault.where for fault in error.faults} <= {f"{HERE}:{n}" for n in NET_LINES}
    assert pattern is None or {fault.pattern for fault in error.faults} == {pattern}
    assert sum(fault.calls for fault in error.faults) <= 3
    assert error.passed == error.nodes - sum(fault.calls for fault in error.faults)
    if fault == "one element":
        assert error.worst.index == (2, 3) and np.isclose(error.worst.got, 1.001 * error.worst.expected)
    if fault == "an exception":
        assert "NameError: name 'missing' is not defined" in str(error)
    if fault == "factor":
        assert [fault.calls for fault in error.faults] == [1, 2]
        assert error.variable in ("x", "first.weight") and "(2 calls)" in str(error)
    COUNTS["planted faults located"] += 1


def test_a_rule_that_uses_the_last_call():
    """Alone it is right: the fault shows where the primitive is called again before backward."""
    softsign = primitive(remembers)
    softsign.vjp("x", lambda g: g / (1 + abs(STATE["x"])) ** 2, formula="x̄ = ȳ / (1 + |x|)²")
    error = wrong(lambda x: softsign(x) + softsign(2 * x), A)
    assert (error.primitive, error.pattern) == ("remembers", STALE)


def test_a_forward_function_that_is_not_pure():
    rng = np.random.default_rng(0)
    noisy = primitive(lambda x: x + rng.normal(size=x.shape))
    noisy.vjp("x", lambda g: g, formula="x̄ = ȳ")
    error = wrong(lambda x: noisy(ops.tanh(x)) * x, A)
    assert error.pattern == CHANGES and error.where.startswith(HERE) and error.passed == error.nodes - 1


def test_a_primitive_over_a_list_and_one_of_several_outputs():
    @primitive
    def means(*xs):
        return sum(xs) / len(xs)

    means.vjp_each(lambda g, i: g / (i + 2), formula="x̄ᵢ = ȳ / n")

    @primitive
    def polar(x, y):
        return xp.sqrt(x * x + y * y), xp.arctan2(y, x)

    polar.vjp("x", lambda g, x, y, out: g[0] * x / out[0] + g[1] * y / out[0] ** 2, formula="…")
    polar.vjp("y", lambda g, x, y, out: g[0] * y / out[0] + g[1] * x / out[0] ** 2, formula="…")

    def f(x, y):
        r, angle = polar(x, y)
        return means(r, angle, x) * y

    error = wrong(f, abs(A) + 1, abs(B) + 1)
    found = [(fault.primitive, fault.input) for fault in error.faults]
    assert found == [("polar", "x"), ("means", "xs[0]"), ("means", "xs[2]")]
    assert [fault.pattern for fault in error.faults if fault.input == "xs[0]"] == ["constant factor 1.5"]
    assert "3 wrong rules; 1 of 3 nodes passed" in str(error)


def calls_softplus(x):
    return ops.softplus(x) * x


def test_a_wrong_rule_that_only_other_rules_use():
    """softplus's rule calls sigmoid: where sigmoid's own rule is wrong, softplus is not to blame."""
    wrong_rule = lambda g, out: g * out  # noqa: E731
    with planted(registry["sigmoid"], "x", wrong_rule):
        error = wrong(calls_softplus, A, order=2)
    assert (error.primitive, error.input, error.rule_at) == ("sigmoid", "x", line(wrong_rule))
    assert [fault.within for fault in error.faults] == ["softplus"]
    assert error.where == f"{HERE}:{calls_softplus.__code__.co_firstlineno + 1}"


def test_a_fault_of_second_order_inside_a_gradient_penalty():
    """f takes a gradient itself, so its own gradient is one of second order of the primitives."""
    rule = lambda g, out: g * raw(out)  # noqa: E731

    def penalty(x):
        (slope,) = tg.grad(ops.exp(x).sum(), x, create_graph=True)
        return (slope * slope).sum()

    check_gradients(penalty, A)
    with planted(registry["exp"], "x", rule):
        error = wrong(penalty, A)
    assert (error.primitive, error.order, error.faults[0].order) == ("exp", 1, 2)


def test_a_fault_of_third_order():
    @primitive
    def doubled(x):
        return x * x

    @primitive
    def cubed(x):
        return x**3

    doubled.vjp("x", lambda g, x: g * 2 * raw(x), formula="x̄ = 2 ȳ x")
    cubed.vjp("x", lambda g, x: 3 * g * doubled(x), formula="x̄ = 3 ȳ x²")
    check_gradients(lambda x: cubed(x) * x, A, order=2)
    error = wrong(lambda x: cubed(x) * x, A, order=3)
    assert error.order == 3 and error.faults[0].order == 2
    assert [(fault.primitive, fault.within) for fault in error.faults] == [("doubled", "cubed")]


# Faults of the function, not of a rule ------------------------------------------------------------------


def changes_an_output(x):
    y = ops.exp(x)
    z = y * y  # the rule of multiply will use y
    raw(y)[0] = 3.0
    return z


class Counter:
    """Gives other values from the n-th call on."""

    def __init__(self, n):
        self.n = n

    def __call__(self, x):
        self.n -= 1
        return x * (1.0 if self.n > 0 else 1.1)


def around(x):
    scale = Tensor(raw(x) * 2)
    return ops.sin(x) * scale


rng_of_its_own = np.random.default_rng(0)


@pytest.mark.parametrize(
    "f, x, pattern, words",
    [
        (lambda x: ops.relu(ops.sin(x)) * ops.cos(x), np.array([[0.0, 1.0]]), KINK, "relu"),
        (lambda x: ops.max(x * 1.0), np.array([2.0, 2.0, 2.0]), KINK, "max"),
        (lambda x: ops.relu(x).sum() * x, np.array([0.0, 1.5] * 40), KINK, "relu"),
        (lambda x: ops.absolute(x), np.array([3e-6, 1.0]), STEEP, "absolute"),
        (lambda x: ops.sqrt(x), np.array([1e-6, 1.0]), STEEP, "x[0]"),
        (lambda x: x * rng_of_its_own.normal(), A, RANDOM, "'rng_of_its_own'"),
        (lambda x: x * np.random.normal(), A, RANDOM, "numpy.random"),  # noqa: NPY002
        (Counter(2), A, CHANGES, "from call to call"),
        (Counter(9), A, CHANGES, "from call to call"),
        (changes_an_output, A, CHANGED, "the output of exp"),
        (lambda x: ops.exp(x) * x.detach(), A, AROUND, "'b' of multiply"),
        (around, A, AROUND, f"{HERE}:"),
        (lambda x: Tensor(raw(x) * 2), A, AROUND, "an output"),
        (lambda x: x.astype("float32").astype("float64") * x, A, SINGLE, "astype"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_wrong_where_no_rule_is(f, x, pattern, words):
    error = wrong(f, x)
    assert error.pattern == pattern and words in str(error)
    assert error.faults == () and error.primitive is error.where is error.rule_at is None
    assert "No rule is wrong" in str(error)


def test_a_value_that_where_hides():
    """The gradient of what where() does not select is 0 times infinity."""
    logarithm = primitive(lambda x: xp.log(x))
    logarithm.vjp("x", lambda g, x: g / x, formula="x̄ = ȳ / x")
    with np.errstate(all="ignore"):
        error = wrong(lambda x: ops.where(raw(x) > 0.1, logarithm(x), x), np.array([0.0, 1.0]))
    assert error.pattern == INFINITE and error.faults == () and "<lambda>, called at " + HERE in str(error)


def test_faults_are_located_on_every_device(device):
    rule = lambda g, x: 2 * g / (1 + abs(x)) ** 2  # noqa: E731
    net = Net(users(rule)).astype("float64").to(device)
    error = wrong(net, xp.asarray(np.random.default_rng(0).normal(size=(4, 3))), params=net, order=2)
    assert [fault.pattern for fault in error.faults] == ["constant factor 2"] * 2
    assert wrong(lambda x: ops.relu(x), xp.asarray(np.array([0.0, 1.0]))).pattern == KINK
    assert wrong(lambda x: x * x.detach(), xp.asarray(A)).pattern == AROUND


def test_the_cost_grows_linearly_with_the_nodes():
    def calls_of(nodes: int) -> int:
        counted = [0]

        @primitive
        def wave(x):
            counted[0] += 1
            return xp.sin(x)

        wave.vjp("x", lambda g, x: g * xp.cos(x), formula="x̄ = ȳ cos x")

        def f(x):
            for _ in range(nodes):
                x = wave(x)
            return x * x.detach()

        recording = _Recording(lambda: (f(Tensor(A, requires_grad=True)),))
        counted[0] = 0
        search = _Search(1)
        for call in recording.calls:
            search.examine(call)
        assert search.passed == nodes + 1
        return counted[0]

    assert calls_of(40) - calls_of(30) == calls_of(20) - calls_of(10)


def test_the_text_of_an_error():
    rule = lambda g, x: 2 * g * x * x  # noqa: E731

    @primitive
    def cube(x):
        return x * x * x

    cube.vjp("x", rule, formula="x̄ = 3 x² ȳ")

    def model(x):
        return ops.exp(cube(x)).sum()

    assert str(wrong(model, np.array([0.5, 1.0]))).splitlines() == [
        "derivative of order 1 with respect to x: backward differs from central differences at [1]: "
        "expected 4.349418469, got 2.899612312",
        "A wrong rule; 2 of 3 nodes passed by themselves:",
        f"cube, called at {HERE}:{model.__code__.co_firstlineno + 1}: the rule for 'x' is wrong",
        f"  rule: x̄ = 3 x² ȳ, defined at {line(rule)}",
        "  backward differs from central differences at [1]: expected 3.726737034, got 2.484491356",
        "  pattern: constant factor 2/3",
    ]


# What is right is not accused ---------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def counts(request):
    """Says at the end how many faults were located, and how many right examples were not accused."""
    yield
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\nlocate: " + ", ".join(f"{count} {what}" for what, count in COUNTS.items()))


def accused(f, *xs, order=2):
    """The rules that are named if a check of f has failed, for a reason unknown: every call is examined."""
    tensors = [Tensor(xp.asarray(x), requires_grad=True) for x in xs]

    def function():
        ys = f(*tensors)
        return ys if isinstance(ys, tuple) else (ys,)

    with np.errstate(all="ignore"):
        recording = _Recording(function)
        search = _Search(order)
        for call in recording.calls:
            search.examine(call)
    return [str(fault) for fault in search.faults.values()], len(recording.calls)


SCALES = [1e-30, 1e-8, 1e-5, 1e-3, 1.0, 1e3, 1e8, 1e30]
# A matrix of zeros has no inverse; and projection takes columns with mean 0 and variance 1: with large ones
# its rule subtracts what is nearly equal.
WELL_CONDITIONED = {"inverse", "slogdet", "projection"}


def examine_a_call(data):
    """A primitive at values that it may meet: kinks, huge and tiny numbers, float32, none at all."""
    name = data.draw(st.sampled_from(sorted(registry)))
    call = data.draw(strategies.calls(registry[name]))
    change = data.draw(
        st.sampled_from(["none", "scale", "zeros", "ties", "float32", "kink nearby", "one value"])
    )
    if name in WELL_CONDITIONED:
        change = "none"
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    xs = [np.asarray(x) for x in call.inputs]
    domain = registry[name].primitive.domain
    words = list(domain.values()) if isinstance(domain, dict) else [domain] * len(xs)
    if change == "scale":
        scales = rng.choice(SCALES, len(xs))
        xs = [x * scale for x, scale in zip(xs, scales)]
    elif change == "zeros":
        xs = [x * (rng.random(x.shape) < 0.5) if word != "positive" else x for x, word in zip(xs, words)]
    elif change == "ties":
        xs = [np.round(x) if word != "positive" else np.ceil(x) for x, word in zip(xs, words)]
    elif change == "float32":
        xs = [x.astype("float32") for x in xs]
    elif change == "kink nearby":
        xs = [x * rng.choice([1e-7, 3e-6, 1e-5, 1.0], x.shape) for x in xs]
    elif change == "one value":
        xs = [np.full_like(x, rng.choice([1.0, 2.0])) for x in xs]
    try:
        found, _ = accused(lambda *xs: registry[name](*xs, **call.static), *xs)
    except (ValueError, np.linalg.LinAlgError):
        return  # not what the primitive takes: a singular matrix
    assert found == []
    COUNTS["calls of right primitives not accused"] += 1


def examine_an_expression(data):
    expression = data.draw(strategies.expressions())
    scale = data.draw(st.sampled_from(SCALES[1:-1]))
    found, calls = accused(lambda *xs: expression(*xs), *(scale * x for x in expression.inputs))
    assert found == []
    COUNTS["calls in right expressions not accused"] += calls


@given(st.data())
@settings(max_examples=400)
def test_no_right_primitive_is_accused(data):
    examine_a_call(data)


@given(st.data())
@settings(max_examples=50)
def test_no_right_primitive_in_an_expression_is_accused(data):
    examine_an_expression(data)


@pytest.mark.thorough
@given(st.data())
@settings(max_examples=10_000)
def test_no_right_primitive_is_accused_10000(data):
    examine_a_call(data)


@pytest.mark.thorough
@given(st.data())
@settings(max_examples=1_000)
def test_no_right_primitive_in_an_expression_is_accused_1000(data):
    examine_an_expression(data)
