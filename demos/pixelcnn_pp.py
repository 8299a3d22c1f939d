"""Train a PixelCNN++ on grey images: levels with an order, two streams, several resolutions.

With no flags it learns the bundled 8x8 digits with their 17 levels in a minute or two; MNIST and
Fashion-MNIST have 256. It prints the exact negative log-likelihood of held-out images in bits per dimension,
and writes pictures: samples, samples as they grow, completions of images of which the upper half is given,
and what a pixel depends on, which has no blind spot.

The model is small. The paper's has 5 blocks of 160 filters at each of three resolutions and learns color
images (T. Salimans, A. Karpathy, X. Chen and D. P. Kingma, PixelCNN++, 2017: 2.92 bits per dimension on
CIFAR-10); it has no figure for grey images.
"""

from _cli import Demo, positive_int
from _raster import Pixels, draw_pictures, negative_log_likelihood, train

from tinygen.models.autoregressive.pixelcnn_pp import PixelCNNPlusPlus

SMALL = {"epochs": 40, "batch_size": 32, "filters": 24, "blocks": 1, "resolutions": 2, "dropout": 0.5}
LARGE = {"epochs": 2, "batch_size": 32, "filters": 24, "blocks": 1, "resolutions": 2, "dropout": 0.0}
DEFAULTS = {"digits": SMALL, "mnist": LARGE, "fashion-mnist": LARGE}


def main():
    demo = Demo(__doc__.partition("\n")[0], "pixelcnn_pp", DEFAULTS)
    demo.add(
        "--learning-rate", type=float, default=2e-3, what="of Adam at the start, from where it falls to 0"
    )
    demo.add("--components", type=positive_int, default=5, what="of the mixture of a pixel")
    demo.add_by_data("--filters", type=positive_int, what="channels of all maps")
    demo.add_by_data("--blocks", type=positive_int, what="blocks on the way down at each resolution")
    demo.add_by_data("--resolutions", type=positive_int, what="the full one, half of it and so on")
    demo.add_by_data("--dropout", type=float, what="probability of it in training")
    flags, dataset = demo.start()
    pixels = Pixels(dataset, "levels")
    model = demo.make(
        PixelCNNPlusPlus,
        pixels.shape,
        pixels.levels,
        components=flags.components,
        filters=flags.filters,
        blocks=flags.blocks,
        resolutions=flags.resolutions,
        dropout=flags.dropout,
    )
    print(model)

    train(demo, flags, model, pixels)
    draw_pictures(demo, flags, model, pixels)
    demo.finish(pixels.figure(negative_log_likelihood(model, pixels, pixels.dataset.test)))


if __name__ == "__main__":
    main()
