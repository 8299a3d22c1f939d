"""The strategies draw what they promise, and a line makes a property test that finds a function's faults."""

from inspect import currentframe

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import tinygen as tg
from tinygen import nn, ops
from tinygen.gradients import GradientError, check_gradients
from tinygen.gradients.strategies import (
    DOMAINS,
    alike,
    array_shapes,
    arrays,
    broadcastable_shapes,
    calls,
    convolutions,
    expressions,
    gradient_test,
    indices,
    modules,
)
from tinygen.gradients.strategies.arrays import STRUCTURED
from tinygen.gradients.strategies.calls import geometries

WITHIN = {
    "real": lambda x: (x == 0) | ((abs(x) >= 0.3) & (abs(x) <= 2)),
    "nonzero": lambda x: (abs(x) >= 0.3) & (abs(x) <= 2),
    "distinct": lambda x: (abs(x) >= 0.3) & (abs(x) <= 2),
    "positive": lambda x: (x >= 0.3) & (x <= 2),
    "above -1": lambda x: (x >= -0.9) & (x <= 2) & (abs(x) >= 0.1),
    "unit interval": lambda x: (x >= 0.07) & (x <= 0.93),
    "simplex": lambda x: (x > 0) & np.isclose(x.sum(-1, keepdims=True), 1),
    "one-hot": lambda x: ((x == 0) | (x == 1)) & (x.sum(-1, keepdims=True) == 1),
    "invertible": lambda x: np.linalg.cond(x)[..., None, None] < 50 if x.size else x == x,
    "positive definite": lambda x: (x == x.swapaxes(-1, -2)) & _eigenvalues_of_half_or_more(x),
}


def _eigenvalues_of_half_or_more(x):
    return (np.linalg.eigvalsh(x) > 0.5 - 1e-9).all(-1)[..., None, None]


def test_each_domain_is_checked():
    assert set(WITHIN) == {*DOMAINS, *STRUCTURED}


@pytest.mark.parametrize("domain", WITHIN)
@given(data=st.data())
def test_values_lie_in_the_domain(domain, data):
    x = data.draw(arrays(domain=domain))
    assert x.dtype == "float64" and WITHIN[domain](x).all()


@pytest.mark.parametrize("domain", WITHIN)
def test_all_sorts_of_shapes_are_drawn(domain):
    assert find(arrays(domain=domain), lambda x: x.size == 0).size == 0
    assert find(arrays(domain=domain), lambda x: x.ndim > 2 and x.size > 4).ndim > 2


@given(st.data(), array_shapes(), st.sampled_from(["float32", "float64"]))
def test_arrays_have_the_shape_and_dtype(data, shape, dtype):
    x = data.draw(arrays(shape, "positive", dtype))
    assert (x.shape, x.dtype) == (shape, dtype)
    assert data.draw(arrays(st.just(shape))).shape == shape


@given(alike(st.just([(3, 4), (), (2, 0), (29,)]), "distinct"))
def test_distinct_is_across_arrays(xs):
    values = np.sort(np.concatenate([x.ravel() for x in xs]))
    assert (np.diff(values) > 0.01 - 1e-9).all()


@given(arrays((5,), "nonzero"), arrays((5,), "nonzero"))
def test_two_arrays_are_never_alike(x, y):
    assert (x != y).any()


def test_a_failing_array_shrinks_to_few_readable_numbers():
    x = find(arrays(), lambda x: (x > 1).any())
    assert x.size <= 2
    assert_array_equal(x, x.round(2))


@given(alike(broadcastable_shapes(3)))
def test_shapes_broadcast(xs):
    np.broadcast(*xs)


@given(st.data(), array_shapes())
def test_indices_fit(data, shape):
    np.empty(shape)[data.draw(indices(shape))]


@pytest.mark.parametrize(
    "domain, shape, expected",
    [
        ("simplex", (), r"expected \(..., n\), n > 0 for domain 'simplex', got \(\)"),
        ("one-hot", (2, 0), r"expected \(..., n\), n > 0 for domain 'one-hot', got \(2, 0\)"),
        ("invertible", (3,), r"expected \(..., n, n\) for domain 'invertible', got \(3,\)"),
        ("positive definite", (2, 3), r"expected \(..., n, n\) for domain .*, got \(2, 3\)"),
    ],
)
def test_a_shape_that_does_not_suit_the_domain(domain, shape, expected):
    with pytest.raises(ValueError, match="shape: " + expected):
        find(arrays(shape, domain), lambda x: True)


@pytest.mark.parametrize("make", [lambda word: arrays((2,), word), lambda word: alike([(2,)], word)])
def test_an_unknown_domain_is_refused_at_once(make):
    with pytest.raises(ValueError, match=r"domain: expected one of .*'simplex'.* got 'negative'"):
        make("negative")


# Convolutions -------------------------------------------------------------------------------------------


@given(convolutions())
def test_convolutions_are_accepted(call):
    y = ops.conv2d(*call.inputs, **call.static)
    assert min(y.shape[1:]) > 0


@pytest.mark.parametrize(
    "wanted",
    [
        lambda c: min(map(min, c.padding)) < 0,
        lambda c: max(map(max, c.padding)) > 0 > min(map(min, c.padding)),
        lambda c: c.x[0] == 0,
        lambda c: c.stride[0] != c.stride[1],
        lambda c: max(c.dilation) > 1 and max(c.stride) > 1,
        lambda c: (c.x[1] + sum(c.padding[0]) - c.w[0]) % c.stride[0] > 0,  # some lines are left out
    ],
)
def test_what_makes_convolutions_hard_is_drawn(wanted):
    assert wanted(find(geometries(), wanted))


# Modules ------------------------------------------------------------------------------------------------


@given(modules(3, 2))
def test_modules_of_vectors(network):
    assert network(tg.Tensor(np.ones((4, 3)))).shape == (4, 2)
    assert {p.dtype for p in network.parameters()} == {np.dtype("float64")}


@given(modules((3, 2, 1), 2))
def test_modules_of_images(network):
    assert network(tg.Tensor(np.ones((4, 3, 2, 1)))).shape == (4, 2)


@given(x=arrays((2, 3)), network=modules(3, 2))
@settings(max_examples=20)
def test_derivatives_of_modules(x, network, device):
    check_gradients(network.to(device), x, params=network, order=2)


def test_modules_are_drawn_with_hidden_layers_and_without():
    kinds = {nn.Tanh, nn.Sigmoid, nn.Softplus}
    for kind in kinds:
        assert find(modules(2, 1), lambda network, kind=kind: kind in map(type, network.layers))
    assert len(find(modules(2, 1), lambda network: True).layers) == 1


# A function as a test -----------------------------------------------------------------------------------


def of(rule, forward=lambda x, factor: factor * x):
    """A primitive with that rule."""

    @tg.primitive
    def scale(x, *, factor):
        return forward(x, factor)

    scale.vjp("x", rule, formula="x̄ = c ȳ")
    return scale


right = of(lambda g, factor: g * factor)
factors = arrays(()).map(float)

test_a_right_rule = gradient_test(right, arrays(), order=2, factor=factors)
test_of_two_inputs = gradient_test(lambda x, y: x * ops.tanh(y), arrays((3,)), arrays((2, 3)), order=2)
test_of_a_list = gradient_test(ops.multiply, alike(broadcastable_shapes(2)), order=2)
test_of_a_call = gradient_test(ops.conv2d, convolutions(), order=2)
test_of_a_primitive = gradient_test(ops.elu, calls(ops.elementwise._elu).map(lambda call: call.inputs))
test_entropy = gradient_test(lambda p: -(p * ops.log(p)).sum(-1), arrays(domain="simplex"), order=3)
test_log_det = gradient_test(lambda a: ops.slogdet(a)[1], arrays(domain="positive definite"), order=2)


def test_static_arrays_on_each_device(device):
    def cross_entropy(logits, labels):
        return -(labels * ops.log_softmax(logits)).sum()

    gradient_test(cross_entropy, arrays((2, 3)), labels=arrays((2, 3), "one-hot"), order=2)()


def gradient_penalty(x, critic):
    (slope,) = tg.grad(critic(x).sum(), x, create_graph=True)
    return ((slope**2).sum(1) - 1) ** 2


test_gradient_penalty = gradient_test(gradient_penalty, arrays((2, 2)), critic=modules(2, 1))

LAYER = nn.Linear(2, 3).astype("float64")
test_of_a_layer = gradient_test(LAYER, arrays((4, 2)), order=2)
test_of_fixed_parameters = gradient_test(lambda x: ops.tanh(LAYER(x)), arrays((2, 2)), params=LAYER, order=2)


def failure(test):
    with pytest.raises(GradientError) as caught:
        test()
    return caught.value


def shown(error) -> str:
    return "\n".join(getattr(error, "__notes__", []))


def test_a_wrong_rule_is_found_and_shown_small():
    error = failure(gradient_test(of(lambda g, factor: g * factor * factor), arrays(), factor=factors))
    assert (error.input, error.order) == ("x", 1)
    if hasattr(error, "__notes__"):  # from Python 3.11 on
        assert "call=scale(x=array(" in shown(error) and "factor=" in shown(error)


def test_the_call_of_a_primitive_is_told_at_the_line_of_its_test():
    line = currentframe().f_lineno + 1
    test = gradient_test(of(lambda g, factor: 2 * g * factor), arrays((2,)), factor=factors)
    error = failure(test)
    assert error.where == error.faults[0].where == f"{__file__}:{line}"
    assert f"scale, called at {__file__}:{line}: the rule for 'x' is wrong" in str(error)


def test_a_call_inside_the_function_is_told_where_it_is():
    wrong = of(lambda g, factor: 2 * g * factor)
    line = currentframe().f_lineno + 3

    def f(x):
        return wrong(x, factor=0.5)

    assert failure(gradient_test(f, arrays((2,)))).where == f"{__file__}:{line}"


def test_the_smallest_example_that_fails_is_shown():
    """Wrong for two rows and more: two rows of one element are enough to show it."""

    @tg.primitive
    def total(x):
        return x.sum(axis=0)

    total.vjp("x", lambda g, x_shape: np.broadcast_to(g, x_shape) * (1 + (x_shape[0] > 1)))
    seen = []

    def recorded(x):
        seen.append(x.shape)
        return total(x)

    failure(gradient_test(recorded, arrays(array_shapes(min_dims=1, min_side=1))))
    assert seen[-1] == (2,)


def test_a_fault_on_a_rare_branch_is_found():
    wrong = of(lambda g, factor: g * factor * (1.01 if factor > 1.5 else 1))
    assert failure(gradient_test(wrong, arrays((2,)), factor=factors)).order == 1


def test_a_fault_at_second_order_is_found():
    wrong = of(lambda g, factor: tg.Tensor(ops.raw(g)) * factor if isinstance(g, tg.Tensor) else g * factor)
    assert failure(gradient_test(wrong, arrays((2,)), order=2, factor=factors)).order == 2
    gradient_test(wrong, arrays((2,)), order=1, factor=factors)()


def test_a_fault_in_a_modules_parameter_is_found():
    def loss(x, network):
        return network(x) * network.layers[-1].bias.data  # the gradient for bias is not whole

    error = failure(gradient_test(loss, arrays((2, 2)), network=modules(2, 1)))
    assert "bias" in str(error)


def test_a_module_is_checked_with_respect_to_its_parameters():
    class Scale(nn.Module):
        """The gradient for the factor is missing."""

        def __init__(self):
            self.factor = tg.Tensor(np.float64(0.5), requires_grad=True)

        def forward(self, x):
            return x * self.factor.detach()

    error = failure(gradient_test(Scale(), arrays((2,))))
    assert "factor" in str(error)


def test_a_stale_value_is_found_in_expressions():
    """The rule takes x from the last call, which is right as long as the primitive is called once."""
    last = []

    @tg.primitive
    def sine(x):
        last[:] = [x]
        return np.sin(x)

    sine.vjp("x", lambda g: g * np.resize(np.cos(last[0]), g.shape))
    check_gradients(sine, np.array([0.5, 1.0]))

    @given(expressions(sine))
    def among_others(expression):
        check_gradients(expression, *expression.inputs)

    failure(among_others)


def test_expressions_are_made_of_given_functions():
    def twice(a):
        return a + a

    def product(a, b):
        return a * b / 2

    drawn = find(expressions(twice, product), lambda e: {"twice", "product"} <= {name for name, _ in e.steps})
    assert drawn(*drawn.inputs)


@pytest.mark.parametrize("given", [np.ones(2), 3.0])
def test_what_is_no_strategy_is_refused(given):
    with pytest.raises(TypeError, match="gradient_test: expected strategies, got"):
        gradient_test(right, given, factor=factors)
    with pytest.raises(TypeError, match="gradient_test: expected strategies, got"):
        gradient_test(right, arrays(), factor=given)


def test_what_the_function_does_not_take_is_refused():
    with pytest.raises(TypeError, match="too many positional arguments"):
        gradient_test(right, arrays(), arrays(), factor=factors)()
    with pytest.raises(TypeError, match=r"missing a required .*argument: 'factor'"):
        gradient_test(right, arrays())()


def test_tests_are_named_after_their_functions():
    assert gradient_test(right, arrays(), factor=factors).__name__ == "test_scale"
    assert gradient_test(lambda x: x, arrays()).__name__ == "test_f"
