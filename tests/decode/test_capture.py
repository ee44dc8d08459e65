"""Capture files: read, merged, masked, written; a damaged one says in one line what is wrong."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from sungrow_lib.capture import (
    SIZE_LIMIT,
    Capture,
    capture_document,
    load_capture,
    merge_captures,
    parse_capture,
    write_capture,
)
from sungrow_lib.errors import CaptureError
from sungrow_lib.registers.words import RegisterWords, Space


def document(**changes: Any) -> dict[str, Any]:
    return {"model": "SH10RT", "function": 4, "unit_id": 1, "registers": {"5000": 3587}, **changes}


def capture(space: Space = Space.INPUT, /, **changes: Any) -> Capture:
    registers = changes.pop("registers", {5000: 3587})
    return Capture(words=RegisterWords({(space, n): word for n, word in registers.items()}), **changes)


def test_a_capture_is_read_by_document_number() -> None:
    read = parse_capture(document(firmware="V1", connection="LAN", source="somewhere"))
    assert dict(read.words) == {(Space.INPUT, 5000): 3587}
    assert (read.model, read.firmware, read.connection, read.unit_id) == ("SH10RT", "V1", "LAN", 1)
    assert (read.ts, read.device_id) == (None, None)


def test_function_3_is_the_holding_space() -> None:
    assert list(parse_capture(document(function=3)).words) == [(Space.HOLDING, 5000)]


def test_everything_but_function_and_registers_may_be_missing_or_null() -> None:
    bare = parse_capture({"function": 4, "registers": {}})
    assert bare == parse_capture(document(model=None, unit_id=None, ts=None, device_id=None, registers={}))


def test_time_and_device_are_taken_over() -> None:
    read = parse_capture(document(ts="2026-01-31T11:00:00+01:00", device_id="house-1"))
    assert read.ts == datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert read.device_id == "house-1"


@pytest.mark.parametrize(
    ("damaged", "complaint"),
    [
        ([], "not a capture"),
        ({"function": 4}, "not a capture"),
        (document(function=1), '"function" must be 4'),
        (document(function=True), '"function" must be 4'),
        (document(function="4"), '"function" must be 4'),
        (document(function=None), '"function" must be 4'),
        (document(function=[]), '"function" must be 4'),
        (document(registers=[1]), '"registers" must be an object'),
        (document(registers=None), '"registers" must be an object'),
        (document(registers={"0": 1}), '"0" is no register number'),
        (document(registers={"65537": 1}), '"65537" is no register number'),
        (document(registers={"0x1388": 1}), "is no register number"),
        (document(registers={"-5": 1}), "is no register number"),
        (document(registers={"": 1}), "is no register number"),
        (document(registers={"\u0665": 1}), "is no register number"),
        (document(registers={"5000": 65536}), "register 5000 holds 65536, which is no word"),
        (document(registers={"5000": -1}), "no word"),
        (document(registers={"5000": True}), "register 5000 holds true, which is no word"),
        (document(registers={"5000": 1.0}), "no word"),
        (document(registers={"5000": "1"}), "no word"),
        (document(registers={"5000": None}), "no word"),
        (document(registers={"5000": 1, "05000": 2}), "register 5000 stands twice"),
        (document(registers={"05000": 1, "5000": 1}), "register 5000 stands twice"),
        (document(model=5), '"model" must be text'),
        (document(unit_id=256), '"unit_id" must be 0 to 255'),
        (document(unit_id="1"), '"unit_id" must be 0 to 255'),
        (document(ts="yesterday"), "ts must be RFC 3339"),
        (document(ts="2026-01-31T10:00:00"), "ts must be RFC 3339"),
        (document(device_id="a b"), '"device_id" must be'),
        (document(device_id=7), '"device_id" must be'),
    ],
)
def test_a_damaged_document_says_what_is_wrong(damaged: object, complaint: str) -> None:
    with pytest.raises(CaptureError, match=complaint.replace("(", r"\(")):
        parse_capture(damaged)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not JSON, or cut off: it cannot be read on from line 1, column 1$"),
        (b"{", "not JSON, or cut off: it cannot be read on from line 1, column 2$"),
        (b"\xff\xfe\x00", "not JSON: it is no text$"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"registers": {"5000": ' + b"9" * 5000 + b"}}", "not JSON of a capture: it holds a number"),
        (b'{"function": 4, "registers": {"5000": 1, "5000": 2}}', '"5000" stands twice'),
        (b" " * (SIZE_LIMIT + 1), "too large for a capture"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=f"broken.json: .*{complaint}") as raised:
        load_capture(path)
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"none\.json: cannot be read: No such file"):
        load_capture(tmp_path / "none.json")
    with pytest.raises(CaptureError, match="cannot be read: Is a directory"):
        load_capture(tmp_path)


def test_both_spaces_of_a_device_merge() -> None:
    merged = merge_captures(
        [
            capture(model="SH10RT", unit_id=1),
            capture(Space.HOLDING, registers={5000: 2024}, connection="LAN", device_id="house"),
        ]
    )
    assert dict(merged.words) == {(Space.INPUT, 5000): 3587, (Space.HOLDING, 5000): 2024}
    assert (merged.model, merged.unit_id, merged.connection, merged.device_id) == (
        "SH10RT",
        1,
        "LAN",
        "house",
    )


@pytest.mark.parametrize(
    ("left", "right", "complaint"),
    [
        (capture(unit_id=1), capture(unit_id=2), r"different units \(1, 2\)"),
        (capture(model="SH10RT"), capture(model="SH8.0RT-20 master"), "different models"),
        (capture(model="SH-RT hybrid"), capture(model="SG-RS"), "different register families"),
        (capture(device_id="house"), capture(device_id="barn"), r"different devices \(barn, house\)"),
        (capture(), capture(Space.HOLDING, model="SH8.0RT-20"), r"models \(SH10RT, SH8.0RT-20\)"),
        (capture(Space.HOLDING, model="SH15T"), capture(), r"models \(SH10RT, SH15T\)"),
        (capture(), capture(Space.HOLDING, model="an SG-RS"), r"register families \(sg, sh\)"),
        (capture(), capture(registers={10741: 9}, model="SBR128"), r"register families \(battery, sh\)"),
        (capture(registers={10710: 8424}), capture(registers={10741: 9}, model="SBH200"), "models"),
        (capture(), capture(registers={5000: 1}), "different words for input register 5000"),
    ],
)
def test_captures_that_do_not_belong_together_are_refused(
    left: Capture, right: Capture, complaint: str
) -> None:
    with pytest.raises(CaptureError, match=complaint):
        merge_captures([left, right])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (capture(), capture(Space.HOLDING, model="sh10rt (behind the house)")),
        (capture(), capture(Space.HOLDING, model="SH-RT hybrid")),
        (capture(), capture(Space.HOLDING, model="the one in the cellar", registers={5000: 2024})),
        (capture(registers={5000: 0x2C12}), capture(Space.HOLDING, model="SG100CX")),  # the code stands
        (capture(registers={5000: 0x2C12}), capture(Space.HOLDING, model="SG100CX-JP")),  # for both
        (capture(registers={5000: 1}), capture(Space.HOLDING, model="SH15T")),
        (capture(registers={5000: 0x0E12}, model="SH8.0RT"), capture(Space.HOLDING, model="SH8.0RT")),
    ],
)
def test_one_device_may_be_named_loosely(left: Capture, right: Capture) -> None:
    assert len(merge_captures([left, right]).words) == 2
    assert len(merge_captures([right, left]).words) == 2


def test_the_same_words_twice_are_no_conflict() -> None:
    assert merge_captures([capture(), capture()]) == capture()


def test_nothing_to_merge_is_an_error() -> None:
    with pytest.raises(CaptureError, match="no capture given"):
        merge_captures([])


SERIAL = {4990: 0x4132, 4991: 0x3236, 4992: 0x3738, 4993: 0}


def test_serial_numbers_are_masked_on_writing(tmp_path: Path) -> None:
    path = tmp_path / "dump.json"
    write_capture(path, capture(registers={**SERIAL, 5000: 3587, 10711: 0x5331, 10822: 0x3939}), Space.INPUT)
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["registers"] == {
        "4990": 0x4130,
        "4991": 0x3030,
        "4992": 0x3030,
        "4993": 0,
        "5000": 3587,
        "10711": 0x5330,
        "10822": 0x3030,
    }
    assert written["serial_redacted"] is True


def test_a_serial_number_in_the_device_id_is_masked_as_well() -> None:
    named = replace(capture(registers=SERIAL), device_id="roof-a22678.east")
    assert named.masked().device_id == "roof-A00000.east"
    assert replace(named, device_id="roof-2").masked().device_id == "roof-2"


def test_serial_numbers_stay_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "dump.json"
    write_capture(path, capture(registers=SERIAL), Space.INPUT, mask_serials=False)
    assert load_capture(path) == capture(registers=SERIAL)
    assert "serial_redacted" not in path.read_text(encoding="utf-8")


def test_a_capture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="cannot be written: Is a directory"):
        write_capture(tmp_path, capture(), Space.INPUT)


def test_one_file_holds_one_space() -> None:
    both = merge_captures([capture(), capture(Space.HOLDING, registers={5000: 2024})])
    assert capture_document(both, Space.HOLDING) == {"function": 3, "registers": {"5000": 2024}}


@given(
    registers=st.dictionaries(st.integers(1, 65_536), st.integers(0, 0xFFFF)),
    space=st.sampled_from(Space),
    unit=st.none() | st.integers(0, 255),
    ts=st.none() | st.just(datetime(2026, 1, 31, 10, 0, 0, 123_000, tzinfo=UTC)),
)
def test_what_is_written_is_read_back(
    registers: dict[int, int], space: Space, unit: int | None, ts: datetime | None
) -> None:
    original = capture(space, registers=registers, unit_id=unit, ts=ts, model="SH10RT", device_id="house")
    text = json.dumps(capture_document(original, space))
    assert parse_capture(json.loads(text)) == original


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


keys = st.sampled_from(["model", "function", "unit_id", "registers", "ts", "device_id"])


@given(st.dictionaries(keys, json_values) | json_values)
def test_any_json_is_a_capture_or_a_capture_error(anything: object) -> None:
    with suppress(CaptureError):
        assert isinstance(parse_capture(anything), Capture)
