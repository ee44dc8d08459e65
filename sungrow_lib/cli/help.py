"""Help texts that are written for a wide terminal and still read well on a narrow one."""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Final

_COLUMNS: Final = re.compile(r"(?P<indent> *)(?P<left>\S.*?  +)(?P<right>\S.*)")
"""A line of two columns; the right one begins behind the last wide gap."""
_NARROWEST: Final = 24
"""Characters that a right column needs to stay beside the left one."""
_USUAL_WIDTH: Final = 80
_MARGIN: Final = 2


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Leaves descriptions as they are written, as long as the terminal is wide enough for them."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_terminal_width() - _MARGIN)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in _narrowed(text.splitlines(), width - len(indent)))


def _terminal_width() -> int:
    """What `shutil` says, without loading it: a formatter is made for each option, also in a daemon."""
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdecimal() and int(told):
        return int(told)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or _USUAL_WIDTH  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):  # no terminal, or nothing at all
        return _USUAL_WIDTH


def _narrowed(lines: list[str], width: int) -> Iterator[str]:
    for block in _blocks(lines):
        if all(len(line) <= width for line in block):
            yield from block
        elif parts := _COLUMNS.fullmatch(block[0]):
            yield from _two_columns(parts, block[1:], width)
        else:
            indent = " " * _indent(block[0])
            yield from _wrapped(" ".join(map(str.strip, block)), width, indent, indent)


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Group lines that belong together: a paragraph, or an entry of two columns."""
    block: list[str] = []
    for line in lines:
        if block and not _goes_on(block[0], line):
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _goes_on(first: str, line: str) -> bool:
    if not line.strip() or not first.strip() or _COLUMNS.fullmatch(line):
        return False
    parts = _COLUMNS.fullmatch(first)
    if parts is None and _indent(line):
        return False  # an example: a line of its own, so that it can be copied
    return _indent(line) == (parts.start("right") if parts else _indent(first))


def _two_columns(parts: re.Match[str], more: list[str], width: int) -> Iterator[str]:
    text = " ".join([parts["right"], *map(str.strip, more)])
    head, column = parts["indent"] + parts["left"], parts.start("right")
    if width - column < _NARROWEST:
        yield head.rstrip()
        head = " " * (len(parts["indent"]) + 4)
        column = len(head)
    yield from _wrapped(text, width, head, " " * column)


def _wrapped(text: str, width: int, first: str, others: str) -> list[str]:
    """Fill lines; names and addresses stay whole, so that they can be copied."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
