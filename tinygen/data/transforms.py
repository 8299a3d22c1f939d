"""The explicit steps from grey levels to what a model is given, and from its log-density back to bits.

    binary   threshold | binarize (anew at each visit) | binarize_once     P(x), x in {0, 1}
    grey     to_unit                                                       intensities in [0, 1]
    real     dequantize, then to_logit                                     a density on (0, 1)ᴰ, then on Rᴰ

A figure always says which was used: they differ by more than models do.
"""

import math
from dataclasses import replace

import numpy as np  # for what is looked at on the host only

from .. import ops
from ..backend import Generator, xp
from .frozen import FrozenGenerator, given_or_default
from .images import Dataset

# Grey levels ---------------------------------------------------------------------------------------------


def to_unit(images, levels):
    """Intensities: uint8 pixels 0 .. levels-1 to float32 in [0, 1], in the same shape."""
    _check_pixels(images, levels)
    return images.astype("float32") / (levels - 1)


def threshold(images, levels):
    """Fixed binarization: uint8 pixels to float32, 1 where the intensity is 1/2 or more, else 0."""
    _check_pixels(images, levels)
    return (images >= levels // 2).astype("float32")


def binarize(images, levels, rng: Generator | None = None):
    """Dynamic binarization: uint8 pixels to float32 0 or 1, 1 with probability the intensity.

    Each call draws anew from `rng`, a tinygen generator on the device where the images are, the default one
    if None."""
    _check_pixels(images, levels)
    return (_uniform(images, rng) * (levels - 1) < images).astype("float32")


def binarize_once(dataset: Dataset) -> Dataset:
    """Static binarization: each image binarized once, always with the same draw; 2 levels are left.

    That is how R. Salakhutdinov and I. Murray (On the Quantitative Analysis of Deep Belief Networks, 2008)
    treat MNIST; their own draw is a file, and figures for it are near to ours but not the same."""

    def once(split, seed):
        binary = binarize(split.images, dataset.levels, FrozenGenerator(seed))
        return replace(split, images=binary.astype("uint8"))

    splits = [dataset.train, dataset.validation, dataset.test]
    train, validation, test = (once(split, seed) for seed, split in enumerate(splits))
    return replace(dataset, levels=2, train=train, validation=validation, test=test)


# Real numbers --------------------------------------------------------------------------------------------

CELLS = 1 << 15  # of the noise: with half a cell added, x + u of 8 + 16 bits is a float32 without rounding


def dequantize(images, levels, rng: Generator | None = None):
    """Uniform dequantization: uint8 pixels x to float32 y = (x + u) / levels in (0, 1), u ~ U(0, 1).

    A model with a density p(y) on (0, 1)ᴰ then gives images of D pixels the probability
    P(x) = levels⁻ᴰ ∫ p((x + u) / levels) du, and by Jensen's inequality

        log P(x) ≥ E_u[log p(y)] − D log levels

    (L. Theis, A. van den Oord, M. Bethge, A Note on the Evaluation of Generative Models, 2016, section 3.1).
    The pixel can be read back: x = ⌊levels · y⌋. Each call draws u anew from `rng`, a tinygen generator on
    the device where the images are, the default one if None."""
    _check_pixels(images, levels)
    noise = (xp.floor(_uniform(images, rng) * CELLS) + 0.5) / CELLS
    return (images + noise) / levels


def to_logit(x, alpha: float):
    """y = logit(α + (1 − 2α) x) of x in [0, 1], and log |det ∂y/∂x|.

    x: Tensor or array (N, ...) of floating dtype.
    alpha: α in (0, ½); 1e-6 for MNIST and 0.05 for CIFAR-10 in G. Papamakarios, T. Pavlakou and I. Murray,
        Masked Autoregressive Flow for Density Estimation, 2017.

    Returns y in x's shape and the log-determinant (N,): log p(x) = log p(y) + log |det ∂y/∂x|. Raises
    TypeError or ValueError for another x or α."""
    _check_logit("x", x, alpha)
    # Values are looked at on the host only: a training step on a GPU waits for nothing.
    if isinstance(ops.raw(x), np.ndarray) and not _in_unit(ops.raw(x)).all():
        raise ValueError(f"x: expected values in [0, 1], got {ops.raw(x)[~_in_unit(ops.raw(x))][0]}")
    # Of s and 1 − s each from its own end, for in float32 the difference 1 − s has lost α.
    s, rest = alpha + (1 - 2 * alpha) * x, alpha + (1 - 2 * alpha) * (1 - x)
    log_s, log_rest = ops.log(s), ops.log(rest)
    # ∂y/∂x = (1 − 2α) / (s (1 − s))
    return log_s - log_rest, _per_example(math.log1p(-2 * alpha) - log_s - log_rest)


def from_logit(y, alpha: float):
    """x = (σ(y) − α) / (1 − 2α), the inverse of `to_logit`, and log |det ∂x/∂y|.

    y: Tensor or array (N, ...) of floating dtype. alpha: α in (0, ½).

    Returns x in y's shape and the log-determinant (N,). Where a model's y lies beyond logit(α) or
    logit(1 − α), x leaves [0, 1] by up to α / (1 − 2α). Raises TypeError or ValueError for another y or α."""
    _check_logit("y", y, alpha)
    log_slope = ops.log_sigmoid(y) + ops.log_sigmoid(-y)  # σ'(y) = σ(y) σ(−y)
    return (ops.sigmoid(y) - alpha) / (1 - 2 * alpha), _per_example(log_slope - math.log1p(-2 * alpha))


def bits_per_dimension(log_prob, dimensions: int):
    """−log₂ P(x) / D, from log P(x) in nats, a number, Tensor or array of any shape.

    dimensions: D, pixels times channels. For a density of dequantized pixels subtract D log levels from its
    logarithm first: see `dequantize`."""
    return log_prob * (-1 / (dimensions * math.log(2)))


# What is accepted ----------------------------------------------------------------------------------------


def _check_pixels(images, levels):
    if not isinstance(levels, int) or not 2 <= levels <= 256:
        raise ValueError(f"levels: expected an int from 2 to 256, got {levels!r}")
    dtype = getattr(images, "dtype", type(images).__name__)
    if dtype != np.uint8:
        raise TypeError(f"images: expected an array of uint8, got {dtype}")
    # Values are looked at on the host only: a training step on a GPU waits for nothing.
    if isinstance(images, np.ndarray) and images.max(initial=0) >= levels:
        raise ValueError(f"images: expected pixels from 0 to {levels - 1}, got {images.max()}")


def _uniform(images, rng):
    """Uniform noise in the shape of the images."""
    noise = given_or_default(rng).uniform(images.shape)
    if not isinstance(images, type(noise)):
        raise TypeError(
            f"rng: expected a generator on the device of the images, {type(images).__module__}, "
            f"got one on that of {type(noise).__module__}"
        )
    return noise


def _check_logit(name, x, alpha):
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha: expected a number above 0 and below 1/2, got {alpha}")
    dtype = getattr(x, "dtype", type(x).__name__)
    if getattr(dtype, "kind", None) != "f":
        raise TypeError(f"{name}: expected a Tensor or an array of floating dtype, got {dtype}")
    if not x.shape:
        raise ValueError(f"{name}: expected a batch (N, ...), got a scalar")


def _in_unit(x):
    return (x >= 0) & (x <= 1)


def _per_example(x):
    """The sum over all axes but the first."""
    return ops.sum(x, axis=tuple(range(1, len(x.shape))))
