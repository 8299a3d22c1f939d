"""A strict double of CuPy, made of NumPy arrays: what computes with it without complaint runs on a GPU.

`cupy` is the double of the module. Its arrays wrap NumPy's and compute as CuPy's do, but

- nothing turns into a NumPy array by itself, and nothing mixes with one: CuPy's messages refuse it, also
  where CuPy would silently compute on the host or copy an index over;
- there are only the functions, keyword arguments and methods in cupy_names.py, all of which CuPy has;
- reductions and single elements are 0-d arrays, integer arrays as indices wrap around where they are out
  of range, a view made by `as_strided` does not know its base, singular matrices are no error, and an array
  compares itself with anything instead of leaving it to the other operand;
- while a stream captures, operations are noted in a graph (strict_graphs.py), and happen when it is launched;
  products of matrices, transfers and linear algebra are refused then;
- whatever waits for the device and brings values to the host counts as a transfer: `count_transfers`
  collects these, `forbid_transfers` makes an error of each.

Functions that tinygen has no use for are left out.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType, SimpleNamespace

import numpy as np
import strict_graphs as graphs
from cupy_names import (
    ATTRIBUTES,
    COMPARISONS,
    CONSTANTS,
    CUBLAS,
    IN_PLACE,
    LINALG,
    METHODS,
    OF_AN_ARRAY,
    OF_ARRAYS,
    OPERATORS,
    OTHERS,
    QUESTIONS,
    RANDOM,
    UFUNCS,
    UNARY,
    WAITING,
)

from tinygen import autodiff, backend

# Transfers ----------------------------------------------------------------------------------------------

# Transfers from here were asked for by whoever called.
_PLUMBING = (__file__, backend.__file__, autodiff.__file__)

_records: list[list[str]] = []
_forbidden = 0


@contextmanager
def count_transfers() -> Iterator[list[str]]:
    """Gives a list, to which every transfer inside the block adds what it was and where it was asked for."""
    made: list[str] = []
    _records.append(made)
    try:
        yield made
    finally:
        _records.pop()


@contextmanager
def forbid_transfers() -> Iterator[None]:
    """Inside the block every transfer raises RuntimeError, which tells what and where it was."""
    global _forbidden
    _forbidden += 1
    try:
        yield
    finally:
        _forbidden -= 1


def _transfer(what: str) -> None:
    """Note that values come to the host."""
    graphs.refuse_transfer("D2H")
    frame = sys._getframe(1)
    while frame.f_code.co_filename in _PLUMBING:
        frame = frame.f_back
    place = f"{what} at {frame.f_code.co_filename}:{frame.f_lineno}"
    if _forbidden:
        raise RuntimeError(f"transfer from the device to the host: {place}")
    for made in _records:
        made.append(place)


# In and out of the wrapper ------------------------------------------------------------------------------


def _new(host: np.ndarray, base=None) -> ndarray:
    array = object.__new__(ndarray)
    array._host, array.base, array.graph = host, base, graphs.recorded
    return array


def _do(compute, sources, written=(), finish=None):
    """The result of an operation on `sources` that writes into the host arrays `written`."""
    return graphs.do(compute, sources, written, finish or _device)


def _host(x):
    """What NumPy computes with in place of an argument."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if type(x) in (list, tuple):
        return type(x)(map(_host, x))
    return x


def _operand(x):
    """The same for what must be an array or a scalar."""
    if isinstance(x, (ndarray, bool, int, float, complex, np.generic)):
        return _host(x)
    raise TypeError(f"Unsupported type {type(x)}")


def _array(x, parameter: str) -> np.ndarray:
    """The same for what must be an array."""
    if isinstance(x, ndarray):
        return x._host
    got = "numpy.ndarray" if isinstance(x, np.ndarray) else type(x).__name__
    raise TypeError(
        f"Argument '{parameter}' has incorrect type (expected cupy._core.core._ndarray_base, got {got})"
    )


def _device(out, *sources):
    """A result of NumPy's, wrapped; `sources` are the arguments that it came from, and may be a view of."""
    if isinstance(out, (tuple, list)):
        kind = list if type(out) is list else tuple
        return kind(_device(part, *sources) for part in out)
    if out is None:
        return None
    out, base = np.asarray(out), None
    for source in sources:
        if isinstance(source, ndarray) and out is source._host:
            return source
        if isinstance(source, ndarray) and out.base is not None and np.may_share_memory(out, source._host):
            base = source if source.base is None else source.base
    return _new(out, base)


def _is_mask(part) -> bool:
    return isinstance(part, ndarray) and part.dtype == bool


def _index(index, shape: tuple[int, ...]) -> tuple:
    """An index for NumPy: integer arrays wrap around, and one element is a 0-d array."""
    parts = index if isinstance(index, tuple) else (index,)
    for part in parts:
        if isinstance(part, (list, np.ndarray)):
            raise TypeError(f"Unsupported type {type(part)}")
    spans = [0 if part is None or part is ... else part.ndim if _is_mask(part) else 1 for part in parts]
    axis, plain = 0, []
    for part, span in zip(parts, spans):
        if isinstance(part, ndarray):
            part = part._host if _is_mask(part) else part._host % shape[axis]
        axis += span if part is not ... else len(shape) - sum(spans)
        plain.append(part)
    return tuple(plain) if any(part is ... for part in plain) else (*plain, ...)


def _arrays_in(index) -> list:
    return [part for part in (index if isinstance(index, tuple) else (index,)) if isinstance(part, ndarray)]


# Arrays -------------------------------------------------------------------------------------------------


class ndarray:
    """An array on the device."""

    __slots__ = ("__weakref__", "_host", "base", "graph")
    __hash__ = None
    __array_priority__ = 100

    def __init__(self, shape, dtype=float, order="C"):
        self._host, self.base, self.graph = np.empty(shape, dtype, order), None, graphs.recorded

    # To the host: only when asked, and never unnoticed.

    def get(self):
        _transfer("get()")
        return self._host.copy()

    def item(self):
        _transfer("item()")
        return self._host.item()

    def tolist(self):
        _transfer("tolist()")
        return self._host.tolist()

    def __bool__(self):
        _transfer("bool()")
        return bool(self._host)

    def __int__(self):
        _transfer("int()")
        return int(self._host)

    def __float__(self):
        _transfer("float()")
        return float(self._host)

    def __repr__(self):
        _transfer("repr()")
        return repr(self._host)

    def __str__(self):
        _transfer("str()")
        return str(self._host)

    def __format__(self, format_spec):
        _transfer("format()")
        return format(self._host, format_spec)

    def __reduce__(self):
        _transfer("pickling")
        return _new, (self._host.copy(),)

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy "
            "array explicitly."
        )

    # NumPy's functions of it are the device's.

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        out = kwargs.pop("out", (None,))
        return getattr(vars(cupy)[ufunc.__name__], method)(*inputs, out=out[0], **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        return vars(cupy)[function.__name__](*args, **kwargs)

    # Elements.

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        if any(map(_is_mask, index if isinstance(index, tuple) else (index,))):
            _transfer("reading by a mask")
        return _do(lambda: self._host[_index(index, self.shape)], (self, *_arrays_in(index)))

    def __setitem__(self, index, value):
        if isinstance(value, (list, np.ndarray)) and np.size(value) != 1:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        plain = value.item() if isinstance(value, np.ndarray) else _operand(value)

        def assign():
            self._host[_index(index, self.shape)] = plain

        _do(assign, (self, value, *_arrays_in(index)), [self._host])

    # The rest of the operators.

    def __matmul__(self, other):
        return NotImplemented if _leaves_to(other) else cupy.matmul(self, other)

    def __rmatmul__(self, other):
        return cupy.matmul(other, self)

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    @property
    def T(self):
        return _device(self._host.T, self)

    @property
    def data(self):
        """The address in the memory of the device."""
        return SimpleNamespace(ptr=self._host.ctypes.data)


def _leaves_to(other) -> bool:
    """Whether an operator is the other operand's business (NEP 13)."""
    return getattr(other, "__array_ufunc__", True) is None


def _operator(ufunc, reflected=False):
    def operator(self, other):
        if _leaves_to(other):
            return NotImplemented
        return ufunc(other, self) if reflected else ufunc(self, other)

    return operator


# Functions ----------------------------------------------------------------------------------------------


class Ufunc:
    """A ufunc of the device."""

    def __init__(self, name: str):
        self.__name__, self._ufunc = name, getattr(np, name)

    def __call__(self, *args, out=None, **kwargs):
        wrong = {key: value for key, value in kwargs.items() if key not in ("dtype", "casting")}
        if wrong:
            raise TypeError(f"Wrong arguments {wrong}")
        plain = None if out is None else _array(out, "out")
        operands = list(map(_operand, args))
        written = [] if out is None else [plain]
        return _do(lambda: self._ufunc(*operands, out=plain, **kwargs), (out, *args), written)

    def at(self, a, indices, b):
        """a[indices] = ufunc(a[indices], b), where indices may repeat."""
        if self.__name__ not in ("add", "maximum", "minimum"):
            raise NotImplementedError(f"`{self.__name__}.at` is not supported yet")
        target, values = _array(a, "a"), _operand(b)
        sources = (a, b, *_arrays_in(indices))
        _do(lambda: self._ufunc.at(target, _index(indices, a.shape), values), sources, [target])


def _flat(args) -> list:
    """The arguments, with what is in lists."""
    return [x for arg in args for x in (arg if isinstance(arg, (list, tuple)) else [arg])]


def _checker(name: str, signature: str):
    """A function that does nothing, but refuses arguments that do not fit the signature."""
    check = eval(f"lambda {signature}: None", {"np": np})
    check.__name__ = check.__qualname__ = name
    return check


def _function(name: str, signature: str, function, of_an_array=False, finish=_device):
    """The device's function of that name, computed by a function of NumPy's."""
    check = _checker(name, signature)
    parameters = check.__code__.co_varnames

    def on_device(*args, **kwargs):
        check(*args, **kwargs)
        given = {**dict(zip(parameters, args)), **kwargs}
        for parameter, x in given.items():
            if isinstance(x, np.ndarray) or (of_an_array and parameter == parameters[0]):
                _array(x, parameter)
        if name in WAITING or (name == "repeat" and isinstance(given["repeats"], ndarray)):
            _transfer(f"{name}()")
        if name in ("empty", "empty_like"):  # no operation
            return graphs.allocated(finish(function(*map(_host, args), **kwargs)))
        if name in CUBLAS:
            graphs.refuse_library("cuBLAS")
        if name in LINALG:
            graphs.refuse_library("cuSOLVER")
        if name == "einsum" and len(args) > 2:  # which ends in a product of matrices
            graphs.refuse_library("cuBLAS")
        if name in ("concatenate", "stack") and len(args[0]) > 8:  # with a table of addresses
            graphs.refuse_transfer("H2D")
        hosts = list(map(_host, args))
        plain = {key: _host(value) for key, value in kwargs.items()}
        changed = [*args[:1]] if name in IN_PLACE else []
        changed = [x._host for x in (*changed, kwargs.get("out")) if isinstance(x, ndarray)]
        sources = (*_flat(args), *kwargs.values())
        return _do(lambda: function(*hosts, **plain), sources, changed, finish)

    on_device.__name__ = on_device.__qualname__ = name
    on_device.__signature__ = inspect.signature(check)
    return on_device


def _answer(out, *sources):
    """What a question is answered with, as it is."""
    return out


# What computes otherwise than NumPy.


def _take(a, indices, axis=None, out=None):
    return np.take(a, indices, axis, out, mode="wrap")


def _take_along_axis(a, indices, axis):
    return np.take_along_axis(a, indices % a.shape[axis], axis)


def _or_nan(function):
    """The same, but NaN for matrices that are singular."""

    def solve(a, *b):
        try:
            return function(a, *b)
        except np.linalg.LinAlgError as error:
            if "Singular" not in str(error):
                raise
            return np.full_like(b[0] if b else a, np.nan)

    return solve


def _where(condition, x=None, y=None):
    if x is None or y is None:
        raise NotImplementedError("where with one argument waits for the device: use nonzero")
    return np.where(condition, x, y)


OTHERWISE = {
    "take": _take,
    "take_along_axis": _take_along_axis,
    "inv": _or_nan(np.linalg.inv),
    "solve": _or_nan(np.linalg.solve),
    "where": _where,
}


def _of(module, name: str):
    return OTHERWISE.get(name) or getattr(module, name)


# Kernels, whose C++ is Python, but for types.


class ElementwiseKernel:
    """A kernel of CuPy's; T is the dtype of the arrays."""

    def __init__(self, in_params: str, out_params: str, operation: str, name: str):
        self.name = name
        self._inputs, self._outputs = _declared(in_params), _declared(out_params)
        self._code = [part.strip().removeprefix("T ") for part in operation.split(";") if part.strip()]

    def __call__(self, *args):
        n = len(self._inputs)
        assert len(args) in (n, n + len(self._outputs)), f"{self.name}: {len(args)} arguments"
        (dtype,) = {x.dtype for x in args if isinstance(x, ndarray)}
        hosts, written = list(map(_operand, args[:n])), [_array(x, self.name) for x in args[n:]]

        def compute():
            values = {**KERNEL_FUNCTIONS, "T": lambda x: np.asarray(x).astype(dtype)}
            values |= zip(self._inputs, (x if isinstance(x, np.ndarray) else dtype.type(x) for x in hosts))
            values |= zip(self._outputs, (x.copy() for x in written))
            for statement in self._code:
                exec(statement, values)
            results = [values[name] for name in self._outputs]
            for target, result in zip(written, results):
                target[...] = result
            assert all(result.dtype == dtype for result in results)
            return None if written else results[0]

        return _do(compute, args, written)


class ReductionKernel:
    """A kernel of CuPy's that adds up."""

    def __init__(self, in_params, out_params, map_expr, reduce_expr, post_map_expr, identity, name):
        assert (reduce_expr, identity) == ("a + b", "0")
        (output,) = _declared(out_params)
        assert post_map_expr == f"{output} = a"
        self._inputs, self._code = _declared(in_params), map_expr

    def __call__(self, *args, axis=None, keepdims=False):
        hosts = [_array(x, "args") for x in args]

        def compute():
            values = {**KERNEL_FUNCTIONS, **dict(zip(self._inputs, hosts))}
            return np.sum(eval(self._code, values), axis=axis, keepdims=keepdims)

        return _do(compute, args)


KERNEL_FUNCTIONS = {
    **{name: getattr(np, name) for name in ("exp", "log1p", "sqrt", "fabs")},
    **{"max": np.maximum, "min": np.minimum},
}


def _declared(params: str) -> list[str]:
    """The names in "T x, T y"."""
    return [param.split()[1] for param in params.split(",")]


# At the border.


def array(obj, dtype=None, copy=True, order="K"):
    if isinstance(obj, ndarray):
        return _do(lambda: np.array(obj._host, dtype=dtype, order=order, copy=copy or None), (obj,))
    graphs.refuse_transfer("H2D")
    host = np.array(obj, dtype=dtype, order=order)
    if host.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    return _new(host)


def asarray(a, dtype=None, order=None):
    return array(a, dtype, False, order or "K")


def asnumpy(a):
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def byte_bounds(a):
    return np.lib.array_utils.byte_bounds(_array(a, "a"))


def as_strided(x, shape=None, strides=None):
    # CuPy makes it of the mere address.
    view = _new(np.lib.stride_tricks.as_strided(_array(x, "x"), shape, strides))
    view.graph = x.graph
    return view


# Random numbers.


class Philox4x3210:
    """A source of random bits, whose state is in the memory of the device."""

    def __init__(self, seed=None, *, size=-1):
        self._bits = np.random.Philox(seed)
        self._state = _new(self._numbers())

    def _numbers(self) -> np.ndarray:
        state = self._bits.state
        parts = [*state["state"].values(), state["buffer"]]
        rest = [state[name] for name in ("buffer_pos", "has_uint32", "uinteger")]
        return np.concatenate([*parts, np.array(rest, "uint64")])

    def draw(self, name: str, *args, **kwargs):
        """A draw from the state in the device's memory, which it changes."""
        numbers = self._state._host
        pos, has, uinteger = map(int, numbers[10:])
        self._bits.state = {
            **self._bits.state,
            **{"state": {"counter": numbers[:4], "key": numbers[4:6]}, "buffer": numbers[6:10]},
            **{"buffer_pos": pos, "has_uint32": has, "uinteger": uinteger},
        }
        drawn = getattr(np.random.Generator(self._bits), name)(*args, **kwargs)
        numbers[...] = self._numbers()
        return drawn


class Generator:
    """Draws from distributions."""

    def __init__(self, bit_generator: Philox4x3210):
        self._bits = bit_generator

    def __getattr__(self, name: str):
        if name not in RANDOM:
            raise AttributeError(f"'Generator' object has no attribute {name!r}")
        bits = self._bits
        found = weakref.ref(bits)  # a graph knows the address of the state and does not keep it

        def draw(*args, **kwargs):
            return found().draw(name, *args, **kwargs)

        def on_device(*args, **kwargs):
            _checker(name, RANDOM[name])(*args, **kwargs)
            hosts, plain = list(map(_host, args)), {key: _host(value) for key, value in kwargs.items()}
            return _do(lambda: draw(*hosts, **plain), (bits._state, *args), [bits._state._host])

        return on_device


# The module -----------------------------------------------------------------------------------------------


def _module() -> ModuleType:
    names = {name: getattr(np, name) for name in CONSTANTS}
    names |= {name: Ufunc(name) for name in UFUNCS}
    names |= {name: _function(name, text, _of(np, name), True) for name, text in OF_AN_ARRAY.items()}
    names |= {name: _function(name, text, _of(np, name)) for name, text in {**OF_ARRAYS, **OTHERS}.items()}
    names |= {
        name: _function(name, text, getattr(np, name), finish=_answer) for name, text in QUESTIONS.items()
    }
    linalg = {name: _function(name, text, _of(np.linalg, name), True) for name, text in LINALG.items()}
    module = ModuleType("cupy")
    module.__file__ = __file__.removesuffix("cupy.py")  # with which both its files begin
    vars(module).update(
        names,
        ndarray=ndarray,
        array=array,
        asarray=asarray,
        asnumpy=asnumpy,
        byte_bounds=byte_bounds,
        ElementwiseKernel=ElementwiseKernel,
        ReductionKernel=ReductionKernel,
        linalg=SimpleNamespace(**linalg),
        lib=SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=as_strided)),
        random=SimpleNamespace(Generator=Generator, Philox4x3210=Philox4x3210),
        cuda=SimpleNamespace(
            Device=lambda: SimpleNamespace(synchronize=lambda: None),
            Stream=graphs.Stream,
            MemoryPool=lambda: SimpleNamespace(malloc=None),
            using_allocator=lambda allocator: nullcontext(),
            runtime=SimpleNamespace(runtimeGetVersion=lambda: 13020),
        ),
    )
    return module


cupy = _module()

for _name, _ufunc in OPERATORS.items():
    _ufunc = getattr(cupy, _ufunc)
    setattr(ndarray, f"__{_name}__", _operator(_ufunc))
    setattr(ndarray, f"__r{_name}__", _operator(_ufunc, reflected=True))
    setattr(ndarray, f"__i{_name}__", lambda self, other, ufunc=_ufunc: ufunc(self, other, out=self))
for _name, _ufunc in {**COMPARISONS, **UNARY}.items():
    # Comparisons are never left to the other operand.
    _ufunc = getattr(cupy, _ufunc)
    setattr(ndarray, f"__{_name}__", lambda self, *other, ufunc=_ufunc: ufunc(self, *other))
for _name, _text in METHODS.items():
    _text = f"self, {_text}".rstrip(", ")
    setattr(ndarray, _name, _function(_name, _text, getattr(np.ndarray, _name), True))
for _name in ATTRIBUTES:
    setattr(ndarray, _name, property(lambda self, name=_name: getattr(self._host, name)))
