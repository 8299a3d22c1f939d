"""The Parzen-window estimate of a log-likelihood, by which models without one were compared around 2014."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np  # metrics compute on the host

from .points import rows, squared_distances

BANDWIDTHS = tuple(np.logspace(-1, 0, 10).tolist())
AT_ONCE = 1000  # test points


class Parzen(NamedTuple):
    """log_likelihood: the mean over test points, nats. standard_error: of that mean. bandwidth: σ."""

    log_likelihood: float
    standard_error: float
    bandwidth: float


def parzen_log_likelihood(samples, test, validation, bandwidths: tuple[float, ...] = BANDWIDTHS) -> Parzen:
    """The mean of log p̂(x) over test points, where p̂ puts a Gaussian around each of N samples,

        p̂(x) = 1/N Σᵢ N(x; sᵢ, σ² I),

    and σ is the bandwidth with the highest mean on validation points (O. Breuleux, Y. Bengio and P. Vincent,
    Quickly Generating Representative Samples from an RBM-Derived Process, 2011; I. Goodfellow et al.,
    Generative Adversarial Nets, 2014, section 5, with the bandwidths that are the default here).

    samples: (N, D). test, validation: (M, D) and (L, D), M of 2 or more.

    Do not trust it. In many dimensions no number of samples makes p̂ come near to p, and its order of models
    has little to do with that of their log-likelihoods (L. Theis, A. van den Oord and M. Bethge, A Note on
    the Evaluation of Generative Models, 2016, section 3). On MNIST 10,000 training images as samples reach
    244.5 nats, and 500 centres of k-means on the training set 258.7: blurred means of images beat images. It
    is here to compare with old figures, and to see this.

    Raises ValueError for what is not three sets of points of one space, and for bandwidths that are not
    positive."""
    samples = rows("samples", samples)
    test = rows("test", test, least=2, columns=samples.shape[1])
    validation = rows("validation", validation, columns=samples.shape[1])
    if not bandwidths or not all(0 < sigma < math.inf for sigma in bandwidths):
        raise ValueError(f"bandwidths: expected positive numbers, got {bandwidths}")
    scores = _log_densities(validation, samples, bandwidths).mean(axis=0)
    sigma = float(bandwidths[scores.argmax()])
    log_p = _log_densities(test, samples, (sigma,))[:, 0]
    return Parzen(float(log_p.mean()), float(log_p.std(ddof=1) / math.sqrt(len(log_p))), sigma)


def _log_densities(x: np.ndarray, samples: np.ndarray, bandwidths: tuple[float, ...]) -> np.ndarray:
    """log p̂(x) of x (M, D) for each of B bandwidths: (M, B)."""
    parts = []
    for start in range(0, len(x), AT_ONCE):
        squares = squared_distances(x[start : start + AT_ONCE], samples)
        parts.append(np.stack([_log_density(squares, x.shape[1], sigma) for sigma in bandwidths], axis=1))
    return np.concatenate(parts)


def _log_density(squares: np.ndarray, dimensions: int, sigma: float) -> np.ndarray:
    """log p̂(x) by the squared distances (M, N) of M points to the samples: (M,)."""
    exponents = squares * (-0.5 / sigma**2)
    largest = exponents.max(axis=1, keepdims=True)
    log_sum = largest[:, 0] + np.log(np.exp(exponents - largest).sum(axis=1))
    return log_sum - math.log(squares.shape[1]) - 0.5 * dimensions * math.log(2 * math.pi * sigma**2)
