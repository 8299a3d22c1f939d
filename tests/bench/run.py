"""Measure tinygen against PyTorch and HIPS autograd, where they are installed.

    python tests/bench/run.py [NAME ...] [--threads N] [--rounds N] [--json FILE]

Each library runs in a process of its own, idle on a pipe while another runs: two libraries' worker threads in
one process disturb each other. They take turns, round by round, and a ratio is the median over the rounds of
tinygen's time to the other's in the same round, so that what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import cases  # noqa: E402  (the folder is no package: it is put on the path first)

# name: (the cases' function, its rows, libraries beside tinygen, clock, unit)
SUITES = {
    "overhead": (cases.overhead, [""], ["torch", "autograd"], "cpu", "ms"),
    "vae": (cases.vae, [""], ["torch"], "wall", "ms"),
    "made": (cases.made, list(cases.MADE_HIDDEN), ["torch"], "wall", "ms"),
    "maf": (cases.maf, list(cases.MAF_INPUTS), ["torch"], "wall", "ms"),
    "games": (cases.games, cases.GAMES, ["torch", "torch-channels-last"], "wall", "ms"),
    "pixelcnn": (cases.pixelcnn, [""], ["torch", "torch-channels-last"], "wall", "ms"),
    "sampling": (
        cases.sampling,
        [*cases.MADE_HIDDEN, *cases.PIXELCNN_SAMPLES],
        ["torch"],
        "wall",
        "ms",
    ),
    "convolution": (
        cases.convolution,
        [*cases.CONVOLUTIONS, *cases.TRANSPOSED],
        ["torch", "torch-channels-last"],
        "wall",
        "ms",
    ),
    "layer": (
        cases.layer,
        [*cases.LAYERS, *cases.MASKED],
        ["torch", "torch-channels-last"],
        "wall",
        "ms",
    ),
    "adam": (cases.adam, [""], ["torch"], "wall", "ms"),
    "memory": (cases.stack, ["dense", "convolutional", "PixelCNN"], ["torch"], "peak", "MB"),
}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
ROUND_SECONDS = 0.3
WARM_UP_SECONDS = 3.0  # for so long the threads of a new process may share a core


# The process of one library -----------------------------------------------------------------------


def work(suite: str, row: str, library: str, threads: int) -> None:
    """Measure once for each line that comes in, and print each figure."""
    function, _, _, clock, _ = SUITES[suite]
    if library.startswith("torch"):
        import torch

        torch.set_num_threads(threads)
    step = function(library, row) if row else function(library)
    if clock == "peak":
        measure = lambda: peak_memory(step)  # noqa: E731
    else:
        warm = time.perf_counter() + WARM_UP_SECONDS
        while time.perf_counter() < warm:
            began = time.perf_counter()
            step()
        repeats = max(1, round(ROUND_SECONDS / (time.perf_counter() - began)))
        scale = getattr(step, "scale", 1)  # where a step is a part of the work
        measure = lambda: scale * seconds(step, CLOCKS[clock], repeats)  # noqa: E731
    print("ready", flush=True)
    for _ in sys.stdin:
        print(measure(), flush=True)


def seconds(step, clock, repeats: int) -> float:
    began = clock()
    for _ in range(repeats):
        step()
    return (clock() - began) / repeats


def peak_memory(step) -> float:
    """The most resident memory during a step above that before it, in bytes (Linux, glibc).

    The first step warms up; what it freed goes back to the system, or it would hide the second."""
    step()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    step()
    return status("VmHWM") - before


def status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


# The process that compares ------------------------------------------------------------------------


class Worker:
    """The process of one library for one row."""

    def __init__(self, suite: str, row: str, library: str, threads: int):
        variables = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", suite, row, library, "--threads", str(threads)],
            env={**os.environ, **dict.fromkeys(variables, str(threads))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.read()

    def read(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended: {' '.join(map(str, self.process.args))}")
        return line

    def measure(self) -> float:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.read())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(suite: str, row: str, libraries: list[str], threads: int, rounds: int) -> dict[str, list[float]]:
    """The figures of each library, one for each round."""
    workers = {library: Worker(suite, row, library, threads) for library in libraries}
    figures: dict[str, list[float]] = {library: [] for library in libraries}
    for _ in range(rounds):
        for library, worker in workers.items():
            figures[library].append(worker.measure())
    for worker in workers.values():
        worker.close()
    return figures


def installed(library: str) -> bool:
    return importlib.util.find_spec(library.partition("-")[0]) is not None


def table_row(suite: str, row: str, figures: dict[str, list[float]]) -> str:
    """One row of the Markdown table: tinygen's figure, and each other library's with the ratio to it."""
    unit = SUITES[suite][-1]
    scale = {"ms": 1e3, "MB": 1e-6}[unit]
    own = figures["tinygen"]
    cells = [f"{suite} {row}".strip(), f"{statistics.median(own) * scale:.3g} {unit}"]
    for library in ("torch", "torch-channels-last", "autograd"):
        if library not in figures:
            cells.append("")
            continue
        ratio = statistics.median(a / b for a, b in zip(own, figures[library]))
        cells.append(f"{statistics.median(figures[library]) * scale:.3g} {unit} ({ratio:.3g})")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SUITES)}; default: all")
    parser.add_argument("--threads", type=int, default=2, help="of each library; overhead always has one")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="also write all figures there")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.work:
        work(*flags.work, flags.threads)
        return
    for name in flags.names:
        if name not in SUITES:
            parser.error(f"NAME: expected one of {', '.join(SUITES)}, got {name!r}")
    if flags.threads < 1 or flags.rounds < 1:
        parser.error(f"--threads, --rounds: expected at least 1, got {flags.threads}, {flags.rounds}")

    record = {}
    print("| case | tinygen | torch (ratio) | torch channels-last (ratio) | autograd (ratio) |")
    print("|---|---|---|---|---|")
    for suite in flags.names or SUITES:
        _, rows, others, clock, _ = SUITES[suite]
        libraries = ["tinygen", *filter(installed, others)]
        threads = 1 if clock == "cpu" else flags.threads
        for row in rows:
            record[f"{suite} {row}".strip()] = compare(suite, row, libraries, threads, flags.rounds)
            print(table_row(suite, row, record[f"{suite} {row}".strip()]), flush=True)
    if flags.json:
        machine = {"machine": platform.machine(), "python": platform.python_version()}
        flags.json.write_text(json.dumps({"threads": flags.threads, **machine, "figures": record}, indent=2))


if __name__ == "__main__":
    main()
