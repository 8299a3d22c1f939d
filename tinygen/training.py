"""What training loops share: the order of batches, running figures, checkpoints, runs that can be resumed.

Nothing random is kept from step to step. The order of an epoch is a function of (seed, epoch), and the noise
of a step is one of (seed, step), drawn inside `with Generator(seed, step):`. So a run that was stopped, at
whatever moment, goes on from its last checkpoint and comes to the same numbers as one that was not: to the
last bit on the CPU with the same number of threads, to rounding on a GPU.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np  # not the backend's xp: batches are chosen, and files written, on the host

from . import backend
from .autodiff import Tensor
from .backend import xp
from .files import replacing


def batches(n: int, batch_size: int, seed: int, epoch: int, drop_last: bool = False) -> Iterator[np.ndarray]:
    """The numbers 0 .. n-1 (int64) in an order that depends on (seed, epoch), in batches.

    The last batch has what is left over; with drop_last it is left out if that is less than batch_size.
    Raises ValueError as `batch_count`."""
    # Words that begin no Generator's key: orders are independent of all noise.
    order = np.random.default_rng([*b"order", seed, epoch]).permutation(n)
    for k in range(batch_count(n, batch_size, drop_last)):
        yield order[k * batch_size : (k + 1) * batch_size]


def batch_count(n: int, batch_size: int, drop_last: bool = False) -> int:
    """How many batches `batches` makes.

    Raises ValueError for a batch_size below 1, and for one above n where drop_last would leave none."""
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    if drop_last and batch_size > n:
        raise ValueError(f"batch_size: expected at most {n}, all examples, with drop_last; got {batch_size}")
    return n // batch_size if drop_last else math.ceil(n / batch_size)


class RunningMeans:
    """Means of figures over examples. The sums stay on the device where the figures are, until `read`."""

    def __init__(self):
        self._sums: dict[str, tuple[Any, int]] = {}

    def add(self, count: int, **figures) -> None:
        """Take in mean figures over `count` examples: numbers, or Tensors or arrays of shape (), of which no
        graph is kept. Raises ValueError for another shape and a count below 1."""
        if count < 1:
            raise ValueError(f"count: expected at least 1, got {count}")
        for name, figure in figures.items():
            value = figure.data if isinstance(figure, Tensor) else figure
            if getattr(value, "shape", ()) != ():
                raise ValueError(f"{name}: expected a number or shape (), got shape {value.shape}")
            total, counted = self._sums.get(name, (xp.zeros((), "float64"), 0))
            self._sums[name] = total + count * value, counted + count

    def read(self) -> dict[str, float]:
        """The mean of each figure over the examples for which it was given."""
        return {name: float(total) / counted for name, (total, counted) in self._sums.items()}


# Checkpoints --------------------------------------------------------------------------------------

FORMAT = 1  # the version of what a checkpoint's entries mean
_JSON = "json"  # the entry that holds the version and everything that is no array


def save(path: str | Path, **named: Any) -> None:
    """Write named things to one .npz file, without pickle and atomically: at any moment there is the old file
    or the new one, whole. Equal things make equal bytes.

    A thing is one with a `state_dict()`, such as a module or an optimizer, or an array, or what JSON can
    hold, in which tuples come back as lists. Raises ValueError for a name that cannot be used, and TypeError
    or ValueError for a thing that cannot be saved; the old file stays then."""
    arrays: dict[str, np.ndarray] = {}
    rest: dict[str, Any] = {}
    for name, thing in named.items():
        if "/" in name or name == _JSON:
            raise ValueError(f"save: expected names without '/', other than {_JSON!r}; got {name!r}")
        if hasattr(thing, "state_dict"):
            state = thing.state_dict()
            arrays.update({f"{name}/{key}": x for key, x in state.items() if isinstance(x, np.ndarray)})
            rest[name] = {key: x for key, x in state.items() if not isinstance(x, np.ndarray)}
        elif backend.device_of(thing):
            arrays[name] = np.asarray(backend.to_host(thing))
        else:
            rest[name] = thing
    for name, thing in rest.items():
        _require_json(name, thing)
    # The names of the arrays too: nothing in a zip file tells that its table of contents was damaged.
    text = json.dumps({"version": FORMAT, "values": rest, "arrays": list(arrays)})
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_JSON), text)
        for name, array in arrays.items():
            # A ZipInfo of our own has a fixed date.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _require_json(name: str, thing: Any) -> None:
    try:
        json.dumps(thing)
    except (TypeError, ValueError) as error:
        expected = "arrays, or what JSON can hold"
        raise TypeError(f"save: {name}: expected {expected}, got {type(thing).__name__} ({error})") from error


def load(path: str | Path) -> dict[str, Any]:
    """What `save` wrote, by name; a state comes back as a dict, for `load_state_dict`.

    Raises OSError for a file that cannot be read, and ValueError for one that is damaged, no such checkpoint
    or of a later version. The file is left alone."""
    content = Path(path).read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            entries = {key: file[key] for key in file.files}
        header = json.loads(entries.pop(_JSON))
        version = int(header["version"])
        if list(entries) != header["arrays"]:
            raise ValueError(f"its arrays are {', '.join(entries)}")
    except Exception as error:  # in a damaged file anything may be wrong
        raise ValueError(
            f"{path}: expected a checkpoint written by tinygen, got a damaged or foreign file ({error})"
        ) from error
    if version > FORMAT:
        raise ValueError(
            f"{path}: expected a checkpoint of version {FORMAT} at most, got version {version}; "
            "a later tinygen has written it"
        )
    found = header["values"]
    for key, array in entries.items():
        name, slash, entry = key.partition("/")
        if slash:
            found[name][entry] = array
        else:
            found[name] = array
    return found


# Runs ---------------------------------------------------------------------------------------------

CHECKPOINT, BEST, LOG = "checkpoint.npz", "best.npz", "log.jsonl"


class Run:
    """A training run with a progress bar, in a folder from which it can be resumed.

        states = {"model": model, "optimizer": optimizer}
        with Run("runs/model", states, examples=1000, batch_size=50, epochs=10, seed=0) as run:
            for epoch in run.epochs():
                for step, index in run.batches():
                    with Generator(seed, step):
                        ...
                    run.record(len(index), loss=loss)
                run.end_epoch(score=-validation, validation=validation)

    folder: where checkpoint.npz (the states after the last epoch), best.npz (those after the epoch with the
        highest score) and log.jsonl (a line of figures for each epoch) are written; it must exist.
    states: by name, all that training changes, with `state_dict` and `load_state_dict`: models, optimizers.
    examples, batch_size, seed, drop_last: of the order of batches, as for `batches`.
    epochs: how many there shall be in all.
    config: what else makes this run the one that it is, by name, as JSON can hold it.
    resume: go on from the checkpoint in the folder; where there is none yet, begin.

    `epoch` and `step` count from 1 and are the present ones inside the loops; `log` has the figures of every
    epoch that is done.

    Raises FileNotFoundError for a folder that does not exist; FileExistsError for one that has a run, without
    resume, so that none is lost; ValueError for a checkpoint that `load` refuses, that has other states, or
    that was made with another config, another seed, ... or more epochs, each of which is named. No file has
    changed then.

    Needs tqdm (the extra `demos`)."""

    def __init__(
        self,
        folder: str | Path,
        states: dict[str, Any],
        *,
        examples: int,
        batch_size: int,
        epochs: int,
        seed: int = 0,
        drop_last: bool = False,
        config: dict[str, Any] | None = None,
        resume: bool = False,
    ):
        if _RUN in states:
            raise ValueError(f"states: expected names other than {_RUN!r}, got {list(states)}")
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"folder: expected one that exists, got {str(folder)!r}")
        self._folder, self._states = Path(folder), states
        self._order = (examples, batch_size, seed)
        self._drop_last, self._epochs = drop_last, epochs
        self._steps = batch_count(examples, batch_size, drop_last)
        order = {"examples": examples, "batch_size": batch_size, "seed": seed, "drop_last": drop_last}
        config = {**order, **(config or {}), "epochs": epochs}
        self._config = json.loads(json.dumps(config))  # as it will be read again
        self._best_score: float | None = None
        self._means = RunningMeans()
        self.epoch = self.step = 0
        self.log: list[dict[str, float]] = []
        if self._path(CHECKPOINT).exists():
            if not resume:
                raise FileExistsError(f"{folder}: there is a run already; resume it or take another folder")
            self._resume()
        self._clean_up()

    def _path(self, name: str) -> Path:
        return self._folder / name

    def _resume(self) -> None:
        """Take over what the checkpoint holds, if it is one of this run."""
        path = self._path(CHECKPOINT)
        found = load(path)
        run = found.pop(_RUN, None)
        if not isinstance(run, dict) or found.keys() != self._states.keys():
            raise ValueError(
                f"{path}: expected a run with {', '.join(self._states)}, "
                f"got {'one' if run else 'no run but something'} with {', '.join(found)}"
            )
        differences = _differences(run["config"], self._config)
        if differences:
            raise ValueError(f"{path}: made with other settings: {'; '.join(differences)}")
        for name, thing in self._states.items():
            try:
                thing.load_state_dict(found[name])
            except ValueError as error:
                raise ValueError(f"{path}: {name}: {error}") from error
        self.log, self._best_score = run["log"], run["best_score"]
        self.epoch, self.step = run["epoch"], run["step"]

    def _clean_up(self) -> None:
        """Undo what a kill in the middle of writing left: half of a file, a log without its last line."""
        for name in (CHECKPOINT, BEST, LOG):
            for temporary in self._folder.glob(f"{name}.*.tmp"):
                temporary.unlink(missing_ok=True)
        if self.log:
            self._write_log()

    def __enter__(self) -> Run:
        from tqdm import tqdm

        total, done = self._epochs * self._steps, self.epoch * self._steps
        self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True)
        return self

    def __exit__(self, *error) -> None:
        self._bar.close()

    def epochs(self) -> Iterator[int]:
        """The numbers of the epochs that are left; the last is `epochs`."""
        for epoch in range(self.epoch + 1, self._epochs + 1):
            self.epoch = epoch
            self._bar.set_description(f"epoch {epoch}/{self._epochs}", refresh=False)
            yield epoch

    def batches(self) -> Iterator[tuple[int, np.ndarray]]:
        """For each step of this epoch, its number and the numbers of its examples, as from `batches`."""
        for index in batches(*self._order, self.epoch, self._drop_last):
            self.step += 1
            yield self.step, index
            if self._bar.update():  # it has been printed, as it is now and then: then figures are read
                self._show(self._means.read())

    def record(self, count: int, **figures) -> None:
        """Take figures into the running means of this epoch, as `RunningMeans.add`."""
        self._means.add(count, **figures)

    def _show(self, means: dict[str, float]) -> None:
        self._bar.set_postfix({name: f"{mean:.4g}" for name, mean in means.items()})

    def end_epoch(self, score: float | None = None, **figures) -> None:
        """Write the checkpoint and the log, and where the score is higher than ever best.npz.

        score: how good the states are now. figures: further ones of this epoch, beside the means of what was
        recorded. Raises FloatingPointError for a figure that is not finite: training has diverged, and the
        last checkpoint is from before."""
        figures = {**self._means.read(), **{name: float(figure) for name, figure in figures.items()}}
        for name, value in figures.items() if score is None else {**figures, "score": score}.items():
            if not math.isfinite(value):
                raise FloatingPointError(f"epoch {self.epoch}: {name} is {value}; training has diverged")
        self._show(figures)
        self._means = RunningMeans()
        self.log.append({"epoch": self.epoch, "step": self.step, **figures})
        # The checkpoint comes after best.npz: a run that is killed between them makes this epoch again.
        if score is not None and (self._best_score is None or score > self._best_score):
            self._best_score = float(score)
            self._save(BEST)
        self._save(CHECKPOINT)
        self._write_log()

    def _save(self, name: str) -> None:
        run = {
            "epoch": self.epoch,
            "step": self.step,
            "best_score": self._best_score,
            "config": self._config,
            "log": self.log,
        }
        save(self._path(name), **self._states, **{_RUN: run})

    def _write_log(self) -> None:
        lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.log)
        with replacing(self._path(LOG)) as file:
            file.write(lines.encode())

    def history(self, name: str) -> list[float]:
        """The figure of that name, epoch by epoch."""
        return [line[name] for line in self.log if name in line]


_RUN = "run"  # the name under which a checkpoint keeps what a run knows beside its states


def _differences(then: dict, now: dict) -> list[str]:
    """In words, what two configs of one run must agree on and do not; epochs may become more."""
    return [
        f"{name} was {then.get(name, 'not set')} and is {now.get(name, 'not set')}"
        for name in {**then, **now}
        if then.get(name) != now.get(name) and not (name == "epochs" and now[name] > then[name])
    ]
