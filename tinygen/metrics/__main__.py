"""`python -m tinygen.metrics`: train the classifier of the bundled digits anew, and write it where it was."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..data import load
from .classifier import BUNDLED, Recipe, train, write


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tinygen.metrics",
        description="Train the classifier of the bundled digits anew, and write it into the package.",
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=BUNDLED, help="write it there instead")
    folder = parser.parse_args(arguments).out
    if not folder.is_dir():
        parser.error(f"argument --out: expected a folder that exists, got {folder}")
    digits = load("digits")
    judge = train(digits)
    recipe = Recipe.of(digits)
    path = folder / recipe.file_name()
    write(judge, path, recipe)
    print(f"{100 * judge.accuracy:.2f} % of {len(digits.test)} test images right; written to {path}")


if __name__ == "__main__":
    main()
