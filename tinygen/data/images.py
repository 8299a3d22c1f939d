"""Data sets of images with fixed splits: digits, MNIST, Fashion-MNIST.

Digits are bundled. MNIST and Fashion-MNIST are four IDX files each, plain or gzipped, looked for in
$TINYGEN_DATA/<name>, in /usr/share/datasets/<name> (Debian's packages) and in the cache folder
$XDG_CACHE_HOME/tinygen/<name> (~/.cache/tinygen/<name>), into which they are downloaded at need.
Every file is checked against its published SHA-256. One that is found but bad is an error that
names it, and is left alone: it is never passed over, replaced or removed.
"""

import contextlib
import gzip
import hashlib
import math
import os
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import numpy as np  # not the backend's xp: data live on the host, and batches go to the device

from ..files import replacing

SOURCES = {
    "digits": "E. Alpaydin, C. Kaynak (1998). Optical Recognition of Handwritten Digits. "
    "UCI Machine Learning Repository. doi:10.24432/C50P49 (CC BY 4.0)",
    "mnist": "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner (1998). Gradient-Based Learning Applied "
    "to Document Recognition. Proceedings of the IEEE 86(11). doi:10.1109/5.726791",
    "fashion-mnist": "H. Xiao, K. Rasul, R. Vollgraf (2017). Fashion-MNIST: a Novel Image Dataset "
    "for Benchmarking Machine Learning Algorithms. arXiv:1708.07747 (MIT licence)",
}

# Of the decompressed bytes, so that a plain and a gzipped copy are checked alike.
SHA256 = {
    "digits": {"csv": "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"},
    "mnist": {
        "train-images-idx3": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion-mnist": {
        "train-images-idx3": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}

MIRRORS = {
    "mnist": (
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist",
    ),
    "fashion-mnist": (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    ),
}
SYSTEM_FOLDER = Path("/usr/share/datasets")


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """N examples: images uint8 (N, H, W, C) and labels int64 (N,), both made read-only."""

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self):
        self.images.flags.writeable = False
        self.labels.flags.writeable = False

    def __len__(self):
        return len(self.labels)

    def __repr__(self):
        return f"Split(images={self.images.shape}, labels={self.labels.shape})"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits of images whose pixels are integers from 0 to levels - 1, and whom to cite."""

    name: str
    levels: int
    source: str
    train: Split
    validation: Split
    test: Split


def load(name):
    """The data set called `name`, one of SOURCES, as a Dataset; what is missing is downloaded."""
    return _load_digits() if name == "digits" else _load_idx(name)


def _load_digits():
    path = Path(__file__).with_name("digits.csv.gz")
    content = _decompress(path.read_bytes(), path)
    _check_digest(content, SHA256["digits"]["csv"], path)
    # Neighbouring rows are of one writer. In order of their SHA-256 they are as good as shuffled,
    # and stay so for ever, while a library's random numbers may change with its version.
    rows = sorted(content.split(), key=lambda row: hashlib.sha256(row).digest())
    table = np.loadtxt(rows, delimiter=",", dtype=np.uint8)
    splits = _cut(table[:, :64].reshape(-1, 8, 8), table[:, 64], [1257, 1437])
    return Dataset("digits", 17, SOURCES["digits"], *splits)


def _load_idx(name):
    train, validation = _cut(*_read_pair(name, "train"), [-5000])
    (test,) = _cut(*_read_pair(name, "t10k"), [])
    return Dataset(name, 256, SOURCES[name], train, validation, test)


def _cut(images, labels, positions):
    """Images (N, H, W) and labels (N,) as consecutive splits, one beginning at each position."""
    images, labels = images[..., np.newaxis], labels.astype(np.int64)
    return map(Split, np.split(images, positions), np.split(labels, positions))


def _read_pair(name, part):
    return _read_idx(name, f"{part}-images-idx3"), _read_idx(name, f"{part}-labels-idx1")


def _read_idx(name, stem):
    path = _find(name, stem) or _download(name, stem)
    return _decode(path.read_bytes(), name, stem, path)


def _find(name, stem):
    """The first file of that name, plain or gzipped, in the folders; None if there is none."""
    files = (f"{stem}-ubyte", f"{stem}-ubyte.gz")
    candidates = (folder / file for folder in _folders(name) for file in files)
    # lexists, for a link that leads nowhere is a bad file, not a missing one.
    return next(filter(os.path.lexists, candidates), None)


def _folders(name):
    """Where the files may be, in the order of looking; the last is the cache folder."""
    own = os.environ.get("TINYGEN_DATA")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    roots = [SYSTEM_FOLDER, Path(cache, "tinygen")]
    return [root / name for root in ([Path(own), *roots] if own else roots)]


def _download(name, stem):
    """The path of the file, put into the cache folder from the first mirror that gives it whole."""
    path = _folders(name)[-1] / f"{stem}-ubyte.gz"
    failures = []
    for mirror in MIRRORS[name]:
        url = f"{mirror}/{path.name}"
        try:
            raw = _fetch(url)
            _decode(raw, name, stem, "what came")
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"{url}: {error}")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(raw)
            return path
    raise FileNotFoundError(
        f"{path.name} (or the same without .gz) of {name} is in none of "
        f"{', '.join(map(str, _folders(name)))}, and no mirror gave it ({'; '.join(failures)}). "
        f"Put it into a folder DIR/{name} and set the environment variable TINYGEN_DATA=DIR."
    )


def _fetch(url):
    with urlopen(url, timeout=30) as response, _progress(response, url) as stream:
        return b"".join(iter(lambda: stream.read(65536), b""))


def _progress(response, url):
    """The response, its reads counted on a progress bar where tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return contextlib.nullcontext(response)
    total = int(response.headers.get("Content-Length", 0)) or None
    return tqdm.wrapattr(response, "read", total=total, desc=url.rpartition("/")[2])


def _decode(raw, name, stem, origin):
    """The array in the raw bytes of an IDX file, plain or gzipped, that came from `origin`."""
    content = _decompress(raw, origin)
    array = _parse_idx(content, int(stem[-1]), origin)  # idx3 has three axes
    _check_digest(content, SHA256[name][stem], origin)
    return array


def _decompress(raw, origin):
    if not raw.startswith(b"\x1f\x8b"):  # gzip begins so, IDX and text do not
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        message = f"{origin}: expected a whole gzip file, got {len(raw)} damaged bytes ({error})"
        raise ValueError(message) from error


def _parse_idx(content, axes, origin):
    """IDX: two zeros, the type (8 is uint8), the number of axes; 4 bytes per size; the values."""
    magic = bytes([0, 0, 8, axes])
    if content[:4] != magic:
        raise ValueError(
            f"{origin}: expected to begin as IDX of uint8 with {axes} axes, {magic.hex(' ')}, "
            f"got {content[:4].hex(' ') or 'no bytes'}"
        )
    start = 4 + 4 * axes
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    length = start + math.prod(shape)
    if len(content) != length:
        raise ValueError(f"{origin}: expected {length} bytes for {shape}, got {len(content)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _check_digest(content, expected, origin):
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise ValueError(f"{origin}: expected SHA-256 {expected} when decompressed, got {actual}")
