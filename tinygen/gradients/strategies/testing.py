"""From a function and strategies to a property test, in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from inspect import signature

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ...nn import Module, Sequential
from ..check import GradientError, check_gradients
from .calls import Call, on_device


def gradient_test(f: Callable, *inputs, order: int = 1, params: Module | None = None, **static) -> Callable:
    """A test of the derivatives of f, up to an order, at what the strategies draw.

    f, order, params: as `check_gradients` takes them.
    inputs: a strategy for each input of f. One that draws a list or a tuple of arrays stands for as many
        inputs, and one that draws a `Call` for inputs and static arguments.
    static: strategies for what f takes by name and is not differentiated with respect to. A Module among
        these, or as f, is checked with respect to its parameters, too.

    Returns a function without arguments, for pytest to find under a name that begins with `test`, or to be
    called. It raises `GradientError` for the smallest example that still fails, which hypothesis shows; and
    TypeError for what f does not take. If f itself is a primitive, its call is told to be at the line of
    `gradient_test`. How many examples are drawn is a setting of hypothesis."""
    for strategy in (*inputs, *static.values()):
        if not isinstance(strategy, st.SearchStrategy):
            raise TypeError(f"gradient_test: expected strategies, got {type(strategy).__name__}")
    name = getattr(f, "__name__", type(f).__name__).replace("<lambda>", "f")
    caller = sys._getframe(1)
    place = f"{caller.f_code.co_filename}:{caller.f_lineno}"

    def test(call):
        __tracebackhide__ = True  # pytest shows the error alone
        static = {key: on_device(value) for key, value in call.static.items()}
        modules = [holder for holder in (params, f, *static.values()) if isinstance(holder, Module)]
        module = modules[0] if len(modules) == 1 else Sequential(*modules)
        try:
            check_gradients(partial(f, **static) if static else f, *call.inputs, params=module, order=order)
        except GradientError as error:
            # Where f is a primitive, it is this function that calls it.
            error.tell_place(f"{__file__}:{error.__traceback__.tb_lineno}", place)
            raise

    test.__name__ = test.__qualname__ = f"test_{name}"
    # A first call may take long; and the lines that only failing examples run are the checker's.
    phases = set(settings.default.phases) - {Phase.explain}
    return settings(deadline=None, phases=phases)(given(call=_drawn(f, name, inputs, static))(test))


@st.composite
def _drawn(draw, f: Callable, name: str, inputs: tuple, static: dict) -> _Drawn:
    parts = [draw(strategy) for strategy in inputs]
    return _Drawn(f, name, parts, {key: draw(strategy) for key, strategy in static.items()})


class _Drawn:
    """Arguments that were drawn for f; shown as a call of it."""

    def __init__(self, f: Callable, name: str, parts: list, static: dict):
        self.name, self.inputs, self.static = name, [], static
        for part in parts:
            if isinstance(part, Call):
                self.static |= part.static
                part = part.inputs
            self.inputs += part if isinstance(part, (list, tuple)) else [part]
        self.arguments = (
            signature(f.forward if isinstance(f, Module) else f).bind(*self.inputs, **self.static).arguments
        )

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"
