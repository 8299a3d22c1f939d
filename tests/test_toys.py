"""Toy densities: draws fit the density, the entropy and the published definition; splits never move."""

import hashlib
import math

import numpy as np
import pytest
import strict_cupy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import tinygen as tg
from tinygen import backend
from tinygen.backend import Generator, to_host, xp
from tinygen.data import NAMES, Points, load
from tinygen.data.frozen import FrozenGenerator
from tinygen.data.toys import SOURCES, TOYS, GaussianMixture, checkerboard, rings, twenty_five_gaussians
from tinygen.gradients import check_gradients

MIXTURES = [name for name, toy in TOYS.items() if isinstance(toy, GaussianMixture)]
WITH_DENSITY = [*MIXTURES, "checkerboard"]
every_toy = pytest.mark.parametrize("name", TOYS)
every_density = pytest.mark.parametrize("name", WITH_DENSITY)
every_mixture = pytest.mark.parametrize("name", MIXTURES)


def masses(toy, edges, points):
    """The probability of each cell of a square grid, by the midpoint rule with points² middles."""
    cells, width = len(edges) - 1, edges[1] - edges[0]
    middles = np.linspace(edges[0], edges[-1], 2 * points * cells + 1)[1::2]
    rows = [np.exp(toy.log_prob(np.stack([np.full_like(middles, a), middles], axis=1))) for a in middles]
    return np.reshape(rows, (cells, points, cells, points)).mean(axis=(1, 3)) * width**2


# The density ------------------------------------------------------------------------------------------


@every_density
def test_densities_integrate_to_one_and_fit_the_samples(name):
    toy, n = TOYS[name], 20_000
    edges = np.linspace(-4, 4, 17)
    if name == "twenty_five_gaussians":
        edges = np.linspace(-1.6, 1.6, 17)
    expected = masses(toy, edges, points=32).ravel()
    assert expected.sum() == pytest.approx(1, abs=2e-3)  # 8 Gaussians reach over the edge a little
    drawn = np.histogram2d(*toy.sample(n, Generator(1)).T, [edges, edges])[0].ravel()
    rare = n * expected < 5
    counts = np.append(drawn[~rare], n - drawn[~rare].sum())
    means = np.append(n * expected[~rare], n - n * expected[~rare].sum())
    assert stats.chisquare(counts[means > 0], means[means > 0]).pvalue > 1e-3
    assert counts[means <= 0].sum() == 0


@every_density
def test_entropies_are_the_mean_of_minus_log_p(name):
    log_p = TOYS[name].log_prob(TOYS[name].sample(20_000, Generator(0)).astype(float))
    error = log_p.std() / math.sqrt(len(log_p))
    assert abs(TOYS[name].entropy() + log_p.mean()) <= 4 * error + 1e-12


def test_entropies_in_closed_form():
    def gaussian(std):
        return math.log(2 * math.pi * math.e * std**2)

    assert GaussianMixture(np.array([[1.0, -2.0]]), 0.3).entropy() == pytest.approx(gaussian(0.3), abs=1e-10)
    # 25 that do not overlap.
    apart = math.log(25) + gaussian(twenty_five_gaussians.std)
    assert twenty_five_gaussians.entropy() == pytest.approx(apart, abs=1e-10)
    assert checkerboard.entropy() == math.log(32)
    # Circles that are even and hardly curved: the density is a normal one across, uniform along each.
    lengths = 2 * math.pi * np.array([0.75, 1.5, 2.25, 3])
    straight = np.mean(np.log(4 * lengths)) + 0.5 * gaussian(rings.std)
    assert rings.entropy() == pytest.approx(straight, abs=0.01)


@every_mixture
def test_mixtures_are_scipys(name):
    toy = TOYS[name]
    x = np.random.default_rng(0).uniform(-3, 3, (20, 2))
    parts = [stats.multivariate_normal(centre, toy.std**2).pdf(x) for centre in toy.centres]
    expected = np.log(np.mean(parts, axis=0), where=np.max(parts, axis=0) > 0, out=np.full(20, -np.inf))
    reached = np.isfinite(expected)
    np.testing.assert_allclose(toy.log_prob(x)[reached], expected[reached], rtol=1e-10)
    assert reached.any()


@every_mixture
@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2)), max_size=4))
@settings(max_examples=20)
def test_gradients_of_mixtures(name, points):
    if name == "twenty_five_gaussians":  # coarser, for its third derivatives are beyond any step
        toy = GaussianMixture(TOYS[name].centres, 0.3)
    else:
        toy = TOYS[name]
    check_gradients(toy.log_prob, np.array(points).reshape(-1, 2), order=2)


def test_squares_of_the_checkerboard():
    x = np.array([[0.5, 0.5], [0.5, 2.5], [-0.5, 0.5], [-3.9, -3.9], [3.9, 3.9], [3.9, -3.9]])
    x = np.concatenate([x, [[4.1, 4.1], [-4.1, 0.5], [5, 7], [0.5, 4.5]]])
    inside = [True, False, False, True, True, False, False, False, False, False]
    np.testing.assert_array_equal(checkerboard.log_prob(x), np.where(inside, -math.log(32), -np.inf))


class Edge(FrozenGenerator):
    """Draws always the largest float32, or float64, below 1, or 0, and each whole number in turn."""

    def __init__(self, u):
        self.u = u

    def uniform(self, shape):
        return np.full(shape, self.u)

    def integers(self, low, high, n):
        return np.arange(n) // (1 if high == 4 else 4) % high


@pytest.mark.parametrize(
    "u", [np.float32(0), np.nextafter(np.float32(1), np.float32(0)), np.nextafter(1.0, 0)]
)
def test_no_draw_is_rounded_off_its_square(u):
    x = checkerboard.sample(8, Edge(u))
    assert len({tuple(point) for point in np.floor(x / 2)}) == 8
    assert np.isfinite(checkerboard.log_prob(x)).all()


# The published definitions ----------------------------------------------------------------------------


def along(curve, noise, n, rng):
    return np.stack(curve, axis=1) + noise * rng.normal(size=(n, 2))


def moons_as_published(n, rng):
    t = np.linspace(0, np.pi, n // 2)
    outer, inner = (np.cos(t), np.sin(t)), (1 - np.cos(t), 1 - np.sin(t) - 0.5)
    return 2 * along(np.concatenate([outer, inner], axis=1), 0.1, n, rng) + [-1, -0.2]


def roll_as_published(n, rng):
    t = 1.5 * np.pi * (1 + 2 * rng.random(n))
    return along([t * np.cos(t), t * np.sin(t)], 1.0, n, rng) / 5


def pinwheel_as_published(n, rng):
    label = np.arange(n) % 5
    features = rng.normal(size=(n, 2)) * [0.3, 0.1] + [1, 0]
    angle = label * 2 * np.pi / 5 + 0.25 * np.exp(features[:, 0])
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return 2 * np.einsum("ni,ijn->nj", features, rotation)


def spirals_as_published(n, rng):
    t = np.sqrt(rng.random(n // 2)) * np.radians(540)
    arm = np.stack([-np.cos(t) * t, np.sin(t) * t], axis=1) + 0.5 * rng.random((n // 2, 2))
    return np.concatenate([arm, -arm]) / 3 + 0.1 * rng.normal(size=(n, 2))


def checkerboard_as_published(n, rng):
    across = 4 * rng.random(n) - 2
    up = rng.random(n) - 2 * rng.integers(0, 2, n) + np.floor(across) % 2
    return 2 * np.stack([across, up], axis=1)


def rings_as_published(n, rng):
    angles = np.linspace(0, 2 * np.pi, n // 4, endpoint=False)
    circles = [3 * scale * np.array([np.cos(angles), np.sin(angles)]) for scale in (1, 0.75, 0.5, 0.25)]
    return along(np.concatenate(circles, axis=1), 0.08, n, rng)


@pytest.mark.parametrize(
    "name, published",
    [
        ("two_moons", moons_as_published),
        ("swiss_roll", roll_as_published),
        ("pinwheel", pinwheel_as_published),
        ("two_spirals", spirals_as_published),
        ("checkerboard", checkerboard_as_published),
        ("rings", rings_as_published),
    ],
)
def test_samples_are_distributed_as_published(name, published):
    n, edges = 20_000, np.linspace(-4.05, 4.05, 28)
    ours, theirs = (
        np.histogram2d(*x.T, [edges, edges])[0].ravel()
        for x in (TOYS[name].sample(n, Generator(2)), published(n, np.random.default_rng(3)))
    )
    often = ours + theirs >= 10
    table = np.array([ours[often], theirs[often]])
    table = np.append(table, [[n - table[0].sum() + 1], [n - table[1].sum() + 1]], axis=1)
    assert table.shape[1] > 100
    assert stats.chi2_contingency(table).pvalue > 1e-3


# Samples ----------------------------------------------------------------------------------------------


@every_toy
def test_samples_are_float32_and_repeat_with_their_generator(name, device):
    toy = TOYS[name]
    x = toy.sample(50, Generator(0, 1))
    assert x.shape == (50, 2) and x.dtype == "float32" and backend.device_of(x) == device
    np.testing.assert_array_equal(to_host(x), to_host(toy.sample(50, Generator(0, 1))))
    assert (to_host(x) != to_host(toy.sample(50, Generator(0, 2)))).any()
    assert toy.sample(0, Generator(0)).shape == (0, 2)


@every_toy
def test_the_default_generator_draws_where_none_is_passed(name):
    with Generator(7):
        first = TOYS[name].sample(3)
    np.testing.assert_array_equal(TOYS[name].sample(3, Generator(7)), first)


@every_toy
def test_samples_refuse_a_bad_number_or_generator(name):
    for n in (-1, 2.0):
        with pytest.raises(ValueError, match=rf"^n: expected an int of at least 0, got {n}$"):
            TOYS[name].sample(n)
    for rng in (0, np.random.default_rng(0), np.random.RandomState(0)):
        with pytest.raises(
            TypeError, match=rf"^rng: expected a tinygen generator or None, got {type(rng).__name__}$"
        ):
            TOYS[name].sample(3, rng)


@every_toy
def test_a_step_waits_for_nothing_on_a_gpu(name):
    with backend.device("strict"), strict_cupy.forbid_transfers():
        x = TOYS[name].sample(10, Generator(0))
        if name in WITH_DENSITY:
            TOYS[name].log_prob(x)


@every_density
def test_log_densities_of_tensors_and_arrays(name, device):
    toy = TOYS[name]
    host = np.random.default_rng(0).uniform(-2, 2, (30, 2))
    expected = toy.log_prob(xp.asarray(host))
    assert expected.shape == (30,) and expected.dtype == "float64"
    tensor = toy.log_prob(tg.Tensor(host))
    assert isinstance(tensor, tg.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), to_host(expected))
    single = toy.log_prob(xp.asarray(host.astype("float32")))
    assert single.dtype == "float32"
    np.testing.assert_allclose(to_host(single), to_host(expected), rtol=1e-4, atol=1e-4)
    assert toy.log_prob(xp.zeros((0, 2))).shape == (0,)
    assert toy.entropy() == pytest.approx(load(name).density.entropy())


@every_density
def test_log_densities_refuse_what_is_no_point_of_the_plane(name):
    log_prob = TOYS[name].log_prob
    for x in (np.zeros(2), np.zeros((3, 3)), np.zeros((2, 3, 2)), [[0.0, 1.0]]):
        with pytest.raises(ValueError, match=r"^x: expected a Tensor or an array of shape \(N, 2\), got "):
            log_prob(x)
    with pytest.raises(TypeError, match=r"^x: expected a floating dtype, got int64$"):
        log_prob(np.zeros((3, 2), int))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"^x: expected finite values"):
            log_prob(tg.Tensor(np.array([[0.0, bad]])))


# Splits -----------------------------------------------------------------------------------------------

FINGERPRINTS = {
    "eight_gaussians": "45eb02cb8e88f877",
    "twenty_five_gaussians": "a4d8ce9f4987e116",
    "two_moons": "0e5eb95b40bfb405",
    "swiss_roll": "c8a3454b12e552f9",
    "pinwheel": "a55fb5249c462cc9",
    "checkerboard": "4e5a4d14c6cb3d9f",
    "rings": "27dc3fe42ebc543e",
    "two_spirals": "ee2735a8463f93de",
}


def fingerprint(points):
    content = b"".join(
        split.astype("<f4").tobytes() for split in (points.train, points.validation, points.test)
    )
    return hashlib.sha256(content).hexdigest()[:16]


@every_toy
def test_splits_never_change(name, device):
    tg.seed(5)
    assert fingerprint(load(name)) == FINGERPRINTS[name]
    assert backend.current_device().name == device


@every_toy
def test_data_sets_of_points(name):
    points = load(name)
    assert isinstance(points, Points)
    assert name in NAMES and points.name == name and points.density is TOYS[name]
    assert points.source == SOURCES[name] and "arXiv" in points.source
    assert [len(split) for split in (points.train, points.validation, points.test)] == [10_000, 2_000, 10_000]
    for split in (points.train, points.validation, points.test):
        assert split.dtype == np.float32 and split.shape[1:] == (2,)
        with pytest.raises(ValueError, match="read-only"):
            split[0] = 0
    # Drawn one by one: none is in two splits.
    rows = np.concatenate([points.train, points.validation, points.test])
    assert len({row.tobytes() for row in rows}) == len(rows)
    assert repr(points) == f"Points({name!r}, train=10000, validation=2000, test=10000)"
