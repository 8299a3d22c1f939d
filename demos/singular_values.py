"""Play games with critics that are restrained in different ways, and look at their singular values.

After T. Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018, section 4.1. They
find that with clipped weights or weight normalization the singular values of most layers concentrate on a few
directions, so that the critic sees few features of an image; spectral normalization bounds the largest and
leaves the others free. Here critics of one architecture play on digits. The picture has the squared singular
values of each layer but the last, divided by the largest, beside those at the start of training. The figures
are the largest one and the effective rank.

Data are drawn anew in each step. An epoch is 100 steps of each generator.
"""

import math
from functools import partial

import numpy as np
from _cli import Demo, positive_int, positive_number
from _games import Images, Judge
from _side_by_side import optimizers, train

import tinygen as tg
from tinygen import nn, ops, plots
from tinygen.backend import to_host
from tinygen.models.adversarial import SNGAN, WGAN, WGANGP, HingeGAN, dcgan_generator
from tinygen.nn.reparameterized import Reparameterized

LATENTS = 16


def as_it_is(layer):
    """A layer that nothing is put around."""
    return layer


# name: the game, and what is put around each layer of its critic; all critics make as many steps
RESTRAINTS = {
    "spectral normalization": (partial(SNGAN, critic_steps=5), nn.SpectralNorm),
    "weight normalization": (partial(HingeGAN, critic_steps=5), nn.WeightNorm),
    "weight clipping": (partial(WGAN, c=0.05), as_it_is),
    "gradient penalty": (WGANGP, as_it_is),
    "none": (partial(HingeGAN, critic_steps=5), as_it_is),
}


def critic(shape, width, around):
    """Convolutions with and without stride in turn, as in the paper, and one linear layer.

    around: a function of each layer that has weights."""
    side, _, channels = shape
    return nn.Sequential(
        *(around(nn.Conv2d(channels, width, 3, padding=1)), nn.LeakyReLU(0.1)),
        *(around(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)), nn.LeakyReLU(0.1)),
        *(around(nn.Conv2d(2 * width, 2 * width, 3, padding=1)), nn.LeakyReLU(0.1)),
        *(around(nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1)), nn.LeakyReLU(0.1)),
        *(nn.Flatten(), around(nn.Linear((side // 4) ** 2 * 4 * width, 1))),
    )


@tg.no_grad()
def singular_values(network):
    """Of the weight of each layer as it is used, largest first, on the host. Kernels count as matrices
    (outputs, all other axes)."""
    found = []
    with nn.frozen_state():
        for layer in network.layers:
            if isinstance(layer, Reparameterized):
                weight = layer.computed_weight()
            elif isinstance(layer, (nn.Conv2d, nn.Linear)):
                weight = layer.weight
            else:
                continue
            matrix = to_host(ops.raw(weight)).reshape(-1, weight.shape[-1])
            found.append(np.linalg.svd(matrix.astype("float64"), compute_uv=False))
    return found


def effective_rank(values):
    """exp H(p) of p_k = σ_k / Σ σ, from 1 to the number of singular values (O. Roy and M. Vetterli, The
    Effective Rank: A Measure of Effective Dimensionality, 2007, eq. 3 to 5)."""
    p = values[values > 0] / values.sum()
    return math.exp(-(p * np.log(p)).sum())


def draw_spectra(path, spectra):
    """Write a panel for each layer, but for the last, which has one singular value."""
    panels = []
    for layer, several in enumerate(zip(*spectra.values()), start=1):
        if len(several[0]) > 1:
            order = np.arange(1, len(several[0]) + 1)
            lines = {name: (order, (v / v[0]) ** 2) for name, v in zip(spectra, several)}
            panels.append(plots.Panel(f"layer {layer}", lines, xlabel="k", ylabel="σₖ² / σ₁²"))
    plots.save_panels(path, panels, columns=2)


def main():
    demo = Demo(__doc__.partition("\n")[0], "singular_values", {"digits": {"epochs": 4, "batch_size": 32}})
    demo.add("--width", type=positive_int, default=16, what="channels of the critic's first convolution")
    demo.add("--learning-rate", type=positive_number, default=1e-3, what="of all players; it falls to 0")
    flags, dataset = demo.start()
    images, judge = Images(dataset), Judge(dataset)

    games, players, spectra = {}, {}, {}
    for name, (game, around) in RESTRAINTS.items():
        tg.seed(flags.seed)
        network = critic(images.shape, flags.width, around)
        generator = dcgan_generator(LATENTS, images.shape[0], images.shape[2], flags.width)
        games[name] = game(generator, network, LATENTS)
        players[name] = optimizers(games[name], flags.learning_rate, flags.epochs)
        if name == "none":  # all start from these weights
            spectra["at the start"] = singular_values(network)

    train(demo, flags, games, players, images.read(dataset.train.images))

    spectra |= {name: singular_values(game.critic) for name, game in games.items()}
    draw_spectra(demo.path("singular_values.png"), spectra)
    figures = {}
    for name, game in games.items():
        figures[f"{name}: Fréchet distance of samples"] = judge.distance(game, flags.seed)
    for name, layers in spectra.items():
        for number, values in enumerate(layers, start=1):
            figures[f"{name}: largest singular value of layer {number}"] = values[0]
            if len(values) > 1:
                rank = effective_rank(values)
                figures[f"{name}: effective rank of layer {number}, at most {len(values)}"] = rank
    demo.finish(figures)


if __name__ == "__main__":
    main()
