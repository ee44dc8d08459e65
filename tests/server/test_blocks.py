"""A batch that goes to the database as a block is stored, and known again, exactly as its rows would be."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from struct import unpack_from
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from reference_server.decoder import Readings, read_body
from reference_server.storage.blocks import Block
from reference_server.storage.codec import COLUMN_TYPES, Row
from reference_server.storage.packing import pack
from sungrow_lib.quantities import QUANTITIES
from sungrow_lib.sample import format_ts
from tests.server.conftest import NOW, Api, sample
from tests.server.test_decoder import plausible

pytestmark = pytest.mark.anyio

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
CHOSEN = st.lists(st.sampled_from(QUANTITIES), max_size=12, unique_by=lambda quantity: quantity.name)


def block_of(items: list[dict[str, Any]], key: int = 1) -> Block:
    found = read_body(json.dumps({"samples": items}).encode())
    assert found is not None
    readings: Readings = found[1]
    return readings.of_device(key)


@st.composite
def blocks(draw: st.DrawFn) -> list[Block]:
    """A few blocks, some with the same columns."""
    shape = draw(CHOSEN)
    found = []
    for key in range(draw(st.integers(1, 3))):
        shape = shape if draw(st.booleans()) else draw(CHOSEN)
        reading = st.fixed_dictionaries({q.name: st.none() | plausible(q) for q in shape})
        readings = draw(st.lists(reading, min_size=1, max_size=3))
        found.append(block_of([sample(5 * n) | fields for n, fields in enumerate(readings)], key))
    return found


def unpacked(columns: tuple[str, ...], body: bytes) -> list[tuple[Any, ...]]:
    """Rows of binary COPY, read byte by byte: device, ts, what is known, flags."""
    rows = []
    place = 0
    while place < len(body):
        (count,) = unpack_from(">h", body, place)
        assert count == len(columns)
        place += 2
        known: dict[str, Any] = {}
        for name in columns:
            (length,) = unpack_from(">i", body, place)
            place += 4
            if length >= 0:
                known[name] = _value(COLUMN_TYPES[name], body[place : place + length])
                place += length
        rows.append((known.pop("device"), known.pop("ts"), known, known.pop("flags")))
    return rows


def _value(type_: str, data: bytes) -> Any:
    if type_ == "text":
        return data.decode()
    if type_ == "int4[]":
        dimensions, nulls, oid = unpack_from(">3i", data)
        assert (nulls, oid) == (0, 23)
        if not dimensions:
            return []
        count, first = unpack_from(">2i", data, 12)
        assert (dimensions, first) == (1, 1)
        assert len(data) == 20 + 8 * count
        return [unpack_from(">2i", data, 20 + 8 * number)[1] for number in range(count)]
    if type_ == "timestamptz":
        return EPOCH + timedelta(microseconds=unpack_from(">q", data)[0])
    [number] = unpack_from({"int4": ">i", "int2": ">h"}[type_], data)
    assert len(data) == {"int4": 4, "int2": 2}[type_]
    return number


def said(row: Row) -> tuple[Any, ...]:
    return row.device, row.ts, row.known(), row.flags


@settings(max_examples=150, deadline=None)
@given(blocks())
def test_the_bytes_say_what_the_rows_say(given: list[Block]) -> None:
    packed = pack(given)
    assert unpacked(packed.columns, packed.body) == [said(row) for block in given for row in block.rows()]
    ends = [0, *packed.ends]
    for block, (begin, end) in zip(given, pairwise(ends), strict=True):
        assert unpacked(packed.columns, packed.body[begin:end]) == [said(row) for row in block.rows()]


VARIED: list[dict[str, Any]] = [
    {"pv_power_w": 5, "running_state": "Running", "fault_codes": [1, 2], "mppt_voltage_v": [1.5, None, 3]},
    {"pv_power_w": None, "running_state": "Stop", "fault_codes": [], "mppt_voltage_v": None},
    {"pv_power_w": 7, "running_state": None, "fault_codes": None, "inverter_temp_c": -3.5},
]


async def test_a_repeated_block_is_known_as_a_whole(api: Api) -> None:
    batches = [[sample(5 * n + 60 * k, **fields) for n, fields in enumerate(VARIED)] for k in range(5)] + [
        [sample(n, device_id="sh-2", pv_power_w=n) for n in range(20)]
    ]
    for kind in ("inserted", "duplicates"):
        answers = await asyncio.gather(*(api.ingest(*batch) for batch in batches))
        assert [answer[kind] for answer in answers] == list(map(len, batches))
    assert api.rows("SELECT count(*) FROM samples") == [(35,)]
    assert api.rows("SELECT count(*) FROM kept_aside") == [(0,)]


async def test_a_block_with_stored_readings_in_its_span_is_judged_row_by_row(api: Api) -> None:
    """Each of several that come at once: one new, one repeated, one that differs, one partly stored."""
    await api.ingest(*(sample(n, pv_power_w=n) for n in range(10)))
    await api.ingest(*(sample(100 + n, pv_power_w=n) for n in range(10)))
    await api.ingest(sample(203, pv_power_w=3))
    answers = await asyncio.gather(
        api.ingest(*(sample(n, pv_power_w=n) for n in range(10))),
        api.ingest(*(sample(100 + n, pv_power_w=n + n // 9, load_power_w=7) for n in range(10))),
        api.ingest(*(sample(200 + n, pv_power_w=n) for n in range(10))),
        api.ingest(*(sample(-100 + n, pv_power_w=n) for n in range(10))),
    )
    told = [(a["inserted"], a["duplicates"], [c["index"] for c in a["conflicts"]]) for a in answers]
    assert told == [(0, 10, []), (0, 9, [9]), (9, 1, []), (10, 0, [])]
    reasons = "SELECT reason, count(*) FROM kept_aside GROUP BY reason ORDER BY reason"
    assert api.rows(reasons) == [("additional", 9), ("conflict", 1)]


async def test_blocks_that_share_a_span_get_verdicts_in_their_order(api: Api) -> None:
    batches = [[sample(n, pv_power_w=n + (n == k)) for n in range(10)] for k in (0, 5, 20)]
    answers = await asyncio.gather(*(api.ingest(*batch) for batch in batches))
    assert sum(answer["inserted"] for answer in answers) == 10
    assert sum(answer["duplicates"] for answer in answers) + sum(len(a["conflicts"]) for a in answers) == 20
    assert api.rows("SELECT count(*) FROM samples") == [(10,)]


@pytest.mark.parametrize("order", [[1, 0], [0, 0], [0, 1, 1], [2, 0, 1]])
async def test_readings_out_of_order_are_no_block(api: Api, order: list[int]) -> None:
    answer = await api.ingest(*(sample(n, pv_power_w=n) for n in order))
    assert answer["inserted"] == len(set(order))
    assert answer["duplicates"] == len(order) - len(set(order))


async def test_a_block_beyond_the_horizon_or_ahead_is_judged_row_by_row(api: Api) -> None:
    stamps = [NOW - timedelta(days=500), NOW, NOW + timedelta(hours=1)]
    answer = await api.ingest(*({"device_id": "sh-1", "ts": format_ts(ts)} for ts in stamps))
    assert answer["inserted"] == 2
    assert [d["index"] for d in answer["deferred"]] == [2]
    assert api.rows("SELECT count(*) FROM samples") == [(1,)]


async def test_every_quarter_a_block_touches_is_marked(api: Api) -> None:
    await api.ingest(*(sample(-1800 + 300 * n) for n in range(6)))
    quarters = "SELECT to_char(bucket AT TIME ZONE 'UTC', 'HH24:MI') FROM rollup_marks ORDER BY bucket"
    assert api.rows(quarters) == [("11:15",), ("11:30",), ("11:45",)]
