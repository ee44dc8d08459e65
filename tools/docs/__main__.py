"""Write every generated page: `python -m tools.docs`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.docs import (
    changelog,
    commands,
    configuration,
    data_model,
    disk_space,
    facts,
    performance,
    registers,
    service,
)
from tools.docs.markdown import Page

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = ROOT / "docs" / "reference"
DATA: Final = ROOT / "website" / "generated"


def pages() -> Iterator[Page]:
    """Make all of them."""
    for make in (
        configuration.pages,
        data_model.pages,
        registers.pages,
        registers.models,
        commands.pages,
        service.pages,
        performance.pages,
        disk_space.pages,
        changelog.pages,
    ):
        yield from make()


def data() -> Iterator[tuple[str, str]]:
    """Make what the site's components show, as file name and content."""
    yield from registers.data()
    yield "facts.json", facts.data()
    yield "openapi.json", service.openapi()


def write(pages_folder: Path, data_folder: Path) -> None:
    """Write everything anew, leaving nothing of before."""
    for folder in (pages_folder, data_folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for page in pages():
        target = pages_folder / page.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page.text(), encoding="utf-8")
    for name, text in data():
        (data_folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(PAGES, DATA)
