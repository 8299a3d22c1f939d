"""Single operations, layers and optimizers: the same work written for tinygen, PyTorch and HIPS autograd.

A case is a function of a library, and of a row if it has several, that returns a step: a function that does
the work once. Layouts are those that each library prefers; `torch-channels-last` is PyTorch with images in
tinygen's order in memory.
"""

from __future__ import annotations

import math

import numpy as np

CHAIN, WIDTH = 33, 64  # (multiply, add, tanh) so many times, and one multiply more: 100 operations
# name: (image side, channels in, channels out, kernel side, stride, padding)
CONVOLUTIONS = {
    "28x28 1>32 k4 s2": (28, 1, 32, 4, 2, 1),
    "28x28 32>64 k3": (28, 32, 64, 3, 1, 1),
    "28x28 64>64 k3": (28, 64, 64, 3, 1, 1),
    "14x14 64>64 k3": (14, 64, 64, 3, 1, 1),
    "7x7 64>64 k3": (7, 64, 64, 3, 1, 1),
    "28x28 32>64 k4 s2": (28, 32, 64, 4, 2, 1),
    "14x14 64>64 k4 s2": (14, 64, 64, 4, 2, 1),
    "28x28 32>64 k5": (28, 32, 64, 5, 1, 2),
}
# name: the transposed ones, from the small image to the large
TRANSPOSED = {
    "transposed 7x7 128>64 k4 s2": (7, 128, 64, 4, 2, 1),
    "transposed 14x14 64>1 k4 s2": (14, 64, 1, 4, 2, 1),
}


def _draw(*shape, scale=1.0):
    return (np.random.default_rng(0).standard_normal(shape) * scale).astype("float32")


# One hundred small operations ---------------------------------------------------------------------


def overhead(library: str):
    """Forward and backward through a chain of 100 operations on 64 float32 elements."""
    arrays = [_draw(WIDTH), _draw(WIDTH), _draw(WIDTH)]
    ones = np.ones(WIDTH, "float32")
    if library == "autograd":
        import autograd
        from autograd import numpy as anp

        def chain(leaves):
            x, w, b = leaves
            for _ in range(CHAIN):
                x = anp.tanh(x * w + b)
            return (x * w).sum()

        gradient = autograd.grad(chain)
        return lambda: gradient(arrays)
    if library == "tinygen":
        import tinygen as tg

        x, w, b = (tg.Tensor(array, requires_grad=True) for array in arrays)
        tanh, ones = tg.ops.tanh, tg.Tensor(ones)
    else:
        import torch

        x, w, b = (torch.tensor(array, requires_grad=True) for array in arrays)
        tanh, ones = torch.tanh, torch.tensor(ones)

    def step():
        h = x
        for _ in range(CHAIN):
            h = tanh(h * w + b)
        (h * w).backward(ones)
        x.grad = w.grad = b.grad = None

    return step


# Convolutions -------------------------------------------------------------------------------------


def convolution(library: str, name: str):
    """Forward and backward, to the input and to the weights, of a convolution of 64 images."""
    transposed = name in TRANSPOSED
    side, c_in, c_out, k, stride, padding = (TRANSPOSED if transposed else CONVOLUTIONS)[name]
    images = _draw(64, side, side, c_in)
    weights = _draw(k, k, c_in, c_out, scale=1 / math.sqrt(k * k * c_in))
    if library == "tinygen":
        import tinygen as tg

        x = tg.Tensor(images, requires_grad=True)
        if transposed:
            w = tg.Tensor(weights.swapaxes(2, 3), requires_grad=True)
            function = tg.ops.conv_transpose2d
        else:
            w, function = tg.Tensor(weights, requires_grad=True), tg.ops.conv2d
        g = tg.Tensor(_draw(*function(x, w, stride=stride, padding=padding).shape))
    else:
        import torch

        layout = torch.channels_last if library == "torch-channels-last" else torch.contiguous_format
        order = (2, 3, 0, 1) if transposed else (3, 2, 0, 1)
        x, w = torch.tensor(images.transpose(0, 3, 1, 2)), torch.tensor(weights.transpose(order))
        x, w = (t.contiguous(memory_format=layout).requires_grad_() for t in (x, w))
        function = torch.nn.functional.conv_transpose2d if transposed else torch.nn.functional.conv2d
        g = torch.ones_like(function(x, w, stride=stride, padding=padding))

    def step():
        function(x, w, stride=stride, padding=padding).backward(g)
        x.grad = w.grad = None

    return step


# Layers and optimizers -----------------------------------------------------------------------------

LAYERS = ["BatchNorm 14x14x64", "BatchNorm 28x28x32", "LSTM 28 steps 28>256", "GRU 28 steps 28>256"]
MASKED = {
    "masked 3x3 B 64>64": ("B", 64, 3),
    "masked 7x7 B 64>64": ("B", 64, 7),
    "masked 7x7 A 1>64": ("A", 1, 7),
}


def layer(library: str, name: str):
    """Forward and backward, to the input and to the parameters, of a layer on a batch of 64. PyTorch has
    no masked convolution: there the weight is multiplied by the mask, as is usual."""
    kind = name.split()[0]
    if kind == "BatchNorm":
        side, _, channels = map(int, name.split()[1].split("x"))
        data = _draw(64, side, side, channels)
    elif kind == "masked":
        _, channels, _ = MASKED[name]
        data = _draw(64, 28, 28, channels)
    else:
        data = _draw(64, 28, 28)
    if library == "tinygen":
        return _layer_tinygen(name, data)
    return _layer_torch(name, data, library)


def _layer_tinygen(name: str, data):
    import tinygen as tg

    module, x = _module(name, data), tg.Tensor(data, requires_grad=True)
    forward = (lambda: module(x)[0]) if name.startswith(("LSTM", "GRU")) else (lambda: module(x))
    g = tg.Tensor(np.ones(forward().shape, "float32"))

    def step():
        forward().backward(g)
        module.zero_grad()
        x.grad = None

    return step


def _module(name: str, data):
    """Our layer."""
    from tinygen import nn

    if name in MASKED:
        mask, channels, size = MASKED[name]
        return nn.MaskedConv2d(mask, channels, 64, size)
    kind = name.split()[0]
    return nn.BatchNorm(data.shape[-1]) if kind == "BatchNorm" else getattr(nn, kind)(28, 256)


def _layer_torch(name: str, data, library: str):
    import torch
    from torch_side import batch, masked_convolution

    kind, x = name.split()[0], batch(data, library).requires_grad_()
    if name in MASKED:
        forward, parameters = masked_convolution(_module(name, data), library)
    elif kind == "BatchNorm":
        forward = torch.nn.BatchNorm2d(data.shape[-1])
        parameters = list(forward.parameters())
    else:
        module = getattr(torch.nn, kind)(28, 256, batch_first=True)
        parameters = list(module.parameters())

        def forward(x):
            return module(x)[0]

    g = torch.ones_like(forward(x))

    def step():
        forward(x).backward(g)
        for p in [x, *parameters]:
            p.grad = None

    return step


def adam(library: str):
    """A step of Adam over a million parameters in 20 Tensors, with their gradients given."""
    shapes = [(220, 230)] * 19 + [(190, 204)]
    values, gradients = [_draw(*s) for s in shapes], [_draw(*s, scale=0.01) for s in shapes]
    if library == "tinygen":
        import tinygen as tg

        parameters = [tg.Tensor(a, requires_grad=True) for a in values]
        for p, g in zip(parameters, gradients):
            p.grad = tg.Tensor(g)
        return tg.optim.Adam(parameters).step
    import torch
    import torch_side

    parameters = [torch.tensor(a, requires_grad=True) for a in values]
    for p, g in zip(parameters, gradients):
        p.grad = torch.tensor(g)
    return torch_side.adam(parameters, library).step
