"""From grey levels to what a model is given: exact levels, noise that fits, Jacobians, and bits."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
import strict_cupy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import tinygen as tg
from tinygen import backend
from tinygen.backend import Generator, to_host, xp
from tinygen.data import (
    binarize,
    binarize_once,
    bits_per_dimension,
    dequantize,
    from_logit,
    load,
    threshold,
    to_logit,
    to_unit,
)
from tinygen.data.frozen import FrozenGenerator
from tinygen.gradients import check_gradients

ALPHAS = [1e-6, 0.05, 0.4]
SMALLEST, LARGEST = np.float32(0), np.nextafter(np.float32(1), np.float32(0))


class Constant(FrozenGenerator):
    """Draws always the same number."""

    def __init__(self, u):
        self.u = u

    def uniform(self, shape):
        return np.full(shape, self.u)


# Grey levels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_to_unit(levels):
    images = np.arange(levels, dtype=np.uint8).reshape(1, levels, 1, 1)
    unit = to_unit(images, levels)
    assert unit.dtype == np.float32 and unit.shape == images.shape
    exact = np.arange(levels) / (levels - 1)
    np.testing.assert_array_equal(unit.ravel(), exact.astype(np.float32))


@pytest.mark.parametrize("levels, first_one", [(2, 1), (17, 8), (256, 128)])
def test_threshold_is_at_intensity_one_half(levels, first_one):
    images = np.arange(levels, dtype=np.uint8)
    binary = threshold(images, levels)
    assert binary.dtype == np.float32
    np.testing.assert_array_equal(binary, np.arange(levels) >= first_one)
    np.testing.assert_array_equal(binary, to_unit(images, levels) >= 0.5)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_binarize_draws_with_the_pixels_probability(levels):
    n = 4000
    images = np.tile(np.arange(levels, dtype=np.uint8), (n, 1))
    binary = binarize(images, levels, Generator(0))
    assert binary.dtype == np.float32 and binary.shape == images.shape
    assert set(np.unique(binary)) == {0, 1}
    frequency, p = binary.mean(0, dtype=float), np.arange(levels) / (levels - 1)
    # In standard errors, at the levels between black and white, which are certain.
    deviation = (frequency - p)[1:-1] / np.sqrt(p * (1 - p) / n)[1:-1]
    assert frequency[0] == 0 and frequency[-1] == 1
    assert np.all(np.abs(deviation) < 4)
    if levels > 2:
        assert abs(np.sqrt(np.mean(deviation**2)) - 1) < 4 / math.sqrt(2 * len(deviation))


def test_binarize_draws_anew_and_repeats_with_its_generator():
    images = np.full((10, 8, 8, 1), 8, np.uint8)
    rng = Generator(1)
    first, second = binarize(images, 17, rng), binarize(images, 17, rng)
    assert (first != second).any()
    np.testing.assert_array_equal(binarize(images, 17, Generator(1)), first)


@pytest.mark.parametrize("u", [SMALLEST, LARGEST])
def test_black_and_white_are_certain(u):
    for levels in range(2, 257):
        assert binarize(np.array([0, levels - 1], np.uint8), levels, Constant(u)).tolist() == [0, 1]


def test_the_default_generator_draws_where_none_is_passed():
    images = load("digits").train.images[:5]
    for draw in (binarize, dequantize):
        with Generator(3):
            first = draw(images, 17)
        np.testing.assert_array_equal(draw(images, 17, Generator(3)), first)


CONVERSIONS = [to_unit, threshold, binarize, dequantize]


@pytest.mark.parametrize("convert", CONVERSIONS)
def test_conversions_refuse_bad_pixels_and_levels(convert):
    images = np.array([[3, 17]], np.uint8)
    with pytest.raises(ValueError, match=r"^images: expected pixels from 0 to 16, got 17$"):
        convert(images, 17)
    with pytest.raises(TypeError, match=r"^images: expected an array of uint8, got float32$"):
        convert(images.astype(np.float32), 256)
    with pytest.raises(TypeError, match=r"^images: expected an array of uint8, got list$"):
        convert([[3, 17]], 256)
    for levels in (1, 257, 17.0, "17", None):
        with pytest.raises(ValueError, match=r"^levels: expected an int from 2 to 256, got "):
            convert(images, levels)


@pytest.mark.parametrize("convert", CONVERSIONS)
def test_conversions_leave_the_images_alone_and_take_empty_batches(convert):
    images = load("digits").test.images
    before = images.copy()
    convert(images, 17)
    np.testing.assert_array_equal(images, before)
    assert convert(images[:0], 17).shape == (0, 8, 8, 1)


@pytest.mark.parametrize("draw", [binarize, dequantize])
def test_noise_from_a_generator_of_another_kind_or_device_is_refused(draw):
    images = np.zeros((5, 8, 8, 1), np.uint8)
    for rng in (0, np.random.default_rng(0), np.random.RandomState(0)):
        name = type(rng).__name__
        with pytest.raises(TypeError, match=rf"^rng: expected a tinygen generator or None, got {name}$"):
            draw(images, 17, rng)
    with backend.device("strict"):
        rng = Generator(0)
    with pytest.raises(
        TypeError, match=r"^rng: expected a generator on the device of the images, numpy, got "
    ):
        draw(images, 17, rng)


@pytest.mark.parametrize("convert", CONVERSIONS)
def test_conversions_on_every_device(convert, device):
    host = load("digits").test.images[:20]
    images = xp.asarray(host)
    with Generator(0), strict_cupy.forbid_transfers():
        out = convert(images, 17)
    assert out.shape == host.shape and out.dtype == "float32" and backend.device_of(out) == device
    if convert in (to_unit, threshold):
        np.testing.assert_array_equal(to_host(out), convert(host, 17))


# Static binarization ----------------------------------------------------------------------------------


def test_digits_binarized_once_never_change(device):
    tg.seed(5)
    binary = binarize_once(load("digits"))
    splits = (binary.train, binary.validation, binary.test)
    assert [hashlib.sha256(split.images.tobytes()).hexdigest()[:16] for split in splits] == [
        "82fbef05b01f2279",
        "6a206d5a9a479eed",
        "ab9e1c3947c660ea",
    ]
    assert backend.current_device().name == device


def test_binarized_once_is_a_data_set_of_two_levels():
    digits = load("digits")
    binary = binarize_once(digits)
    assert (binary.name, binary.levels, binary.source) == ("digits", 2, digits.source)
    for before, after in [
        (digits.train, binary.train),
        (digits.validation, binary.validation),
        (digits.test, binary.test),
    ]:
        assert after.images.dtype == np.uint8 and after.images.shape == before.images.shape
        assert not after.images.flags.writeable
        np.testing.assert_array_equal(after.labels, before.labels)
        certain = before.images % 16 == 0
        np.testing.assert_array_equal(after.images[certain], before.images[certain] / 16)
        # The number of ones is a sum of Bernoulli variables.
        p = to_unit(before.images, 17).astype(float)
        assert abs(after.images.sum() - p.sum()) < 4 * math.sqrt((p * (1 - p)).sum())
    np.testing.assert_array_equal(to_unit(binary.test.images, 2), threshold(binary.test.images, 2))
    # Each split has noise of its own.
    twice = binarize_once(replace(digits, test=digits.train))
    assert (twice.test.images != twice.train.images).any()


# Dequantization ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("u", [SMALLEST, np.float32(0.3), LARGEST])
def test_dequantized_pixels_can_be_read_back(u):
    for levels in range(2, 257):
        pixels = np.arange(levels, dtype=np.uint8)
        y = dequantize(pixels, levels, Constant(u))
        assert y.dtype == np.float32
        assert y.min() > 0 and y.max() < 1
        np.testing.assert_array_equal(np.floor(y * levels), pixels)
        np.testing.assert_array_equal(np.floor(y.astype(float) * levels), pixels)
        np.testing.assert_allclose(y, (pixels + u) / levels, atol=2e-5)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_dequantization_noise_is_uniform(levels):
    images = np.random.default_rng(0).integers(0, levels, (2000, 5), np.uint8)
    noise = dequantize(images, levels, Generator(0)) * levels - images
    assert stats.kstest(noise.ravel(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_log_density_of_dequantized_pixels_bounds_their_log_probability(levels):
    # With the density p(y) = 2y, P(x) = ∫ 2y dy from x / levels to (x + 1) / levels.
    pixels = np.arange(levels, dtype=np.uint8)
    log_P = np.log((pixels + 1.0) ** 2 - pixels.astype(float) ** 2) - 2 * math.log(levels)
    y = dequantize(np.tile(pixels, (4000, 1)), levels, Generator(0))
    bound = np.log(2 * y).mean(axis=0) - math.log(levels)
    # E_u log p(y) is in closed form too: ∫ log(x + u) du = (x + 1) log(x + 1) − x log x − 1.
    x = pixels.astype(float)
    integral = (x + 1) * np.log(x + 1) - x * np.log(np.maximum(x, 1)) - 1
    exact = math.log(2) + integral - 2 * math.log(levels)
    assert np.all(exact <= log_P)
    np.testing.assert_allclose(bound, exact, atol=4 / math.sqrt(4000))  # log u has variance 1


# Logits -----------------------------------------------------------------------------------------------


def batches_in(low, high):
    numbers = st.floats(low, high)
    return (
        st.integers(0, 3)
        .flatmap(lambda n: st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=n, max_size=n))
        .map(lambda rows: np.array(rows).reshape(-1, 2))
    )


def numerical_log_det(f, x, step=1e-6):
    """log |det J| of f at each of the examples of x, by central differences."""
    columns = [(f(x + step * e) - f(x - step * e)) / (2 * step) for e in np.eye(x.shape[1])]
    return np.linalg.slogdet(np.stack(columns, axis=-1))[1]


@pytest.mark.parametrize("alpha", ALPHAS)
@given(batches_in(1e-2, 1 - 1e-2))
def test_logit_has_the_log_determinant_of_its_jacobian_and_an_inverse(alpha, x):
    y, log_det = to_logit(x, alpha)
    s = alpha + (1 - 2 * alpha) * x
    np.testing.assert_allclose(y, np.log(s / (1 - s)), atol=1e-12)
    np.testing.assert_allclose(log_det, numerical_log_det(lambda x: to_logit(x, alpha)[0], x), atol=1e-6)
    back, back_log_det = from_logit(y, alpha)
    np.testing.assert_allclose(back, x, atol=1e-12)
    np.testing.assert_allclose(back_log_det, -log_det, atol=1e-12)
    np.testing.assert_allclose(
        back_log_det, numerical_log_det(lambda y: from_logit(y, alpha)[0], y), atol=1e-6
    )


@pytest.mark.parametrize("alpha", ALPHAS)
@given(batches_in(1e-2, 1 - 1e-2), batches_in(-4, 4))
@settings(max_examples=25)
def test_gradients_of_logit_and_inverse(alpha, x, y):
    check_gradients(lambda x: to_logit(x, alpha), x, order=2)
    check_gradients(lambda y: from_logit(y, alpha), y, order=2)


def test_logit_is_pytorchs():
    torch = pytest.importorskip("torch")
    from torch.autograd.functional import jacobian

    x, alpha = np.random.default_rng(0).random((5, 2, 3)), 0.05
    y, log_det = to_logit(x, alpha)
    for example, value, log_det_of_one in zip(torch.tensor(x), y, log_det):
        matrix = jacobian(lambda x: torch.logit(alpha + (1 - 2 * alpha) * x), example).reshape(6, 6)
        np.testing.assert_allclose(value, torch.logit(alpha + (1 - 2 * alpha) * example), rtol=1e-12)
        np.testing.assert_allclose(log_det_of_one, torch.linalg.slogdet(matrix)[1], rtol=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_both_ends_are_exact_in_float32(alpha):
    x = np.array([[0, 1e-7, 1e-3, 0.5, 0.999, LARGEST, 1]], np.float32).T
    exact, exact_log_det = to_logit(x.astype(float), alpha)
    y, log_det = to_logit(x, alpha)
    assert y.dtype == log_det.dtype == np.float32
    np.testing.assert_allclose(y, exact, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(log_det, exact_log_det, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(exact[0], -exact[-1], rtol=1e-9)
    back, _ = from_logit(y, alpha)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, x, atol=5e-7 / (1 - 2 * alpha))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_uniform_intensities_stay_normalized_as_logits(alpha):
    # log p(y) = log |det ∂x/∂y| between logit(α) and logit(1 − α).
    reach = math.log((1 - alpha) / alpha)
    y = np.linspace(-reach, reach, 20_001)[:, None]
    assert np.trapezoid(np.exp(from_logit(y, alpha)[1]), y[:, 0]) == pytest.approx(1, abs=1e-6)


def test_logit_on_every_device(device):
    host = np.random.default_rng(0).random((4, 3, 2, 1), np.float32)
    with strict_cupy.forbid_transfers():
        x = tg.Tensor(host, requires_grad=True)
        y, log_det = to_logit(x, 0.05)
        back, _ = from_logit(y, 0.05)
        (y.sum() + log_det.sum()).backward()
    assert y.shape == host.shape and log_det.shape == (4,)
    assert y.dtype == log_det.dtype == x.grad.dtype == "float32"
    s = 0.05 + 0.9 * host
    np.testing.assert_allclose(y.numpy(), np.log(s / (1 - s)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(back.numpy(), host, atol=1e-6)
    # ∂/∂x of y + log y' = y' + y'' / y', where y' = 0.9 / (s (1 − s))
    expected = 0.9 / (s * (1 - s)) * (1 - (1 - 2 * s))
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("function, name", [(to_logit, "x"), (from_logit, "y")])
def test_logit_refuses_bad_input(function, name):
    good = np.full((2, 3), 0.5)
    for alpha in (0, 0.5, -0.1, 1, math.nan):
        with pytest.raises(ValueError, match=r"^alpha: expected a number above 0 and below 1/2, got "):
            function(good, alpha)
    with pytest.raises(
        TypeError, match=rf"^{name}: expected a Tensor or an array of floating .*, got uint8$"
    ):
        function(good.astype(np.uint8), 0.05)
    with pytest.raises(TypeError, match=rf"^{name}: expected a Tensor or an array of floating .*, got list$"):
        function([[0.5]], 0.05)
    with pytest.raises(ValueError, match=rf"^{name}: expected a batch \(N, ...\), got a scalar$"):
        function(tg.Tensor(0.5), 0.05)


def test_logit_refuses_what_is_no_intensity():
    for bad in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match=rf"^x: expected values in \[0, 1\], got {bad}$"):
            to_logit(tg.Tensor(np.array([[0.5, bad]])), 0.05)


# Bits -------------------------------------------------------------------------------------------------


def test_a_uniform_density_is_log2_of_the_levels():
    # Of D dequantized pixels, log p(y) = 0.
    for levels, bits in ((2, 1), (256, 8)):
        assert bits_per_dimension(0.0 - 12 * math.log(levels), 12) == pytest.approx(bits, rel=1e-12)


def test_bits_of_tensors_and_arrays(device):
    log_prob = np.array([-1.0, -2.0], "float32")
    bits = bits_per_dimension(tg.Tensor(log_prob), 4)
    assert bits.dtype == "float32"
    np.testing.assert_allclose(bits.numpy(), -log_prob / (4 * math.log(2)), rtol=1e-6)
    np.testing.assert_array_equal(to_host(bits_per_dimension(xp.asarray(log_prob), 4)), bits.numpy())
