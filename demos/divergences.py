"""Fit one normal q to a density p of two modes by gradient descent on three divergences.

KL(p ‖ q) asks q to be wherever p is: the best q has the mean and the variance of p, and is between the modes.
KL(q ‖ p) asks q to be nowhere where p is not: it settles on one mode. The Jensen-Shannon divergence, that of
the game of generative adversarial networks, is symmetric, and has minima of either kind; which one a descent
finds depends on its start.
"""

import math

from _cli import Study, cosine, positive_int
from _line import densities, mixture, points

import tinygen as tg
from tinygen import optim, plots
from tinygen.backend import xp
from tinygen.distributions import Normal
from tinygen.models.adversarial import theory

WEIGHTS, MODES, STD = (0.6, 0.4), (-3.0, 3.0), 0.7
STARTS = (0, 2)  # means of the first q

DIVERGENCES = {
    "KL(p ‖ q)": theory.kl_by_quadrature,
    "KL(q ‖ p)": lambda p, q, x: theory.kl_by_quadrature(q, p, x),
    "JSD(p ‖ q)": theory.jensen_shannon,
}


def target():
    """p, of two modes."""
    return mixture(WEIGHTS, MODES, (STD, STD))


def fit(divergence, p, x, mean, steps):
    """The normal q that a descent of the divergence reaches from N(mean, 1)."""
    m = tg.Tensor(xp.asarray(float(mean)), requires_grad=True)
    log_variance = tg.Tensor(xp.asarray(0.0), requires_grad=True)
    optimizer = optim.Adam([m, log_variance], lr=cosine(0.1, steps))
    for _ in range(steps):
        optimizer.zero_grad()
        divergence(p, Normal(m, log_variance), x).backward()
        optimizer.step()
    return Normal(m.data, log_variance.data)


def jensen_shannon_of_a_mode(w):
    """JSD(p ‖ q) where q is one mode of p, of weight w and apart from the rest; KL(q ‖ p) is −log w then.
    Of m = ½ (p + q) the mass (1 + w)/2 is on that mode:

        ½ (w log 2w/(1 + w) + (1 − w) log 2) + ½ log 2/(1 + w)."""
    return 0.5 * (w * math.log(2 * w / (1 + w)) + (1 - w) * math.log(2) + math.log(2 / (1 + w)))


def main():
    study = Study(__doc__.partition("\n")[0], "divergences")
    study.add("--steps", type=positive_int, default=400, what="of each descent")
    flags = study.start()
    p, x = target(), points()

    panels, figures = [], {}
    for name, divergence in DIVERGENCES.items():
        fitted = {f"q from N({mean:g}, 1)": fit(divergence, p, x, mean, flags.steps) for mean in STARTS}
        panels.append(plots.Panel(name, densities(x, **fitted), densities(x, p=p), "x"))
        for start, q in fitted.items():
            figures[f"{name}, {start}: mean"] = float(q.mean)
            figures[f"{name}, {start}: standard deviation"] = float(q.scale)
            figures[f"{name}, {start}: {name}"] = float(divergence(p, q, x))
    plots.save_panels(study.path("fits.png"), panels)

    exact = {
        "theory, KL(p ‖ q): mean of p": float(p.mean),
        "theory, KL(p ‖ q): standard deviation of p": float(p.variance) ** 0.5,
        "theory, KL(q ‖ p): mean of the left mode": MODES[0],
        "theory, KL(q ‖ p): mean of the right mode": MODES[1],
        "theory, KL(q ‖ p): standard deviation of a mode": STD,
        "theory, KL(q ‖ p) on the left mode": -math.log(WEIGHTS[0]),
        "theory, KL(q ‖ p) on the right mode": -math.log(WEIGHTS[1]),
        "theory, JSD(p ‖ q) on the right mode": jensen_shannon_of_a_mode(WEIGHTS[1]),
    }
    study.finish({**figures, **exact})


if __name__ == "__main__":
    main()
