"""Batches, progress and checkpoints."""

import json
import os

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn, training


def test_batches_go_through_everything_once_and_the_last_is_short():
    parts = list(training.batches(10, 4, seed=0, epoch=0))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert sorted(np.concatenate(parts)) == list(range(10))


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return np.concatenate(list(training.batches(50, 7, seed, epoch))).tolist()

    assert order(3, 5) == order(3, 5)
    assert len({tuple(order(*key)) for key in [(3, 5), (3, 6), (4, 5)]}) == 3


def test_a_batch_size_below_one_is_refused():
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        next(training.batches(10, 0, 0, 0))


def test_progress_keeps_the_means_of_each_epoch(capsys):
    with training.Progress(epochs=2, steps_per_epoch=2) as progress:
        progress.step(3, loss=1.0)
        progress.step(1, loss=5.0)
        progress.end_epoch(validation=7.0)
        progress.step(2, loss=4.0)
        progress.step(2, loss=8.0)
        progress.end_epoch(validation=6.0)
    assert progress.history == {"loss": [2.0, 6.0], "validation": [7.0, 6.0]}
    assert "epoch 2/2" in capsys.readouterr().err


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))


def test_what_is_saved_comes_back(tmp_path, model):
    path = tmp_path / "checkpoint.npz"
    codes = np.arange(6.0).reshape(2, 3)
    tg.save(path, model=model, codes=codes, epoch=3, flags={"data": "digits", "rates": [0.1, 0.2]})
    found = tg.load(path)
    assert found["epoch"] == 3 and found["flags"] == {"data": "digits", "rates": [0.1, 0.2]}
    assert np.array_equal(found["codes"], codes) and found["codes"].dtype == codes.dtype
    other = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    other.load_state_dict(found["model"])
    for (name, a), (other_name, b) in zip(model.named_parameters(), other.named_parameters()):
        assert name == other_name and np.array_equal(a.data, b.data)


def test_a_checkpoint_needs_no_pickle(tmp_path, model):
    tg.save(tmp_path / "a.npz", model=model, epoch=1)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
        assert json.loads(str(file["json"])) == {"epoch": 1}


def test_names_that_would_collide_are_refused_before_anything_is_written(tmp_path, model):
    for name in ("json", "a/b"):
        with pytest.raises(ValueError, match="save: expected names"):
            tg.save(tmp_path / "a.npz", **{name: 1, "model": model})
    assert not list(tmp_path.iterdir())


def test_what_json_cannot_hold_is_refused_and_the_old_checkpoint_stays(tmp_path, model):
    path = tmp_path / "a.npz"
    tg.save(path, epoch=1)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        tg.save(path, epoch=2, thing=object())
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.npz"]


def test_an_interrupted_write_leaves_the_old_checkpoint(tmp_path, model, monkeypatch):
    path = tmp_path / "a.npz"
    tg.save(path, epoch=1)
    before = path.read_bytes()

    def broken(file, **arrays):
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(training.np, "savez", broken)
    with pytest.raises(OSError, match="disk full"):
        tg.save(path, epoch=2)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.parametrize("content", [b"", b"not a zip", "cut", "changed", "foreign"])
def test_a_damaged_or_foreign_file_is_named_and_left_alone(tmp_path, model, content):
    path = tmp_path / "a.npz"
    if content == "foreign":
        np.savez(path, x=np.zeros(3))
    else:
        tg.save(path, model=model, epoch=1)
        whole = path.read_bytes()
        middle = len(whole) // 2
        if content == "cut":
            content = whole[:middle]
        elif content == "changed":
            content = whole[:200] + bytes([whole[200] ^ 255]) + whole[201:]
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"a\.npz: expected a checkpoint written by tinygen"):
        tg.load(path)
    assert path.read_bytes() == before


def test_a_missing_checkpoint_is_a_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.npz"):
        tg.load(tmp_path / "missing.npz")
