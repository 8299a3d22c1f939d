"""What every demo shares: its flags, its training run, its folder of results, and the figures that it leaves.

A demo in outline:

    demo = Demo("Train ...", "name", {"digits": {"epochs": 10, "batch_size": 64}})
    flags, dataset = demo.start()
    model, optimizer = ...
    with demo.training(examples=len(dataset.train.images), model=model, optimizer=optimizer) as run:
        for epoch in run.epochs():
            for step, index in run.batches():
                with Generator(flags.seed, TRAIN, step):
                    ...
                run.record(len(index), loss=loss)
            run.end_epoch(score=..., validation=...)
    demo.finish({"...": ...})

A demo without a data set and epochs, as those that show what theory says, is a `Study`, which has the flags,
the folder and the figures.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy

import tinygen as tg
from tinygen.backend import Generator, current_device, device_makers
from tinygen.training import Run


def positive_number(text: str) -> float:
    """The type of a flag: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def _whole_number(least: int):
    """The type of a flag: a whole number of at least `least`."""

    def parse(text: str) -> int:
        if not text.lstrip("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text}")
        return int(text)

    return parse


positive_int = _whole_number(1)
natural = _whole_number(0)

# What noise is for, in the key of its generator, as Generator(seed, TRAIN, step).
TRAIN, VALIDATE, TEST, DRAW = range(4)

# Where a run is computed and where it is kept do not make it another run.
NOT_OF_THE_RUN = ("device", "out", "resume")


class Study:
    """The command line of one demo, and the folder that it writes to."""

    def __init__(self, description: str, name: str):
        self.parser = argparse.ArgumentParser(description=description)
        here = current_device().name  # as TINYGEN_DEVICE says
        self.add("--device", choices=list(device_makers), default=here, what="where to compute")
        self.add("--seed", type=natural, default=0, what="of initial weights, order and noise")
        self.add("--out", type=Path, default=Path("runs") / name, what="folder for pictures and figures")
        self._name = name

    def add(self, flag: str, *, what: str, **kwargs) -> None:
        """A flag with one default."""
        self.parser.add_argument(flag, help=f"{what}; default: {kwargs['default']}", **kwargs)

    def start(self, argv: list[str] | None = None) -> argparse.Namespace:
        """Parse the flags, choose the device and the seed, make the folder.

        Whatever is wrong with a flag ends the program with one line that says what."""
        self.flags = self.parser.parse_args(argv)
        try:
            self._prepare()
            self.flags.out.mkdir(parents=True, exist_ok=True)
        except (RuntimeError, OSError, ValueError) as error:
            self.parser.error(str(error))
        self._began = time.perf_counter()
        return self.flags

    def _prepare(self) -> None:
        """What can fail before there is a folder."""
        tg.set_device(self.flags.device)
        tg.seed(self.flags.seed)

    def path(self, name: str) -> Path:
        """Where a result of that name goes."""
        return self.flags.out / name

    def _plain_flags(self) -> dict:
        """The flags as JSON can hold them."""
        return {
            name: str(value) if isinstance(value, Path) else value for name, value in vars(self.flags).items()
        }

    def finish(self, figures: dict[str, float]) -> None:
        """Write metrics.json, and print the figures and where everything is."""
        self._finish(figures, ".6g", "pictures and metrics.json")

    def _finish(self, figures: dict[str, float], form: str, results: str, **more) -> None:
        """form: of a figure in print. results: what is in the folder. more: of the record."""
        record = {
            "figures": figures,
            "seconds": round(time.perf_counter() - self._began, 1),
            **more,
            "command": " ".join(["python", *sys.argv]),
            "flags": self._plain_flags(),
            "versions": {
                "tinygen": tg.__version__,
                "numpy": numpy.__version__,
                "python": platform.python_version(),
            },
        }
        self.path("metrics.json").write_text(json.dumps(record, indent=2) + "\n")
        width = max(map(len, figures))
        for name, value in figures.items():
            print(f"{name:{width}}  {value:{form}}")
        print(
            f"{record['seconds']} seconds on {self.flags.device}; {results} in "
            f"{self.flags.out}{'/' if str(self.flags.out)[-1] != '/' else ''}"
        )


class Demo(Study):
    """The command line of a demo that learns a data set in epochs, and its training run.

    defaults: for each data set, the values of the flags that depend on it; the first set is the default."""

    def __init__(self, description: str, name: str, defaults: dict[str, dict]):
        super().__init__(description, name)
        self._defaults = defaults
        self.add("--data", choices=list(defaults), default=next(iter(defaults)), what="what is learned")
        self.add_by_data("--epochs", type=positive_int, what="passes over the training set")
        self.add_by_data("--batch-size", type=positive_int, what="examples in a step")
        self.parser.add_argument(
            "--resume", action="store_true", help="go on with the run in --out; other flags as they were"
        )
        self._resumed_after = 0

    def add_by_data(self, flag: str, *, what: str, **kwargs) -> None:
        """A flag whose default depends on the data set."""
        key = flag.lstrip("-").replace("-", "_")
        values = ", ".join(f"{values[key]} for {data}" for data, values in self._defaults.items())
        self.parser.add_argument(flag, help=f"{what}; default: {values}", **kwargs)

    def start(self, argv: list[str] | None = None) -> tuple[argparse.Namespace, tg.data.Dataset]:
        """As for every study, and load the data."""
        return super().start(argv), self._dataset

    def _prepare(self) -> None:
        for name, value in self._defaults[self.flags.data].items():
            if getattr(self.flags, name) is None:
                setattr(self.flags, name, value)
        super()._prepare()
        self._dataset = tg.data.load(self.flags.data)

    def make(self, kind: Callable, *args, **kwargs):
        """A model as the flags say. What it refuses ends the program with one line."""
        try:
            return kind(*args, **kwargs)
        except ValueError as error:
            self.parser.error(str(error))

    @contextmanager
    def training(self, examples: int, drop_last: bool = False, **states) -> Iterator[Run]:
        """The run of these flags, over so many examples; states: the models and optimizers, by name.

        A run that is already in the folder is resumed with --resume, if its flags were the same but for
        --device, --out and fewer --epochs. Otherwise the program ends with one line, and leaves it alone."""
        flags = self._plain_flags().items()
        config = {name: value for name, value in flags if name not in NOT_OF_THE_RUN}
        try:
            run = Run(
                self.flags.out,
                states,
                examples=examples,
                batch_size=self.flags.batch_size,
                epochs=self.flags.epochs,
                seed=self.flags.seed,
                drop_last=drop_last,
                config={"demo": self._name, **config},
                resume=self.flags.resume,
            )
        except FileExistsError:
            self.parser.error(
                f"argument --out: {self.flags.out} has a run already: --resume goes on with it; for a new "
                "one give another folder, or remove this"
            )
        except (OSError, ValueError) as error:
            self.parser.error(str(error))
        self._resumed_after = run.epoch
        if self.flags.resume:
            print(f"resumed after epoch {run.epoch}" if run.epoch else "nothing to resume: a new run begins")
        try:
            with run:
                yield run
        except KeyboardInterrupt:
            sys.exit("interrupted: --resume goes on from the last checkpoint")

    def finish(self, figures: dict[str, float]) -> None:
        """Write metrics.json, and print the figures and where everything is."""
        resumed = {"resumed after epoch": self._resumed_after}
        self._finish(figures, ".2f", "pictures, metrics.json and the model", **resumed)


@tg.no_grad()
def mean_over(images: numpy.ndarray, function: Callable, batch_size: int, rng: Generator) -> float:
    """The mean of function(batch, rng), which gives a Tensor (N,), over all images, in batches."""
    starts = range(0, len(images), batch_size)
    values = [function(images[start : start + batch_size], rng).numpy() for start in starts]
    return float(numpy.concatenate(values).mean())


def cosine(lr, steps):
    """A learning rate that falls from lr to 0 along half a period of a cosine (I. Loshchilov and F. Hutter,
    SGDR: Stochastic Gradient Descent with Warm Restarts, 2017, eq. 5, without restarts)."""
    return lambda t: 0.5 * lr * (1 + math.cos(math.pi * min(t / steps, 1)))
