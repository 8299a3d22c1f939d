"""Toy densities in the plane, on which models of all families are compared by eye.

Each has `sample(n, rng)`; where the density of its points x is known in closed form it has `log_prob(x)` and
`entropy()`, in nats, too. A model of the data reaches on average at best log p(x) = −entropy.

Definitions are those of the published code of W. Grathwohl et al., FFJORD, 2019 (G), and I. Gulrajani et al.,
Improved Training of Wasserstein GANs, 2017 (WG), but that points are independent: where the code spaces them
evenly along a curve or shares them out among classes, here each is drawn at random.
"""

import math
from dataclasses import dataclass
from functools import update_wrapper

import numpy as np  # what does not depend on a draw is made on the host

from .. import backend, ops
from ..autodiff import Tensor
from ..backend import Generator, xp
from .frozen import FrozenGenerator, given_or_default


class Toy:
    """A density in the plane that can be sampled. A subclass draws its points: `_draw(n, rng)` -> (n, 2)."""

    def sample(self, n: int, rng: Generator | None = None):
        """n independent points, float32 (n, 2), on the current device.

        rng: draws them; the default generator if None. Raises ValueError for another n, and TypeError for
            another rng."""
        if not isinstance(n, int) or n < 0:
            raise ValueError(f"n: expected an int of at least 0, got {n!r}")
        return self._draw(n, given_or_default(rng)).astype("float32")


class GaussianMixture(Toy):
    """p(x) = 1/K Σ_k N(x; c_k, σ² I).

    centres: c_1 .. c_K, host array (K, 2). std: σ."""

    def __init__(self, centres: np.ndarray, std: float):
        self.centres, self.std = centres, std

    def _draw(self, n, rng):
        noise = rng.normal((n, 2))
        centres = xp.asarray(self.centres, noise.dtype)
        return centres[rng.integers(0, len(self.centres), n)] + self.std * noise

    def log_prob(self, x):
        """log p(x) = log Σ_k exp(−‖x − c_k‖² / 2σ²) − log K − log 2πσ² of Tensor or array x (N, 2): (N,).

        Raises TypeError or ValueError for another x."""
        x = _points(x)
        centres = xp.asarray(self.centres, x.dtype)
        across, up = x[:, :1] - centres[:, 0], x[:, 1:] - centres[:, 1]  # (N, K) each
        exponents = (across * across + up * up) * (-0.5 / self.std**2)
        constant = math.log(len(self.centres)) + math.log(2 * math.pi * self.std**2)
        return ops.logsumexp(exponents, axis=1) - constant

    def entropy(self) -> float:
        """−∫ p(x) log p(x) dx in nats, to ten digits.

        By the trapezoid rule, a sum over a lattice, which for functions as smooth and as local as Gaussians
        converges faster than any power of the spacing (L. N. Trefethen and J. A. C. Weideman, The
        Exponentially Convergent Trapezoidal Rule, 2014)."""
        spacing, reach = self.std / 3, 8 * self.std
        low, high = self.centres.min(axis=0) - reach, self.centres.max(axis=0) + reach
        up = xp.arange(low[1], high[1], spacing)
        total = 0.0
        for across in np.arange(low[0], high[0], spacing).tolist():
            log_p = self.log_prob(xp.stack([xp.full_like(up, across), up], axis=1))
            total -= (xp.exp(log_p) * log_p).sum()
        return float(total) * spacing**2


def on_circle(n: int, radius: float) -> np.ndarray:
    """n points (n, 2), evenly on a circle around 0."""
    angles = 2 * np.pi * np.arange(n) / n
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


# 8 on a circle of radius 4 with σ = ½, all over √2 (G); those of WG are of σ = 0.02 on a radius of 2.
eight_gaussians = GaussianMixture(on_circle(8, 4 / math.sqrt(2)), 0.5 / math.sqrt(2))

# 25 on the grid {−4, −2, 0, 2, 4}² with σ = 0.05, all over 2√2 (WG).
_line = np.arange(-4, 5, 2) / math.sqrt(8)
twenty_five_gaussians = GaussianMixture(
    np.stack(np.meshgrid(_line, _line), axis=-1).reshape(-1, 2), 0.05 / math.sqrt(8)
)

# Circles of radius ¾, 1½, 2¼ and 3, of as many points each, with noise of σ = 0.08 (G). There a circle is a
# quarter of a batch, spaced evenly: here, of a batch of 512, which is dense enough to look even.
rings = GaussianMixture(np.concatenate([on_circle(128, radius) for radius in (0.75, 1.5, 2.25, 3)]), 0.08)


class Checkerboard(Toy):
    """Uniform on the 8 squares of one colour, each of 2 × 2, of the board [−4, 4]² (G)."""

    def _draw(self, n, rng):
        column, row = rng.integers(0, 4, n), rng.integers(0, 2, n)
        corner = xp.stack([column - 2, 2 * row - 2 + column % 2], axis=1)
        # The largest float32 below 2, less 1: else rounding could take a point into the next square.
        within = xp.minimum(rng.uniform((n, 2)), 1 - 2.0**-23)
        return 2 * (corner + within)

    def log_prob(self, x):
        """log p(x) = −log 32 inside the squares, −∞ outside, of Tensor or array x (N, 2): (N,).

        Raises TypeError or ValueError for another x."""
        points = ops.raw(_points(x))
        column, row = xp.floor(points[:, 0] / 2), xp.floor(points[:, 1] / 2)
        inside = ((column + row) % 2 == 0) & (abs(column + 0.5) < 2) & (abs(row + 0.5) < 2)
        log_p = xp.where(inside, -self.entropy(), -math.inf).astype(points.dtype)
        return Tensor(log_p) if isinstance(x, Tensor) else log_p

    def entropy(self) -> float:
        """The logarithm of the area, 32, in nats."""
        return math.log(32)


checkerboard = Checkerboard()


# Densities without a closed form, each given by how its points are drawn -----------------------------------


class Drawn(Toy):
    """The density of what a function draw(n, rng) -> (n, 2) draws."""

    def __init__(self, draw):
        self._draw = draw
        update_wrapper(self, draw)


@Drawn
def two_moons(n, rng):
    """Two half circles, each about an end of the other, with noise (scikit-learn's make_moons, scaled by G):

    x = 2 m + (−1, −0.2) + 0.2 ε,   m = (cos t, sin t) or (1 − cos t, ½ − sin t),   t ~ U(0, π)."""
    t, second = math.pi * rng.uniform(n), rng.integers(0, 2, n) == 1
    across = xp.where(second, 1 - xp.cos(t), xp.cos(t))
    up = xp.where(second, 0.5 - xp.sin(t), xp.sin(t))
    return xp.stack([2 * across - 1, 2 * up - 0.2], axis=1) + 0.2 * rng.normal((n, 2))


@Drawn
def swiss_roll(n, rng):
    """A spiral of Archimedes with noise (two axes of scikit-learn's make_swiss_roll, scaled by G):

    x = (t (cos t, sin t) + ε) / 5,   t ~ U(3π/2, 9π/2)."""
    t = 1.5 * math.pi * (1 + 2 * rng.uniform(n))
    return (xp.stack([t * xp.cos(t), t * xp.sin(t)], axis=1) + rng.normal((n, 2))) / 5


@Drawn
def pinwheel(n, rng):
    """Five Gaussians around 0, stretched outwards and bent: each point is turned by an angle that grows with
    its distance (G, after M. J. Johnson et al., Structured VAEs, 2016):

    x = 2 (a cos θ + b sin θ, b cos θ − a sin θ),   a ~ N(1, 0.3²),   b ~ N(0, 0.1²),   θ = 2πk/5 + eᵃ/4."""
    noise = rng.normal((n, 2))
    a, b = 1 + 0.3 * noise[:, 0], 0.1 * noise[:, 1]
    angle = 2 * math.pi / 5 * rng.integers(0, 5, n) + 0.25 * xp.exp(a)
    cos, sin = xp.cos(angle), xp.sin(angle)
    return 2 * xp.stack([a * cos + b * sin, b * cos - a * sin], axis=1)


@Drawn
def two_spirals(n, rng):
    """Two spirals of Archimedes from 0, one the other's image in 0, with noise (G):

    x = ± (t (−cos t, sin t) + u/2) / 3 + 0.1 ε,   t = 3π √v,   u, v ~ U(0, 1)."""
    t = 3 * math.pi * xp.sqrt(rng.uniform(n))
    arm = xp.stack([-t * xp.cos(t), t * xp.sin(t)], axis=1) + 0.5 * rng.uniform((n, 2))
    sign = 2 * rng.integers(0, 2, (n, 1)) - 1
    return sign * arm / 3 + 0.1 * rng.normal((n, 2))


# As data sets -------------------------------------------------------------------------------------------

TOYS = {
    "eight_gaussians": eight_gaussians,
    "twenty_five_gaussians": twenty_five_gaussians,
    "two_moons": two_moons,
    "swiss_roll": swiss_roll,
    "pinwheel": pinwheel,
    "checkerboard": checkerboard,
    "rings": rings,
    "two_spirals": two_spirals,
}
_FFJORD = (
    "W. Grathwohl, R. T. Q. Chen, J. Bettencourt, I. Sutskever, D. Duvenaud (2019). FFJORD: Free-Form "
    "Continuous Dynamics for Scalable Reversible Generative Models. arXiv:1810.01367"
)
_WGAN_GP = (
    "I. Gulrajani, F. Ahmed, M. Arjovsky, V. Dumoulin, A. Courville (2017). Improved Training of "
    "Wasserstein GANs. arXiv:1704.00028"
)
SOURCES = {**dict.fromkeys(TOYS, _FFJORD), "twenty_five_gaussians": _WGAN_GP}


@dataclass(frozen=True, eq=False, repr=False)
class Points:
    """Three splits of points in the plane, read-only float32 (N, 2) on the host, the density from which they
    are drawn, and whom to cite."""

    name: str
    density: Toy
    source: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def __post_init__(self):
        for split in (self.train, self.validation, self.test):
            split.flags.writeable = False

    def __repr__(self):
        sizes = f"train={len(self.train)}, validation={len(self.validation)}, test={len(self.test)}"
        return f"Points({self.name!r}, {sizes})"


def load(name: str) -> Points:
    """Points of the density called `name`, one of TOYS: 10,000 for training, 2,000 for validation, 10,000 for
    the test, the same on every machine and device."""
    density = TOYS[name]
    with backend.device("cpu"):
        splits = [density.sample(n, FrozenGenerator(k)) for k, n in enumerate((10_000, 2_000, 10_000))]
    return Points(name, density, SOURCES[name], *splits)


def _points(x):
    """x, unless it is no batch of finite points in the plane."""
    shape = getattr(x, "shape", type(x).__name__)
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[1] != 2:
        raise ValueError(f"x: expected a Tensor or an array of shape (N, 2), got {shape}")
    if x.dtype.kind != "f":
        raise TypeError(f"x: expected a floating dtype, got {x.dtype}")
    # Values are looked at on the host only: a training step on a GPU waits for nothing.
    if isinstance(ops.raw(x), np.ndarray) and not np.isfinite(ops.raw(x)).all():
        raise ValueError("x: expected finite values, got others")
    return x
