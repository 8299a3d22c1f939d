"""Every primitive: what it declares, its values, and its derivatives to second order, also where they are hard.

The registry is walked, so a primitive without a domain, a formula, a rule or a strategy fails here.
"""

import math
import pkgutil
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special

import tinygen as tg
from tinygen import ops
from tinygen.autodiff import registry
from tinygen.gradients import check_gradients
from tinygen.gradients.strategies import (
    alike,
    array_shapes,
    arrays,
    axes,
    broadcastable_shapes,
    calls,
    indices,
    one_axis,
)

for module in pkgutil.walk_packages(tg.__path__, "tinygen."):
    import_module(module.name)  # whatever defines primitives has registered them now


def tensors(xs, dtype=None):
    return [tg.Tensor(np.asarray(x, dtype), requires_grad=True) for x in xs]


def outputs_of(y):
    return y if isinstance(y, tuple) else (y,)


# The registry -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(registry))
@given(data=st.data())
def test_primitive(name, data):
    primitive = registry[name]
    known = primitive.primitive
    assert known.domain, "no domain"
    assert set(known.rules) == set(known.inputs), "an input without a rule"
    assert all(rule.formula for rule in known.rules.values()), "a rule without a formula"

    call = data.draw(calls(primitive))
    check_gradients(lambda *xs: primitive(*xs, **call.static), *call.inputs, order=2)
    assert_single_precision(primitive, call)


def assert_single_precision(primitive, call):
    """float32 gives float32, and the numbers of float64 to rounding; also each rule by itself, before the engine
    casts what it gives to its input's dtype."""
    static = {name: "float32" if name == "dtype" else value for name, value in call.static.items()}
    inputs = [np.asarray(x, "float32") for x in call.inputs]
    dtypes = []
    singles = outputs_and_gradients(primitive, inputs, static, "float32", dtypes)
    doubles = outputs_and_gradients(primitive, inputs, call.static, "float64", [])
    assert set(dtypes) <= {np.dtype("float32")}, "a rule by itself"
    for single, double in zip(singles, doubles):
        assert single.dtype == "float32"
        assert_allclose(single, double, rtol=1e-4, atol=1e-5 * max(1, abs(double).max(initial=0)))


def outputs_and_gradients(primitive, inputs, static, dtype, dtypes):
    """Outputs, and gradients for cotangents that are fixed; the dtypes of what rules give are appended."""
    known = primitive.primitive
    xs = tensors(inputs, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known, "plans", known.plans)  # TODO
        ys = outputs_of(primitive(*xs, **static))
    return ys
