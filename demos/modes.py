"""Play games of several objectives on Gaussians in the plane, and count the modes that each generator covers.

With no flags every objective plays on 8 Gaussians, side by side, with the same networks, initial weights and
seeds. They stand on a circle of radius 1 with σ = 0.05, narrower than those of tg.data, whose modes nearly
touch. A sample is of high quality if it lies within 3 σ of a mode, and a mode is covered if a sample of high
quality is near it. The picture shows each generator at several moments, by which one sees modes that are left
out, and modes between which a generator goes round.

Data are drawn anew in each step. An epoch is 100 steps of each generator.
"""

import math

from _cli import DRAW, TRAIN, VALIDATE, Demo, positive_int, positive_number
from _side_by_side import STEPS, optimizers, states_of, turns_of

import tinygen as tg
from tinygen import metrics, nn, plots
from tinygen.backend import Generator, to_host
from tinygen.data.toys import GaussianMixture, on_circle, twenty_five_gaussians
from tinygen.models.adversarial import GAN, LSGAN, SNGAN, WGAN, WGANGP, HingeGAN
from tinygen.nn.init import he_normal

DEFAULTS = {
    "eight_gaussians": {"epochs": 30, "batch_size": 128, "hidden": 128, "sigma": 0.05},
    "twenty_five_gaussians": {
        "epochs": 100,
        "batch_size": 256,
        "hidden": 512,
        "sigma": twenty_five_gaussians.std,
    },
}
CENTRES = {"eight_gaussians": on_circle(8, 1.0), "twenty_five_gaussians": twenty_five_gaussians.centres}
LATENTS = 2
SAMPLES = 2500  # that are judged (A. Srivastava et al., VEEGAN, 2017, section 4.1)
MOMENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # epochs after which samples are kept for the picture

# λ = 0.1 is that of the code of Gulrajani et al. 2017 for the plane. Two steps of the critic instead of five
# leave time for more of the generator, which did better here.
OBJECTIVES = {
    "minimax": lambda *players: GAN(*players, LATENTS, objective="minimax"),
    "non-saturating": lambda *players: GAN(*players, LATENTS),
    "lsgan": lambda *players: LSGAN(*players, LATENTS),
    "hinge": lambda *players: HingeGAN(*players, LATENTS),
    "wgan": lambda *players: WGAN(*players, LATENTS, c=0.3, critic_steps=2),
    "wgan-gp": lambda *players: WGANGP(*players, LATENTS, penalty=0.1, critic_steps=2),
    "sn-gan": lambda *players: SNGAN(*players, LATENTS),
}


def mlp(inputs, hidden, outputs):
    """Three hidden layers of ReLU units, as in the code of Gulrajani et al. 2017 for the plane."""
    layers = []
    for width in 3 * [hidden]:
        layers += [nn.Linear(inputs, width, init=he_normal), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


class Moments:
    """What the generators made at some moments of training, which a resumed run needs for its picture."""

    def __init__(self):
        self._samples = {}

    def keep(self, epoch, found):
        """found: samples (N, 2) by the name of the game."""
        self._samples |= {f"{name} after {epoch}": x for name, x in found.items()}

    def of(self, name, before):
        """The samples of a game before the last epoch, by the steps that its generator had made."""
        earlier = [epoch for epoch in MOMENTS if epoch < before]
        found = {epoch: self._samples.get(f"{name} after {epoch}") for epoch in earlier}
        return {STEPS * epoch: x for epoch, x in found.items() if x is not None}

    def state_dict(self):
        return dict(self._samples)

    def load_state_dict(self, state):
        self._samples = dict(state)


def samples(game, seed):
    """Those that are judged, from the same z at every moment, on the host."""
    return to_host(game.sample(SAMPLES, rng=Generator(seed, VALIDATE)))


def draw_moments(path, density, moments, last, found, judge):
    """Write a picture: for each game a row with the data, its samples moment by moment, and those after the
    last epoch."""
    from matplotlib.figure import Figure

    data, reach = to_host(density.sample(1000, Generator(0, DRAW))), 1.4 * abs(density.centres).max()
    rows = {
        name: {
            "data": data,
            **{f"after {steps} steps": x for steps, x in moments.of(name, last).items()},
            f"{covered} of {len(density.centres)} modes, {high_quality:.0%}": x,
        }
        for name, x in found.items()
        for covered, high_quality, _ in [judge(x)]
    }
    columns = max(map(len, rows.values()))
    figure = Figure((1.6 * columns + 0.3, 1.8 * len(rows)), layout="constrained")
    for places, (name, panels) in zip(figure.subplots(len(rows), columns, squeeze=False), rows.items()):
        for axes, (title, x) in zip(places, panels.items()):
            axes.scatter(*x[:1000].T, s=2, linewidths=0, alpha=0.6, color="0.5" if x is data else "C0")
            axes.set_title(title, fontsize=8)
            axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
        places[0].set_ylabel(name, fontsize=9)
    plots.write_figure(path, figure)


def main():
    demo = Demo(__doc__.partition("\n")[0], "modes", DEFAULTS)
    demo.add("--objective", choices=["all", *OBJECTIVES], default="all", what="which game is played")
    demo.add_by_data("--sigma", type=positive_number, what="standard deviation of a mode")
    demo.add_by_data("--hidden", type=positive_int, what="units in each of a network's hidden layers")
    demo.add("--learning-rate", type=positive_number, default=2e-3, what="at the start; it falls to 0")
    flags, _ = demo.start()
    density = GaussianMixture(CENTRES[flags.data], flags.sigma)

    def judge(x):
        return metrics.modes(x, density.centres, density.std)

    games, players, moments = {}, {}, Moments()
    for name in OBJECTIVES if flags.objective == "all" else [flags.objective]:
        tg.seed(flags.seed)
        games[name] = OBJECTIVES[name](mlp(LATENTS, flags.hidden, 2), mlp(2, flags.hidden, 1))
        players[name] = optimizers(games[name], flags.learning_rate, flags.epochs)

    states, turns = states_of(games, players), turns_of(games, players)
    with demo.training(STEPS * flags.batch_size, moments=moments, **states) as run:
        for epoch in run.epochs():
            for step, _ in run.batches():
                for name, game in games.items():
                    rng = Generator(flags.seed, TRAIN, step)
                    turns[name](density.sample(game.critic_steps * flags.batch_size, rng), rng)
            found = {name: samples(game, flags.seed) for name, game in games.items()}
            if epoch in MOMENTS:
                moments.keep(epoch, found)
            run.end_epoch(**{name: judge(x).high_quality for name, x in found.items()})

    found = {name: samples(game, flags.seed) for name, game in games.items()}
    draw_moments(demo.path("samples.png"), density, moments, run.epoch, found, judge)
    shares = {name: run.history(name) for name in games}
    plots.save_curves(
        demo.path("curves.png"), shares, f"epochs of {STEPS} steps", "share of samples of high quality"
    )
    figures = {}
    for name, x in found.items():
        covered, high_quality, reverse_kl = judge(x)
        figures[f"{name}: modes covered of {len(density.centres)}"] = covered
        figures[f"{name}: samples of high quality, %"] = 100 * high_quality
        figures[f"{name}: KL of the modes' shares to even ones, nats"] = reverse_kl
    demo.finish({**figures, "samples of high quality of the data themselves, %": 100 * -math.expm1(-4.5)})


if __name__ == "__main__":
    main()
