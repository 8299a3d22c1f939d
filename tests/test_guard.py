"""The guard: it stops at the first NaN or infinity, where an array was changed, and nowhere else."""

import inspect
import math

import numpy as np
import pytest
from hypothesis import given

import tinygen as tg
from tinygen import autodiff, backend, nn, ops, optim
from tinygen.backend import xp
from tinygen.gradients import GuardError, explain, guard
from tinygen.gradients.strategies import expressions

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def leaf(values, dtype="float32"):
    return tg.Tensor(np.asarray(values, dtype), requires_grad=True)


def line() -> int:
    return inspect.currentframe().f_back.f_lineno


def stopped(f) -> GuardError:
    """The error with which a guard stops a function."""
    with pytest.raises(GuardError) as caught, guard():
        f()
    return caught.value


@tg.primitive
def halve(x):
    """x / 2, but 0 backward gives NaN."""
    return x / 2


@halve.vjp("x", formula="x̄ = ȳ / 2")
def _(g):
    return g / 2 + ops.log(g - 1) * 0


class Logarithm(nn.Module):
    def forward(self, x):
        return ops.log(x)


# The first NaN or infinity ------------------------------------------------------------------------------


def test_the_primitive_that_made_it_is_named_and_not_those_it_is_handed_on_to(device):
    x = leaf([[1.0, 0.5], [4.0, 0.0]])
    log = Logarithm()

    def f():
        y = log(x - 1.0)
        return ops.exp(y).sum()

    error = stopped(f)
    assert (error.primitive, error.input, error.module) == ("log", None, log)
    assert error.where == f"{__file__}:{inspect.getsourcelines(Logarithm.forward)[1] + 1}"
    text = str(error)
    assert text.startswith(
        "guard: the first NaN and infinity (3 of 4 elements) in the output of log, called at"
    )
    assert "in Logarithm" in text and "x from -1 to 3" in text


def test_numbers_from_outside_are_not_laid_to_the_primitive(device):
    x, bad = leaf([1.0, 2.0]), xp.asarray(np.array([1.0, math.inf], "float32"))
    error = stopped(lambda: ops.exp(x) * bad)
    assert (error.primitive, error.input) == ("multiply", "b")
    assert "infinity (1 of 2 elements) came from outside in the input 'b' of multiply" in str(error)
    error = stopped(lambda: ops.concatenate([x, bad]))
    assert (error.primitive, error.input) == ("concatenate", "xs[1]")


def test_what_computes_without_recording_is_guarded(device):
    with tg.no_grad():
        assert stopped(lambda: ops.log(leaf([0.0]))).primitive == "log"
    raw = xp.asarray(np.zeros(3, "float32"))
    assert stopped(lambda: ops.log(raw)).primitive == "log"


def test_one_of_several_outputs(device):
    @tg.primitive
    def both(x):
        """x and 1 / x."""
        return x, 1 / x

    error = stopped(lambda: both(tg.Tensor([2.0, 0.0])))
    assert error.primitive == "both" and "infinity (1 of 2 elements)" in str(error)


def test_the_rule_that_first_made_it_in_backward_is_named(device):
    x = leaf([0.0, 4.0])
    at = line() + 3

    def f():
        y = ops.sqrt(x * 1.0)
        (y * 3.0).sum().backward()

    error = stopped(f)
    assert (error.primitive, error.input, error.where) == ("sqrt", "x", f"{__file__}:{at}")
    assert "the first infinity (1 of 2 elements) in backward: made by the rule for 'x' (x̄ = ȳ / 2y)" in str(
        error
    )
    assert x.grad is None


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_faulty_rule_of_a_user(create_graph):
    x = leaf([1.0, 2.0])
    error = stopped(lambda: (halve(x) * 0.5).sum().backward(create_graph=create_graph))
    assert (error.primitive, error.input) == ("halve", "x") and x.grad is None


def test_gradients_of_gradients(device):
    x = leaf([0.0, 1.0])

    def f():
        (slope,) = tg.grad((x**1.5).sum(), x, create_graph=True)  # 3/2 √x
        slope.sum().backward()

    error = stopped(f)
    assert (error.primitive, error.input) == ("power", "a") and "in backward" in str(error)


def test_what_a_rule_selects_away_does_not_count(device):
    x = leaf([-1.0, 4.0])
    y = leaf([0.0, 2.0])
    with guard():
        ops.where(x.data > 0, ops.log(ops.maximum(x, 1.0)), 0.0).sum().backward()
        (y**2.0).sum().backward()
        ops.power(y, leaf([2.0, 2.0])).sum().backward()  # its rule takes the logarithm of 0
    assert np.isfinite(x.grad.numpy()).all() and np.isfinite(y.grad.numpy()).all()


def test_what_is_no_number_is_not_said_to_be_changed():
    """A rule selects NaN away: in its own derivative that is met again, but not as a change of an array."""

    @tg.primitive
    def root(x):
        return xp.sqrt(xp.maximum(x, 0))

    root.vjp("x", lambda g, x: ops.where(ops.raw(x) > 0, g / ops.sqrt(x), 0.0))
    x = leaf([-1.0, 4.0])

    def f():
        (slope,) = tg.grad(root(x).sum(), x, create_graph=True)
        slope.sum().backward()

    assert "the first NaN (1 of 2 elements) in backward: made by the rule for 'b'" in str(stopped(f))


def test_a_gradient_from_outside(device):
    y = leaf([1.0, 2.0]) * 2.0
    error = stopped(lambda: y.backward(xp.asarray(np.array([1.0, math.nan], "float32"))))
    assert error.primitive == "multiply" and "backward was given it" in str(error)


def test_a_sum_of_gradients_that_is_too_large(device):
    y = ops.sin(leaf([0.5]))
    big = xp.asarray(np.full(1, 3e38, "float32"))
    error = stopped(lambda: (y * big + y * big).backward())
    assert error.primitive == "sin" and "a sum of finite gradients is too large" in str(error)


# Arrays changed in place --------------------------------------------------------------------------------


def test_a_change_behind_the_engines_back_is_noticed(device):
    x = leaf([[1.0, 2.0, 3.0]])
    net = nn.Linear(3, 2)

    def f():
        y = net(x).sum()
        net.weight.data[1, 0] = 7.0  # not through the setter
        y.backward()

    value = net.weight.numpy()[1, 0]
    error = stopped(f)
    assert (error.primitive, error.input, error.module) == ("linear", "x", net)
    assert f"the input 'weight' at [1, 0] was {value} and is 7.0" in str(error)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_change_of_an_output_and_of_an_element_of_a_list(create_graph):
    @tg.primitive
    def product(*xs):
        """The product of all."""
        return math.prod(xs[1:], start=xs[0])

    product.vjp_each(lambda g, xs, i: g * math.prod(x for k, x in enumerate(xs) if k != i))
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])

    def of_output():
        z = ops.exp(x)
        z.data[0] = 0.0
        z.sum().backward(create_graph=create_graph)

    def of_list():
        z = product(x, y)
        y.data[1] = 0.0
        z.sum().backward(create_graph=create_graph)

    error = stopped(of_output)
    assert (error.primitive, error.input) == ("exp", "x") and "the output at [0] was 2.718" in str(error)
    error = stopped(of_list)
    assert (error.primitive, error.input) == ("product", "xs") and "at [1] was 4.0 and is 0.0" in str(error)


def test_a_change_of_a_static_argument(device):
    index = xp.asarray(np.array([0, 2]))
    x = leaf([1.0, 2.0, 3.0])

    def f():
        y = x[index].sum()
        index[0] = 1
        y.backward()

    error = stopped(f)
    assert error.primitive == "getitem" and "the argument 'index' at [0] was 0 and is 1" in str(error)


def test_changes_that_do_no_harm_pass():
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    with guard():
        z = (x + y).sum()  # no rule asks for x
        x.data[0] = 5.0
        z.backward()
        z = (x * y).sum()
        x.data[0] = 6.0  # the gradient for y alone uses it
        z.backward(inputs=[x])


def test_what_the_engine_notices_it_refuses_itself():
    x = leaf([1.0, 2.0])
    with guard(), pytest.raises(RuntimeError, match="changed in place"):
        y = (x * x).sum()
        x.data = [3.0, 4.0]
        y.backward()


# Nothing else -------------------------------------------------------------------------------------------


@given(expressions())
def test_what_is_right_passes_and_is_not_changed(expression):
    def gradients():
        inputs = [tg.Tensor(x, requires_grad=True) for x in expression.inputs]
        outputs = [y for y in expression(*inputs) if y.requires_grad]
        loss = sum((y * y).sum() for y in outputs)
        if not outputs:
            return []
        first = tg.grad(loss, inputs, create_graph=True, allow_unused=True)
        used = [g for g in first if g is not None]
        second = tg.grad(sum((g * g).sum() for g in used), inputs, allow_unused=True)
        return [g if g is None else g.data for g in (*first, *second)]

    plain = gradients()
    with guard():
        guarded = gradients()
    for a, b in zip(plain, guarded):
        assert (a is None and b is None) or np.array_equal(a, b)


def test_a_training_passes(device):
    tg.seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.BatchNorm(8), nn.Dropout(0.5), nn.Linear(8, 1))
    x = xp.asarray(np.random.default_rng(0).normal(size=(16, 3)).astype("float32"))
    optimizer = optim.Adam(net.parameters())
    with guard():
        for _ in range(3):
            loss = (net(x) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss = (net(x) ** 2).mean()
        explain(loss)
        loss.backward(retain_graph=True)
        loss.backward()


def test_it_is_off_outside_and_after_an_error():
    assert autodiff._observer is None
    stopped(lambda: ops.log(leaf([0.0])))
    with pytest.raises(ZeroDivisionError), guard():
        raise ZeroDivisionError
    assert autodiff._observer is None and autodiff._recording
    assert type((leaf([1.0]) * leaf([1.0]))._source.record) is list
    ops.log(leaf([0.0]))


def test_guards_inside_guards():
    x = leaf([1.0, 2.0])

    def f():
        with guard():
            y = (x * x).sum()
        assert autodiff._observer is not None  # the outer one looks on
        x.data[0] = 3.0
        y.backward()

    assert stopped(f).primitive == "multiply"
    assert autodiff._observer is None


def test_a_guard_that_comes_later_sees_what_comes_then():
    x = leaf([1.0, 0.0])
    y = ops.sqrt(x).sum()
    x.data[0] = 4.0
    assert stopped(y.backward).primitive == "sqrt"  # the infinity, not the change before


def test_memory_of_finished_graphs_is_given_back():
    import gc
    import weakref

    x = leaf([1.0, 2.0])
    with guard():
        y = ops.exp(x)
        copy = weakref.ref(next(iter(y._source.record.before.values())))
        y.sum().backward()
        del y
        gc.collect()
        assert copy() is None
    assert backend.to_host(x.grad.data).shape == (2,)
