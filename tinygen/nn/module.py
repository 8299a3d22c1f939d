"""Module: something with parameters that maps an input to an output; and Sequential, a chain of them.

A Tensor kept in a module is a parameter if it has requires_grad=True; if not, it is state that is saved and
moved along but not trained. Nothing is registered: Tensors are looked for when somebody asks, in the
attributes of the module and in the modules, lists, tuples and dicts there, in order of assignment.

Some layers compute differently in training: those that draw noise, and those whose `forward` updates their
state. `train` and `eval` switch all layers of a model, and inside `with frozen_state():` no state changes.
"""

from __future__ import annotations

import contextlib
import reprlib
import textwrap
from collections.abc import Callable, Iterator, Mapping

import numpy  # what is saved are host arrays

from .. import backend
from ..autodiff import Node, Output, Tensor, inside

_state_is_frozen = False


@contextlib.contextmanager
def frozen_state():
    """`with nn.frozen_state():` no layer inside updates its state, in training neither: a function is pure
    there, and can be called again and again to check it."""
    global _state_is_frozen
    before, _state_is_frozen = _state_is_frozen, True
    try:
        yield
    finally:
        _state_is_frozen = before


class Module:
    """Base class of layers and models: set attributes in `__init__`, compute in `forward`.

    training: whether this module computes as in training; `train` and `eval` set it."""

    training = True

    def __call__(self, *args, **kwargs):
        with inside(self):
            return self.forward(*args, **kwargs)

    def forward(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} has no method forward")

    def parameters(self) -> list[Tensor]:
        """What is trained, in order of assignment; what is shared comes once."""
        return [tensor for _, tensor in self.named_parameters()]

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """What is trained as pairs (dotted name, Tensor); what is shared has the first of its names."""
        return [(name, tensor) for name, tensor in self._tensors() if tensor.requires_grad]

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and untrained state. A Tensor that was computed and kept is neither."""
        found = _find(Tensor, self, set())
        return ((name, tensor) for name, tensor in found if type(tensor._source) not in (Node, Output))

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for tensor in self.parameters():
            tensor.grad = None

    def train(self, mode: bool = True) -> Module:
        """Let this module and all below it compute as in training (or not, as `eval`), and return it."""
        for module in self._modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Let this module and all below it compute as after training, and return it."""
        return self.train(False)

    def _updates_state(self) -> bool:
        """Whether a layer's `forward` may set its untrained state now."""
        return self.training and not _state_is_frozen

    def _modules(self) -> list[Module]:
        """This module and all below it, each once."""
        found = [self]
        for module in found:  # which grows on the way
            found += [below for _, below in _find(Module, module, set(map(id, found)))]
        return found

    def state_dict(self) -> dict[str, numpy.ndarray]:
        """Dotted name -> a copy of the values on the host, for parameters and untrained state."""
        return {name: tensor.numpy() for name, tensor in self._tensors()}

    def load_state_dict(self, state: Mapping[str, numpy.ndarray], strict: bool = True) -> None:
        """Take over the values of a `state_dict`, in the dtype and on the device that this module has.

        strict: whether every entry must be there, and no other; if not, what both have is taken over.

        Raises ValueError that names all that is missing, unknown or does not fit; nothing has changed
        then."""
        own = dict(self._tensors())
        faults = []
        if strict:
            faults += [f"{name} is missing" for name in own if name not in state]
            faults += [f"{name} is unknown" for name in state if name not in own]
        faults += [
            f"{name}: expected {backend.form_of(tensor)}, got {backend.form_of(state[name])}"
            for name, tensor in own.items()
            if name in state and not _holds(state[name], tensor.dtype, tensor.shape)
        ]
        if faults:
            raise ValueError(f"load_state_dict: state: {'; '.join(faults)}")
        for name, tensor in own.items():
            if name in state:
                tensor.data = state[name]

    def astype(self, dtype) -> Module:
        """Change this module to another floating dtype, in place, and return it.

        What changes loses its gradient, and an optimizer of it must be made again. Raises TypeError for a
        dtype that is not floating."""
        dtype = numpy.dtype(dtype)
        if dtype.kind != "f":
            raise TypeError(f"astype: dtype: expected a floating one, got {dtype}")
        for _, tensor in self._tensors():
            if tensor.dtype.kind == "f" and tensor.dtype != dtype:
                _replace(tensor, tensor._data.astype(dtype))
        return self

    def to(self, device: str) -> Module:
        """Move this module to another device, in place, and return it.

        What moves loses its gradient, and an optimizer of it must be made again. Raises as
        `backend.get_device`."""
        backend.get_device(device)
        for _, tensor in self._tensors():
            if backend.device_of(tensor._data) != device:
                _replace(tensor, tensor.to(device)._data)
        return self

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        """The architecture: how many numbers are trained, and the modules in this one by name."""
        lines = [f"{type(self).__name__}: {sum(p.size for p in self.parameters()):,} parameters"]
        for name, module in _find(Module, self, set()):
            lines.append(textwrap.indent(f"{name}: {module!r}", "  "))
        return "\n".join(lines)

    def _expect(self, x, dtype, *sizes) -> None:
        """Refuse an input x that has not this dtype and these sizes, a word standing for any size and a
        leading `...` for any axes."""
        if not _holds(x, dtype, sizes) or x.dtype != dtype:
            sizes = ", ".join("..." if size is ... else str(size) for size in sizes)
            raise self._refusal(x, f"{dtype}[{sizes}]")

    def _refusal(self, x, expected: str, argument: str = "x") -> ValueError:
        layer = repr(self)
        name = type(self).__name__ if "\n" in layer else layer
        return ValueError(f"{name}: {argument}: expected {expected}, got {backend.form_of(x)}")

    def _expect_counts(self, least: int = 1, **counts: int) -> None:
        """Refuse sizes of a layer that are not ints of at least `least`."""
        for name, count in counts.items():
            if not isinstance(count, int) or count < least:
                layer = type(self).__name__
                raise ValueError(f"{layer}: {name}: expected an int of at least {least}, got {count!r}")


class Sequential(Module):
    """The layers one after another, each a Module or another function of one argument."""

    def __init__(self, *layers: Callable):
        for position, layer in enumerate(layers):
            if not callable(layer):
                got = type(layer).__name__
                raise TypeError(f"Sequential: layer {position}: expected a Module or a function, got {got}")
        self.layers = layers

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def _find(kind: type, holder, seen: set[int], path: str = "") -> Iterator[tuple[str, object]]:
    """The pairs (dotted name, object) of one kind below a module, list, tuple or dict, each object once.
    What is found is not looked into."""
    for key, value in _contents(holder):
        if id(value) in seen:
            continue
        seen.add(id(value))
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, kind):
            yield name, value
        else:
            yield from _find(kind, value, seen, name)


def _contents(holder) -> Iterator[tuple[object, object]]:
    """The pairs (name, value) of what a module, list, tuple or dict holds; nothing for anything else."""
    if isinstance(holder, Module):
        return iter(vars(holder).items())
    if isinstance(holder, dict):
        return iter(holder.items())
    return enumerate(holder if isinstance(holder, (list, tuple)) else ())


def _replace(tensor: Tensor, array) -> None:
    """Give a Tensor without history another array, of another dtype or on another device."""
    requires_grad = tensor.requires_grad
    tensor._data, tensor.grad = array, None
    tensor.requires_grad = requires_grad  # the engine looks at the array here


def _holds(array, dtype, sizes: tuple) -> bool:
    """Whether this is an array of the same kind of numbers and of these sizes, written as for `_expect`."""
    shape = getattr(array, "shape", None)
    if shape is None or array.dtype.kind != dtype.kind:
        return False
    if sizes[:1] == (...,):
        sizes = sizes[1:]
        shape = shape[max(len(shape) - len(sizes), 0) :]
    return len(shape) == len(sizes) and all(
        isinstance(size, str) or size == got for size, got in zip(sizes, shape)
    )
