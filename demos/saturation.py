"""Train a discriminator and Wasserstein critics as far as they go, and look at what a generator would learn.

The better a discriminator tells two distant densities apart, the flatter it is where a generator needs its
slope; a critic of bounded slope is nowhere flat (M. Arjovsky, S. Chintala and L. Bottou, Wasserstein
Generative Adversarial Networks, 2017, figure 2). And what a critic finds is a distance: where its slope is at
most 1 it never exceeds the Wasserstein-1 distance, which on a line is known exactly.
"""

from _cli import TRAIN, Study, cosine, positive_int
from _line import SHOWN, densities, draw, mixture, network, normal, on_host, points, values_and_slopes
from optimal_discriminator import train as train_discriminator

import tinygen as tg
from tinygen import nn, ops, optim, plots
from tinygen.backend import Generator, xp
from tinygen.models.adversarial import theory
from tinygen.models.adversarial.game import descend
from tinygen.models.adversarial.wgan_gp import gradient_penalty

BATCH = 256  # draws of p, and as many of q, in a step
CLIP = 0.05  # c: the weights of a clipped critic are kept in [−c, c]
# λ of the gradient penalty (I. Gulrajani et al., Improved Training of Wasserstein GANs, 2017), as in the code
# of the paper for toy data. Slopes come out far above 1, but alike, and the distance that a critic finds is
# divided by its largest. With λ = 10 as in the paper, the critic of N(0, 1) and N(0, 6.25) stayed a straight
# line: on the way to one that turns round at 0 some slopes are near 0, which costs. It found 0.07 of 1.20.
PENALTY = 0.1


def pairs():
    """Densities p and q whose distance is to be found, by name."""
    return {
        "N(0, 1), N(3, 1)": (normal(0), normal(3)),
        "N(0, 1), N(0.5, 4)": (normal(0), normal(0.5, 2)),
        "N(0, 1), N(0, 6.25)": (normal(0), normal(0, 2.5)),
        "half N(±3, 0.25) each, N(0, 1)": (mixture([0.5, 0.5], [-3, 3], [0.5, 0.5]), normal(0)),
    }


def train_clipped(p, q, steps, seed):
    """A critic f that makes E_p[f] − E_q[f] large, with weights kept in a box (WGAN Algorithm 1)."""
    tg.seed(seed)
    critic = network(nn.ReLU)
    optimizer = optim.RMSProp(critic.parameters(), lr=cosine(2e-3, steps))
    for step in range(steps):
        x, y = draws(p, q, seed, step)
        descend(optimizer, critic(y).mean() - critic(x).mean())
        for weights in critic.parameters():
            weights.data = xp.clip(weights.data, -CLIP, CLIP)
    return critic


def train_penalized(p, q, steps, seed):
    """A critic f that makes E_p[f] − E_q[f] large, with a penalty on slopes other than 1."""
    tg.seed(seed)
    critic = network(nn.ReLU)
    optimizer = optim.Adam(critic.parameters(), lr=cosine(3e-3, steps), betas=(0.5, 0.9))
    for step in range(steps):
        x, y = draws(p, q, seed, step)
        epsilon = Generator(seed, TRAIN, step, 1).uniform((BATCH,))
        penalty = gradient_penalty(critic, x, y, epsilon)
        descend(optimizer, critic(y).mean() - critic(x).mean() + PENALTY * penalty)
    return critic


def draws(p, q, seed, step):
    rng = Generator(seed, TRAIN, step)
    return draw(p, BATCH, rng), draw(q, BATCH, rng)


def distance_found(f, p, q, x):
    """E_p[f] − E_q[f] of a critic's values f at points x."""
    return float(theory.integral((xp.exp(p.log_prob(x)) - xp.exp(q.log_prob(x))) * f, x))


def compare_slopes(study, x):
    """saturation.png: D and f between two densities far apart, and the sizes of their slopes."""
    flags, (p, q) = study.flags, (normal(-4), normal(4))
    logit, logit_slope = values_and_slopes(train_discriminator(p, q, flags.steps, flags.seed), x)
    f, f_slope = values_and_slopes(train_clipped(p, q, flags.steps, flags.seed), x)
    steepest = abs(f_slope).max()

    best = theory.optimal_logit(p, q, x)  # −8x
    shown = f[abs(x) < SHOWN]
    low, high = shown.min(), shown.max()
    functions = {
        "p / (p + q)": ops.sigmoid(best),
        "D, learned": ops.sigmoid(logit),
        "clipped critic": (f - low) / (high - low),
    }
    slopes = {
        "p / (p + q)": 8 * sigmoid_slope(best),
        "D, learned": abs(logit_slope) * sigmoid_slope(logit),
        "clipped critic": abs(f_slope) / steepest,
    }
    areas = densities(x, p=p, q=q)
    panels = [
        plots.Panel("N(−4, 1), N(4, 1), the critic scaled to [0, 1]", on_host(x, functions), areas, "x"),
        plots.Panel("Slopes, the critic's largest as 1", on_host(x, slopes), {}, "x", scale="log"),
    ]
    plots.save_panels(study.path("saturation.png"), panels)

    middle = int(xp.argmin(abs(x - 4)))
    figures = {
        f"N(−4, 1), N(4, 1): slope in the middle of N(4, 1), {name}": float(slope[middle])
        for name, slope in slopes.items()
    }
    return {
        **figures,
        "the clipped critic's largest slope, which is 1 above": float(steepest),
        "theory: at most": theory.clipped_slope_bound((1, 64, 64, 1), CLIP),
        "the distance by the clipped critic over that slope": distance_found(f / steepest, p, q, x),
        "theory: at most W₁": theory.wasserstein_1_of_normals(-4, 1, 4, 1),
    }


def sigmoid_slope(logit):
    """σ'(l) = σ(l) σ(−l)."""
    return ops.sigmoid(logit) * ops.sigmoid(-logit)


def compare_distances(study, x):
    """critics.png: critics with gradient penalty over their largest slopes, beside the best of slope 1."""
    panels, figures = [], {}
    for name, (p, q) in pairs().items():
        critic = train_penalized(p, q, study.flags.steps, study.flags.seed)
        f, slope = values_and_slopes(critic, x)
        f, best = f / abs(slope).max(), theory.optimal_critic(p, q, x)
        figures[f"{name}: the distance by a penalized critic over its largest slope"] = distance_found(
            f, p, q, x
        )
        figures[f"{name}: W₁"] = float(theory.wasserstein_1_by_quadrature(p, q, x))
        middle = len(x) // 2
        curves = {"the best of slope 1": best - best[middle], "critic, learned": f - f[middle]}
        panels.append(plots.Panel(name, on_host(x, curves), densities(x, p=p, q=q), "x"))
    plots.save_panels(study.path("critics.png"), panels, columns=2)
    return figures


def main():
    study = Study(__doc__.partition("\n")[0], "saturation")
    study.add("--steps", type=positive_int, default=1000, what="of the training of each network")
    study.start()
    x = points()
    study.finish({**compare_slopes(study, x), **compare_distances(study, x)})


if __name__ == "__main__":
    main()
