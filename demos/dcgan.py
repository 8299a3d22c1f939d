"""Train a deep convolutional GAN on images, walk through its latent space, and use what it has learned.

With no flags it learns the bundled 8x8 digits in a minute or two. interpolations.png has samples on lines
between two codes, and arithmetic.png what comes of codes added and subtracted. The discriminator has never
seen a label. A linear classifier on what its convolutions find is compared with one on the pixels, both
trained on 100 labelled images, with the penalty that is best on the validation images.
"""

import numpy as np
from _cli import DRAW, Demo
from _games import AT_ONCE, Images, add_flags, play

import tinygen as tg
from tinygen import metrics, plots
from tinygen.backend import Generator, to_host, xp
from tinygen.models.adversarial import DCGAN, interpolate

DEFAULTS = {
    "digits": {"epochs": 150, "batch_size": 64, "latents": 32, "hidden": 32, "learning_rate": 5e-4},
    "mnist": {"epochs": 4, "batch_size": 128, "latents": 64, "hidden": 16, "learning_rate": 2e-4},
    "fashion-mnist": {"epochs": 4, "batch_size": 128, "latents": 64, "hidden": 16, "learning_rate": 2e-4},
}
LABELLED = 10  # images of each label that a linear classifier is trained on
CHOICES = 20  # of these images: accuracies are means over them
PENALTIES = 10.0 ** np.arange(-4, 3)  # λ, of which the one is taken that is best on the validation images


# Latent space -------------------------------------------------------------------------------------


@tg.no_grad()
def pictures(game, codes) -> np.ndarray:
    """What the generator makes of codes, as intensities; the game is as after training."""
    return Images.intensities(game.generate(codes).data)


def draw_interpolations(demo, game, rng) -> None:
    """interpolations.png: in each row samples on the line from one code to another."""
    codes = interpolate(game.latent(10, rng), game.latent(10, rng), 10).swapaxes(0, 1)
    title = "In each row: samples on the line from one code to another"
    rows = pictures(game, codes.reshape(-1, game.latents))
    plots.save_images(demo.path("interpolations.png"), rows, 10, title=title)


def draw_arithmetic(demo, game, classifier, rng) -> None:
    """arithmetic.png: codes of heavy samples of one label, minus those of light ones, plus those of light
    samples of another label, each the mean of three (Radford et al. 2016, figure 7). A fifth of the label's
    samples are heavier, or lighter."""
    codes = game.latent(2000, rng)
    drawn = pictures(game, codes)
    label, ink = classifier.predict(drawn), drawn.mean(axis=(1, 2, 3))

    def mean_code(of, heavy):
        alike = np.flatnonzero(label == of)
        by_ink = alike[np.argsort(-ink[alike] if heavy else ink[alike])]
        chosen = by_ink[len(alike) // 5 :][:3]
        return codes[xp.asarray(chosen)].mean(axis=0)

    columns = []
    known = [k for k in range(label.max() + 1) if (label == k).sum() >= 3]
    for one, other in zip(known, [*known[1:], known[0]]):
        terms = mean_code(one, True), mean_code(one, False), mean_code(other, False)
        columns.append(xp.stack([*terms, terms[0] - terms[1] + terms[2]]))
    grid = xp.stack(columns, axis=1).reshape(-1, game.latents)
    title = "In each column, by their codes: heavy − light + light other = the last"
    plots.save_images(demo.path("arithmetic.png"), pictures(game, grid), len(columns), title=title)


# Features -----------------------------------------------------------------------------------------


def linear_accuracies(images, features, seed) -> tuple[float, float]:
    """Of linear classifiers on pixels and on features, trained with few labels: % of test images, means over
    choices of the labelled ones."""
    splits = (images.dataset.train, images.dataset.validation, images.dataset.test)
    seen = [images.read(split.images) for split in splits]
    labels = [split.labels for split in splits]
    pixels = [to_host(x).reshape(len(x), -1) for x in seen]
    found = [in_parts(features, x) for x in seen]
    return accuracy(pixels, labels, seed), accuracy(found, labels, seed)


def in_parts(function, x) -> np.ndarray:
    """function(x) on the host, computed some images at a time."""
    return np.concatenate(
        [to_host(function(x[start : start + AT_ONCE])) for start in range(0, len(x), AT_ONCE)]
    )


def accuracy(x, labels, seed) -> float:
    """% of test images classified right, from x and labels of training, validation and test images."""
    right = []
    for choice in range(CHOICES):
        rng = np.random.default_rng([seed, choice])
        each = [np.flatnonzero(labels[0] == k) for k in range(labels[0].max() + 1)]
        chosen = np.concatenate([rng.permutation(of_label)[:LABELLED] for of_label in each])
        few, their_labels = x[0][chosen], labels[0][chosen]
        shares = [  # on validation and test images, for each penalty
            [(scores.argmax(axis=1) == y).mean() for scores, y in zip(by_split, labels[1:])]
            for by_split in (ridge(few, their_labels, x[1:], penalty) for penalty in PENALTIES)
        ]
        right.append(max(shares, key=lambda share: share[0])[1])
    return 100 * float(np.mean(right))


def ridge(x, labels, others, penalty) -> list[np.ndarray]:
    """Linear functions of x (N, F), one for each label, that are 1 on it and −1 elsewhere in least squares,
    with the sum of their squared weights penalized; their values (M, labels) for other points (M, F).

    There are fewer points than features: so with f(x) = Σ_n α_n ⟨x_n, x⟩ the system has N unknowns,
    (K + λ) α = y with K_nm = ⟨x_n, x_m⟩."""
    mean = x.mean(axis=0)
    x = x - mean
    K = x @ x.T
    y = np.where(labels[:, None] == np.arange(labels.max() + 1), 1.0, -1.0)
    scale = K.trace() / len(K)  # so that λ means the same for pixels and features
    alpha = np.linalg.solve(K + penalty * scale * np.eye(len(K)), y - y.mean(axis=0))
    return [(other - mean) @ (x.T @ alpha) + y.mean(axis=0) for other in others]


def main():
    demo = Demo(__doc__.partition("\n")[0], "dcgan", DEFAULTS)
    add_flags(demo)
    flags, dataset = demo.start()
    images = Images(dataset)
    side, _, channels = images.shape
    game = demo.make(DCGAN, side, channels, flags.latents, flags.hidden)
    optimizers = game.optimizers(flags.learning_rate)

    figures = play(demo, flags, game, optimizers, images)
    game.eval()
    draw_interpolations(demo, game, Generator(flags.seed, DRAW, 1))
    draw_arithmetic(demo, game, metrics.classifier(dataset), Generator(flags.seed, DRAW, 2))
    of_pixels, of_features = linear_accuracies(images, game.features, flags.seed)
    count = LABELLED * (int(dataset.train.labels.max()) + 1)
    figures[f"% of test images right, linear on pixels, {count} labels"] = of_pixels
    figures["the same on the discriminator's features"] = of_features
    demo.finish(figures)


if __name__ == "__main__":
    main()
