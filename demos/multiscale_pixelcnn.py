"""Train a multi-scale PixelCNN: it draws a small image first, and larger ones given it.

With no flags it learns the bundled 8x8 digits, thresholded, in a minute or two: the 4x4 pixels in their even
rows and columns, and the others given these. With --pixels levels it learns their 17 levels of grey. MNIST
has three scales, 7x7, 14x14 and 28x28. The demo prints the exact negative log-likelihood of held-out images,
in nats or in bits per dimension, and what each scale adds to it in nats. It writes pictures: samples; some of
them at each scale; test images of which the smallest scale is given; and how many nats each pixel costs.

MNIST is binarized once, by sampling each pixel with the probability of its intensity. The kind of
binarization moves the figure by tens of nats.
"""

import numpy as np
from _cli import DRAW, Demo, positive_int
from _raster import EVALUATION, Pixels, add_flags, train

import tinygen as tg
from tinygen import plots
from tinygen.backend import Generator, to_host, xp
from tinygen.models.autoregressive.multiscale_pixelcnn import MultiscalePixelCNN

SMALL = {"pixels": "binary", "epochs": 40, "batch_size": 32}
SMALL |= {"channels": 32, "blocks": 4, "scales": 2, "first": 5, "kernel": 3}
LARGE = {"pixels": "binary", "epochs": 10, "batch_size": 32}
LARGE |= {"channels": 32, "blocks": 5, "scales": 3, "first": 7, "kernel": 3}
DEFAULTS = {"digits": SMALL, "mnist": LARGE, "fashion-mnist": LARGE}


@tg.no_grad()
def nats_of_pixels(model, pixels, split) -> np.ndarray:
    """The mean of −log p(x_d) given what comes before it, over a split: (H, W)."""
    total = np.zeros(pixels.shape[:2])
    for start in range(0, len(split), EVALUATION):
        x = pixels.read(split.images[start : start + EVALUATION])
        total -= to_host(model.conditionals(x).log_prob(x).sum(axis=(0, 3)).data)
    return total / len(split)


def figures_of_scales(nats: np.ndarray, scales: int) -> dict[str, float]:
    """What each scale costs, given the smaller ones."""
    images = [nats[::step, ::step] for step in steps_of(scales)]
    costs = np.diff([image.sum() for image in images], prepend=0)
    names = ["x".join(map(str, image.shape)) for image in images]
    given = ["", *(f" given {name}" for name in names)]
    return {f"of the {n} pixels{g}, nats": float(cost) for n, g, cost in zip(names, given, costs)}


def steps_of(scales: int) -> list[int]:
    """How many pixels apart those of each scale are, the smallest scale first."""
    return [2**k for k in reversed(range(scales))]


def at_scale(images: np.ndarray, step: int) -> np.ndarray:
    """The pixels of a scale alone, each as large as those that it stands for."""
    _, height, width, _ = images.shape
    return images[:, ::step, ::step].repeat(step, axis=1).repeat(step, axis=2)[:, :height, :width]


def draw_pictures(demo, flags, model, pixels, nats: np.ndarray) -> None:
    """samples.png, scales.png, completions.png and nats.png."""
    rng = Generator(flags.seed, DRAW)
    samples = pixels.intensities(model.sample(100, rng=rng))
    plots.save_images(demo.path("samples.png"), samples, 10, title="Samples")
    scales = np.concatenate([at_scale(samples[:10], step) for step in steps_of(flags.scales)])
    plots.save_images(demo.path("scales.png"), scales, 10, title="Samples at each scale, as they are drawn")
    draw_completions(demo, flags, model, pixels, rng)
    title = f"nats of each pixel, from 0 to {nats.max():.2f}"
    plots.save_matrices(demo.path("nats.png"), {title: nats / nats.max()})


def draw_completions(demo, flags, model, pixels, rng) -> None:
    """completions.png: the smallest scale of test images is given, and the rest drawn five times."""
    x = pixels.read(pixels.dataset.test.images[:10])
    step = 2 ** (flags.scales - 1)
    given = np.zeros(pixels.shape, bool)
    given[::step, ::step] = True
    rows = [pixels.intensities(x), at_scale(pixels.intensities(x), step)]
    for _ in range(5):
        rows.append(pixels.intensities(model.complete(x, xp.asarray(given), rng=rng)))
    title = "Test images; their smallest scale, which is given; draws of the rest"
    plots.save_images(demo.path("completions.png"), np.concatenate(rows), 10, title=title)


def main():
    demo = Demo(__doc__.partition("\n")[0], "multiscale_pixelcnn", DEFAULTS)
    add_flags(demo)
    demo.add_by_data("--scales", type=positive_int, what="each half as large as the next")
    demo.add_by_data("--channels", type=positive_int, what="of the residual stream, at each scale")
    demo.add_by_data("--blocks", type=positive_int, what="residual blocks at each scale")
    demo.add_by_data("--first", type=positive_int, what="size of the first kernel at each scale")
    demo.add_by_data("--kernel", type=positive_int, what="size of the kernels in the blocks")
    flags, dataset = demo.start()
    pixels = Pixels(dataset, flags.pixels)
    model = demo.make(
        MultiscalePixelCNN,
        pixels.shape,
        flags.channels,
        flags.blocks,
        flags.scales,
        pixels.family,
        first=flags.first,
        size=flags.kernel,
    )
    print(model)

    train(demo, flags, model, pixels)
    nats = nats_of_pixels(model, pixels, pixels.dataset.test)
    draw_pictures(demo, flags, model, pixels, nats)
    demo.finish({**pixels.figure(float(nats.sum())), **figures_of_scales(nats, flags.scales)})


if __name__ == "__main__":
    main()
