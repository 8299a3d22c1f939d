"""The small networks that metrics train. They leave no trace in the random numbers of whoever asks."""

from __future__ import annotations

import math

import numpy as np  # weights are drawn, and batches chosen, on the host

from .. import nn, ops, optim
from ..backend import Generator
from ..training import batch_count, batches


class MLP(nn.Module):
    """x (N, D) to the logits of labels (N, K): layers of ReLU units, with dropout.

    sizes: D, the number of units of each hidden layer, K. dropout: its probability. seed: of the weights."""

    def __init__(self, sizes: tuple[int, ...], dropout: float, seed: int):
        rng = np.random.default_rng([*b"weights", seed])

        def he_normal(shape):
            """As `nn.init.he_normal`, from a generator of its own."""
            return math.sqrt(2 / shape[0]) * rng.standard_normal(shape, dtype="float32")

        hidden = []
        for inputs, outputs in zip(sizes[:-2], sizes[1:-1]):
            hidden += [nn.Linear(inputs, outputs, init=he_normal), nn.ReLU(), nn.Dropout(dropout)]
        self.hidden = nn.Sequential(*hidden)
        self.output = nn.Linear(*sizes[-2:], init=he_normal)

    def forward(self, x):
        return self.output(self.hidden(x))


def fit(network: MLP, x: np.ndarray, labels: np.ndarray, epochs: int, batch_size: int, lr: float, seed: int):
    """Train a network to tell the labels (N,) of x (N, D), by Adam with a rate that falls from lr to 0 in a
    line. What is random depends on the seed alone."""
    steps = epochs * batch_count(len(x), batch_size)
    optimizer = optim.Adam(network.parameters(), lr=lambda t: lr * (1 - (t - 1) / steps))
    network.train()
    for epoch in range(epochs):
        for index in batches(len(x), batch_size, seed, epoch):
            with Generator(seed, optimizer.t):
                logits = network(x[index])
            optimizer.zero_grad()
            ops.categorical_cross_entropy(logits, labels[index]).mean().backward()
            optimizer.step()
    network.eval()
