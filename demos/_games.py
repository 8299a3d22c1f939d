"""What the demos of games on images share: images as generators make them, networks, training, figures.

How good samples are is said by the Fréchet distance of as many samples as there are test images to the
training images, in the features of a small classifier that is trained on the same data. Beside it stands
the distance of the test images themselves, the floor: a generator as good as the data reaches about that.
"""

import math

import numpy as np
from _cli import DRAW, TEST, TRAIN, VALIDATE, cosine, positive_int, positive_number

import tinygen as tg
from tinygen import data, metrics, nn, plots
from tinygen.backend import Generator, to_host, xp
from tinygen.nn.init import he_normal
from tinygen.optim import Adam
from tinygen.training import Run

AT_ONCE = 500  # samples: activations of convolutions are large
EVALUATIONS = 20  # in a run
# Where test images are few, the Fréchet distance of as many samples is a matter of chance, and the mean of
# draws is taken, as many as make these numbers of samples.
FEW_SAMPLES, MANY_SAMPLES = 3600, 36000


class Images:
    """The images of a data set as games see them: intensities from −1 to 1."""

    def __init__(self, dataset):
        self.dataset, self.shape = dataset, dataset.train.images.shape[1:]

    def read(self, images):
        """Images (N, H, W, C) of whole numbers as the critic sees them, on the device."""
        return 2 * data.to_unit(xp.asarray(images), self.dataset.levels) - 1

    @staticmethod
    def intensities(x) -> np.ndarray:
        """What the generator makes as intensities from 0 to 1 on the host."""
        return np.clip((to_host(x) + 1) / 2, 0, 1)


def mlp(shape, latents, hidden, labels=0, dropout=0.0):
    """Three hidden layers each: a generator to images of a shape, and a critic of them."""
    size, seen = math.prod(shape), math.prod(shape) + labels * math.prod(shape[:2])
    to_image, to_number = [], []
    for inputs in (latents + labels, hidden, hidden):
        to_image += [nn.Linear(inputs, hidden, init=he_normal), nn.ReLU()]
    for inputs in (seen, hidden, hidden):
        to_number += [nn.Linear(inputs, hidden), nn.LeakyReLU(0.2), nn.Dropout(dropout)]
    return (
        nn.Sequential(*to_image, nn.Linear(hidden, size), nn.Tanh(), nn.Reshape(shape)),
        nn.Sequential(nn.Flatten(), *to_number, nn.Linear(hidden, 1)),
    )


def add_flags(demo) -> None:
    """Flags that these demos have beside those of all."""
    demo.add_by_data("--latents", type=positive_int, what="dimensions of the latent code")
    demo.add_by_data(
        "--hidden", type=positive_int, what="units in a hidden layer, or channels of the largest map"
    )
    demo.add_by_data("--learning-rate", type=positive_number, what="of both players at the start")


def adam_pair(game, lr) -> tuple[Adam, Adam]:
    """Of the critic and of the generator, as in DCGAN, for GANs whose papers have none."""
    return tuple(Adam(player.parameters(), lr, (0.5, 0.999)) for player in (game.critic, game.generator))


def play(demo, flags, game, optimizers, images) -> dict[str, float]:
    """Train both players, draw samples, and return the figures."""
    print(game)
    judge = Judge(images.dataset)
    run = train(demo, flags, game, optimizers, images, judge)
    draw_samples(demo, flags, game)
    return judge.figures(game, flags.seed, run.log)


# Training -----------------------------------------------------------------------------------------


def train(demo, flags, game, optimizers, images, judge) -> Run:
    """Let both players take their turns, and draw their losses and the Fréchet distance on the way.

    Learning rates fall to 0: the players never come to rest by themselves. A batch holds a minibatch for each
    step of the critic before one of the generator."""
    split = images.dataset.train
    if flags.batch_size % game.critic_steps:
        demo.parser.error(
            f"argument --batch-size: expected a multiple of {game.critic_steps}, minibatches for as many "
            f"steps of the critic; got {flags.batch_size}"
        )
    of_critic, of_generator = optimizers
    steps = flags.epochs * (len(split) // flags.batch_size)
    of_critic.lr = cosine(of_critic.lr, steps * game.critic_steps)
    of_generator.lr = cosine(of_generator.lr, steps)

    @tg.replay
    def take_turns(x, labels, rng):
        with rng:
            return game.iteration(x, optimizers, labels)

    states = {"game": game, "critic_optimizer": of_critic, "generator_optimizer": of_generator}
    with demo.training(len(split), drop_last=True, **states) as run:
        for epoch in run.epochs():
            for step, index in run.batches():
                x, labels = images.read(split.images[index]), labels_for(game, split.labels[index])
                losses = take_turns(x, labels, Generator(flags.seed, TRAIN, step))
                run.record(len(index), **losses)
            seen = {}
            if epoch % max(1, flags.epochs // EVALUATIONS) == 0 or epoch == flags.epochs:
                seen["distance"] = judge.distance(game, flags.seed)
            run.end_epoch(**seen)
    draw_curves(demo.path("curves.png"), run.log, judge.floor)
    return run


def labels_for(game, labels):
    """Labels on the device for a game that wants them."""
    return xp.asarray(labels) if game.labels else None


def draw_curves(path, log, floor) -> None:
    """curves.png: the losses of both players, and the Fréchet distance."""

    def line(name):
        return tuple(zip(*((entry["step"], entry[name]) for entry in log if name in entry)))

    losses = log[0].keys() - {"epoch", "step", "distance"}
    steps = line("distance")[0]
    distances = {
        "samples": line("distance"),
        "test images": ((steps[0], steps[-1]), (floor, floor)),
    }
    plots.save_panels(
        path,
        [
            plots.Panel("Losses", {name: line(name) for name in sorted(losses)}, xlabel="generator's steps"),
            plots.Panel(
                "Fréchet distance to the training images", distances, xlabel="generator's steps", scale="log"
            ),
        ],
    )


# Figures and pictures -----------------------------------------------------------------------------


class Judge:
    """How near a generator's samples come to the training images, in the eyes of a classifier of these.

    floor: the distance of the test images."""

    def __init__(self, dataset):
        self.test = dataset.test
        self.classifier = metrics.classifier(dataset, progress=print)
        self.real = data.to_unit(self.test.images, dataset.levels)
        self.training = self.classifier.features(data.to_unit(dataset.train.images, dataset.levels))
        self.floor = self._distance(self.real)

    def distance(self, game, seed) -> float:
        """The Fréchet distance of samples, the mean over a few draws."""
        draws = self.samples(game, seed, VALIDATE, FEW_SAMPLES)
        return float(np.mean([self._distance(x) for x in draws]))

    def _distance(self, x: np.ndarray) -> float:
        return metrics.frechet_distance(self.classifier.features(x), self.training)

    def samples(self, game, seed, key, total) -> list[np.ndarray]:
        """Draws of as many samples as there are test images, and of their labels if the game has labels;
        about `total` in all, and at least one draw."""
        labels = labels_for(game, self.test.labels)
        n = len(self.test)
        return [sample(game, n, Generator(seed, key, k), labels) for k in range(max(1, total // n))]

    def figures(self, game, seed, log) -> dict[str, float]:
        """What a demo prints of a game that has been played."""
        draws = self.samples(game, seed, TEST, MANY_SAMPLES)
        distance = float(np.mean([self._distance(x) for x in draws]))
        n, on_the_way = len(self.test), [line["distance"] for line in log if "distance" in line]
        score, _ = metrics.inception_score(self.classifier.probabilities(np.concatenate(draws)), len(draws))
        real_score, _ = metrics.inception_score(self.classifier.probabilities(self.real), 1)
        figures = {
            f"Fréchet distance of {n} samples to the training images": distance,
            f"the same of the {n} test images, the floor": self.floor,
            "times the floor": distance / self.floor,
            "the lowest distance on the way": min(on_the_way),
            f"inception score of {n} samples": score,
            "of the test images": real_score,
        }
        if game.labels:
            asked = np.tile(self.test.labels, len(draws))
            agreement = (self.classifier.predict(np.concatenate(draws)) == asked).mean()
            figures[f"% of {len(asked)} samples classified as asked for"] = 100 * float(agreement)
            figures[f"% of {n} test images classified right"] = 100 * self.classifier.accuracy
        return figures


def sample(game, n, rng, labels=None) -> np.ndarray:
    """n samples as intensities, drawn some at a time, and as after training."""
    game.eval()
    parts = [slice(start, min(start + AT_ONCE, n)) for start in range(0, n, AT_ONCE)]
    drawn = [
        game.sample(part.stop - part.start, None if labels is None else labels[part], rng) for part in parts
    ]
    game.train()
    return np.concatenate([Images.intensities(x) for x in drawn])


def draw_samples(demo, flags, game) -> None:
    """samples.png: 100 samples, in columns of one label each where the game has labels."""
    labels = labels_for(game, np.arange(100) % (game.labels or 1))
    title = "Samples, each column of one label" if game.labels else "Samples"
    plots.save_images(
        demo.path("samples.png"), sample(game, 100, Generator(flags.seed, DRAW), labels), 10, title=title
    )
