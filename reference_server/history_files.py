"""Readings as files tell them: CSV, and what `sungrow-server export` writes."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

from pydantic import ValidationError

from reference_server.storage.codec import endless_field
from sungrow_lib.errors import UsageError
from sungrow_lib.quantities import QUANTITY_BY_NAME, QuantityKind
from sungrow_lib.sample import SungrowSample, format_ts, split_unknown
from sungrow_lib.wording import first_fault

_AHEAD: Final = timedelta(minutes=5)
_LONGEST_CELL: Final = 40
_LONGEST_REASON: Final = 300
_ENCODING: Final = "utf-8-sig"
_ERRORS: Final = "surrogateescape"
"""A byte that is no UTF-8 is found in its line, not in the block that is read: what comes before is told."""


class Told(NamedTuple):
    """What a file tells of a moment.

    Attributes:
        sample: the reading.
        unknown: its fields that only a newer edge knows.
        knows_intervals: whether it would say what time it stands for if that were known; a CSV file without
            the column does not.
    """

    sample: SungrowSample
    unknown: Mapping[str, Any]
    knows_intervals: bool = True


@contextmanager
def opened(file: Path) -> Iterator[TextIO]:
    """Open a file of readings; ``-`` is stdin.

    Raises:
        UsageError: it cannot be opened.
    """
    if str(file) == "-":
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding=_ENCODING, errors=_ERRORS, newline="")
        yield sys.stdin
        return
    try:
        stream = file.open(encoding=_ENCODING, errors=_ERRORS, newline="")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    with stream:
        yield stream


def told_by(stream: TextIO, name: str, device_id: str) -> Iterator[Told]:
    """Read the readings of a file, one after the other.

    Args:
        stream: CSV or an export.
        name: what the file is called.
        device_id: whose readings they are.

    Raises:
        UsageError: what comes next is no reading; says in which line.
    """
    lines = _lines(stream, name)
    begin = next(lines, "")
    read = _from_export if begin.startswith("{") else _from_csv
    yield from read(chain([begin], lines), name, device_id)


def _lines(stream: TextIO, name: str) -> Iterator[str]:
    number = 0
    try:
        for line in stream:
            number += 1
            if not line.isascii():
                line.encode()
            yield line
    except UnicodeError:
        raise UsageError(f"{name}, line {number}: is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"cannot read {name} after line {number}: {error.strerror}") from None


def _from_export(lines: Iterable[str], name: str, device_id: str) -> Iterator[Told]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            known, unknown = split_unknown(_object(line))
            sample = SungrowSample.model_validate(known | {"device_id": device_id})
            require_past(sample)
            _require_ordinary(unknown)
        except ValueError as error:
            raise UsageError(f"{name}, line {number}: {reason_of(error)}") from None
        yield Told(sample, unknown)


def _object(line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ValueError("is no JSON object")  # noqa: TRY004 - a wrong line like any other
    return fields


def _from_csv(lines: Iterable[str], name: str, device_id: str) -> Iterator[Told]:
    rows = _rows(lines, name)
    _, header = next(rows, (1, []))
    _require_header(header, name)
    for number, cells in rows:
        try:
            fields = _fields(header, cells)
            _require_same_device(fields, device_id)
            sample = SungrowSample.model_validate(fields | {"device_id": device_id})
            require_past(sample)
        except ValueError as error:
            raise UsageError(f"{name}, line {number}: {reason_of(error)}") from None
        yield Told(sample, {}, knows_intervals="interval_s" in header)


def _rows(lines: Iterable[str], name: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, and the lines they begin in: an open quote takes in those that follow."""
    reader = csv.reader(lines)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UsageError(f"{name}, line {number}: is no CSV ({error}); is a quote left open?") from None
        if cells is None:
            return
        if cells:
            yield number, cells


def _require_header(header: Sequence[str], name: str) -> None:
    unknown = [field for field in header if field not in SungrowSample.model_fields]
    twice = [field for field in header if header.count(field) > 1]
    if unknown:
        wrong = f"{_short(unknown[0])} is not a field of a sample"
    elif twice:
        wrong = f"{twice[0]} is named twice"
    elif "ts" not in header:
        wrong = "there is no column ts"
    else:
        return
    raise UsageError(f"{name}: {wrong}; the header must be ts,FIELD,... such as ts,pv_power_w")


def _require_same_device(fields: Mapping[str, Any], device_id: str) -> None:
    named = fields.get("device_id", device_id)
    if named != device_id:
        raise ValueError(
            f"device_id: is a reading of {_short(named)}, not of {device_id}; without this column it "
            "is taken all the same"
        )


def require_past(sample: SungrowSample) -> None:
    """Refuse a reading of the future.

    Raises:
        ValueError: it is one.
    """
    if sample.ts > datetime.now(UTC) + _AHEAD:
        raise ValueError(f"ts: {format_ts(sample.ts)} lies in the future")


def _require_ordinary(unknown: Mapping[str, Any]) -> None:
    endless = endless_field(unknown)
    if endless is not None:
        raise ValueError(f"{endless}: must hold finite numbers of ordinary size")


def _fields(header: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    if len(cells) != len(header):
        raise ValueError("has another number of cells than the header")
    told = zip(header, map(str.strip, cells), strict=True)
    return {name: _value(name, text) for name, text in told if text}


def _value(name: str, text: str) -> Any:
    quantity = QUANTITY_BY_NAME.get(name)
    if quantity is None or quantity.kind is QuantityKind.STATE:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{name}: {_short(text)} is not a number") from None


def _short(text: str) -> str:
    return repr(text) if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]!r}..."


def reason_of(error: ValueError) -> str:
    """Say in one line of bearable length why a reading is refused."""
    reason = first_fault(error) if isinstance(error, ValidationError) else str(error)
    return reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + "..."


__all__ = ["Told", "opened", "reason_of", "require_past", "told_by"]
