"""Take draws of a normal through a fixed function to a ring: x = z/10 + z/‖z‖, z ~ N(0, I) in the plane.

A generator adds nothing random to z. That is enough: a function of a normal can have any density, here one
with a hole where the normal has its mode (C. Doersch, Tutorial on Variational Autoencoders, 2016, figure 2).
"""

import math

import numpy as np
from _cli import DRAW, Study, positive_int

from tinygen import ops, plots
from tinygen.backend import Generator, to_host, xp


def ring(z):
    """x = z/10 + z/‖z‖, of Tensor or array z (N, 2)."""
    return z / 10 + z / ops.norm(z, axis=1, keepdims=True)


def radius_density(r):
    """The density of ‖x‖ = 1 + s/10 at r ≥ 1, where s = ‖z‖ has Rayleigh's, s exp(−s²/2), and ds = 10 dr."""
    s = 10 * (r - 1)
    return 10 * s * np.exp(-s * s / 2)


def radius_mean():
    """E‖x‖ = 1 + √(π/2) / 10."""
    return 1 + math.sqrt(math.pi / 2) / 10


def radius_std():
    """The standard deviation of ‖x‖, √(2 − π/2) / 10."""
    return math.sqrt(2 - math.pi / 2) / 10


def draw_picture(path, z, x):
    """z, x, each point in the same colour in both, and the density of ‖x‖ beside a histogram."""
    from matplotlib.figure import Figure

    figure = Figure((11, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    hues = np.arctan2(z[:, 1], z[:, 0])
    for axes, values, title in ((left, z, "z ~ N(0, I)"), (middle, x, "x = z/10 + z/‖z‖")):
        axes.scatter(*values.T, c=hues, cmap="hsv", s=3, linewidths=0, alpha=0.6)
        axes.set(title=title, aspect="equal")
        axes.grid(alpha=0.3)
    radii = np.linalg.norm(x, axis=1)
    right.hist(radii, bins=60, density=True, color="C7", alpha=0.3, label="draws")
    r = np.linspace(1, 1.5, 501)
    right.plot(r, radius_density(r), label="theory")
    right.set(title="Density of ‖x‖", xlabel="‖x‖")
    right.legend(framealpha=0.8, edgecolor="none")
    plots.write_figure(path, figure)


def main():
    study = Study(__doc__.partition("\n")[0], "ring")
    study.add("--points", type=positive_int, default=5000, what="how many are drawn")
    flags = study.start()
    z = Generator(flags.seed, DRAW).normal((flags.points, 2))
    x = ring(z)
    draw_picture(study.path("ring.png"), to_host(z), to_host(x))
    radii = xp.sqrt((x * x).sum(axis=1))
    study.finish(
        {
            f"mean of ‖x‖, {flags.points} points": float(radii.mean()),
            "theory: 1 + √(π/2) / 10": radius_mean(),
            f"standard deviation of ‖x‖, {flags.points} points": float(radii.std()),
            "theory: √(2 − π/2) / 10": radius_std(),
        }
    )


if __name__ == "__main__":
    main()
