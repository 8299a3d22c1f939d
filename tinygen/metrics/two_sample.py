"""Two-sample tests: can samples of a model be told from data?

Both tests ask whether x and y come from one distribution, and answer with a p-value: how often a statistic
at least as large would come about if they did. A model with a small one is not the data's distribution; one
with a large one has only not been found out by so many samples.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np  # metrics compute on the host

from .. import backend
from ..autodiff import no_grad
from .network import MLP, fit
from .points import pair, squared_distances


class TwoSampleTest(NamedTuple):
    """statistic: what was measured. p_value: the probability of as much or more under equality."""

    statistic: float
    p_value: float


# Maximum mean discrepancy ---------------------------------------------------------------------------------


def mmd2(x, y, bandwidth: float | None = None) -> float:
    """The squared maximum mean discrepancy E k(x, x') + E k(y, y') − 2 E k(x, y), estimated without bias,

        1/(m(m−1)) Σᵢ Σ_{j≠i} k(xᵢ, xⱼ) + 1/(n(n−1)) Σᵢ Σ_{j≠i} k(yᵢ, yⱼ) − 2/(mn) Σᵢ Σⱼ k(xᵢ, yⱼ),

    with the kernel k(x, y) = exp(−‖x − y‖² / 2σ²), of points x (m, D) and y (n, D) (A. Gretton,
    K. M. Borgwardt, M. J. Rasch, B. Schölkopf and A. Smola, A Kernel Two-Sample Test, 2012, eq. 3).

    bandwidth: σ, that of `median_bandwidth` if None.

    0 on average where x and y have one distribution, so that it can be negative. Memory grows with
    (m + n)². Raises ValueError for what is not two sets of 2 or more points of one space, or a bandwidth that
    is not positive."""
    x, y = pair(("x", "y"), x, y, least=2)
    return float(_mmd2(_kernel(x, y, bandwidth), np.arange(len(x) + len(y))[:, None] < len(x))[0])


def mmd_test(x, y, bandwidth: float | None = None, permutations: int = 500, seed: int = 0) -> TwoSampleTest:
    """`mmd2` of x and y, with the p-value of a permutation test: the share of `permutations` of all points,
    and of the order as it is, in which it is at least as large. Raises ValueError as `mmd2`."""
    x, y = pair(("x", "y"), x, y, least=2)
    if not isinstance(permutations, int) or permutations < 1:
        raise ValueError(f"permutations: expected an int of at least 1, got {permutations!r}")
    rng = np.random.default_rng(seed)
    orders = [np.arange(len(x) + len(y))] + [rng.permutation(len(x) + len(y)) for _ in range(permutations)]
    observed, *others = _mmd2(_kernel(x, y, bandwidth), np.stack(orders, axis=1) < len(x))
    # Sums in another order round otherwise: what is equal must count.
    reached = np.array(others) >= observed - 1e-12
    return TwoSampleTest(float(observed), (1 + int(reached.sum())) / (1 + permutations))


def median_bandwidth(x, y) -> float:
    """The median of the distances between any two of all points x (m, D) and y (n, D) (Gretton et al. 2012,
    section 8). Raises ValueError where it is 0, as more than half of the pairs coincide."""
    points = np.concatenate(pair(("x", "y"), x, y))
    distances = np.sqrt(squared_distances(points, points)[np.triu_indices(len(points), 1)])
    median = float(np.median(distances)) if len(distances) else 0.0
    if median == 0:
        raise ValueError("bandwidth: expected one, for the median distance of the points x and y is 0")
    return median


def _kernel(x: np.ndarray, y: np.ndarray, bandwidth: float | None) -> np.ndarray:
    """k of any two of all points, with 0 for a point and itself: (m + n, m + n)."""
    sigma = median_bandwidth(x, y) if bandwidth is None else bandwidth
    if not 0 < sigma < math.inf:
        raise ValueError(f"bandwidth: expected a positive number, got {bandwidth}")
    points = np.concatenate([x, y])
    kernel = np.exp(squared_distances(points, points) * (-0.5 / sigma**2))
    np.fill_diagonal(kernel, 0)
    return kernel


def _mmd2(kernel: np.ndarray, in_x: np.ndarray) -> np.ndarray:
    """The estimate for B ways, in_x (m + n, B), to divide all points into x and y: (B,)."""
    a = in_x.astype("float64")
    m, n = a[:, 0].sum(), (1 - a[:, 0]).sum()
    to_x = kernel @ a
    within_x = (a * to_x).sum(axis=0)
    between = ((1 - a) * to_x).sum(axis=0)
    within_y = kernel.sum() - within_x - 2 * between
    return within_x / (m * (m - 1)) + within_y / (n * (n - 1)) - 2 * between / (m * n)


# A classifier as the test -----------------------------------------------------------------------------------

UNITS, EPOCHS, BATCH, LEARNING_RATE = 20, 100, 64, 3e-3


def classifier_two_sample_test(x, y, seed: int = 0) -> TwoSampleTest:
    """The share of held-out points of which a network tells whether they are of x or of y, and its p-value
    (D. Lopez-Paz and M. Oquab, Revisiting Classifier Two-Sample Tests, 2017, section 3).

    x, y: as many points each, (n, D). Half of each trains a network with one hidden layer of 20 ReLU units,
    as in the paper; the others, n_te of both, are for the test. Under equality the accuracy is near to
    N(½, 1 / (4 n_te)).

    seed: of the halves and of the network.

    Raises ValueError for what is not two equally large sets of 4 or more points of one space."""
    x, y = pair(("x", "y"), x, y, least=4)
    if len(x) != len(y):
        raise ValueError(f"y: expected {len(x)} points, as many as of x, got {len(y)}")
    train, test = _halves(x, seed, 0), _halves(y, seed, 1)
    (x_train, x_test), (y_train, y_test) = train, test
    points, labels = np.concatenate([x_train, y_train]), np.arange(2).repeat(len(x_train))
    held_out, truth = np.concatenate([x_test, y_test]), np.arange(2).repeat(len(x_test))
    scale = points.std(axis=0)
    scale[scale == 0] = 1
    with backend.device("cpu"):
        network = MLP((x.shape[1], UNITS, 2), dropout=0.0, seed=seed)
        inputs, unseen = (((z - points.mean(axis=0)) / scale).astype("float32") for z in (points, held_out))
        fit(network, inputs, labels, EPOCHS, BATCH, LEARNING_RATE, seed)
        with no_grad():
            told = network(unseen).numpy().argmax(axis=1)
    accuracy = float((told == truth).mean())
    z = (accuracy - 0.5) * 2 * math.sqrt(len(truth))
    return TwoSampleTest(accuracy, 0.5 * math.erfc(z / math.sqrt(2)))


def _halves(x: np.ndarray, *key: int) -> list[np.ndarray]:
    """The points in random order, in two parts: the first is as large as the second, or larger by one."""
    return np.array_split(x[np.random.default_rng(key).permutation(len(x))], 2)
