"""What the edge says, in its own words: advice that names its settings, sizes for people."""

from __future__ import annotations

from typing import Final

_SETTINGS: Final = {"--unit": "SUNGROW_UNIT_ID/`unit`", "--family": "SUNGROW_FAMILY/`family`"}
"""Option of the `sungrow` command -> variable and key of a `[[devices]]` table that mean the same."""

_UNITS: Final = {"GB": 10**9, "MB": 10**6, "kB": 10**3}
_MANY: Final = 10


def advise(text: str) -> str:
    """Name settings where an error of the library names options of the `sungrow` command."""
    for option, setting in _SETTINGS.items():
        text = text.replace(option, setting)
    return text


def shown_size(size: int) -> str:
    """Write a number of bytes for people: two or more figures wherever there are as many."""
    for unit, worth in _UNITS.items():
        if size >= _MANY * worth:
            return f"{size / worth:.1f} {unit}" if worth > _UNITS["kB"] else f"{size / worth:.0f} {unit}"
    return f"{size} bytes"
