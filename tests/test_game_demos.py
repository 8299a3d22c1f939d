"""Demos that play several games side by side: what they compute; and as a user runs them, with few steps."""

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.backend import Generator, xp
from tinygen.models.adversarial import GAN, WGAN
from tinygen.training import Run

DEMOS = Path(__file__).parent.parent / "demos"
NAMES = ["critics", "modes", "singular_values"]
sys.path.append(str(DEMOS))
critics, modes, singular_values = map(importlib.import_module, NAMES)
side_by_side = importlib.import_module("_side_by_side")

# What they compute -----------------------------------------------------------------------------------------


def test_both_learning_rates_fall_to_zero_when_the_last_epoch_ends():
    steps = 3 * side_by_side.STEPS
    for kind, critic_steps in ((GAN, 1), (WGAN, 5)):
        game = kind(nn.Linear(2, 2), nn.Linear(2, 1), 2)
        of_critic, of_generator = side_by_side.optimizers(game, 0.1, epochs=3)
        assert game.critic_steps == critic_steps
        for optimizer, last in ((of_critic, critic_steps * steps), (of_generator, steps)):
            assert optimizer.lr(0) == pytest.approx(0.1) and optimizer.lr(last // 2) == pytest.approx(0.05)
            assert 0 < optimizer.lr(last - 1) < 1e-4 and optimizer.lr(last) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("network", critics.NETWORKS)
def test_networks_of_the_critics_demo_give_images_and_a_number_for_each(network, device):
    tg.seed(0)
    generator, critic = critics.NETWORKS[network]((8, 8, 1), 4)
    z = xp.asarray(np.random.default_rng(0).normal(size=(3, critics.LATENTS)).astype("float32"))
    images = generator(z)
    assert images.shape == (3, 8, 8, 1) and images.dtype == "float32"
    assert abs(images.numpy()).max() <= 1
    numbers = critic(images)
    assert numbers.shape == (3, 1)
    # The penalty wants a number of each example that depends on that example alone.
    np.testing.assert_allclose(critic(images[1:2]).numpy(), numbers.numpy()[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", critics.NETWORKS)
def test_gradients_of_the_penalty_reach_every_weight_of_every_critic(network):
    tg.seed(0)
    game = critics.OBJECTIVES["WGAN-GP"](*critics.NETWORKS[network]((8, 8, 1), 4))
    rng = np.random.default_rng(0)
    x, fake = (rng.uniform(-1, 1, (4, 8, 8, 1)).astype("float32") for _ in range(2))
    game.critic_loss(x, fake).backward(inputs=game.critic.parameters())
    *inner, (_, last_bias) = game.critic.named_parameters()
    assert not last_bias.grad.numpy().any()  # it cancels in the distance, and the penalty does not see it
    for name, p in inner:
        assert np.isfinite(p.grad.numpy()).all() and abs(p.grad.numpy()).max() > 0, name


def test_a_gate_is_tanh_times_sigmoid_of_two_halves():
    x = np.random.default_rng(0).normal(size=(2, 3, 6))
    expected = np.tanh(x[..., :3]) / (1 + np.exp(-x[..., 3:]))
    np.testing.assert_allclose(critics.Gate()(tg.Tensor(x)).numpy(), expected, rtol=1e-12)


def test_singular_values_are_those_of_the_weights_in_use():
    tg.seed(0)
    around = {nn.SpectralNorm: 1.0, nn.WeightNorm: None, singular_values.as_it_is: None}
    found = {
        kind: singular_values.singular_values(singular_values.critic((8, 8, 1), 4, kind)) for kind in around
    }
    for layers in found.values():
        assert [len(values) for values in layers] == [4, 8, 8, 16, 1]
        assert all((np.diff(values) <= 0).all() for values in layers)
    for values in found[nn.SpectralNorm]:
        assert values[0] == pytest.approx(1, abs=0.05)  # the power iteration is near
    network = singular_values.critic((8, 8, 1), 4, singular_values.as_it_is)
    kernel = network.layers[2].weight.data.reshape(-1, 8)
    np.testing.assert_allclose(
        singular_values.singular_values(network)[1], np.linalg.svd(kernel)[1], rtol=1e-5
    )


def test_looking_at_singular_values_changes_no_state():
    network = singular_values.critic((8, 8, 1), 4, nn.SpectralNorm)
    before = network.state_dict()
    singular_values.singular_values(network)
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_effective_ranks():
    rank = singular_values.effective_rank
    assert rank(np.ones(7)) == pytest.approx(7)
    assert rank(np.array([3.0, 0, 0])) == pytest.approx(1)
    p = np.array([0.5, 0.25, 0.25])
    assert rank(4 * p) == pytest.approx(math.exp(-(p * np.log(p)).sum()))


def test_moments_come_back_from_a_checkpoint(tmp_path):
    moments, again = modes.Moments(), modes.Moments()
    x = np.random.default_rng(0).normal(size=(5, 2)).astype("float32")
    moments.keep(1, {"wgan-gp": x})
    moments.keep(5, {"wgan-gp": 2 * x})
    tg.save(tmp_path / "moments.npz", moments=moments)
    again.load_state_dict(tg.load(tmp_path / "moments.npz")["moments"])
    assert list(again.of("wgan-gp", 6)) == [side_by_side.STEPS, 5 * side_by_side.STEPS]
    np.testing.assert_array_equal(again.of("wgan-gp", 6)[5 * side_by_side.STEPS], 2 * x)
    assert list(again.of("wgan-gp", 5)) == [side_by_side.STEPS] and not again.of("minimax", 6)


def test_a_gan_finds_all_eight_modes():
    tg.seed(0)
    density = modes.GaussianMixture(modes.CENTRES["eight_gaussians"], 0.05)
    game = modes.OBJECTIVES["non-saturating"](modes.mlp(2, 64, 2), modes.mlp(2, 64, 1))
    optimizers = side_by_side.optimizers(game, 2e-3, epochs=10)
    for step in range(10 * side_by_side.STEPS):
        with Generator(0, step) as rng:
            game.iteration(density.sample(64, rng), optimizers)
    covered, high_quality, _ = modes.metrics.modes(modes.samples(game, 0), density.centres, density.std)
    assert covered == 8 and high_quality > 0.6


# As a user runs them ---------------------------------------------------------------------------------------

SMALL = {
    "modes": ["--batch-size", "8", "--hidden", "8"],
    "critics": ["--batch-size", "2", "--width", "2"],
    "singular_values": ["--batch-size", "2", "--width", "2"],
}
PICTURES = {
    "modes": {"samples.png", "curves.png"},
    "critics": {"samples.png"},
    "singular_values": {"singular_values.png"},
}


@pytest.fixture
def play(monkeypatch, tmp_path):
    """Runs a demo in this process, with epochs of two steps and few samples, and returns its figures."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    for module in (side_by_side, modes):
        monkeypatch.setattr(module, "STEPS", 2)
    for samples in ("FEW_SAMPLES", "MANY_SAMPLES"):
        monkeypatch.setattr(importlib.import_module("_games"), samples, 1)  # one draw for the distances

    def play(name, *flags, out):
        demo = {"critics": critics, "modes": modes, "singular_values": singular_values}[name]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *SMALL[name], "--out", str(tmp_path / out), *flags])
        demo.main()
        return json.loads((tmp_path / out / "metrics.json").read_text())["figures"]

    return play


@pytest.mark.parametrize("name", SMALL)
def test_demos_leave_pictures_and_figures_and_resume(tmp_path, name, device, play, capsys):
    figures = play(name, "--epochs", "1", out="out")
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == PICTURES[name] | {"checkpoint.npz", "log.jsonl", "metrics.json"}
    assert all(math.isfinite(value) for value in figures.values())
    assert f"seconds on {device}" in capsys.readouterr().out
    assert play(name, "--epochs", "1", "--resume", out="out") == figures
    assert "resumed after epoch 1" in capsys.readouterr().out


@pytest.mark.parametrize("name", SMALL)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path, name, play, monkeypatch):
    class Stopped(Exception):
        pass

    def stop(run, *args, **kwargs):
        end_epoch(run, *args, **kwargs)
        raise Stopped

    expected = play(name, "--epochs", "2", out="whole")
    end_epoch = Run.end_epoch
    monkeypatch.setattr(Run, "end_epoch", stop)
    with pytest.raises(Stopped):
        play(name, "--epochs", "2", out="parts")
    monkeypatch.setattr(Run, "end_epoch", end_epoch)
    assert play(name, "--epochs", "2", "--resume", out="parts") == expected
    whole, parts = (tmp_path / out / "checkpoint.npz" for out in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


def test_games_side_by_side_play_as_if_alone(tmp_path, play):
    play("modes", "--epochs", "1", out="all")
    for name in ("wgan-gp", "sn-gan"):
        play("modes", "--epochs", "1", "--objective", name, out=name)
        together, alone = (tg.load(tmp_path / out / "checkpoint.npz")[name] for out in ("all", name))
        assert together.keys() == alone.keys()
        for key in alone:
            np.testing.assert_array_equal(together[key], alone[key])


def run(name, *flags, cwd):
    return subprocess.run(
        [sys.executable, DEMOS / name, *map(str, flags)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )


def test_a_demo_as_a_process(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    flags = ("--objective", "minimax", "--sigma", 0.1, "--epochs", 1, *SMALL["modes"], "--out", "out")
    done = run("modes.py", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "minimax: modes covered of 8" in done.stdout and "98.89" in done.stdout
    assert "epoch 1/1" in done.stderr and "100/100" in done.stderr  # the progress bar


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--epochs", 0), "argument --epochs: expected a whole number of at least 1, got 0"),
        (("--learning-rate", 0), "argument --learning-rate: expected a number above 0, got 0"),
        (("--data", "cats"), "argument --data: invalid choice: 'cats'"),
    ],
)
def test_wrong_flags_end_in_one_line_and_leave_nothing(tmp_path, name, flags, words):
    done = run(f"{name}.py", *flags, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--sigma", -1), "argument --sigma: expected a number above 0, got -1"),
        (("--objective", "best"), "argument --objective: invalid choice: 'best'"),
    ],
)
def test_wrong_flags_of_the_modes_demo(tmp_path, flags, words):
    done = run("modes.py", *flags, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
