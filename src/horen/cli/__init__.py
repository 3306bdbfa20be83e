"""The command line; the entry point is ``main``, which says so where the extra ``cli`` is missing."""

from __future__ import annotations

import sys

from horen.errors import MissingExtraError
from horen.extras import require

__all__ = ["main"]


def main() -> None:
    """Run the program ``horen``; without the packages that it needs, the exit code is 2."""
    try:
        require("cli", "The program horen needs")
    except MissingExtraError as error:
        sys.exit(_refused(error))
    from horen.cli.app import main as run  # noqa: PLC0415 - it is made of those packages

    run()


def _refused(error: MissingExtraError) -> int:
    sys.stderr.write(f"Error: {error}\n")
    return 2
