"""PixelCNN: what each pixel sees, and what it does not, from the network's structure and by gradients."""

import math

import numpy as np
import pytest
from autoregressive import shaken
from hypothesis import given, settings
from hypothesis import strategies as st
from strict_cupy import forbid_transfers

import tinygen as tg
from tinygen import optim
from tinygen.backend import xp
from tinygen.models.autoregressive.conditionals import categorical
from tinygen.models.autoregressive.pixelcnn import PixelCNN, ResidualBlock


def nothing_cancels(module):
    """All parameters above 0: what there is a path to has a gradient above 0."""
    for p in module.parameters():
        p.data = 0.1 * abs(p.data) + 0.1
    return module


def bits(n, *shape, dtype="float32", seed=0):
    return xp.asarray(np.random.default_rng(seed).integers(0, 2, (n, *shape)).astype(dtype))


def seen_by_gradients(model, seed=0):
    """[d, e]: whether the conditional of value d, in raster order, moves with value e."""
    x = tg.Tensor(np.random.default_rng(seed).random((1, *model.shape)).astype("float32"), requires_grad=True)
    parameters = model.parameters_of(x, ()).sum(axis=-1).reshape(-1)
    seen = np.zeros((x.size, x.size), bool)
    for d in range(x.size):
        (x_bar,) = tg.grad(parameters[d], x, retain_graph=True)
        seen[d] = x_bar.numpy().ravel() != 0
    return seen


def connections(shape, mask, size):
    """[d, e]: whether a masked convolution leads from value e to value d, from the paper's words: to the
    pixels before it in the order of reading that its kernel spans, and in the pixel itself to the colors
    before it, under "B" to its own too."""
    values = list(np.ndindex(shape))
    leads = np.zeros((len(values),) * 2, bool)
    for d, (i, j, c) in enumerate(values):
        for e, (k, m, color) in enumerate(values):
            within = abs(k - i) <= size // 2 and abs(m - j) <= size // 2
            earlier = color <= c if mask == "B" else color < c
            leads[d, e] = within and ((k, m) < (i, j) or ((k, m) == (i, j) and earlier))
    return leads


def reachable(model, first, size):
    """[d, e]: whether a chain of connections leads from value e to value d. The residual connections lead
    from a value to itself, as does "B"."""
    leads = connections(model.shape, "A", first)
    for _ in model.blocks:
        leads = connections(model.shape, "B", size) @ leads
    return connections(model.shape, "B", 1) @ leads


# Structure ------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3])),
    blocks=st.integers(1, 3),
    first=st.sampled_from([3, 5, 7]),
    size=st.sampled_from([1, 3, 5]),
)
def test_a_pixel_sees_exactly_what_the_masks_lead_to(shape, blocks, first, size):
    model = nothing_cancels(PixelCNN(shape, 2 * shape[2], blocks, first=first, size=size))
    seen = seen_by_gradients(model)
    np.testing.assert_array_equal(seen, reachable(model, first, size))
    assert not np.triu(seen).any()  # neither its own value nor a later one


@settings(max_examples=20)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3])),
    levels=st.integers(2, 3),
    seed=st.integers(0, 99),
)
def test_no_conditional_depends_on_its_own_value_or_later_ones(shape, levels, seed):
    model = shaken(PixelCNN(shape, 4 * shape[2], 2, categorical(levels)), seed=seed)
    assert not np.triu(seen_by_gradients(model, seed)).any()  # exactly 0


def test_with_random_weights_a_pixel_sees_all_within_reach_but_the_blind_spot():
    """n layers of 3x3 see n columns to both sides and n rows up, but d rows up only d to the right."""
    blocks = 2
    n = 1 + blocks
    model = shaken(PixelCNN((6, 9, 1), 32, blocks, first=3), 0.5)
    i, j = 4, 4
    seen = seen_by_gradients(model).reshape(6, 9, 6, 9)[i, j]
    for k, m in np.ndindex(seen.shape):
        up, right = i - k, m - j
        within = 0 <= up <= n and abs(right) <= n
        before = up > 0 or right < 0
        blind = right > up
        assert seen[k, m] == (within and before and not blind)
    #   the row of the pixel, and the three above it
    picture = ["·▪▪▪▪▪▪▪·", "·▪▪▪▪▪▪··", "·▪▪▪▪▪···", "·▪▪▪·····"]
    np.testing.assert_array_equal(seen[1:5], [[c == "▪" for c in row] for row in picture])
    assert not seen[0].any() and not seen[5].any()


def test_colors_of_a_pixel_are_seen_in_their_order():
    model = shaken(PixelCNN((1, 2, 3), 24, 2))
    seen = seen_by_gradients(model)
    np.testing.assert_array_equal(seen, np.tril(np.ones((6, 6), bool), -1))


def test_a_residual_block_starts_from_its_input():
    block = shaken(ResidualBlock(4, 1, 3))
    for p in block.widen.parameters():
        p.data = xp.zeros(p.shape, p.dtype)
    h = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype("float32")
    np.testing.assert_array_equal(block(h, lambda layer, x: layer(x)).numpy(), h)


def test_the_sizes_are_the_papers():
    model = PixelCNN((28, 28, 1), channels=32, blocks=2)
    shapes = {name: p.shape for name, p in model.named_parameters() if name.endswith("weight")}
    assert shapes == {
        "first.weight": (7, 7, 1, 32),
        "blocks.0.narrow.weight": (1, 1, 32, 16),
        "blocks.0.across.weight": (3, 3, 16, 16),
        "blocks.0.widen.weight": (1, 1, 16, 32),
        "blocks.1.narrow.weight": (1, 1, 32, 16),
        "blocks.1.across.weight": (3, 3, 16, 16),
        "blocks.1.widen.weight": (1, 1, 16, 32),
        "middle.weight": (1, 1, 32, 32),
        "last.weight": (1, 1, 32, 1),
    }


# Figures --------------------------------------------------------------------------------------------


def test_the_loss_equals_pytorchs_with_masked_weights():
    torch = pytest.importorskip("torch")
    model = shaken(PixelCNN((5, 6, 1), 8, 2), 0.3)
    x = bits(3, 5, 6, 1)
    loss = model.loss(x)
    loss.backward()
    weights = []

    def convolve(layer, h):
        height, width, *_ = layer.weight.shape
        mask = torch.ones(height, width, 1, 1)
        mask[height // 2, width // 2 + (layer.mask == "B") :] = 0
        mask[height // 2 + 1 :] = 0
        weights.append((layer.weight, torch.tensor(layer.weight.numpy(), requires_grad=True)))
        w = (weights[-1][1] * mask).permute(3, 2, 0, 1)
        return torch.nn.functional.conv2d(h, w, torch.tensor(layer.bias.numpy()), padding=height // 2)

    given = torch.tensor(x).permute(0, 3, 1, 2)
    h = convolve(model.first, given)
    for block in model.blocks:
        y = h
        for layer in (block.narrow, block.across, block.widen):
            y = convolve(layer, torch.relu(y))
        h = h + y
    logits = convolve(model.last, torch.relu(convolve(model.middle, torch.relu(h))))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, given, reduction="sum") / 3
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert len(weights) == 9
    for ours, theirs in weights:
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_a_training_step_brings_nothing_to_the_host(device):
    model = PixelCNN((4, 5, 3), 12, 2, categorical(4))
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    x = xp.asarray(np.random.default_rng(0).integers(0, 4, (6, 4, 5, 3)).astype("uint8"))
    model.loss(x)  # on the CPU alone its values are looked at
    with forbid_transfers():
        for _ in range(2):
            optimizer.zero_grad()
            model.loss(x).backward()
            optimizer.step()


def test_training_reaches_the_entropy_of_a_chain():
    # A pixel copies the one above with probability 0.9; the first row is of fair coins.
    rng = np.random.default_rng(0)
    flips = rng.random((3000, 4, 3, 1)) < np.array([0.5, *3 * [0.1]])[:, None, None]
    x = (np.cumsum(flips, axis=1) % 2).astype("float32")
    tg.seed(0)
    model = PixelCNN((4, 3, 1), 16, 1, first=3)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        model.loss(x[rng.integers(0, 1500, 100)]).backward()
        optimizer.step()
    entropy = 3 * math.log(2) - 9 * (0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert entropy == pytest.approx(5.005, abs=0.001)
    assert -model.log_prob(x[1500:]).numpy().mean() == pytest.approx(entropy, abs=0.15)


# What is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": (4, 4)}, r"PixelCNN: shape: expected \(H, W, colors\), got \(4, 4\)"),
        ({"shape": (4, 0, 1)}, "PixelCNN: width: expected an int of at least 1, got 0"),
        ({"channels": 7}, "PixelCNN: channels: expected a multiple of 2, got 7"),
        ({"shape": (4, 4, 3), "channels": 8}, "PixelCNN: channels: expected a multiple of 6, got 8"),
        ({"channels": 0}, "PixelCNN: channels: expected an int of at least 1, got 0"),
        ({"blocks": 0}, "PixelCNN: blocks: expected an int of at least 1, got 0"),
        ({"first": 4}, "size: expected odd numbers, got 4"),
        ({"size": 2}, "size: expected odd numbers, got 2"),
        ({"first": 1}, "size: expected 3 or more for mask 'A' of one color, got 1"),
    ],
)
def test_a_model_that_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        PixelCNN(**{"shape": (4, 4, 1), "channels": 4, "blocks": 1, **options})


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.full((2, 3, 4, 3), 4), "PixelCNN: x: expected integers from 0 to 3, got 4"),
        (np.full((2, 3, 4, 3), -1), "PixelCNN: x: expected integers from 0 to 3, got -1"),
        (np.zeros((2, 3, 4, 1), int), r"x: expected integers\[N, 3, 4, 3\], got int64\[2, 3, 4, 1\]"),
        (np.zeros((2, 3, 4, 3)), r"x: expected integers\[N, 3, 4, 3\], got float64\[2, 3, 4, 3\]"),
    ],
)
def test_an_x_that_does_not_fit_is_refused(x, words):
    model = PixelCNN((3, 4, 3), 6, 1, categorical(4))
    for function in (model.log_prob, model.loss, lambda x: model.complete(x, np.ones((3, 4, 3), bool))):
        with pytest.raises(ValueError, match=words):
            function(x)
