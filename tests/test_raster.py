"""What models of images in raster order share: probabilities, samples, completions, and ways to convolve."""

import re

import numpy as np
import pytest
from autoregressive import FAMILIES, batch, every_image, labels_for, shaken
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from strict_cupy import forbid_transfers

import tinygen as tg
from tinygen import nn, ops, optim
from tinygen.backend import Generator, to_host, xp
from tinygen.gradients import check_gradients
from tinygen.models.autoregressive.conditionals import bernoulli, categorical
from tinygen.models.autoregressive.convolve import PixelByPixel, RowByRow, whole
from tinygen.models.autoregressive.made import MADE
from tinygen.models.autoregressive.pixelcnn import PixelCNN
from tinygen.models.autoregressive.raster import RasterModel


class OneStack(RasterModel):
    """What is left of a pixel and above it, by two masked convolutions."""

    def __init__(self, shape, family=None, size=3):
        super().__init__(shape, family)
        colors = self.shape[2]
        self.first = nn.MaskedConv2d("A", colors, 2 * colors, size if colors > 1 else max(size, 3), colors)
        self.second = nn.MaskedConv2d("B", 2 * colors, colors * self.family.size, size, colors)

    def see(self, x, convolve):
        return convolve(self.first, x)

    def pixels(self, seen, above, given, convolve):
        return convolve(self.second, ops.tanh(seen))


class TwoStacks(RasterModel):
    """One stack for the rows above and one for the pixel's own row, with what a label gives to each place and
    what it gives to all."""

    def __init__(self, shape, family=None, size=3, labels=2):
        super().__init__(shape, family, labels)
        height, width, colors = self.shape
        reach = size // 2
        self.places = nn.Linear(labels, height * width * 2 * colors)
        self.everywhere = nn.Linear(labels, 2 * colors)
        self.above = nn.ShiftedConv2d(colors, 2 * colors, (reach + 1, size), right=reach)
        self.left = nn.MaskedConv2d("A", colors, 2 * colors, (1, size), colors)
        self.last = nn.MaskedConv2d("B", 2 * colors, colors * self.family.size, (1, size), colors)

    def given(self, context):
        height, width, colors = self.shape
        places = ops.reshape(self.places(context), (len(context), height, width, 2 * colors))
        return places, ops.reshape(self.everywhere(context), (len(context), 1, 1, 2 * colors))

    def rows(self, x, given, convolve):
        return (ops.tanh(convolve(self.above, x) + given[0] + given[1]),)

    def see(self, x, convolve):
        return convolve(self.left, x)

    def pixels(self, seen, above, given, convolve):
        return convolve(self.last, ops.tanh(seen + above[0] - given[0] + 0.5 * given[1]))


def small_pixelcnn(shape, family=None, size=3):
    return PixelCNN(shape, 2 * shape[2], 2, family, first=max(size, 3), size=size)


MODELS = {"one stack": OneStack, "two stacks": TwoStacks, "PixelCNN": small_pixelcnn}


def probabilities(model, space, label=0):
    """p(x) of images, on the host in float64."""
    x = xp.asarray(space if model.family.support.integers else space.astype(model.dtype))
    condition = xp.asarray(np.full(len(space), label)) if model.labels else None
    return np.exp(model.log_prob(x, condition).numpy().astype("float64"))


def agree(draws, space, p):
    """Whether draws have the probabilities p of a space of images, by the χ² test."""
    place = {image.tobytes(): k for k, image in enumerate(space.astype("int64"))}
    found = [place[image.tobytes()] for image in to_host(draws).astype("int64")]
    counts = np.bincount(found, minlength=len(space))
    order = np.argsort(p)
    # Rare images are counted together, so that each count is expected to be 5 at least.
    groups = np.cumsum(p[order] * len(draws)) // 5
    groups[groups == groups[-1]] = groups[-1] - 1
    _, groups = np.unique(groups, return_inverse=True)
    expected = np.bincount(groups, p[order] * len(draws))
    observed = np.bincount(groups, counts[order])
    assert len(expected) > 5
    return stats.chisquare(observed, expected * len(draws) / expected.sum()).pvalue > 1e-3


# Ways to convolve -----------------------------------------------------------------------------------


@st.composite
def masked(draw, inputs, outputs, colors):
    size = draw(st.tuples(*[st.sampled_from([1, 3, 5])] * 2))
    mask = draw(st.sampled_from("AB" if colors > 1 or size[1] > 1 or size[0] > 1 else "B"))
    return nn.MaskedConv2d(mask, inputs, outputs, size, colors)


@st.composite
def shifted(draw, inputs, outputs, to_the_right):
    size = draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    right = draw(st.integers(0, size[1] - 1)) if to_the_right else 0
    return nn.ShiftedConv2d(inputs, outputs, size, right)


def applied(layers, x, convolve):
    for layer in layers:
        x = ops.tanh(convolve(layer, x))
    return x


sides = st.tuples(st.integers(0, 2), st.integers(1, 5), st.integers(1, 5))


def check_pixel_by_pixel(layers, x):
    """Whether the maps of an image that grows are those of whole images."""
    expected = to_host(ops.raw(applied(layers, x, whole)))
    by_pixel = PixelByPixel(x.shape[2])
    for i in range(x.shape[1]):
        by_pixel.next_row()
        for j in range(x.shape[2]):
            pixel = x[:, i : i + 1, j : j + 1]
            applied(layers, xp.full_like(pixel, 3), by_pixel)  # what it holds before it is known
            y = applied(layers, pixel, by_pixel)
            np.testing.assert_allclose(to_host(ops.raw(y))[:, 0, 0], expected[:, i, j], atol=1e-12)
            by_pixel.column += 1


@settings(max_examples=40)
@given(data=st.data(), size=sides, colors=st.integers(1, 2), seed=st.integers(0, 99))
def test_pixel_by_pixel_is_whole(data, size, colors, seed, device):
    n, height, width = size
    layer = st.one_of(masked(2, 2, colors), shifted(2, 2, False))
    layers = data.draw(st.lists(layer, min_size=1, max_size=3))
    for each in layers:
        shaken(each, seed=seed).astype("float64")
    check_pixel_by_pixel(layers, batch("gaussian", n, (height, width, 2), "float64", seed))


@pytest.mark.parametrize("colors", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize("mask", "AB")
def test_pixel_by_pixel_is_whole_for_each_form_of_mask(mask, size, colors, device):
    if (mask, size, colors) == ("A", (1, 1), 1):
        pytest.skip("it sees nothing, and is refused")
    layer = shaken(nn.MaskedConv2d(mask, 2, 2, size, colors)).astype("float64")
    check_pixel_by_pixel([layer], batch("gaussian", 2, (3, 4, 2), "float64"))


@settings(max_examples=40)
@given(data=st.data(), size=sides, seed=st.integers(0, 99))
def test_row_by_row_is_whole(data, size, seed, device):
    n, height, width = size
    layers = [
        shaken(
            data.draw(st.one_of(masked(2, 2, 1).filter(lambda m: m.halves()[1]), shifted(2, 2, True))),
            seed=seed,
        )
        for _ in range(data.draw(st.integers(1, 3)))
    ]
    for layer in layers:
        layer.astype("float64")
    x = batch("gaussian", n, (height, width, 2), "float64", seed)
    expected = to_host(ops.raw(applied(layers, x, whole)))
    by_row = RowByRow()
    for i in range(height):
        y = applied(layers, x[:, i : i + 1], by_row)
        np.testing.assert_allclose(to_host(ops.raw(y))[:, 0], expected[:, i], atol=1e-12)


# Probabilities --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("shape", "levels"), [((2, 2, 1), 2), ((3, 3, 1), 2), ((2, 2, 1), 3), ((1, 2, 3), 3), ((2, 1, 3), 2)]
)
def test_the_probabilities_of_all_images_sum_to_1(model, shape, levels):
    family = bernoulli() if levels == 2 else categorical(levels)
    model = shaken(MODELS[model](shape, family)).astype("float64")
    for label in range(max(model.labels, 1)):
        p = probabilities(model, every_image(levels, shape), label)
        assert p.sum() == pytest.approx(1, abs=1e-10)
        assert p.max() > 2 / len(p)  # not a uniform one


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_conditional_depends_on_its_own_value_or_later_ones(model, family, device):
    shape = (3, 3, 2)
    model = shaken(MODELS[model](shape, FAMILIES[family]))
    x = tg.Tensor(batch("gaussian", 1, shape), requires_grad=True)
    context = model.context_of(labels_for(model, 1), 1)
    parameters = model.parameters_of(x, model.given(context)).sum(axis=-1).reshape(-1)
    for d in range(parameters.size):
        (x_bar,) = tg.grad(parameters[d], x, retain_graph=True)
        assert (x_bar.numpy().ravel()[d:] == 0).all()
    assert (x_bar.numpy() != 0).any()


# Samples --------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    model=st.sampled_from(sorted(MODELS)),
    family=st.sampled_from(sorted(FAMILIES)),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)),
    size=st.sampled_from([1, 3, 5]),
    n=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_samples_equal_the_naive_ones(model, family, shape, size, n, seed, device):
    model = MODELS[model](shape, FAMILIES[family], size=3 if model == "two stacks" else size)
    shaken(model, 0.5, seed).astype("float64")
    condition = labels_for(model, n)
    naive = to_host(model.sample_naively(n, condition, rng=Generator(seed)))
    grown = to_host(model.sample(n, condition, rng=Generator(seed)))
    assert grown.shape == (n, *shape)
    np.testing.assert_allclose(grown, naive, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(2, 2, 1), (1, 2, 2)])
@pytest.mark.parametrize("levels", [2, 3])
def test_draws_have_the_models_probabilities(shape, levels, device):
    family = bernoulli() if levels == 2 else categorical(levels)
    model = shaken(small_pixelcnn(shape, family))
    space = every_image(levels, shape)
    p = probabilities(model, space)
    assert agree(model.sample(20000, rng=Generator(0)), space, p / p.sum())


def test_draws_have_the_probabilities_of_their_labels(device):
    model, space = shaken(TwoStacks((2, 2, 1))), every_image(2, (2, 2, 1))
    condition = np.arange(20000) % 2
    draws = to_host(model.sample(20000, xp.asarray(condition), Generator(0)))
    of_labels = [probabilities(model, space, label) for label in range(2)]
    for label, p in enumerate(of_labels):
        assert agree(draws[condition == label], space, p / p.sum())
    assert not agree(draws[condition == 0], space, of_labels[1] / of_labels[1].sum())


def test_the_default_generator_draws_where_none_is_given():
    model = shaken(small_pixelcnn((2, 3, 1)))
    draws = []
    for _ in range(2):
        tg.seed(5)
        draws.append(model.sample(4))
    np.testing.assert_array_equal(*draws)
    assert (draws[0] != model.sample(4)).any()


# Completions ----------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    model=st.sampled_from(sorted(MODELS)),
    family=st.sampled_from(sorted(FAMILIES)),
    shape=st.tuples(*[st.integers(1, 3)] * 3),
    n=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_a_completion_keeps_what_is_given(model, family, shape, n, seed, device):
    model = shaken(MODELS[model](shape, FAMILIES[family]), 0.5)
    x, condition = to_host(batch(family, n, shape, seed=seed)), labels_for(model, n)
    given = np.random.default_rng(seed).random(shape) < 0.5
    x[:, ~given] = 99  # may be anything
    draws = to_host(model.complete(xp.asarray(x), xp.asarray(given), condition, Generator(seed)))
    assert draws.shape == x.shape and draws.dtype == x.dtype
    np.testing.assert_array_equal(draws[:, given], x[:, given])
    assert (draws[:, ~given] != 99).all()


@pytest.mark.parametrize("levels", [2, 3])
def test_completions_of_what_comes_first_are_draws_of_the_rest_given_that(levels, device):
    shape = (3, 2, 1) if levels == 2 else (2, 2, 1)
    family = bernoulli() if levels == 2 else categorical(levels)
    model = shaken(small_pixelcnn(shape, family))
    first = 2 if levels == 2 else 1
    given = np.arange(np.prod(shape)).reshape(shape) < first
    space = every_image(levels, shape)
    space = space[(space.reshape(len(space), -1)[:, :first] == 1).all(axis=1)]
    x = np.broadcast_to(space[0], (20000, *shape))
    x = xp.asarray(x if model.family.support.integers else x.astype("float32"))
    p = probabilities(model, space)
    assert agree(model.complete(x, xp.asarray(given), rng=Generator(1)), space, p / p.sum())


def test_a_completion_of_nothing_given_is_a_sample(device):
    model = shaken(small_pixelcnn((2, 3, 2), categorical(3)))
    x = batch("categorical", 5, (2, 3, 2))
    draws = model.complete(x, xp.zeros((2, 3, 2), bool), rng=Generator(4))
    np.testing.assert_array_equal(to_host(draws), to_host(model.sample(5, rng=Generator(4))))


# Derivatives ----------------------------------------------------------------------------------------


@settings(max_examples=6)
@given(
    model=st.sampled_from(sorted(MODELS)),
    family=st.sampled_from(sorted(FAMILIES)),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 2)),
    n=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_the_loss_passes_the_check_to_second_order(model, family, shape, n, seed, device):
    model = shaken(MODELS[model](shape, FAMILIES[family]), seed=seed).astype("float64")
    x, condition = batch(family, n, shape, "float64", seed), labels_for(model, n)
    check_gradients(lambda: model.loss(x, condition), params=model, order=2)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("family", ["gaussian", "mixture"])
def test_a_density_passes_the_check_with_respect_to_x(model, family, device):
    model = shaken(MODELS[model]((2, 3, 2), FAMILIES[family])).astype("float64")
    x, condition = batch(family, 2, (2, 3, 2), "float64"), labels_for(model, 2)
    check_gradients(lambda x: model.log_prob(x, condition), x, order=2)


# State, dtypes, devices -----------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_a_state_brings_everything_along(model, device):
    shape = (3, 2, 2)
    one, other = (shaken(MODELS[model](shape), seed=seed) for seed in (0, 1))
    x, condition = batch("bernoulli", 4, shape), labels_for(one, 4)
    expected = one.log_prob(x, condition).numpy()
    assert (other.log_prob(x, condition).numpy() != expected).all()
    other.load_state_dict(one.state_dict())
    np.testing.assert_array_equal(other.log_prob(x, condition).numpy(), expected)
    draws = [to_host(m.sample(4, condition, Generator(0))) for m in (one, other)]
    np.testing.assert_array_equal(*draws)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_shapes_and_empty_batches(family, dtype, device):
    shape = (2, 3, 2)
    model = shaken(TwoStacks(shape, FAMILIES[family])).astype(dtype)
    x, condition = batch(family, 5, shape, dtype), labels_for(model, 5)
    for value, expected in [(model.log_prob(x, condition), (5,)), (model.loss(x, condition), ())]:
        assert value.shape == expected and value.dtype == dtype
    assert model.conditionals(x, condition).shape == (5, *shape)
    model.loss(x, condition).backward()
    assert all(p.grad.dtype == dtype and p.grad.shape == p.shape for p in model.parameters())
    assert model.log_prob(x[:0], condition[:0]).shape == (0,)
    assert model.sample(5, condition).dtype == x.dtype
    for sample in (model.sample, model.sample_naively):
        assert sample(0, condition[:0]).shape == (0, *shape)
    assert model.complete(x[:0], xp.ones(shape, bool), condition[:0]).shape == (0, *shape)


def test_a_training_step_brings_nothing_to_the_host(device):
    model = shaken(TwoStacks((3, 4, 1)))
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    x, condition = batch("bernoulli", 6, (3, 4, 1)), labels_for(model, 6)
    with forbid_transfers():
        for _ in range(2):
            optimizer.zero_grad()
            model.loss(x, condition).backward()
            optimizer.step()


def test_samples_record_nothing_and_leave_the_model_alone():
    model = shaken(small_pixelcnn((2, 2, 1)))
    before = model.state_dict()
    assert isinstance(model.sample(2), np.ndarray)
    assert isinstance(model.sample_naively(2), np.ndarray)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert all(p.grad is None for p in model.parameters())


# What is refused ------------------------------------------------------------------------------------


def never(*arguments):
    raise AssertionError("the network was called")


def untouched(model):
    """A model whose network must not be called."""
    model.see = model.pixels = model.rows = never
    return model


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 2), r"OneStack: shape: expected \(H, W, colors\), got \(2, 2\)"),
        (5, r"OneStack: shape: expected \(H, W, colors\), got 5"),
        ((0, 2, 1), "OneStack: height: expected an int of at least 1, got 0"),
        ((2, 2.0, 1), r"OneStack: width: expected an int of at least 1, got 2\.0"),
        ((2, 2, 0), "OneStack: colors: expected an int of at least 1, got 0"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(shape, words):
    with pytest.raises(ValueError, match=words):
        OneStack(shape)


@pytest.mark.parametrize("family", ["bernoulli", bernoulli])
def test_a_family_that_is_none_is_refused(family):
    for make in (lambda: OneStack((2, 2, 1), family), lambda: MADE(3, [4], family)):
        with pytest.raises(TypeError, match=f"family: expected a Family, .* got {re.escape(repr(family))}"):
            make()


ZEROS = np.zeros((2, 2, 3, 1), "float32")


@pytest.mark.parametrize(
    ("family", "x", "words"),
    [
        ("bernoulli", ZEROS + 0.5, r"OneStack: x: expected zeros and ones, got 0\.5"),
        ("bernoulli", ZEROS + np.nan, "OneStack: x: expected zeros and ones, got nan"),
        ("bernoulli", ZEROS[:, :1], r"x: expected float32\[N, 2, 3, 1\], got float32\[2, 1, 3, 1\]"),
        ("bernoulli", ZEROS[..., 0], r"x: expected float32\[N, 2, 3, 1\], got float32\[2, 2, 3\]"),
        ("bernoulli", ZEROS.astype("float64"), r"x: expected float32\[N, 2, 3, 1\], got float64\["),
        ("bernoulli", ZEROS.astype(int), r"x: expected float32\[N, 2, 3, 1\], got int64\["),
        ("gaussian", ZEROS + np.inf, "OneStack: x: expected finite values, got inf"),
        ("categorical", ZEROS, r"x: expected integers\[N, 2, 3, 1\], got float32\[2, 2, 3, 1\]"),
        ("categorical", ZEROS.astype(int) + 3, "OneStack: x: expected integers from 0 to 2, got 3"),
        ("categorical", ZEROS.astype(int) - 1, "OneStack: x: expected integers from 0 to 2, got -1"),
        ("categorical", ZEROS[0].astype(int), r"x: expected integers\[N, 2, 3, 1\], got int64\[2, 3, 1\]"),
        ("categorical", [[0]], r"^OneStack: x: expected integers\[N, 2, 3, 1\], got list"),
    ],
)
def test_an_x_that_does_not_fit_is_refused(family, x, words):
    model = untouched(OneStack((2, 3, 1), FAMILIES[family]))
    for function in (model.log_prob, model.loss, lambda x: model.complete(x, np.ones((2, 3, 1), bool))):
        with pytest.raises(ValueError, match=words):
            function(x)


@pytest.mark.parametrize(
    ("make", "condition", "words"),
    [
        (OneStack, np.zeros(2, int), r"condition: expected None, for a model without labels, got int64\[2\]"),
        (TwoStacks, None, r"condition: expected integers of shape \(2,\), got None"),
        (TwoStacks, np.zeros(2), r"condition: expected integers of shape \(2,\), got float64\[2\]"),
        (TwoStacks, np.zeros(3, int), r"condition: expected integers of shape \(2,\), got int64\[3\]"),
        (TwoStacks, np.array([0, 2]), "condition: expected labels from 0 to 1, got 0 to 2"),
    ],
)
def test_a_wrong_condition_is_refused(make, condition, words):
    model = untouched(make((2, 3, 1)))
    for function in (
        lambda: model.loss(ZEROS, condition),
        lambda: model.sample(2, condition),
        lambda: model.sample_naively(2, condition),
        lambda: model.complete(ZEROS, np.ones((2, 3, 1), bool), condition),
    ):
        with pytest.raises(ValueError, match=words):
            function()


@pytest.mark.parametrize(
    ("known", "got"),
    [
        ([[[True]]], "list"),
        (np.ones((2, 3), bool), r"bool\[2, 3\]"),
        (np.ones((2, 2, 3, 1), bool), r"bool\[2, 2, 3, 1\]"),
        (np.ones((2, 3, 1)), r"float64\[2, 3, 1\]"),
    ],
)
def test_a_wrong_mask_of_what_is_given_is_refused(known, got):
    model = untouched(OneStack((2, 3, 1)))
    with pytest.raises(ValueError, match=rf"given: expected bool\[2, 3, 1\], got {got}"):
        model.complete(ZEROS, known)


@pytest.mark.parametrize("n", [-1, 1.5, None])
def test_a_wrong_number_of_samples_is_refused(n):
    model = untouched(OneStack((2, 3, 1)))
    for sample in (model.sample, model.sample_naively):
        with pytest.raises(ValueError, match=f"OneStack: n: expected an int of at least 0, got {n}"):
            sample(n)
