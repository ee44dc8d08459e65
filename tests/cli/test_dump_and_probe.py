from __future__ import annotations

import itertools
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sungrow_lib.capture import load_capture
from sungrow_lib.cli.command import main
from sungrow_lib.quantities import Family
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.words import Block, RegisterWords, Space
from sungrow_lib.sample import format_ts
from sungrow_lib.simulator.faults import Fault
from sungrow_lib.simulator.server import InverterSimulator, Profile, StaticSource
from tests.cli.helpers import SERIAL, Serve, SkippingClock

Capsys = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("skipping_clock")


@pytest.fixture
def complete(hybrid: StaticSource) -> StaticSource:
    """A device that lacks nothing, so that no test waits for refusals."""
    every = {(space, number): 0xFFFF for space in Space for number in range(1, 40_000)}
    return StaticSource(RegisterWords(every) | hybrid.image)


def run(command: str, inverter: InverterSimulator, *arguments: str) -> int:
    return main([command, "127.0.0.1", "--port", str(inverter.port), "--timeout", "2", *arguments])


def test_dump_masks_serials_unless_told_not_to(
    serve: Serve, complete: StaticSource, tmp_path: Path, capsys: Capsys
) -> None:
    for arguments, serial in (([], "A000000000"), (["--with-serial"], SERIAL)):
        path = tmp_path / "capture.json"
        assert run("dump", serve({1: complete}), "-o", str(path), *arguments) == 0
        capsys.readouterr()
        assert main(["decode", "--json", str(path)]) == 0
        device = json.loads(capsys.readouterr().out)["device"]
        assert (device["serial"], device["model"], device["path"]) == (serial, "SH8.0RT-20", "LAN")


def test_dump_says_when_and_of_what(
    serve: Serve, complete: StaticSource, tmp_path: Path, capsys: Capsys
) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    for space in ("input", "holding"):
        path = tmp_path / f"{space}.json"
        arguments = ["--space", space, "--device-id", f"roof-{SERIAL}"]
        assert run("dump", serve({1: complete}), "-o", str(path), *arguments) == 0
        written = load_capture(path)
        assert written.ts is not None
        assert before <= written.ts <= datetime.now(UTC)
        assert written.device_id == "roof-A000000000"
    capsys.readouterr()
    assert main(["decode", "--json", str(path)]) == 0
    sample = json.loads(capsys.readouterr().out)["sample"]
    assert written.ts is not None
    assert (sample["device_id"], sample["ts"]) == (written.device_id, format_ts(written.ts))


@pytest.mark.parametrize("space", ["input", "holding"])
def test_dump_names_the_firmware(serve: Serve, complete: StaticSource, tmp_path: Path, space: str) -> None:
    text = RegisterMap.for_family(Family.SH).by_name("inverter_firmware")
    words = dict(zip(text.block.numbers, text.encode("SAPPHIRE-H_03011.95.03"), strict=True))
    image = RegisterWords(complete.image) | {(Space.INPUT, number): word for number, word in words.items()}
    path = tmp_path / "capture.json"
    assert run("dump", serve({1: StaticSource(image)}), "-o", str(path), "--space", space) == 0
    assert load_capture(path).firmware == "SAPPHIRE-H_03011.95.03"


def test_dump_of_a_battery_names_its_path_and_is_refused_rarely(serve: Serve, tmp_path: Path) -> None:
    words = {(Space.INPUT, number): 0 for number in range(10710, 10885)} | {(Space.INPUT, 10710): 8424}
    for unit, path in ((200, "LAN"), (2, "WiNet-S")):
        inverter = serve({unit: StaticSource(words)}, Profile.WINET_S)
        capture = tmp_path / f"{unit}.json"
        assert run("dump", inverter, "--unit", str(unit), "-o", str(capture)) == 0
        assert load_capture(capture).connection == path
        refused = [request.block for request in inverter.requests if request.refused is not None]
        assert [block for block in refused if block.first > 13_000 and block.count < 10] == [
            Block(Space.INPUT, 13070, 2)
        ] * (unit == 200)


def test_another_firmware_makes_the_probe_begin_anew(
    serve: Serve, hybrid: StaticSource, capsys: Capsys
) -> None:
    text = RegisterMap.for_family(Family.SH).by_name("inverter_firmware")

    def with_firmware(version: str) -> dict[tuple[Space, int], int]:
        numbers = [(Space.INPUT, number) for number in text.block.numbers]
        return {**hybrid.image, **dict(zip(numbers, text.encode(version), strict=True))}

    class Source:
        def __init__(self) -> None:
            self.image = {key: word for key, word in with_firmware("1").items() if key[1] != 5242}

        def words(self) -> dict[tuple[Space, int], int]:
            return self.image

    source = Source()
    inverter = serve({1: source}, Profile.WINET_S)
    assert run("probe", inverter, "--json") == 0
    assert "grid_frequency_high_resolution" in json.loads(capsys.readouterr().out)["refused"]
    source.image = with_firmware("2")
    assert run("probe", inverter, "--json") == 0
    assert "grid_frequency_high_resolution" not in json.loads(capsys.readouterr().out)["refused"]


def test_dump_holds_what_the_device_holds(serve: Serve, complete: StaticSource, tmp_path: Path) -> None:
    path = tmp_path / "capture.json"
    assert run("dump", serve({1: complete}), "-o", str(path), "--with-serial") == 0
    words = load_capture(path).words
    assert len(words) > 1000
    assert all(complete.image[key] == word for key, word in words.items())


def test_dump_of_settings(serve: Serve, complete: StaticSource, tmp_path: Path) -> None:
    path = tmp_path / "capture.json"
    assert run("dump", serve({1: complete}), "-o", str(path), "--space", "holding") == 0
    assert {space for space, _ in load_capture(path).words} == {Space.HOLDING}


def test_dump_that_fails_half_way_keeps_what_it_has(
    serve: Serve, complete: StaticSource, tmp_path: Path, capsys: Capsys
) -> None:
    path = tmp_path / "capture.json"
    inverter = serve({1: complete})
    inverter.inject(None, None, None, None, *[Fault.RESET] * 4)
    assert run("dump", inverter, "-o", str(path)) == 1
    assert "reset" in capsys.readouterr().err
    assert 50 < len(load_capture(path).words) < 1000


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.CLOSE, Fault.TRUNCATED, Fault.DEVICE_BUSY])
def test_dump_goes_on_after_a_failure(
    serve: Serve, complete: StaticSource, tmp_path: Path, capsys: Capsys, fault: Fault
) -> None:
    path = tmp_path / "capture.json"
    inverter = serve({1: complete})
    inverter.inject(None, None, None, None, fault, None, None, fault)
    assert run("dump", inverter, "-o", str(path)) == 0
    first = set(load_capture(path).words)
    error = capsys.readouterr().err
    assert "going on in some seconds" in error
    assert "never answered" not in error
    assert run("dump", inverter, "-o", str(path)) == 0
    assert set(load_capture(path).words) == first


def test_dump_leaves_out_what_is_never_answered(
    serve: Serve, complete: StaticSource, tmp_path: Path, capsys: Capsys
) -> None:
    path = tmp_path / "capture.json"
    inverter = serve({1: complete})
    inverter.inject(None, None, None, Fault.RESET, Fault.RESET)
    assert run("dump", inverter, "-o", str(path)) == 0
    assert len(load_capture(path).words) > 900
    assert "never answered: input " in capsys.readouterr().err


def test_dump_into_an_absent_folder_asks_the_device_nothing(
    serve: Serve, complete: StaticSource, tmp_path: Path, capsys: Capsys
) -> None:
    inverter = serve({1: complete})
    assert run("dump", inverter, "-o", str(tmp_path / "absent" / "capture.json")) == 2
    assert "absent" in capsys.readouterr().err
    assert not inverter.requests


def test_probe_tells_what_it_is_and_what_it_serves(
    serve: Serve, complete: StaticSource, capsys: Capsys
) -> None:
    assert run("probe", serve({1: complete}), "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["model"], answer["serial"], answer["path"]) == ("SH8.0RT-20", SERIAL, "LAN")
    assert "battery_soc" in answer["answered"]
    assert answer["refused"] == []
    assert run("probe", serve({1: complete})) == 0
    assert "SH8.0RT-20" in capsys.readouterr().out


def test_probe_tells_holes_from_answers_and_refusals(
    serve: Serve, hybrid: StaticSource, capsys: Capsys
) -> None:
    image = RegisterWords(hybrid.image) | {(Space.INPUT, 5242): 0xFFFF, (Space.INPUT, 13023): 0}
    inverter = serve({1: StaticSource(image)})
    assert run("probe", inverter, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    kinds = [set(answer[kind]) for kind in ("answered", "holes", "refused")]
    assert sum(map(len, kinds)) == len(set.union(*kinds))
    answered, holes, refused = kinds
    assert "battery_soc" in answered  # which is 0
    assert {"grid_frequency_high_resolution", "mppt_1_voltage_mirror"} <= holes
    assert "battery_firmware" in refused
    assert run("probe", inverter) == 0
    report = capsys.readouterr().out
    assert (
        f"{len(answered)} answered, {len(holes)} holes (filled with 0xFFFF), {len(refused)} refused" in report
    )
    inverter.requests.clear()
    assert main(["read", "127.0.0.1", "--port", str(inverter.port), "grid_frequency_hz"]) == 0
    assert not [request for request in inverter.requests if 5242 in request.block.numbers]  # known by now


def test_probe_of_a_string_inverter_tells_its_path(
    serve: Serve, string_inverter: StaticSource, capsys: Capsys
) -> None:
    assert run("probe", serve({1: string_inverter}), "--json") == 0
    assert json.loads(capsys.readouterr().out)["path"] == "WiNet-S"


def test_probe_tells_how_far_it_is(serve: Serve, hybrid: StaticSource, capsys: Capsys) -> None:
    inverter = serve({1: hybrid})
    assert run("probe", inverter) == 0
    lines = iter(capsys.readouterr().err.splitlines())
    assert any(line.startswith("SH8.0RT-20: reading what is documented in ") for line in lines)
    assert re.fullmatch(
        r".* was refused: exception 2, .*; going on in 5 s, .*; requests left: \d+", next(lines)
    )


def test_probe_of_a_real_hybrid_is_refused_rarely(serve: Serve, hybrid: StaticSource) -> None:
    """Each refusal costs five seconds: what a device lacks as a whole is not asked register by register."""
    for profile, most in ((Profile.LAN, 12), (Profile.WINET_S, 17)):
        inverter = serve({1: hybrid}, profile)
        assert run("probe", inverter) == 0
        assert sum(request.refused is not None for request in inverter.requests) <= most


def image_of(family: Family, **words: int) -> dict[tuple[Space, int], int]:
    """Everything a family documents, each word 1."""
    rows = RegisterMap.for_family(family)
    every = {(row.space, number): 1 for row in rows for number in row.block.numbers}
    return every | {(Space.INPUT, int(name[1:])): word for name, word in words.items()}


MANAGER = image_of(Family.IHM, r8000=0x072A)


@pytest.mark.parametrize("device", ["hybrid", "string inverter", "iHomeManager"])
def test_a_path_without_settings_is_not_asked_for_each(
    serve: Serve, complete: StaticSource, string_inverter: StaticSource, capsys: Capsys, device: str
) -> None:
    images = {"hybrid": complete.image, "string inverter": string_inverter.image, "iHomeManager": MANAGER}
    inputs = {key: word for key, word in images[device].items() if key[0] is Space.INPUT}
    unit = 247 if device == "iHomeManager" else 1
    inverter = serve({unit: StaticSource(inputs)})
    assert run("probe", inverter, "--unit", str(unit), "--json") == 0
    printed = capsys.readouterr()
    assert f"unit {unit} serves no settings" in printed.err
    assert "start_stop" in json.loads(printed.out)["refused"]
    refused = [request.block for request in inverter.requests if request.refused is not None]
    assert len([block for block in refused if block.space is Space.HOLDING]) <= 3
    inverter.requests.clear()
    assert run("probe", inverter, "--unit", str(unit)) == 0
    assert not [request for request in inverter.requests if request.refused is not None]


def test_settings_are_found_behind_others_that_are_not_there(serve: Serve, capsys: Capsys) -> None:
    gone = {(Space.HOLDING, number) for number in range(8024, 8034)}
    image = {key: word for key, word in MANAGER.items() if key not in gone}
    assert run("probe", serve({247: StaticSource(image)}), "--unit", "247", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert "charger_mode" in answer["answered"]
    assert {"ems_mode", "vpp_heartbeat"} <= set(answer["refused"])


def test_probe_keeps_its_progress_and_its_distance(
    serve: Serve, complete: StaticSource, capsys: Capsys, skipping_clock: SkippingClock
) -> None:
    gone = {5214, 5215, 13028, *range(6100, 6900)}

    class Source:
        def words(self) -> RegisterWords:
            asked_at.append(skipping_clock.boottime())
            return image

    image = RegisterWords({key: word for key, word in complete.image.items() if key[1] not in gone})
    asked_at: list[float] = []
    inverter = serve({1: Source()}, Profile.WINET_S)
    inverter.inject(*[None] * 20, *[Fault.RESET] * 4)
    assert run("probe", inverter, "--json") == 1  # broke off
    assert run("probe", inverter, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["path"] == "WiNet-S"
    assert {"battery_power_signed", "apparent_power"} & set(answer["refused"])
    asked = [request.block for request in inverter.requests]
    refused = [request.block for request in inverter.requests if request.refused is not None]
    assert len(refused) == len(set(refused))  # nothing is refused twice, not even across the runs
    refused_at = [
        at for at, request in zip(asked_at, inverter.requests, strict=True) if request.refused is not None
    ]
    assert min(later - sooner for sooner, later in itertools.pairwise(refused_at)) >= 5.0
    assert len(asked) > 20
    inverter.requests.clear()
    assert run("probe", inverter, "--json", "--fresh") == 0
    assert [request for request in inverter.requests if request.refused is not None]


def test_notes_on_another_device_count_for_nothing(
    serve: Serve, complete: StaticSource, capsys: Capsys
) -> None:
    inverter = serve({1: complete})
    assert run("probe", inverter, "--json") == 0
    [notes] = Path(os.environ["SUNGROW_STATE_DIR"]).iterdir()
    first = json.loads(notes.read_text())
    assert first["answered"]
    for content in ("{", "[]", json.dumps({**first, "device": "another", "refused": first["answered"]})):
        notes.write_text(content)
        capsys.readouterr()
        assert run("probe", inverter, "--json") == 0
        assert json.loads(capsys.readouterr().out)["refused"] == []
