from __future__ import annotations

import gc
import itertools
import json
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


def test_only_the_last_part_of_a_chosen_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tmp_path / "disk" / "state"
    notes = DeviceNotes.load("inverter", 502, 1, ONE, chosen)
    notes.add(REFUSED, 2)
    assert not chosen.parent.exists()  # its disk may be mounted there later
    monkeypatch.delenv("SUNGROW_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "new" / "home"))
    load().add(REFUSED, 2)
    assert (tmp_path / "new" / "home" / "sungrow").is_dir()


def test_an_account_without_a_home_keeps_notes_in_a_chosen_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    load().add(REFUSED, 2)
    assert [file.name for file in folder.iterdir()] == ["device-inverter-502-1.json"]


def test_a_pass_that_brings_nothing_new_leaves_no_garbage_and_the_file_alone(folder: Path) -> None:
    notes = load()
    notes.add(REFUSED, 2)
    notes.no_battery[200] = 5.0
    notes.save()
    [file] = folder.iterdir()
    before = file.stat()
    assert file.read_text().startswith('{\n "device": ')
    for known in (notes, load()):
        gc.collect()
        gc.disable()
        known.save()
        assert gc.collect() == 0
        gc.enable()
    assert file.stat().st_ino == before.st_ino


def test_a_file_that_cannot_be_replaced_leaves_no_draft(folder: Path) -> None:
    notes = load()
    assert notes.path is not None
    notes.path.mkdir(parents=True)
    notes.add(REFUSED, 2)
    assert list(folder.iterdir()) == [folder / "device-inverter-502-1.json"]


def test_a_full_disk_costs_the_notes_only_as_long_as_it_is_full_and_is_said_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write_text("in the way")
    notes, others = load(), load(unit=2)
    for number in range(5):
        notes.add(Block(Space.HOLDING, 13000 + number, 1), 2)
    others.add(REFUSED, 2)
    [line] = caplog.records
    assert (line.levelname, line.__dict__["folder"]) == ("WARNING", str(folder))
    folder.unlink()
    notes.add(REFUSED, 2)
    assert not folder.exists()  # not at every reading
    monkeypatch.setattr("sungrow_lib.modbus.notes._TRY_AGAIN_S", -1.0)
    notes._not_before = 0.0
    notes.save()
    assert len(load().refused) == 5
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("in the way again")
    notes.add(BLOCK, 2)
    assert len(caplog.records) == 2
    folder.unlink()
    notes.save()
    assert len(load().refused) == 6


DAY = 86_400.0


def everything(_: Block) -> bool:
    return True


def test_a_refusal_is_asked_about_more_rarely_the_more_often_it_was_confirmed() -> None:
    notes = load()
    rests = []
    now = 0.0
    for _ in range(9):
        notes.add(REFUSED, 2, at=now)
        notes = load()  # a restart changes nothing
        rest_s = next(s for s in itertools.count(60.0, 60.0) if notes.to_ask_again(now + s, everything))
        rests.append(rest_s)
        now += rest_s
    assert rests == [600.0, DAY, 2 * DAY, 4 * DAY, 8 * DAY, 16 * DAY, 32 * DAY, 32 * DAY, 32 * DAY]


def test_a_refusal_without_a_code_never_lasts() -> None:
    notes = load()
    now = 0.0
    for _ in range(20):
        notes.add(REFUSED, 0, at=now)
        now += 4 * 3600.0
        assert notes.to_ask_again(now, everything) == REFUSED


def test_a_second_refusal_at_once_confirms_nothing() -> None:
    notes = load()
    notes.add(REFUSED, 2, at=0.0)
    notes.add(REFUSED, 2, at=30.0)
    assert notes.to_ask_again(631.0, everything) == REFUSED


def test_refusals_are_asked_about_one_by_one_the_innermost_first() -> None:
    notes = load()
    outer, inner, other = (Block(Space.INPUT, *at) for at in ((5000, 10), (5002, 2), (5100, 1)))
    for block in (outer, inner, other):
        notes.add(block, 2, at=0.0)
    assert notes.to_ask_again(599.0, everything) is None
    assert notes.to_ask_again(600.0, lambda block: block == other) == other
    assert notes.to_ask_again(600.0, everything) == inner
    notes.add(inner, 2, at=600.0)
    assert notes.to_ask_again(630.0, everything) is None
    assert notes.to_ask_again(660.0, everything) == other
    notes.put_off(other, at=660.0)
    assert notes.to_ask_again(1200.0, everything) is None
    notes.add(inner)
    notes.add(other)
    assert notes.refused == {outer: 2}
    assert notes.to_ask_again(1200.0, everything) == outer


def test_what_was_inferred_from_refusals_is_not_asked_and_goes_with_them() -> None:
    notes = load()
    inferred = Block(Space.HOLDING, 13050, 1)
    notes.add(REFUSED, 2, at=0.0)
    notes.infer(inferred, 2)
    notes = load()
    assert notes.refused == {REFUSED: 2, inferred: 2}
    assert notes.to_ask_again(DAY, lambda block: block == inferred) is None
    notes.add(Block(Space.INPUT, 5000, 1))
    assert inferred in notes.refused
    notes.add(REFUSED)
    assert notes.refused == {}


def test_notes_of_an_older_version_are_asked_about_soon(folder: Path) -> None:
    notes = load()
    notes.add(REFUSED, 2, at=1e9)
    [path] = folder.iterdir()
    data = json.loads(path.read_text())
    for entry in data["refused"]:
        del entry["at"], entry["times"]
    path.write_text(json.dumps(data))
    assert load().refused == {REFUSED: 2}
    assert load().to_ask_again(1e9, everything) == REFUSED
