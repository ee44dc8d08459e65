"""Examples of bodies and answers for the OpenAPI document; a test holds them against the models."""

from __future__ import annotations

from typing import Final

STREAM: Final = """\
retry: 2000

id: 2026-06-15T10:00:00.000Z
event: sample
data: {"device_id":"roof","ts":"2026-06-15T10:00:00.000Z","pv_power_w":3210}

event: backfill
data: {"from":"2026-06-15T08:00:00.000Z","to":"2026-06-15T08:30:00.001Z","count":360}

"""
