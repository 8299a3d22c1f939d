"""PixelCNN++ against analytic truth: bins, structure by gradients, exact normalization, the law of draws."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit
from strict_cupy import forbid_transfers

import tinygen as tg
from tinygen import nn, ops, optim
from tinygen.backend import Generator, to_host, xp
from tinygen.gradients import check_gradients
from tinygen.models.autoregressive.convolve import PixelByPixel, RowByRow, whole
from tinygen.models.autoregressive.logistic_mixture import by_color, logistic_mixture, pixel_parameters
from tinygen.models.autoregressive.pixelcnn_pp import Double, Halve, PixelCNNPlusPlus, concat_elu


def shaken(module, scale=0.25, seed=0):
    """A module whose parameters, biases too, are away from where they start."""
    rng = np.random.default_rng(seed)
    for p in module.parameters():
        p.data = xp.asarray(to_host(p.data) + scale * rng.standard_normal(p.shape).astype(p.dtype))
    return module


def model(shape, levels=4, seed=0, dropout=0.0, **options):
    tg.seed(seed)
    small = {"components": 2, "filters": 3, **options}
    return shaken(PixelCNNPlusPlus(shape, levels, dropout=dropout, **small), seed=seed)


def images(made, n, seed=0):
    return xp.asarray(np.random.default_rng(seed).integers(0, made.levels, (n, *made.shape)))


# Conditionals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("levels", [2, 17, 256])
@settings(max_examples=40)
@given(
    log_scale=st.floats(-80, 60),
    apart=st.floats(-5, 5),
    means=st.lists(st.floats(-3, 3) | st.sampled_from([-1.0, 1.0]), min_size=3, max_size=3),
    seed=st.integers(0, 99),
)
def test_the_bins_of_a_mixture_sum_to_1(levels, dtype, log_scale, apart, means, seed):
    logits = np.random.default_rng(seed).normal(0, 3, 3)
    parameters = np.array([*logits, *means, log_scale, log_scale + apart, -log_scale], dtype)
    distribution = logistic_mixture(levels, 3).distribution(np.broadcast_to(parameters, (levels, 9)))
    p = np.exp(distribution.log_prob(np.arange(levels)).astype("float64"))
    assert (p >= 0).all() and p.sum() == pytest.approx(1, abs=1e-10 if dtype == "float64" else 2e-4)


def test_bins_are_differences_of_the_distribution_function_also_at_the_edges():
    levels, K = 5, 3
    rng = np.random.default_rng(0)
    parameters = rng.standard_normal(3 * K)
    distribution = logistic_mixture(levels, K).distribution(np.broadcast_to(parameters, (levels, 3 * K)))
    logits, means, log_scales = parameters.reshape(3, K)
    weights = np.exp(logits) / np.exp(logits).sum()
    edges = np.array([-np.inf, -0.75, -0.25, 0.25, 0.75, np.inf])[:, None]
    cdf = (weights * expit((edges - means) / np.exp(log_scales))).sum(axis=1)
    np.testing.assert_allclose(np.exp(distribution.log_prob(np.arange(levels))), np.diff(cdf), rtol=1e-12)


def test_draws_of_a_mixture_have_its_probabilities(device):
    levels, K, n = 6, 3, 20000
    family = logistic_mixture(levels, K)
    parameters = np.random.default_rng(0).standard_normal(3 * K)
    parameters[2 * K :] -= 1.5
    (noise,) = zip(*family.noise(Generator(1), 1, n))
    p = xp.asarray(np.broadcast_to(parameters[:, None], (3 * K, n)).astype("float32"))
    draws = family.decode(family.draw(p, *noise))
    expected = np.exp(
        to_host(family.distribution(xp.asarray(np.tile(parameters, (levels, 1)))).log_prob(xp.arange(levels)))
    )
    assert draws.dtype == "int64"
    counts = np.bincount(to_host(draws), minlength=levels)
    assert stats.chisquare(counts, n * expected / expected.sum()).pvalue > 1e-3


def test_a_pixel_has_one_component_for_its_colors_whose_means_depend_on_earlier_ones():
    """By the product rule the conditionals multiply to equation 3, with one sum over components."""
    levels, K = 4, 2
    rng = np.random.default_rng(0)
    parameters = rng.standard_normal(pixel_parameters(3, K))
    parts = parameters.reshape(10, K)
    logits, (r, g, b), log_scales, (alpha, beta, gamma) = parts[0], parts[1:4], parts[4:7], parts[7:]
    weights = np.exp(logits) / np.exp(logits).sum()

    def mass(level, mean, log_scale):
        v = np.linspace(-1, 1, levels)
        low = -np.inf if level == 0 else v[level] - 1 / (levels - 1)
        high = np.inf if level == levels - 1 else v[level] + 1 / (levels - 1)
        return expit((high - mean) / np.exp(log_scale)) - expit((low - mean) / np.exp(log_scale))

    family, v = logistic_mixture(levels, K), np.linspace(-1, 1, levels)
    for pixel in itertools.product(range(levels), repeat=3):
        x = np.array(pixel)
        red, green, _ = v[x]
        means = r, g + alpha * red, b + beta * red + gamma * green
        expected = (weights * np.prod([mass(*each) for each in zip(x, means, log_scales)], axis=0)).sum()
        of_colors = by_color(parameters, v[x[:2]], levels, K).reshape(3, 3 * K)
        assert family.distribution(of_colors).log_prob(x).sum() == pytest.approx(np.log(expected), abs=1e-9)


# Structure ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("right", [0, 1])
def test_halving_and_doubling_are_transposed_shifted_convolutions(right):
    """At half the resolution a pixel sees the first of its 2x2 and what is before that; brought back, all of
    the 2x2 see it and, with right = 1, the one after it."""
    halve, double = shaken(Halve(1, right)), shaken(Double(1, right))
    x = tg.Tensor(np.ones((1, 6, 8, 1), "float32"), requires_grad=True)
    y = halve(x)
    assert y.shape == (1, 3, 4, 1)
    (x_bar,) = tg.grad(y[0, 1, 2, 0], x)
    seen = np.zeros((6, 8), bool)
    seen[1:3, 3 : 5 + right] = True
    assert ((x_bar.numpy()[0, ..., 0] != 0) == seen).all()
    np.testing.assert_allclose(y.numpy(), nn.ShiftedConv2d.forward(halve, x).numpy()[:, ::2, ::2], rtol=1e-5)
    z = double(y.detach())
    assert z.shape == x.shape
    coarse = tg.Tensor(y.numpy(), requires_grad=True)
    for i, j in np.ndindex(6, 8):
        (y_bar,) = tg.grad(double(coarse)[0, i, j, 0], coarse)
        seen = np.zeros((3, 4), bool)
        seen[i // 2, j // 2 : (j + right) // 2 + 1] = True
        assert ((y_bar.numpy()[0, ..., 0] != 0) == seen).all()


def test_concat_elu_is_elu_of_both_signs():
    x = np.array([[-1.0, 2.0]])
    np.testing.assert_allclose(concat_elu(x), [[np.exp(-1) - 1, 2, 1, np.exp(-2) - 1]])


def reach(made):
    """Which pixels the parameters of each depend on, by gradients: (H, W, H, W)."""
    x = tg.Tensor(np.random.default_rng(1).uniform(-1, 1, (1, *made.shape)).astype("float32"), True)
    parameters = made.parameters_of(x, ())
    seen = np.zeros((*made.shape[:2], *made.shape[:2]), bool)
    for i, j in np.ndindex(*made.shape[:2]):
        (x_bar,) = tg.grad(parameters[0, i, j].sum(), x, retain_graph=True)
        seen[i, j] = (x_bar.numpy()[0] != 0).any(axis=-1)
    return seen


@pytest.mark.parametrize(
    ("shape", "options"),
    [((4, 6, 1), {"resolutions": 1, "blocks": 2}), ((6, 6, 1), {}), ((4, 4, 1), {"resolutions": 3})],
)
def test_each_pixel_sees_every_earlier_one_within_reach_and_no_other(shape, options):
    """There is no blind spot: images of these sizes are within reach of a few blocks."""
    made = model(shape, **options)
    seen = reach(made)
    places = np.arange(shape[0] * shape[1]).reshape(shape[:2])
    earlier = places[:, :, None, None] > places
    assert not seen[~earlier].any()
    assert seen[earlier].all()


def test_a_colors_conditional_sees_the_earlier_colors_of_its_pixel_and_no_other():
    made = model((2, 2, 3)).eval().astype("float64")
    x = images(made, 1)
    before = made.conditionals(x).log_prob(x).numpy()
    for i, j, c in np.ndindex(made.shape):
        other = x.copy()
        other[0, i, j, c] = (x[0, i, j, c] + 1) % made.levels
        moved = made.conditionals(other).log_prob(x).numpy() != before
        places = np.arange(12).reshape(made.shape)
        assert (moved[0] == (places > places[i, j, c])).all()


# Normalization ------------------------------------------------------------------------------------


@settings(max_examples=5)
@given(
    shape_levels=st.sampled_from([((2, 2, 1), 4), ((2, 2, 2), 2), ((1, 2, 3), 2), ((2, 2, 1), 2)]),
    resolutions=st.integers(1, 2),
    components=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_the_probabilities_of_all_images_sum_to_1(shape_levels, resolutions, components, seed):
    shape, levels = shape_levels
    resolutions = 1 if shape[0] == 1 else resolutions
    made = model(shape, levels, seed, resolutions=resolutions, components=components).astype("float64")
    space = np.array(list(itertools.product(range(levels), repeat=np.prod(shape)))).reshape(-1, *shape)
    assert np.exp(made.log_prob(space).numpy()).sum() == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize(("shape", "levels"), [((2, 2, 1), 3), ((1, 2, 2), 3)])
def test_draws_have_the_models_probabilities(shape, levels, device):
    made = model(shape, levels, resolutions=1)
    size = int(np.prod(shape))
    space = np.array(list(itertools.product(range(levels), repeat=size)))
    p = np.exp(made.log_prob(xp.asarray(space.reshape(-1, *shape))).numpy().astype("float64"))
    draws = to_host(made.sample(20000, rng=Generator(1))).reshape(-1, size)
    counts = np.bincount(draws @ levels ** np.arange(size)[::-1], minlength=len(space))
    frequent = 20000 * p >= 5
    observed = [*counts[frequent], counts[~frequent].sum() + 1e-9]
    expected = np.array([*p[frequent], p[~frequent].sum() + 1e-12])
    assert stats.chisquare(observed, sum(observed) * expected / expected.sum()).pvalue > 1e-3


# Samples ------------------------------------------------------------------------------------------


@settings(max_examples=8)
@given(
    shape_resolutions=st.sampled_from(
        [((1, 3, 3), 1), ((3, 2, 1), 1), ((4, 2, 2), 2), ((2, 6, 1), 2), ((4, 4, 1), 3), ((4, 8, 1), 3)]
    ),
    blocks=st.integers(1, 2),
    n=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_samples_equal_the_naive_ones(shape_resolutions, blocks, n, seed, device):
    shape, resolutions = shape_resolutions
    made = model(shape, 5, seed, resolutions=resolutions, blocks=blocks).astype("float64")
    draws = made.sample(n, rng=Generator(seed))
    assert draws.shape == (n, *shape) and draws.dtype == "int64"
    assert (to_host(draws) == to_host(made.sample_naively(n, rng=Generator(seed)))).all()


def test_each_activation_at_half_the_resolution_is_computed_once():
    calls = []

    class Noted(nn.Module):
        def __call__(self, y, convolve):
            calls.append(y.shape)
            return (y,)

    x = np.random.default_rng(0).standard_normal((2, 4, 6, 3)).astype("float32")
    halve, network = Halve(3, 0), Noted()
    with tg.no_grad():
        (expected,) = whole.at_half(halve, network, tg.Tensor(x))
        calls.clear()
        by_pixel = PixelByPixel(6)
        for i in range(4):
            by_pixel.next_row()
            for j in range(6):
                pixel = tg.Tensor(x[:, i : i + 1, j : j + 1])
                (y,) = by_pixel.at_half(halve, network, pixel)
                np.testing.assert_allclose(y[:, 0, 0], expected.numpy()[:, i // 2, j // 2], atol=1e-6)
                by_pixel.column += 1
        assert calls == 6 * [(2, 1, 1, 3)]
        calls.clear()
        by_row = RowByRow()
        for i in range(4):
            (y,) = by_row.at_half(halve, network, tg.Tensor(x[:, i : i + 1]))
            np.testing.assert_allclose(y[:, 0], expected.numpy()[:, i // 2], atol=1e-6)
        assert calls == 2 * [(2, 1, 3, 3)]


def test_a_completion_keeps_what_is_given_and_draws_the_rest(device):
    made = model((4, 4, 2), resolutions=2)
    x = images(made, 5)
    known = np.zeros(made.shape, bool)
    known[:2] = True
    draws = to_host(made.complete(x, xp.asarray(known), rng=Generator(0)))
    assert (draws[:, :2] == to_host(x)[:, :2]).all() and (draws[:, 2:] != to_host(x)[:, 2:]).any()
    same = made.complete(x, xp.ones(made.shape, bool), rng=Generator(0))
    assert (to_host(same) == to_host(x)).all()
    none = made.complete(x, xp.zeros(made.shape, bool), rng=Generator(0))
    assert (to_host(none) == to_host(made.sample(5, rng=Generator(0)))).all()


# Training -----------------------------------------------------------------------------------------


@settings(max_examples=2)
@given(
    height=st.integers(1, 3),
    width=st.integers(1, 3),
    colors=st.integers(1, 2),
    levels=st.integers(2, 5),
    components=st.integers(1, 2),
    dropout=st.sampled_from([0.0, 0.5]),
    n=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_the_loss_passes_the_check_to_second_order(
    height, width, colors, levels, components, dropout, n, seed, device
):
    options = {"resolutions": 1, "filters": 1, "components": components, "dropout": dropout}
    made = model((height, width, colors), levels, seed, **options).astype("float64")
    x = images(made, n, seed)
    check_gradients(lambda: made.loss(x), params=made, order=2)


def test_the_loss_with_several_resolutions_passes_the_check():
    made = model((2, 2, 1), resolutions=2, filters=1, dropout=0.5).astype("float64")
    x = images(made, 1)
    check_gradients(lambda: made.loss(x), params=made)


@settings(max_examples=5)
@given(
    layer=st.sampled_from([Halve, Double]),
    filters=st.integers(1, 2),
    right=st.integers(0, 1),
    height=st.integers(1, 2),
    width=st.integers(1, 2),
)
def test_gradients_of_halving_and_doubling(layer, filters, right, height, width, device):
    changed = shaken(layer(filters, right)).astype("float64")
    x = np.random.default_rng(0).standard_normal((2, 2 * height, 2 * width, filters))
    check_gradients(changed, xp.asarray(x), params=changed, order=2)


@settings(max_examples=5)
@given(
    colors=st.integers(1, 3), levels=st.integers(2, 9), components=st.integers(1, 2), seed=st.integers(0, 99)
)
def test_gradients_of_pixels_with_colors(colors, levels, components, seed, device):
    rng = np.random.default_rng(seed)
    parameters = xp.asarray(rng.standard_normal((2, pixel_parameters(colors, components))))
    x = xp.asarray(rng.integers(0, levels, (2, colors)))
    family = logistic_mixture(levels, components)

    def log_prob(parameters):
        of_colors = by_color(parameters, family.encode(x, "float64")[:, :-1], levels, components)
        return family.distribution(ops.reshape(of_colors, (2, colors, 3 * components))).log_prob(x)

    check_gradients(log_prob, parameters, order=2)


def test_dropout_acts_in_training_alone(device):
    made = model((4, 4, 1), dropout=0.5)
    x = images(made, 3)

    def log_prob(seed):
        with Generator(seed):
            return made.log_prob(x).numpy()

    assert (log_prob(0) == log_prob(0)).all() and (log_prob(0) != log_prob(1)).all()
    made.eval()
    assert (log_prob(0) == log_prob(1)).all()
    without = model((4, 4, 1), seed=1)
    without.load_state_dict(made.state_dict())
    assert (without.log_prob(x).numpy() == log_prob(0)).all()


def test_a_training_step_brings_nothing_to_the_host(device):
    made = model((4, 4, 2), dropout=0.5)
    optimizer = optim.Adam(made.parameters(), lr=1e-3)
    x = images(made, 3)
    with forbid_transfers():
        for _ in range(2):
            optimizer.zero_grad()
            made.loss(x).backward()
            optimizer.step()
    assert all(p.grad.dtype == "float32" and p.grad.shape == p.shape for p in made.parameters())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_and_empty_batches(dtype, device):
    made = model((4, 4, 3)).astype(dtype)
    x = images(made, 2)
    assert made.log_prob(x).dtype == dtype and made.log_prob(x).shape == (2,)
    assert made.log_prob(x[:0]).shape == (0,)


def test_training_reaches_the_entropy_of_a_chain_of_levels():
    """Each pixel is the one on its left (in the first column, 4) and −1, 0 or 1, with known probabilities."""
    steps, p = np.array([-1, 0, 1]), np.array([0.1, 0.7, 0.2])
    rng = np.random.default_rng(0)
    x = np.clip(4 + np.cumsum(rng.choice(steps, (600, 2, 4, 1), p=p), axis=2), 0, 8)
    tg.seed(0)
    made = PixelCNNPlusPlus((2, 4, 1), 9, components=3, filters=8, resolutions=1, dropout=0.0)
    optimizer = optim.Adam(made.parameters(), lr=1e-2)
    for _ in range(250):
        optimizer.zero_grad()
        made.loss(x[rng.integers(0, 400, 50)]).backward()
        optimizer.step()
    entropy = -8 * (p * np.log(p)).sum()
    assert made.loss(x[400:]).item() == pytest.approx(entropy, abs=0.5)


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"shape": (7, 8, 1)},
            "shape: expected a height and width that are multiples of 2, for 2",
        ),
        ({"shape": (8, 4, 1), "resolutions": 4}, "that are multiples of 8, for 4 resolutions, got 8 and 4"),
        ({"shape": (8, 8)}, r"shape: expected \(H, W, colors\), got \(8, 8\)"),
        ({"levels": 1}, "levels: expected an int of at least 2, got 1"),
        ({"components": 0}, "components: expected an int of at least 1, got 0"),
        ({"filters": 0}, "filters: expected an int of at least 1, got 0"),
        ({"blocks": 0}, "blocks: expected an int of at least 1, got 0"),
        ({"resolutions": 0}, "resolutions: expected an int of at least 1, got 0"),
        ({"dropout": 1.0}, "p: expected a probability of at least 0 and less than 1, got 1.0"),
        ({"dropout": "a"}, "p: expected a probability of at least 0 and less than 1, got 'a'"),
    ],
)
def test_a_model_that_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        PixelCNNPlusPlus(**{"shape": (4, 4, 1), "levels": 4, **options})


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((2, 4, 4, 1)), r"x: expected integers\[N, 4, 4, 1\], got float64\[2, 4, 4, 1\]"),
        (np.zeros((2, 4, 4, 3), int), r"x: expected integers\[N, 4, 4, 1\], got int64\[2, 4, 4, 3\]"),
        (np.full((2, 4, 4, 1), 4), "PixelCNNPlusPlus: x: expected integers from 0 to 3, got 4"),
        ([[0]], r"x: expected integers\[N, 4, 4, 1\], got list"),
    ],
)
def test_an_x_that_does_not_fit_is_refused(x, words):
    made = PixelCNNPlusPlus((4, 4, 1), 4)
    for function in (made.log_prob, made.loss, lambda x: made.complete(x, np.ones((4, 4, 1), bool))):
        with pytest.raises(ValueError, match=words):
            function(x)
