"""Checks of the derivatives of a function, order by order.

The outputs y of a function of x are contracted with random cotangents c, L = Σₖ ⟨cₖ, yₖ⟩, whose gradient is
x̄ = Jᵀc. It is compared with differences of L in float64. For the next order, the same is asked of the
function (x, c) ↦ x̄ that backward gives under create_graph; that c is moved too reveals a rule that loses the
history of its ȳ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .. import backend
from ..autodiff import Tensor, grad
from ..backend import xp
from .differences import (
    KINK,
    STEEP,
    TOLERANCE,
    WRONG,
    Comparison,
    Variable,
    Worst,
    index_of,
    noise_of,
)

Function = Callable[[], tuple[Tensor, ...]]  # of the values that its variables hold when it is called

SHOWN = 8  # so many faults are told in the text of an error
CHANGED = "changed in place"
WORDS = {
    WRONG: "backward differs from central differences",
    KINK: "backward differs from central differences at a kink",
    STEEP: "backward agrees with differences over smaller steps only",
}


class Fault(NamedTuple):
    """A wrong rule of a primitive, at one place where that is called.

    primitive, input: the names of the primitive, and of the parameter whose rule it is.
    where: file and line of the call. rule_at: file and line of the rule's definition.
    order: of the derivative that is wrong: 1 for what the rule gives, 2 for its own derivative, and so on.
    fault: what is wrong, in words.
    worst: the worst element (index, expected, got); None where the fault is not one of values.
    pattern: of the fault, if it is a known one.
    calls: how many calls at this place are wrong.
    within: the primitive called at `where`, in whose rule the faulty one is called; "" if it is this one."""

    primitive: str
    input: str
    where: str
    rule_at: str
    formula: str
    order: int
    fault: str
    worst: Worst | None
    pattern: str | None
    calls: int = 1
    within: str = ""

    def __str__(self) -> str:
        within = f"used by the rule of {self.within}, " if self.within else ""
        times = f" ({self.calls} calls)" if self.calls > 1 else ""
        which = "the rule" if self.order == 1 else f"the derivative of order {self.order - 1} of the rule"
        lines = [
            f"{self.primitive}, {within}called at {self.where}{times}: {which} for {self.input!r} is wrong",
            f"  rule: {self.formula or 'no formula'}, defined at {self.rule_at}",
            f"  {self.fault}{_numbers(self.worst)}",
        ]
        return "\n".join(lines + ([f"  pattern: {self.pattern}"] if self.pattern else []))


class GradientError(AssertionError):
    """A gradient is wrong, or something was changed or shared in computing it.

    variable: the name of f's input with the wrong derivative, or of the parameter.
    order: of the derivative; 1 for the gradient.
    index, expected, got: the worst element, its right value, and what backward gave; None where the fault is
        not one of values.
    faults: the wrong rules that were found, each a `Fault`.
    primitive, input, where, rule_at, worst, pattern: those of the first fault. Where no rule is at fault,
        input is the variable, worst its worst element, pattern a word for what was found out about f, and
        the others are None.
    passed, nodes: how many of the calls recorded by f passed by themselves, of how many.
    function: what the wrong derivative is of: f, or a derivative of it of a lower order; None if it was not
        found in a derivative."""

    function: Function | None = None

    def __init__(self, fault: str, variable: str, order: int, worst: Worst | None = None, pattern=None):
        super().__init__(fault, variable, order)
        self.variable, self.order = variable, order
        self.index, self.expected, self.got = worst or (None, None, None)
        self.text = f"derivative of order {order} with respect to {variable}: {fault}{_numbers(worst)}"
        self.faults: tuple[Fault, ...] = ()
        self.primitive = self.where = self.rule_at = None
        self.input, self.worst, self.pattern = variable, worst, pattern
        self.passed = self.nodes = 0

    def located(self, faults: list[Fault], passed: int, nodes: int) -> None:
        """Say which rules are wrong."""
        self.faults, self.passed, self.nodes = tuple(faults), passed, nodes
        first = faults[0]
        self.primitive, self.input = first.primitive, first.input
        self.where, self.rule_at = first.where, first.rule_at
        self.worst, self.pattern = first.worst, first.pattern
        title = "A wrong rule" if len(faults) == 1 else f"{len(faults)} wrong rules"
        self.text += f"\n{title}; {passed} of {nodes} nodes passed by themselves:\n"
        self.text += "\n".join(str(fault) for fault in faults[:SHOWN])
        if len(faults) > SHOWN:
            self.text += f"\nand {len(faults) - SHOWN} more, in the attribute `faults`"

    def explained(self, pattern: str | None, finding: str, passed: int, nodes: int) -> None:
        """Say what is wrong where no rule is."""
        self.pattern, self.passed, self.nodes = pattern, passed, nodes
        self.text += f"\nNo rule is wrong ({passed} of {nodes} nodes passed by themselves): {finding}"

    def tell_place(self, place: str, instead: str) -> None:
        """Tell what was called at a place as called at another."""
        self.text = self.text.replace(f"called at {place}", f"called at {instead}")
        self.faults = tuple(f._replace(where=instead) if f.where == place else f for f in self.faults)
        self.where = self.faults[0].where if self.faults else None

    def __str__(self) -> str:
        return self.text


def _numbers(worst: Worst | None) -> str:
    if worst is None:
        return ""
    return f" at {list(worst.index)}: expected {worst.expected:.10g}, got {worst.got:.10g}"


def changed(name: str) -> str:
    """What is wrong, in words, where an array is not as it was before."""
    return f"the values of {name} were changed in place"


def check_derivatives(
    function: Function,
    variables: list[Variable],
    highest: int,
    kinks: list[GradientError],
    others: list[Variable] = (),
) -> None:
    """Check the derivatives with respect to the variables, order by order.

    kinks: takes up the errors that the function may be to blame for, not being smooth.
    others: what the function is not differentiated with respect to, but its gradients are.

    Raises GradientError, with its attribute `function`."""
    variables, others = list(variables), list(others)
    for order in range(1, highest + 1):
        try:
            derivative = Derivative(function, variables, others, order)
            derivative.check(kinks)
            if order < highest:
                derivative.check_readings()
        except GradientError as error:
            error.function = function
            raise
        function = derivative
        variables, others = variables + others + derivative.cotangents, []


class Derivative:
    """The gradient of a function contracted with random cotangents: a function of its variables, too."""

    def __init__(self, function: Function, variables, others, order: int):
        self.function, self.variables, self.others, self.order = function, variables, others, order
        self.draws = backend.Generator(order)
        self.outputs = function()
        self.cotangents = [_cotangent(k, y, self.draws) for k, y in enumerate(self.outputs)]
        self.finite = all(bool(xp.isfinite(y.data).all()) for y in self.outputs)
        before = [y.data.copy() for y in self.outputs]
        self.gradients = [x_bar.data for x_bar in self._gradients(self.outputs)]
        self._check_changes(before)
        self.noise = noise_of(self.outputs, self.gradients, variables, self.cotangents)

    def __call__(self) -> tuple[Tensor, ...]:
        return self._gradients(self.function(), create_graph=True)

    def loss(self) -> float:
        """L. What is no number to begin with is left out: its cotangent is 0."""
        values = [xp.where(c.value != 0, y.data, 0) for c, y in zip(self.cotangents, self.function())]
        return sum(float((c.value * y).sum()) for c, y in zip(self.cotangents, values))

    def _gradients(self, outputs, create_graph=False) -> tuple[Tensor, ...]:
        """The gradient of L with respect to each variable; zeros where L does not depend on it."""
        recorded = [(y, c.tensor) for y, c in zip(outputs, self.cotangents) if y.requires_grad]

        def with_respect_to(*these: Variable) -> tuple[Tensor | None, ...]:
            if not recorded:
                return (None,) * len(these)
            ys, cs = zip(*recorded)
            xs = [variable.tensor for variable in these]
            return grad(ys, xs, cs, create_graph=create_graph, retain_graph=True, allow_unused=True)

        try:
            gradients = with_respect_to(*self.variables)
        except RuntimeError:
            for variable in self.variables:  # one at a time, to tell which it is
                try:
                    with_respect_to(variable)
                except RuntimeError as error:
                    raise GradientError(str(error), variable.name, self.order) from error
            raise
        return tuple(
            Tensor(xp.zeros(variable.value.shape)) if x_bar is None else x_bar
            for variable, x_bar in zip(self.variables, gradients)
        )

    def check(self, kinks: list[GradientError]) -> None:
        self._check_memory()
        for variable, x_bar in zip(self.variables, self.gradients):
            found = self.comparison(variable, x_bar).run(self.draws)
            if found is None:
                continue
            worst, why = found
            if why == WRONG:
                raise GradientError(WORDS[why], variable.name, self.order, worst)
            kinks.append(GradientError(WORDS[why], variable.name, self.order, worst, why))

    def comparison(self, variable: Variable, x_bar) -> Comparison:
        def again():
            return self._gradients(self.function())[self.variables.index(variable)].data

        return Comparison(self.loss, variable, x_bar, self.noise, again, self.finite)

    def _check_changes(self, outputs_before: list) -> None:
        """Nothing was changed in place by the function or by its rules."""
        held = [(v.name, v.tensor.data, v.value) for v in self.variables + self.others + self.cotangents]
        held += [(f"output {k}", y.data, y_) for k, (y, y_) in enumerate(zip(self.outputs, outputs_before))]
        for name, now, before in held:
            if not xp.array_equal(now, before, equal_nan=True):
                raise GradientError(changed(name), name, self.order, None, CHANGED)

    def _check_memory(self) -> None:
        """Each gradient has its input's shape and dtype, and memory of its own."""
        others = [(v.name, v.tensor.data) for v in self.variables + self.others + self.cotangents]
        for variable, x_bar in zip(self.variables, self.gradients):
            if (x_bar.shape, x_bar.dtype) != (variable.value.shape, variable.value.dtype):
                raise GradientError(
                    f"expected {variable.value.dtype}{list(variable.value.shape)}, "
                    f"got {x_bar.dtype}{list(x_bar.shape)}",
                    variable.name,
                    self.order,
                )
            for name, other in others:
                if xp.may_share_memory(x_bar, other):
                    raise GradientError(f"it shares memory with {name}", variable.name, self.order)
            others.append((f"the gradient of {variable.name}", x_bar))

    def check_readings(self) -> None:
        """Backward under create_graph gives the numbers of plain backward."""
        for variable, again, x_bar in zip(self.variables, self(), self.gradients):
            excess = abs(again.data - x_bar) * variable.steps - TOLERANCE * abs(x_bar) * variable.steps
            wrong = ~(excess <= self.noise) & (variable.steps > 0) & xp.isfinite(x_bar)
            if wrong.any():
                worst = int((wrong * xp.where(xp.isnan(excess), xp.inf, excess)).argmax())
                numbers = float(x_bar.ravel()[worst]), float(again.data.ravel()[worst])
                fault = "backward with create_graph=True differs from plain backward"
                index = index_of(worst, x_bar.shape)
                raise GradientError(fault, variable.name, self.order, Worst(index, *numbers))


def _cotangent(k: int, y: Tensor, draws: backend.Generator) -> Variable:
    """Random numbers, with 0 where the output is no number."""
    finite = xp.isfinite(y.data)
    values = xp.where(finite, draws.normal(y.shape, "float64"), 0)
    cotangent = Variable(f"the cotangent of output {k}", Tensor(values, requires_grad=True))
    cotangent.steps = xp.where(finite, cotangent.steps, 0)
    return cotangent
