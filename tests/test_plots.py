"""Pictures are files of the expected size; the tiling is exact."""

import numpy as np
import pytest

from tinygen import plots


def test_tiles_stand_in_rows_with_gaps():
    images = np.stack([np.full((2, 3, 1), value, "float32") for value in (0.0, 0.25, 1.0)])
    out = plots.tile(images, columns=2)
    assert out.shape == (1 + 2 * (2 + 1), 1 + 2 * (3 + 1), 1)
    assert (out[1:3, 1:4] == 0.0).all() and (out[1:3, 5:8] == 0.25).all() and (out[4:6, 1:4] == 1.0).all()
    assert (out[0] == 0.5).all() and (out[:, 4] == 0.5).all() and (out[4:6, 5:8] == 0.5).all()


@pytest.mark.parametrize("shape", [(0, 8, 8, 1), (8, 8, 1), (2, 8, 8)])
def test_what_are_no_images_is_refused(tmp_path, shape):
    with pytest.raises(ValueError, match=r"images: expected shape \(N, H, W, C\) with elements, got"):
        plots.save_images(tmp_path / "a.png", np.zeros(shape))


def test_a_failed_picture_leaves_the_old_one_alone(tmp_path):
    figure_module = pytest.importorskip("matplotlib.figure")
    (tmp_path / "a.none").write_text("old")
    with pytest.raises(ValueError, match="none"):
        plots.write_figure(tmp_path / "a.none", figure_module.Figure())
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.none", "old")]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_written_as_png(tmp_path, channels):
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    plots.save_images(tmp_path / "a.png", rng.random((10, 8, 8, channels)), columns=5, title="Digits")
    plots.save_curves(tmp_path / "b.png", {"train": [3, 2, 1], "test": [4, 3, 2]}, "epoch", "nats")
    plots.save_matrices(tmp_path / "c.png", {"A": rng.random((3, 9)), "B": rng.random((9, 3)) < 0.5})
    for name in ("a.png", "b.png", "c.png"):
        content = (tmp_path / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 2000


def test_panels_are_written_beside_each_other_and_in_rows(tmp_path):
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    x = np.linspace(0, 1, 5)
    panel = plots.Panel("Title", {"x": (x, x), "x²": (x, x * x)}, {"below": (x, x)}, "x", "y")
    log = plots.Panel("Of a logarithm", {"eˣ": (x, np.exp(x))}, scale="log")
    plots.save_panels(tmp_path / "a.png", [panel, log, panel])
    plots.save_panels(tmp_path / "b.png", [panel, log, panel], columns=2)
    with image.open(tmp_path / "a.png") as a, image.open(tmp_path / "b.png") as b:
        (wide, low), (narrow, high) = a.size, b.size
    assert 2 * wide == pytest.approx(3 * narrow, abs=3) and high == pytest.approx(2 * low, abs=2)


def test_an_animation_has_all_its_frames(tmp_path):
    image = pytest.importorskip("PIL.Image")
    frames = [np.full((3, 5, 1), shade) for shade in (0.0, 0.5, 1.0)]
    plots.save_animation(tmp_path / "a.gif", frames, scale=2)
    with image.open(tmp_path / "a.gif") as read:
        assert (read.n_frames, read.size) == (3, (10, 6))
        shades = []
        for k in range(3):
            read.seek(k)
            shades.append(read.convert("L").getpixel((0, 0)))
    assert shades == [255, 128, 0]  # 1 is black on white
