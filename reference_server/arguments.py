"""What the arguments of `sungrow-server` may say."""

from __future__ import annotations

import argparse
from datetime import datetime, timedelta
from typing import Final
from unicodedata import category

from sungrow_lib.sample import parse_ts

_LONGEST_OVERLAP_S: Final = 366 * 86_400
_SHORTEST_INTERVAL: Final = timedelta(milliseconds=1)
_CONTROLS: Final = frozenset({"Cc", "Zl", "Zp"})
"""Categories of what begins a line or writes elsewhere on a terminal."""
_LONGEST_INTERVAL: Final = timedelta(days=1)


def words(text: str) -> str:
    """Take words that the database can, and a list can show: arguments may be any bytes."""
    try:
        text.encode()
    except UnicodeError:
        raise argparse.ArgumentTypeError("must be UTF-8 text") from None
    if any(category(letter) in _CONTROLS for letter in text):
        raise argparse.ArgumentTypeError("must be one line without control characters")
    return text


def moment(text: str) -> datetime:
    """Take an RFC 3339 time."""
    try:
        return parse_ts(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("ts ")) from None


def overlap(text: str) -> int:
    """Take seconds, up to a year."""
    try:
        seconds = int(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= _LONGEST_OVERLAP_S:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, 0 to {_LONGEST_OVERLAP_S}")
    return seconds


def interval(text: str) -> timedelta:
    """Take the seconds from one reading to the next."""
    try:
        taken = timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        taken = timedelta()
    if not _SHORTEST_INTERVAL <= taken <= _LONGEST_INTERVAL:
        raise argparse.ArgumentTypeError("must be a number of seconds, more than 0 and at most a day")
    return taken


__all__ = ["interval", "moment", "overlap", "words"]
