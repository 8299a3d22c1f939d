"""Train a PixelCNN, and watch its samples grow pixel by pixel.

With no flags it learns the bundled 8x8 digits, thresholded, in a minute or two; with --pixels levels it
learns their 17 levels of grey. It prints the exact negative log-likelihood of held-out images, in nats or in
bits per dimension, and writes pictures: samples, samples as they grow, completions of images of which the
upper half is given, and what a pixel depends on. In images as large as MNIST's the blind spot is seen there.

MNIST is binarized once, by sampling each pixel with the probability of its intensity, as in the paper (A. van
den Oord, N. Kalchbrenner and K. Kavukcuoglu, Pixel Recurrent Neural Networks, 2016), but by another draw.
The kind of binarization moves the figure by tens of nats.
"""

from _cli import Demo, positive_int
from _raster import Pixels, add_flags, draw_pictures, negative_log_likelihood, train

from tinygen.models.autoregressive.pixelcnn import PixelCNN

SMALL = {"pixels": "binary", "epochs": 40, "batch_size": 32, "channels": 32, "blocks": 4, "kernel": 3}
LARGE = {"pixels": "binary", "epochs": 10, "batch_size": 32, "channels": 32, "blocks": 6, "kernel": 5}
DEFAULTS = {"digits": SMALL, "mnist": LARGE, "fashion-mnist": LARGE}
# Negative log-likelihood of MNIST's test images, in nats, as the paper gives it in table 4.
PUBLISHED = {"published: PixelCNN, the paper's draw of the pixels": 81.30}


def main():
    demo = Demo(__doc__.partition("\n")[0], "pixelcnn", DEFAULTS)
    add_flags(demo)
    demo.add_by_data("--channels", type=positive_int, what="of the residual stream")
    demo.add_by_data("--blocks", type=positive_int, what="residual blocks")
    demo.add_by_data("--kernel", type=positive_int, what="size of the kernels in the blocks")
    flags, dataset = demo.start()
    pixels = Pixels(dataset, flags.pixels)
    model = demo.make(PixelCNN, pixels.shape, flags.channels, flags.blocks, pixels.family, size=flags.kernel)
    print(model)

    train(demo, flags, model, pixels)
    draw_pictures(demo, flags, model, pixels)
    figures = pixels.figure(negative_log_likelihood(model, pixels, pixels.dataset.test))
    published = PUBLISHED if dataset.name == "mnist" and pixels.binary else {}
    demo.finish({**figures, **published})


if __name__ == "__main__":
    main()
