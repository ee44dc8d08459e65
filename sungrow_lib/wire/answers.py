"""What the server answers to those who read: version 1, as typed models. An edge needs none of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from sungrow_lib.sample import SungrowSample, Timestamp
from sungrow_lib.wire import WireModel


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
