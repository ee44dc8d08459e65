"""Examples of bodies and answers for the OpenAPI document; a test holds them against the models."""

from __future__ import annotations

from typing import Any, Final

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
}

COMPLETENESS: Final[dict[str, Any]] = {
    "device_id": "roof",
    "timezone": "Europe/Berlin",
    "days": [
        {
            "day": "2026-06-14",
            "expected": 17280,
            "stored": 17275,
            "missing": {"rejected": 1, "behind_horizon": 0, "unknown": 4},
            "conflicts": 0,
            "rejected": 1,
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
