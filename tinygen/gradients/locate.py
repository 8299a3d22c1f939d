"""Where a wrong gradient comes from: the primitive, the input and the line.

f is called once more under an observer, and each recorded call of a primitive is checked alone, as f was, at
the values that it had there: the primitive is a function of its inputs, and a rule is right if it is the
gradient of that function. If the fault is in a derivative of higher order, so is what is checked; and a
rule whose own derivative is wrong is blamed only if the primitives that it calls are right.

Where every call passes, the fault is in how f uses them, and that is looked for.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable
from copy import copy

from ..autodiff import Call, Observer, Tensor, observed
from ..backend import numpy, xp
from .derivatives import CHANGED, Fault, Function, GradientError, check_derivatives
from .differences import KINK, STEEP, Variable, size_of
from .graph import input_name
from .patterns import pattern_of

RANDOM = "random function"
CHANGES = "changes between calls"
SINGLE = "single precision"
INFINITE = "not finite"
AROUND = "around the graph"
REPEATED = 1e-13  # how well values agree that are computed twice; GPUs add in any order


def locate(error: GradientError, order: int, f: Callable, function: Function, variables, values) -> None:
    """Say in the error which rules are wrong, or else what is wrong with f.

    order: up to which f was to be checked. function: calls f under frozen noise and state.
    values: what it gave first."""
    for variable in variables:
        variable.move(0)
    with numpy.errstate(all="ignore"):
        recording = _Recording(function)
        # Where f takes gradients itself, its gradient is one of a higher order of the primitives.
        search = _Search(order + recording.differentiates)
        for call in recording.calls:
            search.examine(call)
        if search.faults:
            error.located(list(search.faults.values()), search.passed, len(recording.calls))
        else:
            pattern, finding = _finding(error, f, function, variables, values, recording, search)
            error.explained(pattern, finding, search.passed, len(recording.calls))


class _Recording(Observer):
    """The calls of primitives, in a call of a function, that backward goes through.

    differentiates: whether the function takes gradients itself."""

    def __init__(self, function: Function):
        self.calls: list[_Alone] = []
        self.differentiates = False
        with observed(self):
            function()

    def called(self, call: Call) -> None:
        if call.node is not None:
            self.calls.append(_Alone(call))

    def reached(self, node, g) -> None:
        self.differentiates = True


class _Alone:
    """A recorded call of a primitive, as a function of its tracked inputs alone, in float64.

    variables: number of the input -> it.
    interrupted: whether the primitive is called with other values between a call and its backward pass."""

    interrupted = True

    def __init__(self, call: Call):
        self.primitive, self.static, self.place = call.primitive, call.static, call.place
        self.inputs = call.inputs
        self.outputs = call.out if isinstance(call.out, tuple) else (call.out,)
        self.tracked = [x for x, source in enumerate(call.node.sources) if source is not None]

    def start(self) -> None:
        self.function = self.primitive.function
        self.variables = {
            x: Variable(self.name(x), Tensor(self.inputs[x].astype("float64"), requires_grad=True))
            for x in self.tracked
        }

    def name(self, x: int) -> str:
        return input_name(self.primitive, x)

    def scaled(self, factor: float) -> _Alone:
        """The call with other values in its tracked inputs."""
        other = copy(self)
        other.inputs = [factor * value if x in self.tracked else value for x, value in enumerate(self.inputs)]
        other.start()
        return other

    def __call__(self) -> tuple[Tensor, ...]:
        out = self.call({x: variable.tensor for x, variable in self.variables.items()})
        if self.interrupted:
            # As in a loop. A rule that uses what its primitive saw last, and not what it saw in the call
            # whose gradient is asked for, is found out.
            self.call({x: 0.99 * variable.tensor.data for x, variable in self.variables.items()})
        return out

    def call(self, inputs: dict) -> tuple:
        out = self.function(*(inputs.get(x, value) for x, value in enumerate(self.inputs)), **self.static)
        return out if isinstance(out, tuple) else (out,)


# Calls, one by one --------------------------------------------------------------------------------------


class _Search:
    """For wrong rules.

    faults: (primitive, input, place of the call) -> the fault.
    kinks: places of calls at values where the primitive is not smooth, with its name.
    unchecked: places of calls that no check can be made of, and why."""

    def __init__(self, order: int):
        self.order, self.passed = order, 0
        self.faults: dict[tuple, Fault] = {}
        self.kinks: dict[str, str] = {}
        self.unchecked: dict[str, str] = {}

    def examine(self, call: _Alone) -> None:
        try:
            faults = self.faults_of(call, self.order)
        except (TypeError, ValueError, ArithmeticError) as error:
            self.unchecked[f"{call.primitive.name}, called at {call.place}"] = str(error)
            return
        self.passed += not faults
        for fault in faults:
            key = fault.primitive, fault.input, fault.where, fault.rule_at
            known = self.faults.get(key)
            self.faults[key] = known._replace(calls=known.calls + 1) if known else fault

    def faults_of(self, call: _Alone, order: int) -> list[Fault]:
        """The wrong rules behind a call: its own, or those of what its rules call."""
        call.start()
        first = [y.data.copy() for y in call()]
        if any(y.dtype != "float64" for y in first):
            raise TypeError("it gives no float64 for float64")
        if not same_values(call(), first):
            fault = "its forward function gives other values for the same inputs"
            return [self.fault(call, call.tracked[0], GradientError(fault, "", 1, None, CHANGES))]
        faults = {}
        for x in call.tracked:
            for fault in self.faults_of_rule(call, x, order):
                faults.setdefault((fault.primitive, fault.input, fault.rule_at), fault)
        return list(faults.values())

    def faults_of_rule(self, call: _Alone, x: int, order: int) -> list[Fault]:
        kinks: list[GradientError] = []
        others = [variable for y, variable in call.variables.items() if y != x]
        try:
            check_derivatives(call, [call.variables[x]], order, kinks, others)
        except GradientError as error:
            deeper = self.deeper(call, error) if error.order > 1 else []
            return deeper or [self.fault(call, x, error)]
        finally:
            for variable in call.variables.values():
                variable.move(0)
        if kinks:
            self.kinks[f"{call.primitive.name}, called at {call.place}"] = kinks[0].pattern
        return []

    def deeper(self, call: _Alone, error: GradientError) -> list[Fault]:
        """The faults of what is called in computing a derivative of a call, told as faults at its place."""
        name, place = call.primitive.name, call.place
        found = [f for c in _Recording(error.function).calls for f in self.faults_of(c, error.order - 1)]
        return [f._replace(where=place, within="" if f.primitive == name else name) for f in found]

    def fault(self, call: _Alone, x: int, error: GradientError) -> Fault:
        rule = call.primitive.rule(x)
        told = error.variable in (call.name(x), "") or error.pattern == CHANGED
        about = "" if told else f" with respect to {error.variable}"
        cause = error.__cause__ and error.__cause__.__cause__
        words = f"it failed: {type(cause).__name__}: {cause}" if cause else error.args[0] + about
        return Fault(
            call.primitive.name,
            call.name(x),
            call.place,
            rule.place,
            rule.formula,
            error.order,
            words,
            error.worst,
            pattern_of(call, x, error),
        )


def same_values(outputs, values: list) -> bool:
    """Whether outputs, Tensors or arrays, have the values that they had before."""
    for y, before in zip(outputs, values):
        y = y.data if isinstance(y, Tensor) else y
        differs = abs(y - before) > REPEATED * size_of([before])
        if y.shape != before.shape or differs.any():
            return False
    return True


# What is wrong where every rule is right ----------------------------------------------------------------


def _finding(error, f, function, variables, values, recording, search) -> tuple[str | None, str]:
    """A word for what is wrong with f, and a sentence."""
    checks = [
        lambda: _changed_in_place(error, function),
        lambda: _changes_between_calls(f, function, values),
        lambda: _kink(error, search),
        lambda: _single_precision(recording),
        lambda: _infinite(error, recording),
        lambda: _around_the_graph(error, function, variables),
    ]
    for check in checks:
        found = check()
        if found:
            return found
    unchecked = "".join(f"\n  not checked: {place}: {why}" for place, why in search.unchecked.items())
    return None, (
        "nor is there a kink, a random number, a change from call to call, an array changed in place or a "
        f"value that goes around the graph.{unchecked}"
    )


def _changed_in_place(error, function: Function):
    if error.pattern == CHANGED:
        return CHANGED, f"f changed the values of {error.variable} in place."
    watch = _Copies()
    with observed(watch):
        function()
    for call, name, array, before in watch.held:
        if not xp.array_equal(array, before, equal_nan=True):
            return CHANGED, (
                f"the {name} of {call.primitive.name}, called at {call.place}, was changed in place "
                "afterwards."
            )
    return None


class _Copies(Observer):
    """Of the arrays that recorded calls were given, and of those that all calls gave."""

    def __init__(self):
        self.held: list[tuple] = []

    def called(self, call: Call) -> None:
        outs = call.out if isinstance(call.out, tuple) else (call.out,)
        named = [("output", out) for out in outs]
        if call.node is not None:
            named += [(f"input {input_name(call.primitive, x)!r}", a) for x, a in enumerate(call.inputs)]
        for name, array in named:
            if isinstance(array, xp.ndarray):
                self.held.append((call, name, array, array.copy()))


def _changes_between_calls(f: Callable, function: Function, values: list):
    before = _random_states(f)
    again = [y.data.copy() for y in function()]
    drawn = [name for name, state in _random_states(f).items() if state != before[name]]
    if same_values(again, values) and same_values(function(), again):
        return None
    if drawn:
        return RANDOM, (
            f"f draws random numbers from {drawn[0]}, new ones in each call; it must draw them from the "
            "default generator or from one that it makes itself."
        )
    return CHANGES, (
        "f gives other values for the same inputs from call to call: it keeps a state, or random numbers of "
        "its own."
    )


def _random_states(f: Callable) -> dict[str, object]:
    """The states of the random number generators that f could draw from, by name."""
    states = {"the module random": random.getstate(), "numpy.random": str(_global_state())}
    if inspect.isfunction(f):
        held = inspect.getclosurevars(f)
        for name, value in {**held.globals, **held.nonlocals}.items():
            if isinstance(value, numpy.random.Generator):
                states[f"the generator {name!r}"] = value.bit_generator.state
    return states


def _global_state() -> tuple:
    name, keys, *rest = numpy.random.get_state()
    return name, keys.tobytes(), *rest


def _kink(error: GradientError, search: _Search):
    if error.pattern not in (KINK, STEEP):
        return None
    where = "".join(f"\n  {place}" for place in search.kinks)
    at = f"{error.variable}{list(error.index)}"
    if error.pattern == KINK:
        return KINK, f"f has a kink at {at}: its slopes below and above differ.{where}"
    return (
        STEEP,
        f"f is not smooth within a step of {at}; choose a point farther from kinks and poles.{where}",
    )


def _single_precision(recording: _Recording):
    for call in recording.calls:
        dtypes = [str(y.dtype) for y in call.outputs if y.dtype != "float64"]
        if dtypes:
            return (
                SINGLE,
                f"{call.primitive.name}, called at {call.place}, gives {dtypes[0]}, not float64.",
            )
    return None


def _infinite(error: GradientError, recording: _Recording):
    if error.got is None or math.isfinite(error.got):
        return None
    for call in recording.calls:
        if any(not xp.isfinite(y).all() for y in call.outputs):
            return INFINITE, (
                f"{call.primitive.name}, called at {call.place}, gives infinity or no number. f does not "
                "show it, but the gradient does: 0 times infinity is no number."
            )
    return None


def _around_the_graph(error: GradientError, function: Function, variables: list[Variable]):
    """A constant that a primitive is given, and that changes with an input, was computed from it by detach(),
    .data, no_grad() or outside of tinygen."""
    variable = next((v for v in variables if v.name == error.variable), variables[0])
    here = _Constants(function)
    variable.move(variable.steps)
    there = _Constants(function)
    variable.move(0)
    for (call, name, before), (_, _, after) in zip(here.given, there.given):
        if before.shape == after.shape and not xp.array_equal(before, after, equal_nan=True):
            return AROUND, (
                f"{name!r} of {call.primitive.name}, called at {call.place}, changes with {variable.name}, "
                "but was computed from it outside of the graph (by detach(), .data or under no_grad())."
            )
    if here.untracked and not same_values(there.untracked, here.untracked):
        return AROUND, (
            f"an output changes with {variable.name}, but was computed from it outside of the graph (by "
            "detach(), .data or under no_grad())."
        )
    return None


class _Constants(Observer):
    """What primitives were given that no gradient goes to, in a call of a function."""

    def __init__(self, function: Function):
        self.given: list[tuple] = []
        with observed(self):
            outputs = function()
        self.untracked = [y.data.copy() for y in outputs if not y.requires_grad]

    def called(self, call: Call) -> None:
        sources = call.node.sources if call.node else [None] * len(call.inputs)
        for x, (value, source) in enumerate(zip(call.inputs, sources)):
            if source is None and isinstance(value, xp.ndarray):
                self.given.append((call, input_name(call.primitive, x), value.copy()))
