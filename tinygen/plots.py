"""Pictures: grids of images, curves of training, matrices. Needs matplotlib (the extra `demos`).

Images are host arrays (N, H, W, C) with intensities in [0, 1]; C is 1 (grey, drawn dark on light) or 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np  # not the backend's xp: pictures are made on the host


def tile(images: np.ndarray, columns: int | None = None, gap: int = 1) -> np.ndarray:
    """One large image (H', W', C) of N images in rows of `columns` (about √N if None), `gap` pixels apart."""
    n, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    out = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 0.5, "float32")
    for k, image in enumerate(images):
        top, left = (gap + index * (size + gap) for index, size in zip(divmod(k, columns), (height, width)))
        out[top : top + height, left : left + width] = image
    return out


def save_images(path: str | Path, images: np.ndarray, columns: int | None = None, title: str = "") -> None:
    """Write a grid of images to a PNG file."""
    picture = tile(np.clip(images, 0, 1), columns)
    height, width = (size / max(picture.shape[:2]) * 7 for size in picture.shape[:2])
    figure, axes = _figure(width, height + (0.35 if title else 0))
    axes.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray_r", vmin=0, vmax=1)
    axes.set_axis_off()
    axes.set_title(title, fontsize=11)
    figure.savefig(path, dpi=130, bbox_inches="tight")


def save_curves(path: str | Path, curves: dict[str, Sequence[float]], xlabel: str, ylabel: str) -> None:
    """Write a plot with one labelled line for each sequence of figures, the first at x = 1."""
    figure, axes = _figure(6.4, 4.0)
    for label, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, label=label, marker="." if len(values) < 40 else "")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130, bbox_inches="tight")


def save_matrices(path: str | Path, matrices: dict[str, np.ndarray]) -> None:
    """Write matrices of numbers from 0 (light) to 1 (dark) side by side, each under its name."""
    from matplotlib.figure import Figure

    figure = Figure((3.2 * len(matrices), 3.5), layout="constrained")
    for axes, (name, matrix) in zip(figure.subplots(1, len(matrices), squeeze=False)[0], matrices.items()):
        axes.imshow(matrix, cmap="gray_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_title(name, fontsize=9)
    figure.savefig(path, dpi=130)


def _figure(width: float, height: float):
    """A figure with one axes, of a size in inches, that needs no display."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots()
