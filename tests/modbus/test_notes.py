from __future__ import annotations

from pathlib import Path

import pytest

from sungrow_lib.modbus.notes import DeviceNotes
from sungrow_lib.quantities import Family
from sungrow_lib.registers.identity import Identity
from sungrow_lib.registers.words import Block, Space

ONE = Identity(family=Family.SH, serial="A1")
OTHER = Identity(family=Family.SH, serial="A2")
BLOCK = Block(Space.INPUT, 5000, 3)
REFUSED = Block(Space.HOLDING, 13000, 1)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SUNGROW_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def load(identity: Identity = ONE, host: str = "inverter", unit: int = 1) -> DeviceNotes:
    return DeviceNotes.load(host, 502, unit, identity)


def test_what_was_refused_is_kept_at_once() -> None:
    notes = load()
    notes.add(BLOCK)
    notes.add(REFUSED, 2)
    again = load()
    assert again.answered == {BLOCK}
    assert again.refused == {REFUSED: 2}


def test_a_part_of_what_was_served_was_served() -> None:
    notes = DeviceNotes()
    notes.add(Block(Space.INPUT, 5003, 20))
    assert notes.has_answered(Block(Space.INPUT, 5003, 20))
    assert notes.has_answered(Block(Space.INPUT, 5010, 2))
    assert not notes.has_answered(Block(Space.INPUT, 5010, 20))
    assert not notes.has_answered(Block(Space.HOLDING, 5010, 2))


def test_holes_are_kept_for_a_day_and_until_the_firmware_changes() -> None:
    notes = load()
    notes.see_firmware({"inverter_firmware": "1"})
    notes.see_holes({"battery_power_signed"}, at=1000.0)
    notes.save()
    assert load().holes == {"battery_power_signed": 1000.0}
    for now, names in ((87_000.0, {"battery_power_signed"}), (88_000.0, set())):
        again = load()
        again.expire_holes(now)
        assert again.holes.keys() == names
    again = load()
    again.see_firmware({"inverter_firmware": "2"})
    assert again.holes == {}


def test_each_device_has_its_own() -> None:
    notes = load()
    notes.add(REFUSED, 2)
    assert load(unit=2).refused == {}
    assert load(host="fe80::1%eth0/../..").refused == {}
    assert load(OTHER).refused == {}
    assert load().refused == {REFUSED: 2}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"device": "sh None A1 None", "answered": [], "refused": [{"first": 0}]}', "\x00"],
)
def test_file_that_cannot_be_used_counts_for_nothing(folder: Path, content: str) -> None:
    notes = load()
    notes.save()
    [path] = folder.iterdir()
    path.write_text(content)
    assert load().refused == {}
    assert load().answered == set()


def test_folder_that_cannot_be_written_is_no_failure(folder: Path) -> None:
    folder.write_text("in the way")
    notes = load()
    notes.add(REFUSED, 2)
    assert notes.refused == {REFUSED: 2}


def test_a_file_that_cannot_be_replaced_leaves_no_draft(folder: Path) -> None:
    notes = load()
    assert notes.path is not None
    notes.path.mkdir(parents=True)
    notes.add(REFUSED, 2)
    assert list(folder.iterdir()) == [folder / "device-inverter-502-1.json"]
