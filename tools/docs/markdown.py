"""Markdown as the pages need it: front matter, tables, code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the site.

    Attributes:
        path: where it goes, below the output folder.
        title: its heading.
        description: one line for searches and link previews.
        body: Markdown.
        label: what it is called in the sidebar, its title when empty.
        is_wide: whether it needs the room of the table of contents.
    """

    path: str
    title: str
    description: str
    body: str
    label: str = ""
    is_wide: bool = False

    def text(self) -> str:
        """Return the whole file."""
        head = f'---\ntitle: "{self.title}"\ndescription: "{self.description}"\n'
        head += f'sidebar_label: "{self.label or self.title}"\n'
        head += f"hide_table_of_contents: {str(self.is_wide).lower()}\n---\n\n"
        return f"{head}{self.body.strip()}\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; cells may hold Markdown, but no line breaks."""
    lines = [_row(head), "|" + "---|" * len(head), *(_row(row) for row in rows)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"


def plain(text: str) -> str:
    """Return text of the code so that Markdown shows it as it stands."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text.replace("``", "`"))
    return re.sub(r"[<>](?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", lambda sign: f"\\{sign[0]}", text)


def code(text: object) -> str:
    """Return ``text`` as inline code, nothing for an empty one."""
    return f"`{text}`" if str(text) else ""


def fenced(text: str, language: str = "text") -> str:
    """Return a block of code."""
    return f"```{language}\n{text.rstrip()}\n```\n"
