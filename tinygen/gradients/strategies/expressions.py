"""Random expressions: operations composed, values used again, several outputs, shapes that broadcast."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature

from hypothesis import strategies as st

from ... import ops
from ...backend import device
from .arrays import alike, broadcastable_shapes

# name -> (number of operands, function of a namespace of operations and the operands, that returns a tuple).
# All are smooth, and from values of at most 2 in magnitude make values of at most 2.
STEPS: dict[str, tuple[int, Callable]] = {
    "sin": (1, lambda ops, a: (ops.sin(a),)),
    "tanh": (1, lambda ops, a: (ops.tanh(a),)),
    "sigmoid": (1, lambda ops, a: (ops.sigmoid(a),)),
    "half_exp_minus": (1, lambda ops, a: (ops.exp(-a * a) / 2,)),
    "half_sum": (2, lambda ops, a, b: ((a + b) / 2,)),
    "half_difference": (2, lambda ops, a, b: ((a - b) / 2,)),
    "half_product": (2, lambda ops, a, b: (a * b / 2,)),
    "quotient": (2, lambda ops, a, b: (a / (1 + b * b),)),
    "mean": (1, lambda ops, a: (a.mean(),)),
    "softmax": (1, lambda ops, a: (ops.softmax(a, -1),)),
    "unstack": (1, lambda ops, a: ops.unstack(a, 0)),
    "exchange": (1, lambda ops, a: (ops.concatenate(ops.split(a, [1], 0)[::-1], 0),)),
}
_NEED_AN_AXIS = {"softmax", "unstack", "exchange"}


class Expression:
    """A computation, called on as many arrays or Tensors as it has inputs; returns a tuple.

    inputs: float64 arrays to call it on.
    steps: pairs (name of a step, numbers of its operands). The values are numbered: first the inputs, then
        what one step after another gives.
    outputs: the numbers of the values that are returned.
    known: the steps by name, as STEPS has them."""

    def __init__(
        self, inputs: list, steps: list[tuple[str, tuple[int, ...]]], outputs: list[int], known=STEPS
    ):
        self.inputs, self.steps, self.outputs, self.known = inputs, steps, outputs, known

    def __call__(self, *inputs, ops=ops) -> tuple:
        """`ops` is where the functions named in STEPS come from."""
        values = self.values(inputs, ops)
        return tuple(values[k] for k in self.outputs)

    def values(self, inputs, ops=ops) -> list:
        values = list(inputs)
        for name, numbers in self.steps:
            values += self.known[name][1](ops, *(values[k] for k in numbers))
        return values

    def __repr__(self) -> str:
        shapes = [x.shape for x in self.inputs]
        return f"Expression of {shapes}: {self.steps} -> {self.outputs}"


@st.composite
def expressions(draw, *functions: Callable, max_steps=8) -> Expression:
    """Expressions over inputs that broadcast; any value may be used again, or not at all.

    functions: of arrays that broadcast, smooth and not much larger than these; half of
        the steps.

        @given(expressions(my_primitive))
        def test_my_primitive_among_others(expression):
            check_gradients(expression, *expression.inputs, order=2)

    shows what a test of the function alone does not: a rule that writes into a gradient which others use."""
    own = {f.__name__: _step(f) for f in functions}
    known = STEPS | own
    shapes = draw(broadcastable_shapes(draw(st.integers(1, 3)), max_dims=2, min_side=1))
    expression = Expression(draw(alike(shapes)), [], [], known)
    values = expression.inputs
    for _ in range(draw(st.integers(1, max_steps))):
        with_axes = [k for k, value in enumerate(values) if value.ndim]
        others = st.sampled_from([name for name in STEPS if with_axes or name not in _NEED_AN_AXIS])
        name = draw(others | st.sampled_from(list(own)) if own else others)
        operands = with_axes if name in _NEED_AN_AXIS else range(len(values))
        numbers = draw(st.tuples(*[st.sampled_from(operands)] * known[name][0]))
        expression.steps.append((name, numbers))
        with device("cpu"):
            values = expression.values(expression.inputs)
    later = range(len(expression.inputs), len(values))
    expression.outputs = draw(st.lists(st.sampled_from(later), min_size=1, max_size=2, unique=True))
    return expression


def _step(function: Callable) -> tuple[int, Callable]:
    return len(signature(function).parameters), lambda ops, *operands: (function(*operands),)
