"""What the demos of densities on a line share: normals, critics of one number, curves."""

import numpy as np

import tinygen as tg
from tinygen import nn, ops
from tinygen.backend import to_host, xp
from tinygen.distributions import Mixture, Normal

SHOWN = 7  # |x| in pictures


def points():
    """The line: points far enough for the tails of all densities here, and near enough for their shapes."""
    return xp.linspace(-14, 14, 2801)


def normal(mean, std=1.0):
    """N(μ, σ²) in float64; of lists, one for each element."""
    mean, std = np.broadcast_arrays(np.asarray(mean, "float64"), std)
    return Normal(xp.asarray(mean), xp.asarray(2 * np.log(std)))


def mixture(weights, means, stds):
    """Σₖ πₖ N(μₖ, σₖ²) in float64."""
    return Mixture(xp.asarray(np.log(weights)), normal(means, stds))


def draw(p, n, rng):
    """n draws of p as a network takes them, (n, 1)."""
    return p.sample(rng, (n,)).astype("float32")[:, None]


def network(activation):
    """From x (N, 1) to numbers (N, 1)."""
    return nn.Sequential(nn.Linear(1, 64), activation(), nn.Linear(64, 64), activation(), nn.Linear(64, 1))


def values_and_slopes(network, x):
    """f and df/dx of a network at points x (N,), which stand for themselves alone: arrays (N,), float64."""
    x = tg.Tensor(x.astype("float32")[:, None], requires_grad=True)
    f = network(x)
    (slopes,) = tg.grad(f.sum(), x)
    return tuple(ops.raw(y)[:, 0].astype("float64") for y in (f, slopes))


def on_host(x, functions):
    """Functions by name, given by their values at points x, as pairs (x, y) on the host for |x| < SHOWN."""
    x = to_host(x)
    shown = abs(x) < SHOWN
    return {name: (x[shown], to_host(y)[shown]) for name, y in functions.items()}


def densities(x, **distributions):
    """Their densities at points x, by name, on the host."""
    return on_host(x, {name: xp.exp(p.log_prob(x)) for name, p in distributions.items()})
