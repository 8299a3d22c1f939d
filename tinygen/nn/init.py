"""How weights start. They are drawn on the host, so that a model starts alike on every device.

`tg.seed` restarts the draws.
"""

from __future__ import annotations

import math

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
