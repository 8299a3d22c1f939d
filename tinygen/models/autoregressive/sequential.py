"""Finding the elements of x one after another: samples of MADE, completions, inverses of flows.

A masked network gives the parameters of an element as soon as those before it are known. What elements are,
given their parameters, is said by

    draw(places, parameters) -> values (places, n), from parameters (places, size, n),

on raw arrays, where `places` is a slice of the order in which the elements come. `fill` and `fill_naively`
return the same x (n, inputs), a raw array.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy  # degrees are sorted on the host

from ... import ops
from ...autodiff import no_grad
from ...backend import to_host, xp
from .masked_network import MaskedNetwork


@no_grad()
def fill_naively(network: MaskedNetwork, draw: Callable, n: int, context=None, variant: int = 0):
    """A whole pass of the network for every element."""
    x = xp.zeros((n, network.inputs), network.dtype)
    for k, d in enumerate(network.order(variant)):
        parameters = ops.raw(network(x, context, variant))[:, d : d + 1]
        x[:, d] = draw(slice(k, k + 1), parameters.transpose(1, 2, 0))[0]
    return x


@no_grad()
def fill(network: MaskedNetwork, draw: Callable, n: int, context=None, variant: int = 0):
    """Every unit computed once, as soon as all that it sees is there: one pass in all.

    With the units of each layer sorted by degree, those that see the first k elements alone are the first
    ones, and a unit of degree k sees exactly the first ones of the layer below: slices, and no masks. Arrays
    are (units, n). The elements stand in their order, below a row of ones, for the biases, and the context.

    Between two degrees that units have no unit is new. So the elements there do not depend on one another,
    and are found at once.
    """
    network.check_context(context, n)
    order = network.order(variant)
    layers, of_units, of_elements = _sorted_weights(network, order, variant)
    x = _known_at_first(network, n, context)
    first = len(x) - network.inputs
    hidden = [(_with_ones(len(weights), n, x.dtype), weights, counts) for weights, counts in layers]
    zero = xp.zeros((1, n), x.dtype)
    for k, stop in _steps(network, [counts for _, counts in layers]):
        below, seen = x, first + k
        for units, weights, counts in hidden:
            old, all_now = counts[k], counts[k + 1]  # between them the units of degree k
            if old < all_now:
                new = units[1 + old : 1 + all_now]
                xp.dot(weights[old:all_now, :seen], below[:seen], new)
                xp.maximum(new, zero, out=new)
            below, seen = units, 1 + all_now
        rows = slice(k * network.size, stop * network.size)
        parameters = xp.dot(of_units[rows, :seen], below[:seen])
        if of_elements is not None:
            parameters += xp.dot(of_elements[rows, : first + k], x[: first + k])
        x[first + k : first + stop] = draw(slice(k, stop), parameters.reshape(stop - k, network.size, n))
    return xp.ascontiguousarray(_permuted(x[first:], numpy.argsort(order)).T)


def _steps(network: MaskedNetwork, counts_of_layers: list) -> list[tuple[int, int]]:
    """The places in the order, from k to stop, of elements that see the same units, and no other element."""
    new = numpy.diff(counts_of_layers, axis=1).any(axis=0)
    new[0] = True
    starts = new.nonzero()[0].tolist() if network.direct is None else range(network.inputs)
    return list(zip(starts, [*starts[1:], network.inputs]))


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
    of_units: (inputs · size, 1 + units), what the parameters of the elements in their order take of the last
        hidden layer, biases first.
    of_elements: (inputs · size, 1 + context + inputs), what they take of context and elements directly; None
        for nothing."""
    order = below = numpy.array(order)
    context = network.of_context if network.context else {}
    layers = []
    *hidden, last = network.layers
    for layer, degrees in zip(hidden, network.degrees):
        degrees = to_host(degrees.data[variant])
        by_degree = degrees.argsort(kind="stable")
        rows = [layer.bias.data[None], _permuted(_weights(layer), below)]
        if layer is hidden[0] and context:
            rows.insert(1, context["hidden"].weight.data)
        counts = numpy.searchsorted(numpy.sort(degrees), numpy.arange(network.inputs + 1)).tolist()
        layers.append((_permuted(_columns(rows), by_degree), counts))
        below = by_degree

    def by_element(rows: list):
        columns = _columns(rows)
        return _permuted(columns.reshape(network.inputs, network.size, -1), order).reshape(columns.shape)

    of_units = by_element([last.bias.data[None], _permuted(_weights(last), below)])
    if network.direct is None and not context:
        return layers, of_units, None
    rows = [xp.zeros((1 + network.context + network.inputs, last.outputs), network.dtype)]
    if context:
        rows[0][1 : 1 + network.context] = context["parameters"].weight.data
    if network.direct is not None:
        rows[0][1 + network.context :] = _permuted(_weights(network.direct), order)
    return layers, of_units, by_element(rows)


def _weights(layer):
    """W (inputs, outputs) of a masked layer."""
    return layer.matrix(layer.weight.data)


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
