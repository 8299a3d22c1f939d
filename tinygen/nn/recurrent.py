"""Recurrent layers: GRU and LSTM, as a cell for one step and as a layer over whole sequences (N, T, C).

A step has a part that knows only the input, x W + b. Over a sequence that is one matrix product for all steps
together; what remains for each step is the recurrent product h U and the gates. Equations and the order of
the gates are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy  # weights are made on the host

from .. import ops
from ..autodiff import Tensor
from ..backend import xp
from .init import glorot_uniform, orthogonal
from .module import Module


class _Cell(Module):
    """What the cells share: the weights of their gates side by side, and how a step is called.

    The weights of each gate start by themselves: those of inputs by Glorot and Bengio, the recurrent ones
    orthogonal (Saxe et al. 2014). Biases start at 0."""

    gates = 0

    def __init__(self, inputs: int, hidden: int):
        self._expect_counts(inputs=inputs, hidden=hidden)
        self.inputs, self.hidden = inputs, hidden
        self.weight = self._side_by_side(glorot_uniform, (inputs, hidden))
        self.recurrent_weight = self._side_by_side(orthogonal, (hidden, hidden))
        self.bias = self._side_by_side(numpy.zeros, (hidden,))

    def _side_by_side(self, init: Callable, shape: tuple[int, ...]) -> Tensor:
        """A parameter for all gates, made by `init` for each."""
        parts = [init(shape) for _ in range(self.gates)]
        return Tensor(numpy.concatenate(parts, axis=-1).astype("float32"), requires_grad=True)

    def forward(self, x, state=None):
        self._expect(x, self.weight.dtype, "N", self.inputs)
        return self.step(self.of_input(x), self.started(x, state))

    def of_input(self, x):
        """x W + b, for x (..., inputs): what `step` takes."""
        return ops.linear(x, self.weight, self.bias)

    def started(self, x, state):
        """The state to start from at inputs x (N, ...): the one given, checked, or zeros."""
        raise NotImplementedError

    def step(self, z, state):
        """The next state, from z = x W + b and the last state."""
        raise NotImplementedError

    def output(self, state):
        """h (N, hidden) of a state."""
        raise NotImplementedError

    def _zeros(self, x):
        return xp.zeros((x.shape[0], self.hidden), self.weight.dtype)

    def _expect_state(self, name: str, h, x) -> None:
        shape, dtype = (x.shape[0], self.hidden), self.weight.dtype
        if getattr(h, "shape", None) != shape or h.dtype != dtype:
            raise self._refusal(h, f"{dtype}{list(shape)}", name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inputs}, {self.hidden})"


class GRUCell(_Cell):
    """One step of gated recurrent units: x (N, inputs) and h (N, hidden), zeros if None, to the next h.

        r = σ(x W_r + b_r + h U_r + b'_r)              reset gate
        z = σ(x W_z + b_z + h U_z + b'_z)              update gate
        n = tanh(x W_n + b_n + r ∘ (h U_n + b'_n))     new state
        h ← (1 − z) ∘ n + z ∘ h

    weight: W = (W_r, W_z, W_n) side by side, (inputs, 3 hidden); recurrent_weight: U (hidden, 3 hidden);
        bias, recurrent_bias: b and b' (3 hidden,).

    This is the form of cuDNN and PyTorch: the reset gate acts on the recurrent product, so that it is one
    for all gates. As published (K. Cho et al., Learning phrase representations using RNN encoder-decoder for
    statistical machine translation, 2014, eq. 5 to 8) it acts on the state, (r ∘ h) U_n, and there are no
    biases.

    Raises ValueError for an x or h of another dtype or size."""

    gates = 3

    def __init__(self, inputs: int, hidden: int):
        super().__init__(inputs, hidden)
        self.recurrent_bias = self._side_by_side(numpy.zeros, (hidden,))

    def started(self, x, h):
        if h is None:
            return self._zeros(x)
        self._expect_state("h", h, x)
        return h

    def step(self, z, h):
        of_h = ops.linear(h, self.recurrent_weight, self.recurrent_bias)
        x_rz, x_n = ops.split(z, [2 * self.hidden], axis=1)
        h_rz, h_n = ops.split(of_h, [2 * self.hidden], axis=1)
        r, z = ops.split(ops.sigmoid(x_rz + h_rz), 2, axis=1)
        n = ops.tanh(x_n + r * h_n)
        return n + z * (h - n)

    def output(self, h):
        return h


class LSTMCell(_Cell):
    """One step of long short-term memory: x (N, inputs) and state (h, c), each (N, hidden), zeros if None, to
    the next (h, c).

        i = σ(x W_i + h U_i + b_i)        input gate
        f = σ(x W_f + h U_f + b_f)        forget gate
        g = tanh(x W_g + h U_g + b_g)     new content
        o = σ(x W_o + h U_o + b_o)        output gate
        c ← f ∘ c + i ∘ g
        h ← o ∘ tanh(c)

    (S. Hochreiter and J. Schmidhuber, Long short-term memory, 1997, with the forget gate of F. Gers,
    J. Schmidhuber and F. Cummins, Learning to forget, 2000.)

    weight: W = (W_i, W_f, W_g, W_o) side by side, (inputs, 4 hidden); recurrent_weight: U (hidden, 4 hidden);
    bias: b (4 hidden,), which is the sum of PyTorch's two. b_f starts at 1, so that memory lasts at first
        (R. Jozefowicz, W. Zaremba and I. Sutskever, An empirical exploration of recurrent network
        architectures, 2015, section 2.2), the rest at 0.

    Raises ValueError for an x, h or c of another dtype or size."""

    gates = 4

    def __init__(self, inputs: int, hidden: int):
        super().__init__(inputs, hidden)
        forget = numpy.repeat([0, 1, 0, 0], hidden)
        self.bias.data = forget

    def started(self, x, state):
        if state is None:
            return self._zeros(x), self._zeros(x)
        if not isinstance(state, tuple) or len(state) != 2:
            raise self._refusal(state, "a pair (h, c)", "state")
        for name, part in zip("hc", state):
            self._expect_state(name, part, x)
        return state

    def step(self, z, state):
        h, c = state
        i, f, g, o = ops.split(z + ops.matmul(h, self.recurrent_weight), 4, axis=1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        return ops.sigmoid(o) * ops.tanh(c), c

    def output(self, state):
        h, _ = state
        return h


class _Recurrence(Module):
    """A cell over the steps of sequences."""

    def __init__(self, cell: _Cell):
        self.cell = cell

    def forward(self, x, state=None):
        cell = self.cell
        self._expect(x, cell.weight.dtype, "N", "T", cell.inputs)
        state = cell.started(x, state)
        if x.shape[1] == 0:
            return Tensor(xp.zeros((x.shape[0], 0, cell.hidden), cell.weight.dtype)), state
        outputs = []
        for z in ops.unstack(cell.of_input(x), axis=1):
            state = cell.step(z, state)
            outputs.append(cell.output(state))
        return ops.stack(outputs, axis=1), state

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.cell.inputs}, {self.cell.hidden})"


class GRU(_Recurrence):
    """A GRUCell over sequences: x (N, T, inputs) and h (N, hidden), zeros if None, to y (N, T, hidden), the h
    after each step, and the last h.

    Raises ValueError for an x or h of another dtype or size."""

    def __init__(self, inputs: int, hidden: int):
        super().__init__(GRUCell(inputs, hidden))


class LSTM(_Recurrence):
    """An LSTMCell over sequences: x (N, T, inputs) and state (h, c), each (N, hidden), zeros if None, to y
    (N, T, hidden), the h after each step, and the last state (h, c).

    Raises ValueError for an x, h or c of another dtype or size."""

    def __init__(self, inputs: int, hidden: int):
        super().__init__(LSTMCell(inputs, hidden))
