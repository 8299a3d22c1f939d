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
