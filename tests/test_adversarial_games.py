"""Games as they are played: turns and what they change, training, resuming, conditions, networks."""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
from adversarial import GAMES, Watching, games, mlp, normal
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from strict_cupy import forbid_transfers

import tinygen as tg
from tinygen import autodiff, backend, nn, ops, training
from tinygen.backend import Generator, xp
from tinygen.models.adversarial import (
    DCGAN,
    GAN,
    LSGAN,
    SNGAN,
    WGAN,
    WGANGP,
    HingeGAN,
    dcgan_discriminator,
    dcgan_generator,
    interpolate,
    spectrally_normalized,
    theory,
)
from tinygen.models.adversarial.dcgan import resolutions


def values(module):
    return [p.numpy() for p in module.parameters()]


def assert_same(before, after):
    assert len(before) == len(after)
    for a, b in zip(before, after):
        assert_array_equal(a, b)


def real(n, size=2, seed=0):
    return normal(n, size, seed=seed).astype("float32") + 3


class Counting(autodiff.Observer):
    """Which leaves rules have sent a gradient to."""

    def __init__(self):
        self.leaves = set()

    def pulled(self, node, x, x_bar):
        self.leaves.add(id(node.sources[x]))

    def reached_any(self, player):
        return any(id(p._source) in self.leaves for p in player.parameters())


# Turns --------------------------------------------------------------------------------------------


@games
def test_a_turn_changes_one_player_and_computes_nothing_for_the_other(kind):
    tg.seed(0)
    game = with_state(kind)
    of_critic, of_generator = game.optimizers()
    x, y = real(6, 3), np.arange(6) % 2
    for turn, mover, other in [
        (lambda: game.turn_of_the_critic(x, y, of_critic), game.critic, game.generator),
        (lambda: game.turn_of_the_generator(6, y, of_generator), game.generator, game.critic),
    ]:
        game.zero_grad()
        moved, kept, counting = values(mover), other.state_dict(), Counting()
        with autodiff.observed(counting):
            loss = turn()
        assert loss.shape == () and loss.dtype == "float32" and not loss.requires_grad
        assert_same(kept.values(), other.state_dict().values())  # running statistics and vectors too
        assert all(p.grad is None for p in other.parameters())
        assert counting.reached_any(mover) and not counting.reached_any(other)
        assert any((a != b).any() for a, b in zip(moved, values(mover)))


@pytest.mark.parametrize("kind", GAMES)
@pytest.mark.parametrize("critic_steps", [1, 3])
def test_an_iteration_has_a_turn_of_the_critic_for_each_minibatch_and_then_one_of_the_generator(
    kind, critic_steps
):
    turns = []
    game = GAMES[kind](mlp(2, 4, 2), mlp(2, 5, 1), 2, critic_steps=critic_steps)
    of_critic, of_generator = game.turn_of_the_critic, game.turn_of_the_generator
    game.turn_of_the_critic = lambda x, y, o: turns.append(x) or of_critic(x, y, o)
    game.turn_of_the_generator = lambda n, y, o: turns.append(n) or of_generator(n, y, o)
    x = real(4 * critic_steps)
    figures = game.iteration(x, game.optimizers())
    assert turns[-1] == 4 and len(turns) == critic_steps + 1
    assert_array_equal(np.concatenate(turns[:-1]), x)
    assert len(figures) == 2 and all(math.isfinite(loss.item()) for loss in figures.values())


def test_the_published_settings():
    def of(kind):
        game = kind(mlp(2, 3), mlp(3, 1), 2)
        of_critic, of_generator = game.optimizers()
        settings = [{**vars(rule), "params": 0, "t": 0} for rule in (of_critic, of_generator)]
        for name in ("lr", "betas", "momentum", "alpha", "eps"):
            assert settings[0].get(name) == settings[1].get(name)
        return game, of_critic

    game, rule = of(WGAN)
    assert (game.c, game.critic_steps, rule.lr, type(rule)) == (0.01, 5, 0.00005, tg.optim.RMSProp)
    game, rule = of(WGANGP)
    assert (game.penalty, game.critic_steps, rule.lr, rule.betas) == (10, 5, 0.0001, (0, 0.9))
    game, rule = of(LSGAN)
    assert (game.a, game.b, game.c, rule.lr, rule.betas) == (0, 1, 1, 0.001, (0.5, 0.999))
    game, rule = of(SNGAN)
    assert (game.objective, game.critic_steps, rule.lr, rule.betas) == ("hinge", 1, 0.0002, (0.5, 0.999))
    _, rule = of(HingeGAN)
    assert (rule.lr, type(rule)) == (0.0002, tg.optim.RMSProp)
    _, rule = of(GAN)
    assert (rule.lr, rule.momentum) == (0.1, 0.5)
    assert (DCGAN(8).optimizers()[1].lr, DCGAN(8).optimizers()[1].betas) == (0.0002, (0.5, 0.999))


def test_sampling_leaves_the_game_as_it_is():
    game = DCGAN(8, latents=3, width=2)
    before = game.state_dict()
    with Generator(0):
        assert game.sample(5).shape == (5, 8, 8, 1)
    assert_same(before.values(), game.state_dict().values())
    assert game.eval().sample(0).shape == (0, 8, 8, 1)
    assert_array_equal(game.sample(3, rng=Generator(1)), game.sample(3, rng=Generator(1)))


def test_dropout_in_the_discriminator_works_in_training_alone():
    critic = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Dropout(0.5), nn.Linear(64, 1))
    game, x = GAN(mlp(2, 2), critic, 2), real(4)
    assert (game.judge(x).data != game.judge(x).data).any()
    with Generator(5):
        first = game.judge(x)
    with Generator(5):
        assert_array_equal(game.judge(x).data, first.data)
    game.eval()
    assert_array_equal(game.judge(x).data, game.judge(x).data)


# Wasserstein --------------------------------------------------------------------------------------


class Clipping(WGAN):
    """Notes the largest parameters before and after each clipping, for each parameter."""

    def clip_weights(self):
        before = [np.abs(p).max() for p in values(self.critic)]
        super().clip_weights()
        self.notes = [*getattr(self, "notes", []), (before, [np.abs(p).max() for p in values(self.critic)])]


def test_all_parameters_are_clipped_after_each_step_of_the_critic():
    game = Clipping(mlp(2, 3), mlp(3, 4, 1), 2, c=0.02)
    optimizers = game.optimizers(0.05)  # large steps, so that all reach the bound
    game.iteration(real(10, 3), optimizers)
    assert len(game.notes) == 5
    c = np.float32(0.02)
    for before, after in game.notes:
        assert (np.array(before[:2]) > c).all() and (np.array(after) <= c).all()
    assert game.critic.layers[0].bias.data.max() == c  # biases too
    game.iteration(real(10, 3), optimizers)  # the optimizer goes on with the same arrays
    assert len(game.notes) == 10


def test_a_change_by_clipping_is_noticed_by_backward():
    game = WGAN(mlp(2, 3), mlp(3, 4, 1), 2)
    loss = game.generator_loss(game.generate(game.latent(2)))
    game.clip_weights()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def constant_generator(value):
    generator = nn.Linear(1, 1)
    generator.weight.data, generator.bias.data = np.zeros((1, 1)), np.full(1, value)
    return generator


@pytest.mark.parametrize(("mean", "other"), [(2.0, 0.5), (-1.0, 3.0)])
def test_a_clipped_linear_critic_finds_c_times_the_distance_of_the_means(mean, other):
    game = WGAN(constant_generator(other), nn.Linear(1, 1), 1, c=0.1)
    optimizer, _ = game.optimizers(0.01)
    game.critic.weight.data = np.full((1, 1), 0.05 * np.sign(other - mean))  # the wrong way round
    x = np.full((8, 1), mean, "float32")
    losses = []
    for _ in range(100):
        losses.append(-game.turn_of_the_critic(x, None, optimizer).item())
        game.clip_weights()
    assert losses[-1] > losses[0]
    assert losses[-1] == pytest.approx(0.1 * abs(mean - other), rel=1e-5)


@pytest.mark.parametrize("kind", [WGAN, WGANGP])
def test_the_critics_estimate_grows_while_the_generator_waits(kind):
    tg.seed(0)
    game = kind(constant_generator(0.0), mlp(1, 16, 1), 1)
    optimizer, _ = game.optimizers(0.001)
    x = real(64, 1)
    estimates = []
    for step in range(150):
        with Generator(0, step):
            game.turn_of_the_critic(x, None, optimizer)
        if kind is WGAN:
            game.clip_weights()
        fake = ops.raw(game.generate(game.latent(64)))
        estimates.append((game.judge(x).mean() - game.judge(fake).mean()).item())
    assert estimates[-1] > max(estimates[0], 0) and estimates[-1] > estimates[len(estimates) // 3]
    if kind is WGANGP:  # W = E[x], and the slope is near to 1
        assert estimates[-1] == pytest.approx(x.mean(), rel=0.25)


def test_the_generators_turn_goes_where_the_critic_is_larger():
    critic = nn.Linear(1, 1)
    critic.weight.data = np.ones((1, 1))
    for kind in (WGAN, WGANGP, HingeGAN, GAN, LSGAN, SNGAN):
        game = kind(constant_generator(0.0), critic, 1)
        _, optimizer = game.optimizers(0.01)
        game.turn_of_the_generator(4, None, optimizer)
        assert game.generator.bias.data[0] > 0, kind


# Spectral normalization ---------------------------------------------------------------------------


class Pair(NamedTuple):
    first: nn.Module
    second: object


class Nested(nn.Module):
    """Layers held in all sorts of ways, one of them twice."""

    def __init__(self):
        self.direct = nn.Linear(4, 4)
        self.shared = self.direct
        self.many = [nn.Conv2d(1, 2, 3), (nn.ConvTranspose2d(2, 2, 2), nn.ReLU())]
        self.named = {"embedding": nn.Embedding(3, 4), "other": nn.BatchNorm(2)}
        self.inner = nn.Sequential(nn.Linear(4, 2), nn.Sequential(nn.Conv1d(2, 2, 3)))
        self.normalized = nn.WeightNorm(nn.Linear(2, 2))
        self.pair = Pair(nn.Linear(2, 2), "name")


def test_layers_are_normalized_wherever_they_are_held():
    network = Nested()
    names = [name for name, _ in network.named_parameters()]
    parameters = {id(p) for p in network.parameters()}
    assert spectrally_normalized(network) is network
    normalized = [module for module in network._modules() if isinstance(module, nn.SpectralNorm)]
    assert len(normalized) == 7
    assert network.shared is network.direct and isinstance(network.direct, nn.SpectralNorm)
    assert isinstance(network.many[1], tuple) and isinstance(network.many[1][0], nn.SpectralNorm)
    assert isinstance(network.pair.first, nn.SpectralNorm) and network.pair.second == "name"
    assert isinstance(network.named["other"], nn.BatchNorm) and isinstance(network.normalized, nn.WeightNorm)
    assert {id(p) for p in network.parameters()} == parameters and len(names) == len(parameters)
    spectrally_normalized(network)  # and only once
    assert len([m for m in network._modules() if isinstance(m, nn.SpectralNorm)]) == 7


def test_a_network_that_is_one_layer_is_normalized():
    assert isinstance(spectrally_normalized(nn.Linear(2, 1)), nn.SpectralNorm)


def test_networks_that_cannot_be_normalized_are_refused_and_left_alone():
    with pytest.raises(ValueError, match="network: expected layers Linear, Conv1d"):
        spectrally_normalized(nn.Sequential(nn.ReLU()))
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1, init=np.zeros))
    with pytest.raises(ValueError, match="expected a weight other than 0"):
        spectrally_normalized(network)
    assert all(type(layer) is nn.Linear for layer in network.layers)


def vectors(game):
    return [m.u.numpy() for m in game.critic._modules() if isinstance(m, nn.SpectralNorm)]


def test_the_power_iteration_moves_once_in_an_update_of_the_critic_alone():
    tg.seed(0)
    game = SNGAN(mlp(2, 4), mlp(4, 6, 5, 1), 2)
    of_critic, of_generator = game.optimizers()
    layer = game.critic.layers[2]
    _, expected, _ = nn.power_iteration(layer.as_matrix(layer.layer.weight.data), layer.u.numpy(), 1)
    game.turn_of_the_critic(real(6, 4), None, of_critic)
    assert_allclose(layer.u.data, expected, rtol=1e-6)
    before = vectors(game)
    game.turn_of_the_generator(6, None, of_generator)
    assert_same(before, vectors(game))
    game.sample(3)
    assert_same(before, vectors(game))


def test_real_and_generated_examples_are_judged_by_the_same_function():
    game = SNGAN(mlp(5, 4), mlp(7, 6, 1), 2, labels=3)
    x, y = real(5, 4), np.array([0, 1, 2, 1, 0])
    with nn.frozen_state():
        together = game.judge_both(x, x + 1, y)
        apart = game.judge(x, y), game.judge(x + 1, y)
    for a, b in zip(together, apart):
        assert_allclose(a.data, b.data, rtol=1e-5, atol=1e-6)
    a, b = game.judge_both(x, x, y)  # in training, too
    assert_array_equal(a.data, b.data)


def test_batch_normalization_sees_real_and_generated_examples_apart():
    game = GAN(mlp(2, 3), nn.Sequential(nn.Linear(3, 4), nn.BatchNorm(4), nn.Linear(4, 1)), 2)
    x, fake = real(6, 3), 5 + real(6, 3, seed=1)
    for together, apart in zip(game.judge_both(x, fake), (game.judge(x), game.judge(fake))):
        assert_array_equal(together.data, apart.data)


def test_running_statistics_of_the_critic_are_left_alone_in_the_generators_turn():
    game = DCGAN(8, latents=3, width=2)
    _, of_generator = game.optimizers()
    before = game.critic.state_dict()
    with Generator(0):
        game.turn_of_the_generator(4, None, of_generator)
    assert any("mean" in name for name in before)
    assert_same(before.values(), game.critic.state_dict().values())


def test_the_slope_of_the_critic_stays_near_to_1_at_most():
    tg.seed(0)
    game = SNGAN(mlp(2, 2), mlp(2, 16, 16, 1, activation=partial(nn.LeakyReLU, 0.2)), 2)
    optimizers = game.optimizers(0.01)
    for step in range(100):
        with Generator(0, step):
            game.iteration(real(32, seed=step), optimizers)
    x = tg.Tensor(real(500, seed=1), requires_grad=True)
    (slope,) = tg.grad(game.eval().judge(x).sum(), x)
    steepest = np.linalg.norm(slope.data, axis=1).max()
    assert 0.1 < steepest < 1.1


# Conditions ---------------------------------------------------------------------------------------


def test_labels_are_joined_to_vectors():
    game = GAN(Watching(5), Watching(4), 2, labels=3)
    y = np.array([2, 0])
    game.generate(np.float32([[1, 2], [3, 4]]), y)
    assert_array_equal(game.generator.seen[0], [[1, 2, 0, 0, 1], [3, 4, 1, 0, 0]])
    game.judge(np.float32([[7], [8]]), y)
    assert_array_equal(game.critic.seen[0], [[7, 0, 0, 1], [8, 1, 0, 0]])


def test_labels_are_joined_to_each_pixel_of_images():
    game = DCGAN(8, channels=2, latents=3, width=2, labels=4)
    x = normal(2, 8, 8, 2).astype("float32")
    joined = game._joined(x, np.array([3, 1]))
    assert joined.shape == (2, 8, 8, 6)
    assert_array_equal(joined[..., :2], x)
    assert (joined[0, ..., 2:] == [0, 0, 0, 1]).all() and (joined[1, ..., 2:] == [0, 1, 0, 0]).all()
    figures = game.iteration(x, game.optimizers(), np.array([3, 1]))
    assert all(math.isfinite(loss.item()) for loss in figures.values())
    assert game.sample(3, np.array([0, 1, 2])).shape == (3, 8, 8, 2)


def test_minibatches_keep_their_labels():
    game = WGAN(mlp(5, 2), mlp(5, 1), 2, labels=3, critic_steps=2)
    x, y = real(6), np.array([0, 1, 2, 2, 1, 0])
    parts = list(game.minibatches(x, y))
    assert_array_equal(np.concatenate([part for part, _ in parts]), x)
    assert [labels.tolist() for _, labels in parts] == [[0, 1, 2], [2, 1, 0]]


# Training -----------------------------------------------------------------------------------------


def play(game, optimizers, steps, size, labels=0):
    for step in steps:
        x = real(4 * game.critic_steps, size, seed=step)
        y = np.arange(len(x)) % labels if labels else None
        with Generator(7, step):
            game.iteration(x, optimizers, y)


def with_state(kind):
    """A game whose generator has batch normalization, whose critic has dropout."""
    generator = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm(6), nn.ReLU(), nn.Linear(6, 3))
    critic = nn.Sequential(nn.Linear(5, 8), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(8, 1))
    return GAMES[kind](generator, critic, 2, 2)


@games
def test_a_resumed_game_goes_on_to_the_same_bits(kind, tmp_path):
    tg.seed(0)
    whole = with_state(kind)
    of_whole = whole.optimizers()
    play(whole, of_whole, range(1, 7), 3, labels=2)

    tg.seed(0)
    game = with_state(kind)
    optimizers = game.optimizers()
    play(game, optimizers, range(1, 4), 3, labels=2)
    names = "game", "critic", "generator"
    training.save(tmp_path / "game.npz", **dict(zip(names, (game, *optimizers))))
    tg.seed(1)
    resumed = with_state(kind)
    of_resumed = resumed.optimizers()
    state = training.load(tmp_path / "game.npz")
    for name, thing in zip(names, (resumed, *of_resumed)):
        thing.load_state_dict(state[name])
    play(resumed, of_resumed, range(4, 7), 3, labels=2)

    assert whole.state_dict().keys() == resumed.state_dict().keys()
    if kind.startswith("sn"):
        assert {"critic.layers.0.u", "critic.layers.0.v"} <= whole.state_dict().keys()
    assert "generator.layers.1.running_mean" in whole.state_dict()
    assert_same(whole.state_dict().values(), resumed.state_dict().values())
    for a, b in zip(of_whole, of_resumed):
        assert a.t == b.t
        assert_same(flat_arrays(a), flat_arrays(b))


def flat_arrays(optimizer):
    return [value for value in optimizer.state_dict().values() if isinstance(value, np.ndarray)]


@games
def test_a_game_is_played_on_every_device_without_transfers(kind, device):
    tg.seed(0)
    game = with_state(kind)
    optimizers = game.optimizers()
    x = xp.asarray(real(4 * game.critic_steps, 3))
    y = xp.asarray(np.arange(len(x)) % 2)
    before = values(game)
    with Generator(0, 1), forbid_transfers():
        figures = game.iteration(x, optimizers, y)
    assert all(math.isfinite(loss.item()) for loss in figures.values())
    assert any((a != b).any() for a, b in zip(before, values(game)))
    assert backend.to_host(game.sample(3, y[:3])).dtype == "float32"


def test_a_dcgan_is_played_on_every_device_without_transfers(device):
    tg.seed(0)
    game = DCGAN(8, latents=3, width=2)
    optimizers = game.optimizers()
    x = xp.asarray(np.tanh(normal(4, 8, 8, 1)).astype("float32"))
    with Generator(0, 1), forbid_transfers():
        game.iteration(x, optimizers)
        features = game.eval().features(x)
    assert features.shape == (4, 4 * (2 + 4)) and np.isfinite(backend.to_host(features)).all()


@pytest.mark.parametrize(
    ("kind", "steps", "rate", "tolerance"),
    [("non-saturating", 800, 0.01, 0.05), ("lsgan", 800, 0.01, 0.05), ("wgan-gp", 400, 0.03, 0.2)],
)
def test_a_game_learns_a_normal_distribution(kind, steps, rate, tolerance):
    tg.seed(0)
    settings = {"penalty": 0.1} if kind == "wgan-gp" else {}
    game = GAMES[kind](nn.Linear(1, 1), mlp(1, 32, 32, 1), 1, **settings)
    optimizers = [
        tg.optim.Adam(player.parameters(), lambda t, last=last: rate * (1 - (t - 1) / last), (0.5, 0.9))
        for player, last in ((game.critic, steps * game.critic_steps), (game.generator, steps))
    ]
    for step in range(steps):
        with Generator(0, step) as rng:
            game.iteration(3 + 0.5 * rng.normal((64 * game.critic_steps, 1)), optimizers)
    x = game.sample(5000, rng=Generator(1))[:, 0]
    distance = theory.wasserstein_1(x, stats.norm(3, 0.5).ppf((np.arange(5000) + 0.5) / 5000))
    assert distance < tolerance  # it was about 3


# Networks for images ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "expected"), [(8, [8, 4, 2]), (28, [28, 14, 7]), (32, [32, 16, 8, 4]), (64, [64, 32, 16, 8, 4])]
)
def test_resolutions(side, expected):
    assert resolutions(side) == expected


@pytest.mark.parametrize("side", [0, 1, 2, 6, 9, 30, 36])
def test_sides_that_cannot_be_halved_are_refused(side):
    with pytest.raises(
        ValueError, match=f"side: expected one to be halved twice, and to 7 or less, got {side}"
    ):
        resolutions(side)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (16, 3)])
def test_the_networks_fit_each_other(side, channels):
    generator, critic = dcgan_generator(5, side, channels, 4), dcgan_discriminator(channels, side, 4)
    x = generator(normal(3, 5).astype("float32"))
    assert x.shape == (3, side, side, channels) and abs(x.data).max() <= 1
    assert critic(x).shape == (3, 1)


def test_the_networks_are_those_of_the_paper():
    tg.seed(0)
    generator, critic = dcgan_generator(100, 64, 3, 128), dcgan_discriminator(3, 64, 64)

    def shapes(network, kind):
        return [layer.weight.shape for layer in network.layers if isinstance(layer, kind)]

    def batch_norms(network):
        return [layer.features for layer in network.layers if isinstance(layer, nn.BatchNorm)]

    assert shapes(generator, nn.Linear) == [(100, 4 * 4 * 1024)]
    transposed = shapes(generator, nn.ConvTranspose2d)
    assert transposed == [(4, 4, 512, 1024), (4, 4, 256, 512), (4, 4, 128, 256), (4, 4, 3, 128)]
    assert batch_norms(generator) == [1024, 512, 256, 128]  # not at the end
    assert shapes(critic, nn.Conv2d) == [(4, 4, 3, 64), (4, 4, 64, 128), (4, 4, 128, 256), (4, 4, 256, 512)]
    assert batch_norms(critic) == [128, 256, 512]  # not at the start
    kinds = nn.Linear, nn.Conv2d, nn.ConvTranspose2d
    layers = [layer for layer in (*generator.layers, *critic.layers) if isinstance(layer, kinds)]
    for layer in layers:
        weight = layer.weight.data
        assert weight.std() == pytest.approx(0.02, rel=0.1) and abs(weight.mean()) < 0.002


def test_features_are_the_pooled_maps_of_all_convolutions():
    tg.seed(0)
    game, x = DCGAN(16, width=2).eval(), np.tanh(normal(3, 16, 16, 1)).astype("float32")
    features = game.features(x)
    first = game.critic.layers[1](game.critic.layers[0](x)).numpy()  # 8x8, pooled to 4x4
    pooled = first.reshape(3, 4, 2, 4, 2, 2).max(axis=(2, 4)).reshape(3, -1)
    assert features.shape == (3, 4 * 4 * (2 + 4)) and type(features) is np.ndarray
    before = game.train().state_dict()
    game.features(x)
    assert_same(before.values(), game.state_dict().values())
    game.eval()
    assert_allclose(features[:, : pooled.shape[1]], pooled, rtol=1e-6)


def test_interpolated_codes(device):
    first, last = xp.asarray(normal(3)), xp.asarray(normal(3, seed=1))
    line = backend.to_host(interpolate(first, last, 5))
    assert_allclose(line[[0, -1]], [normal(3), normal(3, seed=1)], rtol=1e-12)
    assert_allclose(np.diff(line, axis=0), np.broadcast_to((line[-1] - line[0]) / 4, (4, 3)), rtol=1e-9)
    with pytest.raises(ValueError, match="interpolate: steps: expected an int of at least 2, got 1"):
        interpolate(first, last, 1)


# Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda g, d: GAN(g, d, 0), "GAN: latents: expected an int of at least 1, got 0"),
        (lambda g, d: GAN(g, d, 2, -1), "GAN: labels: expected an int of at least 0, got -1"),
        (
            lambda g, d: WGAN(g, d, 2, critic_steps=0),
            "WGAN: critic_steps: expected an int of at least 1, got 0",
        ),
        (lambda g, d: GAN(g, d, 2, objective="wgan"), "GAN: objective: expected one of .*, got 'wgan'"),
        (
            lambda g, d: GAN(g, d, 2, smoothing=0.5),
            "GAN: smoothing: expected a number from 0 to below 0.5, got 0.5",
        ),
        (lambda g, d: GAN(g, d, 2, smoothing=-0.1), "GAN: smoothing"),
        (
            lambda g, d: SNGAN(g, d, 2, objective="minimax"),
            "SNGAN: objective: expected one of .*, got 'minimax'",
        ),
        (lambda g, d: SNGAN(g, d, 0), "SNGAN: latents: expected an int of at least 1, got 0"),
        (lambda g, d: LSGAN(g, d, 2, a=1.0), "LSGAN: a, b: expected two different numbers, got 1.0 twice"),
        (lambda g, d: DCGAN(8.0), "DCGAN: side: expected an int of at least 1, got 8.0"),
        (lambda g, d: DCGAN(8, latents=0), "DCGAN: latents: expected an int of at least 1, got 0"),
        (lambda g, d: DCGAN(8, labels=-1), "DCGAN: labels: expected an int of at least 0, got -1"),
        (lambda g, d: LSGAN(g, d, 2, c=math.nan), "LSGAN: c: expected a finite number, got nan"),
        (lambda g, d: LSGAN(g, d, 2, a="0"), "LSGAN: a: expected a finite number, got '0'"),
        (lambda g, d: GAN(g, d, 2, smoothing="a"), "GAN: smoothing"),
        (lambda g, d: GAN(None, d, 2), "GAN: generator: expected a Module, got NoneType"),
        (lambda g, d: GAN(g, len, 2), "GAN: critic: expected a Module, got builtin_function_or_method"),
        (lambda g, d: WGANGP(g, nn.Sequential(d, nn.BatchNorm(1)), 2), "WGANGP: critic: expected no batch"),
        (lambda g, d: WGAN(g, d, 2, c=math.inf), "WGAN: c: expected a positive number, got inf"),
        (lambda g, d: WGAN(g, d, 2, c="a"), "WGAN: c: expected a positive number, got 'a'"),
        (lambda g, d: WGAN(g, d, 2, c=0), "WGAN: c: expected a positive number, got 0"),
        (lambda g, d: WGANGP(g, d, 2, penalty=-1), "WGANGP: penalty: expected a positive number, got -1"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    critic = mlp(2, 1)
    with pytest.raises(ValueError, match=message):
        make(mlp(2, 2), critic)
    assert isinstance(critic.layers[0], nn.Linear)


@games
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (real(0, 3), None, "equal minibatches"),
        (real(4, 5), [0, 1, 0, 1], r"x: expected float32\[2, 3\], as the generator .*, got float32\[2, 5\]"),
        (real(4, 3).astype("float64"), [0, 1, 0, 1], r"x: expected float32\[2, 3\].*, got float64"),
        (real(4, 3).tolist(), [0, 1, 0, 1], r"x: expected float32\[2, 3\].*, got list"),
        (real(4, 3), None, "condition: expected integers of shape"),
        (real(4, 3), [0, 1, 0], r"condition: expected integers of shape \(4,\)"),
        (real(4, 3), [0, 1, 0, 1, 0], r"condition: expected integers of shape \(4,\)"),
        (real(4, 3), [0, 1, 0, 2], "condition: expected labels from 0 to 1, got 0 to 2"),
    ],
)
def test_wrong_examples_and_conditions_are_refused_before_anything_changes(kind, x, y, message):
    generator, critic = mlp(4, 6, 3), mlp(5, 8, 1)
    game = GAMES[kind](generator, critic, 2, 2, critic_steps=2)
    optimizers, before = game.optimizers(), game.state_dict()
    with pytest.raises(ValueError, match=message):
        game.iteration(x, optimizers, None if y is None else np.array(y))
    assert_same(before.values(), game.state_dict().values())


def test_minibatches_that_do_not_come_out_equal_are_refused():
    game = WGAN(mlp(2, 2), mlp(2, 1), 2)
    with pytest.raises(ValueError, match=r"5 equal minibatches, one for each step.*got float32\[12, 2\]"):
        game.iteration(real(12), game.optimizers())


def test_a_critic_that_gives_more_than_a_number_is_refused():
    game = GAN(mlp(2, 2), mlp(2, 3), 2)
    with pytest.raises(
        ValueError, match=r"critic: what it returns: expected numbers \(8, 1\), got float32\[8, 3\]"
    ):
        game.iteration(real(4), game.optimizers())


def test_a_critic_without_parameters_is_an_error():
    game = GAN(nn.Linear(2, 3), nn.Sequential(lambda x: x[:, :1]), 2)
    with pytest.raises(ValueError, match="GAN: critic: expected parameters to train, got none"):
        game.sample(3)
