"""Train a Gated PixelCNN, and ask it for one digit or the other.

With no flags it learns the bundled 8x8 digits, thresholded, in a minute or two; with --pixels levels it
learns their 17 levels of grey. With --conditional it learns p(x | label): samples.png has a column for each
label, and a classifier of the same images tells in what share of samples it sees the label that was asked
for. The demo prints the exact negative log-likelihood of held-out images, in nats or in bits per dimension,
and writes pictures: samples, samples as they grow, completions of images of which the upper half is given,
and what a pixel depends on, in which there is no blind spot.

MNIST is binarized once, by sampling each pixel with the probability of its intensity. The kind of
binarization moves the figure by tens of nats.
"""

from dataclasses import replace

import numpy as np
from _cli import DRAW, Demo, positive_int
from _raster import Pixels, add_flags, draw_pictures, negative_log_likelihood, train

from tinygen import data, metrics
from tinygen.backend import Generator, to_host, xp
from tinygen.models.autoregressive.gated_pixelcnn import GatedPixelCNN

SMALL = {"pixels": "binary", "epochs": 40, "batch_size": 32, "channels": 32, "layers": 4, "kernel": 3}
LARGE = {"pixels": "binary", "epochs": 10, "batch_size": 32, "channels": 24, "layers": 5, "kernel": 5}
DEFAULTS = {"digits": SMALL, "mnist": LARGE, "fashion-mnist": LARGE}
ASKED = 2000  # samples that the classifier sees


def recognized(flags, model, pixels) -> dict[str, float]:
    """The percentage of samples in which a classifier sees the label that was asked for, and of test images
    in which it sees theirs."""
    judge = metrics.classifier(as_read(pixels), progress=print)
    asked = np.arange(ASKED) % model.labels
    samples = model.sample(ASKED, xp.asarray(asked), Generator(flags.seed, DRAW, 1))
    seen = judge.predict(pixels.intensities(samples))
    test = f"% of {len(pixels.dataset.test)} test images in which a classifier sees their label"
    return {
        test: 100 * judge.accuracy,
        f"% of {ASKED} samples in which it sees the label asked for": 100 * float((seen == asked).mean()),
    }


def as_read(pixels) -> data.Dataset:
    """The data set with its images as the model reads them: the classifier must know images of that kind."""
    dataset = pixels.dataset
    splits = {
        name: replace(split, images=to_host(pixels.read(split.images)).astype("uint8"))
        for name, split in vars(dataset).items()
        if isinstance(split, data.Split)
    }
    return replace(dataset, levels=2 if pixels.binary else pixels.levels, **splits)


def main():
    demo = Demo(__doc__.partition("\n")[0], "gated_pixelcnn", DEFAULTS)
    add_flags(demo)
    demo.add_by_data("--channels", type=positive_int, what="of each stack")
    demo.add_by_data("--layers", type=positive_int, what="gated layers")
    demo.add_by_data("--kernel", type=positive_int, what="size of the kernels behind the first layer")
    demo.add("--conditional", action="store_true", default=False, what="learn p(x | label)")
    flags, dataset = demo.start()
    pixels = Pixels(dataset, flags.pixels)
    labels = int(dataset.train.labels.max()) + 1 if flags.conditional else 0
    model = demo.make(
        GatedPixelCNN, pixels.shape, flags.channels, flags.layers, pixels.family, labels, size=flags.kernel
    )
    print(model)

    train(demo, flags, model, pixels)
    draw_pictures(demo, flags, model, pixels)
    figures = pixels.figure(negative_log_likelihood(model, pixels, pixels.dataset.test))
    if flags.conditional:
        figures.update(recognized(flags, model, pixels))
    demo.finish(figures)


if __name__ == "__main__":
    main()
