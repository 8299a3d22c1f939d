"""What training loops share: the order of batches, a progress bar, checkpoints.

Nothing random is kept from step to step. The order of an epoch is a function of (seed, epoch) and the noise
of a step one of (seed, step), so that any step can be made again from its number.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np  # not the backend's xp: batches are chosen, and files written, on the host


def batches(n: int, batch_size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """The numbers 0 .. n-1 in an order that depends on (seed, epoch), in batches; the last may be short."""
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    order = np.random.default_rng([seed, epoch]).permutation(n)
    for start in range(0, n, batch_size):
        yield order[start : start + batch_size]


class Progress:
    """A progress bar over the steps of a training run, with running means of the figures of the epoch.

    Needs tqdm (the extra `demos`). Use as a context manager; `history` keeps each epoch's means."""

    def __init__(self, epochs: int, steps_per_epoch: int):
        from tqdm import tqdm

        self._epochs = epochs
        self._bar = tqdm(total=epochs * steps_per_epoch, unit="step", dynamic_ncols=True)
        self.history: dict[str, list[float]] = {}
        self._sums: dict[str, float] = {}
        self._count = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error) -> None:
        self._bar.close()

    def step(self, count: int, **figures: float) -> None:
        """One step is done, on `count` examples with these mean figures."""
        self._count += count
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + count * value
        self._bar.update()
        means = {name: f"{total / self._count:.2f}" for name, total in self._sums.items()}
        epoch = len(next(iter(self.history.values()), [])) + 1
        self._bar.set_description(f"epoch {epoch}/{self._epochs}", refresh=False)
        self._bar.set_postfix(means, refresh=False)

    def end_epoch(self, **figures: float) -> None:
        """Keep the epoch's means, and other figures of the epoch, in `history`."""
        means = {name: total / self._count for name, total in self._sums.items()}
        for name, value in {**means, **figures}.items():
            self.history.setdefault(name, []).append(value)
        self._sums, self._count = {}, 0


# Checkpoints --------------------------------------------------------------------------------------

_JSON = "json"  # the entry of a checkpoint that holds everything that is no array


def save(path: str | Path, **named: Any) -> None:
    """Write named things to one .npz file, atomically and without pickle.

    A thing is something with a `state_dict()`, such as a Module, or an array, or what JSON can hold."""
    arrays: dict[str, np.ndarray] = {}
    rest: dict[str, Any] = {}
    for name, thing in named.items():
        if "/" in name or name == _JSON:
            raise ValueError(f"save: expected names without '/', other than {_JSON!r}; got {name!r}")
        if hasattr(thing, "state_dict"):
            arrays.update({f"{name}/{key}": value for key, value in thing.state_dict().items()})
        elif isinstance(thing, np.ndarray):
            arrays[name] = thing
        else:
            rest[name] = thing
    arrays[_JSON] = np.array(json.dumps(rest))
    path = Path(path)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        temporary = Path(folder, path.name)
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)


def load(path: str | Path) -> dict[str, Any]:
    """What `save` wrote, by name; a state comes back as a dict of arrays, for `load_state_dict`.

    Raises FileNotFoundError, or ValueError for a file that is damaged or no such checkpoint."""
    try:
        with np.load(path, allow_pickle=False) as file:
            entries = {key: file[key] for key in file.files}
        found = json.loads(str(entries.pop(_JSON)))
    except (ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: expected a checkpoint written by tinygen, got a damaged or foreign file ({error})"
        ) from error
    for key, array in entries.items():
        name, slash, entry = key.partition("/")
        if slash:
            found.setdefault(name, {})[entry] = array
        else:
            found[name] = array
    return found
