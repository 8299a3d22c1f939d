"""The engine: graphs, gradients of every order, what is kept, what is noticed, and what bad input gets."""

import copy
import functools
import gc
import inspect
import itertools
import math
import time
import tracemalloc
import weakref

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import tinygen as tg
from tinygen import autodiff, ops
from tinygen.autodiff import Node, note_change

# Tools ---------------------------------------------------------------------------------------------


def leaf(values=(1.0, 2.0, 3.0), dtype="float64", name=None):
    return tg.Tensor(np.array(values, dtype), requires_grad=True, name=name)


def line() -> int:
    return inspect.currentframe().f_back.f_lineno


def nodes(*tensors):
    """All nodes of the graphs behind the Tensors."""
    found, stack = set(), [t._source for t in tensors]
    while stack:
        source = stack.pop()
        node = source.node if type(source) is autodiff.Output else source
        if type(node) is Node and node not in found:
            found.add(node)
            stack += node.sources or []
    return found


def on_memory(array):
    """A parameter whose data is the given array itself, as the views into one flat buffer are."""
    parameter = tg.Tensor(array)
    parameter._data = array
    parameter.requires_grad = True
    return parameter


def doubler():
    """A primitive 2x and the list that grows by one at each call of its rule."""
    calls = []

    @tg.primitive
    def double(x):
        """2x."""
        return 2 * x

    @double.vjp("x", formula="x̄ = 2 ȳ")
    def _(g):
        calls.append(g)
        return 2 * g

    return double, calls


@tg.primitive
def scale(x, *, factor=2.0):
    """factor * x."""
    return factor * x


scale.vjp("x", lambda g, factor: factor * g, formula="x̄ = c ȳ")


@tg.primitive
def sum_of_squares(*xs):
    """x₁² + x₂² + ..., elementwise."""
    return sum(x * x for x in xs)


sum_of_squares.vjp_each(lambda g, i, xs: g * (2 * xs[i]), formula="x̄ᵢ = 2 xᵢ ȳ")


@tg.primitive
def exp_and_square(x):
    """(eˣ, x²)."""
    return np.exp(x), x * x


@exp_and_square.vjp("x", formula="x̄ = ȳ₁ y₁ + 2 ȳ₂ x")
def _(g, x, out):
    terms = []
    if g[0] is not None:
        terms.append(g[0] * out[0])
    if g[1] is not None:
        terms.append(g[1] * (2 * x))
    return sum(terms[1:], terms[0])


@pytest.fixture
def refcounts_only():
    """Inside, nothing is freed but by its reference count."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# Derivatives of higher order -----------------------------------------------------------------------


def test_second_derivative_of_tanh_and_of_x_tanh():
    x = leaf([-2.0, -0.3, 0.0, 1.5])
    y = np.tanh(x.data)
    (first,) = tg.grad(ops.tanh(x).sum(), x, create_graph=True)
    (second,) = tg.grad(first.sum(), x)
    np.testing.assert_allclose(first.data, 1 - y**2, rtol=1e-14)
    np.testing.assert_allclose(second.data, -2 * y * (1 - y**2), rtol=1e-14)

    (first,) = tg.grad((x * ops.tanh(x)).sum(), x, create_graph=True)
    (second,) = tg.grad(first.sum(), x)
    np.testing.assert_allclose(first.data, y + x.data * (1 - y**2), rtol=1e-14)
    np.testing.assert_allclose(second.data, 2 * (1 - y**2) * (1 - x.data * y), rtol=1e-14)


def test_ninth_derivatives_of_a_power_and_of_exp():
    x = leaf(0.7)
    power, exponential = x**9, ops.exp(2 * x)
    for _ in range(9):
        (power,) = tg.grad(power, x, create_graph=True)
        (exponential,) = tg.grad(exponential, x, create_graph=True)
    assert power.item() == pytest.approx(math.factorial(9), rel=1e-12)
    assert exponential.item() == pytest.approx(2**9 * math.exp(1.4), rel=1e-12)


def test_mixed_second_derivatives_are_symmetric():
    a, b = leaf([0.3, -1.2]), leaf([0.8, 0.5])
    f = (ops.sin(a * b) * ops.exp(a)).sum()
    f_a, f_b = tg.grad(f, [a, b], create_graph=True)
    (f_ab,) = tg.grad(f_a.sum(), b, retain_graph=True)
    (f_ba,) = tg.grad(f_b.sum(), a)
    np.testing.assert_allclose(f_ab.data, f_ba.data, rtol=1e-14)


class Jet:
    """A function of one variable up to third order by its Taylor coefficients: the oracle of what follows."""

    def __init__(self, coefficients):
        self.c = coefficients

    def __add__(self, other):
        return Jet([a + b for a, b in zip(self.c, other.c)])

    def __sub__(self, other):
        return Jet([a - b for a, b in zip(self.c, other.c)])

    def __mul__(self, other):
        return Jet([sum(self.c[j] * other.c[k - j] for j in range(k + 1)) for k in range(4)])

    def _solve(self, first, slopes):
        """y with y(0) = first and y' = slope x', where slopes(y) gives the slope's coefficients so far."""
        y = [first]
        for k in (1, 2, 3):
            slope = slopes(y)
            y.append(sum(j * self.c[j] * slope[k - j] for j in range(1, k + 1)) / k)
        return Jet(y)

    def tanh(self):
        def slopes(y):
            squares = [sum(y[j] * y[k - j] for j in range(k + 1)) for k in range(len(y))]
            return [1 - squares[0], *(-s for s in squares[1:])]

        return self._solve(np.tanh(self.c[0]), slopes)

    def exp(self):
        return self._solve(np.exp(self.c[0]), lambda y: y)


class Recorded:
    """The same expressions through the engine."""

    def __init__(self, tensor):
        self.t = tensor

    def __add__(self, other):
        return Recorded(self.t + other.t)

    def __sub__(self, other):
        return Recorded(self.t - other.t)

    def __mul__(self, other):
        return Recorded(self.t * other.t)

    def tanh(self):
        return Recorded(ops.tanh(self.t))

    def exp(self):
        return Recorded(ops.exp(self.t))


STEPS = st.lists(
    st.tuples(st.sampled_from(["+", "-", "*", "tanh", "exp"]), st.integers(0, 20), st.integers(0, 20)),
    min_size=1,
    max_size=10,
)


def evaluate(steps, x):
    """A random expression in which any value may be used again: shared subexpressions, diamonds, fans."""
    values = [x]
    for operation, i, j in steps:
        a, b = values[i % len(values)], values[j % len(values)]
        values.append(
            {
                "+": lambda a=a, b=b: a + b,
                "-": lambda a=a, b=b: a - b,
                "*": lambda a=a, b=b: a.tanh() * b.tanh(),
                "tanh": lambda a=a: a.tanh(),
                "exp": lambda a=a: a.tanh().exp(),
            }[operation]()
        )
    return values[-1] + x * x * x * x  # the last term has derivatives of every order that is asked for


@given(STEPS, hnp.arrays(np.float64, 3, elements=st.integers(-150, 150).map(lambda n: n / 100)))
def test_random_graphs_to_third_order(steps, at):
    one, zero = np.ones_like(at), np.zeros_like(at)
    expected = evaluate(steps, Jet([at, one, zero, zero])).c
    x = leaf(at)
    y = evaluate(steps, Recorded(x)).t
    np.testing.assert_allclose(y.data, expected[0], rtol=1e-12, atol=1e-12)
    for order in (1, 2, 3):
        (y,) = tg.grad(y.sum(), x, create_graph=True)
        derivative = math.factorial(order) * expected[order]
        atol = 1e-9 * np.abs(derivative).max() + 1e-12  # for what is 0 but for rounding
        np.testing.assert_allclose(y.data, derivative, rtol=1e-9, atol=atol)


@given(STEPS)
def test_backward_twice_is_twice_the_gradient_or_an_error(steps):
    x = leaf([0.5, -0.25, 1.0])
    y = evaluate(steps, Recorded(x)).t.sum()
    y.backward(retain_graph=True)
    once = x.grad.data.copy()
    y.backward()
    twice = x.grad
    np.testing.assert_allclose(twice.data, 2 * once, rtol=1e-15)
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()
    assert x.grad is twice
    np.testing.assert_allclose(x.grad.data, 2 * once, rtol=1e-15)


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=0, max_dims=3, min_side=0, max_side=3))
def test_gradients_of_broadcast_inputs_are_summed_to_their_shapes(shapes):
    rng = np.random.default_rng(0)
    a, b = (leaf(rng.normal(size=shape)) for shape in shapes.input_shapes)
    g = rng.normal(size=shapes.result_shape)
    a_bar, b_bar = tg.grad(a * b, [a, b], g, create_graph=True)
    for bar, other, x in ((a_bar, b, a), (b_bar, a, b)):
        spread = np.broadcast_to(g * other.data, shapes.result_shape)
        new = spread.ndim - x.ndim
        axes = (*range(new), *(new + k for k, n in enumerate(x.shape) if n == 1))
        np.testing.assert_allclose(bar.data, spread.sum(axes).reshape(x.shape), rtol=1e-12, atol=1e-12)
        assert bar.shape == x.shape


# Paths through the graph -----------------------------------------------------------------------------


def test_a_diamond_adds_up_and_runs_each_rule_once():
    double, calls = doubler()
    x = leaf([1.0, 2.0])
    shared = double(x)
    y = (shared * shared + ops.exp(shared) - shared).sum()
    y.backward()
    np.testing.assert_allclose(x.grad.data, 2 * (2 * 2 * x.data + np.exp(2 * x.data) - 1))
    assert len(calls) == 1


def test_ladder_of_diamonds_takes_one_call_of_each_rule():
    double, calls = doubler()
    x = y = leaf(1.0)
    for _ in range(60):  # 2⁶⁰ paths
        y = double(y)
        y = y + y
    y.backward()
    assert x.grad.item() == 4.0**60
    assert len(calls) == 60


def test_the_same_tensor_for_both_inputs():
    x = leaf([3.0])
    (x * x - x / x + x**x).backward(np.ones(1))
    np.testing.assert_allclose(x.grad.data, 6 + 27 * (math.log(3) + 1))


def test_gradients_add_up_over_backward_passes_until_the_user_resets_them():
    x = leaf([1.0, 2.0])
    (x * x).sum().backward()
    (3 * x).sum().backward()
    np.testing.assert_array_equal(x.grad.data, 2 * x.data + 3)
    x.grad = None
    (3 * x).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [3, 3])


def test_grad_touches_no_grad_attribute():
    x = leaf()
    tg.grad((x * x).sum(), x)
    assert x.grad is None


def test_several_outputs_add_up_with_their_own_gradients():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    vector, number = x * w, (x * x).sum()
    g = np.array([0.5, -1.0])
    x_bar, w_bar = tg.grad([vector, number], (x, w), [g, None], retain_graph=True)
    np.testing.assert_allclose(x_bar.data, g * w.data + 2 * x.data)
    np.testing.assert_allclose(w_bar.data, g * x.data)
    (x_bar,) = tg.grad([vector, number, vector], [x], [g, tg.Tensor(np.float64(10.0)), g])
    np.testing.assert_allclose(x_bar.data, 2 * g * w.data + 20 * x.data)


def test_an_output_computed_from_another_output():
    x = leaf([1.0, 2.0])
    y = x * x
    z = y.sum()
    x_bar, y_bar = tg.grad([z, y], [x, y], [None, np.array([10.0, 20.0])])
    np.testing.assert_allclose(y_bar.data, [11, 21])
    np.testing.assert_allclose(x_bar.data, [11 * 2, 21 * 4])


def test_an_output_is_its_own_input():
    x = leaf([1.0, 2.0])
    g = np.array([3.0, 4.0])
    np.testing.assert_array_equal(tg.grad(x, x, g)[0].data, g)
    y = x * 2
    y_bar, x_bar = tg.grad(y, [y, x], g)
    np.testing.assert_array_equal(y_bar.data, g)
    np.testing.assert_array_equal(x_bar.data, 2 * g)


def test_leaf_backward():
    x = leaf(5.0)
    x.backward()
    assert x.grad.item() == 1.0


def test_inputs_that_were_computed():
    x = leaf([1.0, 2.0])
    h = ops.exp(x)
    y = (h * h).sum()
    h_bar, x_bar = tg.grad(y, [h, x], create_graph=True)
    np.testing.assert_allclose(h_bar.data, 2 * h.data)
    np.testing.assert_allclose(x_bar.data, 2 * h.data**2)
    (second,) = tg.grad(h_bar.sum(), x)
    np.testing.assert_allclose(second.data, 2 * h.data)


def test_backward_gives_computed_inputs_their_grad_and_no_other():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    h = x * w
    (h * h).sum().backward(inputs=[h])
    np.testing.assert_allclose(h.grad.data, 2 * h.data)
    assert x.grad is None and w.grad is None


def test_backward_counts_an_input_that_is_named_twice_once():
    x = leaf([1.0, 2.0])
    (x * 3).sum().backward(inputs=[x, x])
    np.testing.assert_array_equal(x.grad.data, [3, 3])


def test_grad_answers_an_input_that_is_named_twice_twice():
    x = leaf([1.0, 2.0])
    first, second = tg.grad((x * x).sum(), [x, x])
    np.testing.assert_array_equal(first.data, second.data)
    assert not np.shares_memory(first.data, second.data)


@pytest.mark.parametrize("create_graph", [False, True])
def test_inputs_that_are_one_output_of_several(create_graph):
    x = leaf([1.0, 2.0, 3.0])
    a, b, c = ops.unstack(x * x)
    y = a * b * b
    a_bar, b_bar, x_bar, c_bar = tg.grad(y, [a, b, x, c], create_graph=create_graph, allow_unused=True)
    assert c_bar is None
    assert (a_bar.item(), b_bar.item()) == (16.0, 8.0)
    np.testing.assert_allclose(x_bar.data, [16 * 2, 8 * 4, 0])


def test_parts_of_a_split_used_in_other_order_and_twice():
    x = leaf(np.arange(6.0))
    a, b, c = ops.split(x, 3)
    y = (c * 3).sum() + (a * a).sum() + (c * a).sum()
    y.backward()
    np.testing.assert_allclose(x.grad.data, [4, 2 * 1 + 5, 0, 0, 3 + 0, 3 + 1])
    assert b.grad is None


def test_second_derivative_through_several_outputs():
    x = leaf([0.5, -1.0])
    e, s = exp_and_square(x)
    (first,) = tg.grad((e * s).sum(), x, create_graph=True)
    (second,) = tg.grad(first.sum(), x)
    at = x.data
    np.testing.assert_allclose(first.data, np.exp(at) * (at**2 + 2 * at), rtol=1e-12)
    np.testing.assert_allclose(second.data, np.exp(at) * (at**2 + 4 * at + 2), rtol=1e-12)


@pytest.mark.parametrize("part", [0, 1])
def test_a_rule_of_several_outputs_gets_none_for_what_was_not_used(part):
    x = leaf([0.5, -1.0])
    exp_and_square(x)[part].sum().backward()
    np.testing.assert_allclose(x.grad.data, [np.exp(x.data), 2 * x.data][part])


@pytest.mark.parametrize("join", [ops.stack, ops.concatenate, lambda xs: sum_of_squares(*xs)])
def test_second_derivative_through_a_primitive_over_a_list(join):
    a, b = leaf([0.5, -1.0]), leaf([2.0, 0.3])
    y = (join([a * a, b, a * a]) ** 2).sum()
    a_bar, b_bar = tg.grad(y, [a, b], create_graph=True)
    (second,) = tg.grad((a_bar * a_bar).sum() + b_bar.sum(), a)

    def numerically(at):
        a = leaf(at)
        a_bar, b_bar = tg.grad((join([a * a, b, a * a]) ** 2).sum(), [a, b])
        return ((a_bar * a_bar).sum() + b_bar.sum()).item()

    for k, step in enumerate(np.eye(2) * 1e-5):
        slope = (numerically(a.data + step) - numerically(a.data - step)) / 2e-5
        assert second.data[k] == pytest.approx(slope, rel=1e-6)


def test_unused_inputs():
    x, w = leaf(), leaf([1.0], name="weight")
    y = (x * x).sum()
    with pytest.raises(ValueError, match=r"inputs.*number 1.*\(1,\).*weight"):
        tg.grad(y, [x, w])
    x_bar, w_bar = tg.grad(y, [x, w], allow_unused=True)
    assert w_bar is None
    np.testing.assert_array_equal(x_bar.data, 2 * x.data)


def test_an_unused_input_is_refused_before_anything_has_changed():
    x, w = leaf(), leaf()
    y = (x * x).sum()
    with pytest.raises(ValueError, match="number 0"):
        y.backward(inputs=[w, x])
    assert x.grad is None and w.grad is None
    y.backward()  # the graph is still there
    np.testing.assert_array_equal(x.grad.data, 2 * x.data)


def test_leaves_without_requires_grad_get_none_and_cost_no_rule():
    double, calls = doubler()
    x, constant = leaf(), tg.Tensor([1.0, 1.0, 1.0])
    y = (x * double(constant)).sum()
    y.backward()
    assert constant.grad is None and calls == []
    with pytest.raises(ValueError, match=r"inputs.*requires_grad"):
        tg.grad((x * constant).sum(), constant)


# What runs, and what is freed ------------------------------------------------------------------------


def test_rules_run_only_for_inputs_that_need_a_gradient():
    ran = []

    @tg.primitive
    def product(a, b):
        return a * b

    product.vjp("a", lambda g, b: ran.append("a") or g * b)
    product.vjp("b", lambda g, a: ran.append("b") or g * a)
    x, constant = leaf(), np.ones(3)
    product(x, constant).sum().backward()
    assert ran == ["a"]
    product(tg.Tensor(constant), x).sum().backward()
    assert ran == ["a", "b"]
    product(x, x).sum().backward()
    assert sorted(ran) == ["a", "a", "b", "b"]


@pytest.mark.parametrize("how", ["grad", "backward"])
def test_rules_that_lead_nowhere_wanted_do_not_run(how):
    double, calls = doubler()
    x, w = leaf(), leaf()
    h = ops.exp(x)
    y = (double(w) * h + double(ops.tanh(w))).sum()
    if how == "grad":
        tg.grad(y, [x], retain_graph=True)
        tg.grad(y, [h], retain_graph=True)
    else:
        y.backward(inputs=[x], retain_graph=True)
        y.backward(inputs=[h], retain_graph=True)
    assert calls == []
    tg.grad(y, [w])
    assert len(calls) == 2


def test_what_is_below_a_wanted_tensor_does_not_run():
    double, calls = doubler()
    x = leaf()
    h = double(x)
    tg.grad((h * h).sum(), [h])
    assert calls == []


def test_a_pruned_pass_frees_only_what_it_used():
    x, w = leaf(), leaf()
    h = x * x
    (h_bar,) = tg.grad((h * 3).sum(), [h])
    h.backward(h_bar)  # the chain rule by hand: nothing below h had run
    np.testing.assert_array_equal(x.grad.data, 6 * x.data)

    other = (w * w).sum()
    tg.grad([(x * x).sum(), other], [x])
    other.backward()
    np.testing.assert_array_equal(w.grad.data, 2 * w.data)


def test_a_freed_graph_is_refused_and_no_grad_changes():
    x, w = leaf(), leaf()
    shared = x * x
    first, second = (shared * w).sum(), (shared + w).sum()
    first.backward()
    before = x.grad, w.grad, x.grad.data.copy(), w.grad.data.copy()
    for use in (second.backward, lambda: second.backward(create_graph=True), lambda: tg.grad(second, x)):
        with pytest.raises(RuntimeError, match=r"freed.*retain_graph=True") as caught:
            use()
        assert __file__ in str(caught.value)
        assert x.grad is before[0] and w.grad is before[1]
        np.testing.assert_array_equal(x.grad.data, before[2])
        np.testing.assert_array_equal(w.grad.data, before[3])


def test_create_graph_keeps_the_graph():
    x = leaf()
    y = (x**3).sum()
    y.backward(create_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad.data, 6 * x.data**2)

    (first,) = tg.grad((x**3).sum(), x, create_graph=True, retain_graph=False)  # "kept where either is true"
    np.testing.assert_allclose(tg.grad(first.sum(), x)[0].data, 6 * x.data)


def test_gradients_have_a_history_only_under_create_graph():
    x = leaf()
    (x**3).sum().backward()
    assert not x.grad.requires_grad
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    (x**3).sum().backward()
    assert not x.grad.requires_grad
    assert not tg.grad((x**3).sum(), x)[0].requires_grad


def test_a_gradient_given_with_history_is_differentiated():
    x, v = leaf(), leaf([0.5, 1.0, -2.0])
    (first,) = tg.grad(x * x, x, v, create_graph=True)
    (v_bar,) = tg.grad(first.sum(), v)
    np.testing.assert_allclose(v_bar.data, 2 * x.data)


def test_a_failing_rule_leaves_every_grad_alone():
    @tg.primitive
    def broken(x):
        return x * 1

    broken.vjp("x", lambda g: 1 / 0)
    x, w = leaf(), leaf()
    y = (broken(x) * w).sum()
    with pytest.raises(RuntimeError, match="division by zero"):
        y.backward()
    assert x.grad is None and w.grad is None
    assert (x * 2).requires_grad  # and recording goes on


# What is kept ----------------------------------------------------------------------------------------


def test_addition_keeps_nothing(refcounts_only):
    x = leaf()
    a, b = x * 2.0, x * 3.0
    arrays = [weakref.ref(a.data), weakref.ref(b.data)]
    y = a + b - a
    del a, b
    assert [array() for array in arrays] == [None, None]
    assert y.requires_grad


def test_a_product_with_a_constant_keeps_only_the_constant(refcounts_only):
    x, constant = leaf(), np.array([1.0, 2.0, 3.0])
    a = x + 1.0
    kept, dropped = weakref.ref(constant), weakref.ref(a.data)
    y = a * constant
    del a, constant
    assert kept() is not None and dropped() is None
    y.backward(np.ones(3))
    assert kept() is None  # though y is still here
    np.testing.assert_array_equal(x.grad.data, [1, 2, 3])


def test_tanh_keeps_only_its_output(refcounts_only):
    x = leaf()
    a = x + 1.0
    t = ops.tanh(a)
    dropped, kept = weakref.ref(a.data), weakref.ref(t.data)
    y = t + 1.0
    del a, t
    assert dropped() is None and kept() is not None
    y.backward(np.ones(3))
    assert kept() is None


def test_a_layer_on_constant_input_does_not_keep_its_weight(refcounts_only):
    images, weight = np.ones((4, 3)), leaf(np.ones((3, 2)))
    w = weight + 0.0
    kept, dropped = weakref.ref(images), weakref.ref(w.data)
    y = ops.matmul(images, w)
    del images, w
    assert kept() is not None and dropped() is None
    assert y.requires_grad


def test_static_arguments_go_with_the_graph(refcounts_only):
    x, index = leaf(), np.array([0, 2])
    kept = weakref.ref(index)
    y = x[index]
    del index
    y.backward(np.ones(2))
    assert kept() is None


def test_tensors_die_with_their_last_name(refcounts_only):
    x = leaf()
    a = ops.tanh(x * 2.0)
    tensor = weakref.ref(a)
    y = (a * a).sum()
    del a
    assert tensor() is None
    leaf_reference = weakref.ref(x)
    del x
    assert leaf_reference() is None
    y.backward()


def test_without_a_gradient_needed_nothing_is_recorded(refcounts_only):
    constant = tg.Tensor([1.0, 2.0])
    before = sum(type(thing) is Node for thing in gc.get_objects())
    y = ops.exp(constant * 2.0).sum()
    with tg.no_grad():
        z = leaf() * 2.0
    assert sum(type(thing) is Node for thing in gc.get_objects()) == before
    assert not y.requires_grad and not z.requires_grad


def test_the_graph_is_freed_while_backward_goes_through_it(refcounts_only):
    arrays, alive = [], []

    @tg.primitive
    def step(x):
        return x + 1.0

    @step.vjp("x")
    def _(g, out):
        alive.append(sum(array() is not None for array in arrays))
        return g

    n = 20
    y = leaf()
    for _ in range(n):
        y = step(y)
        arrays.append(weakref.ref(y.data))
    y = y.sum()
    y.backward(retain_graph=True)
    assert alive == [n] * n
    alive.clear()
    y.backward()
    assert alive == list(range(n, 0, -1))


@pytest.mark.parametrize("kind", ["backward", "create_graph", "several", "error"])
def test_no_reference_cycles(kind):
    def work():
        x = leaf()
        y = (ops.stack(ops.unstack(ops.tanh(x) * x)) ** 2).sum()
        if kind == "backward":
            y.backward()
        elif kind == "create_graph":
            y.backward(create_graph=True)
            (x.grad * x.grad).sum().backward()
        elif kind == "several":
            tg.grad([y, exp_and_square(x)[0].sum()], [x], create_graph=True)
        else:
            with pytest.raises(ValueError):
                x.backward()

    work()
    gc.collect()
    gc.disable()
    try:
        work()
        left = sum(type(thing) in (Node, tg.Tensor, autodiff.Leaf) for thing in gc.get_objects())
        gc.collect()
        kept = sum(type(thing) in (Node, tg.Tensor, autodiff.Leaf) for thing in gc.get_objects())
        assert left == kept
    finally:
        gc.enable()


@pytest.mark.parametrize("activation", [ops.tanh, ops.relu])
def test_peak_memory_is_one_activation_for_each_layer(activation):
    batch, width = 4096, 32
    unit = batch * width * 4
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, width)).astype("float32")

    def peak(depth):
        weights = [
            tg.Tensor(rng.normal(size=(width, width)).astype("float32") / 8, True) for _ in range(depth)
        ]
        biases = [tg.Tensor(np.zeros(width, "float32"), True) for _ in range(depth)]
        tracemalloc.start()
        h = x
        for weight, bias in zip(weights, biases):
            h = activation(ops.linear(h, weight, bias))
        (h * h).mean().backward()
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top / unit

    peak(2)
    shallow, deep = peak(8), peak(24)
    assert shallow < 8 + 6
    assert deep - shallow < 16 + 1  # one activation a layer


# Long and wide graphs ----------------------------------------------------------------------------------


def test_a_chain_of_100000_operations():
    x = y = leaf(1.0)
    for _ in range(50_000):
        y = (y + 1.0) * 0.5
    y.backward()
    assert x.grad.item() == 0.5**50_000
    assert y.item() == pytest.approx(1.0)


def test_a_chain_of_20000_operations_twice():
    x = y = leaf(1.0)
    for _ in range(10_000):
        y = y * x
    (first,) = tg.grad(y, x, create_graph=True)
    (second,) = tg.grad(first, x)
    assert first.item() == pytest.approx(10_001)
    assert second.item() == pytest.approx(10_001 * 10_000)


@pytest.mark.parametrize(
    "operations", [100_000, pytest.param(1_000_000, marks=pytest.mark.thorough)], ids=["100000", "1000000"]
)
def test_long_graphs_are_freed_without_recursion(operations):
    y = leaf(1.0)
    for _ in range(operations):
        y = y + 1.0
    before = sum(type(thing) is Node for thing in gc.get_objects())
    del y
    after = sum(type(thing) is Node for thing in gc.get_objects())
    assert before - after >= operations


def test_a_long_chain_through_several_outputs_is_freed_without_recursion():
    x = y = leaf([[1.0]])
    for _ in range(30_000):
        (y,) = ops.split(y, 1)
    y.backward()
    assert x.grad.item() == 1.0
    for _ in range(30_000):
        (y,) = ops.split(y, 1)


def added(x, n):
    total = 0.0
    for branch in [x * float(k % 7) for k in range(n)]:
        total = total + branch
    return total


def stacked(x, n):
    return ops.stack([x * float(k % 7) for k in range(n)]).sum()


def concatenated(x, n):
    return ops.concatenate([ops.reshape(x * float(k % 7), 1) for k in range(n)]).sum()


def unstacked(x, n):
    total = 0.0
    for k, part in enumerate(ops.unstack(ops.broadcast_to(x, (n,)))):
        total = total + part * float(k % 7)
    return total


WIDE = [added, stacked, concatenated, unstacked]


@pytest.mark.parametrize("wide", WIDE)
def test_20000_branches_into_one_sum(wide):
    x = leaf(2.0)
    y = wide(x, 20_000)
    expected = sum(k % 7 for k in range(20_000))
    assert y.item() == 2.0 * expected
    assert len(nodes(y)) < 4 * 20_000
    y.backward()
    assert x.grad.item() == expected


@pytest.mark.parametrize("wide", WIDE)
def test_wide_graphs_take_linear_time_and_memory(wide):
    def cost(n):
        x = leaf(2.0)
        tracemalloc.start()
        wide(x, n).backward()
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        seconds = []
        for _ in range(2):
            start = time.process_time()
            wide(x, n).backward()
            seconds.append(time.process_time() - start)
        return memory, min(seconds)

    gc.collect()
    gc.disable()
    try:
        (memory, seconds), (more_memory, more_seconds) = cost(2_000), cost(8_000)
    finally:
        gc.enable()
    assert more_memory < 5 * memory
    assert more_seconds < 10 * seconds  # 4 if linear, 16 if quadratic


def test_rules_are_called_once_for_each_branch():
    double, calls = doubler()
    x = leaf(1.0)
    ops.stack([double(x) for _ in range(500)]).sum().backward()
    assert len(calls) == 500 and x.grad.item() == 1000.0


# Whose memory is a gradient's --------------------------------------------------------------------------

PAIRS = {
    "p + q": lambda p, q: p + q,
    "p - q": lambda p, q: p - q,
    "p + q + p": lambda p, q: p + q + p,
    "reshaped": lambda p, q: (p.reshape(3, 2) + q.reshape(3, 2)).reshape(2, 3),
    "transposed": lambda p, q: (p.T + q.T).T,
    "flipped": lambda p, q: ops.flip(p) + ops.flip(q),
    "sliced": lambda p, q: p[:, :] + q[...],
    "stacked": lambda p, q: ops.stack([p, q])[0] + q,
    "concatenated": lambda p, q: ops.concatenate([p, q])[:2],
    "split": lambda p, q: ops.split(p, 2)[0] + q,
    "broadcast": lambda p, q: ops.broadcast_to(p, (2, 3)) + q,
    "expanded": lambda p, q: ops.squeeze(ops.expand_dims(p, 0) + ops.expand_dims(q, 0), 0),
    "cast": lambda p, q: p.astype("float64") + q,
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("given_as", ["array", "Tensor", "view"])
@pytest.mark.parametrize("pair", PAIRS)
def test_no_two_gradients_share_memory(pair, given_as, create_graph):
    p, q = leaf(np.ones((2, 3))), leaf(np.ones((2, 3)))
    y = PAIRS[pair](p, q)
    seed = np.full((2, *y.shape), 2.0)[0] if given_as == "view" else np.full(y.shape, 2.0)
    g = tg.Tensor(seed) if given_as == "Tensor" else seed
    y.backward(g, create_graph=create_graph)
    given_memory = g.data if given_as == "Tensor" else g
    arrays = [given_memory, p.grad.data, q.grad.data, p.data, q.data, y.data]
    for a, b in itertools.combinations(arrays[:3], 2):
        assert not np.shares_memory(a, b)
    for gradient in arrays[1:3]:
        assert not any(np.shares_memory(gradient, x) for x in arrays[3:])
        assert gradient.flags.owndata and gradient.flags.writeable
    p.grad.data[...] = -1.0  # what an optimizer may do
    assert not (q.grad.data == -1.0).any() and (given_memory == 2.0).all()


def test_gradients_of_sums_and_means_are_ordinary_arrays():
    x = leaf(np.ones((2, 3)))
    for y in (x.sum(), x.mean(), ops.broadcast_to(x, (4, 2, 3)).sum()):
        (gradient,) = tg.grad(y, x)
        assert gradient.data.flags.owndata and gradient.data.flags.writeable
        assert gradient.data.flags.c_contiguous and 0 not in gradient.data.strides


def test_gradients_of_leaf_and_computed_inputs_share_nothing():
    x = leaf()
    h = x + 1.0
    g = np.ones(3)
    gradients = [*tg.grad(h, [h, x, h], g), *tg.grad(x, [x, x], g)]
    arrays = [g, *(gradient.data for gradient in gradients)]
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))


def test_accumulating_does_not_write_into_what_was_handed_out():
    x = leaf()
    (x * 2).sum().backward()
    first = x.grad
    (x * 2).sum().backward()
    np.testing.assert_array_equal(first.data, [2, 2, 2])
    np.testing.assert_array_equal(x.grad.data, [4, 4, 4])


def test_backward_changes_no_input_and_no_given_gradient():
    x, w, g = leaf(), leaf([3.0, 1.0, -1.0]), np.array([1.0, 2.0, 3.0])
    before = [array.copy() for array in (x.data, w.data, g)]
    (ops.tanh(x * w) / w + x.sum()).backward(g)
    for array, old in zip((x.data, w.data, g), before):
        np.testing.assert_array_equal(array, old)


# Changes in place ----------------------------------------------------------------------------------

VIEWS = {
    "itself": lambda t: t,
    "reshape": lambda t: t.reshape(-1),
    "transpose": lambda t: t.T,
    "slice": lambda t: t[1:],
    "detach": lambda t: t.detach(),
    "split": lambda t: ops.split(t, 2)[1],
    "unstack": lambda t: ops.unstack(t)[0],
}


def assert_refused(y, x, *words):
    before = x.grad
    for use in (
        lambda: y.backward(retain_graph=True),
        lambda: y.backward(create_graph=True),
        lambda: tg.grad(y, x, retain_graph=True),
        lambda: y.backward(),
    ):
        with pytest.raises(RuntimeError, match="changed in place") as caught:
            use()
        assert all(word in str(caught.value) for word in words)
        assert x.grad is before


def test_a_changed_value_that_backward_needs_is_refused():
    x = leaf(np.ones((2, 2)))
    y, here = (x * x).sum(), line()
    x.data = np.zeros((2, 2))
    assert_refused(y, x, "multiply", f"{__file__}:{here}")


@pytest.mark.parametrize("used", VIEWS)
@pytest.mark.parametrize("changed", VIEWS)
def test_a_change_through_any_view_is_refused(used, changed):
    x = leaf(np.arange(1.0, 5.0).reshape(2, 2))
    before = VIEWS[used](x)
    view = VIEWS[changed](x)
    factor = leaf(np.ones(before.shape))
    y = (before.detach() * factor).sum()  # the rule of factor needs the view of x
    view.data = -view.data
    if np.shares_memory(before.data, view.data):
        assert_refused(y, factor)
    else:
        y.backward()


def test_a_changed_output_is_refused():
    x = leaf()
    t = ops.tanh(x)
    y = t.sum()
    t.data = np.zeros(3)
    assert_refused(y, x, "tanh")


def test_what_optimizers_report_is_noticed():
    buffer = np.ones(6)
    p, q = on_memory(buffer[:3]), on_memory(buffer[3:])
    first, second = (p * p).sum(), (q * q).sum()
    buffer[:3] -= 0.5
    note_change(buffer[:3])
    assert_refused(first, p)
    second.backward()  # the neighbour in the same buffer did not change
    np.testing.assert_array_equal(q.grad.data, [2, 2, 2])
    third = (q * q).sum()
    buffer += 1.0
    note_change(buffer)
    assert_refused(third, q)


def test_changes_of_foreign_memory_are_noticed_in_every_array_over_it():
    buffer = np.ones(3)
    mine, foreign = on_memory(buffer), np.frombuffer(memoryview(buffer))
    for held, changed in [(mine.data, foreign), (foreign, buffer), (foreign, np.frombuffer(buffer))]:
        factor = leaf(np.ones(3))
        y = (held * factor).sum()
        note_change(changed)
        assert_refused(y, factor)
    y = (mine * leaf()).sum()
    note_change(np.frombuffer(bytearray(24)))
    y.backward()


def test_what_no_rule_needs_may_change():
    x, w = leaf(), leaf()
    y = (x + w - x.reshape(3) * 2.0).sum()
    x.data = np.zeros(3)
    w.data = np.zeros(3)
    y.backward()
    np.testing.assert_array_equal(x.grad.data, [-1, -1, -1])
    y = ops.tanh(x).sum()  # needs its output alone
    x.data = np.ones(3)
    y.backward()


def test_what_only_a_pruned_rule_needs_may_change():
    x, w = leaf(), leaf([2.0, 2.0, 2.0])
    y = (x * w).sum()
    x.data = np.zeros(3)
    (x_bar,) = tg.grad(y, x, retain_graph=True)
    np.testing.assert_array_equal(x_bar.data, [2, 2, 2])
    with pytest.raises(RuntimeError, match="changed in place"):
        tg.grad(y, w)


def test_a_change_before_the_forward_pass_is_no_fault():
    x = leaf()
    x.data = [2.0, 2.0, 2.0]
    note_change(x.data)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(x.grad.data, [8, 8, 8])


def test_a_change_between_first_and_second_derivative_is_refused():
    x = leaf()
    (first,) = tg.grad((x * x * x).sum(), x, create_graph=True)
    x.data = np.ones(3)
    with pytest.raises(RuntimeError, match="changed in place"):
        tg.grad(first.sum(), x)


def test_a_change_that_a_rule_over_a_list_needs_is_refused():
    x, w = leaf(), leaf()
    y = sum_of_squares(x, w).sum()
    x.data = np.zeros(3)
    assert_refused(y, w, "sum_of_squares")


def test_a_change_of_one_of_several_outputs_is_refused():
    x = leaf()
    e, _ = exp_and_square(x)
    y = e.sum()
    e.data = np.zeros(3)
    assert_refused(y, x, "exp_and_square")


@pytest.mark.parametrize("form", ["alone", "in a tuple"])
def test_a_changed_index_is_refused(form):
    x, index = leaf(), tg.Tensor(np.array([0, 1]))
    y = (x[index] if form == "alone" else x[..., index]).sum()
    index.data = np.array([2, 2])
    assert_refused(y, x)


def test_changed_labels_are_refused():
    logits, labels = leaf(np.eye(3)), tg.Tensor(np.array([0, 1, 2]))
    y = ops.categorical_cross_entropy(logits, labels).sum()
    labels.data = np.array([2, 2, 2])
    assert_refused(y, logits)


def test_memory_that_is_used_again_gives_no_false_alarm():
    noted = len(autodiff._changes)
    x = leaf(np.ones(1000))
    for _ in range(50):
        y = (x * (x + 1.0)).sum()
        scratch = tg.Tensor(np.ones(1000))
        scratch.data = np.zeros(1000)
        del scratch
        z = ops.tanh(x * 3.0) * x
        y.backward()
        z.sum().backward()
    assert len(autodiff._changes) <= noted + 1  # and freed memory is forgotten


def test_the_data_setter():
    x = leaf()
    array = x.data
    values = np.array([4.0, 5.0, 6.0])
    x.data = values
    assert x.data is array
    values[0] = 0.0
    np.testing.assert_array_equal(x.data, [4, 5, 6])
    x.data = [7, 8, 9]
    assert x.dtype == np.float64
    x.data = x.data[::-1]
    np.testing.assert_array_equal(x.data, [9, 8, 7])
    for wrong in ([1.0, 2.0], 1.0, np.ones((1, 3)), np.ones((3, 1))):
        with pytest.raises(ValueError, match=r"data: expected shape \(3,\)"):
            x.data = wrong
    np.testing.assert_array_equal(x.data, [9, 8, 7])


def test_the_data_setter_loses_no_fraction():
    count = tg.Tensor(np.array([1, 2]))
    with pytest.raises(TypeError, match="data"):
        count.data = [1.5, 2.5]
    np.testing.assert_array_equal(count.data, [1, 2])


# Numbers -----------------------------------------------------------------------------------------------

NUMBERS = [2, 2.0, True, math.pi, np.float64(2), np.float32(2), np.float16(2), np.int64(2), np.int32(2)]
NUMBERS += [np.uint8(2), np.bool_(True)]
BINARY = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "**": lambda a, b: a**b,
}


@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: f"{type(n).__name__} {n}")
@pytest.mark.parametrize("operator", BINARY)
def test_float32_stays_float32_with_numbers(operator, number):
    for shape in ((), (3,)):
        for order in (1, -1):
            x = leaf(np.full(shape, 1.5), "float32")
            y = BINARY[operator](*(x, number)[::order])
            assert type(y) is tg.Tensor and y.dtype == np.float32
            x_bar, y_bar = tg.grad(y.sum(), [x, y], create_graph=True)
            assert x_bar.dtype == y_bar.dtype == np.float32
            x_bar.sum().requires_grad and tg.grad(x_bar.sum(), x, allow_unused=True)


@pytest.mark.parametrize("a_dtype", ["float16", "float32", "float64", "int64", "uint8", "bool"])
@pytest.mark.parametrize("x_dtype", ["float16", "float32", "float64"])
def test_mixed_dtypes_promote_as_in_numpy_and_gradients_keep_their_inputs(x_dtype, a_dtype):
    x, a = leaf([1.0, 2.0], x_dtype), np.array([1, 1], a_dtype)
    for y in (x * a, a * x, x * tg.Tensor(a)):
        assert y.dtype == (x.data * a).dtype
        y.sum().backward()
        assert x.grad.dtype == x.dtype
    if a_dtype.startswith("float"):
        other = leaf([1.0, 1.0], a_dtype)
        x_bar, a_bar = tg.grad((x * other).sum(), [x, other])
        assert (x_bar.dtype, a_bar.dtype) == (x.dtype, other.dtype)


def test_a_gradient_of_another_dtype_is_cast():
    x = leaf(dtype="float32")
    (x * 1).backward(np.array([1, 2, 3]))
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad.data, [1, 2, 3])
    (x_bar,) = tg.grad(x * 1, x, [[1.0, 2.0, 3.0]])
    assert x_bar.dtype == np.float32


TO_ONE_ELEMENT = {
    "getitem": lambda x: x[1],
    "unstack": lambda x: ops.unstack(x)[1],
    "split": lambda x: ops.reshape(ops.split(x, 3)[1], ()),
    "stack": lambda x: ops.stack([x[1], x[2]])[0],
    "concatenate": lambda x: ops.concatenate([x, x])[1],
    "sum": lambda x: x.sum(),
    "mean": lambda x: x.mean(),
    "var": lambda x: x.var(),
    "std": lambda x: x.std(),
    "max": lambda x: x.max(),
    "prod": lambda x: x.prod(),
    "norm": lambda x: ops.norm(x),
    "logsumexp": lambda x: ops.logsumexp(x),
    "matmul": lambda x: x @ x,
    "cumsum": lambda x: ops.cumsum(x)[1],
    "pad": lambda x: ops.pad(x, 1)[2],
    "repeat": lambda x: ops.repeat(x, 2)[3],
    "take_along_axis": lambda x: ops.take_along_axis(x, np.array([1, 1]), 0).sum(),
    "broadcast_to": lambda x: ops.broadcast_to(x[1], (2,)).sum(),
    "where": lambda x: ops.where(np.array(True), x[1], x[2]),
    "slogdet": lambda x: ops.slogdet(x[1] * np.eye(2, dtype=x.dtype))[1],
    "cross entropy": lambda x: ops.categorical_cross_entropy(x, np.array(1)),
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("to_one", TO_ONE_ELEMENT)
def test_gradients_of_one_element_are_arrays_in_every_rule(to_one, dtype):
    """NumPy makes scalars of 0-d results; rules must not meet them as something else than an array."""
    if dtype == "float16" and to_one == "slogdet":
        pytest.skip("NumPy has no determinant of float16")
    x = leaf(dtype=dtype)
    y = ops.tanh(TO_ONE_ELEMENT[to_one](x) * 0.5 + 0.25)
    assert y.shape == () and y.dtype == dtype
    (plain,) = tg.grad(y, x, retain_graph=True)
    (first,) = tg.grad(y, x, create_graph=True)
    (second,) = tg.grad((first * first).sum(), x)
    np.testing.assert_allclose(plain.data, first.data, rtol=1e-2 if dtype == "float16" else 1e-6)
    assert plain.dtype == first.dtype == second.dtype == dtype
    assert plain.shape == first.shape == second.shape == (3,)


@pytest.mark.parametrize("number", [np.float64(2.0), np.float32(2.0), np.array(2.0)], ids=repr)
def test_operations_take_numpys_scalars_as_raw_arrays(number):
    assert ops.reshape(number, (1, 1)).shape == (1, 1)
    assert ops.broadcast_to(number, (2,)).shape == (2,)
    assert ops.sum(number) == 2.0
    assert ops.stack([number, number]).shape == (2,)


def test_0d_and_empty_arrays():
    x = leaf(3.0, "float32")
    y = x * x
    assert type(y.data) is np.ndarray and y.shape == () and y.dtype == np.float32
    y.backward()
    assert type(x.grad.data) is np.ndarray and x.grad.item() == 6.0
    empty = leaf(np.zeros((0, 3)))
    (empty * empty).sum().backward()
    assert empty.grad.shape == (0, 3)
    (empty @ leaf(np.ones((3, 2)))).sum().backward()
    assert ops.tanh(empty).shape == (0, 3)


# Tensors -----------------------------------------------------------------------------------------------


def test_tensors_copy_what_they_are_given():
    array = np.array([1.0, 2.0])
    t = tg.Tensor(array)
    array[0] = 9.0
    np.testing.assert_array_equal(t.data, [1, 2])
    other = tg.Tensor(t)
    t.data = [5.0, 5.0]
    np.testing.assert_array_equal(other.data, [1, 2])
    host = t.numpy()
    host[0] = 0.0
    np.testing.assert_array_equal(t.data, [5, 5])


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1, "float32"),
        (1.5, "float32"),
        ([1, 2], "float32"),
        ([[1.0], [2.0]], "float32"),
        ((1, 2.5), "float32"),
        (range(3), "float32"),
        ([], "float32"),
        (True, "bool"),
        ([True, False], "bool"),
        (np.float64(1), "float64"),
        (np.int32(1), "int32"),
        (np.zeros(2, "float16"), "float16"),
        (np.zeros(2, "float64"), "float64"),
        (np.zeros(2, "int64"), "int64"),
        (np.zeros(2, "uint8"), "uint8"),
    ],
    ids=repr,
)
def test_dtypes_of_new_tensors(data, dtype):
    assert tg.Tensor(data).dtype == dtype


@pytest.mark.parametrize(
    "data", [1j, [1j], np.array([1j]), "text", ["a"], None, [None], {}, object(), np.array([object()])]
)
def test_what_is_no_number_is_refused(data, device):
    with pytest.raises(TypeError, match="data: expected numbers"):
        tg.Tensor(data)


def test_ragged_lists_and_lists_of_tensors_are_refused():
    with pytest.raises(ValueError, match=r"data|inhomogeneous"):
        tg.Tensor([[1.0], [1.0, 2.0]])
    with pytest.raises(TypeError, match="Tensor"):
        tg.Tensor([tg.Tensor(1.0), tg.Tensor(2.0)])


@pytest.mark.parametrize("data", [np.array([1, 2]), np.array([True]), True], ids=repr)
def test_only_floats_can_require_gradients(data):
    with pytest.raises(TypeError, match=r"requires_grad: expected a floating dtype, got (int64|bool)"):
        tg.Tensor(data, requires_grad=True)
    t = tg.Tensor(data)
    with pytest.raises(TypeError, match="requires_grad"):
        t.requires_grad = True
    assert not t.requires_grad


def test_requires_grad_belongs_to_leaves():
    x = leaf()
    y = x * 2
    assert y.requires_grad
    for value in (True, False):
        with pytest.raises(ValueError, match=r"requires_grad.*detach"):
            y.requires_grad = value
    with pytest.raises(ValueError, match="detach"):
        y.to("cpu")
    d = y.detach()
    assert not d.requires_grad and d.data is y.data
    x.requires_grad = False
    assert not (x * 2).requires_grad


@pytest.mark.parametrize("between", [[True], [False, True]])
def test_setting_requires_grad_again_loses_no_gradient(between):
    x = leaf()
    y = x * x
    for value in between:
        x.requires_grad = value
    z = (y + 3 * x).sum()
    np.testing.assert_array_equal(tg.grad(z, x, retain_graph=True)[0].data, 2 * x.data + 3)
    z.backward()
    np.testing.assert_array_equal(x.grad.data, 2 * x.data + 3)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copied_leaf_has_gradients_of_its_own(copied):
    x = leaf(name="weight")
    twin = copied(x)
    (twin * 2).sum().backward()
    assert x.grad is None
    np.testing.assert_array_equal(twin.grad.data, [2, 2, 2])
    assert twin.name == "weight"


def test_no_item_assignment_and_no_new_attributes():
    t = tg.Tensor([1.0, 2.0])
    with pytest.raises(TypeError):
        t[0] = 5.0
    with pytest.raises(TypeError):
        del t[0]
    with pytest.raises(AttributeError):
        t.requires_gard = True


def test_operators_that_assign_make_new_tensors():
    x = leaf()
    y = x
    y += 1
    y *= 2
    y -= 1
    y /= 2
    assert y is not x
    np.testing.assert_array_equal(x.data, [1, 2, 3])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.data, [1, 1, 1])


def test_arrays_and_numpy_numbers_leave_operators_to_tensors():
    x, array = leaf([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]])
    for name, operator in {**BINARY, "@": lambda a, b: a @ b}.items():
        y = operator(array, x)
        assert type(y) is tg.Tensor and y.requires_grad, name
        np.testing.assert_allclose(y.data, operator(array, x.data))
    for number in (np.float32(2), np.float64(2), np.int64(2)):
        for operator in BINARY.values():
            y = operator(number, x)
            assert type(y) is tg.Tensor and y.requires_grad
            np.testing.assert_allclose(y.data, operator(2.0, x.data))


def test_tensors_do_not_turn_into_arrays_by_themselves():
    t = tg.Tensor([1.0, 2.0])
    for use in (np.asarray, np.array, np.exp, np.sum, lambda t: np.add(t, 1), lambda t: np.stack([t, t])):
        with pytest.raises(TypeError):
            use(t)
    with pytest.raises(TypeError, match=r"\.data or \.numpy\(\)"):
        np.asarray(t)


def test_comparisons_give_plain_boolean_arrays():
    a, b = leaf([1.0, 2.0, 3.0]), leaf([2.0, 2.0, 2.0])
    cases = {
        "==": (a == b, [False, True, False]),
        "!=": (a != 2.0, [True, False, True]),
        "<": (a < b, [True, False, False]),
        "<=": (a <= np.array([2.0, 2.0, 2.0]), [True, True, False]),
        ">": (2.0 > a, [True, False, False]),
        ">=": (np.array([2.0, 2.0, 2.0]) >= a, [True, True, False]),
        "np.float32": (np.float32(2) < a, [False, False, True]),
    }
    for name, (answer, expected) in cases.items():
        assert type(answer) is np.ndarray and answer.dtype == bool, name
        np.testing.assert_array_equal(answer, expected)


def test_tensors_are_hashed_by_identity():
    a, b = tg.Tensor([1.0]), tg.Tensor([1.0])
    table = {a: "a", b: "b"}
    assert (table[a], table[b], len({a, b, a})) == ("a", "b", 2)


def test_iteration_and_length():
    x = leaf([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert len(x) == 3
    rows = list(x)
    assert [row.shape for row in rows] == [(2,)] * 3
    first, *_ = x
    (rows[2] * first).sum().backward()
    np.testing.assert_array_equal(x.grad.data, [[5, 6], [0, 0], [1, 2]])
    for use in (len, list):
        with pytest.raises((TypeError, ValueError)):
            use(tg.Tensor(1.0))


def test_conversions_to_python_numbers():
    t = tg.Tensor(2.5)
    assert (float(t), int(t), bool(t), t.item()) == (2.5, 2, True, 2.5)
    assert not bool(tg.Tensor(0.0))
    assert tg.Tensor([[2.5]]).item() == 2.5 and type(tg.Tensor(np.array(3)).item()) is int
    for use in (float, int, bool, tg.Tensor.item):
        with pytest.raises((TypeError, ValueError)):
            use(tg.Tensor([1.0, 2.0]))


def test_repr_shows_values_name_and_requires_grad():
    assert repr(tg.Tensor([1.0, 2.5])) == "Tensor(array([1. , 2.5], dtype=float32))"
    shown = repr(leaf([1.0], name="weight"))
    assert "name='weight'" in shown and "requires_grad=True" in shown


def test_attributes():
    t = leaf(np.zeros((2, 3)))
    assert (t.shape, t.ndim, t.size, t.dtype, t.grad, t.name) == ((2, 3), 2, 6, np.float64, None, None)


# Recording or not --------------------------------------------------------------------------------------


def test_no_grad_as_block_and_decorator():
    x = leaf()
    with tg.no_grad():
        assert not (x * 2).requires_grad
        with tg.no_grad():
            pass
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad

    @tg.no_grad()
    def predict(t, *, factor):
        """Twice the input."""
        assert not (t * factor).requires_grad
        return t * factor

    assert predict.__name__ == "predict" and predict.__doc__ == "Twice the input."
    assert not predict(x, factor=2).requires_grad
    assert (x * 2).requires_grad


def test_no_grad_ends_with_an_exception():
    x = leaf()
    with pytest.raises(KeyError):
        with tg.no_grad():
            raise KeyError
    assert (x * 2).requires_grad

    @tg.no_grad()
    def fail():
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (x * 2).requires_grad


def test_one_no_grad_inside_itself():
    x, quiet = leaf(), tg.no_grad()
    before = autodiff._recording
    try:
        with quiet, quiet:
            pass
        assert (x * 2).requires_grad
    finally:
        autodiff._recording = before


def test_recursion_through_the_decorator():
    x = leaf()

    @tg.no_grad()
    def down(n):
        return x * n if n == 0 else down(n - 1)

    assert not down(5).requires_grad
    assert (x * 2).requires_grad


def test_create_graph_inside_no_grad_and_backward_inside_no_grad():
    x = leaf()
    y = (x**3).sum()
    with tg.no_grad():
        (first,) = tg.grad(y, x, create_graph=True)
        assert not (x * 2).requires_grad
    np.testing.assert_allclose(tg.grad(first.sum(), x)[0].data, 6 * x.data)


def test_computed_without_recording_there_is_nothing_to_go_back_through():
    with tg.no_grad():
        y = leaf().sum()
    with pytest.raises(RuntimeError, match=r"requires_grad=True.*no_grad"):
        y.backward()


# Primitives --------------------------------------------------------------------------------------------


def test_primitives_on_raw_arrays_give_raw_arrays_and_record_nothing(refcounts_only):
    before = sum(type(thing) is Node for thing in gc.get_objects())
    array = np.array([1.0, 2.0])
    for out in (scale(array), scale(array, factor=3.0), sum_of_squares(array, array), *exp_and_square(array)):
        assert type(out) is np.ndarray
    assert type(ops.exp(array)) is np.ndarray and type(ops.stack([array, array])) is np.ndarray
    assert sum(type(thing) is Node for thing in gc.get_objects()) == before


def test_a_raw_argument_beside_a_tensor_gives_a_tensor():
    assert type(sum_of_squares(np.ones(2), tg.Tensor([1.0, 1.0]))) is tg.Tensor
    assert type(ops.add(np.ones(2), tg.Tensor([1.0, 1.0]))) is tg.Tensor


def test_name_docstring_and_signature_survive():
    assert scale.__name__ == "scale" and scale.__doc__ == "factor * x."
    assert str(inspect.signature(scale)) == "(x, *, factor=2.0)"
    assert ops.tanh.__doc__ and "tanh" in ops.tanh.__name__


def test_users_primitives_are_not_in_the_registry():
    assert "scale" not in autodiff.registry and "multiply" in autodiff.registry
    assert all(p.primitive.forward.__module__.startswith("tinygen.") for p in autodiff.registry.values())


def test_static_arguments_reach_forward_and_rule():
    x = leaf()
    for y, factor in ((scale(x), 2.0), (scale(x, factor=5.0), 5.0)):
        np.testing.assert_array_equal(y.data, factor * x.data)
        np.testing.assert_array_equal(tg.grad(y.sum(), x)[0].data, [factor] * 3)


@pytest.mark.parametrize("x", [np.ones(3), tg.Tensor([1.0, 1.0, 1.0]), leaf()], ids=["raw", "plain", "leaf"])
@pytest.mark.parametrize("factor", [tg.Tensor(2.0), leaf(2.0)], ids=["plain", "leaf"])
def test_a_tensor_as_static_argument_is_refused(x, factor):
    with pytest.raises(TypeError, match=r"scale: factor is static"):
        scale(x, factor=factor)


def test_a_differentiable_parameter_passed_by_name_keeps_its_rule():
    @tg.primitive
    def reverse_gradient(x):
        return x * 1.0

    reverse_gradient.vjp("x", lambda g: -g)
    x = leaf()
    try:
        y = reverse_gradient(x=x)
    except TypeError as error:
        assert "reverse_gradient" in str(error) and "x" in str(error)
    else:
        np.testing.assert_array_equal(tg.grad(y.sum(), x)[0].data, [-1, -1, -1])
    with pytest.raises(TypeError, match="multiply"):
        ops.multiply(x, b=x)


def test_a_positional_default_keeps_its_rule():
    """Either no such primitive can be made, or its rules get what they ask for."""
    try:

        @tg.primitive
        def product(a, b=2.0):
            return a * b

    except TypeError as error:
        assert "product" in str(error) and "b" in str(error)
        return
    product.vjp("a", lambda g, b: g * b)
    product.vjp("b", lambda g, a: g * a)
    x = leaf()
    np.testing.assert_array_equal(tg.grad(product(x).sum(), x)[0].data, [2, 2, 2])


def test_x_shape_gives_the_shape_alone(refcounts_only):
    @tg.primitive
    def total(x, y):
        return x.sum() + y.sum()

    total.vjp("x", lambda g, x_shape: ops.broadcast_to(g, x_shape))
    total.vjp("y", lambda g, y_shape, x_shape: ops.broadcast_to(g * len(x_shape), y_shape))
    x, y = leaf(np.ones((2, 3))), leaf([1.0])
    h = x * 1.0
    array = weakref.ref(h.data)
    t = total(h, y)
    del h
    assert array() is None
    x_bar, y_bar = tg.grad(t, [x, y])
    np.testing.assert_array_equal(x_bar.data, np.ones((2, 3)))
    np.testing.assert_array_equal(y_bar.data, [2.0])
    assert total(x, 3.0 * tg.Tensor([1.0])).requires_grad


def test_vjp_is_a_decorator_and_returns_the_rule():
    @tg.primitive
    def same(x):
        return x + 0

    def rule(g):
        return g

    assert same.vjp("x", rule) is rule
    assert same.vjp("x", formula="x̄ = ȳ")(rule) is rule
    assert same.primitive.rules["x"].formula == "x̄ = ȳ"

    @tg.primitive
    def first(*xs):
        return xs[0] + 0

    assert first.vjp_each(formula="x̄₀ = ȳ")(rule) is rule


def test_a_rule_registered_anew_replaces_the_old_one():
    @tg.primitive
    def same(x):
        return x + 0

    x = leaf()
    same.vjp("x", lambda g: g)
    np.testing.assert_array_equal(tg.grad(same(x).sum(), x)[0].data, [1, 1, 1])
    same.vjp("x", lambda g, x, x_shape: g * x * len(x_shape))
    np.testing.assert_array_equal(tg.grad(same(x).sum(), x)[0].data, x.data)


def test_wrong_registrations_are_refused_by_name():
    def product(a, b, *, k=1):
        return a * b * k

    p = tg.primitive(product)
    with pytest.raises(TypeError, match=r"product.*'c'.*g, a, b, out, k"):
        p.vjp("a", lambda g, c: g)
    with pytest.raises(TypeError, match=r"product.*'a'.*must take g"):
        p.vjp("a", lambda b, g: g)
    with pytest.raises(TypeError, match=r"product.*must take g"):
        p.vjp("a", lambda: 1)
    with pytest.raises(TypeError, match=r"product.*a, b.*'k'"):
        p.vjp("k", lambda g: g)
    with pytest.raises(TypeError, match="product"):
        p.vjp("a", lambda g, i: g)
    with pytest.raises(TypeError, match="product"):
        p.vjp_each(lambda g, i: g)
    with pytest.raises(TypeError, match=r"joined.*vjp_each"):
        tg.primitive(joined).vjp("xs", lambda g: g)
    with pytest.raises(TypeError, match=r"joined.*'xs_shape'"):
        tg.primitive(joined).vjp_each(lambda g, xs_shape: g)
    with pytest.raises(TypeError, match=r"open_ended.*\*\*"):
        tg.primitive(open_ended)
    with pytest.raises(TypeError, match=r"mixed.*\*xs"):
        tg.primitive(mixed)


def joined(*xs):
    return sum(xs)


def open_ended(x, **options):
    return x


def mixed(x, *xs):
    return x


def test_a_missing_rule_is_named_with_its_input():
    @tg.primitive
    def half_done(a, b):
        return a * b

    half_done.vjp("a", lambda g, b: g * b)
    assert half_done(leaf(), np.ones(3)).requires_grad
    with pytest.raises(NotImplementedError, match=r"half_done.*'b'.*vjp"):
        half_done(np.ones(3), leaf()).sum().backward()
    with pytest.raises(NotImplementedError, match=r"joined.*'xs'.*vjp_each"):
        tg.primitive(joined)(leaf(), leaf()).sum().backward()
    with tg.no_grad():
        assert not half_done(np.ones(3), leaf()).requires_grad


def faulty(rule):
    """(a primitive with that rule, the line of the rule)"""

    def fragile(x):
        return x * 1.0

    made = tg.primitive(fragile)
    made.vjp("x", rule)
    return made


def raising(g):
    raise KeyError("lost")


RULES = {
    "wrong shape": (lambda g: g[:2], r"\(2,\).*\(3,\)"),
    "broadcastable shape": (lambda g: g[None], r"\(1, 3\).*\(3,\)"),
    "None": (lambda g: None, "None"),
    "a number": (lambda g: 2.0, "float"),
    "raises": (raising, "lost"),
    "partial": (functools.partial(lambda k, g: g[:2], 3), r"\(2,\)"),
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("fault", RULES)
def test_a_faulty_rule_is_named_with_its_place_and_the_calls(fault, create_graph):
    rule, words = RULES[fault]
    fragile = faulty(rule)
    y, here = fragile(leaf()), line()
    with pytest.raises(RuntimeError, match=words) as caught:
        y.backward(np.ones(3), create_graph=create_graph)
    message = str(caught.value)
    assert "fragile" in message and "'x'" in message and f"{__file__}:{here}" in message
    if hasattr(rule, "__code__"):
        assert f"{__file__}:{rule.__code__.co_firstlineno}" in message


def test_an_error_of_a_forward_function_names_primitive_and_shapes():
    a, b = leaf(np.ones((2, 3))), leaf(np.ones((4, 5)))
    for use, name in ((lambda: a + b, "add"), (lambda: a * b.data, "multiply"), (lambda: a @ b, "matmul")):
        with pytest.raises(ValueError) as caught:
            use()
        message = str(caught.value)
        assert name in message
        assert all(str(list(s)) in message or str(s) in message for s in ((2, 3), (4, 5)))

    @tg.primitive
    def picky(x):
        raise IndexError("no such element")

    with pytest.raises(IndexError, match=r"picky: no such element.*x float64\[2, 3\]"):
        picky(a)


def test_wrong_arguments_are_refused_by_name():
    x = leaf()
    for wrong in ("text", None, [1.0, 2.0, 3.0], 1j, {}):
        with pytest.raises(TypeError, match=r"multiply: b: expected a Tensor, a number"):
            ops.multiply(x, wrong)
    with pytest.raises(TypeError, match="scale"):
        scale(x, wrong_name=1)
    with pytest.raises(TypeError, match="tanh"):
        ops.tanh(x, x)
    with pytest.raises(TypeError, match="tanh"):
        ops.tanh(x, None)
    with pytest.raises(TypeError, match="add"):
        ops.add(x)


def test_complex_numbers_do_not_slip_in():
    x = leaf()
    for number in (1j, np.complex64(1j), np.array([1j, 1j, 1j])):
        with pytest.raises((TypeError, RuntimeError), match=r"complex|expected a Tensor, a number"):
            (x * number).sum().backward()


def test_arrays_of_numpys_subclasses_are_arrays(tmp_path):
    for dtype in ("float64", "int64"):
        stored = np.memmap(tmp_path / dtype, dtype, "w+", shape=(3,))
        stored[:] = [4, 5, 6]
        x = leaf()
        (x * stored[:]).sum().backward()
        np.testing.assert_array_equal(x.grad.data, [4, 5, 6])
        assert type((x * stored).data) is np.ndarray


def test_a_forward_function_that_returns_nothing_is_refused():
    @tg.primitive
    def forgetful(x):
        x * 2

    forgetful.vjp("x", lambda g: g)
    for x in (leaf(), tg.Tensor([1.0])):
        with pytest.raises(TypeError, match="forgetful"):
            forgetful(x)


# Where things happened -----------------------------------------------------------------------------------


def test_the_place_of_a_node_is_the_line_of_the_user():
    x = leaf(np.arange(1.0, 7.0).reshape(2, 3))
    calls = [
        (x * 2, line()),
        (2 - x, line()),
        (-x, line()),
        (x[0], line()),
        (x.T, line()),
        (x.sum(), line()),
        (x.reshape(3, 2), line()),
        (ops.exp(x), line()),
        (ops.stack([x, x]), line()),
        (scale(x), line()),
        (ops.unstack(x)[1], line()),
        (next(t + 1 for t in [x]), line()),
        ((lambda t: t / 2)(x), line()),
    ]
    for y, number in calls:
        (node,) = nodes(y)
        assert node.place == f"{__file__}:{number}"


def test_every_node_of_a_composite_has_the_line_of_the_user():
    x = leaf(np.arange(1.0, 7.0).reshape(2, 3))
    calls = [
        (ops.prod(x), line()),
        (ops.repeat(x, 2, 1), line()),
        (ops.categorical_cross_entropy(x, np.array([0, 2])), line()),
        (x @ x[0], line()),
        (next(iter(x)), line()),
    ]
    for y, number in calls:
        places = {node.place for node in nodes(y)}
        assert places == {f"{__file__}:{number}"}
    assert len(nodes(calls[0][0])) > 2


def test_nodes_of_a_recorded_backward_pass_have_the_line_that_started_it():
    x = leaf()
    y, forward = ops.tanh(x).sum(), line()
    (first,), backward = tg.grad(y, x, create_graph=True), line()
    assert {node.place for node in nodes(first)} == {f"{__file__}:{n}" for n in (forward, backward)}


# Bad input to backward and grad --------------------------------------------------------------------------


def test_an_output_of_several_elements_needs_a_gradient():
    x = leaf()
    with pytest.raises(ValueError, match=r"gradient.*\(3,\)"):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"gradient.*\(0,\)"):
        leaf([]).backward()
    (x * 2)[:1].backward()  # one element needs none
    np.testing.assert_array_equal(x.grad.data, [2, 0, 0])


@pytest.mark.parametrize("shape", [(), (1,), (1, 3), (3, 1), (2,)])
def test_a_gradient_of_another_shape_is_refused(shape):
    x = leaf()
    y = x * 2
    with pytest.raises(ValueError, match=r"gradient: expected the output's shape \(3,\), got"):
        y.backward(np.ones(shape))
    with pytest.raises(ValueError, match=r"expected the output's shape \(3,\), got"):
        tg.grad(y, x, tg.Tensor(np.ones(shape)))
    assert x.grad is None
    y.backward(np.ones(3))


def test_as_many_gradients_as_outputs():
    x = leaf()
    y, z = (x * 2).sum(), (x * 3).sum()
    for wrong in ([None], [None] * 3, np.float64(1), tg.Tensor(1.0)):
        with pytest.raises(ValueError, match=r"grad_outputs.*2.*got"):
            tg.grad([y, z], x, wrong)
    with pytest.raises((TypeError, ValueError), match="grad_outputs"):
        tg.grad([y, z], x, 1.0)


def test_arguments_that_are_no_tensors():
    x = leaf()
    y = (x * x).sum()
    for wrong in ([x.data], x.data, "x", 5, None):
        with pytest.raises(TypeError, match="inputs"):
            tg.grad(y, wrong)
        with pytest.raises(TypeError, match="outputs"):
            tg.grad(wrong, x)
    with pytest.raises(TypeError, match="inputs"):
        y.backward(inputs=[x, 1.0])
    y.backward()


def test_inputs_may_come_from_a_generator():
    x, w = leaf(), leaf()
    y = (x * w).sum()
    y.backward(inputs=(t for t in (x, w)), retain_graph=True)
    assert len(tg.grad(y, (t for t in (x, w)))) == 2


# Against PyTorch -------------------------------------------------------------------------------------------


def test_a_small_network_agrees_with_pytorch_to_second_order():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in ((5, 4), (4, 3), (3,), (3, 2))]

    def network(x, w, b, v, tanh, exp):
        return (exp(0.3 * tanh(x @ w + b) @ v) ** 2).sum()

    ours = [leaf(array) for array in arrays]
    first = tg.grad(network(*ours, ops.tanh, ops.exp), ours, create_graph=True)
    second = tg.grad(sum((g * g).sum() for g in first), ours)
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    firsts = torch.autograd.grad(network(*theirs, torch.tanh, torch.exp), theirs, create_graph=True)
    seconds = torch.autograd.grad(sum((g * g).sum() for g in firsts), theirs)
    for a, b in zip((*first, *second), (*firsts, *seconds)):
        np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=1e-10)
