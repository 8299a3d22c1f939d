"""The double refuses, counts and computes as CuPy does, and has whatever tinygen asks of CuPy."""

import ast
import copy
import inspect
import pickle
import re
from pathlib import Path

import cupy_names
import numpy as np
import pytest
import strict_cupy
from strict_cupy import count_transfers, cupy, forbid_transfers

import tinygen

HERE = Path(__file__)


@pytest.fixture
def c():
    return cupy.asarray(np.arange(6.0).reshape(2, 3))


N = np.arange(6.0).reshape(2, 3)


def host(array):
    assert type(array) is cupy.ndarray
    return array.get()


# Mixing with NumPy --------------------------------------------------------------------------------------

IMPLICIT = "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy"
UNSUPPORTED = "Unsupported type <class 'numpy.ndarray'>"
B_IS_NUMPYS = "Argument 'b' has incorrect type (expected cupy._core.core._ndarray_base, got numpy.ndarray)"
A_IS_NUMPYS = B_IS_NUMPYS.replace("'b'", "'a'")
FILL = "non-scalar numpy.ndarray cannot be used for fill"


def set_slice(c):
    c[:] = N


def set_numpys_slice(c):
    n = N.copy()
    n[:] = c


def add_in_place(c):
    c += N


MIXTURES = {
    "asarray": (lambda c: np.asarray(c), TypeError, IMPLICIT),
    "array": (lambda c: np.array(c, dtype="float32", copy=True), TypeError, IMPLICIT),
    "array of a list": (lambda c: cupy.array([c, c]), TypeError, IMPLICIT),
    "NumPy's slice": (set_numpys_slice, TypeError, IMPLICIT),
    "testing": (lambda c: np.testing.assert_array_equal(c, N), TypeError, IMPLICIT),
    "permutation": (lambda c: np.random.default_rng(0).permutation(c), TypeError, IMPLICIT),
    "c + n": (lambda c: c + N, TypeError, UNSUPPORTED),
    "n + c": (lambda c: N + c, TypeError, UNSUPPORTED),
    "c += n": (add_in_place, TypeError, UNSUPPORTED),
    "c + 0-d n": (lambda c: c + np.array(1.0), TypeError, UNSUPPORTED),
    "c == n": (lambda c: c == N, TypeError, UNSUPPORTED),
    "np.add": (lambda c: np.add(c, N), TypeError, UNSUPPORTED),
    "cp.add": (lambda c: cupy.add(N, c), TypeError, UNSUPPORTED),
    "cp.exp": (lambda c: cupy.exp(N), TypeError, UNSUPPORTED),
    "a list": (lambda c: c + [1.0] * 3, TypeError, "Unsupported type <class 'list'>"),
    "cp.exp of a list": (lambda c: cupy.exp([1.0]), TypeError, "Unsupported type <class 'list'>"),
    "c @ n": (lambda c: c @ N.T, TypeError, B_IS_NUMPYS),
    "n @ c": (lambda c: N.T @ c, TypeError, A_IS_NUMPYS),
    "cp.dot": (lambda c: cupy.dot(c, N.T), TypeError, B_IS_NUMPYS),
    "cp.tensordot": (lambda c: cupy.tensordot(c, N.T, 1), TypeError, B_IS_NUMPYS),
    "cp.where": (lambda c: cupy.where(c > 0, N, 0), TypeError, "got numpy.ndarray)"),
    "cp.sum": (lambda c: cupy.sum(N), TypeError, A_IS_NUMPYS),
    "cp.sum of a list": (lambda c: cupy.sum([1.0]), TypeError, "got list)"),
    "cp.reshape": (lambda c: cupy.reshape(N, 6), TypeError, A_IS_NUMPYS),
    "cp.concatenate": (lambda c: cupy.concatenate([c, N]), TypeError, UNSUPPORTED),
    "cp.stack": (lambda c: cupy.stack([N, N]), TypeError, UNSUPPORTED),
    "cp.full": (lambda c: cupy.full((2,), N), TypeError, "got numpy.ndarray)"),
    "an index": (lambda c: c[np.array([0, 1])], TypeError, UNSUPPORTED),
    "a mask": (lambda c: c[N > 0], TypeError, UNSUPPORTED),
    "a list as index": (lambda c: c[[0, 1]], TypeError, "Unsupported type <class 'list'>"),
    "out": (lambda c: cupy.exp(c, out=N.copy()), TypeError, "got numpy.ndarray)"),
    "out of NumPy's": (lambda c: np.exp(N, out=c), TypeError, UNSUPPORTED),
    "add.at": (lambda c: cupy.add.at(c, 0, np.ones(3)), TypeError, UNSUPPORTED),
    "a slice": (set_slice, ValueError, FILL),
    "fill": (lambda c: c.fill(N), TypeError, "got numpy.ndarray)"),
}


@pytest.mark.parametrize("mixture", MIXTURES)
def test_mixtures_are_refused_without_a_transfer(mixture, c):
    mix, error, message = MIXTURES[mixture]
    with forbid_transfers(), pytest.raises(error, match=re.escape(message)):
        mix(c)
    np.testing.assert_array_equal(c.get(), N)


def test_scalars_are_welcome(c):
    for y in (c + 1, 1 + c, c + np.float64(1), np.float64(1) + c, np.add(c, 1), cupy.add(1, c)):
        np.testing.assert_array_equal(host(y), N + 1)
    c[0] = np.float32(7)
    c[1] = np.array([8.0])
    np.testing.assert_array_equal(host(c), [[7] * 3, [8] * 3])
    single = cupy.asarray(N, "float32")
    assert (single * 2.0).dtype == np.float32 and (single * np.float64(2)).dtype == np.float64


def test_an_array_is_no_number_without_a_transfer(c):
    with pytest.raises(TypeError, match="unhashable"):
        hash(c)
    with pytest.raises(TypeError, match="'ndarray' object cannot be interpreted as an integer"):
        range(cupy.asarray(3))
    with pytest.raises(TypeError, match="list indices must be integers"):
        [1, 2][cupy.asarray(1)]
    with pytest.raises(TypeError):
        memoryview(c)


def test_what_leaves_operators_to_the_other_operand(c):
    x = tinygen.Tensor(N)
    for mixed in (lambda: c * x, lambda: x * c):
        with pytest.raises(TypeError, match=r"multiply: [ab]: expected a Tensor, .* on device 'cpu'"):
            mixed()
    for comparison in (lambda: c == x, lambda: c < x):
        with pytest.raises(TypeError, match=r"Unsupported type <class 'tinygen\.autodiff\.Tensor'>"):
            comparison()


def test_the_host_does_not_share_memory():
    n = N.copy()
    arrays = [cupy.asarray(n), cupy.array(n), cupy.array(n, copy=False)]
    arrays.append(cupy.asarray(n).get())
    n[:] = 9
    for array in arrays:
        np.testing.assert_array_equal(cupy.asnumpy(array), N)
    c = cupy.asarray(N)
    c.get()[:] = 9
    np.testing.assert_array_equal(c.get(), N)


# What there is not --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["unstack", "block", "einsum_path", "errstate", "insert", "vecdot", "nditer"]
)
def test_functions_that_cupy_does_not_have(name):
    with pytest.raises(AttributeError, match=f"module 'cupy' has no attribute '{name}'"):
        getattr(cupy, name)


@pytest.mark.parametrize("name", ["vector_norm", "matrix_norm", "svdvals", "multi_dot"])
def test_linear_algebra_that_cupy_does_not_have(name):
    assert not hasattr(cupy.linalg, name)


@pytest.mark.parametrize(
    "name", ["normal", "choice", "permutation", "shuffle", "permuted", "laplace", "gumbel"]
)
def test_distributions_that_cupy_does_not_have(name):
    with pytest.raises(AttributeError, match=f"'Generator' object has no attribute '{name}'"):
        getattr(cupy.random.Generator(cupy.random.Philox4x3210(0)), name)


REFUSED_ARGUMENTS = {
    "sum where": (lambda c: c.sum(where=c > 0), r"sum\(\) got an unexpected keyword argument 'where'"),
    "sum initial": (
        lambda c: cupy.sum(c, initial=0),
        r"sum\(\) got an unexpected keyword argument 'initial'",
    ),
    "max initial": (lambda c: c.max(initial=0), r"max\(\) got an unexpected keyword argument 'initial'"),
    "mean where": (lambda c: c.mean(where=True), r"mean\(\) got an unexpected keyword argument 'where'"),
    "var mean": (lambda c: c.var(mean=0), r"var\(\) got an unexpected keyword argument 'mean'"),
    "clip min": (lambda c: cupy.clip(c, min=0), r"clip\(\) got an unexpected keyword argument 'min'"),
    "take mode": (lambda c: cupy.take(c, c, mode="clip"), "unexpected keyword argument 'mode'"),
    "stack arrays": (lambda c: cupy.stack(arrays=[c]), "unexpected keyword argument 'arrays'"),
    "zeros device": (lambda c: cupy.zeros(2, device="cpu"), "unexpected keyword argument 'device'"),
    "sort stable": (lambda c: cupy.sort(c, stable=True), "unexpected keyword argument 'stable'"),
    "exp where": (lambda c: cupy.exp(c, where=True), "Wrong arguments {'where': True}"),
    "exp order": (lambda c: cupy.exp(c, order="C"), "Wrong arguments {'order': 'C'}"),
}


@pytest.mark.parametrize("call", REFUSED_ARGUMENTS)
def test_arguments_that_cupy_does_not_take(call, c):
    use, message = REFUSED_ARGUMENTS[call]
    with pytest.raises(TypeError, match=message):
        use(c)


def test_methods_of_ufuncs_that_cupy_does_not_have(c):
    with pytest.raises(NotImplementedError):
        cupy.multiply.at(c, 0, 1.0)
    assert not hasattr(cupy.maximum, "reduce")


def test_only_numbers():
    for wrong in (["a"], [None]):
        with pytest.raises(ValueError, match="Unsupported dtype"):
            cupy.array(wrong)


# What is otherwise --------------------------------------------------------------------------------------


def test_reductions_and_elements_are_arrays_without_axes(c):
    for y in (
        c.sum(),
        cupy.max(c),
        c[0, 1],
        c[1][2],
        c.argmax(),
        cupy.array_equal(c, c),
        cupy.allclose(c, c),
    ):
        assert type(y) is cupy.ndarray and y.shape == ()
    assert [type(row) for row in c] == [cupy.ndarray] * 2
    y = c.sum()
    y += 1
    assert type(y) is cupy.ndarray and y.item() == 16


@pytest.mark.parametrize("index", [(5, 0), (0, -4)])
def test_numbers_out_of_range_are_refused(index, c):
    with pytest.raises(IndexError):
        c[index]


def test_arrays_of_indices_wrap_around(c):
    far, columns = cupy.asarray([3, -3]), cupy.asarray([4])
    np.testing.assert_array_equal(host(c[far]), N[[1, 1]])
    np.testing.assert_array_equal(host(c[..., columns]), N[:, [1]])
    np.testing.assert_array_equal(host(c[None, :, columns]), N[None, :, [1]])
    np.testing.assert_array_equal(host(cupy.take(c, columns, axis=1)), N[:, [1]])
    rows = cupy.asarray([[5], [-4]])
    np.testing.assert_array_equal(host(cupy.take_along_axis(c, rows, 1)), [[2], [5]])
    c[far] = 0.0
    np.testing.assert_array_equal(host(c), [N[0], [0, 0, 0]])
    cupy.add.at(c, far, 1.0)
    np.testing.assert_array_equal(host(c), [N[0], [2, 2, 2]])


def test_masks(c):
    np.testing.assert_array_equal(host(c[c > 2]), [3, 4, 5])
    np.testing.assert_array_equal(host(c[:, cupy.asarray([True, False, True])]), N[:, [0, 2]])
    c[c > 2] = 0.0
    np.testing.assert_array_equal(host(c), [N[0], [0, 0, 0]])


def test_views_know_their_base_but_not_those_of_as_strided(c):
    for view in (c[0], c[0][1:], c.T, c.reshape(6), c.swapaxes(0, 1), cupy.split(c, 2)[0], c[0, 1], c.view()):
        assert view.base is c
    for fresh in (c, c + 1, c.copy(), c[cupy.asarray([0])], cupy.ascontiguousarray(c.T), c.sum()):
        assert fresh.base is None
    for same in (cupy.asarray(c), cupy.ascontiguousarray(c), c.astype("float64", copy=False), c):
        assert same is c
    view = cupy.lib.stride_tricks.as_strided(c, (2, 2), (8, 8))
    np.testing.assert_array_equal(host(view), [[0, 1], [1, 2]])
    assert view.base is None and cupy.may_share_memory(view, c)
    low, high = cupy.byte_bounds(c)
    assert high - low == 48 and cupy.byte_bounds(c[1]) == (low + 24, high)


def test_operators_in_place_write_into_the_array(c):
    before, view = c, c[0]
    c += 1
    c *= cupy.full((3,), 2.0)
    assert c is before
    np.testing.assert_array_equal(host(view), 2 * (N[0] + 1))


def test_singular_matrices_are_no_error():
    singular = cupy.zeros((2, 2))
    assert np.isnan(host(cupy.linalg.inv(singular))).all()
    with pytest.raises(np.linalg.LinAlgError):
        cupy.linalg.inv(cupy.zeros((2, 3)))


def test_copies(c):
    for other in (copy.copy(c), copy.deepcopy(c), pickle.loads(pickle.dumps(c))):
        assert not cupy.may_share_memory(other, c)
        np.testing.assert_array_equal(host(other), N)


def test_numpys_functions_of_it_are_the_devices(c):
    np.testing.assert_array_equal(host(np.exp(c)), np.exp(N))
    np.testing.assert_array_equal(host(np.sum(c, axis=0)), N.sum(axis=0))


def test_random_numbers():
    def draws():
        generator = cupy.random.Generator(cupy.random.Philox4x3210(3, size=256))
        return [
            generator.standard_normal((2, 3), dtype="float32"),
            generator.random(4),
            generator.integers(0, 5, (2,)),
            generator.standard_exponential((2,), dtype="float32"),
        ]

    for a, b in zip(draws(), draws()):
        np.testing.assert_array_equal(host(a), host(b))
    with pytest.raises(TypeError, match="unexpected keyword argument 'endpoints'"):
        cupy.random.Generator(cupy.random.Philox4x3210(0)).integers(3, endpoints=True)


# Transfers ----------------------------------------------------------------------------------------------

TRANSFERS = {
    "get()": lambda c: c.get(),
    "get() ": lambda c: cupy.asnumpy(c),
    "item()": lambda c: c[0, 0].item(),
    "tolist()": lambda c: c.tolist(),
    "bool()": lambda c: bool(c.sum() > 0),
    "bool() ": lambda c: 1 if c.any() else 0,
    "int()": lambda c: int(c.sum()),
    "float()": lambda c: float(c.sum()),
    "repr()": lambda c: repr(c),
    "str()": lambda c: str(c),
    "format()": lambda c: f"{c}",
    "pickling": lambda c: pickle.dumps(c),
    "reading by a mask": lambda c: c[c > 2],
    "nonzero()": lambda c: c.nonzero(),
    "nonzero() ": lambda c: cupy.nonzero(c),
    "unique()": lambda c: cupy.unique(c),
    "repeat()": lambda c: cupy.repeat(c, cupy.asarray([1, 2]), axis=0),
}


@pytest.mark.parametrize("what", TRANSFERS)
def test_transfers_are_counted_and_forbidden_by_place(what, c):
    line = TRANSFERS[what].__code__.co_firstlineno
    with count_transfers() as made:
        TRANSFERS[what](c)
    assert made == [f"{what.strip()} at {HERE}:{line}"]
    with count_transfers() as made, forbid_transfers():
        message = re.escape(f"transfer from the device to the host: {what.strip()} at {HERE}:{line}")
        with pytest.raises(RuntimeError, match=message):
            TRANSFERS[what](c)
    assert made == []
    TRANSFERS[what](c)


def test_a_transfer_of_a_tensor_is_told_as_its_callers():
    with tinygen.device("strict"):
        x = tinygen.Tensor([1.0])
        with forbid_transfers(), pytest.raises(RuntimeError, match=re.escape(f"item() at {HERE}:")):
            x.item()


def test_computing_transfers_nothing(c):
    with forbid_transfers():
        y = cupy.exp(c) @ c.T + cupy.asarray(np.ones((2, 2)))
        y[c[:, :2] > 0] = 0.0
        cupy.where(y > 0, y, 0.0).sum(axis=0)
        assert len(c) == 2 and c.shape == (2, 3) and c.dtype == "float64"


# What tinygen asks of CuPy ------------------------------------------------------------------------------


def dotted(node) -> str:
    """The text of a name with dots; "" for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    before = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return before and f"{before}.{node.attr}"


def uses(module: str, source: str) -> set[tuple[str, tuple[str, ...]]]:
    """What a source uses of a module: pairs of a name in it, with dots, and the keywords of a call."""
    nodes = list(ast.walk(ast.parse(source)))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    found = {(dotted(call.func), tuple(keyword.arg for keyword in call.keywords)) for call in calls}
    found |= {(dotted(node), ()) for node in nodes if isinstance(node, ast.Attribute)}
    return {
        (name.removeprefix(f"{module}."), keywords)
        for name, keywords in found
        if name.startswith(f"{module}.")
    }


def missing(name: str, keywords: tuple[str, ...]) -> str:
    """What the double lacks of that; "" if nothing."""
    value = cupy
    for part in name.split("."):
        if not hasattr(value, part):
            return name
        value = getattr(value, part)
    allowed = ("out", "dtype", "casting")
    if keywords and not isinstance(value, strict_cupy.Ufunc):
        allowed = inspect.signature(value).parameters
    return ", ".join(f"{name}({keyword}=)" for keyword in keywords if keyword not in allowed)


def test_what_a_source_uses_is_found():
    source = "y = xp.linalg.inv(x); xp.unstack; numpy.xp.tan; f(xp)\nxp.exp(a, where=m).sum(initial=0)\n"
    source += "xp.sum(a, where=m)"
    assert uses("xp", source) == {
        *(("linalg.inv", ()), ("linalg", ())),
        *(("exp", ("where",)), ("exp", ()), ("sum", ("where",)), ("sum", ())),
        ("unstack", ()),
    }
    lacking = sorted(filter(None, (missing(*use) for use in uses("xp", source))))
    assert lacking == ["exp(where=)", "sum(where=)", "unstack"]


def test_the_double_has_all_that_tinygen_uses():
    top = HERE.parent.parent
    sources = [*(top / "tinygen").rglob("*.py"), *(top / "demos").glob("*.py")]
    assert len(sources) > 20
    lacking = [
        f"{path.relative_to(top)}: {what}"
        for path in sorted(sources)
        for module in ("xp", "cupy")
        for what in sorted(missing(*use) for use in uses(module, path.read_text("utf-8")))
        if what
    ]
    assert lacking == []


# The tables against CuPy itself -------------------------------------------------------------------------


def parameters(function) -> list[tuple[str, object]]:
    """The names and defaults of a function's parameters; of a compiled one from the line in its docstring."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        text = function.__doc__.partition("\n")[0]
        text = re.sub(r"\b(Py_ssize_t|int|bool|_ndarray_base) (?=\w+\b(?! *\())", "", text.partition("(")[2])
        text = text.rpartition(" ->")[0] or text
        check = eval(f"lambda {text.rpartition(')')[0]}: 0", {"numpy": np})
        signature = inspect.signature(check)
    return [(p.name, p.default) for p in signature.parameters.values() if p.name != "self"]


def promised(text: str) -> list[tuple[str, object]]:
    return parameters(strict_cupy._checker("f", text))


TABLES = {
    "functions": (cupy_names.OF_AN_ARRAY | cupy_names.OF_ARRAYS | cupy_names.OTHERS, lambda cp: cp),
    "questions": (cupy_names.QUESTIONS, lambda cp: cp),
    "linalg": (cupy_names.LINALG, lambda cp: cp.linalg),
    "methods": (cupy_names.METHODS, lambda cp: cp.ndarray),
    "random": (cupy_names.RANDOM, lambda cp: cp.random.Generator),
}


@pytest.mark.parametrize("table", TABLES)
def test_cupy_has_what_the_tables_promise(table):
    """CuPy can be looked at without a GPU."""
    real = pytest.importorskip("cupy")
    signatures, place = TABLES[table]
    wrong = []
    for name, text in signatures.items():
        try:
            has = parameters(getattr(place(real), name))
        except AttributeError:
            wrong.append(f"no {name}")
            continue
        kept = [pair for pair in has if pair[0] in dict(promised(text))]
        if not dict(has).keys() & {"args", "operands"} and str(kept) != str(promised(text)):
            wrong.append(f"{name}: {kept} is not {promised(text)}")
    assert wrong == []


def test_cupy_has_the_ufuncs_constants_and_attributes_of_the_double():
    real = pytest.importorskip("cupy")
    assert [name for name in cupy_names.UFUNCS if not isinstance(getattr(real, name, None), real.ufunc)] == []
    assert [name for name in cupy_names.CONSTANTS if getattr(real, name, 0) is not getattr(np, name)] == []
    attributes = [name for name in vars(cupy.ndarray) if name not in ("_host", "__module__", "__weakref__")]
    assert [name for name in attributes if not hasattr(real.ndarray, name)] == []
    assert parameters(strict_cupy.as_strided) == parameters(real.lib.stride_tricks.as_strided)
    for name in ("array", "asarray", "asnumpy", "byte_bounds"):
        own = parameters(getattr(cupy, name))
        assert [pair for pair in parameters(getattr(real, name)) if pair in own] == own
