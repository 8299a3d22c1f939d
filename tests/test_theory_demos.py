"""Demos of the theory of adversarial games: what they find is what theory says; and as a user runs them."""

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
from tinygen import ops
from tinygen.backend import Generator
from tinygen.models.adversarial import theory

DEMOS = Path(__file__).parent.parent / "demos"
NAMES = ["bilinear_game", "divergences", "optimal_discriminator", "ring", "saturation"]
sys.path.append(str(DEMOS))
bilinear_game, divergences, optimal_discriminator, ring, saturation = map(importlib.import_module, NAMES)
_line = importlib.import_module("_line")
normal, points, values_and_slopes = _line.normal, _line.points, _line.values_and_slopes

# What they find ------------------------------------------------------------------------------------------


def test_a_trained_discriminator_finds_the_divergence():
    """N(±1, 1): V = −0.71263 and JSD = 0.33683 nats."""
    p, q, x = normal(1), normal(-1), points()
    logit, _ = values_and_slopes(optimal_discriminator.train(p, q, 300, seed=0), x)
    value = theory.discriminator_value(logit, p, q, x)
    assert -0.725 < value <= -0.71263
    assert (value + math.log(4)) / 2 == pytest.approx(0.33683, abs=0.005)
    near = abs(x) < 2
    best = ops.sigmoid(theory.optimal_logit(p, q, x))
    np.testing.assert_allclose(ops.sigmoid(logit)[near], best[near], atol=0.06)


def test_a_discriminator_of_one_density_and_itself_says_one_half():
    x = points()
    logit, _ = values_and_slopes(optimal_discriminator.train(normal(0), normal(0), 300, seed=0), x)
    np.testing.assert_allclose(ops.sigmoid(logit)[abs(x) < 2], 0.5, atol=0.05)


def test_a_discriminator_is_flat_where_a_clipped_critic_is_not():
    p, q, x = normal(-4), normal(4), points()
    logit, slope = values_and_slopes(optimal_discriminator.train(p, q, 300, seed=0), x)
    f, f_slope = values_and_slopes(saturation.train_clipped(p, q, 300, seed=0), x)
    middle = abs(x - 4).argmin()
    assert abs(slope * saturation.sigmoid_slope(logit))[middle] < 1e-4
    between = (x > -4) & (x < 4)
    steepest = abs(f_slope).max()
    assert (f_slope[between] < -0.2 * steepest).all()  # downhill from p to q, everywhere
    assert steepest <= theory.clipped_slope_bound((1, 64, 64, 1), saturation.CLIP)
    assert 0 < saturation.distance_found(f / steepest, p, q, x) <= 8


@pytest.mark.parametrize("name", ["N(0, 1), N(3, 1)", "half N(±3, 0.25) each, N(0, 1)"])
def test_a_penalized_critic_finds_the_distance_and_no_more(name):
    (p, q), x = saturation.pairs()[name], points()
    f, slope = values_and_slopes(saturation.train_penalized(p, q, 300, seed=0), x)
    found = saturation.distance_found(f / abs(slope).max(), p, q, x)
    exact = theory.wasserstein_1_by_quadrature(p, q, x)
    assert 0.9 * exact < found <= exact + 1e-4


@pytest.mark.parametrize("start", [-2, 0, 2])
def test_forward_kl_takes_the_moments_of_p(start):
    p = divergences.target()
    q = divergences.fit(divergences.DIVERGENCES["KL(p ‖ q)"], p, points(), start, 600)
    assert q.mean == pytest.approx(p.mean, abs=0.01)
    assert q.variance == pytest.approx(p.variance, rel=1e-3)
    assert (p.mean, p.variance) == pytest.approx((-0.6, 0.49 + 9 - 0.36))


@pytest.mark.parametrize(("start", "mode", "weight"), [(-2, -3, 0.6), (2, 3, 0.4)])
def test_reverse_kl_sits_on_one_mode(start, mode, weight):
    p, divergence = divergences.target(), divergences.DIVERGENCES["KL(q ‖ p)"]
    q = divergences.fit(divergence, p, points(), start, 300)
    assert q.mean == pytest.approx(mode, abs=0.01)
    assert q.scale == pytest.approx(0.7, rel=0.01)
    assert divergence(p, q, points()) == pytest.approx(-math.log(weight), abs=1e-3)


def test_jensen_shannon_has_minima_of_either_kind():
    p, x = divergences.target(), points()
    on_mode = divergences.fit(theory.jensen_shannon, p, x, 2, 300)
    assert on_mode.mean == pytest.approx(3, abs=0.01)
    expected = divergences.jensen_shannon_of_a_mode(0.4)
    assert theory.jensen_shannon(p, on_mode, x) == pytest.approx(expected, abs=1e-3)
    between = divergences.fit(theory.jensen_shannon, p, x, 0, 300)
    assert abs(between.mean + 0.6) < 0.1 and between.scale > 2.5


def test_the_radius_of_the_ring_has_the_moments_of_theory():
    x = ring.ring(Generator(0).normal((100_000, 2), "float64"))
    radii = np.linalg.norm(x, axis=1)
    standard_error = ring.radius_std() / math.sqrt(len(radii))
    assert abs(radii.mean() - ring.radius_mean()) < 4 * standard_error
    assert radii.std() == pytest.approx(ring.radius_std(), rel=0.01)
    r = np.linspace(1, 2, 100_001)
    p = ring.radius_density(r)
    moments = [np.trapezoid(p * r**k, r) for k in range(3)]
    assert moments[:2] == pytest.approx([1, ring.radius_mean()], abs=1e-8)
    assert moments[2] - moments[1] ** 2 == pytest.approx(ring.radius_std() ** 2, abs=1e-8)


def test_the_density_on_the_ring_is_that_of_z_over_the_volume():
    """p(x) = N(z; 0, I) / |det ∂x/∂z|, and on a circle of radius r it is p(r) / 2πr."""
    z = tg.Tensor(np.random.default_rng(0).normal(size=(20, 2)), requires_grad=True)
    x = ring.ring(z)
    rows = [tg.grad(x[:, i].sum(), z, retain_graph=True)[0].data for i in range(2)]
    determinant = np.linalg.det(np.stack(rows, axis=1))
    density = np.exp(-0.5 * (z.data**2).sum(axis=1)) / (2 * math.pi) / abs(determinant)
    r = np.linalg.norm(x.data, axis=1)
    np.testing.assert_allclose(density, ring.radius_density(r) / (2 * math.pi * r), rtol=1e-9)


# As a user runs them -------------------------------------------------------------------------------------

LEFT = {
    "bilinear_game": ({"paths.png"}, ("--steps", 5)),
    "divergences": ({"fits.png"}, ("--steps", 3)),
    "optimal_discriminator": ({"discriminators.png"}, ("--steps", 2)),
    "ring": ({"ring.png"}, ("--points", 50)),
    "saturation": ({"critics.png", "saturation.png"}, ("--steps", 2)),
}


def run(name, *flags, cwd):
    command = [sys.executable, DEMOS / f"{name}.py", *map(str, flags)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ)


@pytest.mark.parametrize("name", LEFT)
def test_they_leave_pictures_and_figures(tmp_path, name):
    pytest.importorskip("matplotlib")
    pictures, short = LEFT[name]
    done = run(name, *short, "--seed", 3, "--out", "results", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "results").iterdir()} == pictures | {"metrics.json"}
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert metrics["flags"]["seed"] == 3 and "resumed after epoch" not in metrics
    for figure, value in metrics["figures"].items():
        assert math.isfinite(value) and f"{figure}  " in done.stdout and f"{value:.6g}" in done.stdout
    assert done.stdout.endswith("seconds on cpu; pictures and metrics.json in results/\n")


@pytest.mark.parametrize("name", LEFT)
@pytest.mark.parametrize("flags", [("--nonsense",), ("--seed", -1), ("--points", 0, "--steps", 0)])
def test_wrong_flags_end_in_one_line_and_leave_nothing(tmp_path, name, flags):
    done = run(name, *flags, cwd=tmp_path)
    assert done.returncode == 2 and f"{name}.py: error: " in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rate", "words"), [(0, "a number above 0"), ("x", "a number above 0"), (2, "less than 2")]
)
def test_a_learning_rate_without_meaning_is_refused(tmp_path, rate, words):
    done = run("bilinear_game", "--learning-rate", rate, cwd=tmp_path)
    assert done.returncode == 2
    assert f"argument --learning-rate: expected {words}" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("demo", [bilinear_game, divergences, optimal_discriminator, ring, saturation])
def test_they_run_on_the_current_device(tmp_path, device, monkeypatch, capsys, demo):
    pytest.importorskip("matplotlib")
    flags = [*LEFT[demo.__name__][1], "--out", tmp_path]
    monkeypatch.setattr(sys, "argv", [demo.__name__, *map(str, flags)])
    demo.main()
    assert f"seconds on {device}" in capsys.readouterr().out
