"""The deep convolutional GAN.

    A. Radford, L. Metz and S. Chintala, Unsupervised Representation Learning with Deep Convolutional
    Generative Adversarial Networks, 2016 (RMC below).

The game is that of `gan.py`. What is new are networks that are trained stably on images (RMC section 3): no
pooling, but convolutions with stride, transposed in the generator; batch normalization in all layers but the
generator's last and the discriminator's first; ReLU in the generator, tanh at its end, and leaky ReLU in the
discriminator. Images are scaled to [−1, 1].
"""

from __future__ import annotations

import functools

from ... import nn, ops
from ...autodiff import no_grad
from ...nn.init import normal
from ...optim import Adam
from .gan import GAN

# Weights start from N(0, 0.02²) (RMC section 4). A layer before batch normalization needs no bias.
start = normal(0.02)
Upsampling = functools.partial(nn.ConvTranspose2d, size=4, stride=2, padding=1, init=start)
Downsampling = functools.partial(nn.Conv2d, size=4, stride=2, padding=1, init=start)


def resolutions(side: int) -> list[int]:
    """The sides of the feature maps of images with that side, halved at least twice and to 7 or less:
    64, 32, 16, 8, 4; 28, 14, 7; 8, 4, 2.

    Raises ValueError for a side that cannot be halved so."""
    sides = [side]
    while len(sides) < 3 or sides[-1] > 7:
        if sides[-1] < 2 or sides[-1] % 2:
            raise ValueError(
                f"resolutions: side: expected one to be halved twice, and to 7 or less, got {side!r}"
            )
        sides.append(sides[-1] // 2)
    return sides


def dcgan_generator(inputs: int, side: int, outputs: int, channels: int = 64) -> nn.Sequential:
    """The network from codes (N, inputs) to images (N, side, side, outputs) in [−1, 1] (RMC figure 1).

    channels: of the largest feature map; each halving of the side doubles them (the paper's 64x64 images have
    128, 256, 512 and 1,024)."""
    *_, smallest = sides = resolutions(side)
    *widths, widest = [channels << level for level in range(len(sides) - 1)]
    layers = [nn.Linear(inputs, smallest**2 * widest, bias=False, init=start)]
    layers += [nn.Reshape((smallest, smallest, widest)), nn.BatchNorm(widest), nn.ReLU()]
    for width in reversed(widths):
        layers += [Upsampling(2 * width, width, bias=False), nn.BatchNorm(width), nn.ReLU()]
    return nn.Sequential(*layers, Upsampling(channels, outputs), nn.Tanh())


def dcgan_discriminator(inputs: int, side: int, channels: int = 64) -> nn.Sequential:
    """The network from images (N, side, side, inputs) to logits (N, 1).

    channels: of the first convolution; each further one doubles them."""
    *_, smallest = sides = resolutions(side)
    *widths, widest = [channels << level for level in range(len(sides) - 1)]
    layers = [Downsampling(inputs, channels), nn.LeakyReLU(0.2)]
    for width in widths:
        layers += [Downsampling(width, 2 * width, bias=False), nn.BatchNorm(2 * width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(smallest**2 * widest, 1, init=start))


class DCGAN(GAN):
    """side: of the images (N, side, side, channels). latents: of z; the paper's are uniform, these are
    normal. width: the channels of the largest feature map. labels: as for `Game`.

    Call `eval` before drawing samples that shall not depend on each other."""

    def __init__(self, side: int, channels: int = 1, latents: int = 100, width: int = 64, labels: int = 0):
        self._expect_counts(side=side, channels=channels, latents=latents, width=width)
        self._expect_counts(least=0, labels=labels)
        generator = dcgan_generator(latents + labels, side, channels, width)
        super().__init__(generator, dcgan_discriminator(channels + labels, side, width), latents, labels)

    def optimizers(self, lr=0.0002, betas: tuple[float, float] = (0.5, 0.999)) -> tuple[Adam, Adam]:
        """Of the discriminator and of the generator (RMC section 4, with minibatches of 128)."""
        return tuple(Adam(player.parameters(), lr, betas) for player in (self.critic, self.generator))

    @no_grad()
    def features(self, x, condition=None):
        """What the discriminator's convolutions find in images x, an array (N, F): each feature map pooled
        by its maxima to the size of the smallest, all in a row (RMC section 5.1). The game stays as it is."""
        h, maps = self._joined(x, condition), []
        with nn.frozen_state():
            for layer in self.critic.layers:
                h = layer(h)
                if isinstance(layer, nn.LeakyReLU):
                    maps.append(h)
        smallest = maps[-1].shape[1]
        pooled = [ops.max_pool2d(h, h.shape[1] // smallest) for h in maps]
        return ops.raw(ops.concatenate([ops.reshape(h, (len(x), -1)) for h in pooled], axis=1))


def interpolate(first, last, steps: int):
    """Codes on the line from one to another, both included: arrays (...) to (steps, ...) (RMC figure 4).

    Raises ValueError for fewer than 2 steps, and for codes of different shapes."""
    if not isinstance(steps, int) or steps < 2:
        raise ValueError(f"interpolate: steps: expected an int of at least 2, got {steps}")
    if first.shape != last.shape:
        raise ValueError(f"interpolate: first, last: expected one shape, got {first.shape} and {last.shape}")
    return ops.raw(ops.stack([first + (k / (steps - 1)) * (last - first) for k in range(steps)]))
