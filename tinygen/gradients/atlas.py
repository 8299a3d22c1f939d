"""The atlas: every primitive, the formulas of its gradients, and how far these are off, measured now.

Each primitive is called on random inputs inside the domain that it declares. Its gradients, and theirs in
turn, are compared with central differences as `check_gradients` does it, and the largest error is kept.

An error is relative to the numbers compared, or, where these are small, to those that the function computes
with. A check lets pass what is up to 1e-9, and all that is left of it in a right rule is rounding: steps of
1e-5 magnify it by as much.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy  # curves are drawn on the host

from .. import ops
from ..autodiff import Tensor, grad, registry
from ..backend import Generator, to_host, xp
from .check import GradientError, check_gradients
from .derivatives import Derivative
from .differences import DIRECTIONS, SMALL, TOLERANCE, Comparison, Variable, distance

ORDERS = (1, 2)
EXAMPLES = 25  # for each primitive

# What static arguments a function of one number is drawn for.
CURVES: dict[str, dict] = {
    "clip": {"a_min": -1.0, "a_max": 1.0},
    "elu": {"alpha": 1.0},
    "leaky_relu": {"slope": 0.2},
}
REACH = 4.0  # curves are drawn from −4 to 4, as far as the domain goes
GRID = 240


class Rule(NamedTuple):
    """The gradient with respect to one input, as a formula, and the file and line of its definition."""

    parameter: str
    formula: str
    place: str


class Curve(NamedTuple):
    """A function of one number over a part of its domain: x, y, y′ and y″, all of one shape (points,)."""

    x: numpy.ndarray
    values: tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]


class Entry(NamedTuple):
    """What the atlas knows of a primitive.

    call: the name with its arguments. summary: what it computes. place: file and line of its definition.
    domain: where its inputs lie. errors: the largest of each order. failure: what a check found, or ""."""

    name: str
    call: str
    summary: str
    place: str
    domain: str
    rules: list[Rule]
    errors: tuple[float, ...]
    failure: str
    curves: list[Curve]


def survey(primitives: Iterable[Callable] | None = None) -> list[Entry]:
    """The entries of primitives; by default of all of tinygen's. Needs hypothesis (else ImportError)."""
    return [_entry(primitive) for primitive in (registry.values() if primitives is None else primitives)]


def _entry(primitive: Callable) -> Entry:
    known = primitive.primitive
    failure, errors = _measured(primitive)
    public = getattr(ops, known.name, None) if registry.get(known.name) is primitive else None
    doc = (getattr(public, "__doc__", None) or known.forward.__doc__ or "").strip()
    return Entry(
        known.name,
        f"{known.name}({', '.join(_arguments(known))})",
        " ".join(doc.split("\n\n")[0].split()),
        _short(f"{known.forward.__code__.co_filename}:{known.forward.__code__.co_firstlineno}"),
        _domain(known),
        [Rule(rule.parameter, rule.formula, _short(rule.place)) for rule in known.rules.values()],
        errors,
        failure,
        _curves(primitive) if math.inf not in errors else [],
    )


def _arguments(known) -> list[str]:
    if known.variadic:
        return [f"*{known.inputs[0]}", *known.static]
    return [*known.inputs, *(["*", *known.static] if known.static else [])]


def _domain(known) -> str:
    """Where a primitive is defined."""
    if isinstance(known.domain, dict):
        return ", ".join(f"{name} {word}" for name, word in known.domain.items())
    return str(known.domain)


def _short(place: str) -> str:
    """A place in tinygen relative to its folder, another by the file's name."""
    path, _, line = place.rpartition(":")
    home = Path(__file__).parent.parent
    path = Path(path)
    return f"{path.relative_to(home) if path.is_relative_to(home) else path.name}:{line}"


# Measurements -------------------------------------------------------------------------------------------


def _measured(primitive: Callable) -> tuple[str, tuple[float, ...]]:
    """What a check found to be wrong with a primitive, and the largest errors that were measured."""
    from hypothesis import Phase, given, settings

    from .strategies.calls import calls, on_device

    largest = dict.fromkeys(ORDERS, 0.0)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
    )
    @given(calls(primitive))
    def measure(call):
        f = partial(primitive, **{key: on_device(value) for key, value in call.static.items()})
        for order, error in zip(ORDERS, errors(f, *call.inputs)):
            largest[order] = max(largest[order], error)
        check_gradients(f, *call.inputs, order=max(ORDERS))

    try:
        measure()
    except GradientError as error:
        return str(error), tuple(largest.values())
    except Exception as error:
        return f"{type(error).__name__}: {error}", (math.inf,) * len(ORDERS)
    return "", tuple(largest.values())


def errors(f: Callable, *inputs) -> list[float]:
    """The largest relative error of the derivatives of f, for each of ORDERS; infinite from an order on that
    cannot be computed. f and inputs: as for `check_gradients`."""
    variables = [
        Variable(f"input {k}", Tensor(xp.asarray(x), requires_grad=True)) for k, x in enumerate(inputs)
    ]
    tensors = [variable.tensor for variable in variables]

    def function() -> tuple[Tensor, ...]:
        out = f(*tensors)
        return out if isinstance(out, tuple) else (out,)

    largest = []
    for order in ORDERS:
        try:
            derivative = Derivative(function, variables, [], order)
        except GradientError:
            return largest + [math.inf] * (len(ORDERS) - len(largest))
        largest.append(max((_error(derivative, k) for k in range(len(variables))), default=0.0))
        function, variables = derivative, variables + derivative.cotangents
    return largest


def _error(derivative: Derivative, k: int) -> float:
    """The largest error of the gradient with respect to variable number k."""
    gradient, variable = derivative.gradients[k], derivative.variables[k]
    comparison = Comparison(derivative.loss, variable, gradient, derivative.noise)
    if gradient.size <= SMALL:
        steps = [comparison.step(element) for element in range(gradient.size)]
    else:
        draws = Generator(derivative.order)
        steps = [draws.normal(gradient.shape, "float64") * variable.steps for _ in range(DIRECTIONS)]
    return max((_relative(comparison, step) for step in steps), default=0.0)


def _relative(comparison: Comparison, step) -> float:
    """The error along a step. What the check allows is TOLERANCE of the numbers compared, and the noise: the
    error is TOLERANCE where it is as large as that."""
    got, rounding = comparison.claimed(step)
    allowed = comparison.noise + rounding
    if not allowed:
        return 0.0
    # Over half the step the truncation error is a quarter, so here it cancels (L. F. Richardson 1911).
    expected = (8 * comparison.difference(step / 2) - comparison.difference(step)) / 3
    return TOLERANCE * distance(expected, got) / allowed


# Curves -------------------------------------------------------------------------------------------------

# The parts of the line that an elementwise domain leaves.
PARTS = {
    "real": [(-REACH, REACH)],
    "nonzero": [(-REACH, 0.0), (0.0, REACH)],
    "positive": [(0.0, REACH)],
    "above -1": [(-1.0, REACH)],
    "unit interval": [(0.0, 1.0)],
}


def _curves(primitive: Callable) -> list[Curve]:
    """A function of one number and its derivatives over the parts of its domain; nothing for another one."""
    known = primitive.primitive
    static = CURVES.get(known.name, {})
    if known.variadic or len(known.inputs) > 1 or set(static) != set(known.static):
        return []
    return [_curve(partial(primitive, **static), *ends) for ends in PARTS.get(str(known.domain), [])]


def _curve(f: Callable, start: float, stop: float) -> Curve:
    """Over the open interval from start to stop."""
    points = numpy.linspace(start, stop, GRID + 1)
    x = Tensor((points[1:] + points[:-1]) / 2, requires_grad=True)
    y, ones = f(x), xp.ones(x.shape)
    (first,) = grad(y, x, ones, create_graph=True)
    second = grad(first, x, ones, allow_unused=True)[0] if first.requires_grad else None
    second = xp.zeros(x.shape) if second is None else second.data
    return Curve(x.numpy(), tuple(to_host(array) for array in (y.data, first.data, second)))


# Text ---------------------------------------------------------------------------------------------------


def text(entries: list[Entry]) -> str:
    """The atlas for a terminal, 106 columns wide."""
    lines = []
    chapter = None
    for entry in entries:
        if chapter != _file(entry.place):
            chapter = _file(entry.place)
            lines += ["", f"{chapter:<27}{'defined for':<49}{'order 1':>10}{'order 2':>10}", "─" * 106]
        numbers = "".join(f"{_number(error):>10}" for error in entry.errors)
        lines.append(f"{entry.name:<26} {entry.domain:<49}{numbers}{'     FAILS' if entry.failure else ''}")
        for rule in entry.rules:
            line = rule.place.rpartition(":")[2]
            lines.append(f"    {_padded(rule.formula, 92)}line {line:>5}".rstrip())
        lines += [f"    {line}" for line in entry.failure.splitlines()]
    return "\n".join([*lines[1:], "", summary(entries)])


def summary(entries: list[Entry]) -> str:
    """How many primitives there are, which fail, and the largest errors, in a sentence."""
    rules = sum(len(entry.rules) for entry in entries)
    failing = [entry.name for entry in entries if entry.failure]
    largest = [_number(max(entry.errors[k] for entry in entries)) for k in range(len(ORDERS))]
    return (
        f"{len(entries)} primitives, {rules} gradients; largest error {largest[0]} at first order, "
        f"{largest[1]} at second. "
        + (f"{len(failing)} fail: {', '.join(failing)}." if failing else "All pass.")
    )


def _file(place: str) -> str:
    return place.rpartition(":")[0]


def _number(error: float) -> str:
    return "0" if error == 0 else f"{error:.0e}".replace("e-0", "e-")


def _padded(text: str, width: int) -> str:
    """Text filled up with spaces; a combining mark, as in x̄, takes no column."""
    columns = sum(not unicodedata.combining(letter) for letter in text)
    return text + " " * max(1, width - columns)
