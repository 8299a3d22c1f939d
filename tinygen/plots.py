"""Pictures: grids of images, curves, matrices, panels of lines. Needs matplotlib (the extra `demos`).

Images are host arrays (N, H, W, C) with intensities in [0, 1]; C is 1 (grey, drawn dark on light) or 3. The
suffix of a path says which kind of file is written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np  # not the backend's xp: pictures are made on the host

from .files import replacing


def tile(images: np.ndarray, columns: int | None = None, gap: int = 1) -> np.ndarray:
    """One large image (H', W', C) of N images in rows of `columns` (about √N if None), `gap` pixels apart.

    Raises ValueError for what are no images, or none."""
    if images.ndim != 4 or not images.size:
        raise ValueError(f"images: expected shape (N, H, W, C) with elements, got {images.shape}")
    n, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    out = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 0.5, "float32")
    for k, image in enumerate(images):
        top, left = (gap + index * (size + gap) for index, size in zip(divmod(k, columns), (height, width)))
        out[top : top + height, left : left + width] = image
    return out


def save_images(path: str | Path, images: np.ndarray, columns: int | None = None, title: str = "") -> None:
    """Write a grid of images."""
    picture = tile(np.clip(images, 0, 1), columns)
    height, width = (size / max(picture.shape[:2]) * 7 for size in picture.shape[:2])
    figure, axes = _figure(width, height + (0.35 if title else 0))
    axes.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray_r", vmin=0, vmax=1)
    axes.set_axis_off()
    axes.set_title(title, fontsize=11)
    write_figure(path, figure, bbox_inches="tight")


def save_animation(path: str | Path, pictures: Sequence[np.ndarray], scale: int = 4) -> None:
    """Write pictures (H, W, C) one after another to a GIF file, 20 a second, the last one for two seconds;
    each pixel becomes scale x scale."""
    from PIL import Image  # which matplotlib needs, too

    frames = []
    for picture in pictures:
        shades = 1 - picture if picture.shape[-1] == 1 else picture
        large = np.clip(shades, 0, 1).repeat(scale, axis=0).repeat(scale, axis=1)
        frames.append(Image.fromarray((255 * large).round().astype("uint8").squeeze()))
    durations = [50] * (len(frames) - 1) + [2000]
    with replacing(path) as file:
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def save_curves(path: str | Path, curves: dict[str, Sequence[float]], xlabel: str, ylabel: str) -> None:
    """Write a plot with one labelled line for each sequence of figures, the first at x = 1."""
    figure, axes = _figure(6.4, 4.0)
    for label, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, label=label, marker="." if len(values) < 40 else "")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    write_figure(path, figure, bbox_inches="tight")


def save_matrices(path: str | Path, matrices: dict[str, np.ndarray]) -> None:
    """Write matrices of numbers from 0 (light) to 1 (dark) side by side, each under its name."""
    from matplotlib.figure import Figure

    figure = Figure((3.2 * len(matrices), 3.5), layout="constrained")
    for axes, (name, matrix) in zip(figure.subplots(1, len(matrices), squeeze=False)[0], matrices.items()):
        axes.imshow(matrix, cmap="gray_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_title(name, fontsize=9)
    write_figure(path, figure)


@dataclass
class Panel:
    """One part of a picture: labelled lines, and labelled areas below lines, each of host arrays (x, y).

    scale: of the axis of y, "linear" or "log". equal: whether both axes have the same unit of length."""

    title: str
    lines: dict[str, tuple[np.ndarray, np.ndarray]]
    areas: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    xlabel: str = ""
    ylabel: str = ""
    scale: str = "linear"
    equal: bool = False


def save_panels(path: str | Path, panels: Sequence[Panel], columns: int | None = None) -> None:
    """Write panels in rows of `columns` (all beside each other if None). Every second line is dashed and
    above the others, so that one that it runs along can be seen."""
    from matplotlib.figure import Figure

    columns = columns or len(panels)
    rows = math.ceil(len(panels) / columns)
    figure = Figure((4.2 * columns, 3.6 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(places, panels):
        for shade, (label, (x, y)) in enumerate(panel.areas.items()):
            axes.fill_between(x, y, color=f"C{7 + shade}", alpha=0.3, linewidth=0, label=label)
        for k, (label, (x, y)) in enumerate(panel.lines.items()):
            style = ("-", "--")[k % 2]
            axes.plot(x, y, color=f"C{k}", linestyle=style, zorder=2 + k % 2, label=label)
        axes.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel, yscale=panel.scale)
        axes.set_aspect("equal" if panel.equal else "auto")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, framealpha=0.8, edgecolor="none")
    write_figure(path, figure)


def _figure(width: float, height: float):
    """A figure with one axes, of a size in inches, that needs no display."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots()


def write_figure(path: str | Path, figure, **options) -> None:
    """Write a matplotlib figure as the kind of file that the path's suffix says (else ValueError)."""
    with replacing(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:], dpi=130, **options)
