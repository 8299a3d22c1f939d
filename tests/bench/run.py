"""Measure tinygen against PyTorch and HIPS autograd, where they are installed, and print a Markdown table.

    python tests/bench/run.py [NAME ...] [--threads N] [--device cuda] [--rounds N] [--json FILE]
    python tests/bench/run.py --profile NAME

Each library runs in a process of its own, idle on a pipe while another runs: two libraries' worker threads in
one process disturb each other. They take turns, round by round, with a rest between; a ratio is the median
over the rounds of tinygen's time to the other's in the same round, with the quartiles, so that what else the
machine does falls on both. Before anything is measured, both libraries must have the same loss and gradients
from the same weights, or the same outputs where nothing but samples can be drawn. Peak memory is what a step
takes above what was there before it.

On a GPU tinygen's training steps are replayed (`tg.replay`), PyTorch's are not; both multiply float32 without
TF32, and memory is not measured.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import games  # noqa: E402  (the folder is no package: it is put on the path first)
import operations  # noqa: E402
import pixels  # noqa: E402
import vectors  # noqa: E402

TORCH, IMAGES, TRAINED = ["torch"], ["torch", "torch-channels-last"], ["torch", "torch-fused"]
ALL = ["torch", "torch-channels-last", "torch-fused"]


class Suite(NamedTuple):
    """Cases that are measured alike.

    function: of a library and a row, which makes the step. rows: their names; [""] if there is one case
    alone. others: the libraries beside tinygen. memory: whether the peak of memory is measured, too."""

    function: Callable
    rows: list[str]
    others: list[str]
    memory: bool = False


SUITES = {
    "overhead": Suite(operations.overhead, [""], ["torch", "autograd"]),
    "VAE": Suite(vectors.vae, vectors.VAES, ALL, memory=True),
    "MADE": Suite(vectors.made, list(vectors.MADE_HIDDEN), TRAINED, memory=True),
    "MAF": Suite(vectors.maf, list(vectors.MAF_INPUTS), TRAINED, memory=True),
    "games": Suite(games.iteration, games.ROWS, ALL, memory=True),
    "training": Suite(pixels.training, pixels.MODELS, ALL, memory=True),
    "VAE-samples": Suite(vectors.vae_samples, vectors.VAES, TORCH),
    "MADE-samples": Suite(vectors.made_samples, list(vectors.MADE_HIDDEN), TORCH),
    "MAF-samples": Suite(vectors.maf_samples, list(vectors.MAF_INPUTS), TORCH),
    "games-samples": Suite(games.samples, games.SAMPLED, TORCH),
    "samples": Suite(pixels.samples, list(pixels.SAMPLES), TORCH),
    "convolution": Suite(
        operations.convolution, [*operations.CONVOLUTIONS, *operations.TRANSPOSED], IMAGES, memory=True
    ),
    "layer": Suite(operations.layer, [*operations.LAYERS, *operations.MASKED], IMAGES, memory=True),
    "adam": Suite(operations.adam, [""], TRAINED),
}
COLUMNS = {
    "torch": "PyTorch",
    "torch-channels-last": "channels last",
    "torch-fused": "fused Adam",
    "autograd": "HIPS autograd",
}
ONE_THREAD = "overhead"  # the suite for which CPU time is measured, in one thread
ROUND_SECONDS = 0.3
REST_SECONDS = 0.15  # before each round: what threads OpenBLAS has wait busily for a tenth of a second more
AGAIN_SECONDS = 0.5  # of warming up after that rest, as in a training that never rests
WARM_UP_SECONDS = 3.0  # for so long the threads of a new process may share a core


# The process of one library -----------------------------------------------------------------------


def work(name: str, row: str, library: str, threads: int, device: str) -> None:
    """For each line that comes in, "time" or "memory", measure once and print the figure."""
    wait, place = prepared(library, threads, device)
    with place:  # PyTorch's way to say where Tensors are made slows what is done inside down
        step = make_step(name, row, library)
    clock = time.process_time if name == ONE_THREAD and device == "cpu" else time.perf_counter
    repeats = max(1, round(ROUND_SECONDS / warm_up(step, WARM_UP_SECONDS)))
    scale = getattr(step, "scale", 1)  # where a step is a part of the work

    def time_of_a_step() -> float:
        warm_up(step, AGAIN_SECONDS)
        wait()
        return scale * seconds(step, clock, repeats, wait)

    measures = {"time": time_of_a_step, "memory": lambda: peak_memory(step)}
    print("ready", flush=True)
    for line in sys.stdin:
        print(measures[line.strip()](), flush=True)


def prepared(library: str, threads: int, device: str) -> tuple[Callable[[], None], AbstractContextManager]:
    """Let a library compute there, products of float32 in float32: the function that waits for the device,
    and the context to make a step in."""
    if library.startswith("torch"):
        import torch

        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        return (torch.cuda.synchronize, torch.device(device)) if device == "cuda" else (_none, nullcontext())
    from tinygen import backend

    if library == "tinygen":
        backend.set_device(device)
    return backend.current_device().wait, nullcontext()


def _none() -> None:
    """There is nothing to wait for."""


def make_step(name: str, row: str, library: str) -> Callable:
    """The step of a case; a row of "" is the only one of its suite."""
    return SUITES[name].function(library, row) if row else SUITES[name].function(library)


def warm_up(step, duration: float) -> float:
    """Make steps for so many seconds; how many the last one took."""
    end = time.perf_counter() + duration
    while (began := time.perf_counter()) < end:
        step()
        last = time.perf_counter() - began
    return last


def seconds(step, clock, repeats: int, wait) -> float:
    began = clock()
    for _ in range(repeats):
        step()
    wait()
    return (clock() - began) / repeats


def peak_memory(step) -> float:
    """The most resident memory during a step above that before it, in bytes (Linux, glibc).

    What earlier steps freed goes back to the system first, or it would hide what this one takes."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    step()
    return status("VmHWM") - before


def status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


# The process that compares ------------------------------------------------------------------------


def environment(threads: int) -> dict[str, str]:
    """That of a process whose libraries have so many threads."""
    variables = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(variables, str(threads))}


class Worker:
    """The process of one library for one row."""

    def __init__(self, name: str, row: str, library: str, threads: int, device: str):
        flags = ["--threads", str(threads), "--device", device]
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", name, row, library, *flags],
            env=environment(threads),
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

    def measure(self, what: str) -> float:
        time.sleep(REST_SECONDS)
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return float(self.read())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Figures(NamedTuple):
    """Of one library for one row. times: seconds, one for each round. memory: bytes; None if not measured."""

    times: list[float]
    memory: float | None


def compare(name: str, row: str, threads: int, device: str, rounds: int) -> dict[str, Figures]:
    """The figures of each library; on a GPU without memory."""
    libraries = ["tinygen", *filter(installed, SUITES[name].others)]
    if device != "cpu":
        libraries = [library for library in libraries if library != "autograd"]
    workers = {library: Worker(name, row, library, threads, device) for library in libraries}
    times: dict[str, list[float]] = {library: [] for library in libraries}
    for _ in range(rounds):
        for library, worker in workers.items():
            times[library].append(worker.measure("time"))
    memory = {
        library: worker.measure("memory") if SUITES[name].memory and device == "cpu" else None
        for library, worker in workers.items()
    }
    for worker in workers.values():
        worker.close()
    return {library: Figures(times[library], memory[library]) for library in libraries}


def installed(library: str) -> bool:
    return importlib.util.find_spec(library.partition("-")[0]) is not None


# The table ------------------------------------------------------------------------------------------


def heading(threads: int, device: str, rounds: int) -> str:
    """What was measured on, and the table's first lines."""
    names = {"numpy": "NumPy", "torch": "PyTorch", "autograd": "HIPS autograd"}
    versions = [f"{names[lib]} {importlib.metadata.version(lib)}" for lib in names if installed(lib)]
    columns = ["case", "tinygen", *COLUMNS.values(), "peak memory, of PyTorch's"]
    return "\n".join(
        [
            f"{processor()}, {device}, {threads} threads (one for the chain of operations), {rounds} rounds;",
            f"Python {platform.python_version()}, {', '.join(versions)}.",
            "",
            f"| {' | '.join(columns)} |",
            f"|{'---|' * len(columns)}",
        ]
    )


def processor() -> str:
    """Its name, if Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def table_row(name: str, row: str, figures: dict[str, Figures]) -> str:
    """tinygen's time, each other library's with the ratio to it, and the peak of memory."""
    own = figures["tinygen"]
    cells = [f"{name} {row}".strip(), in_words(statistics.median(own.times))]
    for library in COLUMNS:
        if library not in figures:
            cells.append("")
            continue
        other = figures[library].times
        ratios = [a / b for a, b in zip(own.times, other)]
        cells.append(f"{in_words(statistics.median(other))}, {spread(ratios)}")
    cells.append("" if own.memory is None else f"{own.memory / 1e6:.0f} MB")
    if own.memory is not None and "torch" in figures:
        cells[-1] += f", {own.memory / max(figures['torch'].memory, 1):.2f}"
    return f"| {' | '.join(cells)} |"


def in_words(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def spread(ratios: list[float]) -> str:
    """The median, and the quartiles where there are any."""
    middle = f"**{statistics.median(ratios):.3g}**"
    if len(ratios) < 3:
        return middle
    first, _, last = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle} ({first:.3g} to {last:.3g})"


# The command ----------------------------------------------------------------------------------------


def cases(names: list[str]) -> list[tuple[str, str]]:
    """Pairs (suite, row) of names, each a suite or one of its rows, "games DCGAN 28x28".

    Raises ValueError for an unknown one."""
    every = [(suite, row) for suite, of in SUITES.items() for row in of.rows]
    found = []
    for name in names:
        these = [(suite, row) for suite, row in every if name in (suite, f"{suite} {row}")]
        if not these:
            raise ValueError(f"NAME: expected one of {', '.join(SUITES)}, or with a row, got {name!r}")
        found += these
    return found if names else every


def print_profile(name: str, row: str) -> None:
    """Where the time of a few steps goes."""
    import tinygen as tg

    step, repeats = make_step(name, row, "tinygen"), 5
    step()
    with tg.profile() as profile:
        for _ in range(repeats):
            step()
    print(f"{name} {row}".strip() + f", {repeats} steps")
    print(profile)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = f"a suite, of {', '.join(SUITES)}, or one row of it, as 'games DCGAN 28x28'"
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{names}; default: all")
    parser.add_argument("--profile", metavar="NAME", help="print where tinygen's time goes, by primitive")
    parser.add_argument("--threads", type=int, default=2, help="of each library; overhead always has one")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where all compute")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="also write all figures there")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.work:
        work(*flags.work, flags.threads, flags.device)
        return
    if flags.threads < 1 or flags.rounds < 1:
        parser.error(f"--threads, --rounds: expected at least 1, got {flags.threads}, {flags.rounds}")
    try:
        chosen = cases([flags.profile] if flags.profile else flags.names)
    except ValueError as error:
        parser.error(str(error))
    if flags.profile:
        if environment(flags.threads) != os.environ:  # libraries read it as they are loaded
            os.execve(sys.executable, [sys.executable, *sys.argv], environment(flags.threads))
        prepared("tinygen", flags.threads, flags.device)
        for case in chosen:
            print_profile(*case)
        return

    record = {}
    print(heading(flags.threads, flags.device, flags.rounds))
    for name, row in chosen:
        threads = 1 if name == ONE_THREAD else flags.threads
        figures = compare(name, row, threads, flags.device, flags.rounds)
        print(table_row(name, row, figures), flush=True)
        record[f"{name} {row}".strip()] = {library: of._asdict() for library, of in figures.items()}
    if flags.json:
        machine = {"processor": processor(), "python": platform.python_version()}
        flags.json.write_text(json.dumps({"threads": flags.threads, **machine, "figures": record}, indent=2))


if __name__ == "__main__":
    main()
