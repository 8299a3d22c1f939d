"""Flows against analytic truth: inverses, numerical Jacobians, autoregressive structure, densities that
integrate to 1, and the naive inverse."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from strict_cupy import forbid_transfers

import tinygen as tg
from tinygen import nn, ops
from tinygen.backend import Generator, default_generator, to_host, xp
from tinygen.data import toys
from tinygen.gradients import check_gradients
from tinygen.models.flows import (
    IAF,
    MAF,
    AutoregressiveFlow,
    BatchNormFlow,
    Composition,
    Flow,
    Inverse,
    StandardNormal,
)

few = settings(max_examples=10)
sizes = {
    "D": st.integers(1, 4),
    "hidden": st.lists(st.integers(1, 5), min_size=1, max_size=2),
    "layers": st.integers(1, 3),
    "n": st.integers(2, 4),
    "seed": st.integers(0, 1000),
}


def shaken(flow, seed=0, scale=0.5):
    """The flow in float64, in evaluation, with parameters and running moments far from where they start."""
    rng = np.random.default_rng(seed)
    flow.astype("float64").eval()
    for tensor in flow.parameters():
        tensor.data = tensor.numpy() + scale * rng.standard_normal(tensor.shape)
    for part in flow._modules():
        if isinstance(part, BatchNormFlow):
            part.running_mean.data = rng.standard_normal(part.inputs)
            part.running_variance.data = rng.uniform(0.5, 2, part.inputs)
    return flow


def draws(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def vectors(labels, n, seed=0):
    """Labels (n,), or None for a model without."""
    return np.random.default_rng(seed).integers(0, labels, n) if labels else None


FLOWS = {
    "autoregressive": (lambda: AutoregressiveFlow(3, [5, 4]), 0),
    "reversed": (lambda: AutoregressiveFlow(3, [4], "reversed"), 0),
    "permuted": (lambda: AutoregressiveFlow(3, [4], [1, 2, 0]), 0),
    "batch normalization": (lambda: BatchNormFlow(3), 0),
    "inverse": (lambda: Inverse(AutoregressiveFlow(3, [4])), 0),
    "composition": (lambda: Composition(BatchNormFlow(3), Inverse(AutoregressiveFlow(3, [4]))), 0),
    "nested": (lambda: Composition(MAF(3, [4], 2), IAF(3, [4], 1), BatchNormFlow(3)), 0),
    "MAF": (lambda: MAF(3, [5, 4], 3), 0),
    "MAF without batch normalization": (lambda: MAF(3, [4], 2, batch_norm=False), 0),
    "MAF MoG": (lambda: MAF(3, [4], 2, components=2), 0),
    "conditional MAF": (lambda: MAF(3, [4], 3, labels=4), 4),
    "conditional MAF MoG": (lambda: MAF(3, [4], 2, labels=2, components=3), 2),
    "IAF": (lambda: IAF(3, [4], 2), 0),
}


@pytest.fixture(params=FLOWS)
def flow_and_condition(request):
    """A flow of 3 elements with random parameters in float64, and a condition for 6 examples."""
    make, labels = FLOWS[request.param]
    tg.seed(0)
    return shaken(make()), vectors(labels, 6)


# The map ------------------------------------------------------------------------------------------------


def test_inverse_and_forward_undo_each_other(flow_and_condition):
    flow, condition = flow_and_condition
    x = draws(6, 3)
    z, log_det = flow(x, condition)
    assert z.shape == (6, 3) and log_det.shape == (6,)
    assert abs(z.data - x).max() > 0.1 and abs(log_det.data).max() > 0.01
    back, log_det_back = flow.inverse(z, condition)
    assert_allclose(back.data, x, rtol=1e-9, atol=1e-9)
    assert_allclose(log_det_back.data, -log_det.data, rtol=1e-9, atol=1e-9)
    ahead, _ = flow(flow.inverse(x, condition)[0], condition)
    assert_allclose(ahead.data, x, rtol=1e-9, atol=1e-9)


def numerical_jacobian(f, x, step=1e-6):
    """∂f/∂x (N, D, D) of a function of vectors (N, D), by central differences."""
    columns = []
    for d in range(x.shape[1]):
        move = np.zeros_like(x)
        move[:, d] = step
        columns.append((f(x + move) - f(x - move)) / (2 * step))
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("way", ["forward", "inverse"])
def test_the_log_determinant_is_that_of_the_numerical_jacobian(flow_and_condition, way):
    flow, condition = flow_and_condition
    x, f = draws(6, 3, seed=1), getattr(flow, way)
    jacobian = numerical_jacobian(lambda x: f(x, condition)[0].numpy(), x)
    _, expected = np.linalg.slogdet(jacobian)
    assert_allclose(f(x, condition)[1].data, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("order", ["natural", "reversed", [1, 3, 0, 2]])
def test_an_element_of_z_depends_on_its_own_x_and_on_those_before_it(order):
    tg.seed(0)
    flow = shaken(AutoregressiveFlow(4, [30], order))
    x = tg.Tensor(draws(1, 4), requires_grad=True)
    z, _ = flow(x)
    jacobian = np.stack([tg.grad(z[0, d], x, retain_graph=True)[0].data[0] for d in range(4)])
    in_order = jacobian[np.ix_(flow.network.order(), flow.network.order())]
    assert_array_equal(np.triu(in_order, 1), 0)
    assert (np.diag(in_order) > 0).all() and (in_order[np.tril_indices(4, -1)] != 0).all()


def test_the_orders_of_a_maf_take_turns():
    flows = [flow for flow in MAF(3, [4], 4).flows if isinstance(flow, AutoregressiveFlow)]
    assert [flow.network.order() for flow in flows] == [[0, 1, 2], [2, 1, 0]] * 2
    kinds = [type(flow) for flow in MAF(3, [4], 3).flows]
    assert kinds == [AutoregressiveFlow, BatchNormFlow, AutoregressiveFlow, BatchNormFlow, AutoregressiveFlow]


def test_the_layers_share_what_all_together_may_stretch():
    for layers in (1, 5):
        flows = [flow for flow in MAF(2, [4], layers).flows if isinstance(flow, AutoregressiveFlow)]
        assert sum(flow.bound for flow in flows) == pytest.approx(10)


@pytest.mark.parametrize("bound", [0, -1.0, float("nan")])
def test_a_bound_that_bounds_nothing_is_refused(bound):
    with pytest.raises(ValueError, match="bound: expected a number above 0, got"):
        AutoregressiveFlow(2, [8], bound=bound)


def test_no_x_is_stretched_beyond_the_bound():
    tg.seed(0)
    flow = shaken(AutoregressiveFlow(2, [8]), scale=100)
    _, log_det = flow(1000 * draws(50, 2))
    assert abs(log_det.data).max() <= 2 * flow.bound


def test_a_layer_starts_near_to_the_identity():
    tg.seed(0)
    x = draws(100, 5).astype("float32")
    z, log_det = AutoregressiveFlow(5, [20, 20], context=3)(x, draws(100, 3, seed=1).astype("float32"))
    assert abs(z.data - x).max() < 0.2 and abs(log_det.data).max() < 0.2


# The density --------------------------------------------------------------------------------------------


def on_a_grid(log_prob, low=-20.0, high=20.0, n=800):
    """The integral of a density in the plane, by the midpoint rule."""
    line = low + (np.arange(n) + 0.5) * (high - low) / n
    points = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    with tg.no_grad():
        density = np.exp(np.concatenate([log_prob(part).numpy() for part in np.split(points, 20)]))
    return density.sum() * ((high - low) / n) ** 2


@pytest.mark.parametrize(
    ("make", "labels"),
    [
        (lambda: MAF(2, [8], 3), 0),
        (lambda: MAF(2, [8], 2, components=3), 0),
        (lambda: MAF(2, [8], 2, labels=3), 3),
        (lambda: IAF(2, [8], 2), 0),
        (lambda: Composition(MAF(2, [8], 1), IAF(2, [8], 1)), 0),
    ],
)
def test_densities_in_the_plane_integrate_to_1(make, labels):
    tg.seed(1)
    flow = shaken(make(), seed=1, scale=0.1)

    def log_prob(x):
        return flow.log_prob(x, np.full(len(x), 1) if labels else None)

    assert on_a_grid(log_prob) == pytest.approx(1, abs=1e-3)


def test_the_density_is_that_of_the_change_of_variables():
    # Parameters that depend on no x make an affine map, whose density is a normal one.
    flow = AutoregressiveFlow(2, [1]).astype("float64")
    _, last = flow.network.layers
    last.weight.data = np.zeros(last.weight.shape)
    mu, log_scale = np.array([0.3, -0.7]), np.array([0.5, -1.0])
    alpha = flow.bound * np.arctanh(log_scale / flow.bound)
    last.bias.data = np.stack([mu, alpha], axis=1).ravel()
    x = draws(5, 2)
    expected = multivariate_normal(mu, np.diag(np.exp(2 * log_scale))).logpdf(x)
    assert_allclose(flow.log_prob(x).data, expected, rtol=1e-12)
    assert flow.loss(x).item() == pytest.approx(-expected.mean(), rel=1e-12)


def test_what_a_base_adds():
    tg.seed(0)
    flow = shaken(MAF(3, [4], 2, components=2, labels=2))
    x, condition = draws(6, 3), vectors(2, 6)
    z, log_det = flow(x, condition)
    expected = flow.base.log_prob(z, condition) + log_det
    assert_array_equal(flow.log_prob(x, condition).data, expected.data)
    assert flow.base.network.order() == [0, 1, 2]  # the turn that comes after natural and reversed


def test_conditions_tell_densities_apart():
    tg.seed(0)
    flow, x = shaken(MAF(2, [6], 2, labels=3)), draws(1, 2)
    values = [flow.log_prob(x, np.array([label])).item() for label in range(3)]
    assert len({round(value, 6) for value in values}) == 3
    together = flow.log_prob(np.repeat(x, 3, axis=0), np.arange(3))
    assert_allclose(together.data, values, rtol=1e-12)


def test_an_iaf_has_the_density_of_what_it_draws():
    tg.seed(0)
    flow = shaken(IAF(3, [6], 3))
    z = draws(7, 3)
    x, log_det = flow.inverse(z)
    drawn = StandardNormal(3).log_prob(z) - log_det.data
    assert_allclose(flow.log_prob(x).data, ops.raw(drawn), rtol=1e-9)


def test_an_iaf_is_a_maf_the_other_way_round():
    tg.seed(0)
    forward = shaken(AutoregressiveFlow(3, [6]))
    backward, x = Inverse(forward), draws(4, 3)
    for one, other in [(forward, backward.inverse), (forward.inverse, backward)]:
        for a, b in zip(one(x), other(x)):
            assert_array_equal(a.data, b.data)


# Batch normalization ------------------------------------------------------------------------------------


def test_batch_normalization_in_training_standardizes_the_batch():
    flow = BatchNormFlow(3).astype("float64")
    flow.gamma.data, flow.beta.data = draws(3), draws(3, seed=1)
    x = 5 + 3 * draws(50, 3)
    z, log_det = flow(x)
    assert_allclose(z.data.mean(0), flow.beta.data, rtol=1e-9)
    assert_allclose(z.data.std(0), np.exp(flow.gamma.data), rtol=1e-5)
    expected = (flow.gamma.data - 0.5 * np.log(x.var(0) + flow.EPSILON)).sum()
    assert_allclose(log_det.data, np.full(50, expected), rtol=1e-12)


def test_running_moments_move_in_training_only():
    flow = MAF(3, [4], 3)
    start, x = flow.state_dict(), 2 + draws(20, 3).astype("float32")

    def moved():
        now = flow.state_dict()
        return {name.rpartition(".")[2] for name in start if not np.array_equal(start[name], now[name])}

    flow.eval().log_prob(x)
    flow.sample(3)
    assert not moved()
    flow.train()
    with nn.frozen_state():
        flow.log_prob(x)
    flow.sample(3)
    assert not moved()
    flow.log_prob(x)
    assert moved() == {"running_mean", "running_variance"}


def test_running_moments_reach_those_of_the_data_and_evaluation_uses_them():
    flow = BatchNormFlow(1)
    for step in range(200):
        flow(5 + 3 * draws(100, 1, seed=step).astype("float32"))
    assert flow.running_mean.data[0] == pytest.approx(5, abs=0.3)
    assert flow.running_variance.data[0] == pytest.approx(9, rel=0.1)
    mean, variance = flow.running_mean.numpy(), flow.running_variance.numpy()
    x = draws(4, 1).astype("float32")
    z, log_det = flow.eval()(x)
    assert_allclose(z.data, (x - mean) / np.sqrt(variance + flow.EPSILON), rtol=1e-5)
    assert_allclose(log_det.data, np.full(4, -0.5 * math.log(variance[0] + flow.EPSILON)), rtol=1e-5)


def test_two_losses_before_one_backward_pass():
    flow, x, y = MAF(3, [4], 2), draws(6, 3).astype("float32"), draws(6, 3, seed=1).astype("float32")
    (flow.loss(x) + flow.loss(y)).backward()
    assert all(p.grad is not None for p in flow.parameters())


# Sampling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MAF", "MAF MoG", "conditional MAF", "IAF", "nested"])
def test_a_sample_is_the_inverse_of_a_draw_of_the_base(name):
    make, labels = FLOWS[name]
    tg.seed(0)
    flow, condition = shaken(make()), vectors(labels, 5)
    x = flow.sample(5, condition, Generator(3))
    z = flow.base.sample(5, condition, Generator(3)).astype("float64")
    assert x.shape == (5, 3) and x.dtype == "float64" and isinstance(x, np.ndarray)
    with tg.no_grad():
        assert_array_equal(x, flow.inverse(z, condition)[0].data)
    assert_allclose(flow(x, condition)[0].data, z, rtol=1e-9, atol=1e-9)


@given(**sizes, order=st.sampled_from(["natural", "reversed", "random"]), context=st.integers(0, 2))
@settings(max_examples=30)
def test_the_inverse_equals_the_naive_one(D, hidden, layers, n, seed, order, context):
    tg.seed(seed)
    flow = shaken(AutoregressiveFlow(D, hidden, order, context), seed)
    z, condition = draws(n, D), draws(n, context) if context else None
    with tg.no_grad():
        found = flow.inverse(z, condition)
    for fast, naive in zip(found, flow.inverse_naively(z, condition)):
        assert_allclose(fast.data, naive.data, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("labels", [0, 3])
def test_whole_flows_compute_each_unit_once_as_naively(labels):
    """Outside `no_grad` all layers are inverted by a pass for each element."""
    maf, iaf = MAF(5, [9, 7], 3, labels=labels), IAF(5, [9, 7], 3, context=labels)
    for slow, condition in [
        (shaken(maf).inverse, vectors(labels, 6)),
        (shaken(iaf).forward, draws(6, labels) if labels else None),
    ]:
        naive, log_det = slow(draws(6, 5), condition)
        with tg.no_grad():
            once, same_log_det = slow(draws(6, 5), condition)
        assert_allclose(once.data, naive.data, rtol=1e-10)
        assert_allclose(same_log_det.data, log_det.data, rtol=1e-10)
    z = maf.base.sample(6, vectors(labels, 6), Generator(0)).astype("float64")
    drawn = maf.sample(6, vectors(labels, 6), Generator(0))
    assert_allclose(drawn, maf.inverse(z, vectors(labels, 6))[0].data, rtol=1e-10)


def test_draws_follow_the_density():
    # The mean of −log p over draws is the entropy, which a grid gives too.
    tg.seed(1)
    flow = shaken(MAF(2, [8], 2), seed=1, scale=0.15)
    surprise = -flow.log_prob(flow.sample(20_000, rng=Generator(0))).numpy()
    line = -12 + (np.arange(400) + 0.5) * 24 / 400
    log_p = flow.log_prob(np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)).numpy()
    entropy = -(np.exp(log_p) * log_p).sum() * (24 / 400) ** 2
    assert surprise.mean() == pytest.approx(entropy, abs=4 * surprise.std() / math.sqrt(20_000))


def test_a_sample_without_a_generator_is_the_default_ones():
    flow = MAF(2, [4], 2)
    tg.seed(5)
    first = flow.sample(3)
    tg.seed(5)
    assert_array_equal(flow.sample(3, rng=default_generator()), first)
    assert not np.array_equal(flow.sample(3), first)


# Derivatives --------------------------------------------------------------------------------------------


def smooth(flow):
    """The flow with its ReLU units far from their kinks on small x: a check may fall on none."""
    for part in flow._modules():
        for layer in getattr(part, "layers", [])[:-1]:
            layer.weight.data = 0.2 * layer.weight.data
            sign = np.where(np.arange(layer.outputs) % 3 == 2, -1.0, 1.0)
            layer.bias.data = xp.asarray(3 * sign)
    return flow


@settings(max_examples=settings.default.max_examples // 25)
@given(**sizes, batch_norm=st.booleans(), components=st.sampled_from([0, 2]), labels=st.sampled_from([0, 2]))
def test_the_loss_of_a_maf_passes_the_check_to_second_order(
    D, hidden, layers, n, seed, batch_norm, components, labels, device
):
    tg.seed(seed)
    flow = MAF(D, hidden, layers, labels=labels, batch_norm=batch_norm, components=components)
    flow = smooth(flow.astype("float64"))
    # Each column runs through different values: a batch has a variance.
    x = np.linspace(-0.5, 0.5, n * D).reshape(D, n).T + 0.1 * draws(n, D, seed=seed) / n
    labels = xp.asarray(vectors(labels, n)) if labels else None
    check_gradients(lambda x: flow.loss(x, labels), x, params=flow, order=2)


@settings(max_examples=settings.default.max_examples // 25)
@given(**sizes, context=st.integers(0, 2))
def test_draws_of_an_iaf_pass_the_check_to_second_order(D, hidden, layers, n, seed, context, device):
    tg.seed(seed)
    flow = smooth(IAF(D, hidden, layers, context=context).astype("float64"))
    z, h = 0.3 * draws(n, D, seed=seed), 0.3 * draws(n, context, seed=seed)
    inputs = (z, h) if context else (z,)
    check_gradients(lambda *inputs: flow.inverse(*inputs), *inputs, params=flow, order=2)


@settings(max_examples=settings.default.max_examples // 25)
@given(**sizes, context=st.integers(0, 2))
def test_the_loss_of_flows_both_ways_passes_the_check_to_second_order(
    D, hidden, layers, n, seed, context, device
):
    tg.seed(seed)
    there, back = (AutoregressiveFlow(D, hidden, "reversed", context) for _ in range(2))
    flow = smooth(Composition(there, Inverse(back)).astype("float64"))
    x, h = 0.3 * draws(n, D, seed=seed), 0.3 * draws(n, context, seed=seed)
    inputs = (x, h) if context else (x,)
    check_gradients(lambda *inputs: flow.loss(*inputs), *inputs, params=flow, order=2)


def test_a_flow_that_undoes_another_gives_it_no_gradient():
    flow, x = shaken(AutoregressiveFlow(3, [5])), tg.Tensor(draws(4, 3), requires_grad=True)
    z, log_det = Composition(flow, Inverse(flow))(x)
    (z * draws(4, 3, seed=1)).sum().backward()
    assert_allclose(x.grad.numpy(), draws(4, 3, seed=1), atol=1e-9)
    for p in flow.parameters():
        assert_allclose(p.grad.numpy(), 0, atol=1e-9)
    assert_allclose(log_det.numpy(), 0, atol=1e-9)


# Devices and dtypes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLOWS)
def test_flows_on_every_device(name, device):
    make, labels = FLOWS[name]
    x, z, condition = draws(6, 3), draws(6, 3, seed=1), vectors(labels, 6)

    def values(where):
        with tg.device(where):
            tg.seed(0)
            flow = shaken(make())
            given = None if condition is None else xp.asarray(condition)
            there, noise = tg.Tensor(x), xp.asarray(z)
            with forbid_transfers():
                results = [*flow(there, given), *flow.train()(there, given)]
                results[0].sum().backward()
            results += [*flow.inverse(noise, given), flow.log_prob(there, given)]
            with tg.no_grad():
                results += flow.inverse(noise, given)
            return [y.numpy() for y in results]

    for computed, expected in zip(values(device), values("cpu"), strict=True):
        assert_allclose(computed, expected, rtol=1e-9, atol=1e-9)


def test_a_training_step_brings_nothing_to_the_host(device):
    tg.seed(0)
    flow = MAF(3, [5], 3, labels=2, components=2)
    optimizer = tg.optim.Adam(flow.parameters())
    x, labels = xp.asarray(draws(6, 3).astype("float32")), xp.asarray(vectors(2, 6))
    with forbid_transfers():
        for _ in range(2):
            loss = flow.loss(x, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    x = flow.eval().sample(4, labels[:4], Generator(0))
    assert np.isfinite(to_host(x)).all()


@pytest.mark.parametrize("name", FLOWS)
def test_float32_stays_float32(name):
    make, labels = FLOWS[name]
    flow, condition = make(), vectors(labels, 6)
    x = draws(6, 3).astype("float32")
    results = [*flow(x, condition), *flow.inverse(x, condition), flow.log_prob(x, condition)]
    assert {y.dtype for y in results} == {np.dtype("float32")}
    assert flow.sample(6, condition).dtype == "float32"
    loss = flow.loss(x, condition)
    loss.backward()
    assert {p.grad.dtype for p in flow.parameters()} == {np.dtype("float32")}


@pytest.mark.parametrize("name", FLOWS)
def test_a_batch_of_nothing(name):
    make, labels = FLOWS[name]
    flow, condition = make().eval(), vectors(labels, 0)
    empty = np.zeros((0, 3), "float32")
    for value, log_det in (flow(empty, condition), flow.inverse(empty, condition)):
        assert value.shape == (0, 3) and log_det.shape == (0,)
    assert flow.log_prob(empty, condition).shape == (0,)
    assert flow.sample(0, condition).shape == (0, 3)


def test_a_state_comes_back():
    tg.seed(0)
    flow = shaken(MAF(3, [4], 3, labels=2, components=2)).astype("float32")
    tg.seed(1)
    other = MAF(3, [4], 3, labels=2, components=2).eval()
    x, labels = draws(5, 3).astype("float32"), vectors(2, 5)
    assert not np.allclose(other.log_prob(x, labels).data, flow.log_prob(x, labels).data)
    other.load_state_dict(flow.state_dict())
    assert_array_equal(other.log_prob(x, labels).data, flow.log_prob(x, labels).data)
    names = set(flow.state_dict())
    assert {"flows.1.running_mean", "flows.1.running_variance", "flows.1.gamma"} <= names


# Training -----------------------------------------------------------------------------------------------


def test_a_maf_learns_a_density_that_a_normal_distribution_has_not():
    # x₁ ~ N(0, 1), x₂ ~ N(x₁², ¼): one layer can be exact, and the entropy is known.
    tg.seed(0)
    flow = MAF(2, [32], 1)
    optimizer = tg.optim.Adam(flow.parameters(), lr=1e-2)

    def batch(n, seed):
        x = draws(n, 2, seed=seed)
        return np.stack([x[:, 0], x[:, 0] ** 2 + 0.5 * x[:, 1]], axis=1).astype("float32")

    for step in range(400):
        loss = flow.loss(batch(200, step + 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    held_out = flow.eval().loss(batch(5000, 0)).item()
    entropy = math.log(2 * math.pi * math.e) + math.log(0.5)
    assert entropy - 0.05 < held_out < entropy + 0.08


def test_one_layer_comes_to_the_best_normal_conditionals():
    """Of eight Gaussians one layer can learn the moments alone: at least it pays, by quadrature,

    h(N(0, var x₁)) + ∫ p(x₁) h(N(·, var(x₂ | x₁))) dx₁,   h(N(·, v)) = ½ log 2πe v."""
    density = toys.eight_gaussians
    (c1, c2), sigma = density.centres.T, density.std
    x1 = np.linspace(-6, 6, 4001)[:, None]
    of_centre = np.exp(-0.5 * ((x1 - c1) / sigma) ** 2) / (8 * sigma * math.sqrt(2 * math.pi))
    p = of_centre.sum(axis=1)
    mean, square = (of_centre @ c2) / p, (of_centre @ (c2**2 + sigma**2)) / p
    variance_1 = (p * x1[:, 0] ** 2).sum() / p.sum()
    h = 0.5 * np.log(2 * math.pi * math.e * np.array([variance_1, *(square - mean**2)]))
    least = h[0] + (p * h[1:]).sum() / p.sum()

    tg.seed(0)
    flow = MAF(2, [32, 32], 1)
    optimizer = tg.optim.Adam(flow.parameters(), lr=lambda t: 1e-2 * (1 - t / 1500))
    for step in range(1500):
        loss = flow.loss(density.sample(256, Generator(step)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = density.sample(400_000, Generator(1, 0))
    held_out = np.mean([flow.loss(part).item() for part in np.split(x, 4)])
    assert least - 0.003 < held_out < least + 0.01  # the mean of so many varies by 0.001


# Bad input ----------------------------------------------------------------------------------------------

WRONG = [
    np.zeros((2, 4), "float32"),
    np.zeros(3, "float32"),
    np.zeros((2, 3)),
    np.zeros((2, 3), "int64"),
    None,
]


@pytest.mark.parametrize("x", WRONG)
@pytest.mark.parametrize("make", [lambda: AutoregressiveFlow(3, [4]), lambda: BatchNormFlow(3)])
def test_vectors_of_another_size_or_dtype_are_refused_by_name(make, x):
    flow = make()
    before = flow.state_dict()
    for way, argument in ((flow.forward, "x"), (flow.inverse, "z")):
        with pytest.raises(ValueError, match=rf"3.*: {argument}: expected float32\[N, 3\], got "):
            way(x)
    assert all(np.array_equal(before[name], value) for name, value in flow.state_dict().items())


@pytest.mark.parametrize(("make", "labels"), [(lambda: MAF(3, [4], 2), 0), (lambda: IAF(3, [4], 2), 0)])
def test_a_composition_passes_the_refusal_on(make, labels):
    for call, x in product(("forward", "inverse", "log_prob"), WRONG[:4]):
        with pytest.raises(ValueError, match=r": [xz]: expected float32\[N, 3\], got "):
            getattr(make(), call)(x)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(value):
    x = np.array([[0.0, value]], "float32")
    with pytest.raises(ValueError, match=f"MAF.log_prob: x: expected finite values, got {value}"):
        MAF(2, [3], 1).log_prob(x)


@pytest.mark.parametrize("n", [0, 1])
def test_a_batch_without_a_variance_is_refused_in_training(n):
    with pytest.raises(ValueError, match=r"BatchNormFlow\(3\): x: expected two or more examples in training"):
        BatchNormFlow(3)(np.zeros((n, 3), "float32"))


@pytest.mark.parametrize(
    "condition", [None, np.array([0, 2]), np.array([0.0, 1.0]), np.array([0]), np.array([[0], [1]]), 1]
)
def test_wrong_conditions_are_refused(condition):
    flow, x = MAF(3, [4], 2, labels=2), np.zeros((2, 3), "float32")
    for call in (flow, flow.inverse, flow.log_prob, flow.loss):
        with pytest.raises(ValueError, match="condition: expected"):
            call(x, condition)
    with pytest.raises(ValueError, match="condition: expected"):
        flow.sample(2, condition)
    with pytest.raises(ValueError, match="condition: expected None"):
        MAF(3, [4], 2).log_prob(x, np.array([0, 1]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MAF(0, [4]), "MAF: inputs: expected an int of at least 1, got 0"),
        (lambda: MAF(2, [4], 0), "MAF: layers: expected an int of at least 1, got 0"),
        (lambda: MAF(2, [4], labels=-1), "MAF: labels: expected an int of at least 0, got -1"),
        (lambda: MAF(2, [4], components=1.5), "MAF: components: expected an int of at least 0, got 1.5"),
        (lambda: MAF(2, []), "hidden: expected the units of each layer"),
        (lambda: MAF(2, [0]), "hidden: expected an int of at least 1, got 0"),
        (lambda: IAF(2, [4], layers=0), "IAF: layers: expected an int of at least 1, got 0"),
        (lambda: AutoregressiveFlow(2, [4], [0, 0]), "order: expected .* permutation"),
        (lambda: BatchNormFlow(0), "BatchNormFlow: inputs: expected an int of at least 1, got 0"),
        (lambda: Composition(), r"Composition: flows: expected one Flow or more, got \[\]"),
        (lambda: Composition(nn.Linear(3, 3)), "flows: expected one Flow or more, got .*Linear"),
        (lambda: Flow(3, StandardNormal(2)), "Flow: base: expected one of 3 inputs"),
        (lambda: Composition(BatchNormFlow(2), BatchNormFlow(3)), "flow 1: expected 2 inputs, got 3"),
        (lambda: MAF(2, [4]).sample(-1), "MAF: n: expected an int of at least 0, got -1"),
    ],
)
def test_wrong_settings_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
