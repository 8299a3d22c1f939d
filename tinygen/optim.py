"""Optimizers: they move parameters θ against the gradient g of a loss, at steps t = 1, 2, ...

All parameters of an optimizer live in one flat array, of which each parameter becomes a view, so that a step
is a few operations in place on the whole. The factor (1 − β) of a moving average m ← β m + (1 − β) g is left
out of what is stored, m / (1 − β), and put into the step size instead: one operation less for each average.

A parameter that has no gradient counts as one with gradient zero, so its averages go on and may move it;
PyTorch leaves it and its averages as they are.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

from . import backend, ops
from .autodiff import Leaf, Tensor, no_grad, note_change
from .backend import xp
from .kernels import kernel

# Added to each gradient. Where one stays 0, as for the weights of a unit that is never active, averages would
# shrink into the subnormal numbers of float32 and stick there, on which a processor can be 45 times slower.
# With the default ε this moves a parameter by lr · 1e-10 a step at most.
TINY = 1e-18


# Those who look on: each is called with the optimizer before a step, and what it returns is called after it.
step_watchers: list[Callable[[Optimizer], Callable[[], None]]] = []


class Optimizer:
    """What optimizers share: the flat arrays, gathering the gradients into one of them, and the state.

    params: the Tensors to move, as from `Module.parameters`: leaves with requires_grad=True, each once, of
        one dtype, on the current device (else TypeError or ValueError, and nothing has changed).
    lr: the learning rate, a positive number (else ValueError), or a function that gives it, at least 0, for
        step t = 1, 2, ...

    `t` is the number of steps made."""

    def __init__(self, params: Iterable[Tensor], lr: float | Callable[[int], float]):
        if not callable(lr):
            _require(_is_number(lr) and lr > 0, "lr", "a positive number or a function of the step", lr)
        self.lr = lr if callable(lr) else float(lr)
        self.t = 0
        self.params = _checked(params)
        self._flat = backend.aligned_empty(sum(p.size for p in self.params), self.params[0].dtype)
        xp.concatenate([p.data.reshape(-1) for p in self.params], out=self._flat)
        self._starts = list(itertools.accumulate((p.size for p in self.params), initial=0))
        self._views = [
            self._flat[start : start + p.size].reshape(p.shape) for p, start in zip(self.params, self._starts)
        ]
        self._averages: dict[str, Any] = {}  # name -> flat array that each step changes
        self._decays: dict[str, Any] = {}  # the settings on which the averages depend
        for p, view in zip(self.params, self._views):
            p._data = view

    def _average(self):
        """A moving average of what is as large as the parameters, before the first step: zeros."""
        average = backend.aligned_empty(self._flat.size, self._flat.dtype)
        average.fill(0)
        return average

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for p in self.params:
            p.grad = None

    def step(self) -> None:
        """Move the parameters by their `.grad`, in place; where that is None it counts as zero.

        Raises RuntimeError if it is None everywhere, or if a parameter was given another array since this
        optimizer was made, and ValueError for a gradient of another shape or a learning rate that is no
        number; nothing has changed then."""
        numbers = backend.varying(self._next_numbers, self._flat.dtype)
        self._check_gradients()
        reports = [watcher(self) for watcher in step_watchers]
        size = max(1, backend.current_device().workspace // 2)
        for start in range(0, self._flat.size, size):  # each piece to its end while it is in the cache
            piece = slice(start, start + size)
            averages = {name: average[piece] for name, average in self._averages.items()}
            self._update(self._flat[piece], self._gathered(piece), *numbers, **averages)
        note_change(self._flat)
        backend.each_time(self._count)
        for report in reports:
            report()

    def _next_numbers(self) -> tuple[float, ...]:
        """What the host computes for the next step."""
        self._check_parameters("step")
        t = self.t + 1
        return self._numbers(self._rate(t), t)

    def _count(self) -> None:
        """Note on the host that a step was made."""
        self.t += 1

    def _gathered(self, piece: slice):
        """The gradients, all in a row, of a piece of the flat array."""
        start, stop = piece.start, min(piece.stop, self._flat.size)
        g = backend.aligned_empty(stop - start, self._flat.dtype)
        first = bisect.bisect_right(self._starts, start) - 1
        for p, at in zip(self.params[first:], self._starts[first:]):
            if at >= stop:
                break
            low, high = max(start, at), min(stop, at + p.size)
            part = g[low - start : high - start]
            if p.grad is None:
                part.fill(TINY)
            else:
                xp.add(p.grad.data.reshape(-1)[low - at : high - at], TINY, out=part)
        return g

    def _rate(self, t: int) -> float:
        """The learning rate at step t."""
        if not callable(self.lr):
            return self.lr
        lr = self.lr(t)
        _require(_is_number(lr) and lr >= 0, f"lr({t})", "a number of at least 0", lr)
        return float(lr)

    def _check_parameters(self, method: str) -> None:
        """Refuse to go on where a parameter no longer lives in the flat array."""
        for position, (p, view) in enumerate(zip(self.params, self._views)):
            if p._data is not view:
                raise RuntimeError(
                    f"{type(self).__name__}.{method}: {_label(position, p)} was given another array (by to, "
                    "astype or another optimizer) since this optimizer was made; make this one again"
                )

    def _check_gradients(self) -> None:
        """Refuse a step that has nothing to go by."""
        step = f"{type(self).__name__}.step"
        if all(p.grad is None for p in self.params):
            raise RuntimeError(f"{step}: no parameter has a gradient; run backward on a loss first")
        for position, p in enumerate(self.params):
            if p.grad is None:
                continue
            if p.grad.shape != p.shape:
                raise ValueError(f"{step}: {_label(position, p)} has a gradient of shape {p.grad.shape}")
            if not isinstance(p.grad.data, xp.ndarray):
                device = backend.device_of(p.grad.data)
                raise ValueError(f"{step}: {_label(position, p)} has a gradient on device {device!r}")

    def _numbers(self, lr: float, t: int) -> tuple[float, ...]:
        """The numbers by which step t moves all parameters."""
        return (lr,)

    def _update(self, theta, g, *numbers, **averages) -> None:
        """Make a step for a piece of the parameters: move theta, a flat array, by the gradient g, whose
        memory may be used for other things. The numbers are floats, or arrays () in a recorded step."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What the next steps depend on, besides parameters and learning rate: the number of steps, copies of
        the averages on the host, flat, and what an optimizer that takes them over must agree on."""
        averages = {name: backend.to_host(average).copy() for name, average in self._averages.items()}
        return {**self._form(), "t": self.t, **averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`. The parameters' values are not in it: they are their module's.

        Raises ValueError that names all that is missing, unknown or does not fit, as the state of another
        kind of optimizer, of other shapes or other decay rates, and RuntimeError as `step`; nothing has
        changed then. The learning rate is that of this optimizer."""
        self._check_parameters("load_state_dict")
        form = self._form()
        own = [*form, "t", *self._averages]
        faults = [f"{name} is missing" for name in own if name not in state]
        faults += [f"{name} is unknown" for name in state if name not in own]
        faults += [
            f"{name}: expected {expected!r}, got {state[name]!r}"
            for name, expected in form.items()
            if name in state and state[name] != expected
        ]
        if "t" in state and not (type(state["t"]) is int and state["t"] >= 0):
            faults.append(f"t: expected an int of at least 0, got {state['t']!r}")
        faults += [
            f"{name}: expected {backend.form_of(average)}, got {backend.form_of(state[name])}"
            for name, average in self._averages.items()
            if name in state and backend.form_of(state[name]) != backend.form_of(average)
        ]
        if faults:
            raise ValueError(f"{type(self).__name__}.load_state_dict: state: {'; '.join(faults)}")
        self.t = state["t"]
        for name, average in self._averages.items():
            average[...] = xp.asarray(state[name])

    def _form(self) -> dict[str, Any]:
        """What a state must agree on with this optimizer, in what JSON can hold."""
        return {"kind": type(self).__name__, "shapes": [list(p.shape) for p in self.params], **self._decays}


class SGD(Optimizer):
    """Stochastic gradient descent with momentum μ:

        b ← μ b + g,   θ ← θ − lr b.

    This is PyTorch's form. As published (I. Sutskever, J. Martens, G. Dahl and G. Hinton, On the importance
    of initialization and momentum in deep learning, 2013, eq. 1 and 2) the learning rate is inside the
    average, v ← μ v − lr g and θ ← θ + v, which is the same as long as it is constant."""

    def __init__(self, params: Iterable[Tensor], lr: float | Callable, momentum: float = 0.0):
        _require(
            _is_number(momentum) and 0 <= momentum < 1, "momentum", "a number, 0 <= momentum < 1", momentum
        )
        super().__init__(params, lr)
        self.momentum = float(momentum)
        self._averages = {"b": self._average()}

    def _update(self, theta, g, lr, b) -> None:
        b *= self.momentum
        b += g
        theta -= xp.multiply(b, lr, out=g)


class RMSProp(Optimizer):
    """The gradient divided by a running root of its mean square:

        v ← α v + (1 − α) g²,   θ ← θ − lr g / (√v + ε).

    T. Tieleman and G. Hinton, Lecture 6.5: rmsprop, COURSERA: Neural Networks for Machine Learning, 2012,
    have α = 0.9 and no ε. The defaults, and ε outside the root, are PyTorch's."""

    def __init__(
        self, params: Iterable[Tensor], lr: float | Callable = 1e-2, alpha: float = 0.99, eps: float = 1e-8
    ):
        _require(_is_number(alpha) and 0 <= alpha < 1, "alpha", "a number, 0 <= alpha < 1", alpha)
        _require(_is_number(eps) and eps >= 0, "eps", "a number of at least 0", eps)
        super().__init__(params, lr)
        self.alpha, self.eps = float(alpha), float(eps)
        self._averages = {"v": self._average()}  # v / (1 − α)
        self._decays = {"alpha": self.alpha}

    def _numbers(self, lr: float, t: int) -> tuple[float, ...]:
        return (lr / self._to_root_v,)

    @property
    def _to_root_v(self) -> float:
        """What turns the root of the stored average into √v."""
        return math.sqrt(1 - self.alpha)

    def _update(self, theta, g, size, v) -> None:
        v *= self.alpha
        square = g * g
        v += square
        root = xp.sqrt(v, out=square)
        root += self.eps / self._to_root_v
        g /= root
        g *= size
        theta -= g


class Adam(Optimizer):
    """Moving averages of the gradient and of its square, both corrected for having started at zero:

        m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²,
        m̂ = m / (1 − β₁ᵗ),   v̂ = v / (1 − β₂ᵗ),   θ ← θ − lr m̂ / (√v̂ + ε).

    D. P. Kingma and J. Ba, Adam: A Method for Stochastic Optimization, 2015, Algorithm 1, with its defaults.
    PyTorch does the same; the other ε of the paper's section 2, next to a root that is not corrected, is in
    neither."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float | Callable = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        pair = isinstance(betas, (tuple, list)) and len(betas) == 2 and all(map(_is_number, betas))
        _require(pair and all(0 <= b < 1 for b in betas), "betas", "two numbers, 0 <= beta < 1", betas)
        _require(_is_number(eps) and eps >= 0, "eps", "a number of at least 0", eps)
        super().__init__(params, lr)
        self.betas, self.eps = tuple(map(float, betas)), float(eps)
        # m / (1 − β₁) and v / (1 − β₂)
        self._averages = {"m": self._average(), "v": self._average()}
        self._decays = {"betas": list(self.betas)}

    def _numbers(self, lr: float, t: int) -> tuple[float, ...]:
        """(eps, size): θ ← θ − size m / (√v + eps), with the stored averages."""
        beta1, beta2 = self.betas
        # What turns the stored averages into m̂ and √v̂.
        to_m_hat = (1 - beta1) / (1 - beta1**t)
        to_root_v_hat = math.sqrt((1 - beta2) / (1 - beta2**t))
        return self.eps / to_root_v_hat, lr * to_m_hat / to_root_v_hat

    def _update(self, theta, g, eps, size, m, v) -> None:
        _adam(g, *self.betas, eps, size, theta, m, v)


@kernel(
    "T g, T beta1, T beta2, T eps, T size",
    "T theta, T m, T v",
    "m = beta1 * m + g; v = beta2 * v + g * g; theta -= size * m / (sqrt(v) + eps)",
)
def _adam(g, beta1, beta2, eps, size, theta, m, v) -> None:
    """m ← β₁ m + g, v ← β₂ v + g², θ ← θ − size m / (√v + eps), in place, all (n,); g is used up."""
    m *= beta1
    m += g
    v *= beta2
    g *= g
    v += g
    root = xp.sqrt(v, out=g)
    root += eps
    move = xp.divide(m, root, out=g)
    move *= size
    theta -= move


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale the gradients g of the parameters, all by the same number, so that ‖g‖ is at most max_norm:

        if ‖g‖ ≥ c:   g ← c g / ‖g‖.

    R. Pascanu, T. Mikolov and Y. Bengio, On the difficulty of training recurrent neural networks, 2013,
    Algorithm 1. (PyTorch divides by ‖g‖ + 10⁻⁶.) Call it between backward and step.

    Returns ‖g‖ as it was before, a Tensor () on the device of the gradients: nothing is moved to the host. A
    gradient that is None counts as zero. Raises as an optimizer for params, ValueError for a max_norm that is
    no positive number, and RuntimeError where no parameter has a gradient."""
    _require(_is_number(max_norm) and max_norm > 0, "clip_grad_norm: max_norm", "a positive number", max_norm)
    held = [p for p in _checked(params) if p.grad is not None]
    if not held:
        raise RuntimeError("clip_grad_norm: no parameter has a gradient; run backward on a loss first")
    with no_grad():
        norm = sum((p.grad * p.grad).sum() for p in held) ** 0.5
        scale = max_norm / ops.maximum(norm, float(max_norm))  # 1 up to max_norm, and no division by 0
        for p in held:
            p.grad = p.grad * scale
    return norm


def _is_number(x) -> bool:
    return isinstance(x, Real) and math.isfinite(x)


def _require(holds: bool, name: str, expected: str, got) -> None:
    if not holds:
        raise ValueError(f"{name}: expected {expected}, got {got}")


def _checked(params: Iterable[Tensor]) -> list[Tensor]:
    """The parameters as a list, if an optimizer can hold them."""
    if isinstance(params, Tensor) or not isinstance(params, Iterable):
        raise TypeError(f"params: expected a list of Tensors, got {type(params).__name__}")
    params = list(params)
    _require(len(params) > 0, "params", "at least one Tensor", params)
    current, seen = backend.current_device().name, set()
    for position, p in enumerate(params):
        if not isinstance(p, Tensor):
            raise TypeError(f"params: expected Tensors, got {type(p).__name__} as number {position}")
        name = f"params: {_label(position, p)}"
        kind = "a computed Tensor" if p.requires_grad else "requires_grad=False"
        _require(type(p._source) is Leaf, name, "a leaf with requires_grad=True", kind)
        _require(p.dtype == params[0].dtype, name, f"{params[0].dtype}, as number 0 has", p.dtype)
        device = backend.device_of(p.data)
        _require(device == current, name, f"the current device, {current!r}", repr(device))
        _require(id(p) not in seen, name, "each Tensor once", "it again")
        seen.add(id(p))
    return params


def _label(position: int, p: Tensor) -> str:
    """A parameter in words."""
    return f"parameter {position}{f' {p.name!r}' if p.name else ''} of shape {p.shape}"
