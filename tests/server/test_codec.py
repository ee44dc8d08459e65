"""A value is the same number in the sample, in the row and in the answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from reference_server.storage.codec import (
    VALUE_COLUMNS,
    Row,
    additional,
    decode,
    differing,
    encode,
    from_jsonb,
    to_jsonb,
)
from sungrow_lib.quantities import QUANTITIES, Quantity, QuantityKind
from sungrow_lib.sample import SungrowSample

TS = datetime(2026, 6, 15, tzinfo=UTC)


def _numbers(quantity: Quantity) -> st.SearchStrategy[Any]:
    within = st.integers(round(quantity.low * quantity.factor), round(quantity.high * quantity.factor))
    wild = st.floats(-9e10, 9e10)
    if quantity.name in {"sample_count", "interval_s"}:
        within, wild = st.integers(1, 1000), st.floats(1, 9e10)
    return st.one_of(within.map(quantity.from_steps), wild)


def _values(quantity: Quantity) -> st.SearchStrategy[Any]:
    if quantity.kind is QuantityKind.STATE:
        return st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)
    if quantity.kind is QuantityKind.CODES:
        return st.lists(st.integers(0, 65_535), max_size=5)
    if quantity.length is not None:
        return st.lists(st.none() | _numbers(quantity), min_size=1, max_size=quantity.length)
    return _numbers(quantity)


FIELDS = st.fixed_dictionaries({}, optional={q.name: _values(q) for q in QUANTITIES})
UNKNOWN = st.dictionaries(
    st.text(max_size=8).map(lambda text: "new_" + text),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=4),
    max_size=2,
)


@settings(max_examples=300, deadline=None)
@given(FIELDS, UNKNOWN)
def test_what_goes_in_comes_out(fields: dict[str, Any], unknown: dict[str, Any]) -> None:
    sample = SungrowSample.model_validate({"device_id": "d", "ts": TS} | fields)
    row = encode(1, sample, unknown)
    assert decode(row) == sample.content() | {k: v for k, v in unknown.items() if v is not None}
    for name, value in row.known().items():
        assert name in VALUE_COLUMNS
        assert isinstance(value, int | str | list), name
    assert differing(row, row) == []
    assert additional(row, row) == {}
    empty = encode(1, SungrowSample(device_id="d", ts=TS), {})
    assert differing(empty, row) == differing(row, empty) == []
    assert additional(empty, row) == decode(row)


@given(st.dictionaries(st.text(max_size=5), st.recursive(st.text() | st.floats(), st.lists, max_leaves=4)))
def test_jsonb_takes_everything(fields: dict[str, Any]) -> None:
    stored = json.dumps(to_jsonb(fields))
    as_json = json.dumps(fields)
    # No answer may hold NaN and its like; older servers stored them, in what they had refused.
    assert from_jsonb(json.loads(stored)) == json.loads(as_json, parse_constant=str)
    assert "\\u0000" not in stored.replace("\\\\u0000", "")
    json.loads(stored, parse_constant=pytest.fail)  # NaN and its like are no JSON


def test_a_row_survives_its_record() -> None:
    sample = SungrowSample(device_id="d", ts=TS, pv_power_w=5, inverter_temp_c=999, fault_codes=[])
    row = encode(3, sample, {"a\0": 1})
    record = [row.ts, row.device, *row.values, row.flags, json.loads(json.dumps(to_jsonb(row.extra)))]
    assert Row.from_record(record, row.columns) == row
