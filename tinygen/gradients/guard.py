"""Guard a computation: stop where NaN or infinity first arises, and where an array was changed in place."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy  # what is told of an array is told on the host

from .. import autodiff
from ..autodiff import WHICH, Call, Node, Observer, ObserverError, Tensor, observed
from ..backend import to_host, xp
from ..nn.module import Module
from .graph import input_name


class GuardError(ObserverError):
    """What a guard has found.

    primitive: the name of the one at fault. where: file and line of its call. module: whose `forward` made
        the call; None outside of modules.
    input: the name of the input that it was given not finite, or whose rule is at fault; None where it is the
        output."""

    def __init__(self, fault: str, primitive: str, where: str, module: Module | None, input: str | None):
        super().__init__(f"guard: {fault}")
        self.primitive, self.where, self.module, self.input = primitive, where, module, input


@contextmanager
def guard() -> Iterator[None]:
    """`with tg.gradients.guard():` stops a computation, forward and backward, as soon as it goes wrong.

    Raises GuardError
    - where a primitive makes NaN or infinity of finite inputs, or is given it from outside. What is made
      inside a rule, and selected away there, does not count;
    - where a rule makes NaN or infinity of a finite gradient, or a sum of gradients is too large;
    - where a rule has used an array that is no longer as it was in the forward pass, whoever has changed it.
      What the engine knows to be changed it refuses itself, by RuntimeError.

    The whole computation must be inside. It takes time and memory: each output is looked at, and what rules
    need is copied. Outside of the block there is no cost. One guard inside another changes nothing."""
    if isinstance(autodiff._observer, _Guard):
        yield
    else:
        with observed(_Guard()):
            yield


class _Record(list):
    """The record of a node that also knows how the values in it were that rules need."""

    def __init__(self, node: Node):
        super().__init__(node.record)
        self.before = {need: _copy(self[need]) for need in node.plan.needs - {WHICH}}


class _Guard(Observer):
    def called(self, call: Call) -> None:
        if (fault := _fault(call.out)) and not _inside_backward():
            raise _of_call(call, fault)
        if call.node is not None and call.node.record is not None:
            call.node.record = _Record(call.node)

    def reached(self, node: Node, g) -> None:
        if fault := _fault(g):
            reason = "backward was given it, or a sum of finite gradients is too large"
            raise _of_node(node, f"{fault} in the gradient of the output of {_named(node)}: {reason}")

    def pulled(self, node: Node, x: int, x_bar) -> None:
        rule = node.plan.primitive.rule(x)
        if changed := _changed(node, rule.needs):
            raise _of_node(
                node,
                f"an array was changed in place between forward and backward: {changed} {_named(node)}",
                rule.parameter,
            )
        if fault := _fault(x_bar):
            formula = f" ({rule.formula})" if rule.formula else ""
            raise _of_node(
                node,
                f"the first {fault} in backward: made by the rule for {rule.parameter!r}{formula} of "
                f"{_named(node)}, of a finite gradient",
                rule.parameter,
            )


def _of_call(call: Call, fault: str) -> GuardError:
    """What to say of a call whose output is not finite."""
    primitive, module = call.primitive, autodiff._module
    named = _words(primitive.name, call.place, module)
    inputs = {input_name(primitive, x): value for x, value in enumerate(call.inputs)}
    for name, x in inputs.items():
        if bad := _fault(x):
            text = f"{bad} came from outside in the input {name!r} of {named}"
            return GuardError(text, primitive.name, call.place, module, name)
    ranges = ", ".join(f"{name} {_range(x)}" for name, x in inputs.items())
    text = f"the first {fault} in the output of {named}; its inputs are finite: {ranges}"
    return GuardError(text, primitive.name, call.place, module, None)


def _of_node(node: Node, text: str, input: str | None = None) -> GuardError:
    return GuardError(text, node.plan.primitive.name, node.place, node.module, input)


def _named(node: Node) -> str:
    return _words(node.plan.primitive.name, node.place, node.module)


def _words(name: str, place: str, module: Module | None) -> str:
    inside = "" if module is None else f" in {repr(module).splitlines()[0]}"
    return f"{name}, called at {place}{inside}"


def _inside_backward() -> bool:
    """Whether a rule runs now, and what is computed is a step of it."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not autodiff._propagate.__code__:
        frame = frame.f_back
    return frame is not None


# Arrays -------------------------------------------------------------------------------------------------


def _arrays(value) -> list:
    """The raw arrays and numbers in a value: one, a Tensor, or several with None where one is missing."""
    parts = value if isinstance(value, (tuple, list)) else (value,)
    return [part.data if type(part) is Tensor else part for part in parts if part is not None]


def _fault(value) -> str:
    """What in it is not finite, in words; "" where all is."""
    for array in map(xp.asarray, _arrays(value)):
        if array.dtype.kind == "f" and not bool(xp.isfinite(array).all()):
            nans, infinities = int(xp.isnan(array).sum()), int(xp.isinf(array).sum())
            which = " and ".join(name for name, n in {"NaN": nans, "infinity": infinities}.items() if n)
            return f"{which} ({nans + infinities} of {array.size} elements)"
    return ""


def _range(x) -> str:
    x = xp.asarray(x)
    if not x.size:
        return "is empty"
    return f"from {float(x.min()):.4g} to {float(x.max()):.4g}"


def _copy(value):
    if isinstance(value, tuple):
        return tuple(map(_copy, value))
    return value.copy() if isinstance(value, xp.ndarray) else value


def _changed(node: Node, needs: list[int]) -> str:
    """Which of the values that a rule needs is not as it was, in words; "" where all are."""
    if type(node.record) is not _Record:
        return ""
    primitive = node.plan.primitive
    names = [f"the input {name!r}" for name in primitive.inputs]
    names += ["the output", *(f"the argument {name!r}" for name in primitive.static)]
    for need in (need for need in needs if need in node.record.before):
        for array, before in zip(_arrays(node.record[need]), _arrays(node.record.before[need])):
            if isinstance(array, xp.ndarray) and not bool(xp.array_equal(array, before, equal_nan=True)):
                differs = (array != before) & ~(xp.isnan(array) & xp.isnan(before))
                index = tuple(numpy.argwhere(to_host(differs))[0].tolist())
                return f"{names[need]} at {list(index)} was {before[index]} and is {array[index]} in"
    return ""
