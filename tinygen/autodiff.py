"""Reverse-mode automatic differentiation: the whole engine.

A computation is a graph. Calling a primitive on Tensors computes its output and records one `Node`:
for each input whose gradient is needed, where that gradient goes, by which rule, and the values that
the rule asked for. `backward` walks the nodes from the newest to the oldest. At a node with output y
and input x it turns the gradient of the result with respect to y, written g or ȳ, into the one with
respect to x by the primitive's vector-Jacobian product (VJP),

    x̄ = (∂y/∂x)ᵀ ȳ,

and adds up what reaches the same place over several paths.

Each VJP is written once and read twice. In a plain backward pass it is called on raw arrays. Under
`create_graph=True` it is called on Tensors, so that it is recorded like any other computation and the
gradient can be differentiated again.

Read in this order: Tensor, Node, primitive and the `record` in it, then _propagate, backward and grad.
"""

from __future__ import annotations

import inspect
import itertools
import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from functools import update_wrapper
from heapq import heappop, heappush
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from . import backend
from .backend import xp

# Calls from these files are told as calls of whoever called them: a user wants to see the line in the model.
_HERE = Path(__file__).parent
_OWN_FOLDERS = [_HERE / folder for folder in ("ops", "nn", "gradients")]
_OWN_FILES = {__file__, *(str(path) for folder in _OWN_FOLDERS for path in folder.glob("*.py"))}

# One clock for everything: a node and a change of an array in place each take a tick. A node whose
# tick is older than the change of an array that its rules need must not be used any more.
_clock = itertools.count(1)
_recording = True


# Tensors -------------------------------------------------------------------------------------------


class Tensor:
    """An array whose computations are recorded, so that they can be differentiated.

    data: an array, a number or nested lists of numbers; copied to the current device. Arrays keep
        their dtype; what is made of Python numbers is float32.
    requires_grad: whether `backward` shall leave a gradient in `.grad`; needs a floating dtype.
    name: shown in messages.

    Operators, indexing and methods (`sum`, `reshape`, ...) follow NumPy; they are installed by
    `tinygen.ops`. There is no item assignment: graphs stay right because values do not change.
    """

    __slots__ = ("__weakref__", "_data", "_leaf", "_source", "grad", "name")
    __array_ufunc__ = None  # so that `array * tensor` is ours
    __hash__ = object.__hash__  # by identity, though == compares elementwise

    def __init__(self, data, requires_grad: bool = False, name: str | None = None):
        self._data = _own_array(data)
        self._source = None  # where its gradient goes: a Leaf, a Node, an Output of one, or nowhere
        self.grad: Tensor | None = None
        self.name = name
        self.requires_grad = requires_grad

    @property
    def data(self):
        """The raw array. Assigning copies new values of the same shape into it, and is noticed by
        `backward`; writing into the array behind the Tensor's back is not."""
        return self._data

    @data.setter
    def data(self, values) -> None:
        values = _array(values, "data")
        _refuse_device("data", self._data)
        if values.shape != self.shape:
            raise ValueError(f"data: expected shape {self.shape}, got {values.shape}")
        if "buif".find(values.dtype.kind) > "buif".find(self.dtype.kind):
            raise TypeError(f"data: expected values that {self.dtype} can hold, got {values.dtype}")
        self._data[...] = values
        note_change(self._data)

    @property
    def requires_grad(self) -> bool:
        return self._source is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._leaf_only("requires_grad")
        if value and self.dtype.kind != "f":
            raise TypeError(f"requires_grad: expected a floating dtype, got {self.dtype}")
        leaf = getattr(self, "_leaf", None)  # one as long as it fits: older graphs lead to it too
        if value and (leaf is None or (leaf.shape, leaf.dtype) != (self.shape, self.dtype)):
            self._leaf = Leaf(self)
        self._source = self._leaf if value else None

    def __reduce__(self):
        self._leaf_only("copy")
        return Tensor, (self._data, self.requires_grad, self.name)

    def _leaf_only(self, what: str) -> None:
        if type(self._source) in (Node, Output):
            raise ValueError(f"{what}: this Tensor was computed and has a history; detach() it first")

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self):
        return self._data.dtype

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    def backward(
        self, gradient=None, inputs=None, retain_graph: bool = False, create_graph: bool = False
    ) -> None:
        """Add the gradient of this Tensor to the `.grad` of every leaf that it was computed from.

        gradient: the gradient with respect to this Tensor, of its shape; may be left out for one
            element, where it is 1.
        inputs: the Tensors to give a gradient to, instead of all leaves; others cost nothing.
        retain_graph: keep the graph for another backward pass instead of freeing it on the way.
        create_graph: record this pass too, so that the gradients can be differentiated; keeps the
            graph.

        Raises ValueError for a gradient that does not fit, and RuntimeError for a graph that was freed or
        whose arrays were changed, and for a rule that failed; no `.grad` has been changed then."""
        if inputs is not None:
            inputs = list(dict.fromkeys(_tensors(inputs, "inputs")))
        gradients = _propagate([self], [gradient], inputs, create_graph, retain_graph or create_graph)
        with _recorded(create_graph):
            for tensor, gradient in gradients:
                tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient

    def detach(self) -> Tensor:
        """The same values, without history."""
        return _tensor(self._data)

    def numpy(self):
        """A copy of the values as a NumPy array on the host."""
        return backend.to_host(self._data).copy()

    def item(self) -> float | int | bool:
        """The one value of a Tensor of one element, as a Python number."""
        return self._data.item()

    def to(self, device: str) -> Tensor:
        """The same values on another device. Errors as in `get_device`; a Tensor with history cannot
        move (ValueError)."""
        self._leaf_only("to")
        host = backend.to_host(self._data)
        with backend.device(device):
            return Tensor(host, self.requires_grad, self.name)

    def __array__(self, dtype=None, copy=None):
        raise TypeError("a Tensor does not turn into an array by itself: use .data or .numpy()")

    def __len__(self) -> int:
        return len(self._data)

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self._data)

    def __int__(self) -> int:
        return int(self._data)

    def __repr__(self) -> str:
        name = f", name={self.name!r}" if self.name else ""
        needs = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({backend.to_host(self._data)!r}{name}{needs})"


def _own_array(data):
    """A copy of `data` on the current device, float32 where it came as Python numbers."""
    array = _array(data, "data")
    if not hasattr(data, "dtype") and array.dtype.kind in "iuf":
        array = array.astype("float32")
    return array


def _array(data, argument: str):
    """A copy of `data` on the current device. Raises TypeError for what are no numbers."""
    if type(data) is Tensor:
        data = data._data
    if not backend.device_of(data):
        data = backend.numpy.asarray(data)
    if not isinstance(data, backend.numpy.ndarray):  # what is on the host may go anywhere
        _refuse_device(argument, data)
    if data.dtype.kind not in "biuf":
        raise TypeError(f"{argument}: expected numbers, got dtype {data.dtype}")
    return xp.array(data)


def _refuse_device(argument: str, array) -> None:
    """Raise TypeError for an array of another device than the current one."""
    device, current = backend.device_of(array), backend.current_device().name
    if device not in ("", current) and not isinstance(array, backend.numpy.generic):
        raise TypeError(f"{argument}: expected an array on device {current!r}, got one on device {device!r}")


def _tensor(array, source=None) -> Tensor:
    """A Tensor around an array that the engine made: no copy, no check."""
    tensor = Tensor.__new__(Tensor)
    tensor._data = array
    tensor._source = source
    tensor.grad = None
    tensor.name = None
    return tensor


def _tensors(value, argument: str) -> list[Tensor]:
    """One Tensor or a sequence of them as a list; TypeError for anything else."""
    if type(value) is Tensor:
        return [value]
    tensors = list(value) if hasattr(value, "__iter__") else [value]
    for tensor in tensors:
        if type(tensor) is not Tensor:
            raise TypeError(f"{argument}: expected Tensors, got {type(tensor).__name__}")
    return tensors


class _recorded:
    """Inside the block, computations are recorded or not."""

    def __init__(self, on: bool):
        self._on = on
        self._before: list[bool] = []

    def __enter__(self) -> None:
        global _recording
        self._before.append(_recording)
        _recording = self._on

    def __exit__(self, *error) -> None:
        global _recording
        _recording = self._before.pop()


class no_grad(_recorded):
    """`with tg.no_grad():`, or `@tg.no_grad()` before a function: nothing inside is recorded."""

    def __init__(self):
        super().__init__(False)

    def __call__(self, function: Callable) -> Callable:
        def without_recording(*args, **kwargs):
            with no_grad():
                return function(*args, **kwargs)

        return update_wrapper(without_recording, function)


def is_grad_enabled() -> bool:
    """Whether computations are recorded: everywhere but inside `no_grad`."""
    return _recording


# Changes in place ----------------------------------------------------------------------------------

# What was changed: memory -> range of addresses, (first, one past the last) -> (tick of the last change, weak
# reference to the array that holds the memory).
_changes: dict[int | None, dict[tuple[int, int], tuple[int, weakref.ref]]] = {}
_last_change = 0


def note_change(array) -> None:
    """Tell the engine that an array was changed in place: a graph that still needs its old values
    refuses to run backward. The data setter calls this, and so does whoever writes into a Tensor's array."""
    backend.each_time(lambda: _note_change(array))


def _note_change(array) -> None:
    global _last_change
    holder = _holder(array)
    memory, bounds = _memory(holder), backend.byte_bounds(array)
    _last_change = next(_clock)
    # Once the memory is freed, its addresses may come to mean other arrays.
    freed = weakref.ref(holder, lambda _: _forget(memory, bounds))
    _changes.setdefault(memory, {})[bounds] = _last_change, freed


def _forget(memory: int | None, bounds: tuple[int, int]) -> None:
    _changes[memory].pop(bounds)
    if not _changes[memory]:
        del _changes[memory]


def _holder(array):
    """The array that all views of the same memory lead to."""
    while isinstance(array.base, xp.ndarray):
        array = array.base
    return array


def _memory(holder) -> int | None:
    """A number for memory in which there are no arrays but views of its holder; None for any other."""
    return id(holder) if backend.owns_memory(holder) else None


def _changed_since(value, tick: int) -> bool:
    """Whether some of the memory that an array lies in, or one of a tuple's, was changed after that tick."""
    if type(value) is not xp.ndarray:
        return type(value) is tuple and any(_changed_since(part, tick) for part in value)
    memory = _memory(_holder(value))
    if memory is not None and memory not in _changes and None not in _changes:
        return False
    low, high = backend.byte_bounds(value)
    return any(
        start < high and low < stop and when > tick
        for ranges in _changes.copy().values()
        for (start, stop), (when, _) in ranges.copy().items()  # an array freed meanwhile takes its entry out
    )


# Tools that look on --------------------------------------------------------------------------------

_observer: Observer | None = None
_module: Any = None  # the innermost module whose forward method runs


class Call(NamedTuple):
    """A call of a primitive, as an observer sees it.

    inputs: the raw arrays and numbers. out: the raw output, or a tuple of them. node: what was recorded, None
        if nothing was. place: file and line of the call."""

    primitive: Primitive
    inputs: tuple
    static: dict[str, Any]
    out: Any
    node: Node | None
    place: str


class ObserverError(Exception):
    """What an observer raises to end the computation; it passes through backward as it is."""


class Observer:
    """What is told of each step of a computation; a tool overrides what it wants to know."""

    def calling(self, primitive: Primitive) -> None:
        """A primitive is going to be called."""

    def called(self, call: Call) -> None:
        """A primitive was called."""

    def reached(self, node: Node, g) -> None:
        """In a backward pass the gradient g of a node's output is complete, and its rules will run."""

    def pulled(self, node: Node, x: int, x_bar) -> None:
        """The rule for input number x of a node has given x̄."""

    def finished(self) -> None:
        """The backward pass is over, or has failed."""


@contextmanager
def observed(observer: Observer):
    """Inside the block the observer is told of everything; one that looked on before is told nothing."""
    global _observer
    before, _observer = _observer, observer
    try:
        yield
    finally:
        _observer = before


class inside:
    """Inside the block primitives are called by this module: their nodes name it."""

    def __init__(self, module):
        self.module = module

    def __enter__(self) -> None:
        global _module
        self.before, _module = _module, self.module

    def __exit__(self, *error) -> None:
        global _module
        _module = self.before


# The graph -----------------------------------------------------------------------------------------


class Leaf:
    """Where the gradients of a Tensor go that was given, not computed. It does not keep the Tensor alive:
    once that is gone, nobody waits for its gradient."""

    __slots__ = ("dtype", "shape", "tensor")

    def __init__(self, tensor: Tensor):
        self.tensor = weakref.ref(tensor)
        self.shape, self.dtype = tensor.shape, tensor.dtype


class Node:
    """One call of a primitive: what its backward pass needs, and nothing else.

    plan: the primitive, and the rules to run.
    sources: for each input, where its gradient goes: a Leaf, the Node that made the input, or one `Output`
        of a Node with several; None where no gradient is needed.
    record: of the call, as a Rule describes it; None in place of what no rule of the plan asks for.
    tick: when the node was made; what it was computed from is older.
    static: the static arguments of the call.
    shape, dtype: of the output (tuples of them where the primitive returns a tuple).
    module: whose `forward` called the primitive; None outside of modules.
    code, instruction: where the primitive was called; `place` says it in words.

    When the graph is freed, sources, record and static become None.
    """

    __slots__ = (
        *("code", "dtype", "instruction", "module", "plan"),
        *("record", "shape", "sources", "static", "tick"),
    )

    @property
    def place(self) -> str:
        """The file and line of the call."""
        return _place(self.code, self.instruction)


def _place(code, instruction: int) -> str:
    lines = code.co_lines()
    line = next((n for start, stop, n in lines if start <= instruction < stop), None)
    return f"{code.co_filename}:{line or code.co_firstlineno}"


class Output(NamedTuple):
    """One output of a Node that has several: where the gradient of that output goes."""

    node: Node
    index: int

    @property
    def shape(self):
        return self.node.shape[self.index]

    @property
    def dtype(self):
        return self.node.dtype[self.index]


class Rule:
    """The VJP of a primitive with respect to one input.

    needs: where the values that it asks for stand in the record of a call, which is the list
        [inputs..., output, static arguments..., shapes that some rule asks for...]."""

    def __init__(self, primitive: Primitive, parameter: str, function: Callable, formula: str):
        self.primitive, self.parameter = primitive, parameter
        self.function, self.formula = function, formula
        names = list(inspect.signature(function).parameters)
        if names[:1] != ["g"]:
            raise TypeError(
                f"the rule of {primitive.name} for {parameter!r} must take g, the gradient of the output, "
                f"first; it takes ({', '.join(names)})"
            )
        self.needs = [primitive.position(name, parameter) for name in names[1:]]

    @property
    def place(self) -> str:
        """The file and line of the rule's definition."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(self.function)


class Plan:
    """What a call of a primitive keeps, and which rules run backward, when certain inputs are tracked.

    steps: for each tracked input, (its number, its rule, what of the record the rule takes besides g).
    needs: the positions in the record that some of these rules ask for.
    unneeded: the positions of what no rule asks for, and is made by nodes or leaves of the graph. (Constants
        stay in the record: tools make the values of a graph again from them and the leaves.)"""

    def __init__(self, primitive: Primitive, tracked: Sequence[bool]):
        self.primitive = primitive
        numbers = list(itertools.compress(range(len(tracked)), tracked))
        self.steps = [(x, *_on_record(primitive.rule(x), x)) for x in numbers]
        self.needs = {need for x in numbers for need in primitive.rule(x).needs}
        size = len(primitive.inputs) + 1 + len(primitive.static) + len(primitive.shapes)
        kept = self.needs | ({0} if primitive.variadic else set(range(len(tracked))) - set(numbers))
        self.unneeded = [position for position in range(size) if position not in kept]
        self.keeps = len(self.unneeded) < size


def _on_record(rule: Rule, x: int) -> tuple[Callable, Any]:
    """The rule for input number x as a function of g and of what it takes of the record, and what that is:
    the value at one position, all of it, or None, where the rule is a function of g alone."""
    function, needs = rule.function, rule.needs
    if not needs:
        return function, None
    if len(needs) == 1 and needs[0] != WHICH:
        return function, needs[0]
    return lambda g, record: function(g, *(x if need == WHICH else record[need] for need in needs)), slice(
        None
    )


# Primitives ----------------------------------------------------------------------------------------

# The primitives that tinygen itself defines, by name; the tests and the atlas go through them.
registry: dict[str, Callable] = {}

WHICH = -1  # stands for `i`, the number of the input, in what a rule of a primitive over a list needs


class Primitive:
    """What is known of a primitive: its forward function, its parameters and its rules."""

    def __init__(self, forward: Callable, broadcasts: bool, domain):
        self.forward, self.broadcasts, self.domain = forward, broadcasts, domain
        self.function: Callable  # what records its calls
        self.name = forward.__name__.strip("_")
        parameters = inspect.signature(forward).parameters.values()
        kinds = {parameter.kind for parameter in parameters}
        self.variadic = inspect.Parameter.VAR_POSITIONAL in kinds
        self.inputs = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        self.static = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        if inspect.Parameter.VAR_KEYWORD in kinds:
            raise TypeError(f"{self.name}: a primitive names each static argument; it has no **")
        if self.variadic and len(self.inputs) > 1:
            raise TypeError(f"{self.name}: *{self.inputs[-1]} must be its only positional parameter")
        for p in parameters:
            if p.kind is not p.KEYWORD_ONLY and p.default is not p.empty:
                raise TypeError(f"{self.name}: {p.name} is differentiable, so it has no default")
            if p.name in ("g", "out", "i"):
                raise TypeError(f"{self.name}: {p.name} means something else in rules; name it otherwise")
        self.rules: dict[str, Rule] = {}
        self.shapes: list[int] = []  # the inputs whose shapes some rule asks for
        self.plans: dict[int, Plan] = {}
        self.extended = bool(self.static) or self.variadic  # records hold more than inputs and output

    def vjp(self, parameter: str, rule: Callable | None = None, *, formula: str = ""):
        """Register the VJP with respect to one input; left without a rule, a decorator for one."""
        if rule is None:
            return lambda function: self.vjp(parameter, function, formula=formula)
        if self.variadic or parameter not in self.inputs:
            raise TypeError(
                f"{self.name}: expected one of its differentiable parameters ({', '.join(self.inputs)}), "
                f"got {parameter!r}" + ("; a primitive over a list takes vjp_each" if self.variadic else "")
            )
        self.rules[parameter] = Rule(self, parameter, rule, formula)
        self.plans.clear()
        return rule

    def vjp_each(self, rule: Callable | None = None, *, formula: str = ""):
        """Register the VJP with respect to input number `i` of a primitive over a list."""
        if rule is None:
            return lambda function: self.vjp_each(function, formula=formula)
        if not self.variadic:
            raise TypeError(f"{self.name} takes no list (*xs); register the rule of an input with vjp")
        self.rules[self.inputs[0]] = Rule(self, self.inputs[0], rule, formula)
        return rule

    def rule(self, x: int) -> Rule:
        """The rule for input number x."""
        name = self.inputs[0 if self.variadic else x]
        if name not in self.rules:
            raise NotImplementedError(
                f"{self.name} has no rule for {name!r}, so nothing can be differentiated through it; "
                f"register one with {self.name}.{'vjp_each' if self.variadic else 'vjp'}"
            )
        return self.rules[name]

    def position(self, name: str, parameter: str) -> int:
        """Where the record of a call holds what the rule for `parameter` asks for as `name`."""
        names = [*self.inputs, "out", *self.static]
        if name in names:
            return names.index(name)
        if self.variadic and name == "i":
            return WHICH
        x = name.removesuffix("_shape")
        if x != name and x in self.inputs and not self.variadic:
            if self.inputs.index(x) not in self.shapes:
                self.shapes.append(self.inputs.index(x))
                self.extended = True
            return len(names) + self.shapes.index(self.inputs.index(x))
        raise TypeError(
            f"the rule of {self.name} for {parameter!r} asks for {name!r}; there is g, {', '.join(names)}, "
            + ("i" if self.variadic else f"{self.inputs[0]}_shape")
        )

    def plan(self, sources: list, tracked: int) -> Plan:
        """The plan for the inputs that have a source, made once for each pattern `tracked` of them."""
        plan = Plan(self, [source is not None for source in sources])
        if not self.variadic:
            self.plans[tracked] = plan
        return plan

    def extend(self, record: list, static: dict[str, Any], plan: Plan, sources: list) -> list:
        """The whole record of a call, from its inputs and output."""
        *inputs, out = record
        statics = [static.get(name, default) for name, default in self.static.items()]
        if self.variadic:
            if 0 not in plan.needs:
                inputs = [x if source is None else None for x, source in zip(inputs, sources)]
            return [tuple(inputs), out, *statics]
        return [*record, *statics, *(getattr(inputs[x], "shape", ()) for x in self.shapes)]

    def check_static(self, static: dict[str, Any]) -> None:
        """Refuse what cannot be static; NumPy's scalars become Python's, which are weak in promotion."""
        for name, value in static.items():
            if name in self.inputs:
                raise TypeError(f"{self.name}: {name} is differentiable: give it by position, not by name")
            if type(value) is Tensor:
                raise TypeError(
                    f"{self.name}: {name} is static, nothing is differentiated with respect to it: "
                    "expected plain values, got a Tensor"
                )
            if isinstance(value, backend.numpy.generic):
                static[name] = value.item()
            if isinstance(value, backend.numpy.ndarray) and not isinstance(value, xp.ndarray):
                raise self.foreign(name, value)

    def plain(self, x, position: int):
        """What the forward function gets for an argument that is neither Tensor nor array."""
        if type(x) in (float, int, bool):
            return x
        if isinstance(x, backend.numpy.generic):
            # What NumPy makes of arrays without axes. But np.sqrt(2.0) and np.int64(3), made of Python's
            # numbers, would turn float32 operands into float64: beside others they count as Python's.
            weak = x.dtype == "float64" or x.dtype.kind != "f"
            return x.item() if weak and len(self.inputs) > 1 else xp.asarray(x)
        if isinstance(x, xp.ndarray):
            return xp.asarray(x)  # np.memmap and such
        names = self.inputs if not self.variadic else self.inputs * (position + 1)
        raise self.foreign(names[position] if position < len(names) else f"argument {position}", x)

    def foreign(self, name: str, x) -> TypeError:
        device = backend.device_of(x)
        return TypeError(
            f"{self.name}: {name}: expected a Tensor, a number or an array on device "
            f"{backend.current_device().name!r}, got "
            + (f"one on device {device!r}" if device else type(x).__name__)
        )

    def array(self, out):
        """An output as an array: NumPy gives a scalar where there are no axes."""
        if backend.device_of(out) not in ("", backend.current_device().name):
            raise self.foreign("inputs", out)
        if out is None or type(out) is list:
            raise TypeError(f"{self.name}: its forward function must return an array or a tuple of arrays")
        return xp.asarray(out)

    def arrays(self, out: tuple) -> tuple:
        return tuple(map(self.array, out))

    def wrapped(self, out):
        """An output that has no history as a Tensor, or a tuple of them."""
        return tuple(map(_tensor, self.arrays(out))) if type(out) is tuple else _tensor(self.array(out))

    def explained(self, error: Exception, inputs: Sequence) -> Exception:
        """An error of the forward function, with the primitive's name and what it was given."""
        for name, x in zip(itertools.cycle(self.inputs), inputs):
            if backend.device_of(x) not in ("", backend.current_device().name):
                return self.foreign(name, x)
        kind = next((k for k in (IndexError, ValueError) if isinstance(error, k)), TypeError)
        got = ", ".join(
            f"{name} {x.dtype}{list(x.shape)}" if hasattr(x, "shape") else f"{name} {x!r}"
            for name, x in zip(itertools.cycle(self.inputs), inputs)
        )
        return kind(f"{self.name}: {error}; got {got}")

    def report(self, args: tuple, static: dict[str, Any], out, node: Node | None) -> None:
        """Tell the observer of a call of the function `record`."""
        inputs = tuple(x._data if type(x) is Tensor else x for x in args)
        frame = sys._getframe(2)
        while frame.f_code.co_filename in _OWN_FILES:
            frame = frame.f_back
        _observer.called(Call(self, inputs, static, out, node, _place(frame.f_code, frame.f_lasti)))


def primitive(forward: Callable | None = None, *, broadcasts: bool = False, domain=None) -> Callable:
    """Make a differentiable function of a function on raw arrays.

    forward: its positional parameters are differentiable arrays, the keyword-only ones static. It must be
        pure: no state, no random numbers, no writing into its arguments. With one parameter `*xs` it takes
        a list of arrays. It may return a tuple of arrays.
    broadcasts: the inputs broadcast; the engine sums each gradient back to its input's shape.
    domain: where the inputs may lie, in the words of `tinygen.gradients.strategies`.

    The result is called like `forward`, on Tensors or on raw arrays. Its `.vjp(parameter, rule,
    formula=...)` registers the rule of an input, its `.primitive` is what is known of it. A rule must not
    write into what it is given: others use it too."""
    if forward is None:
        return lambda function: primitive(function, broadcasts=broadcasts, domain=domain)
    self = Primitive(forward, broadcasts, domain)
    plans, new, own_files = self.plans, Tensor.__new__, _OWN_FILES
    base = 1 if self.variadic else 2  # `tracked` has a binary digit for each input; counts those of a list

    def record(*args, **static):
        # Every operation of every model passes here: it is written for speed.
        ndarray = xp.ndarray
        raw, sources, tracked = [], [], 0
        if static:
            self.check_static(static)
        for x in args:
            tracked *= base
            if type(x) is Tensor:
                source = x._source
                if source is not None:
                    tracked += 1
                sources.append(source)
                raw.append(x._data)
            else:
                sources.append(None)
                raw.append(x if type(x) is ndarray else self.plain(x, len(raw)))
        if _observer is not None:
            _observer.calling(self)
        try:
            out = forward(*raw, **static) if static else forward(*raw)
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            raise self.explained(error, raw) from error
        if not (tracked and _recording):
            if _observer is not None:
                self.report(args, static, out, None)
            return self.wrapped(out) if Tensor in map(type, args) else out
        several = False
        if type(out) is not ndarray:
            several = type(out) is tuple
            out = self.arrays(out) if several else self.array(out)

        raw.append(out)
        plan = plans.get(tracked) or self.plan(sources, tracked)
        if self.extended:
            raw = self.extend(raw, static, plan, sources)
        frame = sys._getframe(1)
        code = frame.f_code
        while code.co_filename in own_files:
            frame = frame.f_back
            code = frame.f_code
        node = Node()
        node.plan = plan
        node.sources = sources
        if plan.keeps:
            for position in plan.unneeded:
                raw[position] = None
            node.record = raw
        else:
            node.record = None
        node.static = static
        node.code = code
        node.instruction = frame.f_lasti
        node.module = _module
        node.tick = next(_clock)
        if several:
            node.shape = tuple(x.shape for x in out)
            node.dtype = tuple(x.dtype for x in out)
        else:
            node.shape = out.shape
            node.dtype = out.dtype
        if _observer is not None:
            self.report(args, static, out, node)
        if several:
            return tuple(_tensor(x, Output(node, k)) for k, x in enumerate(out))
        tensor = new(Tensor)
        tensor._data = out
        tensor._source = node
        tensor.grad = None
        tensor.name = None
        return tensor

    update_wrapper(record, forward)
    record.__name__ = record.__qualname__ = self.name
    record.primitive, record.vjp, record.vjp_each = self, self.vjp, self.vjp_each
    self.function = record
    if forward.__module__.startswith("tinygen."):
        registry[self.name] = record
    return record


# The backward pass ---------------------------------------------------------------------------------


def grad(
    outputs,
    inputs,
    grad_outputs=None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of the outputs (of their sum, if there are several) with respect to the inputs.

    outputs, inputs: a Tensor or a sequence of them; inputs may be leaves or computed.
    grad_outputs: the gradient with respect to each output, of its shape; None stands for 1 at an output of
        one element.
    create_graph, retain_graph: as in `Tensor.backward`; the graph is kept where either is true.
    allow_unused: give None for an input that the outputs do not depend on, instead of an error.

    Returns one Tensor for each input, of its shape and dtype. `.grad` is not touched. Raises as
    `Tensor.backward`, and ValueError for an unused input."""
    outputs, inputs = _tensors(outputs, "outputs"), _tensors(inputs, "inputs")
    if grad_outputs is None:
        grad_outputs = [None] * len(outputs)
    elif not isinstance(grad_outputs, (list, tuple)):
        grad_outputs = [grad_outputs]
    if len(grad_outputs) != len(outputs):
        raise ValueError(f"grad_outputs: expected one for each of {len(outputs)}, got {len(grad_outputs)}")
    retain = create_graph or bool(retain_graph)
    gradients = _propagate(outputs, grad_outputs, inputs, create_graph, retain, allow_unused)
    return tuple(gradient for _, gradient in gradients)


def _propagate(
    outputs: list[Tensor],
    seeds: Sequence,
    inputs: list[Tensor] | None,
    create_graph: bool,
    retain_graph: bool,
    allow_unused: bool = False,
) -> list[tuple[Tensor, Tensor | None]]:
    """Pairs (tensor, its gradient) for the inputs, or else for all leaves. Changes no `.grad`.

    The nodes that have received a gradient wait in a heap, and the newest goes first. Whatever could still
    send it more would be newer, so by then its gradient is complete."""
    seeds = [_seed(output, seed, create_graph) for output, seed in zip(outputs, seeds)]
    given = {id(seed._data if create_graph else seed) for seed in seeds}
    wanted, needed = set(), None
    if inputs is not None:
        wanted = {_wanted(x, position) for position, x in enumerate(inputs)}
        needed, reached = _leading_to(wanted, outputs)
        if not allow_unused:
            _refuse_unused(inputs, reached)
    gradients: dict[Any, Any] = {}  # Node or Leaf -> the sum of what has reached it
    sums: set[Leaf] = set()  # those whose gradient is a sum made here, which grows in place
    found: dict[Any, Any] = {}  # wanted Node or Output -> its gradient, when it is complete
    heap: list[tuple[int, Node]] = []
    lone, lone_gradient = None, None  # a node beside the heap, through which none of a chain has to go
    observer = _observer

    with _recorded(create_graph), ExitStack() as at_the_end:
        if observer is not None:
            at_the_end.callback(observer.finished)
        for output, seed in zip(outputs, seeds):
            _receive(output._source, seed, gradients, heap)
        while heap or lone is not None:
            if lone is not None and not (heap and heap[0][0] < -lone.tick):
                node, g, lone = lone, lone_gradient, None
            else:
                node = heappop(heap)[1]
                g = gradients.pop(node)
            if not node.shape and type(g) is not Tensor:
                g = xp.asarray(g)  # NumPy makes scalars of 0-d results
            sources = node.sources
            if sources is None:
                raise _freed(node)
            record = _lifted(node) if create_graph else node.record
            if node.tick < _last_change:
                _refuse_changed(node, needed)
            if wanted:
                found.update(_parts(node, g, wanted))
            steps = node.plan.steps
            if needed is not None:
                steps = [step for step in steps if sources[step[0]] in needed]
            if observer is not None:
                observer.reached(node, g)
            try:
                for x, rule, taken in steps:
                    source = sources[x]
                    x_bar = rule(g) if taken is None else rule(g, record[taken])
                    if observer is not None:
                        observer.pulled(node, x, x_bar)
                    if type(source) is Node:
                        if x_bar.shape != source.shape or x_bar.dtype is not source.dtype:
                            x_bar = _fitted(x_bar, source, node.plan.primitive)
                        if source is lone:
                            lone_gradient = lone_gradient + x_bar
                        elif source in gradients:
                            gradients[source] = gradients[source] + x_bar
                        elif lone is None:
                            lone, lone_gradient = source, x_bar
                        else:
                            gradients[source] = x_bar
                            heappush(heap, (-source.tick, source))
                    else:
                        if x_bar.shape != source.shape or x_bar.dtype is not source.dtype:
                            x_bar = _fitted(x_bar, source, node.plan.primitive)
                        if source in sums:
                            gradients[source] += x_bar
                        elif source in gradients:
                            gradients[source] = gradients[source] + x_bar
                            sums.add(source)
                        else:
                            _receive(source, x_bar, gradients, heap)
            except ObserverError:
                raise
            except Exception as error:
                rule = node.plan.primitive.rule(x)
                raise RuntimeError(
                    f"backward: the rule of {rule.primitive.name} for {rule.parameter!r}, defined at "
                    f"{rule.place}, failed: {error}; the primitive was called at {node.place}"
                ) from error
            if steps and not retain_graph:
                node.sources = node.record = node.static = record = None
    found.update(gradients)  # the Leaves
    if inputs is None:
        leaves = [(leaf.tensor(), gradient) for leaf, gradient in found.items()]
        return [(tensor, _owned(gradient, given)) for tensor, gradient in leaves if tensor is not None]
    gradients = [found.get(x._source) for x in inputs]
    return [(x, None if g is None else _owned(g, given)) for x, g in zip(inputs, gradients)]


def _receive(source, x_bar, gradients: dict, heap: list) -> None:
    """Add a gradient to what has reached its source; with the first, a Node begins to wait."""
    if type(source) is Output:
        node, index = source
        parts = gradients.get(node)
        if parts is None:
            parts = gradients[node] = [None] * len(node.shape)
            heappush(heap, (-node.tick, node))
        parts[index] = x_bar if parts[index] is None else parts[index] + x_bar
    elif source in gradients:
        gradients[source] = gradients[source] + x_bar
    else:
        gradients[source] = x_bar
        if type(source) is Node:
            heappush(heap, (-source.tick, source))


def _wanted(x: Tensor, position: int):
    if x._source is None:
        raise ValueError(
            f"inputs: number {position}, a Tensor of shape {x.shape}, has requires_grad=False; expected True"
        )
    return x._source


def _seed(output: Tensor, seed, create_graph: bool):
    """The gradient to start from at an output: a raw array, or a Tensor under create_graph."""
    if output._source is None:
        raise RuntimeError(
            "backward: this Tensor depends on none with requires_grad=True, or was computed under no_grad()"
        )
    if seed is None:
        if output.size != 1:
            raise ValueError(
                f"gradient: an output of shape {output.shape} needs one; only for one element is it 1"
            )
        seed = xp.ones(output.shape, output.dtype)
    _refuse_device("backward: outputs", output._data)
    if type(seed) is not Tensor:
        _refuse_device("gradient", seed)
        seed = _tensor(xp.asarray(seed))
    _refuse_device("gradient", seed._data)
    if seed.shape != output.shape:
        raise ValueError(f"gradient: expected the output's shape {output.shape}, got {seed.shape}")
    if seed.dtype != output.dtype:
        seed = seed.astype(output.dtype)
    return seed if create_graph else seed._data


def _leading_to(wanted: set, outputs: list[Tensor]) -> tuple[set, set]:
    """The sources below the outputs through which gradients flow to reach the wanted ones, and those of
    the wanted that are reached."""
    nodes, reached, stack = set(), set(), [output._source for output in outputs]
    while stack:
        node = stack.pop()
        if node in wanted:
            reached.add(node)
        if type(node) is Output:
            node = node.node
        if type(node) is Node and node not in nodes:
            if node.sources is None:
                raise _freed(node)
            nodes.add(node)
            stack += node.sources
    needed = set(wanted)
    for node in sorted(nodes, key=attrgetter("tick")):
        if any(source in needed for source in node.sources):
            needed.add(node)
            if type(node.dtype) is tuple:
                needed.update(Output(node, k) for k in range(len(node.shape)))
    return needed, reached


def _parts(node: Node, g, wanted: set) -> list[tuple[Any, Any]]:
    """The pairs (source, gradient) of a node that are wanted."""
    pairs = [(node, g)]
    if type(node.dtype) is tuple:
        pairs = [(Output(node, k), part) for k, part in enumerate(g) if part is not None]
    return [(source, part) for source, part in pairs if source in wanted]


def _refuse_changed(node: Node, needed: set | None) -> None:
    """Raise RuntimeError if an array that a rule will use was changed after the node was made."""
    changed = {k for k, value in enumerate(node.record or ()) if _changed_since(value, node.tick)}
    for x, *_ in node.plan.steps if changed else ():
        rule = node.plan.primitive.rule(x)
        if changed.intersection(rule.needs) and (needed is None or node.sources[x] in needed):
            raise RuntimeError(
                f"backward: an array that {rule.primitive.name}, called at {node.place}, needs for the "
                f"gradient of {rule.parameter!r} was changed in place since (by an optimizer's step or "
                "an assignment to .data); run backward before the change, or compute the output again "
                "after it"
            )


def _lifted(node: Node) -> list | None:
    """The record of a node with Tensors of the graph in it, so that what a rule computes has a history."""
    primitive, sources, record = node.plan.primitive, node.sources, node.record
    if record is None:
        return None

    def lift(value, source):
        return value if source is None or value is None else _tensor(value, source)

    inputs, (out, *rest) = record[: len(primitive.inputs)], record[len(primitive.inputs) :]
    if not primitive.variadic:
        inputs = map(lift, inputs, sources)
    elif inputs[0] is not None:
        inputs = [tuple(map(lift, inputs[0], sources))]
    if type(out) is tuple:
        out = tuple(_tensor(part, Output(node, k)) for k, part in enumerate(out))
    else:
        out = lift(out, node)
    return [*inputs, out, *rest]


def _fitted(x_bar, source, primitive: Primitive):
    """A rule's result in the shape and dtype of its input; ValueError if it does not fit."""
    if x_bar.dtype.kind == "c":
        raise ValueError(f"it returned complex numbers, expected {source.dtype}")
    if x_bar.shape != source.shape:
        if not (primitive.broadcasts and _broadcasts_to(source.shape, x_bar.shape)):
            raise ValueError(f"it returned shape {x_bar.shape}, expected its input's, {source.shape}")
        new = len(x_bar.shape) - len(source.shape)  # axes that broadcasting put in front
        grown = [new + axis for axis, size in enumerate(source.shape) if size != x_bar.shape[new + axis]]
        x_bar = x_bar.sum(axis=(*range(new), *grown)).reshape(source.shape)
    return x_bar if x_bar.dtype == source.dtype else x_bar.astype(source.dtype)


def _broadcasts_to(shape: tuple[int, ...], larger: tuple[int, ...]) -> bool:
    behind = larger[len(larger) - len(shape) :]
    return len(shape) <= len(larger) and all(a in (1, b) for a, b in zip(shape, behind))


def _freed(node: Node) -> RuntimeError:
    return RuntimeError(
        "backward: the graph was freed by an earlier backward pass; pass retain_graph=True to that one to "
        f"keep it (reached {node.plan.primitive.name}, called at {node.place})"
    )


def _owned(gradient, given: set[int]) -> Tensor:
    """A gradient as a Tensor whose array is no view, and is given to nobody else."""
    source = None
    if type(gradient) is Tensor:
        gradient, source = gradient._data, gradient._source
    array = xp.asarray(gradient)
    if array.base is not None or id(array) in given:
        array = array.copy()
    given.add(id(array))
    return _tensor(array, source)


def _refuse_unused(inputs: list[Tensor], reached: set) -> None:
    for position, tensor in enumerate(inputs):
        if tensor._source not in reached:
            raise ValueError(
                f"inputs: the output does not depend on number {position}, a Tensor of shape {tensor.shape}"
                + (f" named {tensor.name!r}" if tensor.name else "")
            )
