"""What the demos of games on images say of them: linear classifiers, arithmetic of codes, distances."""

import importlib
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from adversarial import Watching, normal
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tinygen import nn
from tinygen.backend import Generator
from tinygen.data import Dataset, Split
from tinygen.metrics import frechet_distance
from tinygen.models.adversarial import GAN

sys.path.append(str(Path(__file__).parent.parent / "demos"))
cli, games, critics, dcgan = map(importlib.import_module, ["_cli", "_games", "critics", "dcgan"])

# Linear classifiers -------------------------------------------------------------------------------


def least_squares(x, labels, others, penalty):
    """Scores of others (M, F): the minimum over W and b of Σ ‖x W + b − y‖² + λ' ‖W‖², as one system of
    equations for both; λ' is λ times the mean squared distance of x from its mean."""
    n, size = x.shape
    weight = penalty * ((x - x.mean(axis=0)) ** 2).sum(axis=1).mean()
    targets = 2.0 * np.eye(labels.max() + 1)[labels] - 1
    rows = np.block([[x, np.ones((n, 1))], [math.sqrt(weight) * np.eye(size), np.zeros((size, 1))]])
    solution, *_ = np.linalg.lstsq(rows, np.concatenate([targets, np.zeros((size, len(targets[0])))]))
    return others @ solution[:-1] + solution[-1]


@given(
    n=st.integers(3, 8),
    size=st.integers(1, 12),
    penalty=st.sampled_from([1e-2, 1.0, 100.0]),
    seed=st.integers(0, 999),
)
def test_ridge_is_penalized_least_squares_with_a_free_constant(n, size, penalty, seed):
    x, others, labels = normal(n, size, seed=seed) + 5, normal(4, size, seed=seed + 1), np.arange(n) % 3
    scores = dcgan.ridge(x, labels, [others, x], penalty)
    for found, points in zip(scores, (others, x)):
        assert_allclose(found, least_squares(x, labels, points, penalty), rtol=1e-7, atol=1e-7)


def test_a_small_penalty_meets_all_targets_and_a_large_one_says_how_frequent_labels_are():
    x, labels = normal(6, 20), np.array([0, 0, 0, 1, 1, 2])
    (exact,) = dcgan.ridge(x, labels, [x], 1e-10)
    assert_allclose(exact, 2 * np.eye(3)[labels] - 1, atol=1e-7)
    (flat,) = dcgan.ridge(x, labels, [x], 1e10)
    assert_allclose(flat, np.broadcast_to(2 * np.array([3, 2, 1]) / 6 - 1, (6, 3)), atol=1e-7)


def test_a_penalty_means_the_same_for_features_of_any_scale():
    x, others, labels = normal(6, 4), normal(5, 4, seed=1), np.arange(6) % 2
    for found, expected in zip(
        dcgan.ridge(1000 * x, labels, [1000 * others], 0.1), dcgan.ridge(x, labels, [others], 0.1)
    ):
        assert_allclose(found, expected, rtol=1e-9)


def test_accuracy_is_the_share_of_test_images_whose_label_scores_best(monkeypatch):
    labels = [np.arange(n) % 3 for n in (3 * dcgan.LABELLED, 20, 50)]  # all training images are taken
    x = [y[:, None] + normal(len(y), 3, seed=k) for k, y in enumerate(labels)]
    monkeypatch.setattr(dcgan, "PENALTIES", [0.3])
    right = least_squares(x[0], labels[0], x[2], 0.3).argmax(axis=1) == labels[2]
    assert 0.4 < right.mean() < 0.9
    assert dcgan.accuracy(x, labels, seed=0) == pytest.approx(100 * right.mean())


def replace_ridge(monkeypatch, function):
    """function(few, labels, penalty) gives the labels of validation and of test images."""
    monkeypatch.setattr(
        dcgan,
        "ridge",
        lambda few, labels, others, penalty: [np.eye(9)[y] for y in function(few, labels, penalty)],
    )


def test_the_penalty_is_chosen_on_validation_images(monkeypatch):
    labels = np.arange(20) % 2, np.array([0, 1, 0, 1]), np.array([0, 1, 0, 1])
    said = {  # of validation images, of test images
        1: ([0, 1, 0, 0], [0, 1, 0, 0]),
        2: ([0, 1, 0, 1], [1, 1, 0, 0]),
        3: ([1, 0, 1, 0], [0, 1, 0, 1]),
    }
    monkeypatch.setattr(dcgan, "PENALTIES", list(said))
    replace_ridge(monkeypatch, lambda few, their_labels, penalty: said[penalty])
    assert dcgan.accuracy([np.zeros((20, 1)), None, None], labels, seed=0) == 50


def test_linear_classifiers_learn_from_as_many_images_of_each_label_and_others_each_time(monkeypatch):
    x, labels, chosen = np.arange(90)[:, None], np.arange(90) % 3, []

    def watch(few, their_labels, penalty):
        assert_array_equal(few[:, 0] % 3, their_labels)
        chosen.append(tuple(sorted(few[:, 0])))
        return labels[:4], labels[:5]

    monkeypatch.setattr(dcgan, "PENALTIES", [1.0])
    replace_ridge(monkeypatch, watch)
    for seed in (0, 1, 0):
        assert dcgan.accuracy([x, None, None], [labels, labels[:4], labels[:5]], seed) == 100
    for few in chosen:
        assert_array_equal(np.bincount(np.array(few) % 3), 3 * [dcgan.LABELLED])
        assert len(set(few)) == len(few)
    n = dcgan.CHOICES
    assert len(set(chosen)) == 2 * n and chosen[:n] == chosen[2 * n :]


# Data that say what comes out ---------------------------------------------------------------------


class PixelClassifier:
    """Features are the pixels; the label is whether the first one is bright."""

    accuracy = 0.875

    def features(self, images):
        return images.reshape(len(images), -1).astype("float64")

    def predict(self, images):
        return (self.features(images)[:, 0] > 0.5).astype(int)

    def probabilities(self, images):
        return np.eye(2)[self.predict(images)]


@pytest.fixture
def judged_by_pixels(monkeypatch):
    monkeypatch.setattr(games.metrics, "classifier", lambda dataset, progress: PixelClassifier())


def dataset(train, test, levels=256, labels=None):
    """Of images (N, H, W, C), whose labels are what `PixelClassifier` says, if not given; the validation
    images are the test images the other way round."""
    parts = []
    for images in (train, test[::-1], test):
        x = np.array(images, "uint8")
        parts.append(Split(x, PixelClassifier().predict(x / (levels - 1)) if labels is None else labels))
    return Dataset("made up", levels, "nobody", *parts)


def some_images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 200, (n, 2, 2, 1))


class Brighter:
    """A game whose samples are images (N, H, W, C) from −1 to 1, brighter by one step more each time."""

    labels = 0

    def __init__(self, images, step):
        self.images, self.step, self.draws, self.trains = images, step, 0, True

    def sample(self, n, labels=None, rng=None):
        assert n == len(self.images) and not self.trains
        self.draws += 1
        return self.images + self.draws * self.step

    def eval(self):
        self.trains = False

    def train(self):
        self.trains = True


# Judge --------------------------------------------------------------------------------------------


def test_the_floor_is_the_distance_of_test_images(judged_by_pixels):
    train = some_images(50)
    assert games.Judge(dataset(train, train)).floor == pytest.approx(0, abs=1e-12)
    brighter = games.Judge(dataset(train, train + 51))  # 4 pixels, by a fifth each
    assert brighter.floor == pytest.approx(4 * 0.2**2)


def test_the_distance_of_samples_is_the_mean_over_draws(judged_by_pixels, monkeypatch):
    train = some_images(50)
    judge = games.Judge(dataset(train, train))
    monkeypatch.setattr(games, "FEW_SAMPLES", 3 * 50)
    game = Brighter(2 * train / 255 - 1, step=0.1)  # intensities by 0.05
    assert judge.distance(game, seed=0) == pytest.approx(4 * 0.05**2 * (1 + 4 + 9) / 3)
    assert game.draws == 3 and game.trains


def test_the_figures_of_a_game(judged_by_pixels, monkeypatch):
    train, test = some_images(50), some_images(50) + 51
    monkeypatch.setattr(games, "MANY_SAMPLES", 2 * 50 + 49)  # two draws and a rest
    judge = games.Judge(dataset(train, test))
    log = [{"loss": 1.0}, {"distance": 7.0}, {"distance": 5.0}, {"distance": 6.0}]
    distance, floor, times, lowest, score, real_score = judge.figures(
        Brighter(2 * train / 255 - 1, step=0.1), 0, log
    ).values()
    assert distance == pytest.approx(4 * 0.05**2 * (1 + 4) / 2) and floor == pytest.approx(4 * 0.2**2)
    assert times == pytest.approx(distance / floor) and lowest == 5
    p = (test[:, 0, 0, 0] > 127.5).mean()
    assert real_score == pytest.approx(math.exp(-p * math.log(p) - (1 - p) * math.log(1 - p)))
    of_draws = [((train[:, 0, 0, 0] / 255 + shift) > 0.5).mean() for shift in (0.05, 0.1)]
    entropies = [-q * math.log(q) - (1 - q) * math.log(1 - q) for q in of_draws]
    assert score == pytest.approx(np.exp(entropies).mean())


class Obedient(Brighter):
    """Shows the label that it is asked for, but 0 in every other image."""

    labels = 2

    def sample(self, n, labels, rng=None):
        shown = np.where(np.arange(n) % 2, labels, 0)
        return np.broadcast_to(2.0 * shown[:, None, None, None] - 1, (n, 2, 2, 1))


def test_the_share_classified_as_asked_for_is_counted_over_all_draws(judged_by_pixels, monkeypatch):
    monkeypatch.setattr(games, "MANY_SAMPLES", 2 * 8)
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1])  # of which the fifth and the seventh are shown as 0
    judge = games.Judge(dataset(some_images(8), some_images(8, seed=1), labels=labels))
    figures = judge.figures(Obedient(some_images(8), 0), 0, [{"distance": 1.0}])
    assert figures["% of 16 samples classified as asked for"] == 75
    assert figures["% of 8 test images classified right"] == 87.5


def test_draws_differ_and_come_again_with_the_seed(judged_by_pixels):
    judge = games.Judge(dataset(some_images(5), some_images(5)))

    def codes(seed, key):
        game = GAN(Watching(2), Watching(1), 2)
        assert len(judge.samples(game, seed, key, total=3 * 5 + 1)) == 3
        return np.concatenate(game.generator.seen)

    several = [codes(0, games.TEST), codes(1, games.TEST), codes(0, games.VALIDATE)]
    assert len(np.unique(several)) == 3 * 15 * 2
    assert_array_equal(codes(0, games.TEST), several[0])


def test_the_last_figures_are_of_other_draws_than_those_on_the_way(judged_by_pixels, monkeypatch):
    for total in ("FEW_SAMPLES", "MANY_SAMPLES"):
        monkeypatch.setattr(games, total, 2 * 5)
    judge, watching = games.Judge(dataset(some_images(5), some_images(5, seed=1))), Watching(2)
    game = GAN(nn.Sequential(watching, nn.Linear(1, 4), nn.Reshape((2, 2, 1))), Watching(1), 2)
    judge.figures(game, 0, [{"distance": judge.distance(game, 0)}])
    assert len(np.unique(watching.seen)) == 4 * 5 * 2


# Images, some at a time ---------------------------------------------------------------------------


def test_samples_drawn_in_parts_have_the_labels_asked_for(monkeypatch):
    monkeypatch.setattr(games, "AT_ONCE", 4)
    labels = np.arange(10) % 3
    game = GAN(Watching(2 + 3), Watching(4), 2, labels=3)
    assert games.sample(game, 10, Generator(0), labels).shape == (10, 1) and game.training
    codes = game.generator.seen
    assert [len(part) for part in codes] == [4, 4, 2]
    assert_array_equal(np.concatenate(codes)[:, 2:], np.eye(3)[labels])
    assert len(np.unique(np.concatenate(codes)[:, :2])) == 20


def test_what_is_computed_in_parts_is_what_is_computed_at_once(monkeypatch):
    monkeypatch.setattr(dcgan, "AT_ONCE", 4)
    x = normal(10, 3)
    assert_array_equal(dcgan.in_parts(np.exp, x), np.exp(x))


def test_linear_classifiers_see_pixels_and_features_of_all_three_splits(monkeypatch):
    made = dataset(some_images(6), some_images(4, seed=1))
    given = []
    monkeypatch.setattr(dcgan, "accuracy", lambda x, labels, seed: given.append((x, labels)) or len(given))
    of_both = dcgan.linear_accuracies(games.Images(made), lambda x: 3 * x[:, 0, 0], seed=0)
    assert of_both == (1, 2)
    for k, split in enumerate((made.train, made.validation, made.test)):
        x = split.images / 127.5 - 1
        (pixels, labels), (features, labels_again) = ([part[k] for part in parts] for parts in given)
        assert_allclose(pixels, x.reshape(-1, 4), rtol=1e-5, atol=1e-6)
        assert_allclose(features, 3 * x[:, 0, 0], rtol=1e-5, atol=1e-6)
        assert_array_equal([labels, labels_again], [split.labels, split.labels])


# Latent space -------------------------------------------------------------------------------------


class Painter:
    """A game whose generator shows a code as it is, an image of one row."""

    latents = 3

    def __init__(self, codes):
        self.codes, self.seen = codes, []

    def latent(self, n, rng):
        return self.codes[:n]

    def generate(self, codes):
        self.seen.append(codes)
        return SimpleNamespace(data=codes[:, None, :, None])


@pytest.mark.parametrize("n", [9, 40, 200])
def test_arithmetic_is_done_with_three_codes_that_a_fifth_of_their_label_surpasses(n, monkeypatch):
    monkeypatch.setattr(dcgan.plots, "save_images", lambda *args, **kwargs: None)
    codes = np.random.default_rng(n).uniform(-1, 1, (n, 3))
    game = Painter(codes)
    dcgan.draw_arithmetic(SimpleNamespace(path=str), game, PixelClassifier(), None)

    def mean_of_three(label, sign):
        of_label = [code for code in codes if (code[0] > 0) == label]
        surpassed_by = [sum(sign * (other - code).sum() > 0 for other in of_label) for code in of_label]
        fifth = len(of_label) // 5
        return np.mean([code for code, k in zip(of_label, surpassed_by) if fifth <= k < fifth + 3], axis=0)

    heavy, light = ([mean_of_three(label, sign) for label in (0, 1)] for sign in (1, -1))
    columns = [
        [heavy[one], light[one], light[other], heavy[one] - light[one] + light[other]]
        for one, other in ((0, 1), (1, 0))
    ]
    assert_allclose(game.seen[-1].reshape(4, 2, 3), np.swapaxes(columns, 0, 1), rtol=1e-9, atol=1e-12)


# What the games are compared with -----------------------------------------------------------------


def test_pixels_alone_keep_their_own_distribution_and_forget_each_other(judged_by_pixels):
    # Two pixels that are always alike, black or white: C is ¼ [[1, 1], [1, 1]], and of pixels alone ¼ I.
    train = np.broadcast_to(np.random.default_rng(0).integers(0, 2, (20_000, 1, 1, 1)), (20_000, 1, 2, 1))
    images = games.Images(dataset(train, train, levels=2))
    judge = games.Judge(images.dataset)
    expected = (4 - 2 * math.sqrt(2)) / 4
    assert critics.distance_of_pixels_alone(images, judge, seed=0) == pytest.approx(expected, abs=0.01)


def test_pixels_alone_are_those_of_training_images_at_their_place_as_many_as_test_images(judged_by_pixels):
    images = games.Images(dataset(some_images(50), some_images(20)))
    judge, seen = games.Judge(images.dataset), []
    judge.classifier.features = lambda x: seen.append(x) or x.reshape(len(x), -1)
    distance, _ = (critics.distance_of_pixels_alone(images, judge, seed) for seed in (3, 4))
    alone, other = seen
    assert (alone != other).any()
    assert alone.shape == (20, 2, 2, 1)
    for pixel, source in zip(alone.reshape(20, -1).T, judge.training.T):
        assert np.isin(pixel, source).all()
    assert distance == frechet_distance(alone.reshape(20, -1), judge.training)


def test_learning_rates_fall_along_half_a_cosine():
    rate = cli.cosine(0.2, 30)
    assert_allclose([rate(t) for t in (0, 10, 15, 20, 30, 40)], [0.2, 0.15, 0.1, 0.05, 0, 0], atol=1e-15)
