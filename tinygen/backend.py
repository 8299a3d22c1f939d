"""The array backend: which array module computes, where random numbers come from, matrix products.

Everything else in tinygen computes through `xp`, and only this file knows NumPy from CuPy.
`xp` is one namespace for the life of the program: choosing a device refills it in place, so
`from tinygen.backend import xp` at the top of a file stays right, and a look-up costs what it costs
in a module.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy

from . import threads


def _keep_freed_memory() -> None:
    """glibc hands large freed blocks back to the system, and faults their pages in again at the next
    allocation, which costs more than the arithmetic on them. Here it keeps them, for the rest of the program.
    Other C libraries have no such switch."""
    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


_keep_freed_memory()

xp = ModuleType("tinygen.backend.xp", "The current array module: NumPy, or CuPy on a GPU.")


class Device(NamedTuple):
    """A place where arrays live: its array module, and what array modules do not agree on."""

    name: str
    module: ModuleType
    to_host: Callable[[Any], numpy.ndarray]  # device array -> NumPy array
    random: Callable[[numpy.random.SeedSequence], tuple[Any, Any]]  # -> random bits, generator of these
    copy_bits: Callable[[Any, Any], None]  # put random bits where others are
    byte_bounds: Callable[[Any], tuple[int, int]]  # array -> the addresses that it spans
    owns_memory: Callable[[Any], bool]  # whether all others in an array's memory are known to be its views
    wait: Callable[[], None]  # until all that was asked of it is done
    cublas: Callable[[], Any] | None  # the library with its matrix products; None: not a GPU
    workspace: int  # elements of scratch memory at which chunked algorithms run best


def _cpu() -> Device:
    return Device(
        "cpu",
        numpy,
        to_host=lambda array: array,
        random=_numpys_random,
        copy_bits=_copy_numpys_bits,
        byte_bounds=numpy.lib.array_utils.byte_bounds,
        owns_memory=lambda array: array.flags.owndata,
        wait=lambda: None,
        cublas=None,
        workspace=1 << 18,  # 1 MiB of float32: about a core's level-2 cache
    )


def _numpys_random(seeds: numpy.random.SeedSequence):
    generator = numpy.random.default_rng(seeds)
    return generator.bit_generator, generator


def _copy_numpys_bits(target, source) -> None:
    target.state = source.state


def _cuda() -> Device:
    try:
        import cupy

        # One real product: finding a GPU is no proof that the compiler and cuBLAS load.
        float((cupy.ones((2, 2)) @ cupy.ones((2, 2))).sum())
    except Exception as error:
        raise RuntimeError(
            "device 'cuda' needs a GPU with CuPy (pip install 'tinygen[cuda12]' or 'tinygen[cuda13]'), "
            f"and it does not work here: {type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        ) from None

    def random(seeds: numpy.random.SeedSequence):
        # CuPy's seeds are one 32-bit number; a fixed state size gives the same stream on every GPU. Philox
        # counts, so that where each thread begins needs no computing: every step of a training starts one.
        bits = cupy.random.Philox4x3210(int(seeds.generate_state(1)[0]), size=32 * 256)
        return bits, cupy.random.Generator(bits)

    def copy_bits(target, source) -> None:
        target._state[...] = source._state  # CuPy has no public name for it

    return Device(
        "cuda",
        cupy,
        to_host=cupy.asnumpy,
        random=random,
        copy_bits=copy_bits,
        byte_bounds=cupy.byte_bounds,
        owns_memory=lambda array: False,  # a view made by as_strided does not know whose it is
        wait=lambda: cupy.cuda.Device().synchronize(),
        cublas=lambda: ctypes.CDLL(f"libcublas.so.{cupy.cuda.runtime.runtimeGetVersion() // 1000}"),
        workspace=1 << 27,  # launches cost more than memory: few, large chunks
    )


# name -> function that makes the device when it is first asked for. Tests add a double of CuPy.
device_makers: dict[str, Callable[[], Device]] = {"cpu": _cpu, "cuda": _cuda}
_devices: dict[str, Device] = {}
_current: Device


def get_device(name: str) -> Device:
    """The device of that name, made at its first use.

    Raises ValueError for an unknown name and RuntimeError where the device does not work."""
    if name not in device_makers:
        raise ValueError(f"device: expected one of {sorted(device_makers)}, got {name!r}")
    if name not in _devices:
        _devices[name] = device_makers[name]()
    return _devices[name]


def set_device(name: str) -> None:
    """Compute on device `name`, "cpu" or "cuda", from now on. Errors: see `get_device`."""
    global _current
    _current = get_device(name)
    names = {key: value for key, value in vars(_current.module).items() if not key.startswith("_")}
    for stale in vars(xp).keys() - names.keys():
        if not stale.startswith("_"):
            delattr(xp, stale)
    vars(xp).update(names)


class device:
    """`with tg.device("cuda"):` computes there inside the block, and where it did before after it."""

    def __init__(self, name: str):
        self.name = name
        self._before: list[str] = []

    def __enter__(self) -> None:
        before = _current.name
        set_device(self.name)
        self._before.append(before)

    def __exit__(self, *error) -> None:
        set_device(self._before.pop())


def current_device() -> Device:
    """The device that `xp` computes on."""
    return _current


def on_gpu() -> bool:
    """Whether the current device is a GPU."""
    return _current.cublas is not None


def device_of(array) -> str:
    """The name of the device on which an array or a NumPy scalar lives; "" for what is neither."""
    if isinstance(array, numpy.generic):
        return "cpu"
    for made in _devices.values():
        if isinstance(array, made.module.ndarray):
            return made.name
    return ""


def form_of(x) -> str:
    """The dtype and shape of an array in words, for a message; the type of anything else."""
    return f"{x.dtype}{list(x.shape)}" if hasattr(x, "shape") else type(x).__name__


def to_host(array) -> numpy.ndarray:
    """The values of an array of any device in use as a NumPy array (on the CPU the array itself)."""
    return get_device(device_of(array) or "cpu").to_host(array)


def matmul(a, b, out=None):
    """a @ b for arrays of two or more axes, batch axes broadcast: every matrix product goes here."""
    if _products is not None:
        return _products(a, b, out)
    if not a.ndim == 2 == b.ndim:
        return xp.matmul(a, b, out=out)
    elements = a.size * b.shape[1] // 32  # a core multiplies 32 pairs of numbers while it moves one
    if elements < LARGE_PRODUCT or on_gpu():
        return xp.dot(a, b, out)  # the same product as by matmul, in half a microsecond less
    return _large_product(a, b, out, elements)


LARGE_PRODUCT = 1 << 17  # elements from which on there is a better way than one call


def _large_product(a, b, out, elements: int):
    """The product of two matrices on all cores, in the way that OpenBLAS computes fastest for layers of some
    hundred units and batches of about a hundred.

    A product by a transposed matrix, as in x̄ = ȳ Wᵀ, takes 0.9 of the time as the transpose of W ȳᵀ.

    OpenBLAS gives each of its threads some columns where there are no fewer than rows: then the cores write
    into the same rows of the result. Of halves that are higher than wide it gives each thread some rows. This
    takes 0.9 of the time, and at times, when cores disturb each other more, half of it, where each number is
    a sum of few products, as in W̄ = xᵀ ȳ; in longer sums, to prepare a for each half anew takes too long."""
    (rows, inner), columns = a.shape, b.shape[1]
    out = xp.empty((rows, columns), xp.result_type(a, b)) if out is None else out
    if b.flags.f_contiguous and rows < columns:
        out[...] = _large_product(b.T, a.T, None, elements).T
    elif threads.sharing and rows >= columns:
        share(lambda some: xp.dot(a[some], b, out[some]), rows, elements)
    elif threads.sharing:
        share(lambda some: xp.matmul(a, b[:, some], out=out[:, some]), columns, elements)
    elif inner <= rows <= columns < 2 * rows:
        for half in (slice(columns // 2), slice(columns // 2, None)):
            xp.matmul(a, b[:, half], out=out[:, half])
    else:
        xp.dot(a, b, out)
    return out


def share_images() -> None:
    """From now on share large work out to the threads of the CPU (see threads.py). Layers of convolutions say
    so where they are made, before anything is computed: a run that is resumed computes as it did before."""
    if not on_gpu():
        threads.start()


def share(function: Callable[[slice], Any], n: int, elements: int) -> list:
    """As `threads.share` on the CPU; a GPU has its own threads: function(slice(0, n)) alone."""
    return [function(slice(0, n))] if on_gpu() else threads.share(function, n, elements)


def by_rows(function: Callable, *arrays) -> None:
    """Call function for pieces of these arrays, a few rows of each, that stay in the cache from its first
    operation to its last; on all threads where that pays. One of a single row goes with every piece."""
    first = arrays[0]
    size = max(1, _current.workspace // (4 * max(1, first.size // max(1, len(first)))))

    def of(rows):
        for start in range(rows.start, rows.stop, size):
            piece = slice(start, min(start + size, rows.stop))
            function(*(array if len(array) == 1 else array[piece] for array in arrays))

    share(of, len(first), first.size)


def elementwise(function: Callable, *arrays):
    """function(*arrays, out), which computes element by element from arrays of one shape, into out, or into a
    new array where that is None. Large arrays of one floating dtype are shared out to threads."""
    first = arrays[0]
    small = not threads.sharing or getattr(first, "size", 1) < threads.LEAST
    if small or on_gpu() or first.dtype.kind != "f" or any(a.dtype != first.dtype for a in arrays):
        return function(*arrays, None)
    out = xp.empty_like(first)
    share(lambda rows: function(*(array[rows] for array in arrays), out[rows]), len(out), out.size)
    return out


def aligned_empty(n: int, dtype):
    """An array (n,), not initialized, that begins where a line of the cache does. Vectors that lie across two
    lines take a processor longer: an optimizer's step takes 7 % less in such arrays."""
    itemsize = xp.dtype(dtype).itemsize
    memory = xp.empty(n + _LINE // itemsize, dtype)
    first = -byte_bounds(memory)[0] % _LINE // itemsize
    return memory[first : first + n]


_LINE = 64  # bytes


def byte_bounds(array) -> tuple[int, int]:
    """The range of addresses that an array's elements lie in, (first, one past the last)."""
    return _current.byte_bounds(array)


def owns_memory(array) -> bool:
    """Whether all other arrays in the memory of this one are known to be views of it."""
    return _current.owns_memory(array)


# Recorded steps (see recording.py) -----------------------------------------------------------------------

_products: Callable | None = None  # what computes matrix products instead of the array module
_before_replays: list[Callable] | None = None  # what the host has to do before a replay of what is recorded


@contextlib.contextmanager
def products_by(matmul: Callable):
    """Inside the block matrix products go to matmul(a, b, out)."""
    global _products
    before, _products = _products, matmul
    try:
        yield
    finally:
        _products = before


@contextlib.contextmanager
def recording(before_replays: list[Callable], matmul: Callable):
    """Inside the block a step is recorded; to the list comes what the host has to do before each replay.
    There is no default generator but in blocks of generators that begin inside: nothing would keep its state
    where the recording knows it."""
    global _before_replays
    _before_replays = before_replays
    outside = _default_generators.pop(_current.name, None)
    try:
        with products_by(matmul):
            yield
    finally:
        _before_replays = None
        if outside is not None:
            _default_generators[_current.name] = outside


def is_recording() -> bool:
    """Whether a step is being recorded, so that nothing is computed yet."""
    return _before_replays is not None


def each_time(function: Callable[[], None]) -> None:
    """Call a function, which does something on the host, now; or, in a step that is recorded, before each of
    its replays."""
    if _before_replays is None:
        function()
    else:
        _before_replays.append(function)


def varying(compute: Callable[[], tuple[float, ...]], dtype) -> tuple:
    """The numbers that compute() makes on the host for this step, and changes nothing. In a step that is
    recorded they are arrays () of the device, which get their values before each replay."""
    found = compute()
    if _before_replays is None:
        return found
    numbers = tuple(xp.empty((), dtype) for _ in found)

    def fill():
        for number, value in zip(numbers, compute()):
            number.fill(value)

    _before_replays.append(fill)
    return numbers


# Random numbers ------------------------------------------------------------------------------------


class Generator:
    """Random numbers on the current device, as a function of a key of non-negative integers.

    Training makes a generator from (seed, step) for each step, so nothing random needs saving. Inside
    `with Generator(seed, step):` it draws wherever no other is passed."""

    def __init__(self, *key: int):
        if _before_replays is not None:
            raise RuntimeError(
                "Generator: a recorded step would start it anew each time; give it as an argument"
            )
        # SeedSequence pads with zeros: without the length, (0,) and (0, 0) would be one stream.
        self._bits, self._source = _current.random(numpy.random.SeedSequence((len(key), *key)))
        self.device = _current.name
        self._before: list[Generator | None] = []

    def __enter__(self) -> Generator:
        self._before.append(_default_generators.get(self.device))
        _default_generators[self.device] = self
        return self

    def __exit__(self, *error) -> None:
        _default_generators.pop(self.device, None)
        before = self._before.pop()
        if before is not None:
            _default_generators[self.device] = before

    def follow(self, other: Generator) -> None:
        """Draw from now on what the other one, of the same device, would draw."""
        _current.copy_bits(self._bits, other._bits)

    def normal(self, shape, dtype="float32"):
        """Draws from N(0, 1)."""
        return self._source.standard_normal(shape, dtype=dtype)

    def uniform(self, shape, dtype="float32"):
        """Draws from the uniform distribution on [0, 1)."""
        return self._source.random(shape, dtype=dtype)

    def integers(self, low: int, high: int, shape):
        """Integers (int64) from low to high - 1."""
        return self._source.integers(low, high, shape)

    def permutation(self, n: int):
        """The numbers 0 .. n-1 (int64) in random order."""
        return xp.argsort(self.uniform(n, "float64"))

    def bernoulli(self, p):
        """Zeros and ones, in p's shape and dtype, one with probability p."""
        return (self.uniform(p.shape, p.dtype) < p).astype(p.dtype)


_seed = 0
_default_generators: dict[str, Generator] = {}  # device name -> the generator that draws there
_host_generator: numpy.random.Generator | None = None


def seed(n: int) -> None:
    """Restart the default generator, which draws wherever none is passed, and that of initial weights, with
    a non-negative integer. They start with seed 0."""
    global _seed, _host_generator
    if not isinstance(n, int) or n < 0:
        raise ValueError(f"seed: n: expected an integer of at least 0, got {n!r}")
    _seed, _host_generator = n, None
    _default_generators.clear()


def default_generator() -> Generator:
    """The generator that draws wherever none is passed.

    Raises RuntimeError in a recorded step, outside of blocks of generators."""
    if _current.name not in _default_generators:
        if is_recording():
            raise RuntimeError(
                "default_generator: give the recorded step a Generator, and draw inside `with` it"
            )
        _default_generators[_current.name] = Generator(_seed)
    return _default_generators[_current.name]


def host_generator() -> numpy.random.Generator:
    """NumPy's generator that draws initial weights: a model starts from the same on every device."""
    global _host_generator
    if _host_generator is None:
        # A child of the seed, so that weights and the default generator's noise are independent.
        (child,) = numpy.random.SeedSequence(_seed).spawn(1)
        _host_generator = numpy.random.default_rng(child)
    return _host_generator


set_device(os.environ.get("TINYGEN_DEVICE", "cpu"))
