"""What metrics take: sets of points, and the distances between them."""

from __future__ import annotations

import numpy as np  # not the backend's xp: metrics compute on the host

from .. import ops
from ..backend import form_of, to_host


def rows(name: str, x, least: int = 1, columns: int | None = None) -> np.ndarray:
    """The points x, a Tensor or an array (N, D) of any device, as float64 on the host.

    Raises ValueError that names x for another shape (columns: the D that it must have; least: the fewest
    points), a dtype that is not floating, and values that are not finite."""
    sizes = f"(N, {columns or 'D'}) with N of at least {least}"
    shape = getattr(x, "shape", ())
    fits = len(shape) == 2 and shape[0] >= least and columns in (None, shape[1])
    if not fits or getattr(getattr(x, "dtype", None), "kind", "") != "f":
        raise ValueError(f"{name}: expected a Tensor or an array {sizes}, floating; got {form_of(x)}")
    points = to_host(ops.raw(x)).astype("float64")
    if not np.isfinite(points).all():
        raise ValueError(f"{name}: expected finite values, got {points[~np.isfinite(points)][0]}")
    return points


def pair(names: tuple[str, str], x, y, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of points of one space, as from `rows`."""
    x = rows(names[0], x, least)
    return x, rows(names[1], y, least, x.shape[1])


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """‖xᵢ − yⱼ‖² = ‖xᵢ‖² + ‖yⱼ‖² − 2 xᵢᵀyⱼ of x (N, D) and y (M, D): (N, M). What may be no more than the
    rounding of these squares is 0."""
    middle = y.mean(axis=0)  # far from 0 the difference of large squares would lose digits
    x, y = x - middle, y - middle
    sums = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1)
    distances = sums - 2 * (x @ y.T)
    return np.where(distances > 1e-14 * sums, distances, 0)
