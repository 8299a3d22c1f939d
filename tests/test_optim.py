"""Optimizers against the textbook and PyTorch, on parameters that are views of one array."""

import copy
import math

import numpy as np
import pytest
import strict_cupy
from hypothesis import given
from hypothesis import strategies as st

import tinygen as tg
from tinygen import backend, nn
from tinygen.backend import xp
from tinygen.optim import SGD, Adam, RMSProp, clip_grad_norm

SHAPES = [(4, 3), (), (0, 2), (5,)]
OPTIMIZERS = [
    (SGD, {"lr": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9}),
    (RMSProp, {}),
    (RMSProp, {"lr": 1e-3, "alpha": 0.9, "eps": 1e-3}),
    (Adam, {}),
    (Adam, {"lr": 1e-2, "betas": (0.0, 0.9), "eps": 1e-3}),
]


def values(seed, dtype="float64"):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=shape), dtype) for shape in SHAPES]


def tensors(seed=0, dtype="float64"):
    return [tg.Tensor(value, requires_grad=True) for value in values(seed, dtype)]


def run(optimizer, params, steps=100, dtype="float64"):
    for step in range(steps):
        for p, g in zip(params, values(step, dtype)):
            p.grad = tg.Tensor(g)
        optimizer.step()


# The textbook, one number after another as it is written ---------------------------------------------


def textbook_sgd(theta, gradients, lr, momentum=0.0):
    b = 0
    for g in gradients:
        b = momentum * b + g
        theta = theta - lr * b
    return theta


def textbook_rmsprop(theta, gradients, lr=1e-2, alpha=0.99, eps=1e-8):
    v = 0
    for g in gradients:
        v = alpha * v + (1 - alpha) * g**2
        theta = theta - lr * g / (np.sqrt(v) + eps)
    return theta


def textbook_adam(theta, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    m = v = 0
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        theta = theta - lr * m_hat / (np.sqrt(v_hat) + eps)
    return theta


TEXTBOOK = {SGD: textbook_sgd, RMSProp: textbook_rmsprop, Adam: textbook_adam}


@pytest.mark.parametrize("kind, options", OPTIMIZERS)
def test_equals_the_textbook(workspace, kind, options):
    params = tensors()
    run(kind(params, **options), params)
    for k, p in enumerate(params):
        gradients = [values(step)[k] for step in range(100)]
        np.testing.assert_allclose(
            p.data, TEXTBOOK[kind](values(0)[k], gradients, **options), rtol=1e-11, atol=1e-13
        )


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 2e-6)])
@pytest.mark.parametrize("kind, options", OPTIMIZERS)
def test_equals_pytorch(kind, options, dtype, tolerance):
    torch = pytest.importorskip("torch")
    theirs = [torch.tensor(value, requires_grad=True) for value in values(0, dtype)]
    name = {"RMSProp": "RMSprop"}.get(kind.__name__, kind.__name__)
    reference = getattr(torch.optim, name)(theirs, **options)
    for step in range(100):
        for p, g in zip(theirs, values(step, dtype)):
            p.grad = torch.tensor(g)
        reference.step()
    params = tensors(dtype=dtype)
    run(kind(params, **options), params, dtype=dtype)
    for p, expected in zip(params, theirs):
        assert p.dtype == dtype
        np.testing.assert_allclose(p.data, expected.detach().numpy(), rtol=tolerance, atol=tolerance)


def warm_up(t):
    return 0.05 * min(t / 10, (t / 10) ** -0.5)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 2e-6)])
@pytest.mark.parametrize(
    "kind, options", [(SGD, {"momentum": 0.9}), (RMSProp, {"alpha": 0.9}), (Adam, {"betas": (0.5, 0.9)})]
)
def test_a_learning_rate_that_is_a_function_of_the_step_equals_pytorch(kind, options, dtype, tolerance):
    torch = pytest.importorskip("torch")
    theirs = [torch.tensor(value, requires_grad=True) for value in values(0, dtype)]
    name = {"RMSProp": "RMSprop"}.get(kind.__name__, kind.__name__)
    reference = getattr(torch.optim, name)(theirs, lr=1.0, **options)
    for step in range(100):
        reference.param_groups[0]["lr"] = warm_up(step + 1)
        for p, g in zip(theirs, values(step, dtype)):
            p.grad = torch.tensor(g)
        reference.step()
    params = tensors(dtype=dtype)
    run(kind(params, lr=warm_up, **options), params, dtype=dtype)
    for p, expected in zip(params, theirs):
        np.testing.assert_allclose(p.data, expected.detach().numpy(), rtol=tolerance, atol=tolerance)


def test_the_function_is_asked_for_steps_from_one_and_may_give_zero():
    asked = []

    def lr(t):
        asked.append(t)
        return 0 if t == 2 else np.float32(0.5)

    x = tg.Tensor([1.0], requires_grad=True)
    optimizer = SGD([x], lr)
    seen = []
    for _ in range(3):
        x.grad = tg.Tensor([1.0])
        optimizer.step()
        seen.append(x.item())
    assert asked == [1, 2, 3] and seen == [0.5, 0.5, 0.0] and x.dtype == "float32"


@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf, None, "fast"])
def test_a_function_that_gives_no_learning_rate_is_refused_and_nothing_changes(wrong):
    params = tensors()
    optimizer = Adam(params, lambda t: 0.1 if t < 3 else wrong)
    run(optimizer, params, steps=2)
    before, state = [p.numpy() for p in params], optimizer.state_dict()
    with pytest.raises(ValueError, match=rf"lr\(3\): expected a number of at least 0, got {wrong}"):
        run(optimizer, params, steps=1)
    assert all(np.array_equal(p.data, value) for p, value in zip(params, before))
    assert_same_state(optimizer.state_dict(), state)


def assert_same_state(a, b):
    assert a.keys() == b.keys()
    for name, entry in a.items():
        assert type(entry) is type(b[name])
        assert np.array_equal(entry, b[name]) if type(entry) is np.ndarray else entry == b[name]


def test_adam_moves_by_the_learning_rate_at_first():
    # m̂ = g and v̂ = g² at t = 1, however large g is.
    x = tg.Tensor([1.0, 1.0, 1.0], requires_grad=True)
    optimizer = Adam([x], lr=0.25)
    x.grad = tg.Tensor([1e4, 1.0, -1e-3])
    optimizer.step()
    np.testing.assert_allclose(x.data, [0.75, 0.75, 1.25], rtol=1e-4)


@pytest.mark.parametrize(
    "kind, options",
    [
        (SGD, {"lr": 0.1, "momentum": 0.9}),
        (RMSProp, {"alpha": 0.9}),
        (Adam, {"betas": (0.9, 0.9)}),
    ],
)
def test_averages_of_a_gradient_that_stays_zero_do_not_shrink_into_subnormal_numbers(kind, options):
    x = tg.Tensor([1.0, 0.0, -1.0], requires_grad=True)
    optimizer = kind([x], **options)
    for step in range(1200):
        x.grad = tg.Tensor([0.0 if step else 1.0, 0.0, 0.0])
        optimizer.step()
        if step == 1000:
            x.grad = None
            settled = x.numpy()
    averages = [entry for entry in optimizer.state_dict().values() if type(entry) is np.ndarray]
    assert averages
    for average in averages:
        assert not ((average != 0) & (abs(average) < np.finfo("float32").tiny)).any()
    np.testing.assert_allclose(x.data, settled, atol=1e-8)  # and nothing moves by it
    assert x.data[1] == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("kind", [SGD, RMSProp, Adam])
def test_finds_a_minimum(kind):
    target = values(1, "float32")[0]
    x = tg.Tensor(np.zeros_like(target), requires_grad=True)
    optimizer = kind([x], lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        ((x - target) ** 2).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(x.data, target, atol=0.06)


# The flat array -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SGD, RMSProp, Adam])
def test_parameters_keep_their_values_and_become_views_of_one_array(kind):
    params = tensors()
    optimizer = kind(params, lr=0.1)
    flat = optimizer._flat
    assert {id(p.data.base) for p in params} == {id(flat.base)}
    assert flat.shape == (sum(p.size for p in params),)
    np.testing.assert_array_equal(flat, np.concatenate([value.ravel() for value in values(0)]))
    for p, value in zip(params, values(0)):
        assert p.shape == value.shape
        assert p.data.flags.c_contiguous
        np.testing.assert_array_equal(p.data, value)
        assert np.shares_memory(p.data, flat) or not p.size
    run(optimizer, params, steps=1)
    np.testing.assert_array_equal(flat, np.concatenate([p.data.ravel() for p in params]))


def test_two_optimizers_hold_the_parameters_of_two_models():
    one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    first, second = Adam(one.parameters()), Adam(two.parameters())
    before = two.state_dict()
    x = np.ones((4, 3), "float32")
    (two(one(x) @ np.ones((2, 3), "float32")) ** 2).sum().backward()
    first.step()
    for name, value in two.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    second.step()
    assert not np.array_equal(two.state_dict()["weight"], before["weight"])


def test_a_step_leaves_gradients_alone_and_zero_grad_drops_them():
    params = tensors()
    optimizer = Adam(params)
    run(optimizer, params, steps=1)
    for p, g in zip(params, values(0)):
        np.testing.assert_array_equal(p.grad.data, g)
        assert not np.shares_memory(p.grad.data, p.data)
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


def test_a_missing_gradient_counts_as_zero():
    for kind, options in OPTIMIZERS:
        params, explicit = tensors(), tensors()
        optimizer, reference = kind(params, **options), kind(explicit, **options)
        for step in range(5):
            for k, (p, q) in enumerate(zip(params, explicit)):
                g = values(step)[k]
                missing = k == 0 and step > 1
                p.grad = None if missing else tg.Tensor(g)
                q.grad = tg.Tensor(0 * g if missing else g)
            optimizer.step()
            reference.step()
        for p, q in zip(params, explicit):
            np.testing.assert_array_equal(p.data, q.data)


def test_values_that_are_assigned_are_where_the_next_step_begins():
    model = nn.Linear(3, 2)
    optimizer = SGD(model.parameters(), lr=0.5)
    state = {"weight": np.full((3, 2), 2.0), "bias": np.full(2, 3.0)}
    model.load_state_dict(state)
    model.bias.data = np.array([1.0, -1.0])
    for p in model.parameters():
        p.grad = tg.Tensor(np.ones(p.shape, "float32"))
    optimizer.step()
    np.testing.assert_array_equal(model.weight.data, np.full((3, 2), 1.5))
    np.testing.assert_array_equal(model.bias.data, [0.5, -1.5])


def test_a_graph_from_before_a_step_refuses_to_run_backward():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = SGD(model.parameters(), lr=0.1)
    loss = (model(np.ones((2, 3), "float32")) ** 2).mean()
    loss.backward(retain_graph=True)
    optimizer.step()
    before = [p.grad.numpy() for p in model.parameters()]
    with pytest.raises(RuntimeError, match="was changed in place since"):
        loss.backward()
    for p, gradient in zip(model.parameters(), before):
        np.testing.assert_array_equal(p.grad.data, gradient)


@pytest.mark.parametrize("kind", [SGD, RMSProp, Adam])
def test_float32_stays_float32_with_numpys_numbers(kind):
    x = tg.Tensor(np.ones(3, "float32"), requires_grad=True)
    optimizer = kind([x], lr=np.float64(0.1))
    for _ in range(2):
        optimizer.zero_grad()
        (x * x).sum().backward()
        assert x.grad.dtype == "float32"
        optimizer.step()
        assert x.dtype == "float32"
    assert type(optimizer.lr) is float


# State --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind, options", OPTIMIZERS)
def test_a_saved_state_goes_on_to_the_same_bits(tmp_path, kind, options, dtype):
    straight = tensors(dtype=dtype)
    run(kind(straight, **options), straight, steps=20, dtype=dtype)
    run_on = kind(straight, **options)  # what comes without the state
    params = tensors(dtype=dtype)
    optimizer = kind(params, **options)
    run(optimizer, params, steps=20, dtype=dtype)
    tg.save(tmp_path / "state.npz", optimizer=optimizer)

    resumed = [tg.Tensor(p.data, requires_grad=True) for p in params]
    other = kind(resumed, **options)
    other.load_state_dict(tg.load(tmp_path / "state.npz")["optimizer"])
    assert other.t == 20
    assert_same_state(other.state_dict(), optimizer.state_dict())
    for each, its in ((optimizer, params), (other, resumed), (run_on, straight)):
        run(each, its, steps=10, dtype=dtype)
    for p, q, without in zip(params, resumed, straight):
        np.testing.assert_array_equal(p.data, q.data)
        if (kind, options) != (SGD, {"lr": 0.1}) and p.size:
            assert not np.array_equal(p.data, without.data)


def test_a_state_is_a_copy():
    params = tensors()
    optimizer = Adam(params)
    run(optimizer, params, steps=2)
    state = optimizer.state_dict()
    kept = copy.deepcopy(state)
    run(optimizer, params, steps=1)
    assert_same_state(state, kept)
    optimizer.load_state_dict(state)
    run(optimizer, params, steps=1)
    assert_same_state(state, kept)


def adam_state(**changes):
    state = {**Adam(tensors()).state_dict(), **changes}
    return {name: entry for name, entry in state.items() if entry is not None}


@pytest.mark.parametrize(
    "state, words",
    [
        (adam_state(m=None), ["m is missing"]),
        (adam_state(m=None, v=None, t=None), ["t is missing", "m is missing", "v is missing"]),
        (adam_state(extra=np.zeros(3)), ["extra is unknown"]),
        (adam_state(m=np.zeros(17)), [r"m: expected float64\[18\], got float64\[17\]"]),
        (adam_state(v=np.zeros(18, "float32")), [r"v: expected float64\[18\], got float32\[18\]"]),
        (adam_state(v=3.0), [r"v: expected float64\[18\], got float"]),
        (adam_state(t=-1), ["t: expected an int of at least 0, got -1"]),
        (adam_state(t=2.0), ["t: expected an int of at least 0, got 2.0"]),
        (Adam(tensors(), betas=(0.5, 0.999)).state_dict(), [r"betas: expected \[0.9, 0.999\], got \[0.5"]),
        (SGD(tensors(), 0.1).state_dict(), ["kind: expected 'Adam', got 'SGD'", "m is missing", "b is unk"]),
        (Adam(tensors()[::-1]).state_dict(), [r"shapes: expected \[\[4, 3\], \[\], \[0, 2\], \[5\]\], got"]),
        ({}, ["kind is missing", "shapes is missing", "betas is missing", "t is missing"]),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_nothing_changes(state, words):
    params = tensors()
    optimizer = Adam(params)
    run(optimizer, params, steps=2)
    before = optimizer.state_dict()
    for word in words:
        with pytest.raises(ValueError, match=rf"Adam.load_state_dict: state: .*{word}"):
            optimizer.load_state_dict(state)
    assert_same_state(optimizer.state_dict(), before)


# Clipping -----------------------------------------------------------------------------------------


def with_gradients(seed=0, dtype="float64"):
    params = tensors(dtype=dtype)
    for p, g in zip(params, values(seed, dtype)):
        p.grad = tg.Tensor(g)
    return params


def norm(params):
    return math.sqrt(sum((backend.to_host(p.grad.data).astype("float64") ** 2).sum() for p in params))


@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.sampled_from(["float32", "float64"]))
def test_gradients_are_scaled_to_the_norm_and_no_further(seed, max_norm, dtype):
    params = with_gradients(seed, dtype)
    before = norm(params)
    returned = clip_grad_norm(params, max_norm)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert returned.shape == () and returned.dtype == dtype and not returned.requires_grad
    assert returned.item() == pytest.approx(before, rel=tolerance)
    assert norm(params) == pytest.approx(min(before, max_norm), rel=tolerance)
    for p, g in zip(params, values(seed, dtype)):
        assert p.grad.dtype == dtype and not p.grad.requires_grad
        np.testing.assert_allclose(p.grad.data * before, g * min(before, max_norm), rtol=10 * tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_short_gradients_stay_as_they_are_to_the_bit(dtype):
    params = with_gradients(dtype=dtype)
    for max_norm in (1.1 * norm(params), 1e6):
        clip_grad_norm(params, max_norm)
        for p, g in zip(params, values(0, dtype)):
            np.testing.assert_array_equal(p.grad.data, g)


@pytest.mark.filterwarnings("error")
def test_gradients_of_zero_and_none_are_clipped_without_division_by_zero():
    params = tensors()
    params[0].grad = tg.Tensor(np.zeros((4, 3)))
    assert clip_grad_norm(params, 1.0).item() == 0
    np.testing.assert_array_equal(params[0].grad.data, np.zeros((4, 3)))
    assert params[1].grad is None


@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_clipping_equals_pytorch(max_norm):
    torch = pytest.importorskip("torch")
    theirs = [torch.tensor(value, requires_grad=True) for value in values(0)]
    for p, g in zip(theirs, values(1)):
        p.grad = torch.tensor(g)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    params = with_gradients(1)
    assert clip_grad_norm(params, max_norm).item() == pytest.approx(expected.item(), rel=1e-12)
    for p, q in zip(params, theirs):
        np.testing.assert_allclose(p.grad.data, q.grad.numpy(), rtol=1e-6)  # for they divide by ‖g‖ + 1e-6


@pytest.mark.parametrize("max_norm", [0, -1.0, math.nan, math.inf, "long"])
def test_a_norm_that_is_no_positive_number_is_refused_and_nothing_changes(max_norm):
    params = with_gradients()
    gradients = [p.grad for p in params]
    with pytest.raises(
        ValueError, match=f"clip_grad_norm: max_norm: expected a positive number, got {max_norm}"
    ):
        clip_grad_norm(params, max_norm)
    assert all(p.grad is gradient for p, gradient in zip(params, gradients))


def test_clipping_without_gradients_is_refused():
    with pytest.raises(RuntimeError, match="clip_grad_norm: no parameter has a gradient"):
        clip_grad_norm(tensors(), 1.0)
    with pytest.raises(TypeError, match="params: expected a list of Tensors, got Tensor"):
        clip_grad_norm(with_gradients()[0], 1.0)


# Devices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, options", OPTIMIZERS)
def test_every_device_makes_the_same_steps_and_moves_nothing_to_the_host(device, kind, options):
    params = tensors(dtype="float32")
    optimizer = kind(params, **options)
    gradients = [[tg.Tensor(xp.asarray(g)) for g in values(step, "float32")] for step in range(10)]
    with strict_cupy.forbid_transfers():
        for gradient in gradients:
            for p, g in zip(params, gradient):
                p.grad = g
            clip_grad_norm(params, 1.0)
            optimizer.step()
    state = optimizer.state_dict()
    assert all(type(entry) in (np.ndarray, str, int, float, list) for entry in state.values())
    optimizer.load_state_dict(state)
    assert_same_state(optimizer.state_dict(), state)
    with backend.device("cpu"):
        reference = tensors(dtype="float32")
        other = kind(reference, **options)
        for step in range(10):
            for p, g in zip(reference, values(step, "float32")):
                p.grad = tg.Tensor(g)
            clip_grad_norm(reference, 1.0)
            other.step()
        for p, q in zip(params, reference):
            np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-5, atol=1e-6)


# Bad input ----------------------------------------------------------------------------------------


def computed():
    return tg.Tensor([1.0], requires_grad=True) * 2.0


@pytest.mark.parametrize(
    "params, error, message",
    [
        ([], ValueError, r"params: expected at least one Tensor, got \[\]"),
        (None, TypeError, "params: expected a list of Tensors, got NoneType"),
        (nn.Linear(2, 2), TypeError, "params: expected a list of Tensors, got Linear"),
        (tensors()[0], TypeError, "params: expected a list of Tensors, got Tensor"),
        ([np.ones(3)], TypeError, "params: expected Tensors, got ndarray as number 0"),
        (
            [tg.Tensor([1.0], name="σ")],
            ValueError,
            r"params: parameter 0 'σ' of shape \(1,\): expected a leaf with requires_grad=True, "
            "got requires_grad=False",
        ),
        ([computed()], ValueError, "expected a leaf with requires_grad=True, got a computed Tensor"),
        (
            [*tensors(), *tensors(dtype="float32")],
            ValueError,
            r"parameter 4 of shape \(4, 3\): expected float64, as number 0 has, got float32",
        ),
        (
            2 * tensors(),
            ValueError,
            r"parameter 4 of shape \(4, 3\): expected each Tensor once, got it again",
        ),
    ],
)
def test_parameters_that_cannot_be_held_are_refused(params, error, message):
    with pytest.raises(error, match=message):
        SGD(params, lr=0.1)


@pytest.mark.parametrize(
    "kind, options, message",
    [
        (SGD, {"lr": 0.0}, "lr: expected a positive number or a function of the step, got 0.0"),
        (Adam, {"lr": -1e-3}, "lr: expected a positive number or a function of the step, got -0.001"),
        (RMSProp, {"lr": math.nan}, "lr: expected a positive number or a function of the step, got nan"),
        (Adam, {"lr": math.inf}, "lr: expected a positive number or a function of the step, got inf"),
        (SGD, {"lr": "fast"}, "lr: expected a positive number or a function of the step, got fast"),
        (SGD, {"lr": 0.1, "momentum": 1.0}, "momentum: expected a number, 0 <= momentum < 1, got 1.0"),
        (RMSProp, {"alpha": -0.1}, "alpha: expected a number, 0 <= alpha < 1, got -0.1"),
        (SGD, {"lr": 0.1, "momentum": None}, "momentum: expected a number, 0 <= momentum < 1, got None"),
        (Adam, {"betas": 0.9}, "betas: expected two numbers, 0 <= beta < 1, got 0.9"),
        (Adam, {"eps": "1e-8"}, "eps: expected a number of at least 0, got 1e-8"),
        (RMSProp, {"eps": -1e-8}, "eps: expected a number of at least 0, got -1e-08"),
        (Adam, {"betas": (0.9, 1.0)}, r"betas: expected two numbers, 0 <= beta < 1, got \(0.9, 1.0\)"),
        (Adam, {"eps": math.nan}, "eps: expected a number of at least 0, got nan"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_changes(kind, options, message):
    params = tensors()
    arrays = [p.data for p in params]
    with pytest.raises(ValueError, match=message):
        kind(params, **options)
    assert all(p.data is array for p, array in zip(params, arrays))


def test_a_step_without_gradients_is_refused():
    optimizer = Adam(tensors())
    with pytest.raises(RuntimeError, match=r"Adam.step: no parameter has a gradient; run backward"):
        optimizer.step()


def test_a_gradient_of_another_shape_is_refused():
    params = tensors()
    optimizer = SGD(params, lr=0.1)
    params[0].grad = tg.Tensor(np.ones(3))
    with pytest.raises(ValueError, match=r"SGD.step: parameter 0 of shape \(4, 3\) has a gradient of shape"):
        optimizer.step()
    np.testing.assert_array_equal(params[0].data, values(0)[0])


def test_a_parameter_that_has_moved_to_another_device_is_refused(far):
    model = nn.Linear(3, 2)
    optimizer = SGD(model.parameters(), lr=0.1)
    model.to(far)
    for p in model.parameters():
        p.grad = p.detach()
    with pytest.raises(
        RuntimeError, match=r"SGD.step: parameter 0 of shape \(3, 2\) was given another array"
    ):
        optimizer.step()
    with backend.device(far):
        moved = SGD(model.parameters(), lr=0.5)
        before = model.weight.numpy()
        for p in model.parameters():
            p.grad = p.detach()
        moved.step()
        np.testing.assert_allclose(model.weight.numpy(), before / 2)


def test_a_parameter_that_was_moved_or_replaced_is_refused():
    model = nn.Linear(3, 2)
    optimizer = SGD(model.parameters(), lr=0.1)
    model(np.ones((1, 3), "float32")).sum().backward()
    gradients = [p.grad for p in model.parameters()]

    def refused():
        for p, gradient in zip(model.parameters(), gradients):
            p.grad = gradient
        before = model.state_dict()
        with pytest.raises(RuntimeError, match=r"SGD.step: parameter 0 of shape \(3, 2\) was given another"):
            optimizer.step()
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, before[name])

    state = optimizer.state_dict()
    SGD(model.parameters(), lr=0.1)  # another optimizer has taken them
    refused()
    with pytest.raises(RuntimeError, match=r"SGD.load_state_dict: parameter 0 of shape \(3, 2\) was given"):
        optimizer.load_state_dict(state)
    optimizer = SGD(model.parameters(), lr=0.1)
    model.astype("float64")
    refused()
    optimizer = SGD(model.parameters(), lr=0.1)
    model.astype("float64").to("cpu")  # is there already
    model(np.ones((1, 3))).sum().backward()
    optimizer.step()
