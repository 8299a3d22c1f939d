"""tinygen: deep generative models and automatic differentiation, from scratch and to be read."""

from . import ops
from .autodiff import Tensor, grad, no_grad, primitive
from .backend import device, seed, set_device

__version__ = "0.1.0"

__all__ = ["Tensor", "device", "grad", "no_grad", "ops", "primitive", "seed", "set_device"]
