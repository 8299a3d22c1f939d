"""Demos as a user runs them: in a process of their own, with few steps; and with wrong flags."""

import importlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tinygen.training import Run

DEMOS = Path(__file__).parent.parent / "demos"


def run(name, *flags, cwd, **environment):
    return subprocess.run(
        [sys.executable, DEMOS / name, *map(str, flags)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def results(folder):
    """What a run leaves: the bytes of its checkpoints and its log, and its figures."""
    names = ("checkpoint.npz", "best.npz", "log.jsonl")
    figures = json.loads((folder / "metrics.json").read_text())["figures"]
    return {name: (folder / name).read_bytes() for name in names}, figures


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
        "log.jsonl",
        "metrics.json",
        "reconstructions.png",
        "samples.png",
    }
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert metrics["flags"]["epochs"] == 2 and metrics["flags"]["hidden"] == 16
    assert metrics["resumed after epoch"] == 0
    log = [json.loads(line) for line in (tmp_path / "results" / "log.jsonl").read_text().splitlines()]
    assert [line.keys() for line in log] == 2 * [{"epoch", "step", "reconstruction", "KL", "validation"}]
    (elbo,) = (value for name, value in metrics["figures"].items() if name.startswith("ELBO"))
    (bound,) = (value for name, value in metrics["figures"].items() if "sample bound" in name)
    assert elbo < bound
    assert f"{elbo:.2f}" in done.stdout and f"{bound:.2f}" in done.stdout
    assert "epoch 2/2" in done.stderr  # the progress bar


@pytest.mark.parametrize("flags", [(), ("--order", "random", "--variants", 2, "--layers", 2)])
def test_the_made_demo_leaves_pictures_figures_and_a_model(tmp_path, flags):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    short = ("--epochs", 2, "--hidden", 16, "--out", "results")
    done = run("made.py", *short, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "results").iterdir()}
    pictures = {"completions.png", "curves.png", "masks.png", "samples.png"}
    assert names == pictures | {"best.npz", "checkpoint.npz", "log.jsonl", "metrics.json"}
    figures = json.loads((tmp_path / "results" / "metrics.json").read_text())["figures"]
    (nll,) = (value for name, value in figures.items() if name.startswith("−log p(x) of 360 test images"))
    assert nll < 64 * math.log(2) - 5  # what it starts with
    assert figures["the same with each pixel on its own"] == pytest.approx(25.1, abs=0.1)
    assert f"{nll:.2f}" in done.stdout and "thresholded" in done.stdout
    done = run("made.py", *short, *flags, "--epochs", 3, "--resume", cwd=tmp_path)
    assert done.returncode == 0 and "resumed after epoch 2" in done.stdout, done.stderr


FILES = {"best.npz", "checkpoint.npz", "curves.png", "log.jsonl", "metrics.json"}  # of every run


@pytest.mark.parametrize(
    ("flags", "pictures", "words"),
    [
        ((), {"samples.png"}, "bits per dimension"),
        (("--conditional", "--components", 2), {"samples.png"}, "log p(x) on 360 test images"),
        (("--data", "checkerboard"), {"density.png", "layers.png"}, "entropy, nats  3.47"),
        (("--data", "two_moons", "--batch-norm", "on"), {"density.png", "layers.png"}, "test points"),
    ],
)
def test_the_maf_demo_leaves_pictures_figures_and_a_model(tmp_path, flags, pictures, words):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    short = ("--epochs", 2, "--hidden", 16, "--layers", 2, "--out", "results")
    done = run("maf.py", *short, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "results").iterdir()} == FILES | pictures
    assert re.search(words.replace("(", r"\(").replace(")", r"\)").replace("  ", " +"), done.stdout)
    done = run("maf.py", *short, *flags, "--resume", cwd=tmp_path)
    assert done.returncode == 0 and "resumed after epoch 2" in done.stdout, done.stderr


def test_points_have_no_labels_to_condition_on(tmp_path):
    done = run("maf.py", "--data", "rings", "--conditional", "--out", "results", cwd=tmp_path)
    assert done.returncode == 2 and "argument --conditional: expected images" in done.stderr


def test_the_vae_iaf_demo_compares_two_posteriors(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    small = ("--epochs", 2, "--hidden", 16, "--latents", 3, "--units", 8, "--out", "results")
    done = run("vae_iaf.py", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "results").iterdir()}
    assert names == FILES | {"posteriors.png", "samples.png"}
    figures = json.loads((tmp_path / "results" / "metrics.json").read_text())["figures"]
    for model in ("plain", "IAF"):
        elbo, bound = (value for name, value in figures.items() if name.startswith(model))
        assert elbo < bound and f"{elbo:.2f}" in done.stdout


GROWN = {"completions.png", "growth.gif", "growth.png", "reach.png", "samples.png"}
TINY = {
    "pixelcnn.py": ("--channels", 8, "--blocks", 1),
    "gated_pixelcnn.py": ("--channels", 4, "--layers", 2),
    "pixelcnn_pp.py": ("--filters", 4, "--components", 2),
    "multiscale_pixelcnn.py": ("--channels", 8, "--blocks", 1, "--scales", 3),
}


@pytest.mark.parametrize(
    ("demo", "flags", "words"),
    [
        ("pixelcnn.py", (), "test images, thresholded, nats"),
        ("pixelcnn.py", ("--pixels", "levels"), "test images, levels, bits per dimension"),
        ("gated_pixelcnn.py", (), "test images, thresholded, nats"),
        ("gated_pixelcnn.py", ("--conditional", "--pixels", "levels"), "sees the label asked for"),
        ("pixelcnn_pp.py", (), "test images, levels, bits per dimension"),
        ("multiscale_pixelcnn.py", (), "of the 4x4 pixels given 2x2, nats"),
    ],
)
def test_demos_of_images_pixel_by_pixel_leave_pictures_figures_and_a_model(tmp_path, demo, flags, words):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    short = ("--epochs", 2, "--batch-size", 200, "--out", "results", *TINY[demo])
    done = run(demo, *short, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scales = {"completions.png", "nats.png", "samples.png", "scales.png"}
    pictures = scales if "multiscale" in demo else GROWN
    assert {path.name for path in (tmp_path / "results").iterdir()} == FILES | pictures
    assert words in done.stdout
    done = run(demo, *short, *flags, "--resume", cwd=tmp_path)
    assert done.returncode == 0 and "resumed after epoch 2" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("demo", "flags", "words"),
    [
        ("pixelcnn.py", ("--channels", 7), "channels: expected a multiple of 2, got 7"),
        ("pixelcnn.py", ("--kernel", 4), "size: expected odd numbers, got 4"),
        ("gated_pixelcnn.py", ("--kernel", 2), "size: expected odd numbers"),
        ("pixelcnn_pp.py", ("--resolutions", 5), "multiples of 16"),
        ("multiscale_pixelcnn.py", ("--scales", 9), "scales: expected at most 4"),
    ],
)
def test_models_pixel_by_pixel_say_what_sizes_they_take(tmp_path, demo, flags, words):
    done = run(demo, *flags, "--out", "results", cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


GAMES = {
    "gan.py": ("--objective", "lsgan"),
    "wgan.py": ("--bound", 0.05),
    "wgan_gp.py": ("--penalty", 1),
    "sn_gan.py": ("--objective", "non-saturating"),
    "conditional_gan.py": (),
    "dcgan.py": (),
}


@pytest.mark.parametrize("demo", GAMES)
def test_demos_of_games_leave_pictures_figures_and_a_model_and_resume(tmp_path, demo):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    short = ("--hidden", 8, "--latents", 4, "--batch-size", 320, "--out", "results", *GAMES[demo])
    done = run(demo, *short, "--epochs", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pictures = {"samples.png"} | ({"arithmetic.png", "interpolations.png"} if demo == "dcgan.py" else set())
    names = {path.name for path in (tmp_path / "results").iterdir()}
    assert names == FILES - {"best.npz"} | pictures
    figures = json.loads((tmp_path / "results" / "metrics.json").read_text())["figures"]
    distance, floor, ratio, lowest, score, of_test, *rest = figures.values()
    assert distance > floor > 0 and lowest > floor and ratio == distance / floor
    assert 1 <= score < of_test <= 10
    assert all(0 < percentage <= 100 for percentage in rest)
    assert len(rest) == (2 if demo in ("conditional_gan.py", "dcgan.py") else 0)
    done = run(demo, *short, "--epochs", 3, "--resume", cwd=tmp_path)
    assert done.returncode == 0 and "resumed after epoch 2" in done.stdout, done.stderr


def test_a_game_that_was_interrupted_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    monkeypatch.syspath_prepend(DEMOS)
    sn_gan = importlib.import_module("sn_gan")
    short = ["--epochs", "4", "--hidden", "8", "--latents", "4"]

    def play(out, *more):
        monkeypatch.setattr(sys, "argv", ["sn_gan.py", *short, "--out", str(tmp_path / out), *more])
        sn_gan.main()

    play("whole")
    end_epoch, left = Run.end_epoch, [2]

    def interrupt(run, *args, **kwargs):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        end_epoch(run, *args, **kwargs)

    monkeypatch.setattr(Run, "end_epoch", interrupt)
    with pytest.raises(SystemExit):
        play("parts")
    monkeypatch.setattr(Run, "end_epoch", end_epoch)
    play("parts", "--resume")
    for name in ("checkpoint.npz", "log.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("demo", "flags", "words"),
    [
        ("wgan.py", ("--batch-size", 64), "argument --batch-size: expected a multiple of 5"),
        ("wgan_gp.py", ("--batch-size", 5000), "batch_size: expected at most 1257"),
        ("wgan_gp.py", ("--penalty", 0), "argument --penalty: expected a number above 0, got 0"),
        ("gan.py", ("--smoothing", 0.5), "smoothing: expected a number from 0 to below 0.5, got 0.5"),
        ("gan.py", ("--smoothing", 0.1, "--objective", "hinge"), "argument --smoothing: expected 0"),
        ("gan.py", ("--dropout", 1), "p: expected a probability"),
        ("sn_gan.py", ("--objective", "minimax"), "argument --objective: invalid choice: 'minimax'"),
    ],
)
def test_games_say_what_flags_they_take(tmp_path, demo, flags, words):
    done = run(demo, *flags, "--out", "results", cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.*"))


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


# Resume -------------------------------------------------------------------------------------------

SMALL = ("--epochs", 12, "--hidden", 16, "--latents", 2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that nothing interrupted."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    folder = tmp_path_factory.mktemp("finished")
    done = run("vae.py", *SMALL, "--out", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def killed(log, lines, *flags, cwd):
    """Run a demo and kill it when its log has so many lines, or a little later."""
    child = subprocess.Popen(
        [sys.executable, DEMOS / "vae.py", *map(str, flags)],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while child.poll() is None and not (log.exists() and len(log.read_text().splitlines()) >= lines):
        time.sleep(0.001)
    time.sleep(np.random.default_rng().uniform(0, 0.02))
    child.kill()
    error = child.communicate()[1]
    assert child.returncode in (-signal.SIGKILL, 0), error


def test_a_demo_that_is_killed_again_and_again_and_resumed_leaves_the_same_bits(tmp_path, finished):
    out = tmp_path / "out"
    for lines in (0, 2, 5):
        killed(out / "log.jsonl", lines, *SMALL, "--out", out, "--resume", cwd=tmp_path)
    done = run("vae.py", *SMALL, "--out", out, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert results(out) == results(finished)
    after = json.loads((out / "metrics.json").read_text())["resumed after epoch"]
    assert after >= 5 and f"resumed after epoch {after}" in done.stdout
    assert not list(out.glob("*.tmp"))


def test_an_interrupt_from_the_keyboard_ends_in_one_line_and_can_be_resumed(tmp_path, finished):
    interrupted = """
import os, runpy, signal, sys
from tinygen.training import Run

signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent may have told it to ignore that
record = Run.record
def interrupt(run, count, **figures):
    if run.step == 70:
        os.kill(os.getpid(), signal.SIGINT)
    record(run, count, **figures)
Run.record = interrupt
sys.path.insert(0, os.path.dirname(sys.argv[1]))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    out = tmp_path / "out"
    flags = [*map(str, SMALL), "--out", out]
    command = [sys.executable, "-c", interrupted, DEMOS / "vae.py", *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.rstrip().endswith("interrupted: --resume goes on from the last checkpoint")
    done = run("vae.py", *flags, "--resume", cwd=tmp_path)
    assert done.returncode == 0 and "resumed after epoch 3" in done.stdout, done.stderr
    assert results(out) == results(finished)


def test_more_epochs_go_on_with_a_finished_run(tmp_path, finished):
    for epochs in (5, 12):
        done = run("vae.py", *SMALL, "--epochs", epochs, "--out", "out", "--resume", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    (_, figures), (_, expected) = results(tmp_path / "out"), results(finished)
    assert figures == expected
    assert (tmp_path / "out" / "log.jsonl").read_text() == (finished / "log.jsonl").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), r"argument --out: \S+ has a run already: --resume goes on with it"),
        (("--resume", "--latents", 3), "checkpoint.npz: made with other settings: latents was 2 and is 3"),
        (
            ("--resume", "--batch-size", 32, "--seed", 4, "--networks", "conv"),
            "batch_size was 64 and is 32; seed was 0 and is 4; networks was mlp and is conv",
        ),
        (("--resume", "--epochs", 4), "epochs was 12 and is 4"),
        (("--resume", "--out", "cut"), r"cut.checkpoint\.npz: expected a checkpoint written by"),
    ],
)
def test_a_run_that_must_not_be_resumed_so_is_refused_in_one_line_and_left_alone(
    tmp_path, finished, flags, words
):
    if "cut" in flags:
        (tmp_path / "cut").mkdir()
        (tmp_path / "cut" / "checkpoint.npz").write_bytes((finished / "checkpoint.npz").read_bytes()[:-30])
    before = {path: path.read_bytes() for folder in (finished, tmp_path) for path in folder.rglob("*.*")}
    done = run("vae.py", *SMALL, "--out", finished, *flags, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.search(words, done.stderr.splitlines()[-1]), done.stderr
    assert before == {
        path: path.read_bytes() for folder in (finished, tmp_path) for path in folder.rglob("*.*")
    }


# Devices ------------------------------------------------------------------------------------------


def test_a_demo_runs_on_the_current_device(tmp_path, device, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    monkeypatch.syspath_prepend(DEMOS)
    vae = importlib.import_module("vae")
    monkeypatch.setattr(vae, "BOUND_SAMPLES", 3)
    monkeypatch.setattr(sys, "argv", ["vae.py", "--epochs", "2", "--hidden", "8", "--out", str(tmp_path)])
    vae.main()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["flags"]["device"] == device and f"seconds on {device}" in capsys.readouterr().out


def test_a_gpu_that_is_not_there_is_one_line(tmp_path):
    done = run("vae.py", "--device", "cuda", cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2 and "device 'cuda' needs a GPU with CuPy" in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())
