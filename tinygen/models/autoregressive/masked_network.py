"""The masked network of MADE: one pass gives the parameters of p(x_d | x_<d) for every element x_d.

    M. Germain, K. Gregor, I. Murray and H. Larochelle, MADE: Masked Autoencoder for Distribution Estimation,
    2015 (GGML below).

The elements have an order. A hidden unit of degree m sees the first m elements in it, and the parameters of
the element that k others precede see units of degree k or less: so no path leads from an element to its own
parameters, or to those of an earlier one. If an element's own degree is its place, 1 to D, and a parameter's
is k, one rule makes every mask (GGML sections 4.1 and 4.2):

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
    degrees: of hidden units, "even" from 1 to D−1, or "random" there, but none below all degrees of the layer
        before: such a unit would see nothing (GGML section 4.2).
    variants: how many orders and sets of degrees there are, of which at least one is random; all share the
        weights (GGML sections 4.3 and 4.4).
    direct: connect the elements with the parameters directly too.
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
        if not isinstance(hidden, (list, tuple)) or not hidden:
            raise ValueError(f"MaskedNetwork: hidden: expected the units of each layer, got {hidden!r}")
        for units in hidden:
            self._expect_counts(hidden=units)
        if degrees not in ("even", "random"):
            raise ValueError(f"MaskedNetwork: degrees: expected 'even' or 'random', got {degrees!r}")
        orders = numpy.stack([_order(order, inputs) for _ in range(variants)])
        degrees_of_layers = zip(*(_degrees(degrees, hidden, inputs) for _ in range(variants)))
        if variants > 1 and "random" not in (degrees, *([order] if isinstance(order, str) else [])):
            raise ValueError(f"MaskedNetwork: variants: expected 1 where nothing is random, got {variants}")

        self.inputs, self.hidden, self.size = inputs, list(hidden), size
        self.variants, self.context = variants, context
        self.orders = Tensor(orders)
        self.degrees = [Tensor(numpy.stack(of_variants)) for of_variants in degrees_of_layers]
        # Blocks of random degrees would not be those of the next model that loads this one's state.
        self._same_blocks = variants == 1 and degrees == "even"
        chain = self._chain(0)
        self.layers = [self._layer(*pair) for pair in zip(chain, chain[1:])]
        self.direct = self._layer(chain[0], chain[-1], bias=False) if direct else None
        if context:  # the first hidden layer and the parameters see it, other layers through the first
            of_hidden, of_parameters = (nn.Linear(context, len(chain[k]), bias=False) for k in (1, -1))
            self.of_context = {"hidden": of_hidden, "parameters": of_parameters}

    def _chain(self, variant: int) -> list:
        """What the rule compares, from layer to layer: the degrees of elements, hidden units, parameters."""
        places = self.orders.data[variant].argsort()
        return [places + 1, *(degrees.data[variant] for degrees in self.degrees), places.repeat(self.size)]

    def _layer(self, before, after, **options) -> nn.MaskedLinear:
        """A layer between units of these degrees, in blocks where these stay and leave out enough."""
        mask = to_host(_mask(before, after))
        in_blocks = self._same_blocks and nn.StaircaseLinear.pays(mask)
        return nn.StaircaseLinear(mask, **options) if in_blocks else nn.MaskedLinear(mask, **options)

    def forward(self, x, context=None, variant: int = 0):
        """The parameters (N, inputs, size) for x (N, inputs) and context (N, context), where there is one.

        Raises ValueError for an x or context of another shape or dtype, and for another variant."""
        self._expect(x, self.dtype, "N", self.inputs)
        self.check_context(context, x.shape[0])
        self.check_variant(variant)
        if self.variants > 1:
            self._set_masks(variant)
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

    def _set_masks(self, variant: int) -> None:
        """Give each layer the mask of a variant: a new Tensor, as graphs may still need the one before."""
        chain = self._chain(variant)
        for layer, before, after in zip(self.layers, chain, chain[1:]):
            layer.mask = Tensor(_mask(before, after).astype(self.dtype))
        if self.direct is not None:
            self.direct.mask = Tensor(_mask(chain[0], chain[-1]).astype(self.dtype))

    @property
    def dtype(self):
        """Of parameters, x and context."""
        return self.layers[0].weight.dtype

    def order(self, variant: int = 0) -> list[int]:
        """The elements as they come one after another. Raises ValueError for a variant that is not there."""
        self.check_variant(variant)
        return to_host(self.orders.data[variant]).tolist()

    def check_context(self, context, n: int) -> None:
        """Refuse a context that is missing, needless, or not (n, context) in the parameters' dtype."""
        sizes = (n, self.context)
        if not self.context and context is not None:
            raise self._refusal(context, "None", "context")
        if self.context and (getattr(context, "shape", None) != sizes or context.dtype != self.dtype):
            raise self._refusal(context, f"{self.dtype}{list(sizes)}", "context")

    def check_variant(self, variant: int) -> None:
        """Refuse a variant that is not there."""
        if not isinstance(variant, int) or not 0 <= variant < self.variants:
            raise ValueError(f"{self!r}: variant: expected 0 to {self.variants - 1}, got {variant!r}")

    def __repr__(self) -> str:
        return f"MaskedNetwork({self.inputs}, {self.hidden}, {self.size}, variants={self.variants})"


def _order(order, inputs: int) -> numpy.ndarray:
    """The elements as they come one after another, (inputs,) int64."""
    natural = numpy.arange(inputs)
    if isinstance(order, str):
        if order == "random":
            return host_generator().permutation(inputs)
        words = {"natural": natural, "reversed": natural[::-1]}
        if order in words:
            return words[order]
    elif numpy.array_equal(numpy.sort(order, axis=None), natural) and numpy.ndim(order) == 1:
        return numpy.array(order, "int64")
    raise ValueError(
        "MaskedNetwork: order: expected 'natural', 'reversed', 'random' or a permutation of "
        f"0 to {inputs - 1}, got {order!r}"
    )


def _degrees(degrees: str, hidden: Sequence[int], inputs: int) -> list[numpy.ndarray]:
    """The degrees of each hidden layer, (units,) int64, sorted if even."""
    lowest, highest = 1, max(inputs - 1, 1)
    if degrees == "even":
        return [1 + numpy.arange(units) * highest // units for units in hidden]
    of_layers = []
    for units in hidden:
        of_layers.append(host_generator().integers(lowest, highest, units, endpoint=True))
        lowest = of_layers[-1].min()
    return of_layers


def _mask(before, after):
    """M[i, j] = 1 if the degree of i ≤ the degree of j."""
    return before[:, None] <= after
