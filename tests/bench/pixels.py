"""Training steps and samples of PixelCNN and its family, on 28x28 images, binary but for PixelCNN++.

In PyTorch masked kernels are multiplied by their masks in each step, as is usual, and samples take a pass
over whole images for each of the 784 pixels.
"""

from __future__ import annotations

import numpy as np
from training import network_on_bits, step_in_tinygen, step_in_torch, step_on_bits

BATCH = 64
MODELS = ["PixelCNN", "Gated PixelCNN", "multi-scale PixelCNN", "PixelCNN++"]
# The row's name: the model, and how many.
SAMPLES = {f"{name}, {n}": (name, n) for name in MODELS[:2] for n in (16, 64)}
CHECKED = 2  # images with which it is seen that both libraries sample from the same model
NAIVE_PASSES = 2  # of the 784 PyTorch's time is measured for so many


def training(library: str, row: str):
    """One training step on 64 images, Adam. PixelCNN has 7 masked convolutions of 64 channels in blocks of
    128, Gated PixelCNN 5 layers of 32 channels; multi-scale PixelCNN has two scales with 3 blocks of 64,
    PixelCNN++ two resolutions, 32 filters, 17 levels and no dropout."""
    model = _model(row)
    if row == "PixelCNN++":
        levels = np.random.default_rng(0).integers(0, model.levels, (BATCH, 28, 28, 1))
        if library == "tinygen":
            return step_in_tinygen(model, model.loss, levels)
        from pixelcnn_pp_torch import loss_and_parameters

        loss, parameters = loss_and_parameters(model, levels, library)
        return step_in_torch(library, parameters, loss, model, model.loss(levels))
    return step_on_bits(library, model, _bits(BATCH), lambda: TORCH[row](model, library))


def samples(library: str, row: str):
    """Samples. PyTorch makes a few of its passes; `scale` says how many times as long all of them take."""
    name, n = SAMPLES[row]
    model = _model(name)
    if library == "tinygen":
        return lambda: model.sample(n)
    import torch

    _, logits, _ = network_on_bits(library, model, _bits(CHECKED), lambda: TORCH[name](model, library))

    empty = torch.zeros(n, 1, 28, 28)

    @torch.no_grad()
    def step():
        x, u = empty.clone(), torch.rand_like(empty)
        for j in range(NAIVE_PASSES):
            x[:, 0, 0, j] = (u[:, 0, 0, j] < torch.sigmoid(logits(x)[:, 0, 0, j])).float()

    step.scale = 28 * 28 / NAIVE_PASSES
    return step


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
    return GatedPixelCNN((28, 28, 1), channels=32, layers=5)


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
    """The network as a function in PyTorch, and its parameters."""
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

    def logits(x):
        coarse = x[:, :, ::2, ::2]
        maps = torch.relu(enlarge(torch.relu(read(coarse))))
        out = fine(x, [bias(maps) for bias in biases]).clone()
        out[:, :, ::2, ::2] = small(coarse)
        return out

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
}
