"""Models beside the same ones in PyTorch: from equal weights, on a few examples, equal losses and gradients,
or equal outputs of what makes samples.

These are the training steps and samples that tests/bench measures, where MLPs are wider; each is refused if
its loss, a gradient or an output differs."""

import importlib
from pathlib import Path

import pytest
from adversarial import mlp

BENCH = Path(__file__).parent / "bench"
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(BENCH)
    run, games, pixels, vectors = map(importlib.import_module, ["run", "games", "pixels", "vectors"])

SUITES = ["VAE", "MADE", "MAF", "games", "training", *(name for name in run.SUITES if "samples" in name)]
ROWS = [(suite, row) for suite in SUITES for row in run.SUITES[suite].rows]
FEW, NARROW = 4, 32  # of two examples, batch normalization would leave nothing but signs


@pytest.fixture
def small(monkeypatch):
    """The folder on the path, and cases that take a fraction of a second."""
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(BENCH)
    for module in (games, pixels, vectors):
        for name in vars(module):
            if name.endswith("BATCH"):
                monkeypatch.setattr(module, name, FEW)
    monkeypatch.setattr(vectors, "HIDDEN", NARROW)
    monkeypatch.setattr(
        games, "_mlps", lambda: (mlp(games.LATENTS, NARROW, 784), mlp(784, NARROW, NARROW, 1))
    )


@pytest.mark.parametrize(("suite", "row"), ROWS)
def test_pytorch_computes_the_same(suite, row, small):
    run.make_step(suite, row, "torch")
