"""What goes into the spool and comes out of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

from sungrow_lib.sample import format_ts
from sungrow_lib.spool.clock import BootStamp
from sungrow_lib.spool.packing import unpack

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_DAY_S: Final = 86_400.0


def to_ms(ts: datetime) -> int:
    """Milliseconds since 1970 of an aware time, exactly."""
    return (ts - _EPOCH) // _MILLISECOND


def from_ms(ms: int) -> datetime:
    """The aware UTC time of milliseconds since 1970, exactly."""
    return _EPOCH + ms * _MILLISECOND


class SpoolState(IntEnum):
    """Where an accepted reading stands; the numbers are those in the file."""

    PENDING = 0
    """To be delivered; its content and date are final."""
    WAITING = 1
    """Durable, but undated: it waits for a trusted clock."""
    DEFERRED = 2
    """Kept, and offered again at a later time."""
    REJECTED = 3
    """In quarantine: the server says it can never be valid."""
    CONFLICT = 4
    """In quarantine: the server holds a different value under the same key, and this one aside."""
    DELIVERED = 5
    """The server has it; kept here for a while in case the server loses it."""


class Lane(StrEnum):
    """From which end pending readings are taken."""

    FRESH = "fresh"
    """The newest ones."""
    BACKLOG = "backlog"
    """The oldest ones, leaving the newest batch to the fresh lane."""
    DUE = "due"
    """Deferred ones whose time has come."""


class SpoolEntry(NamedTuple):
    """An accepted reading, as it is sent.

    Attributes:
        seq: running number, never used twice in one spool.
        device_id: the device.
        ts_ms: final date in ms since 1970, UTC (provisional while `state` is WAITING).
        kept: its content as the spool keeps it, small: a batch of them waits in memory for its answer.
        clock_source: where the date came from, when not from a trusted clock.
        state: where it stands.
    """

    seq: int
    device_id: str
    ts_ms: int
    kept: str | bytes
    clock_source: str | None = None
    state: SpoolState = SpoolState.PENDING

    @property
    def content(self) -> str:
        """The sample's JSON object without `device_id` and `ts`, exactly as accepted."""
        return unpack(self.kept)

    @property
    def ts(self) -> datetime:
        """The date, aware, in UTC."""
        return from_ms(self.ts_ms)

    def to_json(self) -> str:
        """Return the sample's JSON as it goes to the server."""
        head = f'{{"device_id":"{self.device_id}","ts":"{format_ts(self.ts)}"'
        if self.clock_source is not None:
            head += f',"clock_source":{json.dumps(self.clock_source)}'
        content = self.content
        return f"{head}}}" if content == "{}" else f"{head},{content[1:]}"


@dataclass(frozen=True, slots=True)
class SpoolRecord:
    """An entry with all the spool knows of it, for export and inspection.

    Attributes:
        entry: the reading.
        offered: whether it was ever sent, or was about to be; from then on its date stands.
        at: delivered when (None while no trusted clock has told), or deferred until; UTC.
        code: the server's verdict code, for quarantined and deferred ones.
        reason: the same for people.
        stamp: the boot-time clock when it was read.
        held: why its device's readings are not sent; None for most.
    """

    entry: SpoolEntry
    offered: bool
    at: datetime | None
    code: str | None
    reason: str | None
    stamp: BootStamp
    held: HeldWhy | None = None


class Judged(NamedTuple):
    """A reading set apart, and why."""

    seq: int
    code: str
    reason: str


class SetApart(NamedTuple):
    """Deferred or quarantined readings of a device that have the same code.

    Attributes:
        device_id: of the readings.
        state: where they stand.
        code: the verdict's; None where it cannot be read.
        readings: how many they are.
        reason: of the latest of them; None where there is none, or it cannot be read.
    """

    device_id: str
    state: SpoolState
    code: str | None
    readings: int
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What an answer means for the readings of one batch; settled in one transaction.

    Attributes:
        delivered: numbers of readings the server has.
        were_known: whether it had all of them before: then they were delivered when they first were.
        conflicts: to quarantine.
        rejected: to quarantine.
        deferred: to offer again `retry_in_s` from now.
        witness: number of a delivered reading that was sent once more, after this batch and alone, and which
            the server has; it stays where it is, and is named in `last_delivered`.
        retry_in_s: seconds.
        server_version: who judged; a version never seen before gets all earlier rejects once more.
    """

    delivered: Sequence[int] = ()
    were_known: bool = False
    conflicts: Sequence[Judged] = ()
    rejected: Sequence[Judged] = ()
    deferred: Sequence[Judged] = ()
    witness: int | None = None
    retry_in_s: float = 300.0
    server_version: str | None = None


@dataclass(frozen=True, slots=True)
class SpoolMerging:
    """A time in which a full disk made the spool merge readings, the latest one.

    Attributes:
        begin: its first merging, UTC.
        end: its last one so far, UTC.
        readings: so many became part of another one then, of all devices.
    """

    begin: datetime
    end: datetime
    readings: int


@dataclass(frozen=True, slots=True)
class SpoolCounts:
    """How many readings stand where.

    Attributes:
        accepted: ever accepted in this spool (the highest running number).
        pending: to be delivered.
        waiting: for a trusted clock.
        deferred: to be offered again later.
        rejected: in quarantine, refused by the server.
        conflicts: in quarantine, stored differently by the server.
        delivered: delivered and still kept here.
        merged: readings that became part of another one on a full disk, of all devices (see
            `SpoolOptions.merge_when_full`).
        bytes: size of the file and its log.
        oldest_pending: date of the oldest reading to be delivered, UTC.
        merging: when readings were merged last, and how many; None if never, or if an earlier version did not
            note it.
    """

    accepted: int
    pending: int
    waiting: int
    deferred: int
    rejected: int
    conflicts: int
    delivered: int
    merged: int
    bytes: int
    oldest_pending: datetime | None
    merging: SpoolMerging | None = None

    @property
    def quarantined(self) -> int:
        """Conflicts and rejects."""
        return self.rejected + self.conflicts

    @property
    def undelivered(self) -> int:
        """Everything the server does not have yet and is still going to be offered."""
        return self.pending + self.waiting + self.deferred


class HeldWhy(StrEnum):
    """Why a device's readings are kept, and not sent."""

    LOST = "lost"
    """Its name was on pages that are damaged."""
    FOREIGN = "foreign"
    """It came with the spool of another edge."""
    ASIDE = "aside"
    """Somebody set it aside for good."""


class HeldDevice(NamedTuple):
    """A device whose readings are kept, and not sent.

    Attributes:
        why: the reason.
        undelivered: so many would else be sent.
        delivered: so many somebody's server has; they are not offered again either.
    """

    why: HeldWhy
    undelivered: int
    delivered: int = 0


class SpoolRenaming(NamedTuple):
    """What became of a held device's readings.

    Attributes:
        moved: so many have the new name, or were set aside.
        left: so many are as they were.
    """

    moved: int
    left: int


@dataclass(frozen=True, slots=True)
class SpoolOwner:
    """What a program remembers of its spool, elsewhere, to know it again.

    Attributes:
        edge_id: the spool's.
        spool_id: names the file from its making on, whatever else it is called; None where that is not known.
    """

    edge_id: str
    spool_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolOptions:
    """How a spool keeps its readings.

    Attributes:
        keep_delivered_s: seconds delivered readings stay, in case the server loses them.
        keep_bytes: delivered readings go earlier, oldest first, while the data takes more; None for no limit.
        max_bytes: the file never grows beyond this; None for as long as the disk has room.
        reserve_bytes: size of a file beside the spool that is given up when the disk is full, so that there
            is room to settle readings and to delete delivered ones: some more than the log, which takes up to
            4 MB; 0 for none.
        merge_when_full: whether, where nothing else makes room, the oldest readings that were never offered
            are merged, to one a minute and then to one a quarter of an hour, before a reading is refused:
            time-weighted gauges, the last counters, `sample_count` readings in one. Each merging is logged as
            an error and counted.
        busy_timeout_s: seconds to wait for another program that is writing.
        check: whether to check the whole file when it is opened; the log beside it is looked at in any case.
        recover: whether a damaged file is set aside then (renamed, never deleted) and a new one made with
            all that is readable of it; and whether a spool whose file is removed, replaced or overwritten
            while it is open goes back to its place.
        owner: what is remembered of the spool. One of another edge becomes this one's, and the devices that
            came with it are held: see `DurableSpool.held`. A new one gets this edge's id.
    """

    keep_delivered_s: float = 14 * _DAY_S
    keep_bytes: int | None = None
    max_bytes: int | None = None
    reserve_bytes: int = 0
    merge_when_full: bool = False
    busy_timeout_s: float = 10.0
    check: bool = True
    recover: bool = False
    owner: SpoolOwner | None = None


@dataclass(frozen=True, slots=True)
class SpoolIdentity:
    """Which spool this is.

    Attributes:
        edge_id: names this installation; made with the file, kept for its life.
        generation: new when the spool is created or restored, so that their numbers are told apart.
    """

    edge_id: str
    generation: str


@dataclass(frozen=True, slots=True)
class SpoolImport:
    """What became of readings handed to a spool.

    Attributes:
        imported: readings that are new here.
        known: readings that were here already.
        different: numbers (in the export) of readings left out, because another one of the same device and
            time is here.
        ahead: of those imported, so many have a date of the future: they are offered, and date no other.
    """

    imported: int = 0
    known: int = 0
    different: tuple[int, ...] = ()
    ahead: int = 0

    def __add__(self, other: SpoolImport) -> SpoolImport:
        return SpoolImport(
            self.imported + other.imported,
            self.known + other.known,
            self.different + other.different,
            self.ahead + other.ahead,
        )


@dataclass(frozen=True, slots=True)
class SpoolRecovery:
    """What became of a damaged spool.

    Attributes:
        at: when, RFC 3339 in UTC.
        reason: what was found.
        set_aside: the damaged file, under its new name.
        saved: readings taken over.
        lost: readings known to have been there and not readable; there may be others nothing tells of. Where
            nothing is taken over, those the server does not have: they are in the damaged file.
        doubtful: of the saved ones those that are set apart (code `doubtful`) and not sent: newer knowledge
            of them was lost, so that their date may be wrong or another row may contain them.
    """

    at: str
    reason: str
    set_aside: str
    saved: int
    lost: int
    doubtful: int = 0
