"""Examples of bodies and answers for the OpenAPI document; a test holds them against the models."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from reference_server.problems import TITLES, problem_type

DEVICE_QUERY: Final = {"device_id": "roof"}
SERIES_QUERY: Final = DEVICE_QUERY | {"frame": "day", "at": "2026-06-15"}
PLANT_SERIES_QUERY: Final = {"plant": "home", "frame": "day", "at": "2026-06-15"}
DAYS_QUERY: Final = DEVICE_QUERY | {"from": "2026-06-14", "to": "2026-06-15"}
RANGE_QUERY: Final = DEVICE_QUERY | {"from": "2026-06-14T00:00:00Z", "to": "2026-06-15T00:00:00Z"}

INGEST: Final[dict[str, Any]] = {
    "batch_id": "6f1c2b9e-3",
    "edge_id": "home-box",
    "generation": "2026-06-01-a",
    "samples": [
        {
            "device_id": "roof",
            "ts": "2026-06-15T10:00:00.000Z",
            "pv_power_w": 3210,
            "battery_power_w": 450,
            "battery_soc_pct": 71.5,
            "load_power_w": 380,
            "export_power_w": 2310,
            "sample_count": 1,
            "interval_s": 5.0,
        },
        {"device_id": "roof", "ts": "2026-06-15T10:00:05.000Z", "pv_power_w": 3225},
    ],
    "seq": [4711, 4712],
    "last_delivered": ["2026-06-15T09:59:55.000Z"],
    "device": {"timezone": "Europe/Berlin", "poll_interval_s": 5.0, "model": "SH8.0RT-20"},
}

INGEST_ANSWER: Final[dict[str, Any]] = {
    "batch_id": "6f1c2b9e-3",
    "received": 2,
    "inserted": 1,
    "duplicates": 0,
    "conflicts": [
        {
            "index": 1,
            "code": "different_value",
            "reason": "stored before with other values of pv_power_w",
        }
    ],
    "rejected": [],
    "deferred": [],
    "resend": False,
    "server_version": "0.1.0",
}

REALTIME: Final[dict[str, Any]] = {
    "device_id": "roof",
    "ts": "2026-06-15T10:00:05.000Z",
    "pv_power_w": 3225,
    "battery_power_w": 450,
    "battery_soc_pct": 71.5,
    "load_power_w": 380,
    "export_power_w": 2310,
    "pv_total_kwh": 16296.4,
    "read_at": {"pv_total_kwh": "2026-06-15T09:55:00.000Z"},
    "implausible": [],
    "age_s": 2.4,
    "stale": False,
}

_ENERGY_SOURCE: Final = {
    "pv": "counter",
    "load": "integral",
    "import": "counter",
    "export": "counter",
    "charge": "counter",
    "discharge": "counter",
}

SERIES: Final[dict[str, Any]] = {
    "device_id": "roof",
    "frame": "day",
    "timezone": "Europe/Berlin",
    "series": [
        {
            "bucket": "2026-06-15T11:00:00+02:00",
            "avg_pv_power_w": 3105.2,
            "max_pv_power_w": 3460,
            "avg_battery_power_w": 440.7,
            "avg_battery_soc_pct": 66.1,
            "avg_load_power_w": 402.5,
            "avg_export_power_w": 2181.0,
            "pv_kwh": 3.1,
            "load_kwh": 0.4,
            "import_kwh": 0.0,
            "export_kwh": 2.2,
            "charge_kwh": 0.4,
            "discharge_kwh": 0.0,
            "energy_source": _ENERGY_SOURCE,
            "residual_kwh": 0.0,
            "self_consumption_pct": 29.0,
            "autarky_pct": 100.0,
            "sample_count": 720,
            "coverage": 1.0,
            "partial": False,
        },
        {
            "bucket": "2026-06-15T12:00:00+02:00",
            "sample_count": 0,
            "coverage": 0.0,
            "partial": True,
        },
    ],
}

SERIES_CSV: Final = """\
bucket,avg_pv_power_w,max_pv_power_w,avg_battery_power_w,avg_battery_soc_pct,avg_load_power_w,\
avg_export_power_w,pv_kwh,load_kwh,import_kwh,export_kwh,charge_kwh,discharge_kwh,energy_source,residual_kwh,\
self_consumption_pct,autarky_pct,sample_count,coverage,partial\r
2026-06-15T11:00:00+02:00,3105.2,3460,440.7,66.1,402.5,2181.0,3.1,0.4,0.0,2.2,0.4,0.0,\
"{""pv"": ""counter"", ""load"": ""integral"", ""import"": ""counter"", ""export"": ""counter"", \
""charge"": ""counter"", ""discharge"": ""counter""}",0.0,29.0,100.0,720,1.0,false\r
2026-06-15T12:00:00+02:00,,,,,,,,,,,,,,,,,0,0.0,true\r
"""

DEVICES: Final[dict[str, Any]] = {
    "devices": [
        {
            "device_id": "roof",
            "name": "Roof",
            "plant": "home",
            "model": "SH8.0RT-20",
            "timezone": "Europe/Berlin",
            "poll_interval_s": 5.0,
            "first_ts": "2025-06-15T04:10:00.000Z",
            "last_ts": "2026-06-15T10:00:05.000Z",
            "health": "ok",
        }
    ],
    "raw_since": "2025-05-11T10:00:06.250Z",
}

HEALTH: Final[dict[str, Any]] = {"status": "ok"}

_DETAILS: Final[dict[int, str]] = {
    400: "the body is not JSON: EOF while parsing a list at line 1 column 12",
    401: "this token is unknown, revoked or expired",
    403: "this token lacks the scope ingest",
    404: "there is no device roof, or this token may not see it",
    413: "a batch may hold at most 10000 samples",
    415: "send application/json",
    422: 'send {"samples": [...]}',
    429: "too many requests; try again in 12 s",
    500: "the server failed; it has logged why",
    503: "the database does not answer",
}


def problem(status: int) -> dict[str, Any] | None:
    """Return an example of the answer with this status."""
    if status not in _DETAILS:
        return None
    title = TITLES[status]
    body: dict[str, Any] = {
        "type": problem_type(title),
        "title": title,
        "status": status,
        "detail": _DETAILS[status],
    }
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        body["errors"] = [{"field": "samples", "message": "must be there and be a list"}]
    return body


STREAM: Final = """\
retry: 2000

id: 2026-06-15T10:00:00.000Z
event: sample
data: {"device_id":"roof","ts":"2026-06-15T10:00:00.000Z","pv_power_w":3210}

event: backfill
data: {"from":"2026-06-15T08:00:00.000Z","to":"2026-06-15T08:30:00.001Z","count":360}

"""

PLANTS: Final[dict[str, Any]] = {
    "plants": [
        {
            "plant": "home",
            "devices": ["garage", "roof"],
            "left_out": [],
            "totals": {
                "pv_power_w": 5200,
                "battery_power_w": 1000,
                "active_power_w": 4150,
                "load_power_w": 950,
                "export_power_w": 3200,
                "pv_daily_kwh": 18.4,
            },
        }
    ]
}

PLANT_SERIES: Final[dict[str, Any]] = {
    "plant": "home",
    "devices": ["garage", "roof"],
    "frame": "day",
    "timezone": "Europe/Berlin",
    "series": [
        {
            "bucket": "2026-06-15T11:00:00+02:00",
            "avg_pv_power_w": 5180.0,
            "avg_battery_power_w": 440.7,
            "avg_battery_soc_pct": 66.1,
            "avg_load_power_w": 402.5,
            "avg_export_power_w": 4230.0,
            "pv_kwh": 5.2,
            "load_kwh": 0.4,
            "import_kwh": 0.0,
            "export_kwh": 4.2,
            "charge_kwh": 0.4,
            "discharge_kwh": 0.0,
            "energy_source": _ENERGY_SOURCE,
            "residual_kwh": 0.0,
            "self_consumption_pct": 19.23,
            "autarky_pct": 100.0,
            "sample_count": 1440,
            "coverage": 1.0,
            "partial": False,
            "left_out": [],
        }
    ],
}

PLANT_SERIES_CSV: Final = """\
bucket,avg_pv_power_w,avg_battery_power_w,avg_battery_soc_pct,avg_load_power_w,avg_export_power_w,pv_kwh,\
load_kwh,import_kwh,export_kwh,charge_kwh,discharge_kwh,energy_source,residual_kwh,self_consumption_pct,\
autarky_pct,sample_count,coverage,partial,left_out\r
2026-06-15T11:00:00+02:00,5180.0,440.7,66.1,402.5,4230.0,5.2,0.4,0.0,4.2,0.4,0.0,\
"{""pv"": ""counter"", ""load"": ""integral"", ""import"": ""counter"", ""export"": ""counter"", \
""charge"": ""counter"", ""discharge"": ""counter""}",0.0,19.23,100.0,1440,1.0,false,[]\r
"""

OPENAPI: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {"title": "Sungrow reference server", "version": "0.1.0"},
    "paths": {"/health": {"get": {"operationId": "get_health"}}},
}

EVENTS: Final[dict[str, Any]] = {
    "device_id": "roof",
    "events": [
        {
            "kind": "fault",
            "code": 10,
            "text": "grid outage (island)",
            "begin": "2026-06-15T08:00:00.000Z",
            "began_before": False,
            "end": "2026-06-15T08:12:05.000Z",
        }
    ],
    "counter_breaks": [
        {
            "counter": "pv_total_kwh",
            "kind": "ran back",
            "text": "pv_total_kwh ran back from 11770.4 to 0.0 kWh",
            "ts": "2026-06-15T02:27:10.000Z",
            "value": 0.0,
            "before": 11770.4,
        }
    ],
}

COMPLETENESS: Final[dict[str, Any]] = {
    "device_id": "roof",
    "timezone": "Europe/Berlin",
    "days": [
        {
            "day": "2026-06-14",
            "expected": 17280,
            "stored": 17163,
            "missing": {"rejected": 1, "behind_horizon": 0, "slower": 112, "unknown": 4},
            "conflicts": 0,
            "rejected": 1,
            "counter_breaks": 1,
            "partial": False,
        }
    ],
}

CONFLICTS: Final[dict[str, Any]] = {
    "device_id": "roof",
    "conflicts": [
        {
            "entry": 7,
            "ts": "2026-06-15T10:00:00.000Z",
            "reason": "conflict",
            "detail": "pv_power_w",
            "edge_id": "box-2",
            "received_at": "2026-06-15T10:00:01.250Z",
            "reading": {"ts": "2026-06-15T10:00:00.000Z", "pv_power_w": 3300},
        }
    ],
    "next_before": None,
}

EDGE_STATUS: Final[dict[str, Any]] = {
    "edge_id": "box-1",
    "device_id": "roof",
    "edge_version": "0.1.0",
    "connection": "ok",
    "backlog": 0,
    "quarantined": 0,
    "clock": "trusted",
    "clock_offset_s": 0.02,
    "polled": 5000,
    "accepted": 4998,
    "not_accepted": {"device silent": 2},
    "started_at": "2026-06-15T03:00:00.000Z",
}

EDGE_STATUS_TAKEN: Final[dict[str, Any]] = {"device_id": "roof", "reported_at": "2026-06-15T10:00:01.250Z"}

EDGE_STATUS_LIST: Final[dict[str, Any]] = {
    "device_id": "roof",
    "edges": [EDGE_STATUS | {"reported_at": "2026-06-15T10:00:01.250Z"}],
}

METRICS: Final = """\
# HELP sungrow_samples_total Readings received, by verdict
# TYPE sungrow_samples_total counter
sungrow_samples_total{verdict="inserted"} 1234.0
"""
