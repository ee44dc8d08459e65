"""The command pages: what `--help` prints, for every command there is."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
from collections.abc import Callable, Iterator
from typing import Final
from unittest import mock

from reference_edge import cli as edge
from reference_server import cli as server
from sungrow_lib.cli import command as sungrow
from tools.docs.markdown import Page, fenced

PROGRAMS: Final[dict[str, Callable[[list[str] | None], int]]] = {
    "sungrow": sungrow.main,
    "sungrow-edge": edge.main,
    "sungrow-server": server.main,
}
_ABOUT: Final = {
    "sungrow": "For anyone with an inverter, or with registers saved from one. No server, no settings.",
    "sungrow-edge": "The daemon beside the inverter, and what looks after its spool. Settings are a file "
    "(`--config`) or the [environment](../configuration.md).",
    "sungrow-server": "The server, its database, its tokens and devices. Settings are the "
    "[environment](../configuration.md#server) or a file (`--config`).",
}
_WIDTH: Final = "96"


class _FoundError(Exception):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def pages() -> Iterator[Page]:
    """Make one page per program."""
    for program in PROGRAMS:
        body = [_list(program), *(_section(words) for words in commands(program))]
        yield Page(
            f"commands/{program}.md",
            program,
            f"Every command of {program}, its options and examples, as --help prints them.",
            "\n".join(body),
            is_wide=True,
        )


def _list(program: str) -> str:
    """Links to the sections: a help text needs the room of the table of contents."""
    links = [f"[{' '.join(words[1:])}](#{'-'.join(words)})" for words in commands(program)[1:]]
    return f"{_ABOUT[program]}\n\n{' · '.join(links)}\n"


def _section(words: tuple[str, ...]) -> str:
    heading = f"## {' '.join(words)}\n\n" if len(words) > 1 else ""
    return heading + fenced(help_text(words))


def commands(program: str) -> list[tuple[str, ...]]:
    """Return the program and all its commands, as their words."""
    return list(_walk((program,)))


def _walk(words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield words
    for name in _choices(words):
        yield from _walk((*words, name))


def _choices(words: tuple[str, ...]) -> list[str]:
    """Names of the commands below one, from the parser the program itself builds."""

    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        raise _FoundError(parser)

    program, *rest = words
    try:
        with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
            PROGRAMS[program](rest)
    except _FoundError as found:
        parser = found.parser
    for word in rest:
        parser = _subparsers(parser)[word]
    return list(_subparsers(parser))


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to list them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


def help_text(words: tuple[str, ...]) -> str:
    """Return what a command prints when asked for help."""
    program, *rest = words
    out = io.StringIO()
    with (
        mock.patch.dict(os.environ, {"COLUMNS": _WIDTH}),
        contextlib.redirect_stdout(out),
        contextlib.suppress(SystemExit),
    ):
        PROGRAMS[program]([*rest, "--help"])
    return out.getvalue()
