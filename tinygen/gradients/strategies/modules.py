"""Small networks with random weights, to test what is computed of a network on any of them."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from ... import nn
from .arrays import arrays

SMOOTH = [nn.Tanh, nn.Sigmoid, nn.Softplus]  # a check may fall on no kink


@st.composite
def modules(draw, inputs: int | tuple[int, int, int], outputs: int) -> nn.Sequential:
    """Networks from x (N, inputs), or images (N, H, W, C) where `inputs` is (H, W, C), to (N, outputs); of
    float64, smooth, with up to two hidden layers.

    What penalizes the gradient of a critic, penalty(x, critic), is tested on all sorts of them by

        test_penalty = gradient_test(penalty, arrays((3, 2)), critic=modules(2, 1))
    """
    layers: list[nn.Module] = []
    size = inputs
    if isinstance(inputs, tuple):
        height, width, channels = inputs
        features = draw(st.integers(1, 2))
        layers = [nn.Conv2d(channels, features, 3, padding=1), draw(st.sampled_from(SMOOTH))()]
        layers += [nn.Flatten()]
        size = height * width * features
    for hidden in draw(st.lists(st.integers(1, 4), max_size=2)):
        layers += [nn.Linear(size, hidden), draw(st.sampled_from(SMOOTH))()]
        size = hidden
    network = nn.Sequential(*layers, nn.Linear(size, outputs)).astype("float64")
    for parameter in network.parameters():
        fan_in = math.prod(parameter.shape[:-1])
        parameter.data = draw(arrays(parameter.shape, "nonzero")) / math.sqrt(max(fan_in, 1))
    return network
