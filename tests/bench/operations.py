"""Single operations, layers and optimizers: the same work written for tinygen, PyTorch and HIPS autograd.

A case is a function of a library, and of a row if it has several, that returns a step: a function that does
the work once, once both libraries have given the same results. Layouts are those that each library prefers;
`torch-channels-last` is PyTorch with images in tinygen's order in memory.
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


def _draw(*shape, scale=1.0, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype("float32")


def _step(forward, leaves, g):
    """Forward and backward, from the gradient g of forward() to the leaves."""

    def step():
        forward().backward(g)
        for leaf in leaves:
            leaf.grad = None

    return step


def _step_in_torch(forward, leaves, ours, our_leaves, g, library: str):
    """The step in PyTorch, once forward() and the gradients of the first leaves are ours."""
    from torch_side import batch, require_the_same

    g_in_torch = batch(g, library)
    require_the_same(
        *((ours() * g).sum(), our_leaves), *((forward() * g_in_torch).sum(), leaves[: len(our_leaves)])
    )
    return _step(forward, leaves, g_in_torch)


# One hundred small operations ---------------------------------------------------------------------


def overhead(library: str):
    """Forward and backward through a chain of 100 operations on 64 float32 elements."""
    import tinygen as tg

    arrays, ones = [_draw(WIDTH) for _ in range(3)], np.ones(WIDTH, "float32")
    our_leaves = [tg.Tensor(array, requires_grad=True) for array in arrays]

    def ours():
        return _chain(tg.ops.tanh, *our_leaves)

    if library == "tinygen":
        return _step(ours, our_leaves, tg.Tensor(ones))
    if library == "autograd":
        import autograd
        from autograd import numpy as anp

        gradients = autograd.grad(lambda leaves: _chain(anp.tanh, *leaves).sum())
        for found, right in zip(gradients(arrays), tg.grad(ours(), our_leaves, ones)):
            np.testing.assert_allclose(found, right.numpy(), rtol=1e-4, atol=1e-6)
        return lambda: gradients(arrays)
    import torch

    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    return _step_in_torch(lambda: _chain(torch.tanh, *leaves), leaves, ours, our_leaves, ones, library)


def _chain(tanh, x, w, b):
    h = x
    for _ in range(CHAIN):
        h = tanh(h * w + b)
    return h * w


# Convolutions -------------------------------------------------------------------------------------


def convolution(library: str, name: str):
    """Forward and backward, to the input and to the weights, of a convolution of 64 images."""
    import tinygen as tg

    transposed = name in TRANSPOSED
    side, c_in, c_out, k, stride, padding = (TRANSPOSED if transposed else CONVOLUTIONS)[name]
    of_kernel = (c_out, c_in) if transposed else (c_in, c_out)
    x = tg.Tensor(_draw(64, side, side, c_in), requires_grad=True)
    w = tg.Tensor(_draw(k, k, *of_kernel, scale=1 / math.sqrt(k * k * c_in)), requires_grad=True)
    tg.backend.share_images()  # as layers of convolutions do
    function = tg.ops.conv_transpose2d if transposed else tg.ops.conv2d

    def ours():
        return function(x, w, stride=stride, padding=padding)

    g = _draw(*ours().shape, seed=1)
    if library == "tinygen":
        return _step(ours, [x, w], tg.Tensor(g))
    import torch
    from torch_side import batch, layout

    images = batch(x.numpy(), library).requires_grad_()
    kernel = torch.tensor(w.numpy().transpose(3, 2, 0, 1).copy())
    kernel = kernel.contiguous(memory_format=layout(library)).requires_grad_()
    convolve = torch.nn.functional.conv_transpose2d if transposed else torch.nn.functional.conv2d

    def forward():
        return convolve(images, kernel, stride=stride, padding=padding)

    return _step_in_torch(forward, [images, kernel], ours, [x, w], g, library)


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
    import tinygen as tg

    module, shape = _module(name)
    x = tg.Tensor(_draw(*shape), requires_grad=True)
    our_leaves = [x, *module.parameters()]
    recurrent = name.startswith(("LSTM", "GRU"))

    def ours():
        return module(x)[0] if recurrent else module(x)

    g = _draw(*ours().shape, seed=1)
    if library == "tinygen":
        return _step(ours, our_leaves, tg.Tensor(g))
    from torch_side import batch

    forward, parameters = _module_torch(name, module, library)
    images = batch(x.numpy(), library).requires_grad_()
    return _step_in_torch(lambda: forward(images), [images, *parameters], ours, our_leaves, g, library)


def _module(name: str):
    """Our layer, and the shape of its input."""
    from tinygen import nn

    if name in MASKED:
        mask, channels, size = MASKED[name]
        return nn.MaskedConv2d(mask, channels, 64, size), (64, 28, 28, channels)
    kind, *words = name.split()
    if kind == "BatchNorm":
        side, _, channels = map(int, words[0].split("x"))
        return nn.BatchNorm(channels), (64, side, side, channels)
    return getattr(nn, kind)(28, 256), (64, 28, 28)


def _module_torch(name: str, ours, library: str):
    """The layer in PyTorch with the weights of ours, and its parameters, in our order."""
    import torch
    from torch_side import masked_convolution

    kind = name.split()[0]
    if name in MASKED:
        return masked_convolution(ours, library)
    if kind == "BatchNorm":
        module = torch.nn.BatchNorm2d(ours.features)
        return module, list(module.parameters())
    module = getattr(torch.nn, kind)(28, 256, batch_first=True)
    parameters = list(module.parameters())
    weights = [p.numpy().T for p in ours.parameters()]
    for p, value in zip(parameters, [*weights, np.zeros_like(weights[-1])]):  # an LSTM has two biases there
        p.data = torch.tensor(value.copy())
    return lambda x: module(x)[0], parameters


def adam(library: str):
    """A step of Adam over a million parameters in 20 Tensors, with their gradients given."""
    import tinygen as tg

    shapes = [(220, 230)] * 19 + [(190, 204)]
    ours = [tg.Tensor(_draw(*s), requires_grad=True) for s in shapes]
    values = [p.numpy() for p in ours]
    for p in ours:
        p.grad = tg.Tensor(_draw(*p.shape, scale=0.01))
    step = tg.optim.Adam(ours).step
    if library == "tinygen":
        return step
    import torch
    import torch_side

    theirs = [torch.tensor(value, requires_grad=True) for value in values]
    for p, q in zip(ours, theirs):
        q.grad = torch.tensor(p.grad.numpy())
    step_in_torch = torch_side.adam(theirs, library).step
    step()
    step_in_torch()
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(q.detach().cpu().numpy(), p.numpy(), rtol=1e-5, atol=1e-6)
    return step_in_torch
