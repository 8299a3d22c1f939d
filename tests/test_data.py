"""Data: splits that never move, files that are checked, downloads that leave no half file."""

import gzip
import hashlib
import http.client
import io
import os
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from tinygen import data
from tinygen.data import Split, images, load

SHAPES = {
    "train-images-idx3": (5010, 3, 2),
    "train-labels-idx1": (5010,),
    "t10k-images-idx3": (20, 3, 2),
    "t10k-labels-idx1": (20,),
}
STEM = "t10k-images-idx3"  # the file that the tests spoil


def idx(array):
    """The array as the bytes of an IDX file."""
    sizes = np.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    return {stem: rng.integers(0, 256, shape, np.uint8) for stem, shape in SHAPES.items()}


@pytest.fixture
def folders(tmp_path, monkeypatch, arrays):
    """Three empty folders to find "mnist" in, a table for small files, and no network."""

    def no_network(url, timeout):
        raise urllib.error.URLError("no network")

    digests = {stem: hashlib.sha256(idx(array)).hexdigest() for stem, array in arrays.items()}
    monkeypatch.setitem(images.SHA256, "mnist", digests)
    monkeypatch.setattr(images, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.setattr(images, "urlopen", no_network)
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return {
        "own": tmp_path / "own" / "mnist",
        "system": tmp_path / "system" / "mnist",
        "cache": tmp_path / "cache" / "tinygen" / "mnist",
    }


def write(folder, arrays, suffix=""):
    folder.mkdir(parents=True)
    for stem, array in arrays.items():
        content = gzip.compress(idx(array), 1) if suffix else idx(array)
        (folder / f"{stem}-ubyte{suffix}").write_bytes(content)


def files_below(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Response(io.BytesIO):
    """What urlopen returns."""

    def __init__(self, content):
        super().__init__(content)
        self.headers = {"Content-Length": str(len(content))}


class Mirrors:
    """Stands for urlopen: each file of the arrays gzipped, `spoil(url, content)` of it if given."""

    def __init__(self, arrays, spoil=lambda url, content: content):
        self.arrays, self.spoil, self.urls = arrays, spoil, []

    def __call__(self, url, timeout):
        self.urls.append(url)
        stem = url.rpartition("/")[2].removesuffix("-ubyte.gz")
        return Response(self.spoil(url, gzip.compress(idx(self.arrays[stem]), 1)))


# ---------------------------------------------------------------------------------------- digits


def test_digits_are_the_uci_digits():
    digits = load("digits")
    assert (digits.name, digits.levels) == ("digits", 17)
    assert "10.24432/C50P49" in digits.source and "CC BY 4.0" in digits.source
    splits = (digits.train, digits.validation, digits.test)
    assert [len(split) for split in splits] == [1257, 180, 360]
    for split in splits:
        assert split.images.shape == (len(split), 8, 8, 1) and split.images.dtype == np.uint8
        assert split.labels.shape == (len(split),) and split.labels.dtype == np.int64
        assert np.bincount(split.labels).min() > 0.04 * len(split)  # every class in every split
    images = np.concatenate([split.images for split in splits])
    labels = np.concatenate([split.labels for split in splits])
    assert (images.min(), images.max(), images.sum(dtype=int)) == (0, 16, 561718)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    # All images differ, so the splits share none.
    assert len({image.tobytes() for image in images}) == 1797


def test_a_digit_keeps_its_label():
    with gzip.open(Path(data.__file__).with_name("digits.csv.gz"), "rt") as lines:
        rows = {tuple(map(int, line.split(","))) for line in lines}
    test = load("digits").test
    pairs = zip(test.images.reshape(-1, 64).tolist(), test.labels.tolist(), strict=True)
    assert all((*pixels, label) in rows for pixels, label in pairs)


@pytest.mark.parametrize(
    "part, expected",
    [("train", "c37efeddd19b50c9"), ("validation", "3be522e676bcbe9c"), ("test", "3e070cb2d47ecac6")],
)
def test_digits_splits_never_change(part, expected):
    assert fingerprint(getattr(load("digits"), part)) == expected


def fingerprint(split):
    content = split.images.tobytes() + split.labels.astype("<i8").tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def test_altered_digits_are_named(monkeypatch):
    monkeypatch.setitem(images.SHA256["digits"], "csv", "0" * 64)
    with pytest.raises(ValueError, match=r"digits\.csv\.gz: expected SHA-256 0{64} .*, got 6ebb3d"):
        load("digits")


def test_a_split_is_read_only_and_prints_its_shapes():
    train = load("digits").train
    with pytest.raises(ValueError, match="read-only"):
        train.images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        train.labels[0] = 0
    assert repr(train) == "Split(images=(1257, 8, 8, 1), labels=(1257,))"


@pytest.mark.parametrize("name", ["cifar-10", "MNIST", "", None, ["digits"]])
def test_unknown_name_lists_the_known_ones(name):
    with pytest.raises(ValueError, match=r"^name: expected one of digits, mnist, fashion-mnist, "):
        load(name)


# ---------------------------------------------------------------------------- the published files


@pytest.mark.parametrize(
    "name, expected",
    [
        ("mnist", ["0f2ed5e292b7895e", "61640d2a6035ca5e", "a0863a96c44e5666"]),
        ("fashion-mnist", ["17b4cb0f112c627c", "43c5f23841b46d2e", "9a494dc49efeb996"]),
    ],
)
def test_published_files(name, expected):
    own = os.environ.get("TINYGEN_DATA")
    if not own or not Path(own, name).is_dir():
        pytest.skip(f"needs the files of {name} in $TINYGEN_DATA/{name}")
    dataset = load(name)
    splits = (dataset.train, dataset.validation, dataset.test)
    assert dataset.levels == 256
    assert [split.images.shape for split in splits] == [(n, 28, 28, 1) for n in (55000, 5000, 10000)]
    assert [fingerprint(split) for split in splits] == expected


# ----------------------------------------------------------------------------- files and folders


@pytest.mark.parametrize("folder", ["own", "system", "cache"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_are_found_plain_or_gzipped(folders, arrays, folder, suffix):
    write(folders[folder], arrays, suffix)
    mnist = load("mnist")
    assert (mnist.name, mnist.levels) == ("mnist", 256)
    images, labels = arrays["train-images-idx3"][..., None], arrays["train-labels-idx1"]
    np.testing.assert_array_equal(mnist.train.images, images[:10])
    np.testing.assert_array_equal(mnist.train.labels, labels[:10])
    np.testing.assert_array_equal(mnist.validation.images, images[10:])
    np.testing.assert_array_equal(mnist.validation.labels, labels[10:])
    np.testing.assert_array_equal(mnist.test.images, arrays["t10k-images-idx3"][..., None])
    np.testing.assert_array_equal(mnist.test.labels, arrays["t10k-labels-idx1"])
    for split in (mnist.train, mnist.validation, mnist.test):
        assert isinstance(split, Split)
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int64
        assert not split.images.flags.writeable and not split.labels.flags.writeable


def test_the_own_folder_comes_first(folders, arrays):
    write(folders["own"], arrays)
    write(folders["cache"], {STEM: arrays[STEM][::-1]})
    load("mnist")


def test_without_tinygen_data_the_other_folders_serve(folders, arrays, monkeypatch):
    monkeypatch.delenv("TINYGEN_DATA")
    write(folders["system"], arrays)
    load("mnist")


def test_the_default_cache_is_in_the_home_folder(folders, arrays, monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / ".cache" / "tinygen" / "mnist", arrays)
    load("mnist")


def flip(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda content: content[:-1], r"expected 136 bytes for \[20, 3, 2\], got 135$"),
        (lambda content: content + b"\0", r"expected 136 bytes for \[20, 3, 2\], got 137$"),
        (lambda content: content[:9], r"expected \d+ bytes for .*, got 9$"),
        (lambda content: content[:2], r"uint8 with 3 axes, 00 00 08 03, got 00 00$"),
        (lambda content: b"", r"uint8 with 3 axes, 00 00 08 03, got no bytes$"),
        (lambda content: b"<html>", r"uint8 with 3 axes, 00 00 08 03, got 3c 68 74 6d$"),
        (lambda content: b"\0\0\x0d\x03" + content[4:], r"00 00 08 03, got 00 00 0d 03$"),  # floats
        (lambda content: b"\0\0\x08\x01" + content[4:], r"00 00 08 03, got 00 00 08 01$"),
        (flip, r"expected SHA-256 [0-9a-f]{64} when decompressed, got [0-9a-f]{64}$"),
        (lambda content: gzip.compress(content)[:-9], r"a whole gzip file, got \d+ damaged bytes"),
        (lambda content: gzip.compress(content)[:5], r"a whole gzip file, got 5 damaged bytes"),
        (lambda content: flip(gzip.compress(content)), r"a whole gzip file, got \d+ damaged"),
        (lambda content: gzip.compress(content) + b"more", r"a whole gzip file, got \d+ damaged"),
        (lambda content: gzip.compress(flip(content)), r"expected SHA-256"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_bad_file_is_named_and_left_alone(folders, arrays, monkeypatch, spoil, message, suffix):
    write(folders["own"], arrays)
    (folders["own"] / f"{STEM}-ubyte").unlink()
    bad = folders["own"] / f"{STEM}-ubyte{suffix}"
    bad.write_bytes(spoil(idx(arrays[STEM])))
    before = bad.read_bytes()
    # Good copies elsewhere do not hide it.
    write(folders["cache"], arrays)
    mirrors = Mirrors(arrays)
    monkeypatch.setattr(images, "urlopen", mirrors)
    with pytest.raises(ValueError, match=message) as caught:
        load("mnist")
    assert str(caught.value).startswith(f"{bad}: expected ")
    assert bad.read_bytes() == before
    assert not mirrors.urls


def test_a_bad_file_in_the_cache_is_not_downloaded_again(folders, arrays, monkeypatch):
    write(folders["cache"], arrays, ".gz")
    bad = folders["cache"] / f"{STEM}-ubyte.gz"
    bad.write_bytes(b"half")
    mirrors = Mirrors(arrays)
    monkeypatch.setattr(images, "urlopen", mirrors)
    with pytest.raises(ValueError, match="got 68 61 6c 66"):
        load("mnist")
    assert bad.read_bytes() == b"half" and not mirrors.urls


def test_a_link_to_nowhere_is_a_bad_file(folders, arrays):
    write(folders["cache"], arrays)
    folders["own"].mkdir(parents=True)
    link = folders["own"] / f"{STEM}-ubyte"
    link.symlink_to("nowhere")
    with pytest.raises(FileNotFoundError) as caught:
        load("mnist")
    assert Path(caught.value.filename) == link and link.is_symlink()


# --------------------------------------------------------------------------------------- download


def test_missing_files_without_a_network(folders, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        load("mnist")
    message = str(caught.value)
    assert message.startswith("train-images-idx3-ubyte.gz (or the same without .gz) of mnist ")
    for place in (*map(str, folders.values()), *images.MIRRORS["mnist"]):
        assert place in message
    assert "no network" in message and "TINYGEN_DATA=DIR" in message
    assert not files_below(tmp_path)


def test_only_missing_files_are_downloaded_and_only_once(folders, arrays, monkeypatch):
    write(folders["own"], {stem: arrays[stem] for stem in SHAPES if stem != STEM})
    mirrors = Mirrors(arrays)
    monkeypatch.setattr(images, "urlopen", mirrors)
    first, second = load("mnist"), load("mnist")
    assert mirrors.urls == [f"{images.MIRRORS['mnist'][0]}/{STEM}-ubyte.gz"]
    assert files_below(folders["cache"]) == [folders["cache"] / f"{STEM}-ubyte.gz"]
    assert list(folders["cache"].iterdir()) == files_below(folders["cache"])
    np.testing.assert_array_equal(first.test.images, arrays[STEM][..., None])
    np.testing.assert_array_equal(second.test.images, first.test.images)


def fail_with(error):
    def spoil(url, content):
        raise error

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        lambda url, content: content[:-20],
        lambda url, content: b"<html>log in first</html>",
        lambda url, content: gzip.compress(flip(gzip.decompress(content))),
        fail_with(urllib.error.HTTPError("", 404, "Not Found", None, None)),
        fail_with(TimeoutError("timed out")),
        fail_with(ConnectionResetError("reset")),
        fail_with(http.client.IncompleteRead(b"")),
    ],
)
def test_the_next_mirror_is_tried(folders, arrays, monkeypatch, spoil):
    first, second = images.MIRRORS["mnist"]
    mirrors = Mirrors(arrays, lambda url, c: spoil(url, c) if url.startswith(first) else c)
    monkeypatch.setattr(images, "urlopen", mirrors)
    load("mnist")
    files = [f"{stem}-ubyte.gz" for stem in SHAPES]
    assert mirrors.urls == [f"{mirror}/{file}" for file in files for mirror in (first, second)]
    assert files_below(folders["cache"]) == sorted(folders["cache"] / file for file in files)


def test_no_mirror_gives_the_published_file(folders, arrays, monkeypatch, tmp_path):
    mirrors = Mirrors(arrays, lambda url, content: b"<html>")
    monkeypatch.setattr(images, "urlopen", mirrors)
    with pytest.raises(FileNotFoundError, match="what came: expected to begin as IDX"):
        load("mnist")
    assert not files_below(tmp_path)


def test_an_interrupted_download_leaves_nothing(folders, arrays, monkeypatch, tmp_path):
    class Interrupted(Response):
        def read(self, size):
            if self.tell():
                raise KeyboardInterrupt
            return super().read(100)

    monkeypatch.setattr(images, "urlopen", lambda url, timeout: Interrupted(bytes(200)))
    with pytest.raises(KeyboardInterrupt):
        load("mnist")
    assert not files_below(tmp_path)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_nothing(folders, arrays, monkeypatch, error):
    def fail(descriptor):
        raise error

    monkeypatch.setattr(images, "urlopen", Mirrors(arrays))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        load("mnist")
    assert not list(folders["cache"].iterdir())


def test_a_download_shows_its_progress(folders, arrays, monkeypatch, capsys):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(images, "urlopen", Mirrors(arrays))
    load("mnist")
    assert "train-images-idx3-ubyte.gz: 100%" in capsys.readouterr().err


def test_a_download_needs_no_tqdm(folders, arrays, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)  # makes its import fail
    monkeypatch.setattr(images, "urlopen", Mirrors(arrays))
    load("mnist")
    assert not capsys.readouterr().err
