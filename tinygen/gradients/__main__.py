"""`python -m tinygen.gradients`: the atlas of tinygen's primitives, their errors measured now.

Exit status 0 if all primitives pass, 1 if one fails, 2 if the atlas could not be made."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..files import replacing
from .atlas import survey, text


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tinygen.gradients",
        description="Print every primitive: the formula of each gradient, where it is defined, and the "
        "largest errors of first and second order, measured now. Exit status 1 if any fails.",
    )
    parser.add_argument(
        "--html", metavar="FILE", type=Path, help="write a page with the same, and with curves"
    )
    chosen = parser.parse_args(arguments)
    if chosen.html and (chosen.html.is_dir() or not chosen.html.parent.is_dir()):
        parser.error(f"--html: expected a file in a folder that exists, got {chosen.html}")
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        parser.error("measuring needs hypothesis, which draws the inputs: pip install 'tinygen[test]'")
    entries = survey()
    print(text(entries))
    if chosen.html:
        from .page import page

        with replacing(chosen.html) as file:
            file.write(page(entries).encode())
        print(f"Written to {chosen.html}.")
    return int(any(entry.failure for entry in entries))


if __name__ == "__main__":
    sys.exit(main())
