"""Starts `sungrow-server`, or says what to install first; `python -m reference_server` is the same."""

from __future__ import annotations

import sys
from collections.abc import Callable

from sungrow_lib.cli.start import start


def main() -> int:
    """Run the command line and return its exit status."""
    return start("sungrow-server", _prepare, has_service=True)


def _prepare() -> Callable[[], int]:
    try:
        from reference_server.cli import prepare  # noqa: PLC0415 - guarded by `start`, and may fail, see below
    except ModuleNotFoundError as error:
        from sungrow_lib.cli.guard import lacking  # noqa: PLC0415 - as above

        status = lacking("sungrow-server", extra="server", error=error)
        return lambda: status
    return prepare()


if __name__ == "__main__":
    sys.exit(main())
