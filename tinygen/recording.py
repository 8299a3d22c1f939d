"""Whole training steps, recorded once and replayed.

On a GPU each operation costs the host time, ten to twenty microseconds by what is published of CuPy, and the
GPU has often done it sooner. A CUDA graph is a list of operations with the addresses of their arrays, which
the host launches as one. So it does the same every time, with what stands at the same addresses then:

- arguments are copied to arrays of its own, and results from them;
- random numbers come from a generator whose state is in the GPU's memory, and which is an argument too;
- numbers that the host computes anew for each step are put into the GPU's memory before (`backend.varying`):
  for an optimizer, its learning rate and the corrections that depend on the number of steps made.
"""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Callable
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

from . import autodiff, backend, optim
from .autodiff import Observer, Primitive, Tensor, observed
from .backend import Generator, xp
from .cublas import Cublas

WARM_UP = 2  # calls before the one that is recorded, in which kernels are compiled and libraries set up


def replay(step: Callable) -> Callable:
    """A function that does what step(*arguments) does: forward, backward and the optimizers' steps.

        @tg.replay
        def descend(x, rng):
            loss = vae.loss(x, rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        for n, index in enumerate(batches):
            loss = descend(images[index], Generator(seed, n))

    On the CPU it calls the step. On a GPU (with Linux) its first calls do so too; then the step is recorded
    as a CUDA graph, once for every combination of shapes, each with memory of its own, and replayed from then
    on. While somebody looks on (`tg.profile`, `gradients.watch`), it calls the step as well.

    Arguments are arrays of the current device, Generators, which go on as if the step had drawn from them, or
    None. Results are Tensors, which have no history then, arrays, None, or tuples, lists and dicts of these.
    Parameters, state of layers and averages of optimizers change in place, as they always do.

    What the step does in Python is done when it is recorded and not again. So it cannot depend on values,
    print or count; modes (`train`, `eval`, `no_grad`) and settings other than the learning rate stay as they
    were then; and gradients live inside it: it begins with `zero_grad`, and `.grad` after it means nothing.
    Matrices that it multiplies are both float32 or both float64.

    Raises TypeError for other arguments or results, and RuntimeError, which names the operation, for a step
    that cannot be recorded: one that brings values to the host or from there, draws from a Generator that is
    no argument by default, makes one, or inverts matrices. No parameter has changed then."""
    recordings: dict[tuple, _Recording] = {}  # by the form of the arguments

    @wraps(step)
    def replayed(*arguments):
        looked_at = autodiff._observer or optim.step_watchers
        if not backend.on_gpu() or backend.is_recording() or looked_at:
            return step(*arguments)
        device = backend.current_device().name
        form = (device, *(_form(x, position, device) for position, x in enumerate(arguments)))
        if form not in recordings:
            recordings[form] = _Recording(step)
        return recordings[form].call(arguments)

    return replayed


def _form(x, position: int, device: str):
    """What of an argument a recording depends on."""
    if x is None or (isinstance(x, Generator) and x.device == device):
        return type(x)
    if isinstance(x, xp.ndarray):
        return x.dtype, x.shape
    raise TypeError(
        f"replay: argument {position}: expected an array or a Generator on device {device!r}, or None, got "
        f"{type(x).__name__}"
    )


_products: dict[str, Cublas] = {}  # by device: recordings share it, as no two run at once


class _Recording:
    """A step for arguments of one form. Whatever the graph reads and writes is kept alive here or by the step
    itself: it knows addresses alone."""

    def __init__(self, step: Callable):
        self._step = step
        self._stream = xp.cuda.Stream(non_blocking=True)
        # What is allocated while recording is the graph's for good: nothing else comes from this pool later.
        self._pool = xp.cuda.MemoryPool()
        device = backend.current_device()
        if device.name not in _products:
            _products[device.name] = Cublas(device.cublas())
        self._cublas = _products[device.name]
        self._calls = 0
        self._graph: Any = None
        self._arguments: list = []
        self._result: Any = None
        self._before: list[Callable] = []  # what the host does before each replay

    def call(self, arguments: tuple):
        if self._calls < WARM_UP:
            self._calls += 1
            return _copied(self._warm_up(arguments))
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
        for own, given in zip(self._arguments, arguments):
            if isinstance(own, Generator):
                given.follow(own)
        return _copied(self._result)

    @contextmanager
    def _apart(self):
        """What is asked of the device inside goes to a stream of its own, after all that was asked before."""
        backend.current_device().wait()
        self._cublas.use(self._stream)
        with self._stream, xp.cuda.using_allocator(self._pool.malloc):
            yield

    def _warm_up(self, arguments: tuple):
        """The step itself, by the same matrix products as when it is recorded."""
        with self._apart(), backend.products_by(self._cublas.matmul):
            try:
                return self._step(*arguments)
            finally:
                self._stream.synchronize()

    def _record(self, arguments: tuple) -> None:
        own = [_own(x) for x in arguments]
        before: list[Callable] = []
        looker = _Looker()
        try:
            with self._capturing(), backend.recording(before, self._cublas.matmul), observed(looker):
                result = self._step(*own)
        except Exception as error:
            raise RuntimeError(f"replay: the step cannot be recorded: {looker.fault(error)}") from error
        self._arguments, self._before, self._result = own, before, result

    @contextmanager
    def _capturing(self):
        """What is asked of the device inside is not done, but noted in the graph."""
        collecting = gc.isenabled()
        gc.disable()  # garbage may hold what only a call that waits for the device can free
        try:
            with self._apart():
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
        while self._inside and self._inside.pop() is not call.primitive:
            pass  # one inside this one that failed, and whose error was caught

    def fault(self, error: Exception) -> str:
        """What went wrong and where, in words."""
        module = getattr(backend.current_device().module, "__file__", None) or ""
        not_users = str(Path(__file__).parent), module.removesuffix("__init__.py")
        frames = [f for f in traceback.extract_tb(error.__traceback__) if os.path.isabs(f.filename)]
        users = [f for f in frames if not f.filename.startswith(not_users)] or frames
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
    if type(result) in (tuple, list):
        return type(result)(map(_copied, result))
    if type(result) is dict:
        return {name: _copied(part) for name, part in result.items()}
    if result is None:
        return None
    raise TypeError(
        "replay: expected a step that returns Tensors, arrays, None, or tuples, lists and dicts of these; "
        f"got {type(result).__name__}, which would stay as it is"
    )
