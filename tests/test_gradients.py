"""The checker under test: each planted fault is caught and its input named, and right functions pass."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import tinygen as tg
from tinygen import autodiff, nn, ops
from tinygen.autodiff import Tensor, primitive, registry
from tinygen.gradients import GradientError, check_gradients, derivatives
from tinygen.gradients.strategies import alike, array_shapes, arrays, broadcastable_shapes, calls


def raw(x):
    return x.data if isinstance(x, Tensor) else x


def wrong(f, *inputs, order=1, **arguments):
    """The error that the check raises."""
    with pytest.raises(GradientError) as caught:
        check_gradients(f, *inputs, order=order, **arguments)
    return caught.value


def planted(a_rule=None, b_rule=None, broadcasts=True):
    """A product whose rules may be replaced."""

    @primitive(broadcasts=broadcasts)
    def product(a, b):
        return a * b

    product.vjp("a", a_rule or (lambda g, b: g * b), formula="ā = ȳ b")
    product.vjp("b", b_rule or (lambda g, a: g * a), formula="b̄ = ȳ a")
    return product


A, B = np.array([[0.5, -1.5, 0.8], [1.2, 0.4, -0.7]]), np.array([[1.1, 0.6, -0.9], [-0.3, 2.0, 1.3]])


# Planted faults -----------------------------------------------------------------------------------------

WRONG_RULES = {
    "factor": lambda g, a: 2 * g * a,
    "a thousandth": lambda g, a: 1.001 * g * a,
    "sign": lambda g, a: -g * a,
    "ȳ left out": lambda g, a: a + 0 * g,
    "ȳ's sum": lambda g, a: g.sum() * a,
    "nothing": lambda g, a: 0 * g * a,
    "reversed": lambda g, a: (g * a)[::-1],
    "transposed": lambda g, a: (g * a).reshape(3, 2).T,
    "NaN": lambda g, a: g * a * np.nan,
    "infinite": lambda g, a: g * a / 0.0,
    "one row for all": lambda g, a: g * a[:1],
    "rounded to float32": lambda g, a: (g * a).astype("float32"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("fault", WRONG_RULES)
def test_a_wrong_rule_is_caught(fault, order, device):
    error = wrong(planted(b_rule=WRONG_RULES[fault]), A, B, order=order)
    assert (error.input, error.order) == ("b", 1)
    row, column = error.index
    assert 0 <= row < 2 and 0 <= column < 3
    assert error.expected != error.got


# By chance, rounding to float32 may move no element by much.
@given(
    arrays((2, 3), "nonzero"),
    arrays((2, 3), "nonzero"),
    st.sampled_from(sorted(WRONG_RULES.keys() - {"rounded to float32"})),
)
def test_a_wrong_rule_is_caught_everywhere(a, b, fault):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert wrong(planted(b_rule=WRONG_RULES[fault]), a, b).input == "b"


def test_rules_of_other_shapes_are_caught():
    error = wrong(planted(b_rule=lambda g, a: (g * a).T), A, B)
    assert error.input == "b" and error.index is None
    assert "product" in str(error) and "(3, 2)" in str(error)
    assert isinstance(error.__cause__, RuntimeError)


def test_a_missing_sum_over_broadcast_axes_is_caught():
    error = wrong(planted(broadcasts=False), A, B[0])
    assert error.input == "b" and "(2, 3)" in str(error)
    assert wrong(planted(broadcasts=False), A[:, :1], B).input == "a"


def test_a_rule_that_fails_is_a_wrong_gradient():
    error = wrong(planted(a_rule=lambda g, b: g * undefined), A, B)  # noqa: F821
    assert error.input == "a" and "'undefined' is not defined" in str(error)


def test_a_missing_rule_is_the_engines_error():
    @primitive
    def half(x):
        return x / 2

    with pytest.raises(NotImplementedError, match="half has no rule for 'x'"):
        check_gradients(half, A)


@pytest.mark.parametrize(
    "rule",
    [
        lambda g, b: g * raw(b),  # loses the history of an input
        lambda g, b: raw(g) * b,  # of the cotangent
        lambda g, b: Tensor(raw(g) * raw(b)) if isinstance(g, Tensor) else g * b,  # of both
    ],
)
def test_a_rule_that_loses_its_history_is_wrong_at_second_order(rule):
    check_gradients(planted(a_rule=rule), A, B)
    error = wrong(planted(a_rule=rule), A, B, order=2)
    assert error.order == 2 and error.input == "a"
    assert error.variable in ("b", "the cotangent of output 0")


def test_a_lost_history_of_an_input_is_named():
    assert wrong(planted(a_rule=lambda g, b: g * raw(b)), A, B, order=2).variable == "b"
    named = wrong(planted(a_rule=lambda g, b: raw(g) * b), A, B, order=2).variable
    assert named == "the cotangent of output 0"


def test_a_rule_that_loses_its_history_in_one_term():
    @primitive
    def cube(x):
        return x * x * x

    cube.vjp("x", lambda g, x: g * (3 * x * raw(x)), formula="x̄ = 3 ȳ x²")
    check_gradients(cube, A)
    error = wrong(cube, A, order=2)
    assert (error.input, error.order) == ("x", 2)
    assert np.isclose(error.expected, 2 * error.got)


def test_a_fault_of_third_order():
    @primitive
    def fourth(x):
        return x**4

    fourth.vjp("x", lambda g, x: g * (4 * x * x * raw(x)), formula="x̄ = 4 ȳ x³")
    assert wrong(fourth, A, order=2).order == 2

    @primitive
    def cubed(x):
        return x**3

    detached = primitive(lambda x: x * x)
    detached.vjp("x", lambda g, x: g * 2 * raw(x), formula="x̄ = 2 ȳ x")
    cubed.vjp("x", lambda g, x: g * 3 * detached(x), formula="x̄ = 3 ȳ x²")
    check_gradients(cubed, A, order=2)
    assert wrong(cubed, A, order=3).order == 3


def test_two_readings_that_differ_are_caught():
    rule = lambda g, b: g * b * (1.01 if isinstance(g, Tensor) else 1.0)  # noqa: E731
    check_gradients(planted(a_rule=rule), A, B)
    error = wrong(planted(a_rule=rule), A, B, order=2)
    assert error.input == "a" and "create_graph" in str(error)
    assert np.isclose(error.got, 1.01 * error.expected)


@pytest.mark.parametrize("size", [100, 1000])
@pytest.mark.parametrize("at", [0, 37, 99])
@pytest.mark.parametrize("fault", [1e-2, 1e-3, 1e-4])
def test_one_element_of_many_is_found(size, at, fault):
    factors = np.ones(size)
    factors[at] += fault
    f = planted(b_rule=lambda g, a: g * a * factors)
    rng = np.random.default_rng(at)
    error = wrong(f, rng.normal(size=size), rng.normal(size=size))
    assert error.input == "b" and error.index == (at,)
    assert np.isclose(error.got, error.expected * (1 + fault), rtol=fault / 100)
    assert f"[{at}]" in str(error) and f"{error.got:.10g}" in str(error)


def test_large_gradients_in_the_wrong_order_are_caught():
    """The sum of all their elements is right."""
    rng = np.random.default_rng(0)
    f = planted(b_rule=lambda g, a: (g * a)[::-1])
    assert wrong(f, rng.normal(size=500), rng.uniform(-1, 1, 500)).input == "b"


@pytest.mark.parametrize("size, at", [(3, 1), (100, 0), (100, 99)])
def test_the_one_element_that_is_no_number_is_found(size, at):
    factors = np.where(np.arange(size) == at, np.nan, 2)
    error = wrong(planted(b_rule=lambda g, a: g * a * factors), np.ones(size), np.ones(size))
    assert error.index == (at,) and np.isnan(error.got) and np.isfinite(error.expected)


def test_the_worst_element_is_named_with_its_numbers():
    factors = np.array([[1, 1.001, 1], [1, 1, 2]])
    error = wrong(planted(b_rule=lambda g, a: g * a * factors), A, B)
    assert error.index == (1, 2)
    assert np.isclose(error.got, 2 * error.expected)
    assert str(error).startswith("derivative of order 1 with respect to b: ")


@pytest.mark.parametrize("scale", [1e-3, 1, 1e9])
def test_a_wrong_element_among_large_and_small_numbers(scale):
    """Small gradients beside large ones, and small or huge ones, are held to the same precision."""
    a, b, factors = scale * np.array([1.0, 1e-4]), scale * np.ones(2), np.array([1, 1.01])
    check_gradients(planted(), a, b)
    assert wrong(planted(b_rule=lambda g, a: g * a * factors), a, b).index == (1,)


def test_a_kink_is_no_derivative():
    assert wrong(ops.relu, np.array([0.0, 1.5])).index == (0,)
    assert wrong(lambda x: ops.clip(x, -1, 1), np.array([0.5, 1.0])).index == (1,)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_overflow_on_the_way_is_no_agreement():
    assert wrong(ops.exp, np.array([709.782])).expected == np.inf


# What is changed or shared ------------------------------------------------------------------------------


def in_place(a, b):
    a *= 1.5
    return a * b


def test_a_changed_input_is_caught():
    changing = primitive(in_place, broadcasts=True)
    changing.vjp("a", lambda g, b: g * b, formula="ā = ȳ b")
    changing.vjp("b", lambda g, a: g * a, formula="b̄ = ȳ a")
    error = wrong(changing, A, B)
    assert error.input == "a" and "changed in place" in str(error)
    assert (error.index, error.expected, error.got) == (None, None, None)


def test_a_rule_that_changes_an_input_or_its_cotangent_is_caught():
    def into_input(g, b):
        b *= g
        return b

    def into_cotangent(g, b):
        g *= b
        return g

    assert wrong(planted(a_rule=into_input), A, B).variable == "b"
    error = wrong(planted(a_rule=into_cotangent), A, B)
    assert error.variable == "the cotangent of output 0"
    assert error.faults[0].fault == "the values of the cotangent of output 0 were changed in place"


def test_a_function_that_changes_its_input_is_caught():
    def f(x):
        x.data = x.data + 1.0
        return x * x

    assert wrong(f, A).input == "x"


def test_one_array_for_two_inputs_is_made_two_by_the_engine():
    total = primitive(lambda a, b: a + b)
    total.vjp("a", lambda g: g, formula="ā = ȳ")
    total.vjp("b", lambda g: g, formula="b̄ = ȳ")
    check_gradients(total, A, B, order=2)


def test_an_engine_that_shares_memory_is_caught(monkeypatch):
    def shared(gradient, given):
        return autodiff._tensor(gradient)

    monkeypatch.setattr(autodiff, "_owned", shared)
    error = wrong(ops.add, A, B)
    assert error.input == "a" and "shares memory with the cotangent of output 0" in str(error)


@pytest.mark.parametrize("array", [A.astype("float32"), A[:1], A[0]])
def test_an_engine_that_gives_other_shapes_or_dtypes_is_caught(monkeypatch, array):
    monkeypatch.setattr(derivatives, "grad", lambda *arguments, **options: (Tensor(array),))
    error = wrong(ops.tanh, A)
    assert error.input == "x" and f"{array.dtype}{list(array.shape)}" in str(error)


# Right functions ----------------------------------------------------------------------------------------


@given(st.data())
def test_right_functions_pass(data):
    a, b = data.draw(broadcastable_shapes(2).flatmap(lambda shapes: alike(shapes, "positive")))
    check_gradients(lambda a, b: ops.log(a) * ops.sin(a * b) - ops.logaddexp(a, b) / b, a, b, order=2)


@given(array_shapes().flatmap(arrays), st.integers(-9, 9), st.integers(1, 4))
def test_right_functions_of_any_size_pass(x, exponent, power):
    scale = 10.0**exponent
    check_gradients(lambda x: scale * x**power, x)
    check_gradients(lambda x: x + scale, x)
    check_gradients(lambda x: x**power, scale * x)
    if scale >= 1:
        check_gradients(lambda x: ops.tanh(x / scale), scale * x)


def test_strongly_curved_functions_pass():
    check_gradients(lambda x: x**3, np.zeros(3), order=3)
    check_gradients(lambda x: ops.sin(1000 * x), np.array([0.0, 0.3]), order=2)
    check_gradients(ops.log, np.array([1e-3, 1e-2, 1.0]), order=2)


def test_functions_that_are_0_but_for_rounding_pass():
    x = np.array([0.3, -1.2, 0.7, 1.9])
    for order in (1, 2, 3):
        check_gradients(lambda x: (x - x.mean()).sum(), x, order=order)
        check_gradients(lambda x: ops.softmax(x).mean() - 0.25, x, order=order)
        # KL(N(0, eˣ) ‖ N(0, 1)) at its minimum
        check_gradients(lambda x: 0.5 * (ops.exp(x) - x - 1), 0 * x, order=order)


def test_large_inputs_pass():
    rng = np.random.default_rng(0)
    check_gradients(ops.matmul, rng.normal(size=(30, 40)), rng.normal(size=(40, 20)), order=2)


def test_several_outputs_and_outputs_that_depend_on_nothing():
    def f(x, y):
        return x * y, ops.sum(x), Tensor(A), x

    check_gradients(f, A, B, order=3)


def test_an_unused_input_has_gradient_zero():
    check_gradients(lambda x, unused: x * x, A, B, order=2)
    check_gradients(lambda x: Tensor(A), B, order=2)
    error = wrong(lambda x, lost: x * lost.detach(), A, B)
    assert error.input == "lost"
    assert error.got == 0 and error.expected != 0
    assert wrong(lambda x: Tensor(x.data), A).got == 0


def test_zero_size_and_0d_inputs():
    check_gradients(lambda x, y: x * y, np.zeros((0, 3)), np.array(2.0), order=2)


def test_inputs_are_left_alone():
    a, tensor = A.astype("float32"), Tensor(B, requires_grad=True)
    before = a.copy()
    check_gradients(lambda x, y: x * y, a, tensor, order=2)
    assert_array_equal(a, before)
    assert_array_equal(tensor.data, B)
    assert tensor.grad is None


def test_noise_is_frozen():
    def noisy(x):
        return x * Tensor(tg.backend.default_generator().normal(x.shape, "float64"))

    check_gradients(noisy, A, order=2)


def test_gradients_inside_the_function():
    def penalty(x):
        (slope,) = tg.grad(ops.sin(x).sum(), x, create_graph=True)
        return ((ops.norm(slope) - 1) ** 2,)

    check_gradients(penalty, A, order=2)


# Parameters ---------------------------------------------------------------------------------------------


class Line(nn.Module):
    def __init__(self, dtype="float64"):
        self.slope = Tensor(np.array([2.0, -1.0, 0.5], dtype), requires_grad=True)
        self.offset = Tensor(np.array(0.3, dtype), requires_grad=True)

    def forward(self, x):
        return ops.tanh(x * self.slope + self.offset)


@pytest.mark.parametrize("order", [1, 2])
def test_parameters_are_checked(order):
    line = Line()
    check_gradients(line, A, params=line, order=order)
    check_gradients(lambda: line(A), params=line, order=order)
    assert wrong(lambda x: line(x) + line.offset.detach(), A, params=line, order=order).input == "offset"


def test_parameters_are_put_back():
    line = Line()
    slope, array = line.slope.numpy(), line.slope.data
    check_gradients(line, A, params=line)
    wrong(lambda x: x * line.slope.detach(), A, params=line)
    calls = []

    def failing(x):
        calls.append(x)
        if len(calls) == 6:
            assert not np.array_equal(line.slope.data, slope), "a parameter is off its place"
            raise KeyError("in the middle")
        return line(x)

    with pytest.raises(KeyError):
        check_gradients(failing, A[:1, :1], params=line)
    assert_array_equal(line.slope.data, slope)
    assert line.slope.data is array and line.slope.grad is None
    assert line.offset.item() == 0.3


def test_a_parameter_that_the_function_changes_is_caught():
    line = Line()

    def training(x):
        y = line(x)
        line.offset.data = line.offset.data - 0.1
        return y

    assert wrong(training, A, params=line).input in ("slope", "offset")
    assert line.offset.item() == 0.3


# What cannot be checked ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f, inputs, options, error, words",
    [
        (
            lambda x, n: x * n,
            (A, np.array([1, 2, 3])),
            {},
            TypeError,
            "n: expected a floating dtype, got int64",
        ),
        (lambda x: x, (A > 0,), {}, TypeError, "x: expected a floating dtype, got bool"),
        (lambda x: x, (3,), {}, TypeError, "x: expected a floating dtype"),
        (lambda x: x, (A * [1, np.nan, 1],), {}, ValueError, "x: expected finite numbers"),
        (lambda x: x.data, (A,), {}, TypeError, "f: expected a Tensor.*ndarray"),
        (lambda x: [x, x], (A,), {}, TypeError, "f: expected a Tensor.*list"),
        (lambda x: (x, None), (A,), {}, TypeError, "output 1 is a NoneType"),
        (lambda x: x.astype("float32"), (A,), {}, TypeError, "expected float64.*output 0 is float32"),
        (lambda x: ops.log(0 * x), (A,), {}, ValueError, "f: expected finite outputs, output 0"),
        (lambda x: (), (A,), {}, TypeError, "f: expected a Tensor.*empty tuple"),
        (lambda x: x, (A,), {"order": 0}, ValueError, "order: expected an int of 1 or more, got 0"),
        (lambda x: x, (A,), {"order": 1.5}, ValueError, "order: expected an int of 1 or more, got 1.5"),
        (lambda x: x, (A,), {"params": [Tensor(A)]}, TypeError, "params: expected a Module, got list"),
        (lambda: Tensor(A), (), {}, ValueError, "inputs: expected at least one"),
        (lambda x: x, (A,), {"params": Line("float32")}, TypeError, "slope: expected float64, got float32"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bad_arguments(f, inputs, options, error, words):
    with pytest.raises(error, match=words) as caught:
        check_gradients(f, *inputs, **options)
    assert not isinstance(caught.value, GradientError)


def test_an_error_of_the_function_is_its_own():
    def f(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        check_gradients(f, A)


def test_names_of_inputs():
    class Unsigned:
        __signature__ = "none"

        def __call__(self, x, y):
            return x.detach() * y

    assert wrong(lambda x, *others: x * others[0] * others[1].detach(), A, B, A).input == "others[1]"
    assert wrong(lambda x, y=2.0: x.detach() * y, A).input == "x"
    assert wrong(Unsigned(), A, B).input == "input 0"


# Strategies ---------------------------------------------------------------------------------------------


def test_planted_primitives_are_not_registered():
    names = {"product", "half", "cube", "fourth", "cubed"}
    planted()
    assert not names & set(registry)


@given(st.data())
def test_calls_of_a_users_primitive(data):
    @primitive(broadcasts=True, domain={"a": "positive", "b": "real"})
    def sum(a, b):  # the name of one of tinygen's
        return a + b

    (a, b), static = data.draw(calls(sum))
    assert (a > 0).all() and static == {}
    np.broadcast_shapes(a.shape, b.shape)


@pytest.mark.parametrize(
    "domain, words",
    [
        (None, "half: declares no domain"),
        ("somewhere", "half: x: expected a domain in .*, got 'somewhere'"),
        ({"y": "real"}, "half: x: expected a domain in .*, got None"),
    ],
)
def test_a_primitive_without_a_domain_has_no_calls(domain, words):
    @primitive(domain=domain)
    def half(x):
        return x / 2

    with pytest.raises(LookupError, match=words):
        find(calls(half), lambda call: True)


def test_a_primitive_with_static_arguments_needs_an_entry():
    @primitive(domain="real")
    def scale(x, *, factor):
        return factor * x

    with pytest.raises(LookupError, match="scale: STRUCTURES has no entry"):
        find(calls(scale), lambda call: True)


def test_strategies_without_hypothesis_name_the_extra():
    program = """
import sys
sys.modules["hypothesis"] = None
import tinygen.gradients
tinygen.gradients.check_gradients
try:
    tinygen.gradients.strategies
except ImportError as error:
    assert "tinygen[test]" in str(error), error
else:
    raise SystemExit("no error")
try:
    tinygen.gradients.nothing
except AttributeError as error:
    assert "nothing" in str(error), error
"""
    subprocess.run([sys.executable, "-c", program], check=True)
