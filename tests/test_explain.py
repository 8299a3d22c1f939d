"""What explain says of a computation: every operation with its value and gradient, and what is suspicious."""

import inspect
import math
import unicodedata
import warnings

import numpy as np
import pytest
from hypothesis import given

import tinygen as tg
from tinygen import backend, nn, ops
from tinygen.autodiff import Node
from tinygen.backend import xp
from tinygen.gradients import explain
from tinygen.gradients.graph import Graph, node_of, numbers_of
from tinygen.gradients.strategies import expressions
from tinygen.nn.init import normal


def leaf(values, name=None, dtype="float32"):
    return tg.Tensor(np.asarray(values, dtype), requires_grad=True, name=name)


def data(*shape, dtype="float32"):
    return xp.asarray(np.random.default_rng(0).normal(size=shape).astype(dtype))


def line() -> int:
    return inspect.currentframe().f_back.f_lineno


def marks(explanation) -> list[tuple[str, str, str]]:
    """(label, primitive, mark) of all that is marked."""
    rows = explanation.leaves + explanation.rows
    return [(row.label, row.primitive, mark) for row in rows for mark in row.marks]


@tg.primitive
def scaled(x, *, factor):
    """factor * x, and a rule without a formula."""
    return factor * x


scaled.vjp("x", lambda g, factor: factor * g)


class Net(nn.Module):
    def __init__(self):
        self.first, self.second, self.unused = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(2, 2)

    def forward(self, x):
        return self.second(ops.tanh(self.first(x)))


# Rows ---------------------------------------------------------------------------------------------------


def test_a_row_for_every_operation_in_forward_order(device):
    x = leaf([[1, 2], [0, -4]], name="x")
    y = ops.exp(x * 0.5)
    loss, at = y.sum(), line()
    explanation = explain(loss)
    assert [(r.label, r.primitive) for r in explanation.rows] == [
        ("#1", "multiply"),
        ("#2", "exp"),
        ("#3", "sum"),
    ]
    first, second, third = explanation.rows
    assert (first.inputs, second.inputs, third.inputs) == (("x", "constant"), ("#1",), ("#2",))
    assert first.formulas == {"a": "ā = ȳ b"} and second.formulas == {"x": "x̄ = ȳ y"}
    assert third.place == f"{__file__}:{at}" and second.place == f"{__file__}:{at - 1}"
    assert second.shape == (2, 2) and second.dtype == "float32" and third.shape == ()
    values = np.exp([0.5, 1, 0, -2])
    assert second.value.mean == pytest.approx(values.mean()) and second.value.spread == pytest.approx(
        values.std()
    )
    assert second.value.norm == pytest.approx(np.linalg.norm(values)) and second.value.size == 4
    assert first.value.zeros == 0.25 and first.gradient.mean == pytest.approx(values.mean())
    (given,) = explanation.leaves
    assert given.label == "x" and given.gradient.mean == pytest.approx(values.mean() / 2)
    assert not marks(explanation)


def test_parameters_are_named_and_modules_have_paths(device):
    net = Net()
    explanation = explain(net(data(5, 3)).sum(), wrt=net)
    assert [row.label for row in explanation.leaves] == [name for name, _ in net.named_parameters()]
    assert [(row.primitive, row.module) for row in explanation.rows] == [
        ("linear", "first"),
        ("tanh", "Net"),
        ("linear", "second"),
        ("sum", ""),
    ]
    without = explain(net(data(5, 3)).sum())
    assert [row.module for row in without.rows] == ["Linear", "Net", "Linear", ""]
    assert [row.label for row in without.leaves] == ["leaf 1", "leaf 2", "leaf 3", "leaf 4"]


def test_parameters_without_gradient_are_told():
    net = Net()
    told = [row for row in explain(net(data(5, 3)).sum(), wrt=net).leaves if row.gradient is None]
    assert [row.label for row in told] == ["unused.weight", "unused.bias"]
    assert all(row.marks == ("no gradient: the loss does not depend on it",) for row in told)


def test_several_outputs_and_lists(device):
    x = leaf(np.arange(6.0).reshape(2, 3))
    a, b, c = ops.split(x, 3, axis=1)
    row, joined, _ = explain(ops.concatenate([a, c, a]).sum()).rows
    assert row.shape == ((2, 1),) * 3 and row.value.mean == pytest.approx(2.5)
    assert row.gradient.size == 4 and row.gradient.mean == pytest.approx(1.5)  # of a and c; b is not used
    assert joined.inputs == ("#1[0]", "#1[2]", "#1[0]") and list(joined.formulas) == ["xs"]
    explanation = explain((a * c).sum())
    np.testing.assert_array_equal(backend.to_host(explanation.gradient_of(a)), [[2], [5]])
    np.testing.assert_array_equal(backend.to_host(explanation.gradient_of(b)), [[0], [0]])


def test_values_that_no_rule_keeps_are_made_again(device):
    x = leaf([-1.0, 0.0, 2.0])
    hidden = x + 1.0  # no rule of add, sum or negative asks for a value
    loss = -(hidden.sum())
    graph = Graph(loss)
    np.testing.assert_array_equal(backend.to_host(graph.value(hidden._source)), [0, 1, 3])
    np.testing.assert_array_equal(backend.to_host(graph.value(loss._source)), -4)


def test_a_leaf_that_is_gone_hides_only_what_nobody_kept():
    w = leaf([1.0, 2.0])
    loss = (leaf([3.0, 4.0]) * w + leaf([5.0, 6.0])).sum()
    product, total, _ = explain(loss).rows
    assert product.value.mean == pytest.approx(5.5) and total.value is None
    assert total.gradient.mean == 1


@given(expressions())
def test_values_and_gradients_are_those_of_the_computation(expression):
    inputs = [tg.Tensor(x, requires_grad=True) for x in expression.inputs]
    values = expression.values(inputs, ops)
    loss = sum((values[k] * values[k]).sum() for k in expression.outputs)
    made = [value for value in values if type(value) is tg.Tensor and value.requires_grad]
    graph, explanation = Graph(loss), explain(loss)
    gradients = tg.grad(loss, made, retain_graph=True, allow_unused=True)
    for value, gradient in zip(made, gradients):
        if gradient is None and node_of(value._source) in graph.nodes:  # another of its outputs is used
            assert not explanation.gradient_of(value).any()
        elif gradient is None:
            with pytest.raises(ValueError, match="tensor"):
                explanation.gradient_of(value)
        else:
            np.testing.assert_array_equal(graph.value(value._source), value.data)
            np.testing.assert_array_equal(explanation.gradient_of(value), gradient.data)
    assert [row.value.mean for row in explanation.rows] == [
        numbers_of(graph.values[n]).mean for n in graph.nodes
    ]


def test_graphs_that_contain_a_gradient(device):
    x = leaf([0.5, -1.0])
    (slope,) = tg.grad(ops.tanh(x).sum(), x, create_graph=True)
    loss = (slope * slope).sum()
    explanation = explain(loss)
    loss.backward()
    np.testing.assert_array_equal(backend.to_host(explanation.gradient_of(x)), x.grad.numpy())


# Nothing is changed -------------------------------------------------------------------------------------


def test_no_trace_is_left(device):
    net, x = Net(), leaf(np.ones((2, 3)))
    x.grad = before = tg.Tensor(np.full((2, 3), 7.0, "float32"))
    loss = net(x).sum()
    gradient = explain(loss, wrt=net).gradient_of(net.first.weight)
    assert x.grad is before and all(p.grad is None for p in net.parameters())
    gradient[...] = 0  # it is the caller's
    loss.backward()
    plain = Net()
    plain.load_state_dict(net.state_dict())
    plain(tg.Tensor(x.data)).sum().backward()
    for p, q in zip(net.parameters(), plain.parameters()):
        assert (p.grad is None and q.grad is None) or np.array_equal(p.grad.numpy(), q.grad.numpy())


def test_gradients_outlive_the_graph():
    x = leaf([1.0, 2.0])
    y = x * x
    loss = y.sum()
    explanation = explain(loss)
    loss.backward()
    np.testing.assert_array_equal(explanation.gradient_of(y), [1, 1])
    np.testing.assert_array_equal(explanation.gradient_of(x), x.grad.data)


def test_no_warning_is_repeated():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = ops.log(leaf([0.0, -1.0])).sum()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        str(explain(loss))


# Bad input ----------------------------------------------------------------------------------------------


def test_bad_input_is_refused():
    x = leaf([1.0, 2.0])
    with pytest.raises(TypeError, match="loss: expected a Tensor, got float"):
        explain(1.0)
    with pytest.raises(ValueError, match=r"loss: expected a Tensor of one element, got one of shape \(2,\)"):
        explain(x * 2)
    with pytest.raises(ValueError, match="loss: expected a Tensor with a history"):
        explain(tg.Tensor(1.0))
    with pytest.raises(TypeError, match="wrt: expected a Module, got Tensor"):
        explain(x.sum(), wrt=x)
    with pytest.raises(ValueError, match=r"tensor: expected one that the loss was computed from.*\(1,\)"):
        explain(x.sum()).gradient_of(leaf([1.0]))
    with pytest.raises(TypeError, match="tensor: expected a Tensor, got ndarray"):
        explain(x.sum()).gradient_of(x.numpy())


def test_a_freed_graph_is_refused():
    x = leaf([1.0, 2.0])
    loss = (x * x).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match=r"freed.*retain_graph=True"):
        explain(loss)


@pytest.mark.parametrize("f", [lambda x: x * x, lambda x: x + 1.0], ids=["needed by a rule", "not needed"])
def test_arrays_that_were_changed_are_refused(f):
    x = leaf([1.0, 2.0])
    loss = f(x).sum()
    explain(loss)
    x.data = [3.0, 4.0]
    with pytest.raises(RuntimeError, match=f"{f(x)._source.plan.primitive.name}.*changed in place"):
        explain(loss)


def test_a_leaf_is_its_own_explanation():
    x = leaf(2.0, name="x")
    explanation = explain(x)
    assert explanation.rows == [] and explanation.leaves[0].label == "x"
    assert explanation.gradient_of(x) == 1 and "x" in str(explanation)


def test_empty_arrays(device):
    x = leaf(np.zeros((0, 3)))
    explanation = explain((x * 2.0).sum())
    assert explanation.rows[0].value is None and not marks(explanation) and "—" in str(explanation)


def test_empty_parts_of_arrays():
    x = leaf([1.0, 2.0])
    explanation = explain((x * 2.0)[:0].sum() + x.sum())
    assert not marks(explanation) and explanation.rows[0].gradient.zeros == 1


def test_a_long_chain():
    y = x = leaf(1.0)
    for _ in range(3000):
        y = y + x
    assert len(explain(y).rows) == 3000


# What is suspicious -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_first_nan_is_marked_and_not_those_it_is_handed_on_to(device):
    x = leaf([1.0, 0.0, -1.0], name="x")
    (log, first), *others = [
        (p, m) for _, p, m in marks(explain((ops.log(x) * 2.0).sum())) if "backward" not in m
    ]
    assert log == "log" and "NaN and infinity (2 of 3 elements)" in first and not others


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_from_outside_is_marked_where_it_came_in(device):
    x, bad = leaf([1.0, 2.0], name="x"), xp.asarray(np.array([math.nan, 1.0], "float32"))
    assert [m[::2] for m in marks(explain((x + bad).sum() * 2.0))] == [
        ("#1", "NaN (1 of 2 elements) came in with the constant 'b'")
    ]
    y = leaf([math.inf, 1.0], name="y")
    assert ("y", "", "infinity (1 of 2 elements) was given") in marks(explain((y + 1.0).sum()))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_rule_that_first_makes_infinity_in_backward_is_marked(device):
    x = leaf([0.0, 4.0])
    explanation = explain((ops.sqrt(x * 1.0) * 3.0).sum())
    ((label, primitive, mark),) = marks(explanation)
    assert (label, primitive) == ("#2", "sqrt") and "in backward" in mark and "x̄ = ȳ / 2y" in mark
    assert explanation.leaves[0].gradient.infinities == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_infinity_of_inputs_that_are_gone_is_marked_too():
    first, _ = marks(explain(ops.exp(leaf([1000.0, 1.0])).sum()))
    assert first[2] == "the first infinity (1 of 2 elements): its inputs are not known any more"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_rule_without_a_formula_is_told_without():
    @tg.primitive
    def root(x):
        return xp.sqrt(x)

    root.vjp("x", lambda g, out: g / (2 * out))
    x = leaf([0.0, 4.0])
    ((*_, mark),) = marks(explain(root(x).sum()))
    assert mark.endswith("in backward: the rule for 'x' made it of a finite ȳ")


def deep(layers, activation, **init):
    tg.seed(0)
    return nn.Sequential(
        *(f for _ in range(layers) for f in (nn.Linear(32, 32, **init), activation())), nn.Linear(32, 1)
    )


def test_vanished_gradients(device):
    net = deep(20, nn.Sigmoid)
    explanation = explain(net(data(64, 32)).mean(), wrt=net)
    found = [(label, mark) for label, _, mark in marks(explanation)]
    assert 3 <= len(found) <= 6 and all("vanished" in mark for _, mark in found)
    norms = [row.gradient.norm for row in explanation.rows]
    (label, mark) = found[-1]  # the one next to the loss, and the row that it names
    assert norms[int(label[1:]) - 1] < 1e-3 and mark.endswith(f"at #{len(norms)}")


def test_exploded_gradients():
    net = deep(20, nn.ReLU, init=normal(1.0))
    found = [mark for *_, mark in marks(explain((net(data(64, 32)) ** 2).mean(), wrt=net))]
    assert 3 <= sum("exploded" in mark for mark in found) and not any("vanished" in mark for mark in found)


def healthy():
    """Losses of models that nothing is wrong with, by name."""
    x = data(64, 32)
    tanh = deep(20, nn.Tanh)
    relu = deep(3, nn.ReLU, init=nn.init.he_normal)
    yield "deep tanh", (tanh(x) ** 2).mean(), tanh
    yield "relu, sum", (relu(x) ** 2).sum() / 64, relu
    yield "small weight of the loss", relu(x).mean() * 1e-6, relu
    convolution = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm(16), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1))
    )
    yield "mean over many elements", (convolution(data(64, 32, 32, 1)) ** 2).mean(), convolution
    critic = nn.Sequential(nn.Linear(32, 64), nn.LeakyReLU(), nn.Linear(64, 1, bias=False))
    between = leaf(backend.to_host(x))
    (slope,) = tg.grad(critic(between).sum(), between, create_graph=True)
    penalty = 10 * ((ops.norm(slope, axis=1) - 1) ** 2).mean()
    yield "gradient penalty", critic(x).mean() - critic(x + 1.0).mean() + penalty, critic


def test_what_is_healthy_is_not_marked():
    for name, loss, model in healthy():
        assert (name, marks(explain(loss, wrt=model))) == (name, [])


def test_dead_relus(device):
    net = nn.Sequential(nn.Linear(32, 10), nn.ReLU(), nn.Linear(10, 1))
    bias = np.zeros(10, "float32")
    bias[:4] = -100
    net.layers[0].bias.data = xp.asarray(bias)
    assert marks(explain(net(data(64, 32)).mean(), wrt=net)) == [
        ("#2", "relu", "dead: 4 of 10 units are 0 over the whole batch")
    ]
    assert not marks(explain(net(data(3, 32)).mean(), wrt=net))  # too few examples to tell
    bias[:] = -100
    net.layers[0].bias.data = xp.asarray(bias)
    found = marks(explain(net(data(64, 32)).mean(), wrt=net))
    assert ("layers.0.weight", "", "its gradient is 0 everywhere") in found
    assert any(label == "#1" and "vanished" in mark for label, _, mark in found)


def test_float64_that_crept_in_is_marked_once(device):
    net = nn.Linear(3, 2)
    noise = data(5, 2, dtype="float64")
    y = net(data(5, 3)) * noise
    found = marks(explain((y * net(data(5, 3))).sum(), wrt=net))
    assert found == [("#2", "multiply", "float64 crept in with b")]
    asked_for = net(data(5, 3)).astype("float64") * noise
    assert marks(explain(asked_for.sum(), wrt=net)) == []
    double = leaf(np.ones(2), dtype="float64")
    assert marks(explain((double * noise).sum())) == []


# The table ----------------------------------------------------------------------------------------------


def width(text: str) -> int:
    return sum(not unicodedata.combining(c) for c in text)


def test_the_table_shows_everything_and_fits():
    net = Net()
    loss, at = (net(data(64, 3)) ** 2).mean(), line()
    text = str(explain(loss, wrt=net))
    lines = text.splitlines()
    assert all(width(part) <= 120 for part in lines)
    assert f"test_explain.py:{at}  loss, at = (net(data(64, 3)) ** 2).mean(), line()" in lines
    (linear,) = [part for part in lines if "linear" in part and "#1" in part]
    for word in ("f32[64,4]", "first", "W̄ = xᵀ ȳ", "±"):
        assert word in linear
    assert "! unused.weight: no gradient: the loss does not depend on it" in lines
    assert any(part.startswith("!") and "unused.bias" in part for part in lines)
    (loss_line,) = [part for part in lines if " mean " in part and "#5" in part]
    assert f"{loss.item():.4g}" in loss_line
    starts = {part.index("f32[") for part in lines if "#" in part and "f32[" in part}
    assert len(starts) == 1  # the columns stand below each other


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_table_of_what_is_not_finite_or_has_long_names():
    @tg.primitive
    def a_primitive_with_a_name_that_is_far_too_long_for_a_column(x):
        """x / 0."""
        return x * np.float32(math.inf)

    a_primitive_with_a_name_that_is_far_too_long_for_a_column.vjp(
        "x", lambda g: g, formula="x̄ = ȳ " + "ȳ̄ " * 80
    )
    x = leaf([1.0, -2.0], name="name " * 40)
    loss = scaled(a_primitive_with_a_name_that_is_far_too_long_for_a_column(x), factor=2.0).sum()
    lines = str(explain(loss)).splitlines()
    assert all(width(part) <= 120 for part in lines)
    assert any("a_primitive_wit…" in part and "2 inf" in part for part in lines)
    assert any(part.startswith("! #1 a_primitive_with_a_name_that_is") for part in lines)


def test_nothing_suspicious_is_said():
    assert str(explain((leaf([1.0, 2.0]) * 2.0).sum())).endswith("nothing suspicious")
    assert type(Graph(leaf(1.0) * 2.0).nodes[0]) is Node
