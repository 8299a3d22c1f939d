"""Conditionals of levels that have an order: discretized mixtures of logistics.

    T. Salimans, A. Karpathy, X. Chen and D. P. Kingma, PixelCNN++: Improving the PixelCNN with Discretized
    Logistic Mixture Likelihood and Other Modifications, 2017 (SKCK below).

A level is a draw from a mixture of K logistic distributions, brought to the nearest level:

    ν ∼ Σₖ πₖ logistic(μₖ, sₖ)                                                                  (SKCK eq. 1)
    P(x | π, μ, s) = Σₖ πₖ [σ((x + δ − μₖ) / sₖ) − σ((x − δ − μₖ) / sₖ)]                         (SKCK eq. 2)

where δ is half the distance of two levels, and the lowest and the highest level take what lies beyond them.
"""

from __future__ import annotations

from ... import ops
from ...backend import xp
from ...distributions import DiscretizedLogistic, Gumbel, Logistic, Mixture
from .conditionals import Family, categorical, chosen

# Of s, as in the authors' code: a level far from all means must not have a probability of 0.
LEAST_LOG_SCALE = -7.0


def logistic_mixture(levels: int, components: int) -> Family:
    """Levels x_d from 0 to levels − 1, integers, from a mixture of so many logistics: logits of the weights
    π, then each μ and log s. The network sees levels spread over [−1, 1]."""
    if not isinstance(components, int) or components < 1:
        raise ValueError(f"logistic_mixture: components: expected an int of at least 1, got {components!r}")
    K, spread = components, categorical(levels)

    def distribution(p):
        return Mixture(p[..., :K], DiscretizedLogistic(p[..., K : 2 * K], p[..., 2 * K :], levels))

    def draw(p, gumbel, noise):
        mean, log_scale = chosen(K, p, gumbel)
        nearest = spread.decode(mean + xp.exp(log_scale) * noise)
        return spread.encode(xp.clip(nearest, 0, levels - 1), p.dtype)

    def noise(rng, D, n):
        return Gumbel(0.0, 0.0).sample(rng, (D, K, n)), Logistic(0.0, 0.0).sample(rng, (D, n))

    return spread._replace(size=3 * K, distribution=distribution, noise=noise, draw=draw)


def pixel_parameters(colors: int, components: int) -> int:
    """How many parameters `by_color` takes for a pixel: for each component the logit of its weight, a mean
    and a scale for each color, and a coefficient for each pair of colors."""
    return components * (1 + 2 * colors + colors * (colors - 1) // 2)


def by_color(parameters, earlier, levels: int, components: int):
    """The parameters of each color's conditional, given the earlier colors of its pixel.

    A pixel has one component k for all its colors, and means that depend linearly on the earlier colors:

        P(r, g, b) = Σₖ πₖ P(r | μ_r, s_r) P(g | μ_g + α r, s_g) P(b | μ_b + β r + γ g, s_b)      (SKCK eq. 3)

    where all but r, g and b has an index k. So by the product rule P(g | r) = Σₖ P(k | r) P(g | k, r) is a
    mixture with the weights P(k | r) ∝ πₖ P(r | k), and P(b | r, g) is one with P(k | r, g).

    parameters: (..., pixel_parameters(colors, components)). earlier: (..., colors − 1), all colors but the
        last, spread over [−1, 1].
    Returns (..., colors · 3 · components), as `logistic_mixture` takes them."""
    colors = earlier.shape[-1] + 1
    log_weights, *parts = ops.split(parameters, parameters.shape[-1] // components, axis=-1)
    means, coefficients = parts[:colors], iter(parts[2 * colors :])
    log_scales = [ops.maximum(part, LEAST_LOG_SCALE) for part in parts[colors : 2 * colors]]
    found = []
    for c in range(colors):
        mean = means[c]
        for before in range(c):
            mean = mean + next(coefficients) * earlier[..., before : before + 1]
        found += [log_weights, mean, log_scales[c]]
        if c < colors - 1:
            level = categorical(levels).decode(ops.raw(earlier)[..., c : c + 1])
            of_component = DiscretizedLogistic(mean, log_scales[c], levels)
            log_weights = log_weights + of_component.log_prob(xp.broadcast_to(level, mean.shape))
    return ops.concatenate(found, axis=-1)
