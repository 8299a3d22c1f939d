"""What CuPy 14.2 has of what NumPy has: names, and signatures as CuPy's are. Not all, but what may be of use.

Where CuPy is installed, a test compares these with it. What is wanted and not here: look into CuPy first.
"""

UFUNCS = """
    abs absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh bitwise_and bitwise_or bitwise_xor
    cbrt ceil copysign cos cosh divide equal exp exp2 expm1 floor floor_divide fmax fmin fmod greater
    greater_equal hypot invert isfinite isinf isnan left_shift less less_equal log log10 log1p log2 logaddexp
    logaddexp2 logical_and logical_not logical_or logical_xor maximum minimum mod multiply negative not_equal
    positive power reciprocal remainder right_shift rint sign signbit sin sinh sqrt square subtract tan tanh
    true_divide trunc
""".split()

# Functions whose first argument is an array.
OF_AN_ARRAY = {
    "all": "a, axis=None, out=None, keepdims=False",
    "allclose": "a, b, rtol=1e-05, atol=1e-08, equal_nan=False",
    "any": "a, axis=None, out=None, keepdims=False",
    "argmax": "a, axis=None, dtype=None, out=None, keepdims=False",
    "argmin": "a, axis=None, dtype=None, out=None, keepdims=False",
    "argsort": "a, axis=-1, kind=None",
    "around": "a, decimals=0, out=None",
    "array_equal": "a1, a2, equal_nan=False",
    "array_split": "ary, indices_or_sections, axis=0",
    "ascontiguousarray": "a, dtype=None",
    "average": "a, axis=None, weights=None, returned=False, *, keepdims=False",
    "bincount": "x, weights=None, minlength=None",
    "broadcast_to": "array, shape",
    "clip": "a, a_min, a_max, out=None",
    "copy": "a, order='K'",
    "copyto": "dst, src, casting='same_kind', where=None",
    "count_nonzero": "a, axis=None",
    "cumprod": "a, axis=None, dtype=None, out=None",
    "cumsum": "a, axis=None, dtype=None, out=None",
    "diag": "v, k=0",
    "diagonal": "a, offset=0, axis1=0, axis2=1",
    "diff": "a, n=1, axis=-1, prepend=None, append=None",
    "dot": "a, b, out=None",
    "empty_like": "prototype, dtype=None, order='K', subok=None, shape=None",
    "expand_dims": "a, axis",
    "fill_diagonal": "a, val, wrap=False",
    "flatnonzero": "a",
    "flip": "a, axis=None",
    "full_like": "a, fill_value, dtype=None, order='K', subok=None, shape=None",
    "inner": "a, b",
    "isclose": "a, b, rtol=1e-05, atol=1e-08, equal_nan=False",
    "kron": "a, b",
    "matmul": "a, b, out=None",
    "max": "a, axis=None, out=None, keepdims=False",
    "mean": "a, axis=None, dtype=None, out=None, keepdims=False",
    "median": "a, axis=None, out=None, overwrite_input=False, keepdims=False",
    "min": "a, axis=None, out=None, keepdims=False",
    "moveaxis": "a, source, destination",
    "nan_to_num": "x, copy=True, nan=0.0, posinf=None, neginf=None",
    "nonzero": "a",
    "ones_like": "a, dtype=None, order='K', subok=None, shape=None",
    "outer": "a, b, out=None",
    "prod": "a, axis=None, dtype=None, out=None, keepdims=False",
    "ravel": "a, order='C'",
    "repeat": "a, repeats, axis=None",
    "reshape": "a, newshape, order='C'",
    "roll": "a, shift, axis=None",
    "round": "a, decimals=0, out=None",
    "searchsorted": "a, v, side='left', sorter=None",
    "sort": "a, axis=-1, kind=None",
    "split": "ary, indices_or_sections, axis=0",
    "squeeze": "a, axis=None",
    "std": "a, axis=None, dtype=None, out=None, ddof=0, keepdims=False",
    "sum": "a, axis=None, dtype=None, out=None, keepdims=False",
    "swapaxes": "a, axis1, axis2",
    "take": "a, indices, axis=None, out=None",
    "take_along_axis": "a, indices, axis",
    "tensordot": "a, b, axes=2",
    "tile": "A, reps",
    "trace": "a, offset=0, axis1=0, axis2=1, dtype=None, out=None",
    "transpose": "a, axes=None",
    "tril": "m, k=0",
    "triu": "m, k=0",
    "unique": "ar, return_index=False, return_inverse=False, return_counts=False, axis=None",
    "var": "a, axis=None, dtype=None, out=None, ddof=0, keepdims=False",
    "where": "condition, x=None, y=None",
    "zeros_like": "a, dtype=None, order='K', subok=None, shape=None",
}

OF_ARRAYS = {  # in a list or tuple
    "column_stack": "tup",
    "concatenate": "tup, axis=0, out=None, *, dtype=None, casting='same_kind'",
    "hstack": "tup, *, dtype=None, casting='same_kind'",
    "stack": "tup, axis=0, out=None, *, dtype=None, casting='same_kind'",
    "vstack": "tup, *, dtype=None, casting='same_kind'",
}

OTHERS = {
    "arange": "start, stop=None, step=1, dtype=None",
    "einsum": "*operands, optimize=False",
    "empty": "shape, dtype=float, order='C'",
    "eye": "N, M=None, k=0, dtype=float, order='C'",
    "full": "shape, fill_value, dtype=None, order='C'",
    "identity": "n, dtype=float",
    "linspace": "start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0",
    "ones": "shape, dtype=float, order='C'",
    "tri": "N, M=None, k=0, dtype=float",
    "zeros": "shape, dtype=float, order='C'",
}

# Functions that ask about arrays and answer with no array.
QUESTIONS = {
    "broadcast_shapes": "*args",
    "can_cast": "from_, to, casting='safe'",
    "isscalar": "element",
    "issubdtype": "arg1, arg2",
    "may_share_memory": "a, b, max_work=None",
    "ndim": "a",
    "promote_types": "type1, type2, /",
    "result_type": "*arrays_and_dtypes",
    "shape": "a",
    "shares_memory": "a, b, max_work=None",
    "size": "a, axis=None",
}

LINALG = {
    "cholesky": "a",
    "det": "a",
    "eigh": "a, UPLO='L'",
    "eigvalsh": "a, UPLO='L'",
    "inv": "a",
    "norm": "x, ord=None, axis=None, keepdims=False",
    "pinv": "a, rcond=1e-15",
    "qr": "a, mode='reduced'",
    "slogdet": "a",
    "solve": "a, b",
    "svd": "a, full_matrices=True, compute_uv=True",
}

METHODS = {
    "all": "axis=None, out=None, keepdims=False",
    "any": "axis=None, out=None, keepdims=False",
    "argmax": "axis=None, out=None, dtype=None, keepdims=False",
    "argmin": "axis=None, out=None, dtype=None, keepdims=False",
    "argsort": "axis=-1, kind=None",
    "astype": "dtype, order='K', casting=None, subok=None, copy=True",
    "clip": "min=None, max=None, out=None",
    "copy": "order='C'",
    "cumprod": "axis=None, dtype=None, out=None",
    "cumsum": "axis=None, dtype=None, out=None",
    "diagonal": "offset=0, axis1=0, axis2=1",
    "dot": "b, out=None",
    "fill": "value",
    "flatten": "order='C'",
    "max": "axis=None, out=None, keepdims=False",
    "mean": "axis=None, dtype=None, out=None, keepdims=False",
    "min": "axis=None, out=None, keepdims=False",
    "nonzero": "",
    "prod": "axis=None, dtype=None, out=None, keepdims=None",
    "ravel": "order='C'",
    "repeat": "repeats, axis=None",
    "reshape": "*shape, order='C'",
    "round": "decimals=0, out=None",
    "sort": "axis=-1, kind=None",
    "squeeze": "axis=None",
    "std": "axis=None, dtype=None, out=None, ddof=0, keepdims=False",
    "sum": "axis=None, dtype=None, out=None, keepdims=False",
    "swapaxes": "axis1, axis2",
    "take": "indices, axis=None, out=None",
    "trace": "offset=0, axis1=0, axis2=1, dtype=None, out=None",
    "transpose": "*axes",
    "var": "axis=None, dtype=None, out=None, ddof=0, keepdims=False",
    "view": "dtype=None",
}

ATTRIBUTES = "dtype flags itemsize nbytes ndim shape size strides".split()

RANDOM = {
    "exponential": "scale=1.0, size=None",
    "gamma": "shape, scale=1.0, size=None",
    "integers": "low, high=None, size=None, dtype=np.int64, endpoint=False",
    "random": "size=None, dtype=np.float64, out=None",
    "standard_exponential": "size=None, dtype=np.float64, method='inv', out=None",
    "standard_gamma": "shape, size=None, dtype=np.float64, out=None",
    "standard_normal": "size=None, dtype=np.float64, out=None",
}

CONSTANTS = """
    bool_ dtype e finfo float16 float32 float64 floating generic iinfo inf int16 int32 int64 int8 integer nan
    newaxis number pi uint16 uint32 uint64 uint8
""".split()

# The shapes of their results depend on values, so they wait for these.
WAITING = ("bincount", "flatnonzero", "nonzero", "unique")

# Those that write into their first argument.
IN_PLACE = ("copyto", "fill", "fill_diagonal", "sort", "put")

# Products of matrices.
CUBLAS = ("dot", "inner", "matmul", "outer", "tensordot", "vdot")

OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
}
COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}
