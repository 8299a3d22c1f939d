"""Multi-scale PixelCNN: the order of its pixels, by gradients; normalization; draws; derivatives."""

import numpy as np
import pytest
from autoregressive import FAMILIES, batch, every_image, shaken
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from strict_cupy import forbid_transfers

import tinygen as tg
from tinygen import optim
from tinygen.backend import Generator, device_of, to_host, xp
from tinygen.gradients import check_gradients
from tinygen.models.autoregressive.conditionals import bernoulli, categorical, gaussian
from tinygen.models.autoregressive.multiscale_pixelcnn import MultiscalePixelCNN


@st.composite
def networks(draw, side=5, blocks=2, scales=4):
    """The arguments of a MultiscalePixelCNN but for its family."""
    height, width = draw(st.tuples(*[st.integers(1, side)] * 2).filter(lambda sides: max(sides) > 1))
    colors = draw(st.integers(1, 2))
    return {
        "shape": (height, width, colors),
        "channels": 2 * colors,
        "blocks": draw(st.integers(1, blocks)),
        "scales": draw(st.integers(2, min(scales, 1 + (max(height, width) - 1).bit_length()))),
        "first": 3,
    }


def small_model(shape, family=None, scales=2, channels=4):
    return shaken(MultiscalePixelCNN(shape, channels, 1, scales, family, first=3), 0.8)


# The order ----------------------------------------------------------------------------------------


def test_the_order_of_three_scales_is_that_of_the_documentation():
    model = MultiscalePixelCNN((4, 4, 1), 2, 1, scales=3)
    rank = np.zeros(model.shape, int)
    for d, place in enumerate(model.order()):
        rank[place] = d
    assert rank[..., 0].tolist() == [[0, 4, 1, 5], [6, 7, 8, 9], [2, 10, 3, 11], [12, 13, 14, 15]]


@given(networks())
def test_each_value_is_drawn_once_and_the_scales_one_after_another(options):
    model = MultiscalePixelCNN(**options)
    places = list(model.order())
    assert sorted(places) == list(np.ndindex(model.shape))
    for scale in range(1, options["scales"]):
        coarser = [i % 2**scale == 0 and j % 2**scale == 0 for i, j, _ in places]
        assert coarser == sorted(coarser, reverse=True)


def sees(model):
    """Whether the parameters of each value move with each value, by exact gradients in one of four images;
    both in the model's order."""
    x = tg.Tensor(batch("gaussian", 4, model.shape, "float64"), requires_grad=True)
    parameters = model.parameters_of(x, ()).sum(axis=-1)
    places = list(model.order())
    moves = []
    for i, j, c in places:
        (x_bar,) = tg.grad(parameters[:, i, j, c].sum(), x, retain_graph=True)
        moves.append([(x_bar.numpy()[:, k, m, e] != 0).any() for k, m, e in places])
    return np.array(moves)


@settings(max_examples=30)
@given(networks(), st.integers(0, 99))
def test_a_value_sees_exactly_zero_of_itself_and_later_ones(options, seed):
    model = shaken(MultiscalePixelCNN(**options), seed=seed).astype("float64")
    assert not np.triu(sees(model)).any()


@pytest.mark.parametrize("scales", [2, 3])
@pytest.mark.parametrize("colors", [1, 2])
def test_pixels_see_those_of_the_small_image_below_them_too(scales, colors):
    model = shaken(MultiscalePixelCNN((4, 4, colors), 16 * colors, 3, scales)).astype("float64")
    moves, places = sees(model), list(model.order())
    earlier = np.tril(np.ones_like(moves), -1)
    # The field of view of 3x3 masks has a blind spot among the pixels of one scale.
    in_small = np.array([i % 2 == 0 and j % 2 == 0 for i, j, _ in places])
    assert moves[np.ix_(~in_small, in_small)].all()
    assert (moves & earlier).sum() > 0.9 * earlier.sum()


# Probabilities ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "scales", "levels"),
    [
        ((2, 2, 1), 2, 2),
        ((3, 3, 1), 2, 2),
        ((3, 3, 1), 3, 2),
        ((4, 2, 1), 3, 2),
        ((1, 5, 1), 4, 2),
        ((2, 2, 2), 2, 2),
        ((2, 2, 1), 2, 3),
        ((3, 1, 2), 3, 3),
    ],
)
def test_the_probabilities_of_all_images_sum_to_1(shape, scales, levels):
    family = bernoulli() if levels == 2 else categorical(levels)
    model = small_model(shape, family, scales).astype("float64")
    x = every_image(levels, shape)
    p = np.exp(model.log_prob(x if levels > 2 else x.astype("float64")).numpy())
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert p.max() > 2 / len(p)  # not a uniform one


def test_the_small_image_has_the_probabilities_of_its_own_model():
    """The others are summed over."""
    model = small_model((3, 3, 1)).astype("float64")
    x = every_image(2, model.shape).astype("float64")
    p = np.exp(model.log_prob(x).numpy())
    codes = x[:, ::2, ::2].reshape(len(x), -1) @ [8, 4, 2, 1]
    expected = np.exp(model.coarse.log_prob(every_image(2, (2, 2, 1)).astype("float64")).numpy())
    np.testing.assert_allclose(np.bincount(codes.astype(int), p), expected, rtol=1e-10)


def test_log_p_is_that_of_the_small_image_and_of_the_others_given_it(device):
    model = small_model((5, 4, 1), categorical(3), scales=3)
    x = batch("categorical", 6, model.shape)
    small = x[:, ::2, ::2]
    seen = model.family.encode(x, model.dtype)
    maps = model.upsampled(model.family.encode(small, model.dtype))
    parameters = super(MultiscalePixelCNN, model).parameters_of(seen, maps)
    of_each = model.family.distribution(parameters).log_prob(x)
    others = of_each[:, ::2, 1::2].sum(axis=(1, 2, 3)) + of_each[:, 1::2].sum(axis=(1, 2, 3))
    expected = (model.coarse.log_prob(small) + others).numpy()
    np.testing.assert_allclose(model.log_prob(x).numpy(), expected, rtol=1e-5)


# Draws --------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    options=networks(),
    family=st.sampled_from(sorted(FAMILIES)),
    n=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_samples_equal_the_naive_ones(options, family, n, seed, device):
    model = shaken(MultiscalePixelCNN(family=FAMILIES[family], **options), 0.3, seed).astype("float64")
    grown = model.sample(n, rng=Generator(seed))
    naive = model.sample_naively(n, rng=Generator(seed))
    assert device_of(grown) == device and grown.shape == (n, *model.shape)
    np.testing.assert_allclose(to_host(grown), to_host(naive), rtol=1e-9, atol=1e-9)


def follow(draws, x, p):
    """Whether draws have the probabilities p of the images x, by the χ² test."""
    place = {image.tobytes(): k for k, image in enumerate(x.astype("int64"))}
    counts = np.bincount(
        [place[image.tobytes()] for image in to_host(draws).astype("int64")], minlength=len(x)
    )
    expected = len(draws) * p / p.sum()
    assert expected.min() > 5
    return stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize(("shape", "scales"), [((2, 2, 1), 2), ((1, 4, 1), 3), ((2, 1, 2), 2)])
def test_draws_have_the_models_probabilities(shape, scales, device):
    model = shaken(small_model(shape, scales=scales), 0.5)
    x = every_image(2, shape)
    p = np.exp(model.log_prob(xp.asarray(x.astype("float32"))).numpy().astype("float64"))
    assert follow(model.sample(20000, rng=Generator(0)), x, p)
    assert not follow(model.sample(20000, rng=Generator(0)), x, p[::-1])


def test_completions_of_a_small_image_are_draws_of_the_others_given_it(device):
    model = shaken(small_model((3, 2, 1)), 0.5)
    small = np.zeros(model.shape, bool)
    small[::2, ::2] = True
    x = every_image(2, model.shape)
    x = x[(x[:, 0, 0, 0] == 1) & (x[:, 2, 0, 0] == 0)]
    p = np.exp(model.log_prob(xp.asarray(x.astype("float32"))).numpy().astype("float64"))
    given = xp.asarray(np.broadcast_to(x[0], (10000, *model.shape)).astype("float32"))
    assert follow(model.complete(given, xp.asarray(small), rng=Generator(0)), x, p)


@settings(max_examples=30)
@given(
    options=networks(),
    family=st.sampled_from(sorted(FAMILIES)),
    share=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_a_completion_keeps_what_is_given(options, family, share, seed, device):
    model = shaken(MultiscalePixelCNN(family=FAMILIES[family], **options), 0.3, seed)
    x = batch(family, 3, model.shape, seed=seed)
    known = np.random.default_rng(seed).random(model.shape) < share
    completed = to_host(model.complete(x, xp.asarray(known), rng=Generator(seed)))
    np.testing.assert_allclose(completed[:, known], to_host(x)[:, known], rtol=1e-6)
    nothing = xp.zeros(model.shape, bool)
    drawn = model.complete(x, nothing, rng=Generator(seed))
    assert (to_host(drawn) == to_host(model.sample(3, rng=Generator(seed)))).all()


# Derivatives --------------------------------------------------------------------------------------


@settings(max_examples=3)
@given(
    options=networks(side=3, blocks=1, scales=2),
    family=st.sampled_from(sorted(FAMILIES)),
    n=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_the_loss_passes_the_check_to_second_order(options, family, n, seed):
    model = shaken(MultiscalePixelCNN(family=FAMILIES[family], **options), 0.7, seed).astype("float64")
    x = batch(family, n, model.shape, "float64", seed)
    check_gradients(lambda: model.loss(x), params=model, order=2)


def test_the_loss_of_three_scales_passes_the_check():
    model = shaken(small_model((3, 4, 1), categorical(3), scales=3)).astype("float64")
    x = batch("categorical", 2, model.shape)
    check_gradients(lambda: model.loss(x), params=model)


def test_a_density_passes_the_check_with_respect_to_x(device):
    model = small_model((3, 4, 1), gaussian(), scales=3, channels=2).astype("float64")
    check_gradients(model.log_prob, batch("gaussian", 2, model.shape, "float64"), order=2)


def test_the_upsampled_image_equals_pytorchs():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    model = small_model((5, 6, 2))
    small = batch("gaussian", 3, (3, 3, 2))
    w = {name: torch.tensor(value) for name, value in model.state_dict().items()}
    maps = torch.tensor(small).permute(0, 3, 1, 2)
    read = w["read.weight"].permute(3, 2, 0, 1)
    maps = torch.relu(functional.conv2d(maps, read, w["read.bias"], padding=1))
    enlarge = w["enlarge.weight"].permute(3, 2, 0, 1)
    maps = functional.conv_transpose2d(maps, enlarge, w["enlarge.bias"], stride=2, padding=1)
    maps = torch.relu(maps).permute(0, 2, 3, 1)[:, :5, :6]
    expected = maps @ w["biases.0.weight"] + w["biases.0.bias"]
    np.testing.assert_allclose(model.upsampled(small)[0].numpy(), expected, rtol=1e-4, atol=1e-5)


# State, dtypes, devices ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_shapes_and_empty_batches(family, dtype, device):
    model = shaken(small_model((3, 4, 2), FAMILIES[family], scales=3), 0.3).astype(dtype)
    x = batch(family, 3, model.shape, dtype)
    loss = model.loss(x)
    assert loss.dtype == dtype and model.log_prob(x).shape == (3,)
    assert model.conditionals(x).shape == x.shape
    loss.backward()
    assert all(p.grad.dtype == dtype and p.grad.shape == p.shape for p in model.parameters())
    assert model.log_prob(x[:0]).shape == (0,)
    for sample in (model.sample, model.sample_naively):
        assert sample(0).shape == (0, *model.shape) and sample(2).dtype == x.dtype
    assert model.complete(x[:0], xp.ones(model.shape, bool)).shape == (0, *model.shape)


def test_training_steps_bring_nothing_to_the_host_and_learn_what_the_small_image_tells(device):
    """Images of 2x2 blocks of one value each: what is not in the small image follows from it."""
    tg.seed(0)
    model = MultiscalePixelCNN((4, 4, 1), 16, 1, first=3)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    x = xp.asarray(np.kron(every_image(2, (2, 2))[..., None], np.ones((1, 2, 2, 1))).astype("float32"))
    with forbid_transfers():
        for _ in range(100):
            optimizer.zero_grad()
            model.loss(x).backward()
            optimizer.step()
    log_p = model.conditionals(x).log_prob(x)
    assert -log_p.sum(axis=(1, 2, 3)).mean().item() == pytest.approx(4 * np.log(2), abs=0.1)
    assert -log_p[:, ::2, ::2].sum(axis=(1, 2, 3)).mean().item() == pytest.approx(4 * np.log(2), abs=0.05)
    draws = to_host(model.sample(50, rng=Generator(0)))
    assert (draws == np.kron(draws[:, ::2, ::2], np.ones((1, 2, 2, 1)))).mean() > 0.99


def test_a_state_brings_all_scales_along():
    one, other = (MultiscalePixelCNN((4, 4, 1), 4, 1, 3, first=3) for _ in range(2))
    x = batch("bernoulli", 4, one.shape)
    expected = one.log_prob(x).numpy()
    assert (other.log_prob(x).numpy() != expected).all()
    other.load_state_dict(one.state_dict())
    assert (other.log_prob(x).numpy() == expected).all()


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": (3, 3)}, r"MultiscalePixelCNN: shape: expected \(H, W, colors\), got \(3, 3\)"),
        ({"channels": 3}, "channels: expected a multiple of 2, got 3"),
        ({"blocks": 0}, "blocks: expected an int of at least 1, got 0"),
        ({"scales": 1}, "MultiscalePixelCNN: scales: expected an int of at least 2, got 1"),
        ({"scales": 2.0}, "scales: expected an int of at least 2, got 2.0"),
        ({"scales": 4}, "scales: expected at most 3 for images of 3x2, got 4"),
        ({"shape": (1, 1, 3), "channels": 6}, "scales: expected at most 1 for images of 1x1, got 2"),
        ({"first": 4}, "size: expected odd numbers, got 4"),
    ],
)
def test_a_model_that_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        MultiscalePixelCNN(**{"shape": (3, 2, 1), "channels": 4, **options})


ZEROS = np.zeros((2, 4, 4, 1), "float32")


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (ZEROS + 0.5, r"MultiscalePixelCNN: x: expected zeros and ones, got 0\.5"),
        (ZEROS[:, :2], r"x: expected float32\[N, 4, 4, 1\], got float32\[2, 2, 4, 1\]"),
        (ZEROS.astype("float64"), r"x: expected float32\[N, 4, 4, 1\], got float64\[2, 4, 4, 1\]"),
        ([0], r"x: expected float32\[N, 4, 4, 1\], got list"),
    ],
)
def test_an_x_that_does_not_fit_is_refused(x, words):
    model = MultiscalePixelCNN((4, 4, 1), 4, 1)
    for function in (model.loss, lambda x: model.complete(x, np.ones(model.shape, bool))):
        with pytest.raises(ValueError, match=words):
            function(x)


def test_other_wrong_arguments_are_refused():
    model = MultiscalePixelCNN((4, 4, 1), 4, 1)
    with pytest.raises(ValueError, match="n: expected an int of at least 0, got -1"):
        model.sample(-1)
    with pytest.raises(ValueError, match=r"given: expected bool\[4, 4, 1\], got bool\[2, 2, 1\]"):
        model.complete(ZEROS, np.ones((2, 2, 1), bool))
    for function in (lambda c: model.loss(ZEROS, c), lambda c: model.sample(2, c)):
        with pytest.raises(ValueError, match="condition: expected None, for a model without labels"):
            function(np.zeros(2, int))
