"""How weights start. They are drawn on the host, so that a model starts alike on every device.

`tg.seed` restarts the draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy  # not the backend's xp: weights are drawn on the host

from ..backend import host_generator


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many inputs an output has, and how many outputs an input, for weights (..., inputs, outputs) that
    are shared by the positions of a kernel."""
    *kernel, inputs, outputs = shape
    return math.prod(kernel) * inputs, math.prod(kernel) * outputs


def glorot_uniform(shape: tuple[int, ...]) -> numpy.ndarray:
    """U(−a, a) with a = √(6 / (fan_in + fan_out)), float32: signals forward and gradients backward keep about
    their size (X. Glorot and Y. Bengio, Understanding the difficulty of training deep feedforward neural
    networks, 2010, eq. 16)."""
    bound = math.sqrt(6 / sum(_fans(shape)))
    return (2 * bound) * host_generator().random(shape, dtype="float32") - bound


def he_normal(shape: tuple[int, ...]) -> numpy.ndarray:
    """N(0, 2 / fan_in), float32: signals keep their size through layers of ReLU units (K. He, X. Zhang,
    S. Ren and J. Sun, Delving deep into rectifiers, 2015, eq. 10)."""
    fan_in, _ = _fans(shape)
    return math.sqrt(2 / fan_in) * host_generator().standard_normal(shape, dtype="float32")


def orthogonal(shape: tuple[int, ...]) -> numpy.ndarray:
    """Random matrices Q (all axes but the last flattened, outputs) with QᵀQ = 1, or QQᵀ = 1 where they are
    wider than high, float32: repeated products, as of a recurrent layer, neither grow nor fade (A. M. Saxe,
    J. L. McClelland and S. Ganguli, Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks, 2014, section 3)."""
    rows, columns = math.prod(shape[:-1]), shape[-1]
    tall = (max(rows, columns), min(rows, columns))
    q, r = numpy.linalg.qr(host_generator().standard_normal(tall))
    # With R's diagonal made positive, QR is unique and Q uniform over the orthogonal matrices (F. Mezzadri,
    # How to generate random matrices from the classical compact groups, 2007, section 5).
    q *= numpy.sign(numpy.diag(r))
    return (q if rows >= columns else q.T).reshape(shape).astype("float32")


def normal(deviation: float) -> Callable:
    """The initializer N(0, deviation²), float32; 0.02 in A. Radford, L. Metz and S. Chintala, Unsupervised
    representation learning with deep convolutional generative adversarial networks, 2016, section 4."""
    return lambda shape: deviation * host_generator().standard_normal(shape, dtype="float32")
