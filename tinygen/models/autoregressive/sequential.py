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
from ...backend import to_host, xp
from .masked_network import MaskedNetwork


@no_grad()
def fill_naively(network: MaskedNetwork, draw: Callable, n: int, context=None, variant: int = 0):
    """A whole pass of the network for every element."""
    x = xp.zeros((n, network.inputs), network.dtype)
    for d in network.order(variant):
        parameters = ops.raw(network(x, context, variant))[:, d]
        x[:, d] = draw(d, parameters.T)
    return x


@no_grad()
def fill(network: MaskedNetwork, draw: Callable, n: int, context=None, variant: int = 0):
    """Every unit computed once, as soon as all that it sees is there: one pass in all.

    With the units of each layer sorted by degree, those that see the first k elements alone are the first
    ones, and a unit of degree k sees exactly the first ones of the layer below: slices, and no masks. Arrays
    are (units, n). The elements stand in their order, below a row of ones, for the biases, and the context.
    """
    network.check_context(context, n)
    network.check_variant(variant)
    order = network.order(variant)
    layers, of_units, of_elements = _sorted_weights(network, order, variant)
    x = _known_at_first(network, n, context)
    first = len(x) - network.inputs
    hidden = [(_with_ones(len(weights), n, x.dtype), weights, counts) for weights, counts in layers]
    zero = xp.zeros((1, n), x.dtype)
    for k, d in enumerate(order):
        below, seen = x, first + k
        for units, weights, counts in hidden:
            start, stop = counts[k], counts[k + 1]  # the units of degree k
            if start < stop:
                new = units[1 + start : 1 + stop]
                backend.matmul(weights[start:stop, :seen], below[:seen], out=new)
                xp.maximum(new, zero, out=new)
            below, seen = units, 1 + stop
        parameters = backend.matmul(of_units[k, :, :seen], below[:seen])
        if of_elements is not None:
            parameters += backend.matmul(of_elements[k, :, : first + k], x[: first + k])
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
    x = _with_ones(network.context + network.inputs, n, network.dtype)
    if context is not None:
        x[1 : 1 + network.context] = ops.raw(context).T
    return x


def _sorted_weights(network: MaskedNetwork, order: list[int], variant: int):
    """(layers, of_units, of_elements), as `fill` multiplies with them:

    layers: for each hidden layer its weights (units, 1 + ...), biases first, and counts: counts[k] is how
        many units have a degree below k.
    of_units: (inputs, size, 1 + units), what the parameters of each element in the order take of the last
        hidden layer, biases first.
    of_elements: (inputs, size, 1 + context + inputs), what they take of context and elements directly; None
        for nothing."""
    order = below = numpy.array(order)
    context = network.of_context if network.context else {}
    layers = []
    *hidden, last = network.layers
    for layer, degrees in zip(hidden, network.degrees):
        degrees = to_host(degrees.data[variant])
        by_degree = degrees.argsort(kind="stable")
        rows = [layer.bias.data[None], _permuted(layer.weight.data, below)]
        if layer is hidden[0] and context:
            rows.insert(1, context["hidden"].weight.data)
        counts = numpy.searchsorted(numpy.sort(degrees), numpy.arange(network.inputs + 1)).tolist()
        layers.append((_permuted(_columns(rows), by_degree), counts))
        below = by_degree

    def by_element(rows: list):
        return _permuted(_columns(rows).reshape(network.inputs, network.size, -1), order)

    of_units = by_element([last.bias.data[None], _permuted(last.weight.data, below)])
    if network.direct is None and not context:
        return layers, of_units, None
    rows = [xp.zeros((1 + network.context + network.inputs, last.outputs), network.dtype)]
    if context:
        rows[0][1 : 1 + network.context] = context["parameters"].weight.data
    if network.direct is not None:
        rows[0][1 + network.context :] = _permuted(network.direct.weight.data, order)
    return layers, of_units, by_element(rows)


def _columns(rows: list):
    """The columns of what is below one another, each contiguous in memory."""
    columns = xp.empty((rows[0].shape[1], sum(map(len, rows))), rows[0].dtype)
    stop = 0
    for part in rows:
        start, stop = stop, stop + len(part)
        columns[:, start:stop] = part.T
    return columns


def _permuted(array, permutation: numpy.ndarray):
    """array[permutation]; the array itself, and no copy, where nothing changes its place."""
    if (permutation == numpy.arange(len(permutation))).all():
        return array
    return array[xp.asarray(permutation)]
