"""What the models in PyTorch share: networks with tinygen's weights, layouts, Adam, and the check that both
libraries compute the same.

`library` is "torch", "torch-channels-last" for images in tinygen's order in memory, or "torch-fused" for the
fused kernel of Adam.
"""

from __future__ import annotations

import numpy as np
import torch


def layout(library: str):
    """The order of images in memory."""
    return torch.channels_last if library == "torch-channels-last" else torch.contiguous_format


def batch(array, library: str):
    """A copy of a batch in PyTorch's order of axes: images have the channels first."""
    if array.ndim != 4:
        return torch.tensor(array)
    return torch.tensor(array.transpose(0, 3, 1, 2).copy()).contiguous(memory_format=layout(library))


def adam(parameters, library: str, **settings):
    return torch.optim.Adam(parameters, fused=library == "torch-fused" or None, **settings)


def filled(module, weight, bias=None):
    """A module of PyTorch with these weights, given as arrays in its own order of axes."""
    module.weight.data = torch.tensor(weight.copy())
    if bias is not None:
        module.bias.data = torch.tensor(bias.numpy())
    return module


def sequential(network, library: str):
    """PyTorch's network with the weights of ours; its images have the channels first."""
    layers, flattened = [], None  # flattened: (h, w) of the maps that the next linear layer sees as a row
    for ours, after in zip(network.layers, [*network.layers[1:], None]):
        kind = type(ours).__name__
        if kind == "Linear":
            weight = ours.weight.numpy()
            inputs, outputs = weight.shape
            if type(after).__name__ == "Reshape":
                h, w, channels = after.shape
                weight = weight.reshape(inputs, h, w, channels).transpose(0, 3, 1, 2)
            if flattened is not None:
                weight = weight.reshape(*flattened, -1, outputs).transpose(2, 0, 1, 3)
            flattened, weight = None, weight.reshape(inputs, outputs).T
            layers.append(filled(torch.nn.Linear(inputs, outputs, ours.bias is not None), weight, ours.bias))
        elif kind in ("Conv2d", "ConvTranspose2d"):
            settings = {"stride": 2, "padding": 1, "bias": ours.bias is not None}
            theirs = getattr(torch.nn, kind)(ours.inputs, ours.outputs, 4, **settings)
            layers.append(filled(theirs, ours.weight.numpy().transpose(3, 2, 0, 1), ours.bias))
        elif kind == "BatchNorm":
            layers.append(torch.nn.BatchNorm2d(ours.features))
        elif kind == "Reshape":
            h, w, channels = ours.shape
            layers.append(torch.nn.Unflatten(1, (channels, h, w)))
        elif kind == "Flatten":
            flattened = (7, 7)
            layers.append(torch.nn.Flatten())
        elif kind == "LeakyReLU":
            layers.append(torch.nn.LeakyReLU(0.2))
        else:
            layers.append(getattr(torch.nn, kind)())
    return torch.nn.Sequential(*layers).to(memory_format=layout(library))


def convolution(ours, library: str, mask=None, padding=0):
    """(convolve, parameters): one of our layers with a kernel and a bias, as a function of images. With a
    mask the weight is multiplied by it in each call while something is trained, as is usual."""
    height, width, inputs, outputs = ours.weight.shape
    conv = torch.nn.Conv2d(inputs, outputs, (height, width))
    filled(conv, ours.weight.numpy().transpose(3, 2, 0, 1), ours.bias).to(memory_format=layout(library))
    masked = None if mask is None else (conv.weight * mask).detach()

    def convolve(h):
        weight = conv.weight
        if mask is not None:
            weight = weight * mask if torch.is_grad_enabled() else masked
        return torch.nn.functional.conv2d(h, weight, conv.bias, padding=padding)

    return convolve, [conv.weight, conv.bias]


def masked_convolution(ours, library: str):
    """(convolve, parameters) of a MaskedConv2d of one color."""
    height, width, inputs, outputs = ours.weight.shape
    mask = torch.ones(outputs, inputs, height, width)
    mask[:, :, height // 2, width // 2 + (ours.mask == "B") :] = 0
    mask[:, :, height // 2 + 1 :] = 0
    return convolution(ours, library, mask, padding=(height // 2, width // 2))


def require_the_same(ours, our_parameters, theirs, their_parameters) -> None:
    """Refuse to measure a loss with other values or gradients than tinygen's. Gradients are compared in the
    order of the values that they belong to, since axes differ, with zeros for masked weights that ours leaves
    out, and to a hundredth, since what rounding puts on the other side of a kink differs."""
    np.testing.assert_allclose(theirs.item(), ours.item(), rtol=1e-4, atol=1e-5)
    our_parameters, their_parameters = list(our_parameters), list(their_parameters)
    ours.backward(inputs=our_parameters)
    theirs.backward(inputs=their_parameters)
    assert len(our_parameters) == len(their_parameters)
    for p, q in zip(our_parameters, their_parameters):
        left_out = np.zeros(q.grad.numel() - p.grad.size, p.dtype)
        right = _by_value(*(np.concatenate([x.numpy().ravel(), left_out]) for x in (p, p.grad)))
        found = _by_value(*(x.detach().cpu().numpy().ravel() for x in (q, q.grad)))
        np.testing.assert_allclose(found, right, rtol=1e-2, atol=1e-2 * abs(right).max() + 1e-7)
        p.grad = q.grad = None


def require_the_same_outputs(ours, theirs) -> None:
    """Refuse to measure a network with other outputs than tinygen's; PyTorch's images have the channels
    first."""
    ours, theirs = ours.numpy(), theirs.detach().cpu().numpy()
    theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5 * abs(ours).max())


def _by_value(values, gradients):
    """The gradients in the order of the values, those of equal values in their own."""
    return gradients[np.lexsort((gradients, values))]
