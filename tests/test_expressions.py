"""The engine under random expressions: operations composed, values used again, several outputs, broadcast."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import find, given
from numpy.testing import assert_allclose, assert_array_equal

import tinygen as tg
from tinygen.backend import to_host, xp
from tinygen.gradients import check_gradients
from tinygen.gradients.strategies import STEPS, Expression, expressions


def leaves(expression):
    return [tg.Tensor(x, requires_grad=True) for x in expression.inputs]


def cotangents(outputs):
    return [xp.asarray(np.cos(np.arange(y.size)).reshape(y.shape)) for y in outputs]


@given(expression=expressions())
def test_derivatives_to_second_order(expression, device):
    check_gradients(expression, *expression.inputs, order=2)


@given(expressions(max_steps=4))
def test_derivatives_to_third_order(expression):
    check_gradients(expression, *expression.inputs, order=3)


@given(expression=expressions())
def test_recording_changes_no_value(expression, device):
    on_arrays = expression(*map(xp.asarray, expression.inputs))
    for recorded, raw in zip(expression(*leaves(expression)), on_arrays):
        assert_array_equal(recorded.numpy(), to_host(raw))


@given(expression=expressions())
def test_backward_gives_what_grad_gives(expression, device):
    xs = leaves(expression)
    ys = expression(*xs)
    cs = cotangents(ys)
    expected = tg.grad(ys, xs, cs, retain_graph=True, allow_unused=True)
    for y, c in zip(ys, cs):
        if y.requires_grad:
            y.backward(c, retain_graph=True)
    for x, x_bar in zip(xs, expected):
        assert (x.grad is None) == (x_bar is None)
        if x_bar is not None:
            assert_allclose(x.grad.numpy(), x_bar.numpy(), rtol=1e-12, atol=1e-12)


@given(expressions())
def test_float32_stays_float32(expression):
    xs = [tg.Tensor(x.astype("float32"), requires_grad=True) for x in expression.inputs]
    ys, exact = expression(*xs), expression(*leaves(expression))
    first = tg.grad(ys, xs, [c.astype("float32") for c in cotangents(ys)], allow_unused=True)
    assert {a.dtype for a in (*ys, *first) if a is not None} == {np.dtype("float32")}
    for y, z in zip(ys, exact):
        assert_allclose(y.data, z.data, rtol=1e-4, atol=1e-4)


def in_torch(torch):
    """The functions that STEPS names."""
    return SimpleNamespace(
        sin=torch.sin,
        tanh=torch.tanh,
        sigmoid=torch.sigmoid,
        exp=torch.exp,
        softmax=torch.softmax,
        unstack=torch.unbind,
        split=torch.tensor_split,
        concatenate=torch.concatenate,
    )


@given(expressions())
def test_against_torch(expression):
    torch = pytest.importorskip("torch", reason="compares derivatives with those of PyTorch")
    xs, us = leaves(expression), [torch.tensor(x, requires_grad=True) for x in expression.inputs]
    ys, vs = expression(*xs), expression(*us, ops=in_torch(torch))
    cs = cotangents(ys)
    first = tg.grad(ys, xs, cs, create_graph=True, allow_unused=True)
    expected = torch.autograd.grad(
        vs, us, [torch.tensor(c) for c in cs], create_graph=True, allow_unused=True
    )
    same(ys, vs)
    same(first, expected)
    used = [(g, e) for g, e in zip(first, expected) if g is not None and e.requires_grad]
    if used:
        first, expected = zip(*used)
        second = tg.grad(sum((g * g).sum() for g in first), xs, allow_unused=True)
        expected = torch.autograd.grad(sum((e * e).sum() for e in expected), us, allow_unused=True)
        same(second, expected)


def same(computed, expected):
    """Equal to rounding; where one says None, the other is None or zero."""
    for ours, theirs in zip(computed, expected):
        values = 0.0 if ours is None else ours.data
        exact = np.zeros(np.shape(values)) if theirs is None else theirs.detach().numpy()
        assert_allclose(values, exact, rtol=1e-9, atol=1e-11)


# The strategy itself ------------------------------------------------------------------------------------


def steps_of(expression, name):
    return [numbers for step, numbers in expression.steps if step == name]


@pytest.mark.parametrize("name", STEPS)
def test_every_step_is_drawn(name):
    assert find(expressions(), lambda expression: steps_of(expression, name))


@pytest.mark.parametrize(
    "wanted",
    [
        lambda e: len(e.outputs) == 2,
        lambda e: len({x.shape for x in e.inputs}) > 1,
        lambda e: any(x.ndim == 0 for x in e.inputs),
        # Fan-out of a computed value: two steps take it.
        lambda e: any(
            sum(k in numbers for _, numbers in e.steps) > 1
            for k in range(len(e.inputs), len(e.inputs) + len(e.steps))
        ),
        # One operand twice.
        lambda e: any(len(numbers) > len(set(numbers)) for _, numbers in e.steps),
    ],
)
def test_what_makes_graphs_hard_is_drawn(wanted):
    assert wanted(find(expressions(), wanted))


@given(expressions(max_steps=30))
def test_values_stay_small(expression):
    assert all(abs(value).max() <= 2 for value in expression.values(expression.inputs))


def test_an_expression_is_called_and_shown():
    x = np.array([1.0, -1.0])
    expression = Expression([x], [("unstack", (0,)), ("half_product", (1, 2))], [3])
    assert expression(x) == (-0.5,)
    assert repr(expression) == "Expression of [(2,)]: [('unstack', (0,)), ('half_product', (1, 2))] -> [3]"
