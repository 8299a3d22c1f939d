"""What every demo shares: its flags, its folder of results, and the figures that it leaves."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import numpy

import tinygen as tg


def _whole_number(least: int):
    """The type of a flag: a whole number of at least `least`."""

    def parse(text: str) -> int:
        if not text.lstrip("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text}")
        return int(text)

    return parse


positive_int = _whole_number(1)
natural = _whole_number(0)


class Demo:
    """The command line of one demo, and the folder that it writes to.

    defaults: for each data set, the values of the flags that depend on it."""

    def __init__(self, description: str, name: str, defaults: dict[str, dict]):
        self.parser = argparse.ArgumentParser(description=description)
        self._defaults = defaults
        self.parser.add_argument("--data", choices=list(defaults), default="digits", help="default: digits")
        self.add_by_data("--epochs", type=positive_int, what="passes over the training set")
        self.add_by_data("--batch-size", type=positive_int, what="examples in a step")
        self.add("--device", choices=["cpu", "cuda"], default="cpu", what="where to compute")
        self.add("--seed", type=natural, default=0, what="of initial weights, order and noise")
        self.add("--out", type=Path, default=Path("runs") / name, what="folder for pictures and figures")

    def add(self, flag: str, *, what: str, **kwargs) -> None:
        """A flag with one default."""
        self.parser.add_argument(flag, help=f"{what}; default: {kwargs['default']}", **kwargs)

    def add_by_data(self, flag: str, *, what: str, **kwargs) -> None:
        """A flag whose default depends on the data set."""
        key = flag.lstrip("-").replace("-", "_")
        values = ", ".join(f"{values[key]} for {data}" for data, values in self._defaults.items())
        self.parser.add_argument(flag, help=f"{what}; default: {values}", **kwargs)

    def start(self, argv: list[str] | None = None) -> tuple[argparse.Namespace, tg.data.Dataset]:
        """Parse the flags, choose the device and the seed, load the data, make the folder.

        Whatever is wrong with a flag ends the program with one line that says what."""
        self.flags = self.parser.parse_args(argv)
        for name, value in self._defaults[self.flags.data].items():
            if getattr(self.flags, name) is None:
                setattr(self.flags, name, value)
        try:
            tg.set_device(self.flags.device)
            tg.seed(self.flags.seed)
            dataset = tg.data.load(self.flags.data)
            self.flags.out.mkdir(parents=True, exist_ok=True)
        except (RuntimeError, OSError, ValueError) as error:
            self.parser.error(str(error))
        self._began = time.perf_counter()
        return self.flags, dataset

    def path(self, name: str) -> Path:
        """Where a result of that name goes."""
        return self.flags.out / name

    def finish(self, figures: dict[str, float]) -> None:
        """Write metrics.json, and print the figures and where everything is."""
        flags = {
            name: str(value) if isinstance(value, Path) else value for name, value in vars(self.flags).items()
        }
        record = {
            "figures": figures,
            "seconds": round(time.perf_counter() - self._began, 1),
            "command": " ".join(["python", *sys.argv]),
            "flags": flags,
            "versions": {
                "tinygen": tg.__version__,
                "numpy": numpy.__version__,
                "python": platform.python_version(),
            },
        }
        self.path("metrics.json").write_text(json.dumps(record, indent=2) + "\n")
        width = max(map(len, figures))
        for name, value in figures.items():
            print(f"{name:{width}}  {value:.2f}")
        print(
            f"{record['seconds']} seconds on {self.flags.device}; pictures, metrics.json and the model in "
            f"{self.flags.out}{'/' if str(self.flags.out)[-1] != '/' else ''}"
        )
