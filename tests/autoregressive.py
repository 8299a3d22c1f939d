"""What the tests of autoregressive models share: families, random models, and data for them."""

import itertools

import numpy as np
from strict_cupy import forbid_transfers

import tinygen as tg
from tinygen.backend import xp
from tinygen.models.autoregressive.conditionals import bernoulli, categorical, gaussian, mixture_of_gaussians

FAMILIES = {
    "bernoulli": bernoulli(),
    "gaussian": gaussian(),
    "mixture": mixture_of_gaussians(2),
    "categorical": categorical(3),
}


def shaken(module, scale=0.7, seed=0):
    """A module whose parameters, biases too, are away from where they start."""
    rng = np.random.default_rng(seed)
    for p in module.parameters():
        p.data = xp.asarray(scale * rng.standard_normal(p.shape).astype(p.dtype))
    return module


def batch(family, n, shape, dtype="float32", seed=0):
    """n values of that shape in the support of a family, on the current device."""
    rng = np.random.default_rng(seed)
    if family == "categorical":
        return xp.asarray(rng.integers(0, 3, (n, *shape)))
    if family == "bernoulli":
        return xp.asarray(rng.integers(0, 2, (n, *shape)).astype(dtype))
    return xp.asarray(rng.standard_normal((n, *shape)).astype(dtype))


def labels_for(model, n):
    """Labels for a model that wants them."""
    return xp.asarray(np.arange(n) % model.labels) if model.labels else None


def every_image(levels, shape):
    """All images of so many levels."""
    values = itertools.product(range(levels), repeat=int(np.prod(shape)))
    return np.array(list(values)).reshape(-1, *shape)


def computes_in_float32(layer, x):
    """A layer with weight and bias gives float32, backward too, without a transfer, and what it gives on the
    CPU; x: of the host."""
    x = tg.Tensor(x, requires_grad=True)
    with forbid_transfers():
        y = layer(x)
        (y * y).sum().backward()
    assert y.dtype == "float32" and len(y.data) == len(x.data)
    for tensor in (x, layer.weight, layer.bias):
        assert tensor.grad.dtype == "float32" and tensor.grad.shape == tensor.shape
    layer.to("cpu")
    with tg.device("cpu"):
        expected = layer(x.numpy())
    np.testing.assert_allclose(y.numpy(), expected.data, rtol=1e-5, atol=1e-6)
