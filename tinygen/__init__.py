"""tinygen: deep generative models and automatic differentiation, from scratch and to be read."""

from . import backend, data, distributions, gradients, metrics, models, nn, ops, optim, plots, training
from .autodiff import Tensor, grad, no_grad, primitive
from .backend import device, seed, set_device
from .profiler import profile
from .recording import replay
from .training import load, save

__version__ = "0.1.0"
