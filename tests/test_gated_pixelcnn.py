"""Gated PixelCNN: what its pixels see, by gradients, beside PixelCNN with its blind spot; normalization;
derivatives; and draws that computing each activation once does not change."""

import numpy as np
import pytest
from autoregressive import FAMILIES, batch, every_image, labels_for, shaken
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from strict_cupy import forbid_transfers

import tinygen as tg
from tinygen import optim
from tinygen.backend import Generator, device_of, to_host, xp
from tinygen.gradients import check_gradients
from tinygen.models.autoregressive.conditionals import categorical
from tinygen.models.autoregressive.gated_pixelcnn import GatedPixelCNN, gated
from tinygen.models.autoregressive.pixelcnn import PixelCNN


@st.composite
def networks(draw, side=4, layers=3, most_colors=3):
    """The arguments of a GatedPixelCNN but for its family and labels."""
    colors = draw(st.integers(1, most_colors))
    return {
        "shape": (draw(st.integers(1, side)), draw(st.integers(1, side)), colors),
        "channels": colors * draw(st.integers(1, 2)),
        "layers": draw(st.integers(1, layers)),
        "first": draw(st.sampled_from([3, 5] if colors == 1 else [1, 3, 5])),
        "size": draw(st.sampled_from([1, 3, 5])),
    }


# What a pixel sees --------------------------------------------------------------------------------


def seen(model):
    """Whether the conditional of each value (i, j, c) moves with each value (k, m, e), by exact gradients, in
    one of four images."""
    x = tg.Tensor(batch("bernoulli", 4, model.shape, "float64"), requires_grad=True)
    logits = model.conditionals(x, labels_for(model, 4)).logits
    moves = np.zeros(2 * model.shape, bool)
    for d in np.ndindex(model.shape):
        (x_bar,) = tg.grad(logits[(slice(None), *d)].sum(), x, retain_graph=True)
        moves[d] = (x_bar.numpy() != 0).any(axis=0)
    return moves


def before(shape):
    """Whether (k, m, e) comes before (i, j, c) in raster order, and in a pixel in the order of colors."""
    order = np.arange(np.prod(shape))
    return (order < order[:, None]).reshape(2 * shape)


@given(networks(), st.integers(0, 2), st.integers(0, 99))
def test_a_value_sees_exactly_zero_of_itself_and_later_ones(options, labels, seed):
    model = shaken(GatedPixelCNN(labels=labels, **options), 0.3, seed).astype("float64")
    assert not (seen(model) & ~before(model.shape)).any()


@pytest.mark.parametrize("colors", [1, 2, 3])
@pytest.mark.parametrize(("layers", "first", "size"), [(1, 3, 1), (1, 7, 3), (2, 3, 3), (3, 3, 3), (2, 3, 5)])
def test_every_earlier_value_within_reach_is_seen_and_none_beyond(colors, layers, first, size):
    model = GatedPixelCNN((6, 7, colors), 16 * colors, layers, first=first, size=size)
    columns = (first + (layers - 1) * (size - 1)) // 2
    i, j, _, k, m, _ = np.indices(2 * model.shape)
    within = (abs(j - m) <= columns) & (i - k <= columns + 1)
    np.testing.assert_array_equal(seen(shaken(model).astype("float64")), before(model.shape) & within)


def test_pixelcnn_has_a_blind_spot_and_gated_pixelcnn_has_none():
    """With 3x3 kernels the view of PixelCNN moves a column to the right for each row upwards, no more, in
    however many layers (OKVEGK figure 1)."""
    shape = (6, 6, 1)
    plain = shaken(PixelCNN(shape, 16, 6, first=3)).astype("float64")
    i, j, _, k, m, _ = np.indices(2 * shape)
    blind = before(shape) & (m - j > i - k)
    assert blind.sum() > 0.1 * before(shape).sum()
    np.testing.assert_array_equal(seen(plain), before(shape) & ~blind)
    np.testing.assert_array_equal(
        seen(shaken(GatedPixelCNN(shape, 16, 6, first=3)).astype("float64")), before(shape)
    )


def test_a_gate_belongs_to_the_color_whose_features_it_gates():
    a = np.arange(8.0).reshape(1, 1, 1, 8) / 4
    f, g = a[..., [0, 1, 4, 5]], a[..., [2, 3, 6, 7]]
    np.testing.assert_allclose(gated(a, 2), np.tanh(f) / (1 + np.exp(-g)), rtol=1e-12)


# Normalization ------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [0, 2])
@pytest.mark.parametrize("shape", [(2, 2, 1), (3, 3, 1), (2, 2, 2), (1, 3, 3)])
def test_the_probabilities_of_all_binary_images_sum_to_1(shape, labels):
    model = shaken(GatedPixelCNN(shape, 6, 3, labels=labels, first=3)).astype("float64")
    x = every_image(2, shape).astype("float64")
    totals = []
    for label in range(labels) or [None]:
        log_p = model.log_prob(x, None if label is None else np.full(len(x), label)).numpy()
        assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-12)
        totals.append(log_p)
    if labels:
        assert (totals[0] != totals[1]).any()


@pytest.mark.parametrize("shape", [(2, 3, 1), (1, 2, 3)])
def test_the_probabilities_of_all_images_of_levels_sum_to_1(shape):
    model = shaken(GatedPixelCNN(shape, 6, 2, categorical(3))).astype("float64")
    assert np.exp(model.log_prob(every_image(3, shape)).numpy()).sum() == pytest.approx(1, abs=1e-12)


# Derivatives --------------------------------------------------------------------------------------


@settings(max_examples=4)
@given(
    options=networks(side=2, layers=2, most_colors=2),
    family=st.sampled_from(sorted(FAMILIES)),
    labels=st.integers(0, 2),
    n=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_the_loss_passes_the_check_to_second_order(options, family, labels, n, seed, device):
    options = {**options, "channels": options["shape"][2], "first": 3, "size": min(options["size"], 3)}
    model = shaken(GatedPixelCNN(family=FAMILIES[family], labels=labels, **options), 0.7, seed)
    x = batch(family, n, model.shape, "float64", seed)
    model.astype("float64")
    check_gradients(lambda: model.loss(x, labels_for(model, n)), params=model, order=2)


def test_a_layer_of_both_stacks_equals_pytorchs_masked_convolutions():
    """One layer, and the output, by full kernels whose masks are written out."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    model = shaken(GatedPixelCNN((5, 4, 1), 3, 1, labels=2, first=3), 0.7)
    x, condition = batch("bernoulli", 6, model.shape), labels_for(model, 6)
    w = {name: torch.tensor(value) for name, value in model.state_dict().items()}
    w = {name.removeprefix("layers.0."): value for name, value in w.items()}

    def kernel(rows):
        return rows.permute(3, 2, 0, 1)  # (out, in, rows, columns)

    def gate(a):
        return torch.tanh(a[:, :3]) * torch.sigmoid(a[:, 3:])

    images = torch.tensor(x).permute(0, 3, 1, 2)
    rows_above = torch.zeros(5, 3, 1, 6)
    rows_above[:2] = w["above.weight"]  # two rows above the pixel's own, of a 5x3 kernel
    above = functional.conv2d(images, kernel(rows_above), w["above.bias"], padding=(2, 1))
    left_of_pixel = torch.tensor([1.0, 0, 0])[None, :, None, None]
    left = functional.conv2d(images, kernel(w["left.weight"] * left_of_pixel), w["left.bias"], padding=(0, 1))
    above = above + w["label.weight"][torch.tensor(condition)][:, :, None, None]
    linked = torch.einsum("nchw,cd->ndhw", above, w["link.weight"])
    h = gate(left + linked)
    h = functional.conv2d(h, kernel(w["onward.weight"]), w["onward.bias"])
    for name in ("middle", "last"):
        h = functional.conv2d(torch.relu(h), kernel(w[f"{name}.weight"]), w[f"{name}.bias"])
    expected = h.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(
        model.conditionals(x, condition).logits.numpy(), expected, rtol=1e-4, atol=1e-5
    )


# Draws --------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    options=networks(),
    family=st.sampled_from(sorted(FAMILIES)),
    labels=st.integers(0, 2),
    n=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_computing_each_activation_once_gives_the_naive_samplers_draws(
    options, family, labels, n, seed, device
):
    model = shaken(GatedPixelCNN(family=FAMILIES[family], labels=labels, **options), 0.3, seed)
    condition = labels_for(model, n)
    fast = model.sample(n, condition, Generator(seed))
    slow = model.sample_naively(n, condition, Generator(seed))
    assert device_of(fast) == device and fast.shape == (n, *model.shape)
    assert fast.dtype == slow.dtype == ("int64" if family == "categorical" else "float32")
    np.testing.assert_allclose(to_host(fast), to_host(slow), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(2, 2, 1), (1, 2, 2)])
def test_draws_have_the_models_probabilities_for_each_label(shape, device):
    model = shaken(GatedPixelCNN(shape, 4, 2, labels=2, first=3), 0.7)
    x = xp.asarray(every_image(2, shape).astype("float32"))
    condition = np.arange(10000) % 2
    draws = to_host(model.sample(10000, xp.asarray(condition), Generator(0))).reshape(10000, -1)
    for label in range(2):
        p = np.exp(model.log_prob(x, xp.asarray(np.full(len(x), label))).numpy().astype("float64"))
        codes = (draws[condition == label] @ [8, 4, 2, 1]).astype(int)
        counts = np.bincount(codes, minlength=16)
        assert stats.chisquare(counts, len(codes) * p / p.sum()).pvalue > 1e-3


@given(
    options=networks(),
    family=st.sampled_from(sorted(FAMILIES)),
    share=st.floats(0, 1),
    seed=st.integers(0, 9),
)
@settings(max_examples=30)
def test_a_completion_keeps_what_is_given(options, family, share, seed, device):
    model = shaken(GatedPixelCNN(family=FAMILIES[family], labels=2, **options), 0.3, seed)
    x, condition = batch(family, 3, model.shape, seed=seed), labels_for(model, 3)
    known = np.random.default_rng(seed).random(model.shape) < share
    completed = to_host(model.complete(x, xp.asarray(known), condition, Generator(seed)))
    np.testing.assert_allclose(completed[:, known], to_host(x)[:, known], rtol=1e-6)
    nothing = xp.zeros(model.shape, bool)
    drawn = model.complete(x, nothing, condition, Generator(seed))
    assert (to_host(drawn) == to_host(model.sample(3, condition, Generator(seed)))).all()


# State, dtypes, devices ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_and_shapes(family, dtype, device):
    model = GatedPixelCNN((3, 4, 3), 6, 2, FAMILIES[family], labels=2).astype(dtype)
    x, condition = batch(family, 3, model.shape, dtype), labels_for(model, 3)
    loss = model.loss(x, condition)
    assert loss.dtype == dtype and model.log_prob(x, condition).shape == (3,)
    loss.backward()
    assert all(p.grad.dtype == dtype and p.grad.shape == p.shape for p in model.parameters())
    assert model.log_prob(x[:0], condition[:0]).shape == (0,)


def test_training_steps_bring_nothing_to_the_host_and_learn_what_the_labels_mean(device):
    """Images of one pixel that repeats: the label is its value."""
    tg.seed(0)
    model = GatedPixelCNN((2, 3, 1), 8, 2, labels=2, first=3)
    optimizer = optim.Adam(model.parameters(), lr=3e-2)
    condition = xp.asarray(np.arange(20) % 2)
    x = xp.zeros((20, 2, 3, 1), "float32") + condition[:, None, None, None].astype("float32")
    with forbid_transfers():
        for _ in range(40):
            optimizer.zero_grad()
            model.loss(x, condition).backward()
            optimizer.step()
    assert model.loss(x, condition).item() < 0.05
    assert model.loss(x, 1 - condition).item() > 2  # at least the first pixel is a surprise
    assert (to_host(model.sample(20, condition, Generator(0))) == to_host(x)).mean() > 0.95


def test_a_state_brings_the_weights_of_labels_along():
    tg.seed(0)
    model, other = (GatedPixelCNN((3, 3, 1), 4, 2, labels=3) for _ in range(2))
    x, condition = batch("bernoulli", 4, model.shape), labels_for(model, 4)
    expected = model.log_prob(x, condition).numpy()
    assert (other.log_prob(x, condition).numpy() != expected).any()
    other.load_state_dict(model.state_dict())
    assert (other.log_prob(x, condition).numpy() == expected).all()


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": (3, 3)}, r"GatedPixelCNN: shape: expected \(H, W, colors\), got \(3, 3\)"),
        ({"shape": (3, 0, 1)}, "width: expected an int of at least 1, got 0"),
        ({"channels": 0}, "channels: expected an int of at least 1, got 0"),
        ({"shape": (3, 3, 3), "channels": 4}, "GatedPixelCNN: channels: expected a multiple of 3, got 4"),
        ({"layers": 0}, "layers: expected an int of at least 1, got 0"),
        ({"labels": -1}, "labels: expected an int of at least 0, got -1"),
        ({"first": 4}, "size: expected odd numbers, got"),
        ({"size": 2}, "size: expected odd numbers, got"),
        ({"size": (3, 3)}, r"size: expected an int of at least 1, got \(3, 3\)"),
        ({"first": "7"}, "first: expected an int of at least 1, got '7'"),
    ],
)
def test_a_model_that_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        GatedPixelCNN(**{"shape": (3, 3, 1), "channels": 6, **options})


ZEROS = np.zeros((2, 3, 3, 1), "float32")


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (ZEROS + 0.5, r"GatedPixelCNN: x: expected zeros and ones, got 0\.5"),
        (ZEROS[:, :2], r"x: expected float32\[N, 3, 3, 1\], got float32\[2, 2, 3, 1\]"),
        (ZEROS.astype("float64"), r"x: expected float32\[N, 3, 3, 1\], got float64\[2, 3, 3, 1\]"),
    ],
)
def test_an_x_that_does_not_fit_is_refused(x, words):
    model = GatedPixelCNN((3, 3, 1), 4, 2)
    for function in (model.loss, lambda x: model.complete(x, np.ones((3, 3, 1), bool))):
        with pytest.raises(ValueError, match=words):
            function(x)


@pytest.mark.parametrize(
    ("labels", "condition", "words"),
    [
        (0, np.zeros(2, int), r"condition: expected None, for a model without labels, got int64\[2\]"),
        (3, None, r"condition: expected integers of shape \(2,\), got None"),
        (3, np.zeros(3, int), r"condition: expected integers of shape \(2,\), got int64\[3\]"),
        (3, np.array([0, 3]), "condition: expected labels from 0 to 2, got 0 to 3"),
    ],
)
def test_a_wrong_condition_is_refused(labels, condition, words):
    model = GatedPixelCNN((3, 3, 1), 4, 2, labels=labels)
    for function in (
        lambda: model.loss(ZEROS, condition),
        lambda: model.sample(2, condition),
        lambda: model.complete(ZEROS, np.ones((3, 3, 1), bool), condition),
    ):
        with pytest.raises(ValueError, match=words):
            function()
