"""Neural networks: modules, their layers, and how weights start."""

from .activations import Flatten, ReLU, Reshape, Tanh
from .conv import Conv2d, ConvTranspose2d
from .linear import Linear
from .module import Module, Sequential
