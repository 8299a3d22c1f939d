"""Measure where the time of a computation goes, by primitive, forward and backward."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from . import backend, optim
from .autodiff import Call, Node, Observer, Primitive, observed


@contextmanager
def profile() -> Iterator[Profile]:
    """`with tg.profile() as profile:` around some steps of a training measures them, and `print(profile)`
    shows what took longest. The computation needs no change; on a GPU each primitive is waited for, so that
    the whole takes longer than without. Of what a block inside measures, this one sees the total alone."""
    found = Profile()
    optim.step_watchers.append(found.before_step)
    try:
        with observed(found):
            yield found
    finally:
        optim.step_watchers.remove(found.before_step)
        found.total = _now() - found.began


@dataclass
class Times:
    """Of one primitive. calls: of its function. forward: the seconds that these took, with all primitives
    that they call inside. backward: those of its rules, and of adding up the gradients that they give."""

    calls: int = 0
    forward: float = 0.0
    backward: float = 0.0


class Profile(Observer):
    """What `profile` has measured, in seconds.

    of: name of a primitive -> Times. optimizers: what their steps took. total: the whole block; what is not
    in the others went into Python, data, and whatever else it did."""

    def __init__(self):
        self.of: dict[str, Times] = {}
        self.optimizers = self.total = 0.0
        self.began = _now()
        self._mark = self.began  # when what is measured at the moment began
        self._inside: list[Primitive] = []  # those whose forward functions run, the outermost first
        self._backward: Primitive | None = None  # the one whose rules run, in a backward pass

    @property
    def elsewhere(self) -> float:
        """What went into none of the primitives and optimizers."""
        return self.total - self.optimizers - sum(t.forward + t.backward for t in self.of.values())

    def calling(self, primitive: Primitive) -> None:
        """As for every observer; in a backward pass what is called is a rule's, and counts there."""
        if self._backward:
            return
        if not self._inside:
            self._mark = _now()
        self._inside.append(primitive)

    def called(self, call: Call) -> None:
        """As for every observer."""
        if self._backward:
            return
        while self._inside and self._inside.pop() is not call.primitive:
            pass  # one inside this one that failed, and whose error was caught
        if not self._inside:
            times = self._times(call.primitive)
            times.calls += 1
            times.forward += _now() - self._mark

    def reached(self, node: Node, g) -> None:
        """As for every observer."""
        self._count_backward()
        self._backward = node.plan.primitive

    def pulled(self, node: Node, x: int, x_bar) -> None:
        """As for every observer."""
        self._count_backward()

    def finished(self) -> None:
        """As for every observer."""
        self._count_backward()
        self._backward = None
        self._inside.clear()

    def _count_backward(self) -> None:
        """Ascribe the time since the mark to the primitive whose rules were asked last."""
        now = _now()
        if self._backward:
            self._times(self._backward).backward += now - self._mark
        self._mark = now

    def before_step(self, optimizer: optim.Optimizer) -> Callable[[], None]:
        """Called before the step of an optimizer; what it returns is called after it."""
        began = _now()

        def after_step() -> None:
            self.optimizers += _now() - began

        return after_step

    def _times(self, primitive: Primitive) -> Times:
        return self.of.setdefault(primitive.name, Times())

    def __str__(self) -> str:
        longest = sorted(self.of.items(), key=lambda item: -(item[1].forward + item[1].backward))
        rows = [("primitive", "calls", "forward, ms", "backward, ms", "share, %")]
        for name, t in longest:
            both = t.forward + t.backward
            rows.append((name, str(t.calls), _ms(t.forward), _ms(t.backward), self._share(both)))
        for name, seconds in (("optimizers", self.optimizers), ("elsewhere", self.elsewhere)):
            rows.append((name, "", _ms(seconds), "", self._share(seconds)))
        rows.append(("total", "", _ms(self.total), "", ""))
        width = max(len(name) for name, *_ in rows)
        return "\n".join(
            name.ljust(width) + "".join(cell.rjust(14) for cell in cells) for name, *cells in rows
        )

    def _share(self, seconds: float) -> str:
        return f"{100 * seconds / self.total:.1f}" if self.total else ""


def _now() -> float:
    """Seconds, when all that the device was asked for is done."""
    backend.current_device().wait()
    return time.perf_counter()


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}"
