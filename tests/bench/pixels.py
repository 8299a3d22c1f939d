"""Training steps and samples of PixelCNN and its family, on 28x28 images, binary but for PixelCNN++.

In PyTorch masked kernels are multiplied by their masks in each step, as is usual, and samples take a pass
over whole images for each of the 784 pixels.
"""

from __future__ import annotations

import numpy as np
from training import network_on_bits, step_in_tinygen, step_in_torch, step_on_bits

BATCH = 64
MODELS = ["PixelCNN", "Gated PixelCNN", "multi-scale PixelCNN", "PixelCNN++"]
STACK = "7 masked convolutions"
# The row's name: the model, and how many.
SAMPLES = {f"{name}, {n}": (name, n) for name in [*MODELS[:2], STACK] for n in (16, 64)}
SAMPLES |= {f"{name}, 16": (name, 16) for name in MODELS[2:]}
CHECKED = 2  # images with which it is seen that both libraries sample from the same model
NAIVE_PASSES = 2  # of the 784 PyTorch's time is measured for so many


def training(library: str, row: str):
    """One training step on 64 images, Adam. PixelCNN has 7 masked convolutions of 64 channels in blocks of
    128, Gated PixelCNN 5 layers of 32 channels; multi-scale PixelCNN has two scales with 3 blocks of 64,
    PixelCNN++ two resolutions, 32 filters, 17 levels and no dropout."""
    model = _model(row)
    if row == "PixelCNN++":
        levels = _levels(model, BATCH)
        if library == "tinygen":
            return step_in_tinygen(model, model.loss, levels)
        from pixelcnn_pp_torch import loss_and_network

        loss_of, _, parameters = loss_and_network(model, levels, library)
        return step_in_torch(library, parameters, loss_of, model, model.loss(levels))
    return step_on_bits(library, model, _bits(BATCH), lambda: TORCH[row](model, library))


def samples(library: str, row: str):
    """Samples, also of a plain stack of 7 masked convolutions of 64 channels. PyTorch makes a few of its
    passes; `scale` says how many times as long all of them take."""
    name, n = SAMPLES[row]
    model = _model(name)
    if library == "tinygen":
        return lambda: model.sample(n)
    import torch

    network, draw = _network_and_draw(library, model, name)
    passes = getattr(network, "passes", NAIVE_PASSES * [network])
    empty = torch.zeros(n, 1, 28, 28)

    @torch.no_grad()
    def step():
        x = empty.clone()
        for j, parameters in enumerate(passes):
            x[:, 0, 0, j] = draw(parameters(x)[:, :, 0, j])

    step.scale = 28 * 28 / len(passes)
    return step


def _network_and_draw(library: str, model, name: str):
    """The network as a function in PyTorch, once it is seen to be ours, and the function that draws pixels
    (N,) from what it gives for them, (N, parameters)."""
    import torch

    if name == "PixelCNN++":
        from pixelcnn_pp_torch import drawn, loss_and_network
        from torch_side import require_the_same

        levels = _levels(model, CHECKED)
        loss_of, network, parameters = loss_and_network(model, levels, library)
        require_the_same(model.loss(levels), model.parameters(), loss_of(), parameters)
        return network, lambda of_pixels: drawn(of_pixels, model.levels)

    def draw(logits):
        p = torch.sigmoid(logits[:, 0])
        return (torch.rand_like(p) < p).float()

    _, logits, _ = network_on_bits(library, model, _bits(CHECKED), lambda: TORCH[name](model, library))
    return logits, draw


def _levels(model, n: int):
    return np.random.default_rng(0).integers(0, model.levels, (n, 28, 28, 1))


def _bits(n: int):
    return (np.random.default_rng(0).random((n, 28, 28, 1)) < 0.2).astype("float32")


def _model(name: str):
    """The same weights each time."""
    import tinygen as tg
    from tinygen.models.autoregressive.gated_pixelcnn import GatedPixelCNN
    from tinygen.models.autoregressive.multiscale_pixelcnn import MultiscalePixelCNN
    from tinygen.models.autoregressive.pixelcnn import PixelCNN
    from tinygen.models.autoregressive.pixelcnn_pp import PixelCNNPlusPlus

    tg.seed(0)
    if name == "PixelCNN":
        return PixelCNN((28, 28, 1), channels=128, blocks=7)
    if name == "multi-scale PixelCNN":
        return MultiscalePixelCNN((28, 28, 1), channels=64, blocks=3)
    if name == "PixelCNN++":
        return PixelCNNPlusPlus((28, 28, 1), levels=17, dropout=0.0)
    if name == STACK:
        return _stack()
    return GatedPixelCNN((28, 28, 1), channels=32, layers=5)


def _stack():
    from tinygen import nn, ops
    from tinygen.models.autoregressive.raster import RasterModel

    class Stack(RasterModel):
        """7 masked convolutions, the first 7x7 and the others 3x3, and a 1x1 to the logits; rectifiers are
        all that is between them."""

        def __init__(self):
            super().__init__((28, 28, 1))
            self.first = nn.MaskedConv2d("A", 1, 64, 7)
            self.others = [nn.MaskedConv2d("B", 64, 64, 3) for _ in range(6)]
            self.last = nn.MaskedConv2d("B", 64, 1, 1)

        def see(self, x, convolve):
            return convolve(self.first, x)

        def pixels(self, seen, above, given, convolve):
            h = seen
            for layer in (*self.others, self.last):
                h = convolve(layer, ops.relu(h))
            return h

    return Stack()


def _stack_torch(model, library: str):
    """The network as a function in PyTorch, and its parameters."""
    import torch
    from torch_side import layout, masked_convolution

    layers = [masked_convolution(ours, library) for ours in (model.first, *model.others, model.last)]
    (first, _), *others = layers

    def logits(x):
        h = first(x.contiguous(memory_format=layout(library)))
        for convolve, _ in others:
            h = convolve(torch.relu(h))
        return h

    return logits, [p for _, of_layer in layers for p in of_layer]


def _pixelcnn_torch(model, library: str):
    """The network as a function in PyTorch, and its parameters."""
    import torch
    from torch_side import layout, masked_convolution

    parameters = []

    def layer(ours):
        convolve, of_layer = masked_convolution(ours, library)
        parameters.extend(of_layer)
        return convolve

    first = layer(model.first)
    blocks = [[layer(of) for of in (block.narrow, block.across, block.widen)] for block in model.blocks]
    middle, last = layer(model.middle), layer(model.last)

    def logits(x, given=()):
        h = first(x.contiguous(memory_format=layout(library)))
        for k, block in enumerate(blocks):
            y = h = h + given[k] if given else h
            for convolve in block:
                y = convolve(torch.relu(y))
            h = h + y
        return last(torch.relu(middle(torch.relu(h))))

    return logits, parameters


def _multiscale_torch(model, library: str):
    """The network as a function in PyTorch, and its parameters. Its `passes` are those for 2x2 pixels: of
    the small image's network for one of them, of that which is given the small image for three."""
    import torch
    from torch_side import filled, layout

    small, of_small = _pixelcnn_torch(model.coarse, library)
    fine, of_fine = _pixelcnn_torch(model, library)
    read = torch.nn.Conv2d(1, model.read.outputs, 3, padding=1)
    enlarge = torch.nn.ConvTranspose2d(model.enlarge.inputs, model.enlarge.outputs, 4, 2, 1)
    for theirs, ours in ((read, model.read), (enlarge, model.enlarge)):
        filled(theirs, ours.weight.numpy().transpose(3, 2, 0, 1), ours.bias)
        theirs.to(memory_format=layout(library))
    biases = []
    for ours in model.biases:
        weight = ours.weight.numpy().T[:, :, None, None]
        biases.append(filled(torch.nn.Conv2d(ours.inputs, ours.outputs, 1), weight, ours.bias))

    def in_small(x):
        return small(x[:, :, ::2, ::2])

    def between(x):
        maps = torch.relu(enlarge(torch.relu(read(x[:, :, ::2, ::2]))))
        return fine(x, [bias(maps) for bias in biases])

    def logits(x):
        out = between(x).clone()
        out[:, :, ::2, ::2] = in_small(x)
        return out

    logits.passes = [in_small, between, between, between]
    others = [p for layer in (read, enlarge, *biases) for p in layer.parameters()]
    return logits, [*of_fine, *of_small, *others]


def _gated_torch(model, library: str):
    """The network as a function in PyTorch, and its parameters."""
    import torch
    from torch.nn.functional import pad
    from torch_side import convolution, layout, masked_convolution

    layers, parameters = [], []
    for ours in model.layers:
        left, of_left = masked_convolution(ours.left, library)
        above, of_above = convolution(ours.above, library)
        link = ours.link.weight.numpy().T[:, :, None, None].copy()
        link = torch.tensor(link).contiguous(memory_format=layout(library)).requires_grad_()
        onward, of_onward = masked_convolution(ours.onward, library)
        (rows, columns), right = ours.above.size, ours.above.right
        layers.append((left, above, (columns - 1 - right, right, rows - 1, 0), link, onward))
        parameters += [*of_left, *of_above, link, *of_onward]
    (middle, of_middle), (last, of_last) = (
        masked_convolution(m, library) for m in (model.middle, model.last)
    )

    def gated(a):
        f, g = a.chunk(2, dim=1)
        return torch.tanh(f) * torch.sigmoid(g)

    def logits(x):
        x = x.contiguous(memory_format=layout(library))
        v, h = pad(x[:, :, :-1], (0, 0, 1, 0)), None
        for left, above, around, link, onward in layers:
            a = above(pad(v, around))
            v = gated(a)
            both = left(x if h is None else h) + torch.nn.functional.conv2d(a, link)
            h = onward(gated(both)) if h is None else h + onward(gated(both))
        return last(torch.relu(middle(torch.relu(h))))

    return logits, [*parameters, *of_middle, *of_last]


TORCH = {
    "PixelCNN": _pixelcnn_torch,
    "Gated PixelCNN": _gated_torch,
    "multi-scale PixelCNN": _multiscale_torch,
    STACK: _stack_torch,
}
