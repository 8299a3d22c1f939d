"""Everything that computes, on a device that is not the CPU: the same numbers, and no transfer unasked for.

`far` is the double of CuPy, and CuPy where there is a GPU; what is computed there is compared with the CPU.
"""

import json
import math
import pkgutil
import runpy
import sys
from contextlib import nullcontext
from importlib import import_module
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from strict_cupy import count_transfers, forbid_transfers

import tinygen as tg
from tinygen import backend, nn, ops, optim, training
from tinygen import distributions as d
from tinygen.autodiff import registry
from tinygen.backend import Generator, to_host, xp
from tinygen.gradients import GradientError, check_gradients
from tinygen.gradients.strategies import calls
from tinygen.models.latent.vae import VAE

DEMOS = Path(__file__).parent.parent / "demos"

for module in pkgutil.walk_packages(tg.__path__, "tinygen."):
    import_module(module.name)  # whatever defines primitives has registered them now


def there(value):
    """The same with NumPy's arrays, also in tuples and lists, on the current device."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(there, value))
    return xp.asarray(value) if isinstance(value, np.ndarray) else value


def tensors(arrays):
    return [tg.Tensor(x, requires_grad=True) for x in arrays]


def flat(y):
    """The Tensors and arrays in nested tuples."""
    return [part for each in y for part in flat(each)] if isinstance(y, tuple) else [y]


def wave(like):
    """Different numbers in the shape of an array, the same on every device."""
    return xp.asarray(np.cos(np.arange(like.size)).reshape(like.shape).astype(like.dtype))


def derivatives(outputs, inputs):
    """The gradients of a sum of the outputs, with weights, and those of such a sum of the gradients."""
    outputs = [y for y in outputs if isinstance(y, tg.Tensor) and y.requires_grad]
    weights = [wave(y) for y in outputs]
    first = tg.grad(outputs, inputs, weights, create_graph=True, allow_unused=True)
    again = [g for g in first if g is not None and g.requires_grad]
    second = tg.grad(again, inputs, [wave(g) for g in again], allow_unused=True) if again else ()
    return [g for g in (*first, *second) if g is not None]


def on(device, compute, quiet=True):
    """The values of what a function gives, computed on a device; if quiet, without a transfer."""
    with tg.device(device):
        with forbid_transfers() if quiet else nullcontext():
            results = compute()
        for y in results:
            assert backend.device_of(ops.raw(y)) == device
        return [to_host(ops.raw(y)) for y in results]


def assert_same(far, compute, rtol=1e-10, quiet=True):
    """A function gives the same on another device as on the CPU; if quiet, without a transfer."""
    here, distant = on("cpu", compute), on(far, compute, quiet)
    assert len(here) == len(distant)
    for a, b in zip(here, distant):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert_allclose(b, a, rtol=rtol, atol=rtol * max(1.0, np.abs(a).max(initial=0)))


# Primitives and the engine ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(registry))
@settings(max_examples=settings.default.max_examples // 5)
@given(data=st.data())
def test_primitives_and_their_derivatives_are_the_same(name, far, data):
    call = data.draw(calls(registry[name]))

    def compute():
        inputs = tensors(call.inputs)
        outputs = flat(registry[name](*inputs, **{key: there(x) for key, x in call.static.items()}))
        return [*outputs, *derivatives(outputs, inputs)]

    # How many elements a mask selects is known when it has been looked at.
    assert_same(far, compute, quiet=not is_mask(call.static.get("index")))


def is_mask(index):
    return isinstance(index, np.ndarray) and index.dtype == bool


@pytest.mark.parametrize("name", sorted(registry))
@settings(max_examples=settings.default.max_examples // 20)
@given(data=st.data())
def test_primitives_pass_the_check_of_gradients(name, far, data):
    """Which also sees whether a gradient shares memory with something else."""
    call = data.draw(calls(registry[name]))
    with tg.device(far):
        static = {key: there(x) for key, x in call.static.items()}
        check_gradients(lambda *xs: registry[name](*xs, **static), *call.inputs, order=2)


@tg.primitive
def wrong_in_one_place(x):
    return x * x


@wrong_in_one_place.vjp("x", formula="x̄ = 2 x ȳ, but for one element")
def _(g, x):
    fault = np.zeros((2, 3))
    fault[1, 2] = 0.5
    return 2 * x * g + xp.asarray(fault)


def test_a_wrong_gradient_is_found_on_every_device(device):
    with pytest.raises(GradientError) as caught:
        check_gradients(wrong_in_one_place, xp.asarray(np.arange(6.0).reshape(2, 3)))
    assert caught.value.index == (1, 2)
    assert caught.value.expected == pytest.approx(caught.value.got - 0.5)


def test_backward_accumulates_and_keeps_graphs(far):
    def compute():
        x, w = tensors([np.linspace(-1, 1, 6).reshape(2, 3), np.linspace(0.5, 2, 12).reshape(3, 4)])
        y = ops.softplus(x @ w)
        loss = (y[:, 1:] * y[:, :-1]).mean() + ops.logsumexp(y, axis=0).sum()
        loss.backward(retain_graph=True)
        loss.backward()
        x.data = 2 * x.data
        with tg.no_grad():
            without = (x @ w).max(axis=1)
        return [loss, x.grad, w.grad, without, x.detach() + 1.0]

    assert_same(far, compute)


def test_comparisons_and_indices_are_arrays_of_the_device(far):
    def compute():
        x = tg.Tensor(np.arange(-3.0, 3.0).reshape(2, 3), requires_grad=True)
        mask = x > 0
        order = xp.asarray(np.array([1, 0, 1]))
        y = ops.where(mask, x, 0.1 * x)[order]
        z = ops.take_along_axis(y, xp.asarray(np.array([[0], [2], [1]])), axis=1)
        (gradient,) = tg.grad((y * y).sum() + z.sum(), x)
        return [mask, y, z, gradient]

    assert_same(far, compute)


def test_the_figures_of_a_tensor_are_the_transfers_that_it_makes():
    with tg.device("strict"):
        x = tg.Tensor([[1.0, 2.0]])
        for read in (tg.Tensor.numpy, repr, lambda x: x.sum().item(), lambda x: float(x.sum())):
            with count_transfers() as made:
                read(x)
            assert len(made) == 1
        with count_transfers() as made:
            (x + x).sum(axis=0).reshape(2, 1).astype("float64")
            assert x.shape == (1, 2) and len(x) == 1 and x.dtype == "float32"
        assert made == []


# Layers -------------------------------------------------------------------------------------------------

MADE_MASK = np.tril(np.ones((3, 4)))
IMAGES, ROWS, SEQUENCES = (2, 5, 6, 3), (4, 3), (2, 5, 3)

LAYERS = {
    "AvgPool2d": (lambda: nn.AvgPool2d(2), IMAGES),
    "BatchNorm": (lambda: nn.BatchNorm(3), IMAGES),
    "Conv1d": (lambda: nn.Conv1d(3, 2, 2, dilation=2, causal=True), SEQUENCES),
    "Conv2d": (lambda: nn.Conv2d(3, 2, 3, stride=2, padding=1), IMAGES),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), IMAGES),
    "Dropout": (lambda: nn.Dropout(0.5).eval(), ROWS),  # its noise is another on each device
    "ELU": (nn.ELU, ROWS),
    "Embedding": (lambda: nn.Embedding(5, 2), None),
    "Flatten": (nn.Flatten, IMAGES),
    "GRU": (lambda: nn.GRU(3, 2), SEQUENCES),
    "GRUCell": (lambda: nn.GRUCell(3, 2), ROWS),
    "LSTM": (lambda: nn.LSTM(3, 2), SEQUENCES),
    "LSTMCell": (lambda: nn.LSTMCell(3, 2), ROWS),
    "LayerNorm": (lambda: nn.LayerNorm(3), IMAGES),
    "LeakyReLU": (nn.LeakyReLU, ROWS),
    "Linear": (lambda: nn.Linear(3, 4), ROWS),
    "MaskedConv2d": (lambda: nn.MaskedConv2d("A", 3, 6, 3, colors=3), IMAGES),
    "MaskedLinear": (lambda: nn.MaskedLinear(MADE_MASK), ROWS),
    "StaircaseLinear": (lambda: nn.StaircaseLinear(MADE_MASK), ROWS),
    "ReLU": (nn.ReLU, ROWS),
    "Reshape": (lambda: nn.Reshape((3, 1)), ROWS),
    "Sequential": (lambda: nn.Sequential(nn.Linear(3, 2), ops.sin, nn.Tanh()), ROWS),
    "ShiftedConv2d": (lambda: nn.ShiftedConv2d(3, 2, (2, 3), right=1), IMAGES),
    "Sigmoid": (nn.Sigmoid, ROWS),
    "Softplus": (nn.Softplus, ROWS),
    "SpectralNorm": (lambda: nn.SpectralNorm(nn.Conv2d(3, 2, 3).astype("float64")), IMAGES),
    "Tanh": (nn.Tanh, ROWS),
    "Upsample2d": (lambda: nn.Upsample2d(2), IMAGES),
    "WeightNorm": (lambda: nn.WeightNorm(nn.Linear(3, 4)), ROWS),
}


def is_layer(value):
    return isinstance(value, type) and issubclass(value, nn.Module) and value is not nn.Module


def test_every_layer_is_tested():
    assert {name for name, value in vars(nn).items() if is_layer(value)} == set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_and_their_derivatives_are_the_same(name, far):
    make, shape = LAYERS[name]
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, (4, 2)) if shape is None else rng.standard_normal(shape)

    def compute():
        tg.seed(3)
        layer = make().astype("float64")
        given = tg.Tensor(x, requires_grad=True) if shape else xp.asarray(x)
        inputs = [*layer.parameters(), *([given] if shape else [])]
        with forbid_transfers():
            outputs = flat(layer(given))
            return [*outputs, *derivatives(outputs, inputs), *(t for _, t in layer._tensors())]

    assert_same(far, compute, quiet=False)  # in making it, a layer may look at its weights


def small_model():
    return nn.Sequential(
        *(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm(2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(32, 5), nn.Tanh(), nn.Linear(5, 3)),
    )


def test_the_same_seed_gives_the_same_weights_on_every_device(far):
    tg.seed(7)
    here = small_model().state_dict()
    tg.seed(7)
    with tg.device(far):
        distant = small_model()
        assert {backend.device_of(p.data) for p in distant.parameters()} == {far}
    distant = distant.state_dict()
    assert here.keys() == distant.keys()
    for name in here:
        assert_array_equal(here[name], distant[name])


def test_a_module_moves_and_computes_where_it_is(far):
    model = small_model().eval()
    x = np.random.default_rng(0).standard_normal((3, 4, 4, 1)).astype("float32")
    before, here = model.state_dict(), model(x).numpy()
    assert model.to(far) is model
    assert {backend.device_of(t.data) for _, t in model._tensors()} == {far}
    with tg.device(far):
        assert_allclose(model(tg.Tensor(x)).numpy(), here, rtol=1e-5, atol=1e-6)
        model(tg.Tensor(x)).sum().backward()
    assert {backend.device_of(p.grad.data) for p in model.parameters()} == {far}
    model.to("cpu")
    for name, value in model.state_dict().items():
        assert_array_equal(value, before[name])
    assert_array_equal(model(x).numpy(), here)


def test_a_module_of_another_device_is_refused_by_name(far):
    model, x = nn.Linear(3, 2), np.ones((1, 3), "float32")
    with tg.device(far):
        with pytest.raises(TypeError, match=f"linear: .*on device '{far}', got one on device 'cpu'"):
            model(tg.Tensor(x))
    model.to(far)
    with pytest.raises(TypeError, match=f"linear: .*on device 'cpu', got one on device '{far}'"):
        model(x)
    with tg.device(far), pytest.raises(TypeError, match=f"linear: x: .*'{far}', got one on device 'cpu'"):
        model(x)


# Optimizers ---------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD": lambda params: optim.SGD(params, lr=0.1),
    "momentum": lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    "RMSProp": lambda params: optim.RMSProp(params, lr=0.01),
    "Adam": lambda params: optim.Adam(params, lr=0.01),
}


def step(model, optimizer, x):
    loss = (model(tg.Tensor(x)) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_make_the_same_steps(name, far):
    x = np.random.default_rng(0).standard_normal((4, 4, 4, 1))

    def compute():
        tg.seed(1)
        model = small_model().astype("float64")
        optimizer = OPTIMIZERS[name](model.parameters())
        losses = [step(model, optimizer, x) for _ in range(3)]
        return [*losses, *model.parameters()]

    assert_same(far, compute, rtol=1e-8)


def test_an_optimizer_refuses_parameters_of_another_device_by_name(far):
    model = nn.Linear(2, 2)
    with tg.device(far), pytest.raises(ValueError, match=f"params: .*the current device, '{far}', got 'cpu'"):
        optim.Adam(model.parameters())
    optimizer = optim.Adam(model.parameters())
    model.to(far)
    model.weight.grad = model.bias.grad = None
    with tg.device(far):
        model(tg.Tensor([[1.0, 2.0]])).sum().backward()
        with pytest.raises(RuntimeError, match="make this one again"):
            optimizer.step()


# Distributions ------------------------------------------------------------------------------------------

A, B = np.linspace(-1, 1, 6).reshape(2, 3), np.linspace(-0.5, 0.4, 6).reshape(2, 3)
INSIDE = np.array([[0.2, 0.5, 0.3], [0.1, 0.2, 0.7]])  # in most supports, and with rows that sum to 1
CHOICES = np.array([0, 2])

# name -> (what makes it of parameters, these, a value)
DISTRIBUTIONS = {
    "Bernoulli": (d.Bernoulli, [A], np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])),
    "Beta": (lambda: d.Beta(2, 3), [], INSIDE.astype("float32")),
    "Categorical": (d.Categorical, [A], CHOICES),
    "Dirichlet": (lambda: d.Dirichlet([1, 2, 3]), [], INSIDE.astype("float32")),
    "DiscretizedLogistic": (lambda a, b: d.DiscretizedLogistic(a, b, 4), [A, B], np.array([[0, 1, 2]] * 2)),
    "Erlang": (lambda b: d.Erlang(3, b), [B], INSIDE),
    "Exponential": (d.Exponential, [B], INSIDE),
    "Gumbel": (d.Gumbel, [A, B], INSIDE),
    "GumbelSoftmax": (lambda a: d.GumbelSoftmax(a, 0.7), [A], INSIDE),
    "Laplace": (d.Laplace, [A, B], INSIDE),
    "LogGumbelSoftmax": (lambda a: d.LogGumbelSoftmax(a, 0.7), [A], np.log(INSIDE)),
    "LogNormal": (d.LogNormal, [A, B], INSIDE),
    "Logistic": (d.Logistic, [A, B], INSIDE),
    "Mixture": (lambda w, a, b: d.Mixture(w, d.Normal(a, b)), [A, A, B], np.array([0.3, -0.2])),
    "Normal": (d.Normal, [A, B], INSIDE),
    "Uniform": (d.Uniform, [A - 3, B + 3], INSIDE),
}


def test_every_distribution_is_tested():
    classes = {name for name, value in vars(d).items() if isinstance(value, type)}
    assert classes == set(DISTRIBUTIONS)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions_and_their_derivatives_are_the_same(name, far):
    make, parameters, value = DISTRIBUTIONS[name]

    def compute():
        inputs = tensors(parameters)
        p = make(*inputs)
        outputs = [p.log_prob(xp.asarray(value))]
        for figure in ("mean", "variance", "entropy"):
            try:
                found = getattr(p, figure)
                outputs.append(found() if callable(found) else found)
            except (NotImplementedError, AttributeError):
                pass  # it has no closed form
        outputs = [y for y in outputs if hasattr(y, "shape")]  # of numbers alone it is a number
        return [*outputs, *(derivatives(outputs, inputs) if inputs else [])]

    assert_same(far, compute)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draws_are_the_devices_and_differentiable(name, device):
    make, parameters, _ = DISTRIBUTIONS[name]
    with forbid_transfers():
        inputs = tensors(parameters)
        p = make(*inputs)
        draw = p.sample(Generator(0))
        assert backend.device_of(draw) == device
        if hasattr(p, "rsample"):
            draw = p.rsample(Generator(0))
            assert backend.device_of(ops.raw(draw)) == device
            if inputs:
                draw.sum().backward()
                assert all(backend.device_of(x.grad.data) == device for x in inputs)


def test_divergences_are_the_same(far):
    def compute():
        a, b = tensors([A, B])
        outputs = [
            d.kl_divergence(d.Normal(a, b), d.Normal(0.0, 0.0)),
            d.kl_divergence(d.Bernoulli(a), d.Bernoulli(b)),
        ]
        return [*outputs, *derivatives(outputs, [a, b])]

    assert_same(far, compute)


# Training -----------------------------------------------------------------------------------------------


def vae(networks):
    if networks == "mlp":
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))
        decoder = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 64), nn.Reshape((8, 8, 1)))
    else:
        encoder = nn.Sequential(
            *(nn.Conv2d(1, 2, 4, stride=2, padding=1), nn.BatchNorm(2), nn.ReLU()),
            *(nn.Dropout(0.2), nn.Flatten(), nn.Linear(32, 4)),
        )
        decoder = nn.Sequential(
            *(nn.Linear(2, 32), nn.Reshape((4, 4, 2)), nn.ReLU()),
            nn.ConvTranspose2d(2, 1, 4, stride=2, padding=1),
        )
    return VAE(encoder, decoder, 2)


BATCH = (np.random.default_rng(0).random((6, 8, 8, 1)) < 0.5).astype("float32")


@pytest.mark.parametrize("networks", ["mlp", "conv"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_step_transfers_nothing_but_the_figures_that_it_prints(networks, optimizer, device):
    tg.seed(0)
    model = vae(networks)
    optimizer = OPTIMIZERS[optimizer](model.parameters())
    with forbid_transfers():
        for number in range(3):
            with Generator(0, number):
                reconstruction, divergence = (term.mean() for term in model.terms(xp.asarray(BATCH)))
                loss = divergence - reconstruction
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    with count_transfers() as made:
        figures = [reconstruction.item(), divergence.item()]
    assert len(made) == (2 if device == "strict" else 0)
    assert all(map(math.isfinite, figures))
    assert all(backend.device_of(t.data) == device for _, t in model._tensors())


def test_training_repeats_itself_on_every_device(device):
    def train():
        tg.seed(0)
        model = vae("mlp")
        optimizer = optim.Adam(model.parameters(), lr=1e-2)
        losses = []
        for number in range(40):
            loss = model.loss(xp.asarray(BATCH), Generator(0, number))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss)
        return [loss.item() for loss in losses]

    first, again = train(), train()
    assert first == pytest.approx(again, rel=1e-4)
    assert np.mean(first[-5:]) < np.mean(first[:5]) - 1


def test_a_checkpoint_moves_between_devices(device, tmp_path):
    tg.seed(0)
    model = small_model()
    optimizer = optim.Adam(model.parameters())
    x = np.random.default_rng(0).standard_normal((4, 4, 4, 1)).astype("float32")
    step(model, optimizer, x)
    training.save(tmp_path / "checkpoint.npz", model=model, optimizer=optimizer, step=1)
    expected = step(model, optimizer, x).item()

    for other in ("cpu", "strict"):
        with tg.device(other):
            tg.seed(1)
            resumed = small_model()
            resumed_optimizer = optim.Adam(resumed.parameters())
            loaded = training.load(tmp_path / "checkpoint.npz")
            resumed.load_state_dict(loaded["model"])
            resumed_optimizer.load_state_dict(loaded["optimizer"])
            assert {backend.device_of(t.data) for _, t in resumed._tensors()} == {other}
            assert step(resumed, resumed_optimizer, x).item() == pytest.approx(expected, rel=1e-5)
            for a, b in zip(model.parameters(), resumed.parameters()):
                assert_allclose(b.numpy(), a.numpy(), rtol=1e-4, atol=1e-5)


def test_running_means_wait_for_nothing(device):
    figures = training.RunningMeans()
    with forbid_transfers():
        for count, value in ((2, 1.0), (4, 4.0)):
            figures.add(count, loss=tg.Tensor(value))
    assert figures.read() == {"loss": pytest.approx(3.0)}


GAME = ["--latents", "4", "--batch-size", "320"]


@pytest.mark.parametrize(
    ("demo", "flags"),
    [
        ("vae.py", []),
        ("vae.py", ["--likelihood", "gaussian"]),
        ("made.py", ["--order", "random", "--variants", "2"]),
        ("maf.py", ["--layers", "2", "--conditional", "--components", "2"]),
        ("maf.py", ["--data", "two_moons", "--layers", "2"]),
        ("vae_iaf.py", ["--latents", "2", "--units", "4"]),
        ("pixelcnn.py", ["--channels", "4", "--blocks", "1", "--batch-size", "200"]),
        ("gated_pixelcnn.py", ["--channels", "4", "--layers", "2", "--conditional", "--batch-size", "200"]),
        ("multiscale_pixelcnn.py", ["--channels", "4", "--blocks", "1", "--batch-size", "200"]),
        ("pixelcnn_pp.py", ["--filters", "4", "--components", "2", "--batch-size", "200"]),
        *((demo, GAME) for demo in ("gan.py", "wgan.py", "wgan_gp.py", "sn_gan.py", "dcgan.py")),
        ("conditional_gan.py", GAME),
    ],
)
def test_a_demo_runs_on_every_device(demo, flags, device, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tqdm")
    monkeypatch.syspath_prepend(str(DEMOS))
    short = ["--device", device, "--epochs", "1", "--out", str(tmp_path / "run")]
    hidden = [] if "pixelcnn" in demo else ["--hidden", "8"]
    monkeypatch.setattr(sys, "argv", [demo, *short, *hidden, *flags])
    runpy.run_path(str(DEMOS / demo), run_name="__main__")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["flags"]["device"] == device
    assert all(map(math.isfinite, metrics["figures"].values()))


# Random numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [(0,), (3, 1), (2**40, 5)])
def test_draws_are_a_function_of_the_key_on_every_device(key, device):
    def draws():
        generator = Generator(*key)
        with forbid_transfers():
            return [
                generator.normal((3, 2)),
                generator.uniform(4, "float64"),
                generator.integers(0, 9, (2, 3)),
                generator.permutation(5),
                generator.bernoulli(xp.full((7,), 0.5, "float32")),
            ]

    for a, b in zip(draws(), draws()):
        assert backend.device_of(a) == device
        assert_array_equal(to_host(a), to_host(b))
    assert [draw.dtype for draw in draws()] == ["float32", "float64", "int64", "int64", "float32"]


def test_the_default_generator_of_a_block_is_the_devices(device):
    def draw():
        return to_host(backend.default_generator().normal(3))

    tg.seed(0)
    outside = draw()
    with Generator(1, 2):
        inside = draw()
    with Generator(1, 2):
        assert_array_equal(draw(), inside)
    tg.seed(0)
    assert_array_equal(draw(), outside)


@pytest.mark.parametrize("seeds", [list(product((0, 1), repeat=2))])
def test_keys_give_different_streams_on_every_device(seeds, device):
    firsts = {to_host(Generator(*key).uniform((), "float64")).item() for key in seeds}
    assert len(firsts) == len(seeds)


def test_static_arrays_of_another_device_are_refused_by_name(far):
    index, condition = np.array([0, 2]), np.array([True, False, True])
    with tg.device(far):
        x = tg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
        with pytest.raises(TypeError, match=r"getitem: index: .* got one on device 'cpu'"):
            x[index]
        with pytest.raises(TypeError, match=r"where: condition: .* got one on device 'cpu'"):
            ops.where(condition, x, 0.0)
