"""What a wrong rule does, if it is one of the mistakes that are often made.

The rule is asked for two random ȳ, and what it gives is compared with what it should give by central
differences, at some elements of x.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from copy import copy
from fractions import Fraction
from statistics import median

from ..autodiff import Observer, Tensor, _broadcasts_to, observed
from ..backend import xp
from .derivatives import Derivative, GradientError
from .differences import SMALL

ZERO = "zero where there should be something"
TRANSPOSED = "transposed"
MISSING_SUM = "missing sum over a broadcast axis"
IGNORES_G = "ignored upstream gradient"
STALE = "stale value"


def pattern_of(call, x: int, error: GradientError) -> str | None:
    """The pattern of the fault of a rule, that for input x of a call, of which a check of it alone gave an
    error; None if it is no known one."""
    if error.pattern:
        return error.pattern
    if error.order > 1:
        return ZERO if error.got == 0 else None
    if error.index is None:
        return _of_shape(call, x)
    seen = [_Seen(call, x, seed, error.index) for seed in (1, 2)]
    got, expected = ([v for s in seen for v in part(s)] for part in (lambda s: s.got, lambda s: s.expected))
    if _alike(got, expected) or not all(map(math.isfinite, got)):
        return None  # only the reading under create_graph is wrong; or there is nothing to compare
    if not any(got):
        return ZERO
    factor = _factor(got, expected)
    if factor is not None:
        return f"constant factor {factor}"
    if _alike(seen[0].got, seen[1].got):
        return IGNORES_G
    if _is_stale(call, x, seen[0], error.index):
        return STALE
    if _alike(seen[0].transposed(), seen[0].expected):
        return TRANSPOSED
    for y in call.tracked:
        if y != x and call.variables[y].value.shape == call.variables[x].value.shape:
            if _alike(got, [v for seed in (1, 2) for v in _Seen(call, y, seed, error.index).expected]):
                return f"swapped with the gradient for {call.name(y)!r}"
    return MISSING_SUM if seen[0].is_of_one_slice() else None


class _Seen:
    """What the rule for input x of a call gives for a random ȳ, and what it should, at some elements."""

    def __init__(self, call, x: int, seed: int, worst):
        self.variable = call.variables[x]
        others = [variable for y, variable in call.variables.items() if y != x]
        self.derivative = Derivative(call, [self.variable], others, seed)
        self.x_bar = self.derivative.gradients[0]
        self.elements = _sample(self.x_bar, worst)
        self.got = self.at_elements(self.x_bar)
        self.expected = self.differences()

    def at_elements(self, array) -> list[float]:
        return [float(array.ravel()[element]) for element in self.elements]

    def differences(self) -> list[float]:
        compared = self.derivative.comparison(self.variable, self.x_bar)
        steps = [compared.step(element) for element in self.elements]
        return [compared.difference(step) / float(step.sum()) for step in steps]

    def transposed(self) -> list[float]:
        """What would be given if the matrix were the other way round; nothing if there is none."""
        if self.x_bar.ndim < 2:
            return []
        back = self.x_bar.swapaxes(-1, -2)
        turned = self.x_bar.reshape(back.shape).swapaxes(-1, -2)  # made in the shape of the transpose
        same = back.shape == self.x_bar.shape
        return self.at_elements(back if same else turned)

    def is_of_one_slice(self) -> bool:
        """Whether x̄ is as if only the first or last slice of ȳ along an axis had been there."""
        if len(self.derivative.cotangents) > 1:
            return False
        (c,) = self.derivative.cotangents
        whole = c.value
        try:
            for axis, size in enumerate(whole.shape):
                for k in {0, size - 1} if size > 1 else ():
                    slice_ = (slice(None),) * axis + (k,)
                    c.value = 0 * whole
                    c.value[slice_] = whole[slice_]
                    if _alike(self.got, self.differences()):
                        return True
        finally:
            c.value = whole
        return False


def _sample(x_bar, worst) -> list[int]:
    """Numbers of elements: all of a small array; of a large one as many, and the worst."""
    number = 0
    for i, size in zip(worst, x_bar.shape):
        number = number * size + i
    return sorted({*range(0, x_bar.size, -(-x_bar.size // SMALL)), number})


def _alike(a: list[float], b: list[float]) -> bool:
    scale = max(map(abs, b), default=0)
    return len(a) == len(b) > 0 and scale > 0 and all(abs(p - q) <= 1e-5 * scale for p, q in zip(a, b))


def _factor(got: list[float], expected: list[float]) -> str | None:
    """The constant c in got = c expected, if there is one."""
    scale = max(map(abs, expected), default=0)
    ratios = [p / q for p, q in zip(got, expected) if abs(q) > 1e-3 * scale]
    if len(ratios) < 2:
        return None
    factor = median(ratios)
    if not _alike(got, [factor * q for q in expected]):
        return None
    clean = Fraction(factor).limit_denominator(100)
    if not clean or abs(factor / clean - 1) > 1e-6:
        return f"{factor:.6g}" if len(ratios) > 2 else None  # any value is some multiple of one other
    return f"{float(clean):g}" if 100 % clean.denominator == 0 else str(clean)


def _is_stale(call, x: int, seen: _Seen, worst) -> bool:
    """Whether the rule uses values of another call of its primitive than the one whose gradient is asked for:
    of the last one, or of some earlier one, kept in an array, so that what it gives does not change with the
    inputs though it should."""
    alone = copy(call)
    alone.interrupted = False
    if not _alike(_Seen(alone, x, 1, worst).got, seen.got):
        return True
    if not _keeps_arrays(call.primitive.rule(x).function):
        return False
    other = _Seen(call.scaled(0.9), x, 1, worst)
    return _alike(other.got, seen.got) and not _alike(other.expected, seen.expected)


def _keeps_arrays(function: Callable) -> bool:
    """Whether a rule can reach arrays besides what it is given."""
    held = inspect.getclosurevars(function)
    reached = [*held.nonlocals.values(), *held.globals.values(), *(function.__defaults__ or ())]
    for holder in list(reached):
        if isinstance(holder, (list, tuple, dict)):
            reached += holder.values() if isinstance(holder, dict) else holder
    return any(isinstance(value, (xp.ndarray, Tensor)) for value in reached)


def _of_shape(call, x: int) -> str | None:
    """The pattern of a rule that gives another shape than its input's."""
    pulled = _Pulled()
    with observed(pulled):
        try:
            Derivative(call, [call.variables[x]], [v for y, v in call.variables.items() if y != x], 1)
        except GradientError:
            pass
    shape = call.variables[x].value.shape
    got = getattr(pulled.x_bar, "shape", shape)
    if got != shape and _broadcasts_to(shape, got):
        return MISSING_SUM
    return TRANSPOSED if got != shape and got == shape[::-1] else None


class _Pulled(Observer):
    """What the last rule gave."""

    x_bar = None

    def pulled(self, node, x: int, x_bar) -> None:
        self.x_bar = x_bar
