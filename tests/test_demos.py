"""Demos as a user runs them: in a process of their own, with few steps; and with wrong flags."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DEMOS = Path(__file__).parent.parent / "demos"


def run(name, *flags, cwd):
    return subprocess.run(
        [sys.executable, DEMOS / name, *map(str, flags)], cwd=cwd, capture_output=True, text=True
    )


@pytest.mark.parametrize("flags", [(), ("--networks", "conv", "--likelihood", "gaussian")])
def test_the_vae_demo_leaves_pictures_figures_and_a_model(tmp_path, flags):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    done = run("vae.py", "--epochs", 2, "--hidden", 16, "--out", "results", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "results").iterdir()}
    assert names == {
        "best.npz",
        "checkpoint.npz",
        "curves.png",
        "latent_walk.png",
        "metrics.json",
        "reconstructions.png",
        "samples.png",
    }
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert metrics["flags"]["epochs"] == 2 and metrics["flags"]["hidden"] == 16
    (elbo,) = (value for name, value in metrics["figures"].items() if name.startswith("ELBO"))
    (bound,) = (value for name, value in metrics["figures"].items() if "sample bound" in name)
    assert elbo < bound
    assert f"{elbo:.2f}" in done.stdout and f"{bound:.2f}" in done.stdout
    assert "epoch 2/2" in done.stderr  # the progress bar


def test_the_same_seed_gives_the_same_figures(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    for out in ("a", "b"):
        done = run("vae.py", "--epochs", 1, "--hidden", 16, "--seed", 5, "--out", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    a, b = (json.loads((tmp_path / out / "metrics.json").read_text())["figures"] for out in ("a", "b"))
    assert a == b


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--epochs", "0"), "argument --epochs: expected a whole number of at least 1, got 0"),
        (("--epochs", "many"), "argument --epochs: expected a whole number of at least 1, got many"),
        (("--data", "cats"), "argument --data: invalid choice: 'cats'"),
        (("--seed", "-1"), "argument --seed: expected a whole number of at least 0, got -1"),
        (("--likelihood", "poisson"), "argument --likelihood: invalid choice: 'poisson'"),
        (("--nonsense",), "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_flags_end_in_one_line_and_leave_nothing(tmp_path, flags, words):
    done = run("vae.py", *flags, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_ends_in_one_line(tmp_path):
    (tmp_path / "taken").write_text("a file")
    done = run("vae.py", "--out", "taken", cwd=tmp_path)
    assert done.returncode == 2 and "taken" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "taken").read_text() == "a file"
