"""Data sets with fixed splits, and the explicit steps from them to what a model is given."""

from . import images, toys
from .images import Dataset, Split
from .toys import Points
from .transforms import (
    binarize,
    binarize_once,
    bits_per_dimension,
    dequantize,
    from_logit,
    threshold,
    to_logit,
    to_unit,
)

NAMES = (*images.SOURCES, *toys.SOURCES)


def load(name: str) -> Dataset | Points:
    """The data set called `name`, one of NAMES, with splits that never change.

    Images, as a Dataset: what is missing is downloaded. Points in the plane, as Points: they are drawn from
    the density of that name in `toys`, always the same ones."""
    if name not in NAMES:
        raise ValueError(f"name: expected one of {', '.join(NAMES)}, got {name!r}")
    return toys.load(name) if name in toys.SOURCES else images.load(name)
