"""Nothing grows from step to step of a training."""

import gc
from pathlib import Path

import numpy as np
import pytest

import tinygen as tg
from tinygen import autodiff, nn, optim
from tinygen.models.adversarial import WGANGP

STEPS = 10_000
SETTLED = 1_000  # steps after which all is there that stays
ARENAS = 4_000  # kilobytes: Python asks for memory by the megabyte


def resident_kilobytes() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("only Linux tells what memory is in use")
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS"))


def in_use() -> dict[str, int]:
    gc.collect()
    return {
        "objects": len(gc.get_objects()),
        "kilobytes": resident_kilobytes(),
        "changes in place": len(autodiff._changes),
    }


def test_ten_thousand_steps_leave_nothing_behind():
    tg.seed(0)
    network = nn.Sequential(
        *(nn.Linear(3, 8), nn.BatchNorm(8), nn.Tanh(), nn.SpectralNorm(nn.Linear(8, 8)), nn.Dropout(0.1)),
        nn.Linear(8, 1),
    )
    optimizer = optim.Adam(network.parameters(), lr=lambda t: 1e-3 / t)
    x = tg.Tensor(np.ones((4, 3), "float32"))
    for step in range(STEPS):
        optimizer.zero_grad()
        (network(x) ** 2).mean().backward()
        optimizer.step()
        if step == SETTLED:
            before = in_use()
    after = in_use()
    assert after["objects"] <= before["objects"] + 20
    assert after["changes in place"] == before["changes in place"]
    assert after["kilobytes"] <= before["kilobytes"] + ARENAS


def test_gradients_of_gradients_leave_nothing_behind():
    def mlp(*sizes):
        return nn.Sequential(nn.Linear(*sizes[:2]), nn.Tanh(), nn.Linear(*sizes[1:]))

    tg.seed(0)
    game = WGANGP(mlp(2, 4, 3), mlp(3, 4, 1), 2, critic_steps=1)
    optimizers, x = game.optimizers(), np.ones((4, 3), "float32")
    for step in range(1_000):
        game.iteration(x, optimizers)
        if step == 100:
            before = in_use()
    after = in_use()
    assert after["objects"] <= before["objects"] + 20
    assert after["kilobytes"] <= before["kilobytes"] + ARENAS
