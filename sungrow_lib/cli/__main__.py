"""Starts `sungrow`; `python -m sungrow_lib.cli` is the same."""

from __future__ import annotations

import sys
from collections.abc import Callable

from sungrow_lib.cli.start import start


def main() -> int:
    """Run the command line and return its exit status."""
    return start("sungrow", _prepare)


def _prepare() -> Callable[[], int]:
    from sungrow_lib.cli.command import prepare  # noqa: PLC0415 - guarded by `start`

    return prepare()


if __name__ == "__main__":
    sys.exit(main())
