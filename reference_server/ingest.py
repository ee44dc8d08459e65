"""`POST /v1/ingest`: every sample of a batch gets exactly one verdict, after the commit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from reference_server.auth import Principal
from reference_server.problems import Problem
from reference_server.storage.codec import Row, additional, differing, encode
from reference_server.storage.database import Connection, Database
from reference_server.storage.devices import Devices, KnownDevice, note_edge, note_info
from reference_server.storage.rollups import rebuild_days
from reference_server.storage.samples import (
    Aside,
    AsideReason,
    Key,
    insert_rows,
    json_body,
    keep_aside,
    mark,
    missing_stamps,
    stored_rows,
)
from sungrow_lib._version import __version__
from sungrow_lib.sample import DEVICE_ID_PATTERN, SungrowSample, parse_ts, split_unknown
from sungrow_lib.wire import DeviceInfo, Envelope, IngestAnswer, Verdict, VerdictCode

FUTURE_TOLERANCE: Final = timedelta(minutes=5)
"""How far ahead of the server a reading may be."""

_REASON_LIMIT: Final = 240


@dataclass(slots=True)
class _Verdicts:
    """What is known of the samples of one batch so far."""

    inserted: int = 0
    duplicates: int = 0
    conflicts: list[Verdict] = field(default_factory=list)
    rejected: list[Verdict] = field(default_factory=list)
    deferred: list[Verdict] = field(default_factory=list)

    def reject(self, index: int, reason: str) -> None:
        self.rejected.append(_verdict(index, VerdictCode.INVALID, reason))

    def defer(self, index: int, code: VerdictCode, reason: str) -> None:
        self.deferred.append(_verdict(index, code, reason))

    def conflict(self, index: int, columns: Iterable[str]) -> None:
        reason = "stored before with other values of " + ", ".join(columns)
        self.conflicts.append(_verdict(index, VerdictCode.DIFFERENT_VALUE, reason))

    def answer(self, batch_id: str | None, received: int, *, resend: bool) -> IngestAnswer:
        return IngestAnswer(
            batch_id=batch_id,
            received=received,
            inserted=self.inserted,
            duplicates=self.duplicates,
            conflicts=_by_index(self.conflicts),
            rejected=_by_index(self.rejected),
            deferred=_by_index(self.deferred),
            resend=resend,
            server_version=__version__,
        )


def _verdict(index: int, code: VerdictCode, reason: str) -> Verdict:
    return Verdict(index=index, code=code.value, reason=reason[:_REASON_LIMIT])


def _by_index(verdicts: list[Verdict]) -> list[Verdict]:
    return sorted(verdicts, key=lambda verdict: verdict.index)


@dataclass(frozen=True, slots=True)
class _Rejected:
    """A sample that can never be valid, of a device that may be named."""

    index: int
    device_id: str
    item: dict[str, Any]
    reason: str


@dataclass(frozen=True, slots=True)
class _Valid:
    """A sample that says what it must."""

    index: int
    sample: SungrowSample
    unknown: dict[str, Any]


@dataclass(slots=True)
class _Sorted:
    """A batch after looking at each sample alone."""

    verdicts: _Verdicts = field(default_factory=_Verdicts)
    valid: list[_Valid] = field(default_factory=list)
    rejected: list[_Rejected] = field(default_factory=list)
    named: set[str] = field(default_factory=set)
    forbidden: set[str] = field(default_factory=set)

    @property
    def allowed(self) -> set[str]:
        """Devices of the batch that may be touched."""
        return self.named - self.forbidden


@dataclass(frozen=True, slots=True)
class Batch:
    """A request whose envelope is right.

    Attributes:
        envelope: what came beside the samples.
        items: the samples, each still to be judged.
    """

    envelope: Envelope
    items: list[Any]

    @classmethod
    def from_body(cls, body: Any, *, max_samples: int) -> Batch:
        """Read the body of a request.

        Raises:
            Problem: 413 too many samples, 422 no samples or a wrong envelope.
        """
        if not isinstance(body, dict) or not isinstance(body.get("samples"), list):
            errors = [{"field": "samples", "message": "must be there and be a list"}]
            raise Problem(422, 'send {"samples": [...]}', errors=errors)
        items = body["samples"]
        if len(items) > max_samples:
            raise Problem(413, f"a batch holds at most {max_samples} samples; this one has {len(items)}")
        try:
            envelope = Envelope.model_validate({k: v for k, v in body.items() if k != "samples"})
        except ValidationError as error:
            raise Problem.wrong_content(error) from None
        if envelope.seq is not None and len(envelope.seq) != len(items):
            errors = [{"field": "seq", "message": "must be as long as samples"}]
            raise Problem(422, "seq must be as long as samples", errors=errors)
        return cls(envelope, items)


def _sort(items: list[Any], principal: Principal) -> _Sorted:
    """Look at each sample alone: is it one, and may this token send it?"""
    result = _Sorted()
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            result.verdicts.reject(index, "a sample must be an object")
            continue
        device_id = item.get("device_id")
        if not isinstance(device_id, str) or re.fullmatch(DEVICE_ID_PATTERN[1:-1], device_id) is None:
            result.verdicts.reject(index, "device_id must match [A-Za-z0-9._-]{1,64}")
            continue
        result.named.add(device_id)
        if not principal.may_touch(device_id):
            result.forbidden.add(device_id)
            result.verdicts.defer(
                index, VerdictCode.DEVICE_FORBIDDEN, "this token may not send for this device"
            )
            continue
        _sort_named(result, index, device_id, item)
    return result


def _sort_named(result: _Sorted, index: int, device_id: str, item: dict[str, Any]) -> None:
    known, unknown = split_unknown(item)
    try:
        sample = SungrowSample.model_validate(known)
    except ValidationError as error:
        reason = _first_fault(error)
        result.verdicts.reject(index, reason)
        result.rejected.append(_Rejected(index, device_id, item, reason))
    else:
        result.valid.append(_Valid(index, sample, unknown))


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"


@dataclass(slots=True)
class _Plan:
    """What a batch asks of the database: repeatable, because a transaction may run twice."""

    fresh: dict[Key, list[tuple[int, Row]]] = field(default_factory=dict)
    old: dict[Key, list[tuple[int, Row]]] = field(default_factory=dict)
    asides: list[Aside] = field(default_factory=list)


class Ingest:
    """Takes batches.

    Args:
        database: where readings are stored.
        devices: finds devices.
        retention: how long raw readings are kept.
        clock: tells the time, UTC.
    """

    def __init__(
        self, database: Database, devices: Devices, *, retention: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._devices = devices
        self._retention = retention
        self._clock = clock
        self._told: dict[int, DeviceInfo | None] = {}

    async def take(self, batch: Batch, principal: Principal) -> IngestAnswer:
        """Store a batch and return the verdicts, after the commit.

        Raises:
            Problem: 403, every device of the batch is another's.
            StorageError: nothing is known to be stored; the same batch may be sent again.
        """
        found = _sort(batch.items, principal)
        if found.named and not found.allowed:
            raise Problem(403, "this token may not send for " + ", ".join(sorted(found.named)[:3]))
        devices = await self._devices.find_or_add(found.allowed)
        plan = self._plan(found, devices)
        speaker = self._speaker(found, devices) or await self._only_device(principal, batch)

        async def job(connection: Connection) -> tuple[_Verdicts, bool]:
            return await self._store(connection, batch.envelope, plan, speaker)

        stored, resend = await self._database.run(job)
        if speaker is not None and batch.envelope.device not in {None, self._told.get(speaker.key)}:
            self._told[speaker.key] = batch.envelope.device
            self._devices.forget(speaker.device_id)
        stored.rejected += found.verdicts.rejected
        stored.deferred += found.verdicts.deferred
        return stored.answer(batch.envelope.batch_id, len(batch.items), resend=resend)

    def _plan(self, found: _Sorted, devices: Mapping[str, KnownDevice]) -> _Plan:
        now = self._clock()
        horizon = now - self._retention
        plan = _Plan()
        for valid in found.valid:
            device, ts = devices[valid.sample.device_id], valid.sample.ts
            if device.deleted:
                found.verdicts.defer(valid.index, VerdictCode.DEVICE_DELETED, "this device was deleted here")
            elif ts > now + FUTURE_TOLERANCE:
                reason = "ts is more than five minutes ahead of the server"
                found.verdicts.defer(valid.index, VerdictCode.FUTURE, reason)
            else:
                row = encode(device.key, valid.sample, valid.unknown)
                rows = plan.old if ts < horizon else plan.fresh
                rows.setdefault(row.key, []).append((valid.index, row))
        for rejected in found.rejected:
            key = devices[rejected.device_id].key
            plan.asides.append(Aside.of_rejected(key, _ts_of(rejected.item), rejected.reason, rejected.item))
        return plan

    @staticmethod
    def _speaker(found: _Sorted, devices: Mapping[str, KnownDevice]) -> KnownDevice | None:
        """Return the one device of the batch: what the envelope says is about it."""
        return next(iter(devices.values())) if len(found.named) == len(devices) == 1 else None

    async def _only_device(self, principal: Principal, batch: Batch) -> KnownDevice | None:
        """Return whom an empty batch speaks for: the token's device when it has just one."""
        if batch.items or principal.devices is None or len(principal.devices) != 1:
            return None
        return next(iter((await self._devices.find(principal.devices)).values()), None)

    async def _store(
        self, connection: Connection, envelope: Envelope, plan: _Plan, speaker: KnownDevice | None
    ) -> tuple[_Verdicts, bool]:
        verdicts = _Verdicts()
        inserted = await insert_rows(connection, [rows[0][1] for rows in plan.fresh.values()])
        await mark(connection, inserted)
        standing = await stored_rows(connection, plan.fresh.keys() - inserted)
        asides = [*plan.asides]
        for key, rows in plan.fresh.items():
            if key in inserted:
                verdicts.inserted += 1
                asides += _compare(verdicts, rows[0][1], rows[1:])
            else:
                asides += _compare(verdicts, standing[key], rows)
        asides += await self._keep_old(connection, plan, verdicts, envelope.edge_id)
        await keep_aside(connection, asides, envelope.edge_id)
        resend = False
        if speaker is not None and not speaker.deleted:
            await self._note(connection, envelope, speaker.key)
            resend = await self._lacks(connection, envelope, speaker.key)
        return verdicts, resend

    @staticmethod
    async def _keep_old(
        connection: Connection, plan: _Plan, verdicts: _Verdicts, edge_id: str | None
    ) -> list[Aside]:
        """Keep rows behind the horizon aside, and return what else to keep of them."""
        firsts = [Aside.of_row(rows[0][1], AsideReason.BEHIND_HORIZON) for rows in plan.old.values()]
        new = {(device, ts) for device, ts, _ in await keep_aside(connection, firsts, edge_id)}
        asides: list[Aside] = []
        for key, rows in plan.old.items():
            if key in new:
                verdicts.inserted += 1
            else:
                verdicts.duplicates += 1
            asides += _compare(verdicts, rows[0][1], rows[1:])
        return asides

    async def _note(self, connection: Connection, envelope: Envelope, device: int) -> None:
        """Remember who speaks for a device and what they know of it, when that is news."""
        if envelope.edge_id is not None:
            max_seq = max(envelope.seq or (), default=None)
            await note_edge(connection, device, envelope.edge_id, envelope.generation, max_seq)
        if (
            envelope.device is not None
            and envelope.device != self._told.get(device)
            and await note_info(connection, device, envelope.device)
        ):
            await rebuild_days(connection, device)

    async def _lacks(self, connection: Connection, envelope: Envelope, device: int) -> bool:
        horizon = self._clock() - self._retention
        stamps = [ts for ts in envelope.last_delivered or () if ts >= horizon]
        return bool(stamps) and bool(await missing_stamps(connection, device, stamps))


def _compare(verdicts: _Verdicts, standing: Row, rows: Iterable[tuple[int, Row]]) -> list[Aside]:
    """Judge rows whose key is taken against the row that stands; return what to keep aside."""
    asides = []
    for index, row in rows:
        columns = differing(standing, row)
        if columns:
            verdicts.conflict(index, columns)
            asides.append(Aside.of_row(row, AsideReason.CONFLICT, ", ".join(columns)))
            continue
        verdicts.duplicates += 1
        more = additional(standing, row)
        if more:
            asides.append(Aside(row.device, row.ts, AsideReason.ADDITIONAL, None, json_body(more)))
    return asides


def _ts_of(item: Mapping[str, Any]) -> datetime | None:
    try:
        return parse_ts(item.get("ts"))
    except ValueError:
        return None
