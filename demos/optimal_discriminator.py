"""Train discriminators between two known densities, and compare them with the best there is.

Against p and q the best discriminator is D*(x) = p(x) / (p(x) + q(x)), and the value of its game is
−log 4 + 2 JSD(p ‖ q) (I. Goodfellow et al., Generative Adversarial Nets, 2014, proposition 1 and theorem 1).
A network that knows p and q by their samples only finds D*, and with it the Jensen-Shannon divergence.
"""

import math

from _cli import TRAIN, Study, cosine, positive_int
from _line import densities, draw, mixture, network, normal, on_host, points, values_and_slopes

import tinygen as tg
from tinygen import nn, ops, optim, plots
from tinygen.backend import Generator
from tinygen.models.adversarial import theory
from tinygen.models.adversarial.game import descend
from tinygen.models.adversarial.gan import discriminator_loss

BATCH = 512  # draws of p, and as many of q, in a step


def pairs():
    """The densities p and q to tell apart, by name."""
    apart = {f"N({m:g}, 1), N({-m:g}, 1)": (normal(m), normal(-m)) for m in (0, 0.5, 1, 2, 4)}
    two_modes = mixture([0.5, 0.5], [-2, 2], [0.5, 0.5])
    return {**apart, "half N(±2, 0.25) each, N(0, 2.25)": (two_modes, normal(0, 1.5))}


def train(p, q, steps, seed):
    """A discriminator, from x (N, 1) to the logit of D(x) (N, 1), after so many steps up the game's value."""
    tg.seed(seed)
    discriminator = network(nn.Tanh)
    optimizer = optim.Adam(discriminator.parameters(), lr=cosine(1e-2, steps))
    for step in range(steps):
        rng = Generator(seed, TRAIN, step)
        loss = discriminator_loss(discriminator(draw(p, BATCH, rng)), discriminator(draw(q, BATCH, rng)))
        descend(optimizer, loss)
    return discriminator


def main():
    study = Study(__doc__.partition("\n")[0], "optimal_discriminator")
    study.add("--steps", type=positive_int, default=1500, what="of each discriminator's training")
    flags = study.start()

    x = points()
    panels, figures = [], {}
    for name, (p, q) in pairs().items():
        best = theory.optimal_logit(p, q, x)
        learned, _ = values_and_slopes(train(p, q, flags.steps, flags.seed), x)
        best_value, value = (float(theory.discriminator_value(logit, p, q, x)) for logit in (best, learned))
        figures[f"{name}: V of the learned discriminator"] = value
        figures[f"{name}: V of the best one"] = best_value
        figures[f"{name}: (V + log 4) / 2 of the learned one"] = (value + math.log(4)) / 2
        figures[f"{name}: JSD(p ‖ q)"] = float(theory.jensen_shannon(p, q, x))
        curves = {"p / (p + q)": ops.sigmoid(best), "D, learned": ops.sigmoid(learned)}
        panels.append(plots.Panel(name, on_host(x, curves), densities(x, p=p, q=q), "x"))
    plots.save_panels(study.path("discriminators.png"), panels, columns=3)
    study.finish(figures)


if __name__ == "__main__":
    main()
