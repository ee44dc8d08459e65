"""The short way to a row agrees with `SungrowSample` on every input."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import ValidationError
from pydantic_core import from_json

from reference_server import decoder
from reference_server.decoder import BodyReader, Found, decode_batch, read_bodies, read_body
from reference_server.storage.codec import Row, encode
from sungrow_lib.quantities import QUANTITIES, Quantity, QuantityKind
from sungrow_lib.sample import SungrowSample, split_unknown
from sungrow_lib.wording import first_fault

TS = "2026-06-15T12:00:00.000Z"
STAMPS = st.sampled_from(
    [
        TS,
        "2026-06-15T12:00:00.123Z",
        "2026-06-15T12:00:00Z",
        "2026-06-15t12:00:00.5z",
        "2026-06-15T12:00:00.000+02:00",
        "2026-06-15T12:00:00,000Z",
        "2026-06-15 12:00:00.000Z",
        "2026-W01-1T12:00:00.000Z",
        "2026-02-30T12:00:00.000Z",
        "2026-06-15T24:00:00.000Z",
        "2026-06-15T12:00:60.000Z",
        "0000-01-01T00:00:00.000Z",
        "0001-01-01T00:00:00.000Z",
        "9999-12-31T23:59:59.999Z",
        "2026-06-15T12:00:00.0001Z",
        "٢٠٢٦-06-15T12:00:00.000Z",
        "",
        None,
        0,
    ]
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([-0.0, 0.05, 0.15, 0.25, 2.675, 1e11, -1e11, 1e308, 10**400, 2**31, 2**63]),
    st.text(max_size=5),
    st.lists(st.none() | st.integers(-2, 70_000) | st.floats(-1e4, 1e4), max_size=4),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)


def _number(quantity: Quantity) -> st.SearchStrategy[Any]:
    steps = st.integers(round(quantity.low * quantity.factor) - 1, round(quantity.high * quantity.factor) + 1)
    small = st.integers(-3, 3)
    near = (steps | small).map(quantity.from_steps)
    unrounded = st.floats(quantity.low - 1, quantity.high + 1)
    edges = st.sampled_from([quantity.low, quantity.high, quantity.high + 0.4 / quantity.factor])
    return near | unrounded | edges | st.integers(int(quantity.low), int(quantity.high))


def _usual(quantity: Quantity) -> st.SearchStrategy[Any]:
    if quantity.kind is QuantityKind.STATE:
        return st.sampled_from(["Run", "Stop", " ", "", "x" * 128, "x" * 129, "é", "a\n", "a\x7f", "\x00"])
    if quantity.kind is QuantityKind.CODES:
        return st.lists(st.integers(-1, 65_536), max_size=4) | st.lists(st.just(1), min_size=63, max_size=65)
    if quantity.length is None:
        return _number(quantity)
    return st.lists(st.none() | _number(quantity), max_size=quantity.length + 1)


def _field(quantity: Quantity) -> st.SearchStrategy[Any]:
    return st.one_of(_usual(quantity), _usual(quantity), _usual(quantity), st.none(), ODD)


CHOSEN = st.lists(st.sampled_from(QUANTITIES), max_size=8, unique_by=lambda quantity: quantity.name)


@st.composite
def batches(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Readings of few shapes, so that some share one."""
    items = []
    for _ in range(draw(st.integers(1, 3))):
        fields = {quantity.name: _field(quantity) for quantity in draw(CHOSEN)}
        if draw(st.booleans()):
            fields |= {"newer": ODD, "ts_newer": st.none() | st.integers()}
        shape = st.fixed_dictionaries(fields)
        count = draw(st.integers(1, 4))
        items += [{"device_id": "d", "ts": draw(st.just(TS) | STAMPS)} | draw(shape) for _ in range(count)]
    return items


def by_model(item: dict[str, Any]) -> Row | None:
    known, unknown = split_unknown(item)
    try:
        return encode(7, SungrowSample.model_validate(known), unknown)
    except ValidationError:
        return None


def fault_in(item: dict[str, Any]) -> str | None:
    """Why the model refuses a reading, as its sender is told."""
    try:
        SungrowSample.model_validate(split_unknown(item)[0])
    except ValidationError as error:
        return first_fault(error)
    return None


def said(row: Row) -> tuple[Any, ...]:
    """What a row says, types included: 1 is not 1.0, nor is it true."""
    extra = json.dumps(row.extra, sort_keys=True)
    known = {name: (type(value), value) for name, value in row.known().items()}
    return row.key, row.ts.tzinfo, known, row.flags, extra


def agree(items: list[dict[str, Any]]) -> int:
    """Check all ways against each other; return how many took the shorter one."""
    rows = decode_batch(items, {"d": 7})
    whole = _rows_of_body(json.dumps({"samples": items, "batch_id": "b"}).encode())
    if whole is not None:
        assert list(map(said, whole)) == [said(row) for row in rows if row is not None], items
    bodies = [json.dumps({"samples": [item], "batch_id": str(n)}).encode() for n, item in enumerate(items)]
    assert list(map(told, read_bodies(bodies))) == [told(read_body(body)) for body in bodies], items
    for item, row in zip(items, rows, strict=True):
        if row is not None:
            model = by_model(item)
            assert model is not None, item
            assert said(row) == said(model), item
    return sum(row is not None for row in rows)


def told(found: Found) -> Any:
    """All that was read of a body."""
    if found is None:
        return None
    envelope, readings = found
    return envelope, readings.device_id, list(map(said, readings.of_device(7).rows()))


def _rows_of_body(body: bytes) -> list[Row] | None:
    found = read_body(body)
    if found is None:
        return None
    envelope, readings = found
    assert envelope == {"batch_id": "b"}
    return readings.of_device(7).rows()


@settings(max_examples=400, deadline=None)
@given(batches())
def test_both_ways_agree_on_every_input(items: list[dict[str, Any]]) -> None:
    try:
        agree(from_json(json.dumps(items), allow_inf_nan=False))
    except ValueError as error:  # what is no JSON never comes this far
        assert "JSON" in str(error) or "escape" in str(error)  # noqa: PT017


@settings(max_examples=200, deadline=None)
@given(batches())
def test_whatever_is_refused_is_refused_in_plain_words(items: list[dict[str, Any]]) -> None:
    for item in items:
        fault = fault_in(item)
        if fault is not None:
            field, _, words = fault.partition(": ")
            assert field.split(".")[0] in item
            assert words.startswith(("must ", "is ")), fault
            assert "should" not in fault
            assert not set("^$\\") & set(words), "no patterns"


def plausible(quantity: Quantity) -> st.SearchStrategy[Any]:
    low = 1 if quantity.kind is QuantityKind.META else round(quantity.low * quantity.factor)
    number = st.integers(low, round(quantity.high * quantity.factor)).map(quantity.from_steps)
    if quantity.kind is QuantityKind.STATE:
        return st.sampled_from(["Run", "Stop"])
    if quantity.kind is QuantityKind.CODES:
        return st.lists(st.integers(0, 65_535), max_size=5)
    if quantity.length is None:
        return number
    return st.lists(st.none() | number, max_size=quantity.length)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({q.name: st.none() | plausible(q) for q in QUANTITIES}), min_size=1, max_size=3
    )
)
def test_usual_readings_take_the_short_way(fields: list[dict[str, Any]]) -> None:
    items = [{"device_id": "d", "ts": TS, "newer": None} | given for given in fields]
    assert agree(from_json(json.dumps(items))) == len(items)
    known = [{"device_id": "d", "ts": TS} | given for given in fields]
    assert _rows_of_body(json.dumps({"samples": known, "batch_id": "b"}).encode()) is not None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"samples":[]}',
        b'{"samples":[{}]}',
        b'{"samples":[{"device_id":"d","ts":"%s"},{"device_id":"e","ts":"%s"}]}' % (TS.encode(), TS.encode()),
        b'{"samples":[{"device_id":"a b","ts":"%s"}]}' % TS.encode(),
        b'{"samples":[{"device_id":"d","ts":"%s"}],"newer":1}' % TS.encode(),
        b'{"samples":[{"device_id":"d","ts":"%s","pv_power_w":NaN}]}' % TS.encode(),
        b'{"samples":[{"device_id":"d","ts":"%s"}]} {}' % TS.encode(),
        b'{"samples":[{"device_id":"d","ts":"%s"}],"device":%s}' % (TS.encode(), b"[" * 5000 + b"]" * 5000),
    ],
)
def test_an_unusual_body_takes_the_long_way(body: bytes) -> None:
    assert read_body(body) is None


def test_the_same_field_twice_means_the_last() -> None:
    body = (
        b'{"batch_id":"b","samples":[{"device_id":"d","ts":"%s","pv_power_w":1,"pv_power_w":2}]}'
        % TS.encode()
    )
    [row] = _rows_of_body(body) or []
    assert row.known() == {"pv_power_w": 2}
    assert from_json(body)["samples"][0]["pv_power_w"] == 2


def _body_of(device_id: str, *powers: Any) -> bytes:
    samples = [{"device_id": device_id, "ts": TS, "pv_power_w": power} for power in powers]
    return json.dumps({"samples": samples, "batch_id": device_id}).encode()


@pytest.mark.anyio
async def test_bodies_that_come_together_are_read_at_once_and_each_as_if_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    def counted(bodies: Sequence[bytes]) -> list[Found]:
        seen.append(len(bodies))
        return read_bodies(bodies)

    monkeypatch.setattr(decoder, "read_bodies", counted)
    bodies = [
        _body_of("a", 1, 2),
        _body_of("b", "odd"),
        b"no JSON",
        _body_of("c", None),
        _body_of("d", 5.0, 6),
    ]
    reader = BodyReader()
    found = await asyncio.gather(*map(reader.read, bodies))
    assert seen == [len(bodies)]
    assert list(map(told, found)) == [told(read_body(body)) for body in bodies]
    assert [one is None for one in found] == [False, True, True, False, False]


def test_many_bodies_are_read_in_parts_and_each_as_if_it_were_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = [
        _body_of("a", 1, 2),
        _body_of("b", 3),
        b"no JSON",
        _body_of("c", "odd"),
        _body_of("d", 4, 5, 6, 7),
        _body_of("e", 8),
        b"{}",
    ]
    alone = [told(read_body(body)) for body in bodies]
    assert [one is None for one in alone] == [False, False, True, True, False, False, True]
    for together in range(1, 10):
        monkeypatch.setattr(decoder, "_TOGETHER", together)
        assert list(map(told, read_bodies(bodies))) == alone


@pytest.mark.anyio
async def test_a_client_that_goes_meanwhile_takes_no_other_one_s_reading_with_it() -> None:
    reader = BodyReader()
    gone, stays = (asyncio.create_task(reader.read(_body_of(name, 1))) for name in "ab")
    await asyncio.sleep(0)
    gone.cancel()
    found = await stays
    assert found is not None
    assert found[1].device_id == "b"
    assert gone.cancelled()


@pytest.mark.anyio
async def test_what_cannot_be_read_for_a_fault_of_ours_fails_for_all_who_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: Sequence[bytes]) -> list[Found]:
        raise MemoryError

    monkeypatch.setattr(decoder, "read_bodies", broken)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    reader = BodyReader()
    results = await asyncio.gather(*(reader.read(_body_of(n, 1)) for n in "ab"), return_exceptions=True)
    assert [type(result) for result in results] == [MemoryError, MemoryError]


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"ts": TS},
        {"pv_power_w": True},
        {"pv_power_w": "1"},
        {"pv_power_w": 10**400},
        {"pv_power_w": float("inf")},
        {"pv_power_w": float("nan")},
        {"inverter_temp_c": 999},
        {"sample_count": 0},
        {"running_state": "\ud800"},
        {"running_state": ["Run"]},
        {"mppt_voltage_v": 5},
        {"fault_codes": [True]},
    ],
)
def test_one_odd_reading_leaves_the_others_on_the_short_way(odd: dict[str, Any]) -> None:
    usual = {"device_id": "d", "ts": TS, "pv_power_w": 1}
    head = {} if odd.keys() <= {"ts"} else {"device_id": "d", "ts": TS}
    rows = decode_batch([usual, head | odd, usual], {"d": 7})
    assert [row is None for row in rows] == [False, True, False]


READING = b'{"device_id":"d","ts":"2026-06-15T12:00:0%d.000Z","pv_power_w":%d}'


def in_pieces(body: bytes) -> Found:
    """Read a body cut wherever it can be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "_PIECE", 1)
        return read_body(body)


def at_once(body: bytes) -> Found:
    return read_bodies([body])[0]


@settings(max_examples=300, deadline=None)
@given(batches(), st.sampled_from([{}, {"batch_id": "b"}]), st.sampled_from([{}, {"seq": [1, 2]}]))
def test_a_body_in_pieces_says_what_it_says_at_once(
    items: list[dict[str, Any]], before: dict[str, Any], after: dict[str, Any]
) -> None:
    body = json.dumps(before | {"samples": items} | after, separators=(",", ":")).encode()
    assert told(in_pieces(body)) == told(at_once(body))


def test_a_large_body_is_cut() -> None:
    seen: list[bytes] = []

    class Seeing:
        def decode(self, some: bytes) -> Any:
            seen.append(some)
            return readings.decode(some)

    readings = decoder._READINGS
    body = b'{"batch_id":"b","samples":[%b],"seq":[1,2,3]}' % b",".join(READING % (n, n) for n in range(3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "_READINGS", Seeing())
        found = in_pieces(body)
    assert seen == [b"[" + READING % (n, n) + b"]" for n in range(2)]
    assert told(found) == told(at_once(body))
    assert found is not None
    assert found[0] == {"batch_id": "b", "seq": [1, 2, 3]}
    assert len(found[1].block) == 3


@pytest.mark.parametrize(
    "body",
    [
        b'{"samples":[R,R],"samples":[R,R]}',
        b'{"samples":[],"samples":[R,R,R]}',
        b'{"samples":[R,R,R],"samples" :[R]}',
        b'{"samples":[R,R,R],"s\\u0061mples":[R]}',
        b'{"s\\u0061mples":[R],"samples":[R,R,R]}',
        b'{"samples":[R,R],"device":[R,R,R]}',
        b'{"samples":[R,R],"device":{"samples":[R,R]}}',
        b'{"device":{"samples":[R,R]},"samples":[R,R]}',
        b'{"device":[R,R,R],"samples":[R,R]}',
        b'{"device":{"samples":[R,R,R]}}',
        b'{"samples": [R],"device":{"samples":[R,R,R]}}',
        b'{"samples": [R],"samples":[R,R,R]}',
        b'{"samples" : [R],"batch_id":{"samples":[R,R,R]},"samples": [R]}',
        b'{"samples":[R,R,[R,R]]}',
        b'{"samples":[R,R],[R,R]}',
        b'{"samples":[R,,R]}',
        b'{"samples":[R,R,]}',
        b'{"samples":[R,R',
        b'{"samples":[R,R]',
        b'{"samples":[R,R]}}',
        b'[{"samples":[R,R]}]',
        b'{"samples":[R,{"device_id":"e","ts":"2026-06-15T12:00:00.000Z"}]}',
        b'{"batch_id":"},{\\"device_id\\":\\"","samples":[R,R,R]}',
        b'{"samples":[R,R,R],"batch_id":"},{\\"device_id\\":\\""}',
        b'{"batch_id":"\\"samples\\":[","samples":[R,R,R]}',
    ],
)
def test_what_is_not_surely_the_list_of_readings_is_not_taken_for_it(body: bytes) -> None:
    number = iter(range(100))
    parts = body.split(b"R")
    body = parts[0] + b"".join(
        READING % (n % 10, n) + part for part, n in zip(parts[1:], number, strict=False)
    )
    cut = in_pieces(body)
    assert cut is None or told(cut) == told(at_once(body))
