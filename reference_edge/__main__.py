"""Starts `sungrow-edge`, or says what to install first."""

from __future__ import annotations

import sys

from sungrow_lib.cli import lacking


def main() -> int:
    """Run the command line and return its exit status."""
    try:
        from reference_edge.cli import main as run  # noqa: PLC0415 - may fail, see below
    except ModuleNotFoundError as error:
        return lacking("sungrow-edge", extra="edge", error=error)
    return run()


if __name__ == "__main__":
    sys.exit(main())
