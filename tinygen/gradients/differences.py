"""Central differences of a function L, and what they say about a gradient x̄ that is claimed for it.

For a small step δ it must hold that

    ⟨x̄, δ⟩ ≈ (L(x + δ) − L(x − δ)) / 2.

That is asked of one element at a time for small inputs and along random directions for large ones. Where it
does not hold, differences over smaller and smaller steps, and to one side, tell a wrong gradient from a place
where L is not smooth.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

from .. import backend
from ..autodiff import Tensor
from ..backend import xp

STEP = 1e-5  # relative to what is above 1: truncation and rounding cost about 1e-11 each
TOLERANCE = 1e-9  # relative to the numbers compared; what was rounded to float32 is off by up to 6e-8
EPSILON = 2.0**-52
ROUNDINGS = 16  # so many may fall on one side in computing L
SMALL = 64  # inputs of up to so many elements are checked element by element,
DIRECTIONS = 4  # others along so many directions
SHRINK = 1 / 32  # from one step to the next where differences over smaller ones are asked
SIZES = [SHRINK**k for k in range(9)]
EXCEPTIONS = 16  # so many places of a large input may be found where L is not smooth

WRONG = "wrong"
KINK = "kink"
STEEP = "too large a step"


class Variable:
    """A float64 Tensor to differentiate with respect to, its name, and the values it starts from."""

    def __init__(self, name: str, tensor: Tensor):
        self.name, self.tensor, self.value = name, tensor, tensor.data.copy()
        # How far to move each element. Beside what is infinite or no number there is nothing.
        self.steps = xp.where(xp.isfinite(self.value), STEP * xp.maximum(1, abs(self.value)), 0)

    def move(self, step) -> None:
        """Take the values to the start plus a step."""
        self.tensor.data = self.value + step


class Worst(NamedTuple):
    """The element of a gradient that is most wrong: its right value, and what backward gave."""

    index: tuple[int, ...]
    expected: float
    got: float


class Comparison:
    """Of the gradient claimed for one variable with central differences of L.

    loss: gives L. noise: about how large the rounding errors in L are.
    again: gives the gradient once more, at the values that the variable holds; None to take it as exact.
    everywhere: whether the gradient must be a number everywhere."""

    def __init__(self, loss: Callable, variable: Variable, gradient, noise, again=None, everywhere=True):
        self.loss, self.variable, self.gradient = loss, variable, gradient
        self.noise, self.again = noise, again
        self.steps = variable.steps if everywhere else xp.where(xp.isfinite(gradient), variable.steps, 0)

    def run(self, draws: backend.Generator) -> tuple[Worst, str] | None:
        """The worst element of a wrong gradient, and why it differs: WRONG, or, where L may be what is to
        blame, KINK or STEEP. None where the gradient agrees with L."""
        found = self.element_by_element() if self.gradient.size <= SMALL else self.along_directions(draws)
        if found is None:
            return None
        element, why = found
        expected, got, _ = self.along(self.step(element, self.variable.steps))
        size = float(self.variable.steps.ravel()[element])
        return Worst(index_of(element, self.gradient.shape), expected / size, got / size), why

    def element_by_element(self) -> tuple[int, str] | None:
        results = [self.along(self.step(element)) for element in range(self.gradient.size)]
        distances = {k: distance(*numbers) for k, (*numbers, agree) in enumerate(results) if not agree}
        first = None
        for element in sorted(distances, key=distances.get, reverse=True):
            why = self.why(self.step(element))
            if why == WRONG:
                return element, why
            first = first or (element, why)
        return first

    def along_directions(self, draws: backend.Generator) -> tuple[int, str] | None:
        """As `element_by_element`, of a wrong direction that is halved again and again, keeping the half with
        the larger error. Where L is not smooth the search goes on without that element."""
        first, right = None, 0
        for _ in range(DIRECTIONS + EXCEPTIONS):
            step = draws.normal(self.gradient.shape, "float64") * self.steps
            if self.along(step)[2]:
                right += 1
                if right == DIRECTIONS:
                    break
                continue
            element = self.halved(step)
            why = self.why(self.step(element))
            if why == WRONG:
                return element, why
            first = first or (element, why)
            # Most kinks and poles are at 0: steps relative to the values stay away from all of them.
            self.steps = xp.minimum(self.steps, STEP * abs(self.variable.value))
            self.steps = self.steps - self.step(element)
        return first

    def halved(self, step) -> int:
        elements = xp.arange(self.gradient.size)
        while len(elements) > 1:
            half = len(elements) // 2
            halves = elements[:half], elements[half:]
            elements = max(halves, key=lambda part: distance(*self.along(self.step(part, step))[:2]))
        return int(elements[0])

    def step(self, elements, step=None):
        """The part of a step that moves certain elements alone; each by its own without one."""
        whole = (self.steps if step is None else step).ravel()
        part = xp.zeros_like(whole)
        part[elements] = whole[elements]
        return part.reshape(self.gradient.shape)

    def along(self, step) -> tuple[float, float, bool]:
        """⟨x̄, δ⟩ by central difference, and by backward, and whether they agree."""
        expected, (got, rounding) = self.difference(step), self.claimed(step)
        allowed = self.noise + rounding
        if distance(expected, got) > allowed:
            # Half the step has a quarter of the truncation error: the difference shows how much that is.
            allowed += 2 * abs(expected - 2 * self.difference(step / 2))
        return expected, got, distance(expected, got) <= allowed < math.inf

    def claimed(self, step) -> tuple[float, float]:
        """⟨x̄, δ⟩ by backward, and how far off it may be."""
        change = _products(self.gradient, step)
        return float(change.sum()), TOLERANCE * size_of([change])

    def why(self, step) -> str:
        """Why backward does not agree along a step: the step size decides whose difference is known best."""
        got, rounding = self.claimed(step)
        known = self.over_smaller_steps(step)
        # Of sin(1e16) nothing can be known: what rounding does to x changes L by all that it ever changes.
        loudest = max([abs(self.at(0 * step)), 1e-3, *(abs(slope) * size for _, slope, size in known)])
        if not known or self.noise > loudest:
            return STEEP
        unsure, expected, size = min(known)
        unsure += rounding + self.rounding_of_gradient(step)
        if distance(expected, got) <= unsure:
            return STEEP
        return KINK if self.is_kink(got, unsure, size, step) else WRONG

    def is_kink(self, got: float, unsure: float, size: float, step) -> bool:
        """Whether L has two slopes, one to each side, with what is claimed between them. Of a smooth function
        they meet as the step shrinks."""
        far, near = self.one_sided(size, step), self.one_sided(size * SHRINK, step)
        unsure += sum(distance(a, b) for a, b in zip(far, near))  # the curvature of each side
        between = min(near) - unsure <= got <= max(near) + unsure
        return between and distance(*near) > distance(*far) / 2

    def rounding_of_gradient(self, step) -> float:
        """How much ⟨x̄, δ⟩ changes with the last digits of x: by what its rule loses in rounding. What changes
        when nothing does is no rounding, but wrong."""
        if self.again is None or not xp.array_equal(self.again(), self.gradient, equal_nan=True):
            return 0.0
        got, _ = self.claimed(step)
        changes = [0.0]
        for digits in (-8, -4, 4, 8):
            self.variable.move(digits * EPSILON * self.variable.value)
            changes.append(abs(float(_products(self.again(), step).sum()) - got))
        self.variable.move(0)
        return 4 * max(change for change in changes if math.isfinite(change))

    def over_smaller_steps(self, step) -> list[tuple[float, float, float]]:
        """(how unsure, the slope of L along the step, the size of the step) for steps of many sizes, without
        those that smaller ones contradict: they are longer than the function's waves."""
        sizes = self.sizes(step)
        changes = [self.difference(size * step) for size in sizes]
        noise = max(self.noise, _scatter(changes[-4:]))
        known: list[tuple[float, float, float]] = []
        for size, change in zip(reversed(sizes), reversed(changes)):
            slope = change / size
            truncation = 2 * abs(slope - self.difference(size / 2 * step) / (size / 2))
            unsure = noise / size + truncation
            if not math.isfinite(slope + unsure):
                break
            if all(abs(slope - other) <= 2 * (unsure + its) for its, other, _ in known):
                known.append((unsure, slope, size))
        return known

    def sizes(self, step) -> list[float]:
        """Of steps to try, from 1 down; down to where they are small beside the number that they move."""
        value = float(abs(self.variable.value[step != 0]).max())
        relative = value / max(1.0, value)
        if 0 < relative < SIZES[-1]:
            return SIZES + [relative * size for size in SIZES[:4]]
        return SIZES

    def one_sided(self, size: float, step) -> tuple[float, float]:
        """The slopes of L below and above x, for a step of δ times a size."""
        here = self.at(0 * step)
        return (here - self.at(-size * step)) / size, (self.at(size * step) - here) / size

    def difference(self, step) -> float:
        """(L(x + δ) − L(x − δ)) / 2."""
        return (self.at(step) - self.at(-step)) / 2

    def at(self, step) -> float:
        """L(x + δ)."""
        self.variable.move(step)
        value = self.loss()
        self.variable.move(0)
        return value


def _products(gradient, step):
    """The terms of ⟨x̄, δ⟩ for the elements that move: others, that may be no numbers, tell nothing."""
    moved = step != 0
    return gradient[moved] * step[moved]


def _scatter(changes: list[float]) -> float:
    """How large the rounding errors in L show to be in its changes over smaller and smaller steps: without
    them these would shrink as the steps do."""
    return 4 * max(distance(smaller, SHRINK * larger) for larger, smaller in itertools.pairwise(changes))


def noise_of(outputs, gradients, variables, cotangents) -> float:
    """About how large the rounding errors in L are, if f computes with numbers of size 1 and of the sizes of
    its inputs and outputs. Smaller changes of L tell nothing."""
    terms = [(c.value, y.data) for c, y in zip(cotangents, outputs)]
    terms += [(x_bar, variable.value) for x_bar, variable in zip(gradients, variables)]
    return ROUNDINGS * EPSILON * size_of([a * xp.maximum(1, abs(b)) for a, b in terms])


def size_of(arrays) -> float:
    """The root of the sum of all squares; what is no number is left out."""
    arrays = [abs(a[xp.isfinite(a)]) for a in arrays]
    largest = max((float(a.max()) for a in arrays if a.size), default=0.0)
    if not largest:
        return 0.0
    return largest * math.sqrt(sum(float(((a / largest) ** 2).sum()) for a in arrays))


def distance(a: float, b: float) -> float:
    """|a − b|, infinite for what is no number."""
    return abs(a - b) if math.isfinite(a - b) else math.inf


def index_of(element: int, shape) -> tuple[int, ...]:
    """The index of element number `element` in an array of that shape."""
    index = []
    for size in reversed(shape):
        element, i = divmod(element, size)
        index.insert(0, i)
    return tuple(index)
