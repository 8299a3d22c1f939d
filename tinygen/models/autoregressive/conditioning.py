"""Labels as a network sees them."""

from __future__ import annotations

from ... import backend, ops
from ...backend import xp


def one_hot(condition, labels: int, n: int, dtype="float32"):
    """Vectors (n, labels) with a 1 at each label, for labels (n,); None for a model without labels.

    Raises ValueError for a condition that is missing, needless, of another shape or dtype, or, looked at on
    the CPU only, with a label out of range."""
    label = ops.raw(condition) if condition is not None else None
    got = f"{label.dtype}{list(label.shape)}" if hasattr(label, "shape") else repr(condition)
    if not labels:
        if condition is not None:
            raise ValueError(f"condition: expected None, for a model without labels, got {got}")
        return None
    if not hasattr(label, "shape") or label.shape != (n,) or label.dtype.kind not in "iu":
        raise ValueError(f"condition: expected integers of shape ({n},), got {got}")
    if backend.device_of(label) == "cpu" and ((label < 0) | (label >= labels)).any():
        raise ValueError(
            f"condition: expected labels from 0 to {labels - 1}, got {label.min()} to {label.max()}"
        )
    return (label[:, None] == xp.arange(labels)).astype(dtype)
