"""k-means: points grouped around K centres."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np  # metrics compute on the host

from .points import rows

ITERATIONS = 50


class Clusters(NamedTuple):
    """centers: (K, D). labels: the nearest centre of each point, int64 (N,)."""

    centers: np.ndarray
    labels: np.ndarray


def kmeans(points, clusters: int, seed: int = 0) -> Clusters:
    """Clusters of points (N, D), with a small sum of squared distances to the centres, a local minimum:

        each point goes to the nearest centre; each centre to the mean of its points; until nothing changes,
        or 50 times

    (S. Lloyd, Least Squares Quantization in PCM, 1982), from centres that are points far from each other.

    seed: of these. Raises ValueError for other points, and for clusters below 1 or above N."""
    points = rows("points", points)
    if not isinstance(clusters, int) or not 1 <= clusters <= len(points):
        raise ValueError(
            f"clusters: expected an int from 1 to {len(points)}, the number of points; got {clusters!r}"
        )
    middle = points.mean(axis=0)
    points = points - middle
    centers = _start(points, clusters, np.random.default_rng(seed))
    labels = _nearest(points, centers)
    for _ in range(ITERATIONS):
        centers = _means(points, labels, centers)
        before, labels = labels, _nearest(points, centers)
        if (labels == before).all():
            break
    return Clusters(centers + middle, labels)


def _start(points: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++: each further centre is a point, drawn with a probability in proportion to its squared
    distance from the nearest one so far (D. Arthur and S. Vassilvitskii, k-means++: The Advantages of Careful
    Seeding, 2007, section 2.2)."""
    squares = (points * points).sum(axis=1)
    distances, chosen, p = np.full(len(points), np.inf), [], None
    while len(chosen) < clusters:
        k = int(rng.choice(len(points), p=p))
        chosen.append(k)
        distances = np.minimum(distances, np.maximum(squares + squares[k] - 2 * (points @ points[k]), 0))
        distances[k] = 0
        total = distances.sum()
        p = distances / total if total > 0 else None  # every point is a centre: any will do
    return points[chosen]


def _nearest(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """argmin_k ‖x − c_k‖² = argmin_k ½ ‖c_k‖² − xᵀc_k."""
    return (0.5 * (centers**2).sum(axis=1) - points @ centers.T).argmin(axis=1)


def _means(points: np.ndarray, labels: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """The mean of each cluster's points; an empty cluster keeps its centre."""
    members = (labels == np.arange(len(centers))[:, None]).astype("float64")  # (K, N)
    counts = members.sum(axis=1, keepdims=True)
    return np.where(counts > 0, members @ points / np.maximum(counts, 1), centers)
