"""How good samples are, by what a classifier sees in them: the inception score and the Fréchet distance."""

from __future__ import annotations

import math

import numpy as np  # small matrices: on the host

from .points import pair, rows


def inception_score(probabilities, splits: int = 10) -> tuple[float, float]:
    """exp E_x KL(p(y|x) ‖ p(y)) with p(y) = E_x p(y|x), in each of so many parts: mean and deviation of those
    (T. Salimans et al., Improved Techniques for Training GANs, 2016, section 4).

    probabilities: p(y|x) of N samples and K labels, (N, K), in rows that sum to 1; as by
        `Classifier.probabilities`.

    It is 1 where all samples look alike, or like nothing, and K where each is clearly of one label, and all
    labels come equally often. Whether samples of one label differ, or look like real ones, it does not see,
    and with few samples in a part it is too low.

    Raises ValueError for other probabilities, and for splits of less than 1 or more than N."""
    p = rows("probabilities", probabilities)
    if (p < 0).any() or (abs(p.sum(axis=1) - 1) > 1e-3).any():
        wrong = p[(p < 0).any(axis=1) | (abs(p.sum(axis=1) - 1) > 1e-3)][0]
        raise ValueError(f"probabilities: expected rows of at least 0 that sum to 1, got {wrong}")
    if not isinstance(splits, int) or not 1 <= splits <= len(p):
        raise ValueError(f"splits: expected an int from 1 to {len(p)}, the number of samples; got {splits!r}")
    scores = []
    for part in np.array_split(p, splits):
        marginal = np.broadcast_to(part.mean(axis=0), part.shape)
        # p log p is 0 at 0.
        log_ratio = np.log(np.divide(part, marginal, where=part > 0, out=np.ones_like(part)))
        scores.append(np.exp((part * log_ratio).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def frechet_distance(features_a, features_b) -> float:
    """The squared 2-Wasserstein distance of two Gaussians that have the means and covariances of two sets of
    features (N, F) and (M, F):

        ‖μ − μ'‖² + tr(C + C' − 2 (C^½ C' C^½)^½)

    (D. C. Dowson and B. V. Landau, The Fréchet Distance between Multivariate Normal Distributions, 1982;
    M. Heusel et al., GANs Trained by a Two Time-Scale Update Rule, 2017, eq. 6).

    It sees two moments only, and is too large for few samples, by about [2F + F (F + 1) / 2] / N for two sets
    of N with unit covariance: compare figures of equal N, and with the floor, the distance of as many test
    images to the same training images, which a model as good as the data reaches. It does not see copying:
    training images drawn at random come near the floor, too. Features of another network have another
    scale.

    Raises ValueError for what is not two sets of 2 or more points of one space."""
    a, b = pair(("features_a", "features_b"), features_a, features_b, least=2)
    root_a, root_b = _root(a), _root(b)
    # (C^½ C' C^½)^½ has the singular values of C^½ C'^½, and so of R R'ᵀ.
    cross = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    means = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return max(float(means + (root_a**2).sum() + (root_b**2).sum() - 2 * cross), 0.0)


def _root(x: np.ndarray) -> np.ndarray:
    """An R with RᵀR = C, the unbiased covariance of points (N, F), by the QR decomposition of their
    deviations. C itself, where it is singular, would lose half of the digits in its square root."""
    return np.linalg.qr(x - x.mean(axis=0), mode="r") / math.sqrt(len(x) - 1)
