"""The masked network of MADE: one pass gives the parameters of p(x_d | x_<d) for every element x_d.

    M. Germain, K. Gregor, I. Murray and H. Larochelle, MADE: Masked Autoencoder for Distribution Estimation,
    2015 (GGML below).

The elements have an order. A hidden unit of degree m sees the first m elements in it, and the parameters of
the element that k others precede see units of degree k or less: so no path leads from an element to its own
parameters, or to those of an earlier one. Counting an element's own degree as its place, 1 to D, one rule
makes every mask (GGML eq. 13 to 15):

    M[i, j] = 1 if the degree of i ≤ the degree of j.

"""

from __future__ import annotations

from collections.abc import Sequence

import numpy  # orders and degrees are drawn, and read, on the host

from ... import nn, ops
from ...autodiff import Tensor
from ...backend import host_generator, to_host


class MaskedNetwork(nn.Module):
    """Hidden layers of ReLU units: x (N, inputs) to parameters (N, inputs, size).

    inputs: D. hidden: the units of each hidden layer. size: the parameters of each element.
    order: "natural", "reversed", "random", or the elements 0 .. D−1 as they come one after another.
    degrees: of hidden units, "even" from 1 to D−1, or "random" there (GGML section 4.2).
    variants: how many orders and sets of degrees there are, if these are random; `use` chooses one.
    direct: connect the elements with the parameters directly too (GGML section 3, its A).
    context: the size of a vector for each example on which all parameters depend, if there is one.

    Raises ValueError for an order that is no permutation, and for another word or count."""

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        size: int = 1,
        *,
        order: str | Sequence[int] = "natural",
        degrees: str = "even",
        variants: int = 1,
        direct: bool = False,
        context: int = 0,
    ):
        self._expect_counts(inputs=inputs, size=size, variants=variants)
        self._expect_counts(least=0, context=context)
        if not hidden:
            raise ValueError("MaskedNetwork: hidden: expected at least one layer, got none")
        for units in hidden:
            self._expect_counts(hidden=units)
        if degrees not in ("even", "random"):
            raise ValueError(f"MaskedNetwork: degrees: expected 'even' or 'random', got {degrees!r}")
        self.inputs, self.size, self.variants, self.context = inputs, size, variants, context
        orders = numpy.stack([_order(order, inputs) for _ in range(variants)])
        sets = [numpy.stack([_degrees(degrees, units, inputs) for _ in range(variants)]) for units in hidden]
        chain = self._chain(orders[0], [degrees[0] for degrees in sets])
        self.orders, self.degrees = Tensor(orders), [Tensor(degrees) for degrees in sets]
        self.layers = [nn.MaskedLinear(_mask(*pair)) for pair in zip(chain, chain[1:])]
        self.direct = nn.MaskedLinear(_mask(chain[0], chain[-1]), bias=False) if direct else None
        if context:  # the first hidden layer and the parameters see it, other layers through the first
            of_hidden, of_parameters = (nn.Linear(context, len(chain[k]), bias=False) for k in (1, -1))
            self.of_context = {"hidden": of_hidden, "parameters": of_parameters}
        self.variant = Tensor(numpy.array(0))  # the one in use, state like its masks

    def _chain(self, order, degrees: list) -> list:
        """What the rule compares, from layer to layer: the degrees of elements and of hidden units, and for
        each parameter how many elements come before its own."""
        places = order.argsort()
        return [places + 1, *degrees, places.repeat(self.size)]

    def use(self, variant: int) -> None:
        """Compute with this variant of order and degrees from now on. Raises IndexError for another."""
        if not 0 <= variant < self.variants:
            raise IndexError(f"MaskedNetwork.use: variant: expected 0 to {self.variants - 1}, got {variant}")
        chain = self._chain(self.orders.data[variant], [degrees.data[variant] for degrees in self.degrees])
        for layer, before, after in zip(self.layers, chain, chain[1:]):
            layer.mask.data = _mask(before, after)
        if self.direct is not None:
            self.direct.mask.data = _mask(chain[0], chain[-1])
        self.variant.data = variant

    def forward(self, x, context=None):
        """The parameters (N, inputs, size) for x (N, inputs) and context (N, context), where there is one.

        Raises ValueError for an x or context of another shape or dtype."""
        self._expect(x, self.layers[0].weight.dtype, "N", self.inputs)
        self.check_context(context, x.shape[0])
        *hidden, last = self.layers
        h = x
        for layer in hidden:
            h = layer(h)
            if self.context and layer is hidden[0]:
                h = h + self.of_context["hidden"](context)
            h = ops.relu(h)
        h = last(h)
        if self.context:
            h = h + self.of_context["parameters"](context)
        if self.direct is not None:
            h = h + self.direct(x)
        return ops.reshape(h, (x.shape[0], self.inputs, self.size))

    @property
    def order(self) -> list[int]:
        """The elements as they come one after another."""
        return to_host(self.orders.data[self.variant.item()]).tolist()

    def degrees_of(self, layer: int) -> numpy.ndarray:
        """The degrees of a hidden layer's units."""
        return to_host(self.degrees[layer].data[self.variant.item()])

    def check_context(self, context, n: int) -> None:
        """Refuse a context that is missing, needless, or not (n, context) in the parameters' dtype."""
        dtype, sizes = self.layers[0].weight.dtype, (n, self.context)
        if not self.context and context is not None:
            raise self._refusal(context, "None", "context")
        if self.context and (getattr(context, "shape", None) != sizes or context.dtype != dtype):
            raise self._refusal(context, f"{dtype}{list(sizes)}", "context")


def _order(order, inputs: int) -> numpy.ndarray:
    """The elements as they come one after another, (inputs,) int64."""
    natural = numpy.arange(inputs)
    if isinstance(order, str):
        words = {"natural": natural, "reversed": natural[::-1], "random": None}
        if order in words:
            return words[order] if order != "random" else host_generator().permutation(inputs)
    elif sorted(order) == natural.tolist():
        return numpy.array(order, "int64")
    raise ValueError(
        "MaskedNetwork: order: expected 'natural', 'reversed', 'random' or a permutation of "
        f"0 to {inputs - 1}, got {order!r}"
    )


def _degrees(degrees: str, units: int, inputs: int) -> numpy.ndarray:
    """The degrees of a hidden layer, (units,) int64, sorted if even."""
    highest = max(inputs - 1, 1)
    if degrees == "even":
        return 1 + numpy.arange(units) * highest // units
    return host_generator().integers(1, highest, units, endpoint=True)


def _mask(before, after):
    """M[i, j] = 1 if the degree of i ≤ the degree of j."""
    return (before[:, None] <= after).astype("float32")
