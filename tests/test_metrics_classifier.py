"""The classifier of a data set: trained once, kept, found again; the one that comes with the package."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tinygen as tg
from tinygen import data, metrics, nn
from tinygen.backend import xp

module = sys.modules["tinygen.metrics.classifier"]


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def images(digits):
    return data.to_unit(digits.test.images, digits.levels)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and training that is short."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "STEPS", 40)
    return tmp_path / "tinygen"


def small(digits, labels=3):
    """A data set that no classifier comes with: the first few digits."""

    def part(split):
        chosen = split.labels < labels
        return data.Split(split.images[chosen], split.labels[chosen])

    return replace(
        digits, train=part(digits.train), validation=part(digits.validation), test=part(digits.test)
    )


def no_training(dataset):
    raise AssertionError("training, where nothing is to be trained")


# The bundled one ------------------------------------------------------------------------------------------


def test_the_classifier_of_the_digits_comes_with_the_package(digits, images, cache, monkeypatch):
    monkeypatch.setattr(module, "train", no_training)
    lines = []
    judge = metrics.classifier(digits, progress=lines.append)
    assert judge.accuracy > 0.985
    assert judge.accuracy == np.mean(judge.predict(images) == digits.test.labels)
    assert lines == [f"classifier of digits: {100 * judge.accuracy:.2f} % of 360 test images right"]
    assert not cache.exists()


def test_the_command_trains_what_comes_with_the_package(digits, images, tmp_path):
    command = [sys.executable, "-m", "tinygen.metrics", "--out"]
    done = subprocess.run([*command, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (bundled,) = Path(metrics.__file__).parent.glob("*.npz")
    (path,) = tmp_path.iterdir()
    assert path.name == bundled.name and str(path) in done.stdout
    ours, theirs = (tg.load(file) for file in (path, bundled))
    assert ours["recipe"] == theirs["recipe"]
    assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=0.01)
    # Another processor rounds otherwise, so that the weights differ, but not what they say.
    recipe = module.Recipe.of(digits)
    judges = [module.read(file, recipe) for file in (path, bundled)]
    agreement = np.mean(judges[0].predict(images) == judges[1].predict(images))
    assert agreement > 0.98 and str(round(100 * ours["accuracy"], 2)) in done.stdout
    done = subprocess.run([*command, tmp_path / "none"], capture_output=True, text=True)
    assert done.returncode == 2 and "argument --out: expected a folder that exists" in done.stderr


# What it tells --------------------------------------------------------------------------------------------


def test_features_probabilities_and_predictions(digits, images, device):
    judge = metrics.classifier(digits)
    features, p, labels = judge.features(images), judge.probabilities(images), judge.predict(images)
    assert features.shape == (360, 32) and features.dtype == "float64" and features.min() >= 0
    assert p.shape == (360, 10) and p.dtype == "float64" and p.min() >= 0
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    assert labels.dtype == "int64"
    np.testing.assert_array_equal(labels, p.argmax(axis=1))
    # The features are what the logits are computed from.
    output = judge._network.output
    logits = features @ output.weight.numpy() + output.bias.numpy()
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(p, np.exp(logits), atol=1e-5)
    # An image is judged alone, wherever it is.
    for few in (xp.asarray(images[:7]), tg.Tensor(images[:7]), images[:7].astype("float64")):
        np.testing.assert_allclose(judge.features(few), features[:7], atol=1e-4)


def test_figures_of_the_digits(digits, images):
    """Real images reach the floor and nearly all labels; noise is far off."""
    judge = metrics.classifier(digits)
    real = judge.features(images)
    train = judge.features(data.to_unit(digits.train.images, digits.levels))
    noise = judge.features(np.random.default_rng(0).random((360, 8, 8, 1)))
    floor = metrics.frechet_distance(train, real)
    assert 0 < floor < 3 < 30 < metrics.frechet_distance(noise, real)
    score, _ = metrics.inception_score(judge.probabilities(images), splits=1)
    assert 9 < score < 10
    same, other = (metrics.precision_recall(real, x) for x in (train[:360], noise))
    assert min(same[:2]) > 0.9 and other.recall < 0.5


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((2, 8, 8), "float32"), r"expected an array \(N, 8, 8, 1\) with N of at least 1"),
        (np.zeros((0, 8, 8, 1), "float32"), r"floating; got float32\[0, 8, 8, 1\]"),
        (np.zeros((2, 8, 8, 1), "uint8"), r"floating; got uint8\[2, 8, 8, 1\]"),
        ("digits", "got str"),
        (np.full((2, 8, 8, 1), -1.0), r"expected intensities in \[0, 1\], got -1.0"),
        (np.full((2, 8, 8, 1), 1.5), r"intensities in \[0, 1\], got 1.5"),
        (np.full((2, 8, 8, 1), np.nan), r"intensities in \[0, 1\], got nan"),
    ],
)
def test_what_is_no_image_of_the_data_set_is_refused(digits, bad, words):
    judge = metrics.classifier(digits)
    for function in (judge.features, judge.probabilities, judge.predict):
        with pytest.raises(ValueError, match=rf"^images: .*{words}"):
            function(bad)


def test_what_is_no_data_set_of_images_is_refused():
    with pytest.raises(ValueError, match=r"^dataset: expected images with labels, a Dataset; got Points$"):
        metrics.classifier(data.load("rings"))


# Keeping it -----------------------------------------------------------------------------------------------


def test_it_is_trained_once_and_found_again(digits, cache, monkeypatch):
    dataset = small(digits)
    lines = []
    first = metrics.classifier(dataset, progress=lines.append)
    assert lines[0] == "training a classifier of digits, once" and len(lines) == 2
    assert first.accuracy > 0.8
    (file,) = cache.iterdir()
    monkeypatch.setattr(module, "train", no_training)
    again = metrics.classifier(dataset)
    assert again.accuracy == first.accuracy
    images = data.to_unit(dataset.test.images, 17)
    np.testing.assert_array_equal(again.features(images), first.features(images))
    assert first.probabilities(images).shape == (len(images), 3)
    assert list(cache.iterdir()) == [file]


def test_another_data_set_of_the_same_name_has_another_classifier(digits, cache):
    dataset = small(digits)
    train = dataset.train
    others = [
        dataset,
        small(digits, labels=4),
        data.binarize_once(dataset),
        replace(dataset, levels=18),
        replace(dataset, train=data.Split(train.images, train.labels[::-1].copy())),
        replace(dataset, name="other"),
    ]
    names = {module.Recipe.of(other).file_name() for other in others}
    recipe = module.Recipe.of(dataset)
    names |= {replace(recipe, seed=1).file_name(), replace(recipe, version=0).file_name()}
    assert len(names) == len(others) + 2
    assert module.Recipe.of(small(digits)).file_name() == recipe.file_name()


def spoiled(content):
    """Files that a crash, a full disk or a stranger may have left."""
    middle = len(content) // 2
    yield b""
    yield content[:middle]
    yield content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    yield b"not a file of numbers"


def test_a_damaged_file_is_trained_again(digits, cache):
    dataset = small(digits)
    first = metrics.classifier(dataset)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    for content in spoiled(whole):
        path.write_bytes(content)
        lines = []
        assert metrics.classifier(dataset, progress=lines.append).accuracy == first.accuracy
        assert lines[0].startswith("training") and path.read_bytes() == whole
    # A whole one, but not of this: other networks, another data set, other entries.
    other = small(digits, labels=4)
    judge, recipe = module.train(other), module.Recipe.of(other)
    own = module.Recipe.of(dataset)
    for write in (
        lambda: module.write(judge, path, recipe),
        lambda: module.write(judge, path, own),
        lambda: tg.save(path, anything=1),
    ):
        write()
        assert metrics.classifier(dataset).accuracy == first.accuracy
        assert path.read_bytes() == whole


def test_where_it_cannot_be_kept_it_is_trained_all_the_same(digits, cache, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    lines = []
    judge = metrics.classifier(small(digits), progress=lines.append)
    assert judge.accuracy > 0.8
    assert [line.partition(" ")[0] for line in lines] == ["training", "the", "classifier"]
    assert "not kept" in lines[1] and "taken" in lines[1]


def test_training_depends_on_the_data_set_alone(digits, cache, device):
    dataset = small(digits)
    with tg.device("cpu"):
        expected = module.train(dataset)
    tg.seed(7)
    weight, noise = nn.Linear(3, 2).weight.numpy(), tg.Tensor(tg.backend.default_generator().normal(4))
    tg.seed(7)
    judge = metrics.classifier(dataset)
    for name, values in judge._network.state_dict().items():
        np.testing.assert_array_equal(values, expected._network.state_dict()[name])
    # Nor does it leave a trace in what others draw.
    np.testing.assert_array_equal(nn.Linear(3, 2).weight.numpy(), weight)
    np.testing.assert_array_equal(tg.Tensor(tg.backend.default_generator().normal(4)).numpy(), noise.numpy())
    assert tg.backend.current_device().name == device
