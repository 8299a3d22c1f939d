"""Print how time and memory of tinygen grow, as Markdown tables.

    python tests/bench/growth.py

Each line is forward and backward of one size. Where the mathematics is linear, so are they: what one unit
costs stays, but for what small sizes do not fill and large ones do not find in the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from run import in_words, peak_memory, processor

import tinygen as tg
from tinygen import nn, ops
from tinygen.nn.init import he_normal

REPEATS = 5


def chain(operations: int) -> Callable:
    """A product of so many factors, one after another."""
    x = tg.Tensor(np.ones(1, "float32"), requires_grad=True)

    def step():
        h = x
        for _ in range(operations):
            h = h * 1.0
        h.backward()

    return step


def deep(layers: int) -> Callable:
    """So many layers of 256 ReLUs, on a batch of 128; from weights by which nothing fades into subnormal
    numbers, which processors are slow with."""
    pairs = [(nn.Linear(256, 256, init=he_normal), nn.ReLU()) for _ in range(layers)]
    return _of(nn.Sequential(*(layer for pair in pairs for layer in pair)), (128, 256))


def batch(n: int) -> Callable:
    """Layers 784-400-400-20, on so many examples."""
    network = nn.Sequential(
        *(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 20))
    )
    return _of(network, (n, 784))


def images(side: int) -> Callable:
    """Three convolutions 3x3 of 32 channels, on 16 images so wide and high."""
    layers = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()]
    layers += [layer for _ in range(2) for layer in (nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())]
    return _of(nn.Sequential(*layers), (16, side, side, 1))


def _of(network: nn.Module, shape: tuple) -> Callable:
    x = np.random.default_rng(0).standard_normal(shape).astype("float32")

    def step():
        ops.mean(network(x)).backward()
        network.zero_grad()

    return step


# name: (what makes a step of a size, the sizes, units of a size, the unit)
TABLES = {
    "Operations": (chain, [1_000, 10_000, 100_000, 1_000_000], lambda n: n, "operation"),
    "Depth": (deep, [1, 4, 16, 64, 256], lambda n: n, "layer"),
    "Batch": (batch, [16, 64, 256, 1024, 4096], lambda n: n, "example"),
    "Image size": (images, [16, 32, 64, 128, 256], lambda n: 16 * n * n, "pixel"),
}


def best_seconds(step: Callable) -> float:
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        step()
        found.append(time.perf_counter() - began)
    return min(found)


def main() -> None:
    print(f"{processor()}, the best of {REPEATS} times.")
    for name, (make, sizes, units, unit) in TABLES.items():
        print(f"\n| {name.lower()} | time | µs for each {unit} | peak memory | kB for each {unit} |")
        print("|---|---|---|---|---|")
        for size in sizes:
            step = make(size)
            seconds, memory, n = best_seconds(step), peak_memory(step), units(size)
            cells = [f"{size:,}", in_words(seconds), f"{1e6 * seconds / n:.3g}"]
            print(f"| {' | '.join([*cells, f'{memory / 1e6:.3g} MB', f'{memory / 1e3 / n:.3g}'])} |")


if __name__ == "__main__":
    main()
