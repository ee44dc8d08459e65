"""Readings on their way from one spool to another: lines of JSON, and what makes sure none is kept twice."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sungrow_lib.errors import UsageError
from sungrow_lib.sample import DeviceId, SungrowSample, Timestamp, format_ts
from sungrow_lib.spool import schema
from sungrow_lib.spool.clock import FUTURE_MARGIN_MS, LATEST_MS, BootStamp
from sungrow_lib.spool.entries import (
    HeldWhy,
    SpoolEntry,
    SpoolIdentity,
    SpoolImport,
    SpoolOwner,
    SpoolRecord,
    SpoolState,
    to_ms,
)
from sungrow_lib.spool.holding import foreign_names, hold, is_lost_name, own_name, read_owner
from sungrow_lib.spool.meta import read_identity
from sungrow_lib.spool.packing import pack
from sungrow_lib.wire import VerdictCode
from sungrow_lib.wording import first_fault

FORMAT: Final = 1
"""Version of the lines."""
_SEQ_LIMIT: Final = 2**53
_AHEAD: Final = "it was dated more than ten minutes ahead of the time when it was imported"

_STATE_NAMES: Final = tuple(state.name.lower() for state in SpoolState)
_Line = TypeVar("_Line", bound=BaseModel)


class _Head(BaseModel):
    """The first line."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    spool_export: Literal[1]
    edge_id: str
    generation: str
    spool_id: str | None = None
    """None in exports of earlier versions."""


class _Tail(BaseModel):
    """The last line: proves that nothing is missing."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    readings: Annotated[int, Field(ge=0)]


class _Reading(BaseModel):
    """One line in between."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    seq: Annotated[int, Field(strict=True, ge=1, le=_SEQ_LIMIT)]
    device_id: DeviceId
    ts: Timestamp
    state: str
    offered: Annotated[bool, Field(strict=True)] = False
    at: Timestamp | None = None
    code: str | None = None
    reason: str | None = None
    clock_source: str | None = None
    boot_id: str
    boot_ms: Annotated[int, Field(strict=True, ge=-_SEQ_LIMIT, le=_SEQ_LIMIT)]
    held: HeldWhy | None = None
    content: dict[str, Any]

    @field_validator("state")
    @classmethod
    def _is_a_state(cls, name: str) -> str:
        if name not in _STATE_NAMES:
            raise ValueError(f"must be one of {', '.join(_STATE_NAMES)}")
        return name


# --- lines ------------------------------------------------------------------------------------------------


def head_line(identity: SpoolIdentity, spool_id: str | None = None) -> str:
    """Return the first line of an export; ``spool_id`` names the file (`SpoolOwner`)."""
    known = {"spool_export": FORMAT, "edge_id": identity.edge_id, "generation": identity.generation}
    return _compact(known if spool_id is None else known | {"spool_id": spool_id})


def tail_line(readings: int) -> str:
    """Return the last line of an export of so many readings."""
    return _compact({"readings": readings})


def record_line(record: SpoolRecord) -> str:
    """Return a reading with all the spool knows of it as one line; its content is there text for text."""
    entry = record.entry
    known = {
        "seq": entry.seq,
        "device_id": entry.device_id,
        "ts": format_ts(entry.ts),
        "state": entry.state.name.lower(),
        "offered": record.offered,
        "at": None if record.at is None else format_ts(record.at),
        "code": record.code,
        "reason": record.reason,
        "clock_source": entry.clock_source,
        "boot_id": record.stamp.boot_id,
        "boot_ms": record.stamp.boot_ms,
    }
    if record.held is not None or is_lost_name(entry.device_id):
        known["held"] = record.held
    return f'{_compact(known)[:-1]},"content":{entry.content}}}'


def read_lines(
    lines: Iterable[str], *, partial: bool = False, here: SpoolOwner | None = None
) -> Iterator[SpoolRecord]:
    """Read an export's lines again.

    Args:
        lines: head, readings and tail.
        partial: whether the tail may be missing or name another number: lines were left out on purpose.
        here: the spool they are for. A device that another edge holds, or one whose name is lost in another
            spool of this one, has a name that means nothing elsewhere, and may be that of one held here: it
            gets one that tells them apart.

    Raises:
        UsageError: a line is not what it should be (named by its number), or some are missing.
    """
    numbered = enumerate(lines, start=1)
    head = _parse(_Head, next(numbered, (1, "")), "the first line of a spool export")
    names: dict[str, str] = {}
    count, tail = 0, None
    for number, line in numbered:
        if tail is not None:
            raise UsageError(f"line {number}: comes after the export's last line")
        if line.startswith('{"readings":'):
            tail = _parse(_Tail, (number, line), "the last line of a spool export")
            continue
        count += 1
        record = _to_record(number, line)
        origin = None if here is None else _origin(record, head, here)
        if origin is not None:
            record = _renamed(record, origin, names)
        yield record
    if not partial and (tail is None or tail.readings != count):
        raise UsageError(
            "the export is not complete: its last line is missing or counts other readings; "
            "use --partial when that is meant"
        )


def _origin(record: SpoolRecord, head: _Head, here: SpoolOwner) -> str | None:
    """Return what tells the name of a device in an export from that name here; None where it is the same.

    Between two spools of one edge only lost names differ: those of others say where they come from.
    """
    if record.held is None:
        return None
    if head.edge_id != here.edge_id:
        return head.edge_id
    is_same = here.spool_id in {None, head.spool_id} or not is_lost_name(record.entry.device_id)
    return None if is_same else head.spool_id


def _renamed(record: SpoolRecord, origin: str, names: dict[str, str]) -> SpoolRecord:
    name = record.entry.device_id
    if name not in names:
        names |= foreign_names([name], origin, names.values())
    return replace(record, entry=record.entry._replace(device_id=names[name]))


def _parse(model: type[_Line], numbered: tuple[int, str], what: str) -> _Line:
    number, line = numbered
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        if line and not line.endswith("\n") and _is_cut_off(error):
            rest = ", or leave this line out and use --partial" if number > 1 else ""
            raise UsageError(
                f"the file ends in the middle of line {number}: it was cut off; copy or export it anew{rest}"
            ) from None
        raise UsageError(f"line {number}: is not {what} ({first_fault(error)})") from None


def _to_record(number: int, line: str) -> SpoolRecord:
    what = "a reading of a spool export"
    read = _parse(_Reading, (number, line), what)
    fields = {"device_id": read.device_id, "ts": read.ts, **read.content}
    try:
        sample = SungrowSample.model_validate(fields)
    except ValidationError as error:
        raise UsageError(f"line {number}: is not {what} ({first_fault(error)})") from None
    state = SpoolState[read.state.upper()]
    content = sample.model_dump_json(exclude_none=True, exclude={"device_id", "ts"})
    return SpoolRecord(
        entry=SpoolEntry(read.seq, read.device_id, to_ms(read.ts), content, read.clock_source, state),
        offered=read.offered,
        at=read.at,
        code=read.code,
        reason=read.reason,
        stamp=BootStamp(read.boot_id, read.boot_ms),
        # An export of an earlier version does not say so; such a name does.
        held=HeldWhy.LOST
        if "held" not in read.model_fields_set and is_lost_name(read.device_id)
        else read.held,
    )


def _is_cut_off(error: ValidationError) -> bool:
    """Whether a line is none because it ends too early; the parser has no other name for that."""
    return "EOF while parsing" in str(error.errors(include_url=False, include_input=False)[0]["msg"])


def _compact(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# --- into a spool -----------------------------------------------------------------------------------------

Key = Callable[[sqlite3.Connection, str, str], int]
"""Returns the small number that stands for a name: `(connection, table, name)`."""


class Importer:
    """Puts readings of another spool into this one, each once; used inside the caller's transactions.

    A reading is here already when one of the same device and date is, or, while either has no final date,
    one of the same device, boot and boot-time clock; also where another edge held it meanwhile, under another
    name. Another program may rename a device meanwhile: then it
    looks at all of them anew.

    One that is dated ahead of the time is kept as if the server had called it future, whatever it is called
    there: it is offered again, and no date goes on after its own.

    Args:
        connection: the spool's.
        key: gives devices and boots their numbers.
        now_ms: the date somebody vouches for; None when nobody does.

    Attributes:
        has_imported: whether a reading was imported, and the generation is a new one.
        connection: the spool's; what is known of its readings is gone with it.
        has_delivered: whether one of the readings handed over is called delivered.
        generation: the spool's; it is another after a renaming.
    """

    def __init__(self, connection: sqlite3.Connection, key: Key, now_ms: int | None) -> None:
        self.has_imported = False
        self.has_delivered = False
        self.connection = connection
        self._key = key
        self._latest_ms = LATEST_MS if now_ms is None else now_ms + FUTURE_MARGIN_MS
        self._seen = 0
        self.generation = read_identity(connection).generation
        for statement in schema.IMPORT_TABLES:
            connection.execute(statement)

    def take(self, records: Iterable[SpoolRecord]) -> SpoolImport:
        """Import readings; call it in a transaction."""
        self._look_around()
        done = SpoolImport()
        for record in records:
            done += self._take(record)
            self.has_delivered |= record.entry.state is SpoolState.DELIVERED
        return done

    def finish(self) -> None:
        """Name what is delivered to the server, which may have been restored since; in a transaction."""
        if self.has_delivered:
            for statement in schema.NAME_DELIVERED:
                self.connection.execute(statement)

    def _look_around(self) -> None:
        """Take note of what came, or got its date, since the last transaction."""
        generation = read_identity(self.connection).generation
        if generation != self.generation:
            self.generation, self._seen = generation, 0
            self.connection.execute("DELETE FROM temp.here")
        self.connection.execute(schema.IMPORT_NOTE, (self._seen,))
        self.connection.execute(schema.IMPORT_UNDATED)
        self._seen = self.connection.execute("SELECT coalesce(max(seq), 0) FROM reading").fetchone()[0]

    def _take(self, record: SpoolRecord) -> SpoolImport:
        entry = record.entry
        boot = self._key(self.connection, "boot", record.stamp.boot_id)
        if record.held is not None:
            if self._is_back(record, boot):
                return SpoolImport(known=1)
            hold(self.connection, entry.device_id, record.held)
        device = self._key(self.connection, "device", entry.device_id)
        found = self._find(record, device, boot)
        if found is not None:
            return SpoolImport(known=1) if found == entry.content else SpoolImport(different=(entry.seq,))
        is_ahead = entry.state is not SpoolState.WAITING and entry.ts_ms > self._latest_ms
        if is_ahead and record.code != schema.DOUBTFUL:  # that is not sent, whatever its date
            record = _put_off(record)
        self._add(record, device, boot)
        return SpoolImport(imported=1, ahead=int(is_ahead))

    def _add(self, record: SpoolRecord, device: int, boot: int) -> None:
        entry = record.entry
        seq = max(entry.seq, self._seen + 1)  # the same number where it is free
        self._seen = seq
        row = (seq, device, entry.ts_ms, boot, record.stamp.boot_ms, entry.clock_source, pack(entry.content))
        at = None if record.at is None else to_ms(record.at)
        connection = self.connection
        is_future = record.code == VerdictCode.FUTURE
        if entry.state is not SpoolState.WAITING:
            self._raise_floor(device, None if is_future or record.code == schema.DOUBTFUL else entry.ts_ms)
        connection.execute(schema.IMPORT_READING, row)
        offered = (2 if is_future else 1) if record.offered else 0  # its last answer may be on its way there
        standing = (device, entry.state, seq, offered, at, record.code, record.reason)
        connection.execute(schema.IMPORT_STANDING, standing)
        if is_future:
            connection.execute(schema.RESERVE, (device, entry.ts_ms))
        connection.execute(schema.IMPORT_NOTE_ONE, (seq,))
        if entry.state is SpoolState.WAITING or is_future:
            connection.execute("INSERT OR IGNORE INTO temp.undated VALUES (?)", (seq,))

    def _raise_floor(self, device: int, ts: int | None) -> None:
        """See to it that the device's last date does not fall back to that of an old reading now coming."""
        last = self.connection.execute(schema.LAST_TS, (device,)).fetchone()[0]
        dates = [date for date in (last, ts) if date is not None]
        if dates:
            self.connection.execute(schema.RAISE_FLOOR, (max(dates), device))

    def _is_back(self, record: SpoolRecord, boot: int) -> bool:
        """Whether another spool has a reading from this one, or this one from what it was, where it still is.

        What was recovered is another spool, with the same lost names: there the moment tells, to the boot.
        """
        name, content = record.entry.device_id, record.entry.content
        own = [device for device in map(self._device, self._own_names(name)) if device is not None]
        if any(self._find(record, device, boot) == content for device in own):
            return True
        lost = name.rpartition(".")[0]
        device = self._device(lost) if is_lost_name(lost) else None
        moment = (device, record.entry.ts_ms, boot, record.stamp.boot_ms, content)
        return self.connection.execute(schema.IMPORT_FIND_WAITING, moment).fetchone() is not None

    def _own_names(self, device_id: str) -> list[str]:
        owner = read_owner(self.connection)
        return [own_name(device_id, origin) for origin in (owner.edge_id, owner.spool_id) if origin]

    def _device(self, name: str) -> int | None:
        row = self.connection.execute("SELECT id FROM device WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def _find(self, record: SpoolRecord, device: int, boot: int) -> str | None:
        """Return the content of the reading here that this one is, if there is one."""
        entry = record.entry
        query, rest = schema.IMPORT_FIND_DATED, (entry.ts_ms, boot, record.stamp.boot_ms, entry.content)
        if entry.state is SpoolState.WAITING:
            query = schema.IMPORT_FIND_WAITING
        row = self.connection.execute(query, (device, *rest)).fetchone()
        return None if row is None else str(row[0])


def _put_off(record: SpoolRecord) -> SpoolRecord:
    """Return a reading that is dated ahead of the time as one the server has put off for that."""
    entry = record.entry._replace(state=SpoolState.DEFERRED)
    return replace(record, entry=entry, at=None, code=VerdictCode.FUTURE, reason=_AHEAD)
