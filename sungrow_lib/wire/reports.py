"""What the server tells about readings, beside the readings themselves: version 1, as typed models."""

from __future__ import annotations

from datetime import date
from typing import Any

from sungrow_lib.quantities.counters import BreakKind
from sungrow_lib.registers.faults import Severity
from sungrow_lib.sample import Timestamp
from sungrow_lib.wire import Count, EdgeStatus, WireModel
from sungrow_lib.wire.answers import Frame, SeriesBucket


class KeptAside(WireModel):
    """Something that stands beside the stored readings.

    Attributes:
        entry: its number.
        ts: time stamp of the reading, null when it has no valid one.
        reason: `conflict`, `rejected`, `additional` (values the stored reading lacks) or `behind_horizon`.
        detail: the same for people: the differing fields, or what is wrong.
        edge_id: who sent it, null when unknown.
        received_at: when it came first.
        reading: as it was sent, or for `additional` what it has beyond the stored one.
    """

    entry: int
    ts: Timestamp | None
    reason: str
    detail: str | None
    edge_id: str | None
    received_at: Timestamp
    reading: dict[str, Any]


class Conflicts(WireModel):
    """Answer of `GET /v1/conflicts`: newest first.

    Attributes:
        device_id: which device.
        conflicts: what was kept aside.
        next_before: send it as `before` for the ones before; null at the end.
    """

    device_id: str
    conflicts: list[KeptAside]
    next_before: int | None


class MissingByCause(WireModel):
    """Readings that are expected and not stored.

    Attributes:
        rejected: they came and could never be valid.
        behind_horizon: they came later than the retention horizon and stand aside; no more of them than the
            rollup of their quarter of an hour cannot hold.
        slower: others stand for their time: the device answers too slowly for its poll interval.
        unknown: nothing came: the inverter was silent or off, or the edge still holds them.
    """

    rejected: Count
    behind_horizon: Count
    slower: Count = 0
    unknown: Count


class DayCompleteness(WireModel):
    """How complete a local day is.

    Attributes:
        day: the site's date.
        expected: readings at the device's poll interval, from its first reading up to now.
        stored: readings stored.
        missing: what lacks, by cause.
        conflicts: readings that came again with other values; the stored ones stand.
        rejected: readings that could never be valid.
        counter_breaks: how often counters ran back or jumped; null when the server does not tell.
        partial: whether the day still runs.
    """

    day: date
    expected: Count
    stored: Count
    missing: MissingByCause
    conflicts: Count
    rejected: Count
    counter_breaks: Count | None = None
    partial: bool


class Completeness(WireModel):
    """Answer of `GET /v1/completeness`: every local day of the range up to today."""

    device_id: str
    timezone: str
    days: list[DayCompleteness]


class EdgeStatusTaken(WireModel):
    """Answer of `POST /v1/edge-status`."""

    device_id: str
    reported_at: Timestamp


class ReportedEdgeStatus(EdgeStatus):
    """What an edge said, and when."""

    reported_at: Timestamp


class EdgeStatusList(WireModel):
    """Answer of `GET /v1/edge-status`: each edge's last word, the latest first; two are one too many."""

    device_id: str
    edges: list[ReportedEdgeStatus]


class PlantTotals(WireModel):
    """A plant now. Null is unknown, never zero; the meter that inverters share counts once.

    Attributes:
        pv_power_w: W, DC production of all inverters.
        battery_power_w: W, + charging, - discharging, all batteries.
        active_power_w: W, AC output of all inverters.
        load_power_w: W, household consumption.
        export_power_w: W, + exporting, - importing, by the meter.
        pv_daily_kwh: kWh of all inverters' day.
    """

    pv_power_w: float | None
    battery_power_w: float | None
    active_power_w: float | None
    load_power_w: float | None
    export_power_w: float | None
    pv_daily_kwh: float | None


class Plant(WireModel):
    """Several devices at one place.

    Attributes:
        plant: its name.
        devices: those of its devices this token may see.
        left_out: those without a fresh reading: not in the totals.
        totals: what they do together now.
    """

    plant: str
    devices: list[str]
    left_out: list[str]
    totals: PlantTotals


class PlantList(WireModel):
    """Answer of `GET /v1/plants`: the plants of the devices this token may see."""

    plants: list[Plant]


class PlantBucket(SeriesBucket):
    """One span of `GET /v1/plants/series`. Null is unknown, never zero.

    What adds adds; averages are those of the time in which the longest-heard device was heard. Import and
    export are the word of the device that saw the meter longest. The load of several inverters is their
    output less what the meter saw leave.

    Attributes:
        avg_battery_soc_pct: of the only battery; null with several, whose sizes nobody knows.
        coverage: covered / elapsed time of all devices, 0..1.
        left_out: devices of which nothing is known here: not in the totals.
    """

    left_out: list[str]


class PlantSeries(WireModel):
    """Answer of `GET /v1/plants/series`.

    Attributes:
        plant: which plant.
        devices: those of its devices this token may see.
        frame: the frame asked for, null when a range was.
        timezone: the zone of the first device that has one, `UTC` while none has.
        series: every bucket up to now, in order.
    """

    plant: str
    devices: list[str]
    frame: Frame | None
    timezone: str
    series: list[PlantBucket]


class DeviceEvent(WireModel):
    """An alarm or a fault.

    Attributes:
        kind: `alarm` (it goes on working) or `fault` (something stopped).
        code: Sungrow's fault code.
        text: the same in words.
        begin: first reading that showed it; when it began before the span, the last one before the span.
        began_before: whether it was there already when the span began.
        end: first reading that showed it no more; null while it lasts.
    """

    kind: Severity
    code: int
    text: str
    begin: Timestamp
    began_before: bool
    end: Timestamp | None


class CounterEvent(WireModel):
    """A counter that ran back or jumped: the reading stands as it is, no energy is made of the step.

    Attributes:
        counter: which field.
        kind: `ran back`, or `jumped` by more than the device could have counted in the time between.
        text: the same in words, with both values.
        ts: of the reading that shows it.
        value: what it shows, in the field's unit.
        before: what it was compared with: the value before, or the highest one lately.
    """

    counter: str
    kind: BreakKind
    text: str
    ts: Timestamp
    value: float
    before: float


class EventList(WireModel):
    """Answer of `GET /v1/events`: in the order in which they began.

    Attributes:
        device_id: which device.
        events: alarms and faults.
        counter_breaks: counters that ran back or jumped, at most 1,000; null when the server does not tell.
    """

    device_id: str
    events: list[DeviceEvent]
    counter_breaks: list[CounterEvent] | None = None
