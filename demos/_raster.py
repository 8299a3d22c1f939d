"""What the demos of models in raster order share: pixels as these models read them, training, pictures."""

import numpy as np
from _cli import DRAW, TRAIN, cosine

import tinygen as tg
from tinygen import data, optim, plots
from tinygen.backend import Generator, to_host, xp
from tinygen.models.autoregressive.conditionals import bernoulli, categorical

EVALUATION = 100  # images at a time: activations of convolutions are large


class Pixels:
    """The images of a data set as a model reads them.

    kind: "binary", each pixel 0 or 1 (MNIST's once and for all drawn with the probability of their intensity,
    the digits' thresholded), or "levels", whole numbers."""

    def __init__(self, dataset, kind: str):
        self.binary = kind == "binary"
        self.kind = "levels"
        if self.binary:
            self.kind = "thresholded" if dataset.name == "digits" else "binarized once"
            dataset = dataset if dataset.name == "digits" else data.binarize_once(dataset)
        self.dataset, self.levels = dataset, dataset.levels
        self.shape = dataset.train.images.shape[1:]
        self.family = bernoulli() if self.binary else categorical(dataset.levels)

    def read(self, images):
        """Images (N, H, W, C) of whole numbers as the model takes them, on the device."""
        return xp.asarray(data.threshold(images, self.levels) if self.binary else images.astype("int64"))

    def intensities(self, x) -> np.ndarray:
        """What the model takes or draws, as intensities from 0 to 1 on the host."""
        return to_host(x).astype("float32") / (1 if self.binary else self.levels - 1)

    def figure(self, nats: float) -> dict[str, float]:
        """The negative log-likelihood of a test image as it is usually given."""
        images = f"{len(self.dataset.test)} test images, {self.kind}"
        if self.binary:
            return {f"−log p(x) of {images}, nats": nats}
        bits = float(data.bits_per_dimension(-nats, int(np.prod(self.shape))))
        return {f"−log p(x) of {images}, bits per dimension": bits}


def add_flags(demo) -> None:
    """Flags that all these demos have."""
    demo.add_by_data("--pixels", choices=["binary", "levels"], what="what is learned of a pixel")
    demo.add(
        "--learning-rate", type=float, default=2e-3, what="of Adam at the start, from where it falls to 0"
    )


def train(demo, flags, model, pixels) -> None:
    """Train a model, leave it as it was when it was best on validation, and draw its curves."""
    split = pixels.dataset.train
    steps = -(-len(split) // flags.batch_size) * flags.epochs
    optimizer = optim.Adam(model.parameters(), lr=cosine(flags.learning_rate, steps))

    @tg.replay
    def descend(x, labels, rng):
        with rng:
            loss = model.loss(x, labels)
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        return loss

    with demo.training(len(split), model=model, optimizer=optimizer) as run:
        for _ in run.epochs():
            model.train()
            for step, index in run.batches():
                rng = Generator(flags.seed, TRAIN, step)
                x, labels = pixels.read(split.images[index]), labels_for(model, split.labels[index])
                loss = descend(x, labels, rng)
                run.record(len(index), loss=loss)
            model.eval()
            validation = negative_log_likelihood(model, pixels, pixels.dataset.validation)
            run.end_epoch(score=-validation, validation=validation)
    model.load_state_dict(tg.load(demo.path("best.npz"))["model"])
    model.eval()
    curves = {name: run.history(key) for name, key in [("training", "loss"), ("validation", "validation")]}
    plots.save_curves(demo.path("curves.png"), curves, "epoch", "−log p(x), nats per image")


def labels_for(model, labels):
    """Labels on the device for a model that wants them."""
    return xp.asarray(labels) if model.labels else None


@tg.no_grad()
def negative_log_likelihood(model, pixels, split) -> float:
    """The mean of −log p(x) over a split, in nats."""
    log_p = []
    for start in range(0, len(split), EVALUATION):
        part = slice(start, start + EVALUATION)
        x, labels = pixels.read(split.images[part]), labels_for(model, split.labels[part])
        log_p.append(model.log_prob(x, labels).numpy())
    return -float(np.concatenate(log_p).mean())


def draw_pictures(demo, flags, model, pixels) -> None:
    """samples.png, completions.png, growth.png, growth.gif and reach.png."""
    rng = Generator(flags.seed, DRAW)
    columns = xp.arange(100) % model.labels if model.labels else None
    samples = pixels.intensities(model.sample(100, columns, rng))
    title = "Samples, each column of one label" if model.labels else "Samples"
    plots.save_images(demo.path("samples.png"), samples, 10, title=title)
    draw_completions(demo, model, pixels, rng)
    draw_growth(demo, samples)
    draw_reach(demo, model, pixels)


def draw_completions(demo, model, pixels, rng) -> None:
    """completions.png: the upper half of test images is given, and the lower one drawn five times."""
    test = pixels.dataset.test
    x, labels = pixels.read(test.images[:10]), labels_for(model, test.labels[:10])
    given = np.zeros(pixels.shape, bool)
    given[: pixels.shape[0] // 2] = True
    rows = [pixels.intensities(x), np.where(given, pixels.intensities(x), 0.5)]
    for _ in range(5):
        rows.append(pixels.intensities(model.complete(x, xp.asarray(given), labels, rng)))
    title = "Test images; what is given of them; below it draws of the rest"
    plots.save_images(demo.path("completions.png"), np.concatenate(rows), 10, title=title)


def draw_growth(demo, samples: np.ndarray) -> None:
    """growth.png and growth.gif: ten samples as they grow, pixel by pixel; grey is what is not drawn yet.

    A drawn pixel never changes, so that each stage is the beginning of the whole."""
    _, height, width, _ = samples.shape
    order = np.arange(height * width).reshape(height, width, 1)

    def stage(known: int) -> np.ndarray:
        return np.where(order < known, samples[:10], 0.5)

    stages = np.linspace(0, height * width, 9)[1:].astype(int)
    title = "Samples as they grow, from top to bottom"
    plots.save_images(demo.path("growth.png"), np.concatenate([*map(stage, stages)]), 10, title=title)
    frames = np.linspace(0, height * width, min(height * width, 112) + 1).astype(int)
    plots.save_animation(demo.path("growth.gif"), [plots.tile(stage(known), 5) for known in frames])


def draw_reach(demo, model, pixels) -> None:
    """reach.png: how much the conditional of the pixel in the middle depends on each other, as the mean of
    the gradient's size over test images; white is exactly 0: it may not see that, or does not reach it."""
    labels = labels_for(model, pixels.dataset.test.labels[:EVALUATION])
    x = pixels.read(pixels.dataset.test.images[:EVALUATION])
    seen = tg.Tensor(model.family.encode(x, model.dtype), requires_grad=True)
    parameters = model.parameters_of(seen, model.given(model.context_of(labels, len(x))))
    i, j = (size // 2 for size in pixels.shape[:2])
    (gradient,) = tg.grad(parameters[:, i, j].sum(), [seen])
    size = to_host(abs(gradient.data).mean(axis=(0, 3)))
    shades = np.where(size > 0, 0.15 + 0.85 * (size / size.max()) ** 0.25, 0)
    shades[i, j] = 0.5
    title = f"what the pixel at ({i}, {j}), grey,\ndepends on (fourth root of |gradient|)"
    plots.save_matrices(demo.path("reach.png"), {title: shades})
