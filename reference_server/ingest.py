"""`POST /v1/ingest`: every sample of a batch gets exactly one verdict, after the commit."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from operator import attrgetter
from time import monotonic
from typing import Any, Final

from pydantic import ValidationError

from reference_server.auth import Principal
from reference_server.bodies import parse_json, require_few_parts
from reference_server.decoder import BodyReader, Found, Readings, decode_batch
from reference_server.group_commit import GroupCommit
from reference_server.newer_fields import NewerFields
from reference_server.plans import Fates, OutdatedPlanError, Plan, Stored, lone_blocks, store
from reference_server.problems import Problem
from reference_server.storage.arrivals import LateBatch
from reference_server.storage.blocks import Block
from reference_server.storage.codec import Row, encode, endless_field
from reference_server.storage.connection import Connection
from reference_server.storage.database import Database
from reference_server.storage.devices import Devices, KnownDevice, note_edge, note_info, storable
from reference_server.storage.horizon import Horizon
from reference_server.storage.one_trip import store_new
from reference_server.storage.rollups import rebuild_days
from reference_server.storage.samples import (
    Aside,
    AsideReason,
    Key,
    keep_aside,
    missing_keys,
)
from reference_server.storage.writers import deleted_ones
from reference_server.verdicts import Verdicts
from sungrow_lib.sample import DEVICE_ID_PATTERN, SungrowSample, parse_ts, split_unknown
from sungrow_lib.wire import FRESH_S, DeviceInfo, Envelope, IngestAnswer, VerdictCode
from sungrow_lib.wording import A_DEVICE_ID, MISSING, first_fault

_LOG: Final = logging.getLogger(__name__)

FUTURE_TOLERANCE: Final = timedelta(minutes=5)
"""How far ahead of the server a reading may be."""

_FRESH: Final = timedelta(seconds=FRESH_S)
_ROWS_AT_ONCE: Final = 5_000
"""Rows of several requests that share a transaction."""
_WORTH_A_TRIP: Final = 300
"""Rows that take so long that a transaction more is hardly felt."""
_EDGE_SEEN_S: Final = 10.0
"""s between two notes that an edge still speaks for a device."""
_WARN_AGAIN_S: Final = 3600.0
_MOST_EDGES: Final = 100_000
_DEVICE_ID: Final = re.compile(DEVICE_ID_PATTERN[1:-1])


@dataclass(frozen=True, slots=True)
class Batch:
    """A request whose envelope is right.

    Attributes:
        envelope: what came beside the samples.
        size: how many samples there are.
        items: the samples, each still to be judged; empty when they are ``readings``.
        readings: the samples when all are of one device and beyond doubt.
    """

    envelope: Envelope
    size: int
    items: list[Any]
    readings: Readings | None = None

    @classmethod
    def from_bytes(cls, plain: bytes, quick: Found, *, max_samples: int) -> Batch:
        """Make it of the body of a request.

        Args:
            plain: the body.
            quick: what was found in it the short way.
            max_samples: most samples of a batch.

        Raises:
            Problem: 400 not JSON, 413 too many samples, 422 no samples or a wrong envelope.
        """
        if quick is None:
            return cls._from_json(parse_json(plain), max_samples)
        envelope, readings = quick
        size = len(readings.block)
        return cls(_envelope(envelope, size, max_samples), size, [], readings)

    def is_backlog(self, now: datetime) -> bool:
        """Whether all its readings are old; who sends none, or none with a time stamp, drains no backlog."""
        if self.readings is not None:
            return self.readings.block.newest < now - _FRESH
        stamps = [ts for item in self.items if isinstance(item, dict) and (ts := _ts_of(item)) is not None]
        return bool(stamps) and max(stamps) < now - _FRESH

    @classmethod
    def _from_json(cls, body: Any, max_samples: int) -> Batch:
        if not isinstance(body, dict) or not isinstance(body.get("samples"), list):
            errors = [{"field": "samples", "message": "must be there and be a list"}]
            raise Problem(422, 'send {"samples": [...]}', errors=errors)
        items = body.pop("samples")
        return cls(_envelope(body, len(items), max_samples), len(items), items)


def _envelope(fields: dict[str, Any], size: int, max_samples: int) -> Envelope:
    """Check what came beside ``size`` samples."""
    if size > max_samples:
        raise Problem(413, f"a batch holds at most {max_samples} samples; this one has {size}")
    try:
        envelope = Envelope.model_validate(fields)
    except ValidationError as error:
        raise Problem.wrong_content(error) from None
    if envelope.seq is not None and len(envelope.seq) != size:
        errors = [{"field": "seq", "message": "must be as long as samples"}]
        raise Problem(422, "seq must be as long as samples", errors=errors)
    return envelope


@dataclass(slots=True)
class _Sorted:
    """A batch by device: what each sample says for itself comes later."""

    verdicts: Verdicts = field(default_factory=Verdicts)
    indices: list[int] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    allowed: dict[str, bool] = field(default_factory=dict)

    def leave_out(self, deleted: Collection[str]) -> None:
        """Take nothing of deleted devices, not even what could never be valid."""
        kept = []
        for index, item in zip(self.indices, self.items, strict=True):
            if item["device_id"] in deleted:
                self.defer_deleted(index)
            else:
                kept.append((index, item))
        self.indices, self.items = [index for index, _ in kept], [item for _, item in kept]

    def defer_deleted(self, index: int) -> None:
        """Say that a sample is of a deleted device."""
        self.verdicts.defer(index, VerdictCode.DEVICE_DELETED, "this device was deleted here")

    @property
    def named(self) -> list[str]:
        """Devices of the batch that may be touched."""
        return [device_id for device_id, allowed in self.allowed.items() if allowed]


def _sort(batch: Batch, principal: Principal) -> _Sorted:
    """Find out whose each sample is, and whether this token may send it."""
    result = _Sorted()
    if batch.readings is not None:
        result.allowed[batch.readings.device_id] = principal.may_touch(batch.readings.device_id)
    for index, item in enumerate(batch.items):
        if not isinstance(item, dict):
            result.verdicts.reject(index, "a sample must be an object")
            continue
        device_id = item.get("device_id")
        if not isinstance(device_id, str) or (
            device_id not in result.allowed and _DEVICE_ID.fullmatch(device_id) is None
        ):
            result.verdicts.reject(index, f"device_id: {A_DEVICE_ID if 'device_id' in item else MISSING}")
            continue
        allowed = result.allowed.get(device_id)
        if allowed is None:
            allowed = result.allowed[device_id] = principal.may_touch(device_id)
        if allowed:
            result.indices.append(index)
            result.items.append(item)
        else:
            reason = "this token may not send for this device"
            result.verdicts.defer(index, VerdictCode.DEVICE_FORBIDDEN, reason)
    return result


@dataclass(frozen=True, slots=True)
class _Stored:
    """What became of a plan."""

    verdicts: Verdicts
    arrivals: list[LateBatch]
    resend: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch.

    Attributes:
        answer: what the sender is told.
        arrivals: for each device, the readings that are new.
    """

    answer: IngestAnswer
    arrivals: list[LateBatch]


class Ingest:
    """Takes batches.

    Args:
        database: where readings are stored.
        devices: finds devices.
        horizon: readings behind it are kept aside.
        clock: tells the time, UTC.
    """

    def __init__(
        self, database: Database, devices: Devices, *, horizon: Horizon, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._devices = devices
        self._horizon = horizon
        self._clock = clock
        self._reader = BodyReader()
        self._stored = Stored()
        self._newer = NewerFields()
        self._told: dict[int, tuple[int, DeviceInfo | None]] = {}  # of which version of the device
        self._warned: dict[tuple[str, ...], float] = {}
        self._seen: dict[tuple[int, str | None, str | None], float] = {}
        self._repeating = False  # whether what comes was stored before: then it is not tried as new first
        self._group = GroupCommit(
            self._commit, weight=attrgetter("weight"), limit=_ROWS_AT_ONCE, beside=_WORTH_A_TRIP
        )

    async def read(self, plain: bytes, *, max_samples: int) -> Batch:
        """Read the body of a request.

        Raises:
            Problem: 400 not JSON, 413 too many samples, 422 no samples or a wrong envelope.
        """
        require_few_parts(plain, max_samples)
        return Batch.from_bytes(plain, await self._reader.read(plain), max_samples=max_samples)

    async def take(self, batch: Batch, principal: Principal) -> Taken:
        """Store a batch and return the verdicts, after the commit.

        Raises:
            Problem: 403, every device of the batch is another's.
            StorageError: nothing is known to be stored; the same batch may be sent again.
        """
        while True:
            found = _sort(batch, principal)
            if found.allowed and not found.named:
                raise Problem(403, "this token may not send for " + ", ".join(sorted(found.allowed)[:3]))
            devices = await self._devices.find_or_add(found.named)
            speaker = self._speaker(found, devices) or await self._only_device(principal, batch)
            try:
                return await self._take(batch, found, devices, speaker)
            except OutdatedPlanError:
                for device in (*devices.values(), *([speaker] if speaker is not None else [])):
                    self._devices.forget(device.device_id)

    async def _take(
        self, batch: Batch, found: _Sorted, devices: Mapping[str, KnownDevice], speaker: KnownDevice | None
    ) -> Taken:
        """Store a batch as long as its devices are what they are remembered to be.

        Raises:
            OutdatedPlanError: they are not; nothing is stored.
            StorageError: nothing is known to be stored.
        """
        due = self._edge_is_due(batch.envelope, speaker)
        horizon = await self._horizon.lately(self._database)
        plan = self._plan(batch, found, devices, Plan(batch.envelope, speaker, due, horizon))
        stored = await self._group.submit(plan)
        self._remember(plan)
        rows = chain(plan.old, (row for _, row in plan.fresh))  # none of a block: it has no other fields
        self._newer.note(rows, {device.key: device.device_id for device in devices.values()})
        verdicts = stored.verdicts
        verdicts.rejected += found.verdicts.rejected
        verdicts.deferred += found.verdicts.deferred
        answer = verdicts.answer(batch.envelope.batch_id, batch.size, resend=stored.resend)
        return Taken(answer, stored.arrivals)

    def _plan(self, batch: Batch, found: _Sorted, devices: Mapping[str, KnownDevice], plan: Plan) -> Plan:
        """Judge each sample alone."""
        latest = self._clock() + FUTURE_TOLERANCE
        keys = {device_id: device.key for device_id, device in devices.items() if not device.deleted}
        if len(keys) < len(devices):
            found.leave_out(devices.keys() - keys.keys())
            if batch.readings is not None:  # all of one device
                for index in range(batch.size):
                    found.defer_deleted(index)
                return plan
        plan.block = _block(batch, keys, plan.horizon, latest)
        if plan.block is not None:
            return plan
        for index, row in _rows(batch, found, plan, keys):
            if row.ts > latest:
                reason = "ts is more than five minutes ahead of the server"
                found.verdicts.defer(index, VerdictCode.FUTURE, reason)
            elif row.ts < plan.horizon:
                plan.old.append(row)
            else:
                plan.fresh.append((index, row))
        return plan

    @staticmethod
    def _speaker(found: _Sorted, devices: Mapping[str, KnownDevice]) -> KnownDevice | None:
        """Return the one device of the batch: what the envelope says is about it."""
        return next(iter(devices.values())) if len(found.allowed) == len(devices) == 1 else None

    async def _only_device(self, principal: Principal, batch: Batch) -> KnownDevice | None:
        """Return whom an empty batch speaks for: the token's device when it has just one."""
        if batch.size or principal.devices is None or len(principal.devices) != 1:
            return None
        return next(iter((await self._devices.find(principal.devices)).values()), None)

    async def _commit(self, plans: Sequence[Plan]) -> list[_Stored]:
        """Store plans in one transaction."""
        return (not self._repeating and await self._commit_new(plans)) or await self._commit_any(plans)

    async def _commit_new(self, plans: Sequence[Plan]) -> list[_Stored] | None:
        """Store plans that are nothing but new blocks; None when they are more than that."""
        blocks = lone_blocks(plans)
        if len(blocks) < len(plans) or any(plan.asides or plan.old or self._is_news(plan) for plan in plans):
            return None
        believed = [plan.believed() for plan in plans]
        attempts = 0

        async def job(connection: Connection) -> set[Key] | None:
            nonlocal attempts
            attempts += 1
            unseen = attempts == 1 and self._stored.is_before(blocks)
            return await store_new(connection, blocks, list(chain(*believed)), unseen=unseen)

        missing = await self._database.run(job, is_one_statement=True)
        if missing is None:
            return None
        self._stored.note(blocks)
        fates = Fates(frozenset(blocks), frozenset(), {})
        results = []
        for plan, keys in zip(plans, believed, strict=True):
            verdicts = Verdicts()
            arrivals, _ = fates.judge(plan, verdicts)
            results.append(_Stored(verdicts, arrivals, resend=not missing.isdisjoint(keys)))
        return results

    async def _commit_any(self, plans: Sequence[Plan]) -> list[_Stored]:
        """Store plans, whatever they are; the second attempt expects others to insert the same keys.

        Whether their devices are still there is asked last, when all that is written to is locked: who
        deletes one, and sees no such lock from before, need not fear that anything of it comes after.

        Raises:
            OutdatedPlanError: one is not.
        """
        attempts = 0

        async def job(connection: Connection) -> list[_Stored]:
            nonlocal attempts
            attempts += 1
            fates = await store(connection, plans, careful=attempts > 1)
            self._repeating = bool(fates.repeated)
            judged = await self._judge(connection, plans, fates)
            if await deleted_ones(connection, {device for plan in plans for device in plan.devices}):
                raise OutdatedPlanError
            return judged

        return await self._database.run(job)

    async def _judge(self, connection: Connection, plans: Sequence[Plan], fates: Fates) -> list[_Stored]:
        """Give the verdicts in the order of the requests, and keep what cannot stand."""
        missing = await missing_keys(connection, list(chain(*(plan.believed() for plan in plans))))
        results = []
        for plan in plans:
            verdicts = Verdicts()
            arrivals, asides = fates.judge(plan, verdicts)
            asides += plan.asides
            await _keep_old(connection, plan, verdicts)
            await keep_aside(connection, asides, plan.envelope.edge_id)
            results.append(_Stored(verdicts, arrivals, resend=not missing.isdisjoint(plan.believed())))
        by_device = sorted(plans, key=lambda plan: plan.speaker.key if plan.speaker else 0)
        for plan in filter(self._is_news, by_device):  # others note in the same order: no deadlock
            await self._note(connection, plan)
        return results

    def _is_news(self, plan: Plan) -> bool:
        """Whether who speaks for a device, or what they know of it, is to be written down."""
        if plan.speaker is None or plan.speaker.deleted:
            return False
        return plan.edge_is_due or self._info_is_news(plan)

    def _info_is_news(self, plan: Plan) -> bool:
        assert plan.speaker is not None
        info = plan.envelope.device
        return info is not None and self._told.get(plan.speaker.key) != (plan.speaker.version, info)

    async def _note(self, connection: Connection, plan: Plan) -> None:
        """Remember who speaks for a device and what they know of it, when that is news."""
        envelope, speaker = plan.envelope, plan.speaker
        assert speaker is not None
        if plan.edge_is_due and envelope.edge_id is not None:
            max_seq = max(envelope.seq or (), default=None)
            others = await note_edge(connection, speaker.key, envelope.edge_id, envelope.generation, max_seq)
            self._warn_of(speaker.device_id, envelope.edge_id, others)
        if (
            self._info_is_news(plan)
            and envelope.device is not None
            and await note_info(connection, speaker.key, envelope.device)
        ):
            await rebuild_days(connection, speaker.key)

    def _warn_of(self, device_id: str, edge_id: str, others: Iterable[str]) -> None:
        """Name edges that send for one device, each pair once an hour."""
        now = monotonic()
        for other in others:
            pair = (device_id, *sorted((edge_id, other)))
            if now < self._warned.get(pair, 0.0):
                continue
            if len(self._warned) >= _MOST_EDGES:
                self._warned.clear()
            self._warned[pair] = now + _WARN_AGAIN_S
            extra = {"device_id": device_id, "edges": list(pair[1:])}
            _LOG.warning("two edges send for one device; if both run, rename it on one of them", extra=extra)

    def _edge_is_due(self, envelope: Envelope, speaker: KnownDevice | None) -> bool:
        if speaker is None or envelope.edge_id is None:
            return False
        seen = self._seen.get((speaker.key, envelope.edge_id, envelope.generation))
        return seen is None or monotonic() - seen > _EDGE_SEEN_S

    def _remember(self, plan: Plan) -> None:
        """Spare the next batches what this one has told the database."""
        if plan.speaker is None:
            return
        if plan.edge_is_due:
            if len(self._seen) >= _MOST_EDGES:
                self._seen.clear()
            edge = plan.envelope.edge_id, plan.envelope.generation
            self._seen[plan.speaker.key, *edge] = monotonic()
        if self._info_is_news(plan):
            self._told[plan.speaker.key] = plan.speaker.version, plan.envelope.device
            self._devices.forget(plan.speaker.device_id)


def _block(batch: Batch, keys: Mapping[str, int], horizon: datetime, latest: datetime) -> Block | None:
    """Readings that all may be stored, in their order; None when they have to be looked at one by one."""
    if batch.readings is None:
        return None
    block = batch.readings.of_device(keys[batch.readings.device_id])
    usual = block.is_in_order and horizon <= block.first and block.last <= latest
    return block if usual else None


def _rows(batch: Batch, found: _Sorted, plan: Plan, keys: Mapping[str, int]) -> Iterable[tuple[int, Row]]:
    """Rows of the readings that can be valid, each with its place in the batch."""
    if batch.readings is not None:
        return enumerate(batch.readings.of_device(keys[batch.readings.device_id]).rows())
    return _judged(found, plan, keys)


def _judged(found: _Sorted, plan: Plan, keys: Mapping[str, int]) -> Iterator[tuple[int, Row]]:
    rows = decode_batch(found.items, keys)
    for index, item, decoded in zip(found.indices, found.items, rows, strict=True):
        row = decoded or _modelled(found.verdicts, plan, keys[item["device_id"]], index, item)
        if row is not None:
            yield index, row


def _modelled(verdicts: Verdicts, plan: Plan, device: int, index: int, item: dict[str, Any]) -> Row | None:
    """Judge a sample by the model; None when it can never be valid."""
    known, unknown = split_unknown(item)
    try:
        sample = SungrowSample.model_validate(known)
    except ValidationError as error:
        reason = first_fault(error)
    else:
        endless = endless_field(unknown)
        if endless is None:
            return encode(device, sample, unknown)
        reason = f"{storable(endless)}: must hold finite numbers of ordinary size"
    verdicts.reject(index, reason)
    plan.asides.append(Aside.of_rejected(device, _ts_of(item), reason, item))
    return None


def _ts_of(item: Mapping[str, Any]) -> datetime | None:
    try:
        return parse_ts(item.get("ts"))
    except ValueError:
        return None


async def _keep_old(connection: Connection, plan: Plan, verdicts: Verdicts) -> None:
    """Keep rows behind the horizon aside: each value of a key once, whichever batch brings it."""
    asides = [Aside.of_row(row, AsideReason.BEHIND_HORIZON) for row in plan.old]
    new = await keep_aside(connection, asides, plan.envelope.edge_id)
    verdicts.inserted += new
    verdicts.duplicates += len(asides) - new
