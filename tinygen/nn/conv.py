"""Convolutional layers. Images are (N, H, W, C), channels last."""

from __future__ import annotations

from collections.abc import Callable

import numpy  # weights are made on the host

from ..autodiff import Tensor
from ..ops.convolution import conv2d, conv_transpose2d
from .init import glorot_uniform
from .module import Module

ENGINE_FRAME = True  # what a layer computes is told as computed where the layer was called
