"""Hypothesis strategies: random inputs for tests of gradients, of your own functions as of tinygen's.

One line is a property test, which pytest finds by its name:

    from tinygen.gradients.strategies import alike, arrays, broadcastable_shapes, gradient_test

    test_entropy = gradient_test(entropy, arrays(domain="simplex"), order=2)

A hundred random inputs are drawn, and at each the gradients (and, with order=2, their gradients) are compared
with central differences. A failing example is made as small as it still fails, and shown with the primitive,
the input and the line that are wrong.

    arrays, alike                           arrays by shape, dtype and domain; several of one kind
    array_shapes, broadcastable_shapes      shapes, also 0-d and zero-size ones
    axes, one_axis, indices                 what reductions take as axis; what x[...] takes
    convolutions                            images, kernels, and stride, padding and dilation for them
    modules                                 small networks with random weights
    expressions                             random graphs of operations, and of your functions among them
    calls                                   the arguments of a primitive, from the domain that it declares
    gradient_test                           your function and your strategies as a test

Where shapes depend on each other, a strategy draws several inputs at once, as a list or as a `Call` with the
static arguments that go with them:

    test_distance = gradient_test(distance, alike(broadcastable_shapes(2)))
    test_blur = gradient_test(blur, convolutions())
"""

try:
    import hypothesis
except ImportError as error:
    raise ImportError("tinygen.gradients.strategies needs hypothesis: pip install 'tinygen[test]'") from error

from .arrays import (
    DOMAINS,
    alike,
    array_shapes,
    arrays,
    axes,
    broadcastable_shapes,
    generators,
    indices,
    one_axis,
)
from .calls import Call, calls, convolutions
from .expressions import STEPS, Expression, expressions
from .modules import modules
from .testing import gradient_test
