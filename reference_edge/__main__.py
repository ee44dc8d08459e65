"""Starts `sungrow-edge`; `python -m reference_edge` is the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sungrow_lib.cli.start import start

_ZONES: Final = Path("/usr/share/zoneinfo")


def main() -> int:
    """Run the command line and return its exit status."""
    # Else pydantic looks through all installed packages for plugins: time and memory for nothing here.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Else Python loads all it knows of how it was built, to find what is here on nearly every system.
    if _ZONES.is_dir():
        os.environ.setdefault(
            "PYTHONTZPATH", f"{_ZONES}:/usr/lib/zoneinfo:/usr/share/lib/zoneinfo:/etc/zoneinfo"
        )
    return start("sungrow-edge", _prepare)


def _prepare() -> Callable[[], int]:
    from reference_edge.cli import prepare  # noqa: PLC0415 - guarded by `start`

    return prepare()


if __name__ == "__main__":
    sys.exit(main())
