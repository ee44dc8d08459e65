"""What a model's docstring says of each of its fields, taken apart for the OpenAPI document."""

from __future__ import annotations

import inspect
import re
from typing import Final

_SECTION: Final = re.compile(r"^(?:Attributes|Args):\n(.*?)(?=^\S|\Z)", re.DOTALL | re.MULTILINE)
_FIELD: Final = re.compile(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)
_DOUBLE: Final = re.compile(r"``([^`]+)``")
_ROLE: Final = re.compile(r":\w+:`~?(?:[\w.]+\.)?([^`]+)`")


def split(docstring: str | None) -> tuple[str, dict[str, str]]:
    """Return the text of a docstring as Markdown, and what it says of each field."""
    text = _ROLE.sub(r"`\1`", _DOUBLE.sub(r"`\1`", inspect.cleandoc(docstring or ""))) + "\n"
    section = _SECTION.search(text)
    if section is None:
        return text.strip(), {}
    fields = {name: " ".join(words.split()).removesuffix(".") for name, words in _FIELD.findall(section[1])}
    return (text[: section.start()] + text[section.end() :]).strip(), fields
