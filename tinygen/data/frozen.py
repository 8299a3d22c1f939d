"""Where data draw their random numbers from: a generator that is given, or a stream that never changes."""

from __future__ import annotations

import numpy as np  # not the backend's xp: data sets are made on the host

from .. import backend
from ..backend import Generator


class FrozenGenerator:
    """Draws as backend.Generator does, in float64 on the host; the same on any device, after any tg.seed.

    NumPy may improve what its new generators draw, but keeps RandomState as it is (R. Kern, NEP 19, 2018)."""

    def __init__(self, seed: int):
        self._source = np.random.RandomState(seed)

    def normal(self, shape):
        """Draws from N(0, 1)."""
        return self._source.standard_normal(shape)

    def uniform(self, shape):
        """Draws from the uniform distribution on [0, 1)."""
        return self._source.random_sample(shape)

    def integers(self, low: int, high: int, shape):
        """Integers (int64) from low to high - 1."""
        return self._source.randint(low, high, shape, "int64")


def given_or_default(rng: Generator | FrozenGenerator | None) -> Generator | FrozenGenerator:
    """rng, or the default generator if None. Raises TypeError for what is no generator of tinygen."""
    if rng is None:
        return backend.default_generator()
    # NumPy's would draw too, but take a shape for the bounds of an interval.
    if not isinstance(rng, (Generator, FrozenGenerator)):
        raise TypeError(f"rng: expected a tinygen generator or None, got {type(rng).__name__}")
    return rng
