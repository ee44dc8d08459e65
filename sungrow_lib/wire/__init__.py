"""What edge and server say to each other over HTTPS, version 1, as typed models.

The uploader, :class:`SungrowClient`, the server's handlers and the OpenAPI document all use these models,
so they cannot disagree.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from sungrow_lib.sample import DeviceId, SungrowSample, Timestamp

PROBLEM_JSON: Final = "application/problem+json"
"""Media type of every error answer (RFC 9457)."""

FRESH_S: Final = 300.0
"""s; a batch whose youngest reading is older is of a backlog: it may have to wait where fresh ones do not."""

LAST_DELIVERED_LIMIT: Final = 16
"""Most entries of `last_delivered`; an edge has fewer batches than this in flight."""

BatchId = Annotated[str, Field(strict=True, min_length=1, max_length=64)]
Seq = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]


class WireModel(BaseModel):
    """Base of everything sent: strict types, and what a newer peer adds is ignored.

    Built when first used: nobody uses all of them, and on a small machine each takes memory.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", defer_build=True)


class DeviceInfo(WireModel):
    """What the edge knows of a device; what `sungrow-server device set` says wins.

    Attributes:
        timezone: IANA name of the site's zone; unset counts as UTC.
        poll_interval_s: seconds between polls; unset counts as 5.
        name: what its owner calls it.
        plant: the plant it belongs to.
        model: such as ``SH8.0RT-20``.
        serial: serial number.
        firmware: running firmware.
    """

    timezone: Annotated[str, Field(max_length=64)] | None = None
    poll_interval_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    name: Annotated[str, Field(max_length=128)] | None = None
    plant: Annotated[str, Field(max_length=128)] | None = None
    model: Annotated[str, Field(max_length=64)] | None = None
    serial: Annotated[str, Field(max_length=64)] | None = None
    firmware: Annotated[str, Field(max_length=256)] | None = None


class Envelope(WireModel):
    """What our edge sends beside `samples`; none of it is content of a sample.

    Attributes:
        batch_id: new for each attempt, echoed in the answer.
        edge_id: which edge installation sends.
        generation: new when a spool is created or restored.
        seq: running numbers in the spool, parallel to `samples`.
        last_delivered: `ts` of the last row of each of the most recently answered batches.
        device: what the edge knows of the device.
    """

    batch_id: BatchId | None = None
    edge_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    generation: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seq: list[Seq] | None = None
    last_delivered: Annotated[list[Timestamp], Field(max_length=LAST_DELIVERED_LIMIT)] | None = None
    device: DeviceInfo | None = None


class IngestRequest(Envelope):
    """Body of `POST /v1/ingest`: a batch of readings of one device."""

    samples: list[SungrowSample]


class VerdictCode(StrEnum):
    """Why a sample was set apart."""

    DIFFERENT_VALUE = "different_value"
    INVALID = "invalid"
    FUTURE = "future"
    DEVICE_DELETED = "device_deleted"
    DEVICE_FORBIDDEN = "device_forbidden"


class Verdict(WireModel):
    """The server's judgement on one sample of a batch.

    Attributes:
        index: position in `samples`, from 0.
        code: a :class:`VerdictCode`, or one only a newer server knows.
        reason: the same for people.
    """

    index: Annotated[int, Field(ge=0)]
    code: str
    reason: str


class IngestAnswer(WireModel):
    """Answer of `POST /v1/ingest`, sent after the server's commit.

    inserted + duplicates + the lengths of the three lists = received.

    Attributes:
        batch_id: echo of the request's, null if it sent none.
        received: samples in the batch.
        inserted: stored now.
        duplicates: stored before with no different value.
        conflicts: stored before with a different value; the stored row stands, this one is kept aside.
        rejected: can never be valid.
        deferred: not now; send again later.
        resend: whether the server lacks rows this edge believes delivered.
        server_version: version of the server.
    """

    batch_id: str | None
    received: Annotated[int, Field(ge=0)]
    inserted: Annotated[int, Field(ge=0)]
    duplicates: Annotated[int, Field(ge=0)]
    conflicts: list[Verdict]
    rejected: list[Verdict]
    deferred: list[Verdict]
    resend: bool
    server_version: str

    def accounts_for(self, samples: int) -> bool:
        """Whether every one of ``samples`` has exactly one verdict."""
        listed = [verdict.index for verdict in (*self.conflicts, *self.rejected, *self.deferred)]
        return (
            self.received == samples
            and self.inserted + self.duplicates + len(listed) == samples
            and len(set(listed)) == len(listed)
            and all(index < samples for index in listed)
        )


class Problem(WireModel):
    """The one error body (RFC 9457).

    Attributes:
        type: a URI reference naming the kind of problem.
        title: the same for people, equal for all of one kind.
        status: HTTP status.
        detail: what is wrong with this request and what to do.
        errors: for 422, one entry per fault: ``{"field", "message"}``.
    """

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None


class Realtime(SungrowSample):
    """Answer of `GET /v1/realtime`: the latest sample, completed with last known values.

    Attributes:
        read_at: for each field this sample did not bring, when its value was read.
        implausible: fields whose value can hardly be true; it is shown as it was read, and counts nowhere.
        age_s: seconds since `ts`, never below 0.
        stale: whether that is more than three poll intervals.
    """

    model_config = ConfigDict(extra="allow")

    read_at: dict[str, Timestamp] = Field(default_factory=dict)
    implausible: list[str] = Field(default_factory=list)
    age_s: float
    stale: bool


class Frame(StrEnum):
    """Span and bucket of `GET /v1/series?frame=`."""

    DAY = "day"
    MONTH = "month"
    YEAR = "year"
    ALL = "all"


class SeriesBucket(WireModel):
    """One span of `GET /v1/series`. Null is unknown, never zero.

    Averages are weighted by time. ``avg_``, ``min_`` and ``max_`` of any other gauge come along when asked
    for by `fields=`.

    Attributes:
        bucket: its start, RFC 3339 with the site's offset.
        energy_source: per energy `counter`, `integral` or `mixed`; null when the energy is unknown.
        residual_kwh: PV energy by its counter minus by integral.
        self_consumption_pct: (pv - export) / pv, 0..100.
        autarky_pct: (load - import) / load, 0..100.
        sample_count: readings in it.
        coverage: covered / elapsed time, 0..1.
        partial: whether it is still running.
    """

    model_config = ConfigDict(extra="allow")

    bucket: str
    avg_pv_power_w: float | None = None
    max_pv_power_w: float | None = None
    avg_battery_power_w: float | None = None
    avg_battery_soc_pct: float | None = None
    avg_load_power_w: float | None = None
    avg_export_power_w: float | None = None
    pv_kwh: float | None = None
    load_kwh: float | None = None
    import_kwh: float | None = None
    export_kwh: float | None = None
    charge_kwh: float | None = None
    discharge_kwh: float | None = None
    energy_source: dict[str, str | None] | None = None
    residual_kwh: float | None = None
    self_consumption_pct: float | None = None
    autarky_pct: float | None = None
    sample_count: int
    coverage: Annotated[float, Field(ge=0, le=1)]
    partial: bool


class Series(WireModel):
    """Answer of `GET /v1/series`.

    Attributes:
        device_id: which device.
        frame: the frame asked for, null when a range was.
        timezone: the site's zone, `UTC` when it is not set.
        series: every bucket up to now, in order.
    """

    device_id: str
    frame: Frame | None
    timezone: str
    series: list[SeriesBucket]


class Device(WireModel):
    """A device as `GET /v1/devices` lists it.

    Attributes:
        device_id: which device.
        name: what its owner calls it.
        plant: the plant it belongs to.
        model: such as ``SH8.0RT-20``.
        serial: serial number.
        firmware: running firmware.
        timezone: the site's zone, null while it is not set.
        timezone_refused: what its edge names as the zone and is none; null when all is well.
        poll_interval_s: seconds between polls.
        first_ts: its first reading; the quarter of an hour where single readings are gone.
        last_ts: its last reading, likewise.
        health: `ok`, `stale` (silent for more than three poll intervals) or `empty` (no reading yet).
    """

    device_id: str
    name: str | None = None
    plant: str | None = None
    model: str | None = None
    serial: str | None = None
    firmware: str | None = None
    timezone: str | None = None
    timezone_refused: str | None = None
    poll_interval_s: float
    first_ts: Timestamp | None = None
    last_ts: Timestamp | None = None
    health: str


class DeviceList(WireModel):
    """Answer of `GET /v1/devices`: what the token may see.

    Attributes:
        devices: in the order of their ids.
        raw_since: single readings, and buckets of five minutes, are kept from here on; what is older is
            known by the quarter of an hour.
    """

    devices: list[Device]
    raw_since: Timestamp | None = None


class Engine(WireModel):
    """What stores the readings.

    Attributes:
        postgresql: version of PostgreSQL.
        timescaledb: version of TimescaleDB, null without it.
        community: whether its compression and continuous aggregates are used.
    """

    postgresql: str
    timescaledb: str | None
    community: bool


class Health(WireModel):
    """Answer of `GET /health`: the status; with a token of scope `admin` what is behind it, too.

    Attributes:
        status: `ok`.
        server_version: of this program.
        engine: what stores the readings.
        rollup_marks: rollup buckets that wait to be recomputed.
    """

    status: str
    server_version: str | None = None
    engine: Engine | None = None
    rollup_marks: int | None = None


__all__ = [
    "FRESH_S",
    "LAST_DELIVERED_LIMIT",
    "PROBLEM_JSON",
    "BatchId",
    "Device",
    "DeviceId",
    "DeviceInfo",
    "DeviceList",
    "Engine",
    "Envelope",
    "Frame",
    "Health",
    "IngestAnswer",
    "IngestRequest",
    "Problem",
    "Realtime",
    "Seq",
    "Series",
    "SeriesBucket",
    "Verdict",
    "VerdictCode",
    "WireModel",
]
