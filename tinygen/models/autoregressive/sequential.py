"""Finding the elements of x one after another: samples of MADE, completions, inverses of flows.

A masked network gives the parameters of an element as soon as those before it are known. What an element is,
given its parameters, is said by

    draw(d, parameters) -> values (n,) of element d, from its parameters (size, n),

on raw arrays. `fill` and `fill_naively` return the same x (n, inputs), a raw array.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy  # degrees are sorted on the host

from ... import backend, ops
from ...autodiff import no_grad
from ...backend import xp
from .masked_network import MaskedNetwork

Draw = Callable


@no_grad()
def fill_naively(network: MaskedNetwork, draw: Draw, n: int, context=None):
    """A whole pass of the network for every element."""
    x = xp.zeros((n, network.inputs), network.layers[0].weight.dtype)
    for d in network.order:
        parameters = network(x, context).data[:, d]
        x[:, d] = draw(d, parameters.T)
    return x


@no_grad()
def fill(network: MaskedNetwork, draw: Draw, n: int, context=None):
    """Every unit computed once, as soon as all that it sees is there: one pass in all.

    With the units of each layer sorted by degree, those that see the first k elements alone are the first
    ones, and a unit of degree k sees exactly the first ones of the layer below: slices, and no masks. Arrays
    are (units, n). The elements stand in their order, below a row of ones, for the biases, and the context.
    """
    network.check_context(context, n)
    order = network.order
    layers, of_units, of_elements = _sorted_weights(network, order)
    x = _known_at_first(network, n, context)
    first = len(x) - network.inputs
    hidden = [(_with_ones(len(weights), n, x.dtype), weights, counts) for weights, counts in layers]
    for k, d in enumerate(order):
        below, known = x, first + k
        for units, weights, counts in hidden:
            start, stop = counts[k], counts[k + 1]  # the units of degree k
            if start < stop:
                new = units[1 + start : 1 + stop]
                backend.matmul(weights[start:stop, :known], below[:known], out=new)
                xp.maximum(new, 0, out=new)
            below, known = units, 1 + stop
        parameters = backend.matmul(of_units[k][:, :known], below[:known])
        if of_elements is not None:
            parameters += backend.matmul(of_elements[k][:, : first + k], x[: first + k])
        x[first + k] = draw(d, parameters)
    places = xp.argsort(xp.asarray(order))
    return xp.ascontiguousarray(x[first:][places].T)


def _with_ones(rows: int, n: int, dtype):
    """Memory for so many rows (n,), below a row of ones."""
    array = xp.empty((1 + rows, n), dtype)
    array[0] = 1
    return array


def _known_at_first(network: MaskedNetwork, n: int, context):
    """Rows for the elements, below the row of ones and those of the context."""
    x = _with_ones(network.context + network.inputs, n, network.layers[0].weight.dtype)
    if context is not None:
        x[1 : 1 + network.context] = ops.raw(context).T
    return x


def _sorted_weights(network: MaskedNetwork, order: list[int]):
    """(layers, of_units, of_elements), as `fill` multiplies with them:

    layers: for each hidden layer its weights (units, 1 + ...), biases first, and counts: counts[k] is how
        many units have a degree below k.
    of_units: (inputs, size, 1 + units), what the parameters of each element in the order take of the last
        hidden layer, biases first.
    of_elements: (inputs, size, 1 + context + inputs), what they take of context and elements directly; None
        for nothing."""
    below = xp.asarray(order)
    layers = []
    *hidden, last = network.layers
    for k, layer in enumerate(hidden):
        degrees = network.degrees_of(k)
        by_degree = xp.asarray(degrees.argsort(kind="stable"))
        columns = [layer.bias.data[by_degree][:, None], layer.weight.data[below][:, by_degree].T]
        if k == 0 and network.context:
            columns.insert(1, network.of_context["hidden"].weight.data[:, by_degree].T)
        counts = numpy.searchsorted(numpy.sort(degrees), numpy.arange(network.inputs + 1)).tolist()
        layers.append((xp.concatenate(columns, axis=1), counts))
        below = by_degree

    def by_element(rows):
        """What sends (rows, inputs · size) as what is sent, (inputs, size, rows), in the order."""
        apart = rows.reshape(len(rows), network.inputs, network.size)
        return apart[:, xp.asarray(order)].transpose(1, 2, 0)

    of_units = by_element(xp.concatenate([last.bias.data[None], last.weight.data[below]]))
    if network.direct is None and not network.context:
        return layers, xp.ascontiguousarray(of_units), None
    parts = [xp.zeros_like(last.bias.data[None])]
    if network.context:
        parts.append(network.of_context["parameters"].weight.data)
    if network.direct is not None:
        parts.append(network.direct.weight.data[xp.asarray(order)])
    else:
        parts.append(xp.zeros((network.inputs, last.outputs), last.weight.dtype))
    return layers, xp.ascontiguousarray(of_units), xp.ascontiguousarray(by_element(xp.concatenate(parts)))
