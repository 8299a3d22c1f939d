"""The loss and the draws of PixelCNN++ on grey images, in PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import conv2d, conv_transpose2d, elu, logsigmoid, pad
from torch_side import batch, layout


class Weights:
    """PyTorch's copies of tinygen's parameters, each made when it is first asked for."""

    def __init__(self, library: str):
        self.library, self.made = library, {}

    def __call__(self, ours):
        """A parameter; kernels (height, width, inputs, outputs) with PyTorch's order of axes."""
        if id(ours) not in self.made:
            array = ours.numpy()
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
            weight = torch.tensor(np.ascontiguousarray(array))
            if array.ndim == 4:
                weight = weight.contiguous(memory_format=layout(self.library))
            self.made[id(ours)] = weight.requires_grad_()
        return self.made[id(ours)]


def concat_elu(x):
    return elu(torch.cat([x, -x], dim=1))


def shifted(w: Weights, layer, x, stride=1):
    left, right = layer.around
    x = pad(x, (left, right, layer.size[0] - 1, 0))
    return conv2d(x, w(layer.weight), w(layer.bias), stride)


def pixelwise(w: Weights, layer, x):
    return conv2d(x, w(layer.weight).T[:, :, None, None], w(layer.bias))


def gated(w: Weights, block, h, beside):
    y = shifted(w, block.first, concat_elu(h))
    if block.beside:
        y = y + pixelwise(w, block.beside, concat_elu(torch.cat(beside, dim=1)))
    a, b = shifted(w, block.second, concat_elu(y)).chunk(2, dim=1)
    return h + a * torch.sigmoid(b)


def stream(w: Weights, ours, h, others):
    """The maps after each block, as from tinygen's Stream."""
    n = len(ours.down) + len(ours.up)
    own = iter([[other] for other in others[:n]] if others else n * [[]])
    kept = [h]
    for block in ours.down:
        kept.append(gated(w, block, kept[-1], next(own)))
    maps, coarser = kept[1:], []
    if ours.coarser:
        coarser = stream(w, ours.coarser, shifted(w, ours.halve, kept[-1], 2), others[n:])
        double, small = ours.double, coarser[ours.coarser.last]
        h = conv_transpose2d(small, w(double.weight), w(double.bias), 2)[..., double.right :]
    else:
        h = kept.pop()
    for block in ours.up:
        h = gated(w, block, h, [kept.pop(), *next(own)])
        maps.append(h)
    return [*maps, *coarser]


def log_likelihood(parameters, x, levels: int):
    """log of a mixture of discretized logistics at levels x (N, 1, H, W), (N, H, W) (SKCK eq. 2)."""
    log_weights, mean, log_scale = parameters.chunk(3, dim=1)
    log_scale = log_scale.clamp(min=-7)
    half, centred = 1 / (levels - 1), 2 * x / (levels - 1) - 1 - mean
    upper, lower = (torch.exp(-log_scale) * (centred + d) for d in (half, -half))
    # σ(u) − σ(l) = σ(u) σ(−l) (1 − exp(l − u)), and what lies beyond the lowest and highest level is theirs.
    of_upper = torch.where(x == levels - 1, 0.0, logsigmoid(upper))
    of_lower = torch.where(x == 0, 0.0, logsigmoid(-lower))
    inside = torch.log(-torch.expm1(lower - upper))
    log_p = of_upper + of_lower + torch.where((x == 0) | (x == levels - 1), 0.0, inside)
    return torch.logsumexp(torch.log_softmax(log_weights, dim=1) + log_p, dim=1)


def drawn(parameters, levels: int):
    """Levels (N,) of pixels whose mixtures have these parameters (N, 3K)."""
    log_weights, *others = parameters.chunk(3, dim=1)
    component = torch.multinomial(torch.softmax(log_weights, dim=1), 1)
    mean, log_scale = (p.gather(1, component)[:, 0] for p in others)
    x = mean + torch.exp(log_scale.clamp(min=-7)) * torch.logit(torch.rand_like(mean))
    return torch.round((x.clamp(-1, 1) + 1) / 2 * (levels - 1))


def loss_and_network(model, images, library: str):
    """(loss_of, network, parameters): the function that gives −log p of images of levels (N, H, W, 1), the
    one from levels (N, 1, H, W) to the parameters of their mixtures, and those of the network."""
    w = Weights(library)
    x = batch(images.astype("float32"), library)
    mask = torch.ones(1, 1, 3, 3)
    mask[:, :, 1, 1:] = mask[:, :, 2] = 0

    def network(x):
        seen = 2 * x / (model.levels - 1) - 1
        # The stream above sees the rows before: the image is moved down by one.
        above = stream(w, model.above, shifted(w, model.first_above, pad(seen[:, :, :-1], (0, 0, 1, 0))), [])
        first = conv2d(seen, w(model.first.weight) * mask, w(model.first.bias), padding=1)
        h = stream(w, model.left, first, above)[model.left.last]
        return pixelwise(w, model.last, elu(h))

    def loss_of():
        return -log_likelihood(network(x), x, model.levels).sum() / len(x)

    loss_of()
    return loss_of, network, [w.made[id(p)] for p in model.parameters()]
