"""Batches, running figures, checkpoints; and runs that are killed and resumed to the same bits."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import strict_cupy
import tqdm

import tinygen as tg
from tinygen import backend, nn, optim, training
from tinygen.backend import Generator, xp

# Batches ------------------------------------------------------------------------------------------


def test_batches_go_through_everything_once_and_the_last_is_short():
    parts = list(training.batches(10, 4, seed=0, epoch=0))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert sorted(np.concatenate(parts)) == list(range(10))


@pytest.mark.parametrize(("n", "sizes"), [(10, [4, 4]), (8, [4, 4]), (4, [4])])
def test_a_short_last_batch_can_be_dropped(n, sizes):
    parts = list(training.batches(n, 4, seed=0, epoch=0, drop_last=True))
    assert [len(part) for part in parts] == sizes
    assert len(set(np.concatenate(parts))) == sum(sizes)
    kept = list(training.batches(n, 4, seed=0, epoch=0))
    assert all(np.array_equal(a, b) for a, b in zip(parts, kept))


@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_are_as_many_as_they_are_counted(drop_last):
    for n in (5, 9, 10, 11):
        parts = list(training.batches(n, 5, 0, 0, drop_last))
        assert len(parts) == training.batch_count(n, 5, drop_last)
    assert list(training.batches(0, 5, 0, 0)) == []


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return np.concatenate(list(training.batches(50, 7, seed, epoch))).tolist()

    assert order(3, 5) == order(3, 5)
    assert len({tuple(order(*key)) for key in [(3, 5), (3, 6), (4, 5)]}) == 3


def test_batch_sizes_that_make_no_batch_are_refused():
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        next(training.batches(10, 0, 0, 0))
    with pytest.raises(
        ValueError, match="batch_size: expected at most 3, all examples, with drop_last; got 4"
    ):
        next(training.batches(3, 4, 0, 0, drop_last=True))


# Running figures ----------------------------------------------------------------------------------


def test_means_are_over_the_examples_for_which_a_figure_was_given():
    means = training.RunningMeans()
    means.add(3, loss=1.0, rare=np.float32(2))
    means.add(1, loss=tg.Tensor(5.0))
    assert means.read() == {"loss": 2.0, "rare": 2.0}
    assert all(type(mean) is float for mean in means.read().values())


def test_sums_stay_on_the_device_until_they_are_read(device):
    means = training.RunningMeans()
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    with strict_cupy.forbid_transfers():
        for _ in range(3):
            means.add(2, loss=(x * x).mean(), raw=xp.asarray(4.0, dtype="float32"), known=1.5)
    with strict_cupy.count_transfers() as transfers:
        assert means.read() == {"loss": 2.5, "raw": 4.0, "known": 1.5}
    assert len(transfers) == (3 if device == "strict" else 0)


def test_small_figures_add_up_in_float64():
    means = training.RunningMeans()
    figure = tg.Tensor(np.float32(0.1))
    for _ in range(3000):
        means.add(1, loss=figure)
    assert means.read()["loss"] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_what_is_no_figure_is_refused():
    with pytest.raises(ValueError, match=r"loss: expected a number or shape \(\), got shape \(2,\)"):
        training.RunningMeans().add(2, loss=tg.Tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="count: expected at least 1, got 0"):
        training.RunningMeans().add(0, loss=1.0)


# Checkpoints --------------------------------------------------------------------------------------


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


def test_states_of_models_without_parameters_and_of_optimizers_come_back(tmp_path, model):
    path = tmp_path / "a.npz"
    optimizer = optim.Adam(model.parameters())
    tg.save(path, empty=nn.ReLU(), optimizer=optimizer)
    found = tg.load(path)
    assert found["empty"] == {}
    assert found["optimizer"].keys() == optimizer.state_dict().keys()
    assert found["optimizer"]["t"] == 0 and found["optimizer"]["kind"] == "Adam"


def test_arrays_of_every_kind_come_back(tmp_path, device):
    rng = np.random.default_rng(0)
    hosts = {
        "file": rng.normal(size=(2, 3)).astype("float32"),  # as a parameter of numpy.savez is called
        "allow_pickle": rng.integers(0, 9, (4,)),
        "transposed": np.asfortranarray(rng.normal(size=(3, 4))),
        "empty": np.zeros((0, 5), "uint8"),
        "single": np.array(2.5),
    }
    tg.save(tmp_path / "a.npz", scalar=np.float32(0.1), **{name: xp.asarray(x) for name, x in hosts.items()})
    found = tg.load(tmp_path / "a.npz")
    for name, host in {**hosts, "scalar": np.array(np.float32(0.1))}.items():
        assert found[name].dtype == host.dtype and np.array_equal(found[name], host)


def test_a_checkpoint_needs_no_pickle_and_has_one_json_entry(tmp_path, model):
    tg.save(tmp_path / "a.npz", model=model, epoch=1)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        names = [name for name in file.files if name != "json"]
        header = {"version": 1, "values": {"model": {}, "epoch": 1}, "arrays": names}
        assert json.loads(file["json"]) == header
        assert all(file[name].dtype == "float32" for name in names)


def test_equal_things_make_equal_bytes(tmp_path, model, monkeypatch):
    tg.save(tmp_path / "a.npz", model=model, epoch=1)
    monkeypatch.setattr("time.time", lambda: 1e9)
    tg.save(tmp_path / "b.npz", model=model, epoch=1)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_names_that_would_collide_are_refused_before_anything_is_written(tmp_path, model):
    for name in ("json", "a/b"):
        with pytest.raises(ValueError, match="save: expected names"):
            tg.save(tmp_path / "a.npz", **{name: 1, "model": model})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("thing", [object(), tg.Tensor([1.0])])
def test_what_cannot_be_held_is_named(tmp_path, thing):
    got = type(thing).__name__
    with pytest.raises(TypeError, match=f"save: thing: expected arrays, or what JSON can hold, got {got}"):
        tg.save(tmp_path / "a.npz", epoch=2, thing=thing)


@pytest.mark.parametrize("thing", [object(), np.array([None, "x"])])
def test_what_cannot_be_held_is_refused_and_the_old_checkpoint_stays(tmp_path, thing):
    path = tmp_path / "a.npz"
    tg.save(path, epoch=1)
    before = path.read_bytes()
    with pytest.raises((TypeError, ValueError)):
        tg.save(path, epoch=2, thing=thing)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_checkpoint(tmp_path, model, monkeypatch, error):
    path = tmp_path / "a.npz"
    tg.save(path, epoch=1)
    before = path.read_bytes()

    def broken(file, array, **options):
        file.write(b"half of it")
        raise error

    monkeypatch.setattr(np.lib.format, "write_array", broken)
    with pytest.raises(type(error)):
        tg.save(path, epoch=2, model=model)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.parametrize("content", [b"", b"not a zip", "cut", "npy", "foreign", "other json"])
def test_a_damaged_or_foreign_file_is_named_and_left_alone(tmp_path, model, content):
    path = tmp_path / "a.npz"
    if content == "cut":
        tg.save(path, model=model, epoch=1)
        path.write_bytes(path.read_bytes()[:-1])
    elif content == "npy":
        np.save(path.open("wb"), np.zeros(3))
    elif content == "foreign":
        np.savez(path, x=np.zeros(3))
    elif content == "other json":
        np.savez(path, json=np.array(json.dumps({"epoch": 1})))
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"a\.npz: expected a checkpoint written by tinygen"):
        tg.load(path)
    assert path.read_bytes() == before


def test_no_changed_byte_and_no_cut_goes_unnoticed(tmp_path):
    path, model = tmp_path / "a.npz", nn.Linear(1, 1)  # small, for each of its bytes costs three reads
    tg.save(path, model=model, epoch=1)
    whole = path.read_bytes()

    def content():
        found = tg.load(path)
        return (
            found.pop("epoch"),
            {name: (x.dtype, x.tobytes()) for name, x in found.pop("model").items()},
            found,
        )

    expected = content()
    refused = 0
    for position in range(len(whole)):
        for bad in (
            whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :],
            whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :],
            whole[:position],
        ):
            path.write_bytes(bad)
            try:
                assert content() == expected  # a byte that means nothing, as that of a date
            except ValueError as error:
                assert "a.npz: expected a checkpoint" in str(error)
                refused += 1
    assert refused > len(whole)


def test_a_checkpoint_of_a_later_version_is_named_and_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    with monkeypatch.context() as later:
        later.setattr(training, "FORMAT", 2)
        tg.save(path, epoch=1)
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=r"a\.npz: expected a checkpoint of version 1 at most, got version 2"
    ):
        tg.load(path)
    assert path.read_bytes() == before


def test_a_missing_checkpoint_is_a_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.npz"):
        tg.load(tmp_path / "missing.npz")


# Runs ---------------------------------------------------------------------------------------------

EXAMPLES, BATCH, SEED = 22, 5, 7


def train(folder, epochs=4, resume=False, width=6):
    """A game of two models, with all that one step could leave to the next: averages of two optimizers, a
    learning rate that changes, running statistics, noise, steps that are made every other time."""
    tg.seed(SEED)
    generator = nn.Sequential(
        nn.Linear(2, width), nn.BatchNorm(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 3)
    )
    critic = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 1))
    states = {
        "generator": generator,
        "critic": critic,
        "generator_optimizer": optim.Adam(generator.parameters(), lr=lambda t: 0.01 / t**0.5),
        "critic_optimizer": optim.RMSProp(critic.parameters(), lr=0.01),
    }
    data = np.random.default_rng(0).normal(size=(EXAMPLES, 3)).astype("float32")
    with training.Run(
        folder,
        states,
        examples=EXAMPLES,
        batch_size=BATCH,
        epochs=epochs,
        seed=SEED,
        config={"width": width},
        resume=resume,
    ) as run:
        for epoch in run.epochs():
            for step, index in run.batches():
                with Generator(SEED, step) as rng:
                    fake = generator(rng.normal((len(index), 2)))
                    margin = critic(xp.asarray(data[index])).mean() - critic(fake.detach()).mean()
                    states["critic_optimizer"].zero_grad()
                    (-margin).backward()
                    optim.clip_grad_norm(critic.parameters(), 0.1)
                    states["critic_optimizer"].step()
                    run.record(len(index), margin=margin)
                    if step % 2 == 0:
                        loss = -critic(fake).mean()
                        states["generator_optimizer"].zero_grad()
                        loss.backward()
                        states["generator_optimizer"].step()
                        run.record(len(index), generator=loss)
            generator.eval()
            with Generator(SEED, 0, epoch) as rng, tg.no_grad():
                spread = generator(rng.normal((50, 2))).numpy().std()
            generator.train()
            run.end_epoch(score=-abs(spread - 1.0), spread=spread)
    return run


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def outcome(folder):
    """What a run has come to, without the number of epochs that it was to have when best.npz was written."""
    checkpoints = [tg.load(Path(folder) / name) for name in (training.CHECKPOINT, training.BEST)]
    for found in checkpoints:
        del found["run"]["config"]["epochs"]
        for state in found.values():
            state.update({key: x.tobytes() for key, x in state.items() if isinstance(x, np.ndarray)})
    return checkpoints, (Path(folder) / training.LOG).read_text()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What a run of so many epochs leaves that nothing interrupts."""
    made = {}

    def after(epochs):
        if epochs not in made:
            folder = tmp_path_factory.mktemp("uninterrupted")
            train(folder, epochs)
            made[epochs] = contents(folder)
        return made[epochs]

    return after


# A child that is killed. What a checkpoint is written by, and how often that is called in the first epochs:
# for each save 15 arrays, one flush and one replacement, and two saves and a log in an epoch with a best.
MOMENTS = {
    "write": (np.lib.format, "write_array"),
    "flush": (os, "fsync"),
    "replace": (os, "replace"),
    "replaced": (os, "replace"),
    "record": (training.Run, "record"),
}


def train_and_be_killed(folder, epochs, moment, count):
    """To be called in a process of its own. moment: a name of MOMENTS, killed in the call of that number, or
    "time", killed after that many seconds."""

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "time":
        timer = threading.Timer(count, kill)
        timer.start()
        train(folder, epochs, resume=True)
        timer.cancel()
        return
    holder, name = MOMENTS[moment]
    original, calls = getattr(holder, name), []

    def deadly(*args, **kwargs):
        calls.append(1)
        if len(calls) < count:
            return original(*args, **kwargs)
        if moment == "write":
            args[0].write(b"half an array")
        if moment == "replaced":
            original(*args)
        kill()

    setattr(holder, name, deadly)
    train(folder, epochs, resume=True)


def in_a_child(folder, epochs, moment, count):
    """Whether a child that trains was killed. If not it has finished."""
    code = f"import test_training as t; t.train_and_be_killed({str(folder)!r}, {epochs}, {moment!r}, {count})"
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert child.returncode in (0, -signal.SIGKILL), child.stderr
    return child.returncode != 0


def assert_usable(folder):
    for name in (training.CHECKPOINT, training.BEST):
        if (folder / name).exists():
            assert tg.load(folder / name)["run"]["epoch"] >= 1


@pytest.mark.parametrize(
    ("moment", "count"),
    [
        ("record", 1),  # before there is a checkpoint
        ("record", 12),
        *(("write", count) for count in (1, 9, 16, 30, 31, 62)),
        *(("flush", count) for count in (1, 2, 3, 5)),
        *(("replace", count) for count in (1, 2, 3, 4, 5, 6)),
        *(("replaced", count) for count in (1, 2, 3, 5)),
    ],
)
def test_a_killed_run_is_resumed_to_the_same_bits(tmp_path, uninterrupted, moment, count):
    assert in_a_child(tmp_path, 4, moment, count)
    assert_usable(tmp_path)
    train(tmp_path, resume=True)
    assert contents(tmp_path) == uninterrupted(4)


def test_a_run_that_is_killed_again_and_again_at_random_moments_comes_to_the_same_bits(
    tmp_path, uninterrupted
):
    rng, killed = np.random.default_rng(), 0
    for _ in range(10):
        delay = rng.uniform(0, 0.3)
        if not in_a_child(tmp_path, 30, "time", delay):
            break
        killed += 1
        assert_usable(tmp_path)
    train(tmp_path, 30, resume=True)
    assert contents(tmp_path) == uninterrupted(30), f"killed {killed} times"


def test_a_resumed_run_equals_an_uninterrupted_one_on_every_device(tmp_path, device):
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
    train(tmp_path / "once", 4)
    train(tmp_path / "twice", 2)
    train(tmp_path / "twice", 4, resume=True)
    if device != "cuda":
        assert outcome(tmp_path / "once") == outcome(tmp_path / "twice")
    else:
        a, b = (tg.load(tmp_path / name / training.CHECKPOINT) for name in ("once", "twice"))
        for name in ("generator", "critic"):
            for key in a[name]:
                np.testing.assert_allclose(a[name][key], b[name][key], rtol=1e-3, atol=1e-4)


def test_a_run_moves_to_another_device(tmp_path, far):
    train(tmp_path, 2)
    with backend.device(far):
        run = train(tmp_path, 4, resume=True)
    assert [line["epoch"] for line in run.log] == [1, 2, 3, 4]


@pytest.mark.parametrize("ends", [[1], [1, 2, 3], [2, 2, 5]])
def test_a_run_resumed_with_more_epochs_equals_one_that_had_them_from_the_start(tmp_path, ends):
    (tmp_path / "once").mkdir()
    (tmp_path / "parts").mkdir()
    train(tmp_path / "once", 6)
    for epochs in [*ends, 6]:
        train(tmp_path / "parts", epochs, resume=True)
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "once")


def test_the_log_has_each_epoch_once_and_the_history_all_figures(tmp_path):
    train(tmp_path, 3)
    (tmp_path / training.LOG).write_text("")  # as if killed before the log was written
    run = train(tmp_path, 5, resume=True)
    lines = [json.loads(line) for line in (tmp_path / training.LOG).read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["step"] for line in lines] == [5, 10, 15, 20, 25]
    assert all(line.keys() == {"epoch", "step", "margin", "generator", "spread"} for line in lines)
    assert lines == run.log and run.history("spread") == [line["spread"] for line in lines]
    assert run.history("nothing") == []


def test_a_finished_run_that_is_resumed_does_nothing_but_repair_its_log(tmp_path):
    before = train(tmp_path, 2).log
    files = contents(tmp_path)
    (tmp_path / training.LOG).unlink()
    (tmp_path / f"{training.BEST}.123.tmp").write_bytes(b"half")
    assert train(tmp_path, 2, resume=True).log == before
    assert contents(tmp_path) == files


class Counter:
    """A model that counts its epochs."""

    def __init__(self):
        self.value = np.zeros(1)

    def state_dict(self):
        return {"value": self.value.copy()}

    def load_state_dict(self, state):
        self.value = state["value"]


def count_up(folder, scores, **options):
    """A run of one batch an epoch, with these scores."""
    counter = Counter()
    with training.Run(
        folder, {"counter": counter}, examples=4, batch_size=4, epochs=len(scores), **options
    ) as run:
        for epoch in run.epochs():
            for _, index in run.batches():
                counter.value += 1
                run.record(len(index), loss=1.0)
            run.end_epoch(scores[epoch - 1])
    return run


def test_best_has_the_states_of_the_highest_score_also_after_a_resume(tmp_path):
    for scores, best in [
        ([-3.0, -1.0, -2.0], 2),
        ([-3.0, -1.0, -2.0, -1.0, -1.5], 2),
        ([-3.0, -1.0, -2.0, -1.0, -1.5, 0.0], 6),
    ]:
        count_up(tmp_path, scores, resume=True)
        chosen = tg.load(tmp_path / training.BEST)
        assert chosen["run"]["epoch"] == best and chosen["counter"]["value"] == best
        last = tg.load(tmp_path / training.CHECKPOINT)
        assert last["run"]["epoch"] == len(scores) and last["counter"]["value"] == len(scores)


def test_without_scores_there_is_no_best(tmp_path):
    count_up(tmp_path, [None, None])
    assert contents(tmp_path).keys() == {training.CHECKPOINT, training.LOG}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_run_that_diverges_stops_and_keeps_the_checkpoint_from_before(tmp_path, bad):
    count_up(tmp_path, [1.0, 2.0])
    before = contents(tmp_path)
    with pytest.raises(FloatingPointError, match=f"epoch 3: score is {bad}; training has diverged"):
        count_up(tmp_path, [1.0, 2.0, bad], resume=True)
    assert contents(tmp_path) == before


def test_a_figure_that_is_not_finite_is_named(tmp_path):
    with training.Run(tmp_path, {}, examples=1, batch_size=1, epochs=1) as run:
        for _ in run.epochs():
            run.record(1, loss=tg.Tensor(math.inf))
            with pytest.raises(FloatingPointError, match="epoch 1: loss is inf"):
                run.end_epoch()


def test_an_interrupt_in_the_middle_leaves_the_last_checkpoint(tmp_path, uninterrupted, monkeypatch):
    record, calls = training.Run.record, []

    def interrupted(*args, **figures):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        record(*args, **figures)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.Run, "record", interrupted)
        train(tmp_path)
    assert tg.load(tmp_path / training.CHECKPOINT)["run"]["epoch"] == 2
    train(tmp_path, resume=True)
    assert contents(tmp_path) == uninterrupted(4)


def test_a_progress_bar_shows_epochs_and_figures_and_goes_on_where_it_was(tmp_path, capsys):
    count_up(tmp_path, [1.0, 2.0])
    shown = capsys.readouterr().err
    assert "epoch 2/2" in shown and "2/2 [" in shown and "loss=1" in shown
    count_up(tmp_path, [1.0, 2.0, 3.0], resume=True)
    shown = capsys.readouterr().err
    assert "epoch 3/3" in shown and "3/3 [" in shown and "epoch 2" not in shown


def test_figures_are_read_when_the_bar_is_printed_and_at_the_end_of_an_epoch(tmp_path, device, monkeypatch):
    # A bar that is printed at every fourth step.
    printed = iter([False, False, False, True] * 100)
    monkeypatch.setattr(tqdm.tqdm, "update", lambda self, n=1: next(printed))
    loss = tg.Tensor(2.0)
    with training.Run(tmp_path, {}, examples=10, batch_size=1, epochs=1) as run:
        for _ in run.epochs():
            with strict_cupy.count_transfers() as transfers:
                for _ in run.batches():
                    run.record(1, loss=loss, other=loss)
            assert len(transfers) == (4 if device == "strict" else 0)
            with strict_cupy.count_transfers() as transfers:
                run.end_epoch()
            assert len(transfers) == (2 if device == "strict" else 0)


# What is refused ----------------------------------------------------------------------------------


def test_a_folder_with_a_run_is_not_written_over(tmp_path):
    count_up(tmp_path, [1.0, 2.0])
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="there is a run already; resume it or take another folder"):
        count_up(tmp_path, [5.0, 6.0])
    assert contents(tmp_path) == before


def test_other_settings_are_refused_by_name_with_both_values(tmp_path):
    count_up(tmp_path, [1.0, 2.0], seed=1, config={"latents": 8, "gone": "x", "betas": (0.5, 0.9)})
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="other settings") as refused:
        count_up(
            tmp_path,
            [1.0],
            seed=2,
            drop_last=True,
            resume=True,
            config={"latents": 20, "new": True, "betas": (0.5, 0.9)},
        )
    for words in (
        "checkpoint.npz: ",
        "seed was 1 and is 2",
        "drop_last was False and is True",
        "latents was 8 and is 20",
        "gone was x and is not set",
        "new was not set and is True",
        "epochs was 2 and is 1",
    ):
        assert words in str(refused.value)
    assert "betas" not in str(refused.value) and "batch_size" not in str(refused.value)
    assert contents(tmp_path) == before


def test_states_that_do_not_fit_are_refused(tmp_path):
    train(tmp_path, 1)
    before = contents(tmp_path)
    options = {"examples": EXAMPLES, "batch_size": BATCH, "epochs": 1, "seed": SEED, "resume": True}
    with pytest.raises(
        ValueError, match=r"checkpoint\.npz: expected a run with model, got one with generator"
    ):
        training.Run(tmp_path, {"model": nn.ReLU()}, **options)
    names = ("generator", "critic", "generator_optimizer", "critic_optimizer")
    states = dict.fromkeys(names, nn.ReLU())
    message = r"checkpoint\.npz: generator: load_state_dict: state: layers\.0\.weight is unknown"
    with pytest.raises(ValueError, match=message):
        training.Run(tmp_path, states, **options, config={"width": 6})
    assert contents(tmp_path) == before
    with pytest.raises(ValueError, match="states: expected names other than 'run'"):
        training.Run(tmp_path, {"run": nn.ReLU()}, **options)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("kind", ["cut", "foreign", "no run", "later"])
def test_a_checkpoint_that_cannot_be_resumed_is_left_alone(tmp_path, monkeypatch, kind, resume):
    path = tmp_path / training.CHECKPOINT
    with monkeypatch.context() as patch:
        if kind == "later":
            patch.setattr(training, "FORMAT", 2)
        if kind == "foreign":
            np.savez(path, x=np.zeros(3))
        elif kind == "no run":
            tg.save(path, counter=Counter())
        else:
            count_up(tmp_path, [1.0])
        if kind == "cut":
            path.write_bytes(path.read_bytes()[:100])
    (tmp_path / "checkpoint.npz.1.tmp").write_bytes(b"half")
    before = contents(tmp_path)
    with pytest.raises(ValueError if resume else FileExistsError) as refused:
        count_up(tmp_path, [1.0, 2.0], resume=resume)
    assert "checkpoint.npz: expected" in str(refused.value) or not resume
    assert contents(tmp_path) == before


def test_a_folder_that_does_not_exist_is_refused_before_training(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder: expected one that exists, got '.*missing'"):
        training.Run(tmp_path / "missing", {}, examples=4, batch_size=2, epochs=1)


def test_a_config_that_json_cannot_hold_is_refused_before_training(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        training.Run(tmp_path, {}, examples=4, batch_size=2, epochs=1, config={"thing": object()})
