"""What part of the data a model covers: precision and recall of distributions, and modes of a mixture."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np  # metrics compute on the host

from .kmeans import kmeans
from .points import pair, squared_distances

ANGLES, RUNS, BETA = 1001, 10, 8


class PrecisionRecall(NamedTuple):
    """precision: F_⅛, recall: F₈, the largest on the curve. precisions, recalls: the curve, (1001,) each."""

    precision: float
    recall: float
    precisions: np.ndarray
    recalls: np.ndarray


def precision_recall(features_real, features_generated, clusters: int = 20, seed: int = 0) -> PrecisionRecall:
    """Precision, how much of a model's distribution is part of the data's, and recall, how much of the data's
    is part of the model's (M. S. M. Sajjadi, O. Bachem, M. Lucic, O. Bousquet and S. Gelly, Assessing
    Generative Models via Precision and Recall, 2018).

    Both sets of points, (N, F) and (M, F), are clustered together. With p and q, the shares of real and of
    generated points in each cluster, the attainable pairs have the frontier

        α(λ) = Σᵢ min(λ pᵢ, qᵢ),   β(λ) = α(λ) / λ,   λ = tan(π/2 · i/1002), i = 1 ... 1001   (section 3)

    of precisions α and recalls β, here the mean over 10 clusterings. It is summed up by the largest

        F_b = (1 + b²) α β / (b² α + β)

    on it: F₈ weighs recall, F_⅛ precision. Both are 1 where the sets are the same, and 0 where they share no
    cluster. Between sets of different sizes noise is uneven: take as many of each.

    seed: of the clusterings. Raises ValueError for what is not two sets of points of one space, and for
    clusters below 1 or above N + M."""
    real, generated = pair(("features_real", "features_generated"), features_real, features_generated)
    points = np.concatenate([real, generated])
    curves = []
    for run in range(RUNS):
        labels = kmeans(points, clusters, seed * RUNS + run).labels
        p, q = (_shares(part, clusters) for part in np.split(labels, [len(real)]))
        curves.append(_frontier(p, q))
    alpha, beta = np.mean(curves, axis=0)
    return PrecisionRecall(_largest_f(alpha, beta, 1 / BETA), _largest_f(alpha, beta, BETA), alpha, beta)


def _shares(labels: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(labels, minlength=count) / len(labels)


def _frontier(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """α(λ) and β(λ)."""
    slopes = np.tan(np.pi / 2 * np.arange(1, ANGLES + 1) / (ANGLES + 1))
    alpha = np.minimum(slopes[:, None] * p, q).sum(axis=1)
    return alpha, alpha / slopes


def _largest_f(alpha: np.ndarray, beta: np.ndarray, b: float) -> float:
    """The largest F_b, which is 0 where precision and recall are."""
    weighted = b**2 * alpha + beta
    return float(((1 + b**2) * alpha * beta / np.where(weighted > 0, weighted, 1)).max())


class Modes(NamedTuple):
    """covered: how many modes have a sample of high quality. high_quality: the share of such samples.
    reverse_kl: the divergence of the modes' shares of samples from equal ones, nats."""

    covered: int
    high_quality: float
    reverse_kl: float


def modes(samples, centers, sigma: float) -> Modes:
    """Which modes of the mixture 1/K Σ_k N(c_k, σ² I) samples reach, and how well.

    samples: (N, D). centers: c_1 ... c_K, (K, D). sigma: σ.

    A sample belongs to the nearest mode. It is of high quality within 3 σ of its centre, and a mode with one
    such sample is covered (A. Srivastava et al., VEEGAN: Reducing Mode Collapse in GANs using Implicit
    Variational Learning, 2017, section 4). In the plane 1 − e^{−9/2} = 98.89 % of draws from the mixture are
    that near. With s_k, the shares of all samples that belong to each mode, the reverse divergence is
    KL(s ‖ 1/K) = Σ s_k log(K s_k), from 0 to log K, which all in one mode have (Z. Lin et al., PacGAN: The
    Power of Two Samples in Generative Adversarial Networks, 2018, section 4.1).

    Raises ValueError for other samples or centres, and a σ that is not positive."""
    samples, centers = pair(("samples", "centers"), samples, centers)
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma: expected a positive number, got {sigma}")
    distances = squared_distances(samples, centers)
    nearest = distances.argmin(axis=1)
    good = distances.min(axis=1) <= (3 * sigma) ** 2
    shares = _shares(nearest, len(centers))
    reached = shares[shares > 0]
    divergence = (reached * np.log(len(centers) * reached)).sum()
    return Modes(len(set(nearest[good].tolist())), float(good.mean()), max(float(divergence), 0.0))
