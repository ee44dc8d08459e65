"""The library's advice in the words of the edge's settings."""

from __future__ import annotations

from typing import Final

_SETTINGS: Final = {"--unit": "SUNGROW_UNIT_ID/`unit`", "--family": "SUNGROW_FAMILY/`family`"}
"""Option of the `sungrow` command -> variable and key of a `[[devices]]` table that mean the same."""


def advise(text: str) -> str:
    """Name settings where an error of the library names options of the `sungrow` command."""
    for option, setting in _SETTINGS.items():
        text = text.replace(option, setting)
    return text
