"""Train a Gated PixelCNN, and ask it for one digit or the other.

With no flags it learns the bundled 8x8 digits, thresholded, in a minute or two; with --pixels levels it
learns their 17 levels of grey. With --conditional it learns p(x | label): samples.png has a column for each
label, and a classifier, trained here on the same images, tells in what share of samples it sees the label
that was asked for. The demo prints the exact negative log-likelihood of held-out images, in nats or in bits
per dimension, and writes pictures: samples, samples as they grow, completions of images of which the upper
half is given, and what a pixel depends on, in which there is no blind spot.

MNIST is binarized once, by sampling each pixel with the probability of its intensity. The kind of
binarization moves the figure by tens of nats.
"""

import numpy as np
from _cli import DRAW, TEST, Demo, cosine, positive_int
from _raster import Pixels, add_flags, draw_pictures, negative_log_likelihood, train

import tinygen as tg
from tinygen import nn, ops, optim
from tinygen.backend import Generator, to_host, xp
from tinygen.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from tinygen.training import batch_count, batches

SMALL = {"pixels": "binary", "epochs": 40, "batch_size": 32, "channels": 32, "layers": 4, "kernel": 3}
LARGE = {"pixels": "binary", "epochs": 10, "batch_size": 32, "channels": 32, "layers": 6, "kernel": 5}
DEFAULTS = {"digits": SMALL, "mnist": LARGE, "fashion-mnist": LARGE}
ASKED = 2000  # samples that the classifier sees


def recognized(flags, model, pixels) -> dict[str, float]:
    """The percentage of samples in which a classifier sees the label that was asked for, and of test images
    in which it sees theirs."""
    split, test = pixels.dataset.train, pixels.dataset.test
    classifier = trained_classifier(flags, pixels.intensities(pixels.read(split.images)), split.labels)
    asked = np.arange(ASKED) % model.labels
    samples = model.sample(ASKED, xp.asarray(asked), Generator(flags.seed, DRAW, 1))
    return {
        f"% of {len(test)} test images in which a classifier sees their label": agreement(
            classifier, pixels.intensities(pixels.read(test.images)), test.labels
        ),
        f"% of {ASKED} samples in which it sees the label asked for": agreement(
            classifier, pixels.intensities(samples), asked
        ),
    }


def trained_classifier(flags, images, labels, steps: int = 3000, batch_size: int = 100):
    """A network from images (N, H, W, C) to the logits of their labels, trained for so many steps, and those
    that end the last epoch."""
    classifier = nn.Sequential(
        nn.Flatten(),
        nn.Linear(images[0].size, 500),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(500, int(labels.max()) + 1),
    )
    optimizer = optim.Adam(classifier.parameters(), lr=cosine(2e-3, steps))
    step = 0
    for epoch in range(-(-steps // batch_count(len(images), batch_size))):
        for index in batches(len(images), batch_size, flags.seed, epoch):
            step += 1
            with Generator(flags.seed, TEST, step):
                logits = classifier(xp.asarray(images[index], "float32"))
            optimizer.zero_grad()
            ops.categorical_cross_entropy(logits, xp.asarray(labels[index])).mean().backward()
            optimizer.step()
    return classifier.eval()


@tg.no_grad()
def agreement(classifier, images, labels) -> float:
    """The percentage of images in which the label with the highest probability is the one given."""
    logits = to_host(classifier(xp.asarray(images, "float32")).data)
    return 100 * float((logits.argmax(axis=1) == labels).mean())


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
