"""How weights start. They are drawn on the host, so that a model starts alike on every device.

`tg.seed` restarts the draws, and so does a change of device: whatever the default generator restarts with.
"""

from __future__ import annotations

import math

import numpy  # not the backend's xp: weights are drawn on the host

from .. import backend

_beside: backend.Generator | None = None  # the default generator that `_host` was started with
_host: numpy.random.Generator


def _generator() -> numpy.random.Generator:
    """The generator of initial weights, which restarts when the default generator does."""
    global _beside, _host
    if _beside is not backend.default_generator():
        _beside = backend.default_generator()
        # A child of the seed: neither the default generator nor any that training makes draws the same.
        (child,) = numpy.random.SeedSequence(backend._seed).spawn(1)
        _host = numpy.random.default_rng(child)
    return _host


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
    return (2 * bound) * _generator().random(shape, dtype="float32") - bound


def he_normal(shape: tuple[int, ...]) -> numpy.ndarray:
    """N(0, 2 / fan_in), float32: signals keep their size through layers of ReLU units (K. He, X. Zhang,
    S. Ren and J. Sun, Delving deep into rectifiers, 2015, eq. 10)."""
    fan_in, _ = _fans(shape)
    return math.sqrt(2 / fan_in) * _generator().standard_normal(shape, dtype="float32")
