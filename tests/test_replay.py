"""Steps that are replayed do what the same steps do when they are called; on the strict double of CuPy, whose
graphs do nothing while they are recorded, and on a GPU where there is one."""

import itertools
from contextlib import contextmanager

import numpy as np
import pytest
import strict_cupy
from hypothesis import given
from hypothesis import strategies as st

import tinygen as tg
from tinygen import backend, nn, ops, optim
from tinygen.backend import Generator, to_host, xp
from tinygen.cublas import Cublas
from tinygen.models.adversarial.game import descend
from tinygen.models.adversarial.sn_gan import SNGAN
from tinygen.models.adversarial.wgan import WGAN
from tinygen.models.adversarial.wgan_gp import WGANGP
from tinygen.models.autoregressive.made import MADE
from tinygen.models.autoregressive.pixelcnn import PixelCNN
from tinygen.models.flows import MAF
from tinygen.models.latent.vae import VAE

RNG = np.random.default_rng(0)
N, D = 6, 4


def mlp(*sizes, last=None):
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1], *([last] if last else []))


def trained(model, optimizer, loss_of):
    """The model, and a step of its training."""

    def step(x, rng):
        with rng:
            loss = loss_of(x)
        optimizer.zero_grad()
        loss.backward()
        norm = optim.clip_grad_norm(model.parameters(), 10.0)
        optimizer.step()
        return {"loss": loss, "norm": norm}

    return model, step


def vae():
    model = VAE(mlp(D, 8, 4), mlp(2, 8, D), 2)
    return trained(model, optim.Adam(model.parameters(), lr=lambda t: 1e-2 / t**0.5), model.loss)


def made():
    model = MADE(D, [8], direct=True)
    return trained(model, optim.RMSProp(model.parameters(), lr=1e-3), model.loss)


def maf():
    model = MAF(D, [8], 3)  # with batch normalization, whose running moments change
    return trained(model, optim.Adam(model.parameters(), lr=1e-3), model.loss)


def pixelcnn():
    model = PixelCNN((2, 2, 1), channels=4, blocks=1)
    optimizer = optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    return trained(model, optimizer, lambda x: model.loss(ops.reshape(x, (N, 2, 2, 1))))


def convolutional():
    layers = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm(3), nn.LeakyReLU(0.2), nn.Dropout(0.5)
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12, 1))
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    return trained(model, optimizer, lambda x: (model(ops.reshape(x, (N, 2, 2, 1))) ** 2).mean())


def game(kind, **options):
    model = kind(mlp(2, 8, D), mlp(D, 8, 1), 2, **options)
    optimizers = model.optimizers(1e-3)

    def step(x, rng):
        with rng:
            return model.iteration(x, optimizers)

    return model, step


SYSTEMS = {
    "VAE": vae,
    "MADE": made,
    "MAF": maf,
    "PixelCNN": pixelcnn,
    "convolutions": convolutional,
    "WGAN": lambda: game(WGAN, critic_steps=2),
    "WGAN-GP": lambda: game(WGANGP, critic_steps=2),
    "SN-GAN": lambda: game(SNGAN, critic_steps=1),
}


def batches(n: int, shapes=((N, D),)):
    """n minibatches of zeros and ones, of these shapes in turn."""
    rng = np.random.default_rng(1)
    for k in range(n):
        yield xp.asarray((rng.random(shapes[k % len(shapes)]) < 0.5).astype("float32"))


def after(make, steps: int, replayed: bool, **options):
    """The state of a model after so many steps, and what the last one returned."""
    tg.seed(0)
    model, step = make()
    step = tg.replay(step) if replayed else step
    for k, x in enumerate(batches(steps, **options)):
        result = step(x, Generator(7, k))
    return model.state_dict(), result


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_hundred_replayed_steps_are_a_hundred_steps(name, far):
    backend.set_device(far)
    called, at_last = after(SYSTEMS[name], 100, replayed=False)
    replayed, again = after(SYSTEMS[name], 100, replayed=True)
    for key in called:
        np.testing.assert_allclose(replayed[key], called[key], rtol=2e-4, atol=2e-6, err_msg=key)
    assert list(again) == list(at_last)
    for key, value in at_last.items():
        np.testing.assert_allclose(
            to_host(ops.raw(again[key])), to_host(ops.raw(value)), rtol=1e-3, atol=1e-6
        )


def test_every_shape_is_recorded_by_itself(far):
    backend.set_device(far)
    shapes = ((N, D), (N, D), (3, D))
    called, replayed = (after(vae, 40, replayed, shapes=shapes)[0] for replayed in (False, True))
    for key in called:
        np.testing.assert_allclose(replayed[key], called[key], rtol=2e-4, atol=2e-6)


def test_two_calls_warm_up_and_the_third_is_recorded(far):
    backend.set_device(far)
    calls = []
    total = tg.Tensor([0.0])

    @tg.replay
    def step(x):
        calls.append(backend.is_recording())
        total.data = total.data + x
        return total.data, x * 2

    results = [step(xp.asarray([float(k)])) for k in range(6)]
    assert calls == [False, False, True]
    assert [doubled.tolist() for _, doubled in results] == [[0], [2], [4], [6], [8], [10]]
    # What later replays do leaves earlier results alone.
    assert [total.tolist() for total, _ in results] == [[0], [1], [3], [6], [10], [15]]


def test_on_the_cpu_a_step_is_called_with_whatever_it_takes():
    assert tg.replay(lambda a, b=2: [a, b])(1) == [1, 2]


def test_a_replayed_step_is_called_while_somebody_looks_on(far):
    backend.set_device(far)
    tg.seed(0)
    _, step = vae()
    calls = []
    counted = tg.replay(lambda x, rng: calls.append(1) or step(x, rng))
    for k, x in enumerate(batches(5)):
        counted(x, Generator(0, k))
    assert len(calls) == 3
    with tg.profile() as found:
        counted(next(batches(1)), Generator(1))
    assert len(calls) == 4 and found.of["linear"].calls == 4
    counted(next(batches(1)), Generator(1))
    assert len(calls) == 4


def descent(lr):
    """A number, an optimizer of it, and the replayed step down its value."""
    theta = tg.Tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([theta], lr)
    return theta, optimizer, tg.replay(lambda: descend(optimizer, theta.sum()))


def test_numbers_that_vary_and_steps_that_are_counted_follow_the_replays(far):
    backend.set_device(far)
    theta, optimizer, step = descent(lr=lambda t: float(t))
    for _ in range(5):
        step()
    assert optimizer.t == 5 and theta.item() == 1 - 15


def test_a_graph_from_before_a_replay_refuses_to_run_backward(far):
    backend.set_device(far)
    theta, _, step = descent(lr=0.1)
    for _ in range(4):
        step()
    y = theta**2
    step()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


# What cannot be recorded ----------------------------------------------------------------------------------

W = np.eye(3, dtype="float32")


@tg.primitive
def reads_its_gradient(x):
    return x * 2


reads_its_gradient.vjp("x", lambda g: g * float(g.sum()), formula="x̄ = ȳ Σ ȳ")

FAULTS = {
    "a value is read": (lambda w, x: float((w * x).sum().data), ["outside of all primitives", "D2H"]),
    "a branch on values": (lambda w, x: w if (w.data > x).all() else x, ["outside of all", "D2H"]),
    "an array of the host": (lambda w, x: w * xp.asarray(W), ["outside of all primitives", "H2D"]),
    "a list as an index": (lambda w, x: w[[0, 1]], ["H2D"]),
    "linear algebra": (lambda w, x: ops.inverse(w), ["in the primitive 'inverse'", "capture"]),
    "a rule": (lambda w, x: tg.grad(reads_its_gradient(w), w, x)[0], ["rule of reads_its_gradient", "D2H"]),
    "a generator": (lambda w, x: w * Generator(0).normal((3, 3)), ["Generator", "give it as an argument"]),
    "the default generator": (
        lambda w, x: w * backend.default_generator().normal((3, 3)),
        ["default_generator", "give the recorded step a Generator"],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_step_that_cannot_be_recorded_says_what_is_at_fault(name, far):
    backend.set_device(far)
    function, words = FAULTS[name]
    w = tg.Tensor(W, requires_grad=True)
    optimizer = optim.Adam([w])

    @tg.replay
    def step(x):
        w.grad = tg.Tensor(x)
        optimizer.step()
        found = function(w, x)
        return found if hasattr(found, "shape") else None

    x = xp.asarray(np.ones((3, 3), "float32"))
    for _ in range(2):
        step(x)
    before, t = w.numpy(), optimizer.t
    for _ in range(2):
        with pytest.raises(RuntimeError, match="replay: the step cannot be recorded") as caught:
            step(x)
        assert all(word in str(caught.value) for word in [*words, __file__])
        np.testing.assert_array_equal(w.numpy(), before)
        assert optimizer.t == t
    assert not backend.is_recording()
    function(w, x)  # as ever


@pytest.mark.parametrize("argument", [1.0, W, "word", [1], Generator(0)])
def test_arguments_are_arrays_of_the_device_or_generators(argument, far):
    backend.set_device(far)
    expected = f"replay: argument 1: expected an array or a Generator on device '{far}', or None, got "
    with pytest.raises(TypeError, match=expected):
        tg.replay(lambda x, y: x)(None, argument)


@pytest.mark.parametrize("result", [1.0, "word", {1}, [None, 2]])
def test_results_are_arrays(result, far):
    backend.set_device(far)
    with pytest.raises(TypeError, match="replay: expected a step that returns Tensors, arrays, None"):
        tg.replay(lambda: result)()


# Random numbers -------------------------------------------------------------------------------------------


def test_a_generator_follows_another(device):
    one, other = Generator(1), Generator(2)
    one.normal(3)
    other.uniform(5)
    one.follow(other)
    for draw in (lambda g: g.normal((2, 3)), lambda g: g.uniform(7), lambda g: g.integers(0, 9, 5)):
        np.testing.assert_array_equal(to_host(draw(one)), to_host(draw(other)))


def test_a_replay_draws_what_its_generator_would(far):
    backend.set_device(far)
    step = tg.replay(lambda rng: rng.normal((3,)))
    for k in range(6):
        np.testing.assert_array_equal(to_host(step(Generator(k))), to_host(Generator(k).normal((3,))))


@pytest.mark.parametrize("as_argument", [False, True])
def test_one_generator_for_all_steps_goes_on(as_argument, far):
    backend.set_device(far)
    ours, theirs = Generator(5), Generator(5)
    step = tg.replay((lambda rng: rng.uniform((2,))) if as_argument else lambda: ours.uniform((2,)))
    for _ in range(6):
        drawn = step(*[ours] * as_argument)
        np.testing.assert_array_equal(to_host(drawn), to_host(theirs.uniform((2,))))
    np.testing.assert_array_equal(to_host(ours.uniform((2,))), to_host(theirs.uniform((2,))))


def test_the_default_generator_inside_a_block_is_the_one_of_the_block(far):
    backend.set_device(far)

    @tg.replay
    def step(rng):
        with rng:
            return backend.default_generator().normal((2,))

    for k in range(6):
        with Generator(100 + k):
            np.testing.assert_array_equal(to_host(step(Generator(k))), to_host(Generator(k).normal((2,))))


# Products -------------------------------------------------------------------------------------------------


@st.composite
def matrices(draw, rows, columns, batch=()):
    """An array (*batch, rows, columns) of one of the layouts that occur."""
    x = np.random.default_rng(draw(st.integers(0, 99))).standard_normal((*batch, rows, columns))
    x = x.astype(draw(st.shared(st.sampled_from(["float32", "float64"]), key="dtype")))
    layout = draw(st.sampled_from(["rows", "columns", "part", "steps"]))
    if layout == "columns":
        return xp.asarray(np.ascontiguousarray(x.swapaxes(-1, -2))).swapaxes(-1, -2)
    if layout == "part":
        wide = xp.asarray(np.concatenate([x, x], axis=-1))
        return wide[..., :columns]
    if layout == "steps":
        return xp.asarray(np.repeat(x, 2, axis=-1))[..., ::2]
    return xp.asarray(x)


@given(st.data(), *[st.integers(0, 4)] * 3)
def test_products_of_cublas_in_every_layout(far, data, m, k, n):
    backend.set_device(far)
    batches = [((), ()), ((2,), (2,)), ((), (3,)), ((2, 1), (3,)), ((0,), ())]
    batch_a, batch_b = data.draw(st.sampled_from(batches))
    a, b = data.draw(matrices(m, k, batch_a)), data.draw(matrices(k, n, batch_b))
    expected = to_host(a) @ to_host(b)
    with cublas() as products:
        y = products.matmul(a, b)
        outs = xp.empty(expected.shape, a.dtype), xp.empty((*expected.shape, 2), a.dtype)[..., 0]
        for out in outs:
            assert products.matmul(a, b, out) is out
    assert y.shape == expected.shape and y.dtype == a.dtype
    np.testing.assert_allclose(to_host(y), expected, rtol=1e-4, atol=1e-5)
    for out in outs:
        np.testing.assert_array_equal(to_host(out), to_host(y))


@contextmanager
def cublas():
    """Products on a stream of their own, from what was asked before to what is asked after."""
    stream = xp.cuda.Stream(non_blocking=True)
    products = Cublas(backend.current_device().cublas())
    products.use(stream)
    backend.current_device().wait()
    with stream:
        yield products
    backend.current_device().wait()


def test_products_of_other_dtypes_are_refused(far):
    backend.set_device(far)
    for dtypes in [("float16", "float16"), ("float32", "float64"), ("int64", "int64")]:
        a, b = (xp.ones((2, 2), dtype) for dtype in dtypes)
        with cublas() as products, pytest.raises(TypeError, match=f"{dtypes[0]} and {dtypes[1]}"):
            products.matmul(a, b)


# The double -----------------------------------------------------------------------------------------------


def test_the_doubles_graphs_do_nothing_before_they_are_launched_and_know_addresses_alone():
    cupy = strict_cupy.cupy
    x, stream = cupy.asarray(np.array([1.0, 2.0])), cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        x += 1
        y = x.reshape(2, 1) * 2
        graph = stream.end_capture()
    assert x.tolist() == [1, 2] and np.isnan(y.get()).all()
    graph.launch()
    graph.launch()
    assert x.tolist() == [3, 4] and y.tolist() == [[6], [8]]
    del x
    with pytest.raises(RuntimeError, match="memory that was freed"):
        graph.launch()


def test_descend_is_a_step_that_can_be_recorded(device):
    model = nn.Linear(2, 1)
    optimizer = optim.Adam(model.parameters())
    step = tg.replay(lambda x: descend(optimizer, (model(x) ** 2).mean()))
    losses = [step(xp.ones((3, 2), "float32")).item() for _ in range(20)]
    assert losses == sorted(losses, reverse=True)
