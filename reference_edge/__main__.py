"""Starts `sungrow-edge`; `python -m reference_edge` is the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from sungrow_lib.cli.start import start


def main() -> int:
    """Run the command line and return its exit status."""
    # Else pydantic looks through all installed packages for plugins: time and memory for nothing here.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    return start("sungrow-edge", _prepare)


def _prepare() -> Callable[[], int]:
    from reference_edge.cli import prepare  # noqa: PLC0415 - guarded by `start`

    return prepare()


if __name__ == "__main__":
    sys.exit(main())
