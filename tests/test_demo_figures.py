"""Figures that demos print, where models with a closed form stand in for trained ones."""

import importlib
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinygen as tg
from tinygen import data, ops
from tinygen.backend import Generator

sys.path.append(str(Path(__file__).parent.parent / "demos"))
maf, gated_pixelcnn, _raster = map(importlib.import_module, ["maf", "gated_pixelcnn", "_raster"])


# maf.py -------------------------------------------------------------------------------------------


def test_bits_of_pixels_that_a_flow_finds_uniform_are_log2_of_their_levels():
    """u ~ U(0, 1) has y = logit(α + (1 − 2α) u) of density σ(y) σ(−y) / (1 − 2α)."""
    images = maf.Images(data.load("digits"), labels=0)

    def log_prob(y, labels):
        return (ops.log_sigmoid(y) + ops.log_sigmoid(-y) - math.log(1 - 2 * images.alpha)).sum(axis=1)

    means = maf.means(SimpleNamespace(log_prob=log_prob), images, images.test, Generator(0))
    assert images.figures(*means)["bits per dimension of the grey levels"] == pytest.approx(math.log2(17))


def test_points_cost_the_density_itself_their_entropy():
    plane = maf.Plane(data.load("eight_gaussians"))
    flow = SimpleNamespace(log_prob=lambda x, labels: plane.density.log_prob(x))
    found, least = plane.figures(*maf.means(flow, plane, plane.test, Generator(0))).values()
    assert found == pytest.approx(least, abs=0.05)


# Models of pixels ---------------------------------------------------------------------------------


def test_nats_are_the_mean_of_minus_log_p_over_images():
    """−log p(x) is the number of ones here; the last of the parts of 100 images is smaller."""
    pixels = _raster.Pixels(data.load("digits"), "binary")
    ones = pixels.read(pixels.dataset.test.images).sum(axis=(1, 2, 3))
    model = SimpleNamespace(labels=0, log_prob=lambda x, labels: -tg.Tensor(x).sum(axis=(1, 2, 3)))
    assert _raster.negative_log_likelihood(model, pixels, pixels.dataset.test) == pytest.approx(ones.mean())


def test_bits_of_levels_that_are_all_alike_are_log2_of_their_number():
    pixels = _raster.Pixels(data.load("digits"), "levels")
    ((name, bits),) = pixels.figure(64 * math.log(17)).items()
    assert "bits per dimension" in name and bits == pytest.approx(math.log2(17))


def test_three_samples_of_four_with_the_label_asked_for_are_75_percent(monkeypatch):
    """The grey of a sample is a label, in every fourth one the next; a judge of images tells it from that."""

    def sample(n, asked, rng):
        drawn = np.where(np.arange(n) % 4 == 0, (asked + 1) % 10, asked)
        return np.broadcast_to(drawn[:, None, None, None], (n, 8, 8, 1))

    judge = SimpleNamespace(accuracy=0.9, predict=lambda images: np.rint(16 * images[:, 0, 0, 0]))
    monkeypatch.setattr(gated_pixelcnn.metrics, "classifier", lambda dataset, progress: judge)
    model, pixels = SimpleNamespace(labels=10, sample=sample), _raster.Pixels(data.load("digits"), "levels")
    of_test, of_samples = gated_pixelcnn.recognized(SimpleNamespace(seed=0), model, pixels).values()
    assert (of_test, of_samples) == pytest.approx((90, 75))
