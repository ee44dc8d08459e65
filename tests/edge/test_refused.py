"""What the daemon says of registers that an inverter refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reference_edge.refused import RefusalLog, refused_words
from sungrow_lib.modbus.refusals import Refusal
from sungrow_lib.registers.words import Block, Space


def refusal(number: int, field: str | None = None) -> Refusal:
    fields = (field,) if field else ()
    return Refusal(Block(Space.INPUT, number, 1), (f"register_{number}",), fields)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, object]]:
    return [(record.message, vars(record)["registers"]) for record in caplog.records]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> RefusalLog:
    caplog.set_level("INFO", "sungrow_edge")
    return RefusalLog("roof")


def test_each_change_is_one_line_and_no_change_is_none(
    log: RefusalLog, caplog: pytest.LogCaptureFixture
) -> None:
    one, two, three = refusal(5001), refusal(5002), refusal(5003, "grid_hz")
    for now in ((), (one, two), (one, two), (one, two, three), (one, two, three), (two, three), (two, three)):
        log.see(now)
    log.see((two, replace(three, fields=())))  # another register supplies the value now: no refusal is new
    assert lines(caplog) == [
        ("refused", ["input 5001 (register_5001)", "input 5002 (register_5002)"]),
        ("refused", ["input 5003 (register_5003)"]),
        ("no longer refused", ["input 5001 (register_5001)"]),
    ]
    assert vars(caplog.records[1])["fields"] == ["grid_hz"]


def test_who_changes_its_mind_all_the_time_fills_no_log(
    log: RefusalLog, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(50):
        log.see((refusal(5001),))
        log.see(())
    assert [event for event, _ in lines(caplog)] == ["refused", "no longer refused"]


def test_each_refusal_is_told_however_many_are_found_out_one_by_one(
    log: RefusalLog, caplog: pytest.LogCaptureFixture
) -> None:
    found = tuple(refusal(number) for number in range(5000, 5040))
    for count in range(len(found)):
        log.see(found[: count + 1])
    assert [vars(record)["registers"] for record in caplog.records] == [
        [f"input {number} (register_{number})"] for number in range(5000, 5040)
    ]


def test_many_are_counted_and_some_named(log: RefusalLog, caplog: pytest.LogCaptureFixture) -> None:
    log.see(tuple(refusal(number, f"field_{number}") for number in range(5000, 5100)))
    [record] = caplog.records
    told = log.told()
    assert vars(record)["more_registers"] == told["more_registers"] == 90
    assert (len(told["registers"]), len(told["fields"]), told["more_fields"]) == (10, 10, 90)
    words = refused_words(told)
    assert words is not None
    assert len(words) < 400
    assert "field_5009 and 90 more; " in words
    assert words.endswith("input 5002 (register_5002) and 97 more")


def test_what_another_register_supplies_is_not_missing(log: RefusalLog) -> None:
    assert refused_words(log.told()) is None
    log.see((refusal(5001),))
    assert refused_words(log.told()) == (
        "it refuses input 5001 (register_5001); no value is missing for that"
    )
