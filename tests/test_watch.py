"""What watch records of a training."""

import numpy as np
import pytest
import strict_cupy
from matplotlib.image import imread

import tinygen as tg
from tinygen import backend, nn, optim
from tinygen.backend import xp
from tinygen.gradients import watch


def model():
    tg.seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def step(net, optimizer, x):
    loss = (net(x) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def batch():
    return xp.asarray(np.random.default_rng(0).normal(size=(8, 3)).astype("float32"))


def test_every_step_against_its_definition(device):
    net, x = model(), batch()
    optimizer = optim.Adam(net.parameters(), lr=1e-2)
    gradients, ratios = {}, {}
    with watch(net, every=1) as history:
        for _ in range(5):
            before = net.state_dict()
            step(net, optimizer, x)
            for name, p in net.named_parameters():
                gradients.setdefault(name, []).append(np.linalg.norm(p.grad.numpy()))
                with np.errstate(divide="ignore"):
                    change = np.linalg.norm(p.numpy() - before[name]) / np.linalg.norm(before[name])
                ratios.setdefault(name, []).append(change if np.isfinite(change) else np.nan)
    curves = history.curves()
    assert list(curves) == [name for name, _ in net.named_parameters()]
    for name, curve in curves.items():
        np.testing.assert_array_equal(curve.steps, [1, 2, 3, 4, 5])
        assert curve.steps.dtype.kind == "i"
        np.testing.assert_allclose(curve.gradient_norms, gradients[name], rtol=1e-5)
        np.testing.assert_allclose(curve.update_ratios, ratios[name], rtol=1e-3)
    assert np.isnan(curves["layers.0.bias"].update_ratios[0])  # it started at 0


def test_some_steps_from_the_first(device):
    net, x = model(), batch()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    step(net, optimizer, x)
    with watch(net, every=3) as history:
        for _ in range(7):
            step(net, optimizer, x)
    assert history.curves()["layers.0.weight"].steps.tolist() == [4, 7]


def test_training_is_the_same_and_the_watch_ends(device):
    x = batch()

    def trained(watched: bool):
        net = model()
        optimizer = optim.Adam(net.parameters())
        if watched:
            with watch(net) as history:
                step(net, optimizer, x)
            step(net, optimizer, x)
            assert history.curves()["layers.0.weight"].steps.tolist() == [1]
        else:
            step(net, optimizer, x)
            step(net, optimizer, x)
        return net.state_dict()

    for a, b in zip(trained(True).values(), trained(False).values()):
        np.testing.assert_array_equal(a, b)
    assert optim.step_watchers == []


def test_nothing_is_brought_to_the_host(far):
    backend.set_device(far)
    net, x = model(), batch()
    optimizer = optim.Adam(net.parameters())
    with watch(net, every=1) as history, strict_cupy.forbid_transfers():
        for _ in range(3):
            step(net, optimizer, x)
    backend.set_device("cpu")
    assert history.curves()["layers.2.weight"].gradient_norms.shape == (3,)


def test_two_networks_two_optimizers_and_a_part_that_is_not_watched():
    game = model()
    first, last, other = game.layers[0], game.layers[2], nn.Linear(3, 3)
    optimizers = [
        optim.SGD([*first.parameters(), *other.parameters()], lr=0.1),
        optim.Adam(last.parameters()),
    ]
    with watch(game, every=1) as history:
        for _ in range(2):
            (game(other(batch())) ** 2).mean().backward()
            optimizers[0].step()
        optimizers[1].step()
        optim.SGD(other.parameters(), lr=0.1).step()
    counts = {name: len(curve.steps) for name, curve in history.curves().items()}
    assert counts == {"layers.0.weight": 2, "layers.0.bias": 2, "layers.2.weight": 1, "layers.2.bias": 1}


def test_parameters_without_gradient_and_empty_ones():
    class Odd(nn.Module):
        def __init__(self):
            self.used = tg.Tensor([1.0, 2.0], requires_grad=True)
            self.unused = tg.Tensor([1.0], requires_grad=True)
            self.empty = tg.Tensor(np.zeros((0, 2), "float32"), requires_grad=True)

    odd = Odd()
    optimizer = optim.SGD(odd.parameters(), lr=0.5)
    with watch(odd) as history:
        (odd.used.sum() + odd.empty.sum()).backward()
        optimizer.step()
    curves = history.curves()
    assert curves["unused"].gradient_norms.tolist() == [0] and curves["unused"].update_ratios.tolist() == [0]
    assert curves["empty"].gradient_norms.tolist() == [0] and np.isnan(curves["empty"].update_ratios).all()
    assert curves["used"].gradient_norms[0] == pytest.approx(2**0.5)
    assert curves["used"].update_ratios[0] == pytest.approx(0.5 * 2**0.5 / 5**0.5)


def test_optimizers_made_one_after_the_other():
    net = model()
    with watch(net, every=1) as history:
        step(net, optim.SGD(net.parameters(), lr=0.1), batch())
        step(net, optim.SGD(net.layers[0].parameters(), lr=0.1), batch())
    assert history.curves()["layers.0.weight"].steps.tolist() == [1, 1]
    assert history.curves()["layers.2.weight"].steps.tolist() == [1]


def test_errors_inside_end_the_watch():
    with pytest.raises(ZeroDivisionError), watch(model()):
        raise ZeroDivisionError
    assert optim.step_watchers == []


def test_a_watch_inside_a_watch():
    net = model()
    with watch(net) as outer, watch(net.layers[0]) as inner:
        step(net, optim.SGD(net.parameters(), lr=0.1), batch())
    assert len(outer.curves()) == 4 and list(inner.curves()) == ["weight", "bias"]


def test_the_picture(tmp_path):
    net = model()
    with watch(net, every=1) as history:
        optimizer = optim.Adam(net.parameters())
        for _ in range(300):
            step(net, optimizer, batch())
    history.plot(tmp_path / "watch.png")
    history.plot(tmp_path / "watch.svg")
    height, width, _ = imread(tmp_path / "watch.png").shape
    assert width > height > 400
    assert (tmp_path / "watch.svg").read_text().startswith("<?xml")


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(ValueError, match="watch: model: expected a module with parameters"), watch(nn.Tanh()):
        pass
    with pytest.raises(TypeError, match="watch: model: expected a Module, got list"), watch([]):
        pass
    for every in (0, 1.5):
        with pytest.raises(ValueError, match="watch: every: expected an int"), watch(model(), every=every):
            pass
    with watch(model()) as history:
        pass
    assert history.curves() == {}
    with pytest.raises(ValueError, match="history: expected steps"):
        history.plot(tmp_path / "watch.png")
    assert optim.step_watchers == [] and not list(tmp_path.iterdir())
