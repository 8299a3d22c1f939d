"""Train MADE on binary images, complete images of which half is given, and look at its masks.

With no flags it learns the bundled 8x8 digits, thresholded, in some seconds. It prints the exact negative
log-likelihood of held-out images, in nats, and writes pictures: samples, completions, the masks, and the
curves of training and validation.

MNIST is binarized once, by sampling each pixel with the probability of its intensity, as in the paper
(M. Germain, K. Gregor, I. Murray and H. Larochelle, MADE: Masked Autoencoder for Distribution Estimation,
2015), but by another draw. The kind of binarization moves the figure by tens of nats.
"""

import numpy as np
from _cli import DRAW, Demo, cosine, mean_over, positive_int

import tinygen as tg
from tinygen import data, optim, plots
from tinygen.backend import Generator, to_host, xp
from tinygen.models.autoregressive.made import MADE
from tinygen.training import batch_count

DEFAULTS = {
    "digits": {"epochs": 100, "batch_size": 20, "hidden": 500, "order": "natural"},
    "mnist": {"epochs": 25, "batch_size": 50, "hidden": 500, "order": "random"},
    "fashion-mnist": {"epochs": 25, "batch_size": 50, "hidden": 500, "order": "random"},
}
# Negative log-likelihood of MNIST's test images, in nats, as the paper gives it.
PUBLISHED = {
    "published: 1 layer of 8000 units, the paper's draw of the pixels": 88.40,
    "published: 2 layers of 8000 units and 32 variants, the same": 86.64,
}


def vectors(images, levels):
    """Images as the model sees them, (N, pixels) of zeros and ones, on the device."""
    return xp.asarray(data.threshold(images, levels).reshape(len(images), -1))


def independent_pixels(train, test):
    """The negative log-likelihood of a model that takes each pixel on its own, in nats."""
    p = (train.sum(axis=0) + 0.5) / (len(train) + 1)
    return -float((test * xp.log(p) + (1 - test) * xp.log(1 - p)).sum(axis=1).mean())


def draw_pictures(demo, made, x, shape, rng):
    """samples.png, completions.png and masks.png, where pixels are in their order and units by their degrees;
    x: some images, (10, pixels)."""

    def images(vectors):
        return to_host(vectors).reshape(-1, *shape)

    title = "Samples: each pixel drawn from p(x_d | x_<d)"
    plots.save_images(demo.path("samples.png"), images(made.sample(100, rng=rng)), 10, title=title)

    order = made.network.order()
    given = np.isin(np.arange(made.inputs), order[: made.inputs // 2])
    known = xp.asarray(given)
    rows = [x, xp.where(known, x, 0.5), *(made.complete(x, known, rng=rng) for _ in range(5))]
    title = "Test images; the half that is given, first in the order; below it draws of the rest"
    plots.save_images(demo.path("completions.png"), images(xp.concatenate(rows)), 10, title=title)

    made.conditionals(x)  # leaves the masks of the first variant in the layers
    network = made.network
    units = [to_host(degrees.data[0]).argsort(kind="stable") for degrees in network.degrees]
    in_order = zip([order, *units], [*units, order])
    masks = [mask_of(layer)[np.ix_(*pair)] for layer, pair in zip(network.layers, in_order)]
    paths = np.linalg.multi_dot(masks) + mask_of(network.direct)[np.ix_(order, order)]
    names = ["pixels", *(f"units of layer {k + 1}" for k in range(len(units))), "conditionals"]
    matrices = {f"mask, {names[k]} to\n{names[k + 1]}": mask for k, mask in enumerate(masks)}
    matrices["all paths, pixels to\nconditionals"] = paths > 0
    plots.save_matrices(demo.path("masks.png"), matrices)


def mask_of(layer):
    """M (inputs, outputs) on the host."""
    return to_host(layer.matrix(layer.mask.data))


def main():
    demo = Demo(__doc__.partition("\n")[0], "made", DEFAULTS)
    demo.add_by_data("--hidden", type=positive_int, what="units in a hidden layer")
    demo.add("--layers", type=positive_int, default=1, what="hidden layers")
    demo.add_by_data("--order", choices=["natural", "reversed", "random"], what="of the pixels")
    demo.add("--variants", type=positive_int, default=1, what="sets of masks; several have random degrees")
    demo.add("--learning-rate", type=float, default=2e-3, what="of Adam at first; it falls to 0")
    flags, dataset = demo.start()

    if dataset.name != "digits":
        dataset = data.binarize_once(dataset)
    shape, levels = dataset.train.images.shape[1:], dataset.levels
    train, test = (vectors(split.images, levels) for split in (dataset.train, dataset.test))
    degrees = "random" if flags.variants > 1 else "even"
    made = MADE(
        train.shape[1],
        flags.layers * [flags.hidden],
        order=flags.order,
        degrees=degrees,
        variants=flags.variants,
        direct=True,
    )
    steps = flags.epochs * batch_count(len(train), flags.batch_size)
    optimizer = optim.Adam(made.parameters(), lr=cosine(flags.learning_rate, steps))
    print(made)

    def nll(images):
        return -mean_over(images, lambda part, _: made.log_prob(vectors(part, levels)), 500, None)

    def training_step(variant):
        @tg.replay
        def descend(x):
            loss = made.loss(x, step=variant)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return descend

    descend = [training_step(variant) for variant in range(made.variants)]
    with demo.training(len(train), model=made, optimizer=optimizer) as run:
        for _ in run.epochs():
            for step, index in run.batches():
                loss = descend[step % made.variants](train[xp.asarray(index)])
                run.record(len(index), loss=loss)
            validation = nll(dataset.validation.images)
            run.end_epoch(score=-validation, validation=validation)

    best = tg.load(demo.path("best.npz"))
    made.load_state_dict(best["model"])
    curves = {name: run.history(key) for name, key in [("training", "loss"), ("validation", "validation")]}
    plots.save_curves(demo.path("curves.png"), curves, "epoch", "−log p(x), nats per image")
    draw_pictures(demo, made, test[:10], shape, Generator(flags.seed, DRAW))

    binarization = "thresholded" if dataset.name == "digits" else "binarized once"
    demo.finish(
        {
            "epoch with the best likelihood on validation": best["run"]["epoch"],
            f"−log p(x) of {len(test)} test images, {binarization}, nats": nll(dataset.test.images),
            "the same with each pixel on its own": independent_pixels(train, test),
            **(PUBLISHED if dataset.name == "mnist" else {}),
        }
    )


if __name__ == "__main__":
    main()
