"""Whole training steps, recorded once and replayed.

On a GPU each operation costs the host ten to twenty microseconds, which for small networks is longer than the
GPU takes for it. A CUDA graph is a list of operations with the addresses of their arrays: to launch it costs
the host as much as one of them, however many they are. So it does the same every time, with what stands at
the same addresses then:

- arguments and results are copied to and from arrays of its own;
- random numbers come from a generator whose state is in the GPU's memory, and is an argument too;
- numbers that the host computes anew for each step are put into the GPU's memory before (`backend.varying`):
  for an optimizer, its learning rate and the corrections that depend on the number of steps made.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from . import autodiff, backend, optim
from .autodiff import Observer, Primitive, Tensor, observed
from .backend import Generator, xp
from .cublas import Cublas

WARM_UP = 2  # calls before the one that is recorded: in these kernels are compiled, and libraries set up


def replay(step: Callable) -> Callable:
    """A function that does what step(*arguments) does: forward, backward and the optimizers' steps.

        @tg.replay
        def step(x, rng):
            loss = vae.loss(x, rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        for n, index in enumerate(batches):
            loss = step(images[index], Generator(seed, n))

    On the CPU it calls the step. On a GPU its first calls do so too; then the step is recorded as a CUDA
    graph, once for every combination of shapes, and from then on replayed. While somebody looks on
    (`tg.profile`, `gradients.watch`), it calls the step as well.

    Arguments are arrays of the current device, Generators, or None. What the step does on the host is done
    when it is recorded and not again: it cannot depend on values, print or count. Parameters, state of
    layers and averages of optimizers change in place, as they always do; `.grad` holds what the last replay
    computed. Results are Tensors without history, arrays, None, or tuples, lists and dicts of these.

    Raises TypeError for other arguments, and RuntimeError, which names the operation, for a step that
    cannot be recorded: one that brings values to the host or from there, makes a Generator, or inverts
    matrices. No parameter has changed then."""
    return _Replayed(step)


class _Replayed:
    def __init__(self, step: Callable):
        self._step = step
        self._recordings: dict[tuple, _Recording] = {}  # by the form of the arguments

    def __call__(self, *arguments):
        looked_at = autodiff._observer or optim.step_watchers
        if not backend.on_gpu() or backend.is_recording() or looked_at:
            return self._step(*arguments)
        device = backend.current_device()
        form = (device.name, *(_form(x, position) for position, x in enumerate(arguments)))
        if form not in self._recordings:
            self._recordings[form] = _Recording(self._step, device.cublas())
        return self._recordings[form].call(arguments)


def _form(x, position: int):
    """What of an argument a recording depends on."""
    if x is None or isinstance(x, Generator):
        return type(x)
    if isinstance(x, xp.ndarray):
        return x.dtype, x.shape
    raise TypeError(
        f"replay: argument {position}: expected an array on device {backend.current_device().name!r}, a "
        f"Generator or None, got {type(x).__name__}"
    )


class _Recording:
    """A step for arguments of one form. Whatever the graph reads and writes is kept alive here or by the step
    itself: it knows addresses alone."""

    def __init__(self, step: Callable, cublas: Any):
        self._step = step
        self._stream = xp.cuda.Stream(non_blocking=True)
        # What is allocated while recording is the graph's for good: nothing else may come from this pool.
        self._pool = xp.cuda.MemoryPool()
        self._cublas = Cublas(cublas, self._stream)
        self._calls = 0
        self._graph: Any = None
        self._arguments: list = []
        self._result: Any = None
        self._before: list[Callable] = []  # what the host does before each replay

    def call(self, arguments: tuple):
        if self._calls < WARM_UP:
            self._calls += 1
            return self._warm_up(arguments)
        if self._graph is None:
            self._record(arguments)
        for own, given in zip(self._arguments, arguments):
            if isinstance(own, Generator):
                own.follow(given)
            elif own is not None:
                own[...] = given
        for function in self._before:
            function()
        self._graph.launch()
        return _copied(self._result)

    def _warm_up(self, arguments: tuple):
        """The step itself, by the same matrix products as when it is recorded."""
        backend.current_device().wait()
        with self._stream, backend.products_by(self._cublas.matmul):
            result = self._step(*arguments)
            self._stream.synchronize()
        return result

    def _record(self, arguments: tuple) -> None:
        self._arguments = [_own(x) for x in arguments]
        backend.current_device().wait()
        before: list[Callable] = []
        looker = _Looker()
        try:
            with self._capturing(), backend.recording(before, self._cublas.matmul), observed(looker):
                result = self._step(*self._arguments)
        except Exception as error:
            raise RuntimeError(f"replay: the step cannot be recorded: {looker.fault(error)}") from error
        self._before, self._result = before, result

    @contextmanager
    def _capturing(self):
        """What is asked of the device inside is not done, but noted in the graph."""
        collecting = gc.isenabled()
        gc.disable()  # to free what is not the graph's would be an operation that it cannot hold
        try:
            with self._stream, xp.cuda.using_allocator(self._pool.malloc):
                self._stream.begin_capture()
                try:
                    yield
                except BaseException:
                    with suppress(Exception):  # which says that the recording was broken off
                        self._stream.end_capture()
                    raise
                self._graph = self._stream.end_capture()
        finally:
            if collecting:
                gc.enable()


class _Looker(Observer):
    """Knows which primitive is being computed."""

    def __init__(self):
        self._inside: list[Primitive] = []

    def calling(self, primitive: Primitive) -> None:
        self._inside.append(primitive)

    def called(self, call) -> None:
        self._inside.pop()

    def fault(self, error: Exception) -> str:
        """What went wrong and where, in words."""
        own = str(Path(__file__).parent)
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "cupy" not in f.filename]
        users = [f for f in frames if not f.filename.startswith(own)] or frames
        what = f"in the primitive {self._inside[-1].name!r}" if self._inside else "outside of all primitives"
        return f"{what}, at {users[-1].filename}:{users[-1].lineno}: {type(error).__name__}: {error}"


def _own(x):
    """Memory for an argument."""
    if x is None:
        return None
    return Generator(0) if isinstance(x, Generator) else xp.array(x)


def _copied(result):
    """Values of their own, which the next replay leaves as they are."""
    if isinstance(result, Tensor):
        return Tensor(result.data)
    if isinstance(result, xp.ndarray):
        return result.copy()
    if isinstance(result, (tuple, list)):
        return type(result)(map(_copied, result))
    return {name: _copied(part) for name, part in result.items()} if isinstance(result, dict) else result
