"""Train networks of very different kinds as adversaries, by three objectives, one setting for each.

After figure 2 of I. Gulrajani et al., Improved Training of Wasserstein GANs, 2017: with the gradient penalty,
any network can be a critic; a plain discriminator and clipped weights fail for some. In the picture each row
is a kind of network, in the generator and in the critic alike, and each column an objective; above each panel
stands the Fréchet distance of samples to the training images. The paper has images of 64x64 pixels and
networks of up to 101 layers; here are small digits, and runs of minutes. A network fails here if its samples
come no nearer to the data than images whose pixels are drawn one by one, each from any training image.

Data are drawn anew in each step. An epoch is 100 steps of each generator.
"""

import math

import numpy as np
from _cli import DRAW, Demo, positive_int, positive_number
from _games import Images, Judge, mlp, sample
from _side_by_side import optimizers, train

import tinygen as tg
from tinygen import data, metrics, nn, ops, plots
from tinygen.backend import Generator
from tinygen.models.adversarial import GAN, WGAN, WGANGP

LATENTS = 16
OBJECTIVES = {
    "GAN": lambda *players: GAN(*players, LATENTS),
    "WGAN, clipped": lambda *players: WGAN(*players, LATENTS, c=0.05),
    "WGAN-GP": lambda *players: WGANGP(*players, LATENTS),
}


# Networks: each function gives a generator of images of a shape, and a critic of them ----------------------


class Gate(nn.Module):
    """tanh(a) σ(b) of the two halves a and b of the last axis (A. van den Oord et al., Conditional Image
    Generation with PixelCNN Decoders, 2016, eq. 2)."""

    def forward(self, x):
        half = x.shape[-1] // 2
        return ops.tanh(x[..., :half]) * ops.sigmoid(x[..., half:])


class Residual(nn.Module):
    """x + f(x) with two convolutions in f, each after a ReLU."""

    def __init__(self, channels):
        layers = [nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)]
        self.f = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x):
        return x + self.f(x)


def convolutional(shape, width, after=lambda channels, side: [nn.ReLU()], halves=1):
    """Two convolutions that halve the image in the critic, two that double it in the generator.

    after: the layers after a convolution, for so many channels and that side of its square maps.
    halves: 2, if those layers leave half of the channels."""
    side, _, channels = shape
    small = (side // 4, side // 4, 2 * width)
    generator = nn.Sequential(
        *(nn.Linear(LATENTS, halves * math.prod(small)), nn.Reshape((*small[:2], halves * small[2]))),
        *after(small[2], side // 4),
        nn.ConvTranspose2d(small[2], halves * width, 4, stride=2, padding=1),
        *after(width, side // 2),
        *(nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1), nn.Tanh()),
    )
    critic = nn.Sequential(
        nn.Conv2d(channels, halves * width, 4, stride=2, padding=1),
        *after(width, side // 2),
        nn.Conv2d(width, halves * small[2], 4, stride=2, padding=1),
        *after(small[2], side // 4),
        *(nn.Flatten(), nn.Linear(math.prod(small), 1)),
    )
    return generator, critic


NETWORKS = {
    "MLP": lambda shape, width: mlp(shape, LATENTS, 8 * width),
    "convolutional": convolutional,
    "layer norm": lambda shape, width: convolutional(
        shape, width, lambda channels, side: [nn.LayerNorm((side, side, channels)), nn.ReLU()]
    ),
    "gated": lambda shape, width: convolutional(shape, width, lambda channels, side: [Gate()], halves=2),
    "tanh everywhere": lambda shape, width: convolutional(shape, width, lambda channels, side: [nn.Tanh()]),
    "residual": lambda shape, width: convolutional(
        shape, width, lambda channels, side: [Residual(channels), Residual(channels), nn.ReLU()]
    ),
}


# The run ---------------------------------------------------------------------------------------------------


def distance_of_pixels_alone(images, judge, seed):
    """The Fréchet distance of images of which each pixel is that of some training image, drawn on its own."""
    shape = images.dataset.train.images.shape
    pixels = data.to_unit(images.dataset.train.images, images.dataset.levels).reshape(len(judge.training), -1)
    alone = np.random.default_rng(seed).permuted(pixels, axis=0)[: len(judge.test)]
    features = judge.classifier.features(alone.reshape(-1, *shape[1:]))
    return metrics.frechet_distance(features, judge.training)


def draw_grid(path, cells, distances):
    """Write the samples of each cell, rows being networks and columns objectives."""
    from matplotlib.figure import Figure

    figure = Figure((3.2 * len(OBJECTIVES), 1.15 * len(NETWORKS)), layout="constrained")
    places = figure.subplots(len(NETWORKS), len(OBJECTIVES))
    for row, network in zip(places, NETWORKS):
        for axes, objective in zip(row, OBJECTIVES):
            name = f"{network}, {objective}"
            axes.imshow(plots.tile(cells[name], 8)[..., 0], cmap="gray_r", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"{objective}: {distances[name]:.1f}", fontsize=8)
        row[0].set_ylabel(network, fontsize=8)
    plots.write_figure(path, figure)


def main():
    demo = Demo(__doc__.partition("\n")[0], "critics", {"digits": {"epochs": 3, "batch_size": 32}})
    demo.add(
        "--width",
        type=positive_int,
        default=16,
        what="channels in the first convolution; MLPs have 8 times as many units",
    )
    demo.add("--learning-rate", type=positive_number, default=1e-3, what="of all players; it falls to 0")
    flags, dataset = demo.start()
    images, judge = Images(dataset), Judge(dataset)

    games, players = {}, {}
    for network, networks in NETWORKS.items():
        for objective, game in OBJECTIVES.items():
            tg.seed(flags.seed)
            name = f"{network}, {objective}"
            games[name] = game(*networks(images.shape, flags.width))
            players[name] = optimizers(games[name], flags.learning_rate, flags.epochs)

    train(demo, flags, games, players, images.read(dataset.train.images))

    distances = {name: judge.distance(game, flags.seed) for name, game in games.items()}
    cells = {name: sample(game, 16, Generator(flags.seed, DRAW)) for name, game in games.items()}
    draw_grid(demo.path("samples.png"), cells, distances)

    alone = distance_of_pixels_alone(images, judge, flags.seed)
    figures = {f"{name}: Fréchet distance": distance for name, distance in distances.items()}
    for objective in OBJECTIVES:
        failed = sum(distances[f"{network}, {objective}"] >= alone for network in NETWORKS)
        figures[f"{objective}: networks of {len(NETWORKS)} that failed"] = failed
    figures["each pixel drawn on its own: no better than that is a failure"] = alone
    figures["test images, the floor"] = judge.floor
    demo.finish(figures)


if __name__ == "__main__":
    main()
