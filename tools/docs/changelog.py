"""The change log, as a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.docs.markdown import Page

CHANGELOG: Final = Path(__file__).resolve().parents[2] / "CHANGELOG.md"


def pages() -> Iterator[Page]:
    """Make the page from CHANGELOG.md."""
    body = CHANGELOG.read_text(encoding="utf-8").partition("\n")[2]
    yield Page("changelog.md", "Changelog", "What changed in each version.", body)
