"""Neural networks: modules, their layers, and how weights start."""

from .activations import ELU, Flatten, LeakyReLU, ReLU, Reshape, Sigmoid, Softplus, Tanh
from .conv import Conv1d, Conv2d, ConvTranspose2d
from .dropout import Dropout
from .embedding import Embedding
from .linear import Linear
from .masked import MaskedConv2d, ShiftedConv2d
from .masked_linear import MaskedLinear, StaircaseLinear
from .module import Module, Sequential, frozen_state
from .norm import BatchNorm, LayerNorm
from .pooling import AvgPool2d, Upsample2d
from .recurrent import GRU, LSTM, GRUCell, LSTMCell
from .spectral_norm import SpectralNorm, power_iteration
from .weight_norm import WeightNorm
