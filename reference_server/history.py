"""History in and out: `sungrow-server import` and `sungrow-server export`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO

from reference_server.ending import interruptible, to_its_end
from reference_server.history_files import Told, opened, reason_of, require_past, told_by
from reference_server.spacing import MOST_INTERVALS, Spaced, Spacing
from reference_server.storage.codec import Flag, Row, decode, differing, encode
from reference_server.storage.connection import Connection
from reference_server.storage.database import PATIENCE_S, fetch, session
from reference_server.storage.devices import known_device
from reference_server.storage.errors import RETRYABLE
from reference_server.storage.horizon import Horizon
from reference_server.storage.migrations import refresh_aggregates
from reference_server.storage.retention import IMPORTS
from reference_server.storage.rollups import lock_device, recompute
from reference_server.storage.samples import (
    Aside,
    AsideReason,
    Key,
    insert_rows,
    keep_aside,
    stored_rows,
    stream_rows,
)
from reference_server.zones import QUARTER, quarter_of
from sungrow_lib.capture import Capture, load_capture, merge_captures
from sungrow_lib.decoding import decoded
from sungrow_lib.errors import SungrowError, UnknownFamilyError, UsageError
from sungrow_lib.sample import SungrowSample, format_ts

_ROWS_AT_ONCE: Final = 2_000
"""Rows of one transaction: under a second, for which readers of devices of the same shard wait."""
_ATTEMPTS: Final = 5
_BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_TOO_FEW: Final = "fewer than four rows tell none, --interval SECONDS names it"
_NO_VALUES: Final = frozenset({"device_id", "ts", "sample_count"})
"""What a reading says even when nothing was read."""


class DeviceDeletedError(SungrowError):
    """No readings are taken of a deleted device.

    Args:
        device_id: which one.
    """

    def __init__(self, device_id: str) -> None:
        super().__init__(
            f"{device_id} is deleted: nothing is imported; sungrow-server device restore takes it back"
        )


@dataclass(slots=True)
class ImportResult:
    """What became of a file's rows, so far.

    Attributes:
        inserted: stored now.
        duplicates: stored before, with no different value; or kept aside before as one of ``frozen``.
        aside: kept aside: other values than the stored ones, or behind the retention horizon where rollups
            exist that they would have to change.
        frozen: how many of those lie behind the horizon, where no reading stands to compare them with.
        passing: how many were stored that are older than raw readings are kept: their rollups stay.
        intervals: those that readings were taken to have that do not say what time they stand for.
        too_few: whether there were too few of them to tell.
    """

    inserted: int = 0
    duplicates: int = 0
    aside: int = 0
    frozen: int = 0
    passing: int = 0
    intervals: set[timedelta] = field(default_factory=set)
    too_few: bool = False

    @property
    def rows(self) -> int:
        """How many rows these are together."""
        return self.inserted + self.duplicates + self.aside

    def add(self, other: ImportResult) -> None:
        """Count those of another part, too."""
        self.inserted += other.inserted
        self.duplicates += other.duplicates
        self.aside += other.aside
        self.frozen += other.frozen
        self.passing += other.passing
        self.intervals |= other.intervals
        self.too_few |= other.too_few

    def __str__(self) -> str:
        """Say it in words."""
        counts = f"imported {self.inserted}, known {self.duplicates}, kept aside {self.aside}"
        if self.frozen:
            counts += f" ({self.frozen} behind the retention horizon, where rollups stay as they are)"
        if self.passing:
            counts += f"; of {self.passing} only rollups will stay, so old they are (RAW_RETENTION_DAYS)"
        ends = sorted({min(self.intervals), max(self.intervals)}) if self.intervals else []
        taken = " to ".join(f"{end.total_seconds():g}" for end in ends)
        if taken:
            return f"{counts}; interval taken: {taken} s"
        return f"{counts}; no interval taken: {_TOO_FEW}" if self.too_few else counts


class ImportBrokenOffError(SungrowError):
    """An import ended before its end: what came before is stored.

    Args:
        reason: why.
        result: what is stored.
    """

    def __init__(self, reason: str, result: ImportResult) -> None:
        super().__init__(reason + _kept(result))
        self.result = result


def _kept(result: ImportResult) -> str:
    return (
        f"; the first {result.rows} rows are stored ({result}): import the same again, and it goes on from "
        "there"
    )


Report = Callable[[ImportResult], None]
"""Is told what is stored after each part of an import."""


def _nobody(_result: ImportResult) -> None:
    """Tell nobody."""


async def import_csv(
    url: str,
    file: Path,
    device_id: str,
    *,
    source: str,
    retention: timedelta,
    interval: timedelta | None = None,
    report: Report = _nobody,
) -> ImportResult:
    """Store the rows of a CSV file, or of an export, with their rollups; again, it stores nothing twice.

    Where raw readings are gone meanwhile, nothing is left to compare a row with: it is kept aside once, and
    the rollups stay as they are.

    It is stored in parts, each in a transaction of its own: the server goes on meanwhile, and what an import
    that breaks off has stored stays stored.

    Args:
        url: the database.
        file: header ``ts,FIELD,...``; an empty cell is unknown; lists are JSON. Or what
            :func:`export_samples` writes. ``-`` reads stdin.
        device_id: whose readings they are; made known if need be.
        source: where they come from; written down with their span of time.
        retention: rows older than it get rollups only where there are none.
        interval: how far apart those rows lie that do not say what time they stand for; None has the rows of
            a CSV file without a column ``interval_s`` tell it.
        report: is told what is stored after each part.

    Raises:
        UsageError: the file cannot be read, or a row is not a reading; says what is stored.
        DeviceDeletedError: the device is deleted; nothing is stored.
        ImportBrokenOffError: a part is stored.
        StorageError: the database cannot be used; nothing is stored.
    """
    with opened(file) as stream:
        told = told_by(stream, file.name, device_id)
        return await _Import(url, device_id, source, retention, interval, report).run(told)


async def import_captures(
    url: str,
    files: Sequence[Path],
    device_id: str,
    *,
    source: str,
    retention: timedelta,
    interval: timedelta | None = None,
    report: Report = _nobody,
) -> ImportResult:
    """Store what captures of one device say, with its rollups; again, it stores nothing twice.

    Args:
        url: the database.
        files: captures that say when they were read (`ts`); those of one moment make one reading.
        device_id: whose readings they are, whatever the captures say; made known if need be.
        source: where they come from; written down with their span of time.
        retention: readings older than it get rollups only where there are none.
        interval: how far apart they lie; None makes them moments.
        report: is told what is stored after each part.

    Raises:
        UsageError: a file is no capture, or does not say when or of what family; nothing is stored.
        DeviceDeletedError: the device is deleted; nothing is stored.
        ImportBrokenOffError: a part is stored.
        StorageError: the database cannot be used; nothing is stored.
    """
    told = (Told(sample, {}) for sample in _captured(files, device_id))
    return await _Import(url, device_id, source, retention, interval, report).run(told)


def _captured(files: Sequence[Path], device_id: str) -> list[SungrowSample]:
    """Readings of captures, in the order of time."""
    moments: dict[datetime, dict[Path, Capture]] = {}
    for file in files:
        capture = load_capture(file)
        if capture.ts is None:
            raise UsageError(f'{file}: does not say when it was read; add "ts": "2026-01-31T10:00:00.000Z"')
        moments.setdefault(capture.ts, {})[file] = capture
    return [_reading(captures, device_id) for _, captures in sorted(moments.items())]


def _reading(captures: Mapping[Path, Capture], device_id: str) -> SungrowSample:
    try:
        said = decoded(merge_captures(list(captures.values())))["sample"]
        _require_values(said)
        sample = SungrowSample.model_validate(said | {"device_id": device_id})
        require_past(sample)
    except UnknownFamilyError:
        raise UsageError(f'{_named(captures)}: does not say of what model; add "model": "SH10RT"') from None
    except (UsageError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, ValueError) else str(error)
        raise UsageError(f"{_named(captures)}: {reason}") from None
    return sample


def _require_values(said: Mapping[str, Any]) -> None:
    if all(value is None for name, value in said.items() if name not in _NO_VALUES):
        raise UsageError("says nothing that a reading holds; make a capture of all with sungrow dump HOST")


def _named(files: Iterable[Path]) -> str:
    return ", ".join(map(str, files))


class _Import:
    """Stores what is told part by part.

    Rollups change under the lock of the device's shard, which is held for one part at a time: between two the
    refresher finds its turn. Retention leaves raw readings alone meanwhile, so that the next part finds the
    last reading of this one; so what lies inside the horizon as an import begins does so up to its end.
    """

    def __init__(
        self,
        url: str,
        device_id: str,
        source: str,
        retention: timedelta,
        interval: timedelta | None,
        report: Report,
    ) -> None:
        self._url = url
        self._device_id = device_id
        self._source = source
        self._retention = retention
        self._interval = interval
        self._horizon = _BEGINNING
        self._report = report
        self._entry: int | None = None
        self._made: frozenset[datetime] = frozenset()
        self.result = ImportResult()

    async def run(self, told: Iterator[Told]) -> ImportResult:
        try:
            async with session(self._url, patience_s=PATIENCE_S) as connection:
                await fetch(connection, "announce_import", namespace=IMPORTS)
                self._horizon = await Horizon(self._retention, lambda: datetime.now(UTC)).now(connection)
                await self._store_all(connection, told)
                if self._entry is not None:
                    await fetch(connection, "finish_import_range", entry=self._entry)
        except SungrowError as error:
            if not self.result.rows:
                raise
            self._refresh_aggregates()
            if isinstance(error, UsageError):
                raise UsageError(str(error) + _kept(self.result)) from error
            raise ImportBrokenOffError(str(error), self.result) from error
        self._refresh_aggregates()
        return self.result

    def _refresh_aggregates(self) -> None:
        """Spare the aggregates the wait for the server, to which an interrupt leaves them."""
        if self.result.rows:  # known ones, too: an import may have been killed that stored them
            refresh_aggregates(self._url)

    async def _store_all(self, connection: Connection, told: Iterator[Told]) -> None:
        some = _some(told)
        if not some:  # no device is made known by that, nor by a file that is wrong from its first line on
            return
        await fetch(connection, "add_devices", device_ids=[self._device_id])
        spacing = Spacing(self._interval, await self._covered(connection))
        while some:
            await self._store(connection, some, spacing.fill(some))
            some = _some(told)

    async def _covered(self, connection: Connection) -> timedelta:
        """How far apart readings may lie that say no interval, and still cover all of the time."""
        known = await known_device(connection, self._device_id)
        assert known is not None
        return timedelta(seconds=MOST_INTERVALS * known.poll_interval_s)

    async def _store(self, connection: Connection, some: Sequence[Told], spaced: Spaced) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                await self._store_once(connection, some, spaced)
            except RETRYABLE:
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    async def _store_once(self, connection: Connection, some: Sequence[Told], spaced: Spaced) -> None:
        result = ImportResult()
        async with AsyncExitStack() as transaction:
            await transaction.enter_async_context(connection.transaction())
            device = await self._locked(connection)
            rows = [encode(device, told.sample, told.unknown, Flag.IMPORTED) for told in some]
            made = self._made | await _free_buckets(connection, rows, self._horizon)
            await _import_rows(connection, rows, spaced, self._horizon, made, result)
            entry = await self._note(connection, device, rows, result.inserted)
            commit = transaction.pop_all().aclose

        async def settle() -> None:
            await commit()
            connection.settled()
            self._entry, self._made = entry, made
            self.result.add(result)
            self._report(self.result)

        await to_its_end(settle())

    async def _locked(self, connection: Connection) -> int:
        """Wait for the right to change the device's rollups; return its key."""
        known = await known_device(connection, self._device_id)
        assert known is not None
        await lock_device(connection, known.key)
        known = await known_device(connection, self._device_id)  # while we waited it may have been erased
        assert known is not None
        if known.deleted:
            raise DeviceDeletedError(self._device_id)
        return known.key

    async def _note(self, connection: Connection, device: int, rows: Sequence[Row], inserted: int) -> int:
        """Write down that a span was imported: one entry for all parts."""
        stamps = [row.ts for row in rows]
        span = {"from_ts": min(stamps), "to_ts": max(stamps), "row_count": inserted}
        if self._entry is None:
            [(entry,)] = await fetch(
                connection, "add_import_range", device=device, source=self._source, **span
            )
            return int(entry)
        await fetch(connection, "extend_import_range", entry=self._entry, **span)
        return self._entry


def _some(told: Iterator[Told]) -> list[Told]:
    """Read a part, and be interrupted at once: its file may be a pipe in which nothing comes."""
    with interruptible():
        return list(islice(told, _ROWS_AT_ONCE))


async def _import_rows(
    connection: Connection,
    rows: Sequence[Row],
    spaced: Spaced,
    horizon: datetime,
    made: Collection[datetime],
    result: ImportResult,
) -> None:
    """Store a part of an import; ``made`` are the quarters behind the horizon that the import fills.

    What a reading is taken to stand for is stored with it, but is nothing the file says: where another is
    stored, it makes no difference.
    """
    asides: list[Aside] = []
    incomparable: list[Aside] = []
    wanted: dict[Key, Row] = {}
    frozen = [row for row in rows if row.ts < horizon and quarter_of(row.ts) not in made]
    known = await stored_rows(connection, {row.key for row in frozen})
    for row in frozen:
        if row.key in known:
            _compare(known[row.key], row, asides, result)
        else:
            incomparable.append(Aside.of_row(row, AsideReason.BEHIND_HORIZON))
    for row in rows:
        if row.ts < horizon and quarter_of(row.ts) not in made:
            continue
        if row.key not in wanted:
            wanted[row.key] = row
        else:
            _compare(wanted[row.key], row, asides, result)
    inserted = await insert_rows(connection, [_standing_for(row, spaced) for row in wanted.values()])
    result.inserted += len(inserted)
    result.passing += sum(ts < horizon for _, ts in inserted)
    standing = await stored_rows(connection, wanted.keys() - inserted)
    for key, stored in standing.items():
        _compare(stored, wanted[key], asides, result)
    await keep_aside(connection, asides, None)
    result.frozen += await keep_aside(connection, incomparable, None)
    result.aside += len(asides) + result.frozen
    result.duplicates += len(incomparable) - result.frozen
    if inserted:
        result.intervals.update(spaced.intervals)
        result.too_few = spaced.too_few
        buckets = {(device, quarter_of(ts)) for device, ts in inserted}
        await recompute(connection, buckets, horizon=_BEGINNING, beside_frozen=bool(made))


def _standing_for(row: Row, spaced: Spaced) -> Row:
    span = None if "interval_s" in row.columns else spaced.spans.get(row.ts)
    if span is None:
        return row
    return row._replace(columns=(*row.columns, "interval_s"), values=(*row.values, span // _MS))


def _compare(standing: Row, other: Row, asides: list[Aside], result: ImportResult) -> None:
    columns = differing(standing, other)
    if columns:
        asides.append(Aside.of_row(other, AsideReason.CONFLICT, ", ".join(columns)))
    else:
        result.duplicates += 1


async def _free_buckets(connection: Connection, rows: Sequence[Row], horizon: datetime) -> set[datetime]:
    """Quarters of an hour behind the horizon that may get a rollup, or another one.

    They have none yet, or one that an import made that broke off, and whose readings are all still there.
    """
    old = sorted({quarter_of(row.ts) for row in rows if row.ts < horizon})
    if not old:
        return set()
    span = {"lowest": old[0], "until": old[-1] + QUARTER}
    found = await fetch(
        connection, "free_buckets", device=rows[0].device, buckets=old, imported=int(Flag.IMPORTED), **span
    )
    return {bucket for (bucket,) in found}


async def export_samples(
    url: str, device_id: str, begin: datetime | None, end: datetime | None, out: TextIO
) -> None:
    """Write the stored readings of a device, one JSON object a line, exactly as they were sent.

    Args:
        url: the database.
        device_id: whose readings.
        begin: first moment, included; None from the beginning.
        end: last moment, not included; None up to the end.
        out: where to write.

    Raises:
        UsageError: there is no such device.
        StorageError: the database cannot be used.
    """
    async with session(url) as connection:
        found = await fetch(connection, "find_devices", device_ids=[device_id])
        if not found:
            raise UsageError(f"there is no device {device_id}; see sungrow-server device list")
        async with aclosing(
            stream_rows(connection, found[0][0], begin, end)
        ) as rows:  # before its connection
            async for row in rows:
                out.write(_line(device_id, row) + "\n")


def _line(device_id: str, row: Row) -> str:
    return json.dumps({"device_id": device_id, "ts": format_ts(row.ts)} | decode(row), separators=(",", ":"))


__all__ = ["ImportBrokenOffError", "ImportResult", "export_samples", "import_captures", "import_csv"]
