"""What `tg.profile` finds, by a clock that goes on only where a function says so: all of it, and once."""

import numpy as np
import pytest

import tinygen as tg
from tinygen import autodiff, nn, optim, profiler
from tinygen.autodiff import primitive

FORWARD, BACKWARD, BETWEEN = 2.0, 3.0, 5.0  # seconds
clock = 0.0


def pass_time(seconds):
    global clock
    clock += seconds


@pytest.fixture
def by_the_clock(monkeypatch):
    monkeypatch.setattr(profiler, "_now", lambda: clock)


@primitive
def slow(x):
    pass_time(FORWARD)
    return 2 * x


@slow.vjp("x")
def _(g):
    pass_time(BACKWARD)
    return 2 * g


@primitive
def failing(x):
    raise ValueError("no such x")


@primitive
def outer(x):
    return slow(x)  # on raw arrays, within another primitive


outer.vjp("x", lambda g: slow(slow(g)))


def leaf():
    return tg.Tensor(np.ones(3, "float32"), requires_grad=True)


def test_a_step_of_training_is_counted_by_primitive(device):
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU())
    optimizer = optim.Adam(network.parameters())
    x = tg.Tensor(np.ones((5, 4), "float32"))
    with tg.profile() as profile:
        for _ in range(3):
            optimizer.zero_grad()
            network(x).sum().backward()
            optimizer.step()
    assert {name: times.calls for name, times in profile.of.items()} == {"linear": 6, "relu": 6, "sum": 3}
    assert all(times.forward > 0 and times.backward > 0 for times in profile.of.values())
    assert profile.optimizers > 0
    assert 0 < profile.elsewhere < profile.total


def test_seconds_are_those_of_forward_functions_and_rules(by_the_clock):
    with tg.profile() as profile:
        (slow(leaf()) * 3).sum().backward()
        pass_time(BETWEEN)
    times = profile.of["slow"]
    assert (times.forward, times.backward) == (FORWARD, BACKWARD)
    assert profile.elsewhere == BETWEEN and profile.total == FORWARD + BACKWARD + BETWEEN
    assert not any(t.forward or t.backward for name, t in profile.of.items() if name != "slow")


def test_what_primitives_and_rules_call_counts_as_theirs(by_the_clock):
    with tg.profile() as profile:
        outer(leaf()).sum().backward()
    assert "slow" not in profile.of and profile.of["outer"].calls == 1
    assert (profile.of["outer"].forward, profile.of["outer"].backward) == (FORWARD, 2 * FORWARD)


def test_steps_of_optimizers_are_measured(by_the_clock, monkeypatch):
    (x,) = params = [leaf()]
    optimizer = optim.Adam(params)
    monkeypatch.setattr(optimizer, "_update", lambda *args, **averages: pass_time(BETWEEN))
    with tg.profile() as profile:
        slow(x).sum().backward()
        optimizer.step()
    assert profile.optimizers == BETWEEN and profile.elsewhere == 0


def test_a_gradient_of_a_gradient_is_backward_twice():
    x = leaf()
    with tg.profile() as profile:
        (g,) = tg.grad(slow(x * x).sum(), x, create_graph=True)
        assert profile.of["slow"].calls == 1
        (g * g).sum().backward()
    assert profile.of["slow"].calls == 1  # the rule's own operations are the rule's
    assert profile.of["add"].calls == 0  # of what reaches x * x from both sides, in the backward pass


def test_errors_that_are_caught_are_over_with_the_backward_pass():
    @primitive
    def broken(x):
        return 1 * x

    @broken.vjp("x")
    def _(g):
        raise ValueError("no gradient")

    with tg.profile() as profile:
        with pytest.raises(ValueError):
            failing(leaf())
        with pytest.raises(RuntimeError):
            broken(leaf()).sum().backward()
        slow(leaf())
    assert profile.of["slow"].calls == 1 and "failing" not in profile.of


def test_nothing_looks_on_after_the_block():
    with pytest.raises(KeyError), tg.profile() as profile:
        raise KeyError
    assert profile.total > 0
    slow(leaf())
    assert not profile.of and optim.step_watchers == [] and autodiff._observer is None


def test_it_prints_the_longest_first_and_all_of_the_time(by_the_clock):
    with tg.profile() as profile:
        (slow(leaf()) * 3).sum().backward()
    lines = str(profile).splitlines()
    assert lines[0].split()[0] == "primitive" and lines[1].split()[:2] == ["slow", "1"]
    assert [line.split()[0] for line in lines[-3:]] == ["optimizers", "elsewhere", "total"]
    assert len({len(line) for line in lines}) == 1
    shares = [float(line.split()[-1]) for line in lines[1:-1]]
    assert sum(shares) == pytest.approx(100)
    assert str(profiler.Profile()).splitlines()[0].startswith("primitive")  # also when nothing was done
