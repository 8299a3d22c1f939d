"""The classifier that stands in for Inception: small, and trained here on the data set at hand.

    T. Salimans, I. Goodfellow, W. Zaremba, V. Cheung, A. Radford and X. Chen, Improved Techniques for
    Training GANs, 2016.
    M. Heusel, H. Ramsauer, T. Unterthiner, B. Nessler and S. Hochreiter, GANs Trained by a Two Time-Scale
    Update Rule Converge to a Local Nash Equilibrium, 2017.

They judge images by the labels and the features of Inception, a network trained on photographs. Another
network gives other figures: those of this classifier compare with each other only, and with the floor that
real images reach.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np  # not the backend's xp: judged on the host

from .. import backend, ops
from ..autodiff import no_grad
from ..backend import form_of, to_host
from ..data import Dataset, Split, to_unit
from ..training import batch_count, load, save
from .network import MLP, fit

# What training is. Who changes anything of it, or of what `fit` does, raises VERSION.
VERSION, SEED = 1, 0
STEPS, BATCH, LEARNING_RATE, DROPOUT = 5000, 64, 3e-3, 0.1
AT_ONCE = 1000  # images, in evaluation

BUNDLED = Path(__file__).parent  # the folder of the classifier of the bundled data set


class Classifier:
    """A trained network from images to the probabilities of their labels.

    accuracy: the share of test images whose label it tells.

    Images are Tensors or arrays (N, H, W, C) of any device, intensities in [0, 1] of floating dtype; what
    comes back is on the host. Raises ValueError for other images."""

    def __init__(self, network: MLP, shape: tuple[int, ...], accuracy: float):
        self._network, self._shape, self.accuracy = network, shape, accuracy

    def features(self, images) -> np.ndarray:
        """The units of the last hidden layer, at least 0: float64 (N, F)."""
        return self._evaluate(self._network.hidden, images)

    def probabilities(self, images) -> np.ndarray:
        """p(y|x), float64 (N, K), in rows that sum to 1."""
        logits = self._evaluate(self._network, images)
        with backend.device("cpu"):
            return ops.softmax(logits, axis=1)

    def predict(self, images) -> np.ndarray:
        """The most probable label of each image, int64 (N,)."""
        return self._evaluate(self._network, images).argmax(axis=1)

    def _evaluate(self, function: Callable, images) -> np.ndarray:
        """function(images) as float64, in parts."""
        pixels = self._checked(images)
        with backend.device("cpu"), no_grad():
            parts = [function(pixels[i : i + AT_ONCE]).numpy() for i in range(0, len(pixels), AT_ONCE)]
        return np.concatenate(parts).astype("float64")

    def _checked(self, images) -> np.ndarray:
        """The images as float32 (N, H · W · C) on the host."""
        shape, dtype = getattr(images, "shape", ()), getattr(images, "dtype", None)
        if shape[1:] != self._shape or not shape[0] or getattr(dtype, "kind", "") != "f":
            sizes = f"(N, {', '.join(map(str, self._shape))}) with N of at least 1"
            raise ValueError(f"images: expected an array {sizes}, floating; got {form_of(images)}")
        pixels = to_host(ops.raw(images)).astype("float32").reshape(shape[0], -1)
        fits = (pixels >= 0) & (pixels <= 1)
        if not fits.all():
            raise ValueError(f"images: expected intensities in [0, 1], got {pixels[~fits][0]}")
        return pixels


def classifier(dataset: Dataset, progress: Callable[[str], object] | None = None) -> Classifier:
    """The classifier of a data set: two hidden layers, trained on the labels of its training images.

    It comes with the package for the bundled digits. For others it is trained at the first call, on the host,
    for a minute at most with MNIST, and kept in the cache folder $XDG_CACHE_HOME/tinygen (~/.cache/tinygen);
    a file there that is damaged or cannot be written is as good as none. It depends on the data set alone.

    progress: is called with lines of text that say what is done and how good the classifier is.

    Raises ValueError for what is no data set of images with labels."""
    if not isinstance(dataset, Dataset):
        raise ValueError(f"dataset: expected images with labels, a Dataset; got {type(dataset).__name__}")
    say = progress or (lambda line: None)
    recipe = Recipe.of(dataset)
    path = _cache_folder() / recipe.file_name()
    judge = read(BUNDLED / recipe.file_name(), recipe) or read(path, recipe)
    if judge is None:
        say(f"training a classifier of {dataset.name}, once")
        judge = train(dataset)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(judge, path, recipe)
        except OSError as error:
            say(f"the classifier is not kept: {error}")
    right = f"{100 * judge.accuracy:.2f} % of {len(dataset.test)} test images right"
    say(f"classifier of {dataset.name}: {right}")
    return judge


def train(dataset: Dataset) -> Classifier:
    """The classifier of a data set, trained anew."""
    recipe = Recipe.of(dataset)
    with backend.device("cpu"):
        network = recipe.network()
        pixels = to_unit(dataset.train.images, dataset.levels).reshape(len(dataset.train), -1)
        epochs = math.ceil(STEPS / batch_count(len(pixels), BATCH))
        fit(network, pixels, dataset.train.labels, epochs, BATCH, LEARNING_RATE, SEED)
    judge = Classifier(network, recipe.shape, math.nan)
    judge.accuracy = _accuracy(judge, dataset.test, dataset.levels)
    return judge


def _accuracy(judge: Classifier, split: Split, levels: int) -> float:
    return float((judge.predict(to_unit(split.images, levels)) == split.labels).mean())


# Keeping it -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """All that a classifier depends on, by which it is kept and found again."""

    data: str
    digest: str  # of the training images and labels, so that a part or a binarization is another data set
    shape: tuple[int, ...]
    sizes: tuple[int, ...]  # of the layers
    seed: int = SEED
    version: int = VERSION

    @classmethod
    def of(cls, dataset: Dataset) -> Recipe:
        split = dataset.train
        shape = split.images.shape[1:]
        inputs = math.prod(shape)
        hidden = (64, 32) if inputs <= 64 else (256, 64)
        content = hashlib.sha256(str(dataset.levels).encode())
        content.update(np.ascontiguousarray(split.images))
        content.update(np.ascontiguousarray(split.labels))
        sizes = (inputs, *hidden, int(split.labels.max()) + 1)
        return cls(dataset.name, content.hexdigest(), shape, sizes)

    def network(self) -> MLP:
        """The network before training."""
        return MLP(self.sizes, DROPOUT, self.seed)

    def key(self) -> str:
        return json.dumps(asdict(self))

    def file_name(self) -> str:
        return f"classifier-{hashlib.sha256(self.key().encode()).hexdigest()[:16]}.npz"


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tinygen")


def write(judge: Classifier, path: Path, recipe: Recipe) -> None:
    """Keep a classifier in a file."""
    save(path, network=judge._network, accuracy=judge.accuracy, recipe=recipe.key())


def read(path: Path, recipe: Recipe) -> Classifier | None:
    """The classifier in a file that `write` wrote; None where there is none, or a damaged one."""
    try:
        found = load(path)
        if found.get("recipe") != recipe.key():
            return None
        with backend.device("cpu"):
            network = recipe.network()
            network.load_state_dict(found["network"])
    except (OSError, ValueError):
        return None
    return Classifier(network.eval(), recipe.shape, found["accuracy"])
