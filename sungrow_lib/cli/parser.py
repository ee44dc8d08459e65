"""Command lines that answer wrong use in one line; all three commands of the product are made of these."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final, NoReturn

from sungrow_lib.cli.help import HelpFormatter

EXIT_USAGE: Final = 2


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line that ends with where help is."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{"formatter_class": HelpFormatter, **more})

    def error(self, message: str) -> NoReturn:
        """Complain about the command line and end the program with exit status 2."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; try {self.prog} --help\n")


class MixingParser(CommandParser):
    """Lets options stand among positional arguments, as in `sungrow read HOST --json FIELD`."""

    _mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse what this parser knows; the rest is returned."""
        if self._mixing:  # the inherited method comes back here, twice
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False


def whole_number(what: str, least: int, most: int) -> Callable[[str], int]:
    """Return an argument type: a whole number in a range, which its error names."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}, {least} to {most}")
        return int(text)

    return parse


PORT_MAX: Final = 65_535
PORT: Final = whole_number("a port", 1, PORT_MAX)
"""Argument type of a TCP port."""

UNIT: Final = whole_number("a Modbus unit id", 1, 247)
"""Argument type of a unit that can be asked: 0 means all, and what is above 247 is reserved."""
