"""The gradient laboratory: check gradients and find the wrong one; see them as a table, a picture, a history.

`strategies`, to check on random inputs, is imported when it is first asked for, since it needs hypothesis.
"""

from importlib import import_module

from .check import GradientError, check_gradients
from .draw import draw
from .explain import explain
from .guard import GuardError, guard
from .watch import watch


def __getattr__(name: str):
    if name == "strategies":
        return import_module(f"{__name__}.strategies")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
