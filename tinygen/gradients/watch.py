"""Watch a training: how large gradients are, and updates against what they update, for each parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy  # a history is read, and drawn, on the host

from .. import backend, optim
from ..autodiff import Tensor
from ..backend import xp
from ..nn.module import Module
from ..optim import Optimizer
from ..plots import write_figure

POINTS = 200  # of a curve at most; each is the mean over so many steps as it takes
USUAL = 1e-3  # for the ratio of update to parameter, by order of magnitude


@contextmanager
def watch(model: Module, every: int = 10) -> Iterator[History]:
    """`with tg.gradients.watch(model) as history:` around a training loop records the steps that optimizers
    make with the parameters of a model. The loop needs no change, and no step waits for a GPU.

    every: record the steps t = 1, 1 + every, 1 + 2 every, ... Recording takes time like an optimizer's step.

    Raises TypeError for what is no Module, and ValueError for a model without parameters and an `every` that
    is no int of 1 or more."""
    history = History(model, every)
    optim.step_watchers.append(history.before_step)
    try:
        yield history
    finally:
        optim.step_watchers.remove(history.before_step)


class Curves(NamedTuple):
    """What there is of one parameter θ, an array each with an element for each step.

    steps: their numbers t, as the optimizer counts them. gradient_norms: ‖g‖ as the step used it, after
        clipping; 0 where there was none. update_ratios: ‖Δθ‖ / ‖θ‖, by θ as it was before the step; NaN where
        that was 0."""

    steps: numpy.ndarray
    gradient_norms: numpy.ndarray
    update_ratios: numpy.ndarray


class History:
    """What `watch` records: for each recorded step three numbers for each parameter, which stay on the device
    until they are asked for."""

    def __init__(self, model: Module, every: int):
        if not isinstance(model, Module):
            raise TypeError(f"watch: model: expected a Module, got {type(model).__name__}")
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"watch: every: expected an int of 1 or more, got {every!r}")
        self._names = {parameter: name for name, parameter in model.named_parameters()}
        self._ndim = {name: parameter.ndim for parameter, name in self._names.items()}
        if not self._names:
            raise ValueError(f"watch: model: expected a module with parameters, got {model!r}")
        self._every = every
        # names of parameters -> for each step recorded of them: t, and (3 · parameters,) squares of norms
        self._steps: dict[tuple[str, ...], list[tuple[int, Any]]] = {}

    def before_step(self, optimizer: Optimizer) -> Callable[[], None]:
        """What an optimizer calls before a step; it returns what is to be called after it."""
        watched = [parameter for parameter in optimizer.params if parameter in self._names]
        if not watched or optimizer.t % self._every:
            return lambda: None
        before = [parameter.data.copy() for parameter in watched]

        def after_step() -> None:
            squares = [*map(_square, before), *map(_gradient_square, watched)]
            squares += [_square(parameter.data - old) for parameter, old in zip(watched, before)]
            names = tuple(self._names[parameter] for parameter in watched)
            self._steps.setdefault(names, []).append((optimizer.t, xp.stack(squares)))

        return after_step

    def curves(self) -> dict[str, Curves]:
        """The curves of every parameter that was in a step, by name."""
        found: dict[str, Curves] = {}
        for names, made in self._steps.items():
            steps = numpy.array([t for t, _ in made])
            with backend.device(backend.device_of(made[0][1])):
                squares = backend.to_host(xp.stack([squares for _, squares in made]))
            theta, g, change = numpy.sqrt(squares.reshape(len(made), 3, len(names))).transpose(1, 2, 0)
            ratios = numpy.divide(change, theta, out=numpy.full_like(theta, numpy.nan), where=theta != 0)
            for name, *curves in zip(names, g, ratios):
                curves = Curves(steps, *curves)
                if name in found:  # from steps of an optimizer of other parameters
                    curves = Curves(*map(numpy.append, found[name], curves))
                found[name] = curves
        return found

    def plot(self, path: str | Path) -> None:
        """Write a picture, with one curve for each parameter: norms of gradients, and update ratios.

        path: its suffix says which kind of file. Needs matplotlib. Raises ValueError where no step was
        recorded."""
        from matplotlib import colormaps
        from matplotlib.figure import Figure

        curves = self.curves()
        if not curves:
            raise ValueError(
                "history: expected steps with parameters of the model to plot, none was recorded"
            )
        figure = Figure((12, max(4.5, 0.2 * len(curves) + 1)), layout="constrained")
        left, right = figure.subplots(1, 2)
        for k, (name, curve) in enumerate(curves.items()):
            style = {
                "color": colormaps["turbo"](0.05 + 0.9 * k / len(curves)),
                "linestyle": "-" if self._ndim[name] > 1 else ":",
                "marker": "." if len(curve.steps) < 40 else "",
                "linewidth": 1.2,
            }
            left.plot(_averaged(curve.steps), _averaged(curve.gradient_norms), label=name, **style)
            right.plot(_averaged(curve.steps), _averaged(curve.update_ratios), **style)
        right.axhline(USUAL, color="black", linewidth=1, linestyle="--", label="a usual ratio")
        left.set(title="Gradients, ‖g‖", xlabel="step", yscale="log")
        right.set(title="Updates against parameters, ‖Δθ‖ / ‖θ‖", xlabel="step", yscale="log")
        for axes in (left, right):
            axes.grid(alpha=0.3)
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
        write_figure(path, figure)


def _averaged(values: numpy.ndarray) -> numpy.ndarray:
    """At most POINTS means over neighbouring values."""
    return numpy.array([part.mean() for part in numpy.array_split(values, min(POINTS, len(values)))])


def _square(x):
    """‖x‖², without a copy."""
    x = x.reshape(-1)
    return backend.matmul(x, x)


def _gradient_square(parameter: Tensor):
    if parameter.grad is None:
        return xp.zeros((), parameter.dtype)
    return _square(parameter.grad.data)
