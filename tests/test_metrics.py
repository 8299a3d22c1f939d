"""Metrics against closed forms, the naive sums, and what they must not depend on."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen import metrics
from tinygen.backend import Generator, xp
from tinygen.data.toys import twenty_five_gaussians
from tinygen.metrics.points import squared_distances

seeds = st.integers(0, 1000)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def rotation(dimensions, seed):
    q, _ = np.linalg.qr(normal(dimensions, dimensions, seed=seed))
    return q


def with_moments(mean, covariance, n, seed=0):
    """n points that have exactly this mean and covariance."""
    x = normal(n, len(mean), seed=seed)
    x -= x.mean(axis=0)
    values, vectors = np.linalg.eigh(covariance)
    whitened = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T, ddof=1))).T
    return whitened @ (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T + mean


# The inception score --------------------------------------------------------------------------------------


@pytest.mark.parametrize("splits", [1, 3, 10])
def test_inception_score_is_the_number_of_labels_at_best_and_1_at_worst(splits):
    one_hot = np.tile(np.eye(4), (30, 1))  # in each part as often
    assert metrics.inception_score(one_hot, splits) == pytest.approx((4, 0))
    constant = np.tile([0.1, 0.2, 0.3, 0.4], (30, 1))
    assert metrics.inception_score(constant, splits) == pytest.approx((1, 0))


def test_inception_score_by_the_definition():
    p = np.random.default_rng(0).dirichlet(np.ones(5), 40)
    parts = p[:20], p[20:]
    scores = [np.exp(np.mean([np.sum(q * np.log(q / part.mean(axis=0))) for q in part])) for part in parts]
    assert metrics.inception_score(p, 2) == pytest.approx((np.mean(scores), np.std(scores)))
    # Half of one label, half of two others that cannot be told: exp(H(½, ¼, ¼) − ½ log 2) = 2.
    p = np.array([[1, 0, 0], [0, 0.5, 0.5]])
    assert metrics.inception_score(p, 1) == pytest.approx((2, 0))


@given(st.integers(1, 30), st.integers(1, 6), st.floats(0.01, 5), seeds)
def test_inception_score_lies_between_1_and_the_number_of_labels(n, labels, concentration, seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(labels, concentration), n)
    score, deviation = metrics.inception_score(p, 1)
    assert 1 - 1e-9 <= score <= labels * (1 + 1e-9) and deviation == 0
    again, _ = metrics.inception_score(p[rng.permutation(n)][:, rng.permutation(labels)], 1)
    assert again == pytest.approx(score)


@pytest.mark.parametrize(
    ("p", "splits", "words"),
    [
        (np.array([[0.5, 0.6]]), 1, "probabilities: expected rows of at least 0 that sum to 1, got"),
        (np.array([[1.5, -0.5]]), 1, "probabilities: expected rows of at least 0"),
        (np.array([[0.5, np.nan]]), 1, "probabilities: expected finite values, got nan"),
        (np.ones(3), 1, r"probabilities: expected .* \(N, D\) with N of at least 1.*got float64\[3\]"),
        (np.ones((3, 1)), 10, "splits: expected an int from 1 to 3, the number of samples; got 10"),
        (np.ones((3, 1)), 0, "splits: expected an int from 1"),
        (np.ones((3, 1)), 1.5, "splits: expected an int from 1"),
    ],
)
def test_inception_score_refuses_what_is_no_distribution(p, splits, words):
    with pytest.raises(ValueError, match=words):
        metrics.inception_score(p, splits)


# The Fréchet distance -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(50, 8), (5, 8), (2, 3), (50, 1)])
def test_frechet_distance_to_itself_is_0(shape):
    x = 10 * normal(*shape)
    assert metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet_distance(np.tile(x, (1, 3)), np.tile(x, (1, 3))) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_commuting_covariances():
    """‖μ − μ'‖² + Σ (√λ − √λ')²."""
    u = rotation(4, seed=1)
    a, b = np.array([4.0, 1, 0.25, 0]), np.array([1.0, 9, 0, 2])
    mean = np.array([1.0, -2, 0, 3])
    x = with_moments(np.zeros(4), u @ np.diag(a) @ u.T, 40)
    y = with_moments(mean, u @ np.diag(b) @ u.T, 60, seed=2)
    expected = 14 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert metrics.frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_covariances_that_do_not_commute():
    a, b = (m @ m.T for m in normal(2, 5, 5))
    scipy_linalg = pytest.importorskip("scipy.linalg")
    expected = np.trace(a + b - 2 * scipy_linalg.sqrtm(a @ b).real)
    x, y = with_moments(np.ones(5), a, 30), with_moments(np.ones(5), b, 30, seed=1)
    assert metrics.frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_singular_covariances():
    # Two directions at an angle of 60°: tr C + tr C' − 2 σ σ' cos 60°.
    x = np.outer([-1.0, 1.0, -2, 2], [1, 0, 0])
    y = np.outer([-1.0, 1.0, -2, 2], [0.5, math.sqrt(0.75), 0])
    variance = x.var(axis=0, ddof=1).sum()
    assert metrics.frechet_distance(x, y) == pytest.approx(variance, rel=1e-9)


@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 6), st.floats(-100, 100), seeds)
def test_frechet_distance_does_not_depend_on_order_place_and_direction(n, m, dimensions, shift, seed):
    x, y = normal(n, dimensions, seed=seed), 1 + 2 * normal(m, dimensions, seed=seed + 1)
    distance = metrics.frechet_distance(x, y)
    assert distance >= 0
    assert metrics.frechet_distance(y, x) == pytest.approx(distance, abs=1e-7)
    assert metrics.frechet_distance(x[::-1], y) == pytest.approx(distance, abs=1e-7)
    u = rotation(dimensions, seed)
    assert metrics.frechet_distance(x @ u + shift, y @ u + shift) == pytest.approx(distance, abs=1e-7)
    assert metrics.frechet_distance(3 * x, 3 * y) == pytest.approx(9 * distance, abs=1e-6)


def test_frechet_distance_of_draws_from_one_gaussian_is_the_floor_in_its_docstring():
    F, N = 16, 1000
    distances = [
        metrics.frechet_distance(normal(N, F, seed=2 * k), normal(N, F, seed=2 * k + 1)) for k in range(20)
    ]
    assert np.mean(distances) == pytest.approx((2 * F + F * (F + 1) / 2) / N, rel=0.05)


# Maximum mean discrepancy ---------------------------------------------------------------------------------


def kernel(x, y, sigma):
    return math.exp(-((x - y) ** 2).sum() / (2 * sigma**2))


@given(st.integers(2, 6), st.integers(2, 6), st.integers(1, 3), st.floats(0.3, 5), seeds)
@settings(max_examples=30)
def test_mmd_is_the_double_sum(m, n, dimensions, sigma, seed):
    x, y = normal(m, dimensions, seed=seed), 1 + normal(n, dimensions, seed=seed + 1)
    within_x = [kernel(x[i], x[j], sigma) for i in range(m) for j in range(m) if i != j]
    within_y = [kernel(y[i], y[j], sigma) for i in range(n) for j in range(n) if i != j]
    between = [kernel(a, b, sigma) for a in x for b in y]
    expected = np.mean(within_x) + np.mean(within_y) - 2 * np.mean(between)
    assert metrics.mmd2(x, y, sigma) == pytest.approx(expected, abs=1e-12)
    assert metrics.mmd2(y[::-1] + 50, x + 50, sigma) == pytest.approx(expected, abs=1e-10)
    assert metrics.mmd_test(x, y, sigma, permutations=3).statistic == pytest.approx(expected, abs=1e-12)


def test_mmd_of_two_gaussians():
    """Of N(0, I) and N(δ, I): 2 c (1 − exp(−‖δ‖² / 2 (σ² + 2))) with c = (σ² / (σ² + 2))^{D/2}."""
    D, sigma, delta = 2, 1.5, 1.0
    c = (sigma**2 / (sigma**2 + 2)) ** (D / 2)
    expected = 2 * c * (1 - math.exp(-D * delta**2 / (2 * (sigma**2 + 2))))
    draws = [
        metrics.mmd2(normal(200, D, seed=2 * k), delta + normal(200, D, seed=2 * k + 1), sigma)
        for k in range(40)
    ]
    assert abs(np.mean(draws) - expected) < 4 * np.std(draws) / math.sqrt(40)
    assert expected > 10 * np.std(draws) / math.sqrt(40)


def test_mmd_is_0_on_average_under_equality():
    draws = [metrics.mmd2(normal(20, 3, seed=2 * k), normal(30, 3, seed=2 * k + 1), 1.0) for k in range(400)]
    assert abs(np.mean(draws)) < 4 * np.std(draws) / 20
    assert min(draws) < 0 < max(draws)


def test_the_bandwidth_is_the_median_distance():
    x, y = np.array([[0.0], [1.0]]), np.array([[3.0], [7.0]])
    assert metrics.median_bandwidth(x, y) == 3.5  # of 1, 2, 3, 4, 6, 7
    assert metrics.mmd2(x, y) == metrics.mmd2(x, y, 3.5)


@given(st.integers(1, 60), st.floats(-5, 5), seeds)
def test_points_that_coincide_have_no_bandwidth(dimensions, shift, seed):
    same = np.repeat(shift + 10 * normal(1, dimensions, seed=seed), 30, axis=0)
    few = normal(3, dimensions, seed=seed + 1)
    with pytest.raises(ValueError, match="bandwidth: expected one, for the median distance"):
        metrics.median_bandwidth(np.concatenate([same, few]), same)


def test_p_values_of_permutations():
    x = normal(40, 2)
    assert metrics.mmd_test(x, x + 3, permutations=99).p_value == 0.01
    assert metrics.mmd_test(x, x, permutations=99).p_value > 0.9  # the nearest that can be
    # Six points in two threes, of which the extreme division is one of 20, in either order.
    ends = np.array([[0.0], [1], [2]])
    assert metrics.mmd_test(ends, ends + 10, permutations=2000).p_value == pytest.approx(0.1, abs=0.03)
    p = [
        metrics.mmd_test(normal(15, 2, seed=2 * k), normal(15, 2, seed=2 * k + 1), permutations=19).p_value
        for k in range(200)
    ]
    assert np.mean(np.array(p) <= 0.25) == pytest.approx(0.25, abs=0.1)  # uniform under equality
    assert metrics.mmd_test(x, x + 0.1, seed=3) == metrics.mmd_test(x, x + 0.1, seed=3)


@pytest.mark.parametrize(
    ("x", "y", "settings", "words"),
    [
        (normal(1, 2), normal(3, 2), {}, r"x: expected .*\(N, D\) with N of at least 2, .*float64\[1, 2\]"),
        (normal(3, 2), normal(3, 1), {}, r"y: expected .*\(N, 2\) with N of at least 2, .*float64\[3, 1\]"),
        (normal(3, 2), np.ones((3, 2), int), {}, r"y: expected .*floating; got int64\[3, 2\]"),
        (normal(3, 2), [[1.0, 2.0]], {}, "y: expected .*got list"),
        (np.array([[1.0], [np.inf]]), normal(2, 1), {}, "x: expected finite values, got inf"),
        (np.ones((3, 2)), np.ones((3, 2)), {}, "bandwidth: expected one, for the median distance"),
        (normal(3, 2), normal(3, 2), {"bandwidth": 0.0}, "bandwidth: expected a positive number, got 0.0"),
    ],
)
def test_two_sample_tests_refuse_bad_input(x, y, settings, words):
    for function in (metrics.mmd2, metrics.mmd_test):
        with pytest.raises(ValueError, match=words):
            function(x, y, **settings)
    if not settings and "median" not in words:
        with pytest.raises(ValueError, match=words.replace("at least 2", "at least 4")):
            metrics.classifier_two_sample_test(np.repeat(x, 2, axis=0) if len(x) > 1 else x, y, **settings)


def test_numbers_of_permutations_and_of_points_are_checked():
    with pytest.raises(ValueError, match="permutations: expected an int of at least 1, got 0"):
        metrics.mmd_test(normal(3, 2), normal(3, 2), permutations=0)
    with pytest.raises(ValueError, match="y: expected 5 points, as many as of x, got 6"):
        metrics.classifier_two_sample_test(normal(5, 2), normal(6, 2))


# The classifier two-sample test ---------------------------------------------------------------------------


def test_a_classifier_tells_apart_what_is_disjoint():
    x = normal(40, 2)
    test = metrics.classifier_two_sample_test(x, x + 20)
    assert test.statistic == 1 and test.p_value == pytest.approx(0.5 * math.erfc(math.sqrt(40 / 2)))
    # Only the spread differs: no straight line tells.
    test = metrics.classifier_two_sample_test(normal(400, 2), 0.2 * normal(400, 2, seed=1))
    assert 0.75 < test.statistic < 1 and test.p_value < 1e-10


def test_a_classifier_tells_nothing_apart_under_equality():
    tests = [
        metrics.classifier_two_sample_test(normal(24, 2, seed=2 * k), normal(24, 2, seed=2 * k + 1), seed=k)
        for k in range(40)
    ]
    accuracies = np.array([test.statistic for test in tests])
    # N(½, 1 / (4 n_te)) with n_te = 24
    assert abs(accuracies.mean() - 0.5) < 4 * math.sqrt(1 / (4 * 24) / 40)
    assert accuracies.std() < 1.5 * math.sqrt(1 / (4 * 24))
    for test in tests:
        z = (test.statistic - 0.5) * math.sqrt(4 * 24)
        assert test.p_value == pytest.approx(0.5 * math.erfc(z / math.sqrt(2)))


# k-means --------------------------------------------------------------------------------------------------


def test_kmeans_finds_groups_that_are_apart():
    groups = np.array([[0.0, 0], [10, 0], [0, 10]])
    points = (groups[:, None] + 0.1 * normal(3, 20, 2)).reshape(-1, 2)
    for seed in range(5):
        centers, labels = metrics.kmeans(points, 3, seed)
        np.testing.assert_array_equal(labels.reshape(3, 20), np.repeat(labels[::20, None], 20, axis=1))
        assert len(set(labels)) == 3
        np.testing.assert_allclose(centers[labels[::20]], points.reshape(3, 20, 2).mean(axis=1))


@given(st.integers(1, 20), st.integers(1, 3), st.data())
def test_kmeans_ends_where_nothing_moves(n, dimensions, data):
    clusters, seed = data.draw(st.integers(1, n)), data.draw(seeds)
    points = np.round(2 * normal(n, dimensions, seed=seed))  # with ties and doubles
    centers, labels = metrics.kmeans(points, clusters, seed)
    distances = ((points[:, None] - centers) ** 2).sum(axis=2)
    np.testing.assert_allclose(distances[np.arange(n), labels], distances.min(axis=1), atol=1e-9)
    for k in set(labels):
        np.testing.assert_allclose(centers[k], points[labels == k].mean(axis=0), atol=1e-9)
    again = metrics.kmeans(points, clusters, seed)
    np.testing.assert_array_equal(again.labels, labels)


def test_as_many_clusters_as_points_fit_exactly():
    points = normal(12, 2)
    centers, labels = metrics.kmeans(points, 12)
    np.testing.assert_allclose(centers[labels], points, atol=1e-12)
    same = metrics.kmeans(np.ones((5, 2)), 3)
    np.testing.assert_array_equal(same.centers, np.ones((3, 2)))


@pytest.mark.parametrize("clusters", [0, 4, 2.5])
def test_kmeans_refuses_more_clusters_than_points(clusters):
    words = rf"clusters: expected an int from 1 to 3, the number of points; got {clusters}"
    with pytest.raises(ValueError, match=words):
        metrics.kmeans(normal(3, 2), clusters)


# Precision and recall -------------------------------------------------------------------------------------


def test_precision_and_recall_of_the_same_and_of_disjoint_sets():
    x = normal(100, 3)
    same = metrics.precision_recall(x, x[::-1])
    assert same.precision == pytest.approx(1) and same.recall == pytest.approx(1)
    disjoint = metrics.precision_recall(x, x + 100)
    assert disjoint.precision == disjoint.recall == 0
    assert disjoint.precisions.shape == disjoint.recalls.shape == (1001,)


def test_dropped_modes_cost_recall_and_invented_ones_precision():
    """With half of the modes the best pair is (1, ½)."""
    middles = 100 * normal(10, 2)
    both, half = ((middles[:k, None] + 0.1 * normal(k, 40, 2, seed=k)).reshape(-1, 2) for k in (10, 5))
    dropped = metrics.precision_recall(both, half, clusters=10)
    # F_b of (1, ½), which λ = 2 nearly reaches.
    f = {b: (1 + b * b) * 0.5 / (b * b + 0.5) for b in (8, 1 / 8)}
    assert dropped.recall == pytest.approx(f[8], abs=5e-3)
    assert dropped.precision == pytest.approx(f[1 / 8], abs=5e-3)
    invented = metrics.precision_recall(half, both, clusters=10)
    assert invented.recall == pytest.approx(dropped.precision, abs=5e-3)
    assert invented.precision == pytest.approx(dropped.recall, abs=5e-3)


@given(st.integers(3, 20), st.integers(3, 20), seeds)
@settings(max_examples=20)
def test_the_curve_of_precision_and_recall(n, m, seed):
    x, y = normal(n, 2, seed=seed), 0.5 + normal(m, 2, seed=seed + 1)
    found = metrics.precision_recall(x, y, clusters=3, seed=seed)
    alpha, beta = found.precisions, found.recalls
    assert (np.diff(alpha) >= -1e-12).all() and (np.diff(beta) <= 1e-12).all()
    assert alpha.min() >= 0 and alpha.max() <= 1 + 1e-12 and beta.min() >= 0 and beta.max() <= 1 + 1e-12
    # At λ = 1 both are 1 minus the total variation of the shares.
    assert alpha[500] == pytest.approx(beta[500])
    assert 0 <= found.precision <= 1 + 1e-12 and 0 <= found.recall <= 1 + 1e-12
    again = metrics.precision_recall(x, y, clusters=3, seed=seed)
    assert (again.precision, again.recall) == (found.precision, found.recall)


# Modes ----------------------------------------------------------------------------------------------------


def test_a_perfect_sampler():
    mixture = twenty_five_gaussians
    found = metrics.modes(mixture.sample(100_000, Generator(0)), mixture.centres, mixture.std)
    exact = 1 - math.exp(-4.5)
    assert found.covered == 25
    assert abs(found.high_quality - exact) < 4 * math.sqrt(exact * (1 - exact) / 100_000)
    # The mean of a χ² variable with 24 degrees of freedom, over 2 N.
    assert 0 < found.reverse_kl < 3 * 24 / 200_000


def test_modes_that_are_missed_and_samples_that_are_off():
    centers = np.array([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    samples = np.array([[0.0, 0.29], [0.31, 0], [10, 0], [10, 0.5]])
    # Within 3 · 0.1 of the centre: the first and the third.
    found = metrics.modes(samples, centers, 0.1)
    assert found == (2, 0.5, pytest.approx(math.log(2)))
    assert metrics.modes(np.zeros((5, 2)), centers, 0.1) == (1, 1.0, pytest.approx(math.log(4)))
    assert metrics.modes(centers, centers, 0.1) == (4, 1.0, 0.0)
    assert metrics.modes(centers + 1, centers, 0.1) == (0, 0.0, 0.0)


@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 3), st.floats(0.1, 3), seeds)
def test_modes_do_not_depend_on_order_and_place(n, k, dimensions, sigma, seed):
    samples, centers = normal(n, dimensions, seed=seed), normal(k, dimensions, seed=seed + 1)
    found = metrics.modes(samples, centers, sigma)
    assert 0 <= found.covered <= min(k, n) and 0 <= found.reverse_kl <= math.log(k) + 1e-12
    moved = metrics.modes(samples[::-1] + 20, centers[::-1] + 20, sigma)
    assert moved == (found.covered, found.high_quality, pytest.approx(found.reverse_kl))


def test_modes_refuse_bad_input():
    with pytest.raises(ValueError, match=r"centers: expected .*\(N, 2\).*got float64\[3, 3\]"):
        metrics.modes(normal(5, 2), normal(3, 3), 1.0)
    with pytest.raises(ValueError, match=r"samples: expected .*got float64\[0, 2\]"):
        metrics.modes(normal(0, 2), normal(3, 2), 1.0)
    for sigma in (0, -1.0, math.nan):
        with pytest.raises(ValueError, match="sigma: expected a positive number, got"):
            metrics.modes(normal(5, 2), normal(3, 2), sigma)


# Parzen windows -------------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(2, 5), st.integers(1, 3), st.floats(0.2, 3), seeds)
def test_parzen_windows_by_the_definition(n, m, dimensions, sigma, seed):
    samples, test = normal(n, dimensions, seed=seed), normal(m, dimensions, seed=seed + 1)
    norm = (2 * math.pi * sigma**2) ** (-dimensions / 2)
    p = [np.mean([norm * kernel(x, s, sigma) for s in samples]) for x in test]
    found = metrics.parzen_log_likelihood(samples, test, test, (sigma,))
    assert found.log_likelihood == pytest.approx(np.mean(np.log(p)))
    assert found.standard_error == pytest.approx(np.std(np.log(p), ddof=1) / math.sqrt(m))


def test_the_bandwidth_is_the_best_on_validation_points():
    samples, test = normal(2000, 1), normal(2000, 1, seed=1)
    found = metrics.parzen_log_likelihood(samples, test, normal(500, 1, seed=2), (0.001, 0.1, 0.2, 5.0))
    assert found.bandwidth in (0.1, 0.2)
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    assert found.log_likelihood == pytest.approx(-entropy, abs=4 * found.standard_error)
    # Far from all samples nothing underflows: one sample is enough.
    far = metrics.parzen_log_likelihood(np.zeros((1, 1)), np.full((2, 1), 100.0), np.ones((1, 1)), (1.0,))
    assert far == (pytest.approx(-5000 - 0.5 * math.log(2 * math.pi)), 0, 1.0)


def test_means_of_images_beat_images():
    """What makes the estimate worthless: in many dimensions centres of clusters beat draws from the data."""
    centers = normal(20, 100)
    draws = [np.repeat(centers, 20, axis=0) + 0.7 * normal(400, 100, seed=k) for k in (1, 2, 3)]
    data = metrics.parzen_log_likelihood(*draws)
    means = metrics.parzen_log_likelihood(metrics.kmeans(draws[0], 20).centers, *draws[1:])
    assert means.log_likelihood > data.log_likelihood + 10


def test_parzen_windows_refuse_bad_input():
    x = normal(3, 2)
    with pytest.raises(ValueError, match=r"validation: expected .*\(N, 2\).*got float64\[3, 1\]"):
        metrics.parzen_log_likelihood(x, x, x[:, :1])
    with pytest.raises(ValueError, match=r"test: expected .*N of at least 2.*got float64\[1, 2\]"):
        metrics.parzen_log_likelihood(x, x[:1], x)
    for bandwidths in ((), (0.0,), (1.0, -1.0)):
        with pytest.raises(ValueError, match="bandwidths: expected positive numbers, got"):
            metrics.parzen_log_likelihood(x, x, x, bandwidths)


# What all share -------------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.floats(-1e4, 1e4), seeds)
def test_squared_distances_far_from_the_origin(n, m, dimensions, shift, seed):
    x, y = normal(n, dimensions, seed=seed), normal(m, dimensions, seed=seed + 1)
    expected = ((x[:, None] - y) ** 2).sum(axis=2)
    np.testing.assert_allclose(squared_distances(x + shift, y + shift), expected, atol=1e-9)


def test_metrics_of_arrays_and_tensors_of_any_device(device):
    x, y = normal(40, 2), 0.5 + normal(40, 2, seed=1)
    p = np.random.default_rng(0).dirichlet(np.ones(4), 20)
    for function, sets in [
        (metrics.inception_score, [p]),
        (metrics.frechet_distance, [x, y]),
        (metrics.mmd2, [x, y]),
        (metrics.mmd_test, [x, y]),
        (metrics.classifier_two_sample_test, [x, y]),
        (lambda a, b: metrics.precision_recall(a, b)[:2], [x, y]),
        (lambda samples, centers: metrics.modes(samples, centers, 0.5), [x, y[:3]]),
        (metrics.parzen_log_likelihood, [x, y, y[:5]]),
    ]:
        with tg.device("cpu"):
            expected = function(*sets)
        assert function(*map(xp.asarray, sets)) == expected
        assert function(*map(tg.Tensor, sets)) == expected
        assert function(*sets) == expected  # arrays of the host, whatever the device


def test_metrics_leave_the_default_generators_alone():
    tg.seed(3)
    expected = tg.nn.Linear(3, 2).weight.numpy(), tg.backend.default_generator().normal(4)
    tg.seed(3)
    metrics.classifier_two_sample_test(normal(8, 2), normal(8, 2, seed=1))
    metrics.precision_recall(normal(20, 2), normal(20, 2))
    np.testing.assert_array_equal(tg.nn.Linear(3, 2).weight.numpy(), expected[0])
    np.testing.assert_array_equal(tg.backend.default_generator().normal(4), expected[1])
