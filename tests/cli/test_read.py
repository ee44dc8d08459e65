from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sungrow_lib.cli.command import main
from sungrow_lib.demo.processes import wait_until
from sungrow_lib.modbus.clock import SystemClock
from sungrow_lib.modbus.limiter import DeviceLimiter, Endpoint
from sungrow_lib.quantities import QUANTITIES, Family, Tier
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.words import Block, RegisterWords, Space
from sungrow_lib.sample import SungrowSample
from sungrow_lib.simulator.faults import Fault
from sungrow_lib.simulator.server import Profile, StaticSource
from tests.cli.helpers import SERIAL, Serve, SkippingClock
from tests.patience import PATIENCE_S

Capsys = pytest.CaptureFixture[str]


BATTERY = StaticSource(
    {(Space.INPUT, number): 0 for number in range(10710, 10765)}
    | {(Space.INPUT, 10710): 8424, (Space.INPUT, 10757): 33456, (Space.INPUT, 10759): 33012}
)
"""An SBR128."""


def read(port: int, *arguments: str) -> int:
    return main(["read", "127.0.0.1", "--port", str(port), "--timeout", "2", *arguments])


def one_line(text: str) -> str:
    assert text.count("\n") == 1
    assert "Traceback" not in text
    return text


def test_table_for_people(serve: Serve, hybrid: StaticSource, capsys: Capsys) -> None:
    assert read(serve({1: hybrid}).port) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"SH8.0RT-20, serial {SERIAL}, unit 1 at 127.0.0.1:")
    assert "battery_soc_pct" in out
    assert "%" in out
    assert "None" not in out


def test_json_is_the_sample(serve: Serve, hybrid: StaticSource, capsys: Capsys) -> None:
    assert read(serve({1: hybrid}).port, "--json") == 0
    sample = SungrowSample.model_validate_json(capsys.readouterr().out)
    assert sample.device_id == SERIAL
    assert sample.battery_soc_pct is not None
    assert sample.interval_s is None


def test_fields_limit_what_is_read_and_may_stand_behind_options(
    serve: Serve, hybrid: StaticSource, capsys: Capsys
) -> None:
    inverter = serve({1: hybrid})
    assert read(inverter.port, "--json", "battery_soc_pct", "load_power_w") == 0
    assert set(json.loads(capsys.readouterr().out)) == {"device_id", "ts", "battery_soc_pct", "load_power_w"}
    # The simulator, a thread of its own, notes a request once its answer is on the way.
    wait_until("the note", lambda: len(inverter.requests) >= 2, timeout_s=PATIENCE_S)
    assert len(inverter.requests) == 2  # what it is, and the values


def test_a_field_that_is_rarely_read_is_read_when_it_is_named(
    serve: Serve, hybrid: StaticSource, capsys: Capsys
) -> None:
    assert read(serve({1: hybrid}).port, "--json", "inverter_clock", "firmware") == 0
    sample = json.loads(capsys.readouterr().out)
    assert sample["inverter_clock"] == "2024-01-07T00:03:16"
    assert sample["firmware"]


@pytest.mark.parametrize(("columns", "has_titles"), [("200", True), ("40", False)])
def test_titles_are_left_out_where_they_do_not_fit(
    serve: Serve,
    hybrid: StaticSource,
    capsys: Capsys,
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
    *,
    has_titles: bool,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert read(serve({1: hybrid}).port, "battery_soc_pct", "load_power_w") == 0
    _, *rows = capsys.readouterr().out.splitlines()
    assert all(len(row) <= int(columns) for row in rows)
    assert ("Household consumption" in rows[1]) is has_titles


@pytest.mark.usefixtures("skipping_clock")
@pytest.mark.parametrize(("unit", "profile"), [(200, Profile.LAN), (2, Profile.RS485)])
def test_battery_on_a_unit_of_its_own(
    serve: Serve, hybrid: StaticSource, capsys: Capsys, unit: int, profile: Profile
) -> None:
    inverter = serve({1: hybrid, unit: BATTERY}, profile=profile)
    assert read(inverter.port, "--json") == 0
    sample = SungrowSample.model_validate_json(capsys.readouterr().out)
    assert (sample.battery_cell_voltage_max_v, sample.battery_cell_voltage_min_v) == (3.3456, 3.3012)
    assert read(inverter.port, "--json", "battery_cell_voltage_max_v") == 0
    assert json.loads(capsys.readouterr().out)["battery_cell_voltage_max_v"] == 3.3456


@pytest.mark.usefixtures("skipping_clock")
def test_watch_reads_the_battery_on_its_own_unit_once_a_minute(
    serve: Serve, hybrid: StaticSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    inverter = serve({1: hybrid, 200: BATTERY})
    seen: list[float | None] = []

    def note(_: object, sample: SungrowSample, *_lacking: object) -> None:
        seen.append(sample.battery_cell_voltage_max_v)
        if len(seen) == 16:
            raise KeyboardInterrupt

    monkeypatch.setattr("sungrow_lib.cli.read._Printer.sample", note)
    assert read(inverter.port, "--watch", "--json") == 0
    assert seen[0] == 3.3456
    assert [value for value in seen if value is not None] == [3.3456, 3.3456]


@pytest.mark.usefixtures("skipping_clock")
def test_watch_reads_slow_values_once_a_minute(
    serve: Serve, hybrid: StaticSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    inverter = serve({1: hybrid})
    seen: list[SungrowSample] = []

    def note(_: object, sample: SungrowSample, *_lacking: object) -> None:
        seen.append(sample)
        if len(seen) == 28:
            raise KeyboardInterrupt

    monkeypatch.setattr("sungrow_lib.cli.read._Printer.sample", note)
    assert read(inverter.port, "--watch", "--json", "--timeout", "0.5") == 0
    assert all(sample.pv_power_w is not None for sample in seen)
    read_at = [number for number, sample in enumerate(seen) if sample.backup_power_w is not None]
    assert len(read_at) == 3
    assert read_at[0] == 1
    assert [number for number, sample in enumerate(seen) if sample.alarm_codes is not None] == read_at


def test_no_battery_is_looked_for_that_nobody_wants(serve: Serve, hybrid: StaticSource) -> None:
    inverter = serve({1: hybrid, 200: BATTERY})
    assert read(inverter.port, "pv_power_w") == 0
    assert {request.unit for request in inverter.requests} == {1}


def test_string_inverter_on_another_unit(
    serve: Serve, hybrid: StaticSource, string_inverter: StaticSource, capsys: Capsys
) -> None:
    assert read(serve({1: hybrid, 2: string_inverter}).port, "--unit", "2") == 0
    assert capsys.readouterr().out.startswith("SG20RT")


@pytest.mark.usefixtures("skipping_clock")
@pytest.mark.parametrize(("firmware", "power"), [("SAPPHIRE-H_03011.95.03", -200), ("SAPPHIRE-H_A", 200)])
def test_firmware_is_asked_where_the_batterys_direction_rests_on_it(
    serve: Serve, hybrid: StaticSource, capsys: Capsys, firmware: str, power: int
) -> None:
    table = RegisterMap.for_family(Family.SH)
    text = table.by_name("inverter_firmware")
    written = dict(zip(((Space.INPUT, n) for n in text.block.numbers), text.encode(firmware), strict=True))
    flow = {(Space.INPUT, 13001): 0x2B, (Space.INPUT, 13021): 5, (Space.INPUT, 13022): 200}
    gone = {5214, 5215, 5631}
    image = {key: word for key, word in hybrid.image.items() if key[1] not in gone} | written | flow
    inverter = serve({1: StaticSource(image)})
    for requests in (1, 0):  # known from then on
        inverter.requests.clear()
        assert read(inverter.port, "--json", "battery_power_w") == 0
        assert sample_of(capsys)["battery_power_w"] == power
        assert sum(text.block == request.block for request in inverter.requests) == requests


def test_type_code_nobody_knows(serve: Serve, hybrid: StaticSource, capsys: Capsys) -> None:
    strange = StaticSource(RegisterWords(hybrid.image) | {(Space.INPUT, 5000): 1})
    assert read(serve({1: strange}).port, "load_power_w") == 0
    assert capsys.readouterr().out.startswith("an unknown SH device")


@pytest.mark.usefixtures("skipping_clock")
def test_refused_block_is_remembered_for_the_next_time(
    serve: Serve, hybrid: StaticSource, capsys: Capsys
) -> None:
    lacking = {key: word for key, word in hybrid.image.items() if key != (Space.INPUT, 5631)}
    inverter = serve({1: StaticSource(lacking)}, Profile.WINET_S)
    for refusals in (1, 0):
        inverter.requests.clear()
        assert read(inverter.port, "battery_current_a", "battery_soc_pct", "--json") == 0
        assert sum(request.refused is not None for request in inverter.requests) == refusals
        assert json.loads(capsys.readouterr().out)["battery_soc_pct"] is not None


@pytest.mark.usefixtures("skipping_clock")
def test_a_string_inverter_without_a_meter_is_refused_rarely(
    serve: Serve, string_inverter: StaticSource, capsys: Capsys
) -> None:
    image = {key: word for key, word in string_inverter.image.items() if key[1] not in range(5083, 5105)}
    inverter = serve({1: StaticSource(image)}, Profile.WINET_S)
    for most in (6, 3, 0):
        inverter.requests.clear()
        assert read(inverter.port, "--json") == 0
        assert sum(request.refused is not None for request in inverter.requests) <= most
        sample = sample_of(capsys)
        assert sample["pv_power_w"] is not None
        assert sample["export_power_w"] is None
        assert "export_power_w" in {name for entry in sample["not_answered"] for name in entry["fields"]}


@pytest.mark.usefixtures("skipping_clock")
def test_a_first_reading_is_refused_a_bounded_number_of_times(
    serve: Serve, hybrid: StaticSource, capsys: Capsys
) -> None:
    image = {key: word for key, word in hybrid.image.items() if key[1] < 13_000 or key[1] % 5}
    inverter = serve({1: StaticSource(image)}, Profile.WINET_S)
    assert read(inverter.port, "--json") == 0
    assert sum(request.refused is not None for request in inverter.requests) <= 30
    assert "postponed" in {entry["reason"] for entry in sample_of(capsys)["not_answered"]}


@pytest.mark.usefixtures("skipping_clock")
def test_a_named_family_of_which_nothing_is_served_is_refused(serve: Serve, capsys: Capsys) -> None:
    words = {(Space.INPUT, number): number for number in range(5003, 5050)}
    inverter = serve({1: StaticSource(words)})
    assert read(inverter.port, "--family", "sh") == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert "the device serves nothing that only family sh has; leave --family sh out" in captured.err
    assert read(inverter.port, "--family", "sg") == 0


@pytest.mark.parametrize("family", ["sh", "sg", "ihm"])
def test_a_named_family_that_is_not_there_is_wrong_use(
    serve: Serve, hybrid: StaticSource, string_inverter: StaticSource, capsys: Capsys, family: str
) -> None:
    other = string_inverter if family == "sh" else hybrid
    assert read(serve({1: other}).port, "--family", family) == 2
    assert f"leave --family {family} out" in one_line(capsys.readouterr().err)


@pytest.mark.usefixtures("skipping_clock")
def test_a_hole_is_no_value_whichever_fields_are_asked_and_minus_one_is(
    serve: Serve, hybrid: StaticSource, capsys: Capsys
) -> None:
    phases = {(Space.INPUT, number): 0xFFE0 for number in (5723, 5724, 5725)}
    full = {(Space.INPUT, number): 0xFFFF for number in range(5718, 5751)}
    real = {(Space.INPUT, number): 2300 for number in range(5731, 5735)}
    fields: tuple[list[str], ...] = ([], ["backup_power_w"], ["backup_power_w", "backup_phase_power_w"])
    for beside, value in (({}, None), (real, -1)):
        inverter = serve({1: StaticSource({**hybrid.image, **full, **phases, **beside})})
        for asked in fields:
            for _ in range(2):  # what was learnt the first time changes nothing
                assert read(inverter.port, "--json", *asked) == 0
                assert sample_of(capsys)["backup_power_w"] == value, asked


class _Cooling:
    """An inverter at 0.1 °C that falls to -0.1 °C while it is watched."""

    def __init__(self, image: Mapping[tuple[Space, int], int]) -> None:
        self._image = dict(image)
        self.asked = 0

    def words(self) -> Mapping[tuple[Space, int], int]:
        self.asked += 1
        return self._image | {(Space.INPUT, 5008): 1 if self.asked < 6 else 0xFFFF}


@pytest.mark.usefixtures("skipping_clock")
def test_watch_of_a_part_reads_what_tells_minus_one_from_a_hole(
    serve: Serve, hybrid: StaticSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    inverter = serve({1: _Cooling(hybrid.image)})
    seen: list[float | None] = []

    def note(_: object, sample: SungrowSample, *_lacking: object) -> None:
        seen.append(sample.inverter_temp_c)
        if len(seen) == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr("sungrow_lib.cli.read._Printer.sample", note)
    assert read(inverter.port, "--watch", "--json", "inverter_temp_c") == 0
    turned = seen.index(None)
    assert seen == [0.1] * turned + [None] + [-0.1] * (9 - turned)


@pytest.mark.usefixtures("skipping_clock")
@pytest.mark.parametrize("fault", [Fault.DEVICE_BUSY, Fault.SHORT_EXCEPTION])
def test_a_refusal_is_named_although_another_register_of_the_value_read_as_a_hole(
    serve: Serve, hybrid: StaticSource, capsys: Capsys, fault: Fault
) -> None:
    inverter = serve({1: hybrid})
    assert read(inverter.port, "--json") == 0
    assert sample_of(capsys)["insulation_resistance_kohm"] is not None
    asked = [request.block for request in inverter.requests]
    at = next(n for n, block in enumerate(asked) if block.covers(Block(Space.INPUT, 5071, 1)))
    inverter = serve({1: hybrid})
    inverter.inject(*[None] * at, fault)
    assert read(inverter.port, "--json") == 0
    sample = sample_of(capsys)
    assert sample["insulation_resistance_kohm"] is None
    [entry] = [one for one in sample["not_answered"] if "insulation_resistance_kohm" in one["fields"]]
    code = 6 if fault is Fault.DEVICE_BUSY else 2
    assert (entry["reason"], entry["code"]) == ("refused", code)


class Watched:
    """A device that notes when it is asked."""

    def __init__(self, image: Mapping[tuple[Space, int], int], clock: SkippingClock) -> None:
        self._image = image
        self._clock = clock
        self.asked_at: list[float] = []

    def words(self) -> Mapping[tuple[Space, int], int]:
        self.asked_at.append(self._clock.boottime())
        return self._image


def sample_of(capsys: Capsys) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out))


def test_first_read_behind_a_dongle_brings_every_power_value_and_names_what_is_lacking(
    serve: Serve, hybrid: StaticSource, capsys: Capsys, skipping_clock: SkippingClock
) -> None:
    fast = [quantity.name for quantity in QUANTITIES if quantity.tier is Tier.FAST]
    gone = {5010, 5147, 5242, 5726, 5727, 13030}
    words = {**hybrid.image, **{(Space.INPUT, number): 7 for number in range(5011, 5019)}}
    image = {key: word for key, word in words.items() if key[1] not in gone}
    assert read(serve({1: StaticSource(image)}).port, "--json") == 0
    filled = sample_of(capsys)
    source = Watched(image, skipping_clock)
    inverter = serve({1: source}, Profile.WINET_S)
    assert read(inverter.port, "--json") == 0
    sample = sample_of(capsys)
    assert sample["pv_power_w"] == 7 * 65_537
    assert [name for name in fast if sample[name] is None and filled[name] is not None] == []
    asked = [request for request in inverter.requests if request.unit == 1]
    refused = [request.block for request in asked if request.refused is not None]
    assert len(refused) == len(set(refused))
    at = [at for at, one in zip(source.asked_at, asked, strict=True) if one.refused is not None]
    assert min(later - sooner for sooner, later in itertools.pairwise(at)) >= 5.0
    lacking = {name for entry in sample["not_answered"] for name in entry["fields"]}
    assert "backup_power_w" in lacking
    assert not [name for name in lacking if sample[name] is not None]
    assert {entry["reason"] for entry in sample["not_answered"]} <= {"refused", "postponed"}


@pytest.mark.usefixtures("skipping_clock")
def test_what_was_not_read_to_spare_the_dongle_is_said(
    serve: Serve, hybrid: StaticSource, capsys: Capsys
) -> None:
    lacking = {key: word for key, word in hybrid.image.items() if key[1] not in {5726, 5727}}
    inverter = serve({1: StaticSource(lacking)}, Profile.WINET_S)
    assert read(inverter.port) == 0
    first = capsys.readouterr().err
    assert re.search(r"^not answered: .*backup_phase_current_a.* \(not asked, .*\)$", first, re.MULTILINE)
    assert "read again for more" in first
    for _ in range(12):
        capsys.readouterr()
        assert read(inverter.port) == 0
    captured = capsys.readouterr()
    assert "pv_power_w" in captured.out
    assert "read again" not in captured.err
    text = one_line(captured.err)  # what it refuses for good is said every time
    assert re.fullmatch(r"not answered: .*backup_power_w.* \(refused: exception 2, .*\)\n", text)


@pytest.mark.usefixtures("skipping_clock")
@pytest.mark.parametrize("fault", [Fault.SILENCE, Fault.TRUNCATED, Fault.RESET, Fault.CLOSE, Fault.HALF_OPEN])
@pytest.mark.parametrize("before", [1, 2, 4])
def test_a_lost_answer_costs_a_new_connection_and_no_value(
    serve: Serve, hybrid: StaticSource, capsys: Capsys, fault: Fault, before: int
) -> None:
    inverter = serve({1: hybrid})
    assert read(inverter.port, "--json", "--timeout", "20") == 0  # nothing is tried again before an answer
    undisturbed = sample_of(capsys)
    inverter = serve({1: hybrid})
    inverter.inject(*[None] * before, fault)
    assert read(inverter.port, "--json") == 0
    sample = sample_of(capsys)
    assert sample | {"ts": ""} == undisturbed | {"ts": ""}
    assert inverter.most_connections == 1
    assert inverter.connections <= 3  # the second one is found gone while it looks for the battery


@pytest.mark.usefixtures("skipping_clock")
def test_what_is_lost_twice_is_named(serve: Serve, hybrid: StaticSource, capsys: Capsys) -> None:
    inverter = serve({1: hybrid})
    assert read(inverter.port, "load_power_w", "inverter_temp_c") == 0
    lost = inverter.requests[2].block
    for options in ([], ["--json"]):
        inverter = serve({1: hybrid})
        inverter.inject(None, None, Fault.SILENCE, Fault.SILENCE)
        assert read(inverter.port, "load_power_w", "inverter_temp_c", *options) == 0
        captured = capsys.readouterr()
        assert f"not answered: inverter_temp_c (unit 1 {lost}: no answer in 2 s)" in captured.err
    assert json.loads(captured.out)["not_answered"] == [
        {
            "fields": ["inverter_temp_c"],
            "space": "input",
            "first": lost.first,
            "count": lost.count,
            "reason": "timeout",
            "code": None,
            "detail": f"unit 1 {lost}: no answer in 2 s",
        }
    ]


@pytest.mark.usefixtures("skipping_clock")
def test_a_device_that_falls_silent_ends_the_reading(
    serve: Serve, hybrid: StaticSource, capsys: Capsys
) -> None:
    inverter = serve({1: hybrid})
    inverter.inject(None, None, *[Fault.SILENCE] * 9)
    assert read(inverter.port) == 0
    captured = capsys.readouterr()
    assert "battery_soc_pct" in captured.out
    assert "not answered: pv_power_w" in captured.err
    assert len(inverter.requests) == 4


@pytest.mark.usefixtures("skipping_clock")
@pytest.mark.parametrize(
    "fault", [Fault.CLOSE, Fault.SILENCE, Fault.RESET, Fault.DEVICE_BUSY, Fault.WRONG_TRANSACTION]
)
def test_faults_again_and_again_cost_no_power_value(
    serve: Serve, hybrid: StaticSource, capsys: Capsys, fault: Fault
) -> None:
    inverter = serve({1: hybrid})
    assert read(inverter.port, "--json", "--timeout", "20") == 0  # nothing is tried again before an answer
    undisturbed = sample_of(capsys)
    inverter = serve({1: hybrid})
    pattern = [fault] if fault is Fault.CLOSE else [None, None, fault]
    inverter.inject(*pattern * 30)
    assert read(inverter.port, "--json") == 0
    sample = sample_of(capsys)
    names = [quantity.name for quantity in QUANTITIES if quantity.tier is Tier.FAST]
    assert {name: sample[name] for name in names} == {name: undisturbed[name] for name in names}
    assert inverter.most_connections == 1


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["pv_power"], 2, "did you mean pv_power_w"),
        (["--unit", "300"], 2, "unit id 300"),
        (["--unit", "9"], 1, "unit 9 does not answer; check --unit"),
        (["backup_power_w", "--family", "sg"], 2, "has no backup_power_w"),
    ],
)
def test_mistakes_get_one_clear_line(
    serve: Serve, string_inverter: StaticSource, capsys: Capsys, arguments: list[str], status: int, text: str
) -> None:
    assert read(serve({1: string_inverter}).port, *arguments) == status
    captured = capsys.readouterr()
    assert text in one_line(captured.err)
    assert not captured.out


def test_a_device_of_holes_only_is_told_which_families_can_be_named(serve: Serve, capsys: Capsys) -> None:
    holes = RegisterWords({(Space.INPUT, number): 0xFFFF for number in range(4000, 14_000)})
    assert read(serve({1: StaticSource(holes)}).port) == 2
    assert "--family sh|sg|ihm" in one_line(capsys.readouterr().err)


def test_a_battery_that_does_not_answer_is_the_reason(
    serve: Serve, hybrid: StaticSource, capsys: Capsys
) -> None:
    assert read(serve({1: hybrid}).port, "battery_cell_voltage_max_v") == 0
    error = one_line(capsys.readouterr().err)
    assert "not answered: battery_cell_voltage_max_v (no battery answers on a unit of its own: 200" in error


def test_noise_is_told_with_the_address_once(capsys: Capsys) -> None:
    with answering(b"\x00\x07\x00\x00\x00\x09" * 1_000) as port:
        assert read(port) == 1
    assert one_line(capsys.readouterr().err).count(f"127.0.0.1:{port}") == 1


def test_wrong_host_and_closed_port(capsys: Capsys) -> None:
    assert main(["read", "no-such-host.invalid"]) == 1
    assert "no-such-host.invalid" in one_line(capsys.readouterr().err)
    assert read(1) == 1
    assert "nothing listens on 127.0.0.1:1;" in one_line(capsys.readouterr().err)
    assert main(["read", "127.0.0.1", "--port", "0"]) == 2
    assert "port 0" in one_line(capsys.readouterr().err)
    for host in ("192.168.1.20:502", "http://192.168.1.20", "[::1]:502"):
        assert main(["read", host]) == 2
        assert f"{host!r} is more than a host" in one_line(capsys.readouterr().err)
    for host in ("::1", "[::1]"):
        assert main(["read", host, "--port", "1"]) == 1
        assert "[::1]:1" in one_line(capsys.readouterr().err)


@contextmanager
def answering(data: bytes) -> Iterator[int]:
    """A server that answers anything with ``data`` and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(100)
                client.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join()


@pytest.mark.parametrize(
    ("data", "text"), [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "not Modbus"), (b"", "closed the connection")]
)
def test_port_of_something_else(capsys: Capsys, data: bytes, text: str) -> None:
    with answering(data) as port:
        assert read(port) == 1
    assert text in one_line(capsys.readouterr().err)


def test_device_another_program_is_reading(serve: Serve, hybrid: StaticSource, capsys: Capsys) -> None:
    inverter = serve({1: hybrid})
    folder = Path(os.environ["SUNGROW_LOCK_DIR"])
    endpoint = Endpoint("127.0.0.1", inverter.port)
    edge = DeviceLimiter(endpoint, folder, request_gap_s=0.1, clock=SystemClock())
    edge.acquire()
    assert read(inverter.port) == 1
    assert f"is being read by process {os.getpid()};" in one_line(capsys.readouterr().err)
    assert inverter.connections == 0
    edge.release()


def watching(port: int) -> list[str]:
    command = [sys.executable, "-m", "sungrow_lib.cli", "read", "127.0.0.1", "--port", str(port)]
    return [*command, "--watch", "--json", "load_power_w"]


def test_killed_watch_frees_the_device_and_its_successor_keeps_the_distance(
    serve: Serve, hybrid: StaticSource, capsys: Capsys
) -> None:
    inverter = serve({1: hybrid})
    with subprocess.Popen(watching(inverter.port), stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline()
        assert read(inverter.port) == 1  # beside it: busy
        assert f"is being read by process {watch.pid};" in capsys.readouterr().err
        watch.kill()
    before = len(inverter.requests)
    assert read(inverter.port) == 0
    assert inverter.requests[before].received_at - inverter.requests[0].received_at >= 5.0
    assert inverter.most_connections == 1


def test_watch_goes_on_until_interrupted(serve: Serve, hybrid: StaticSource) -> None:
    inverter = serve({1: hybrid})
    with subprocess.Popen(
        watching(inverter.port),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watch:
        assert watch.stdout is not None
        samples = [json.loads(watch.stdout.readline()) for _ in range(2)]
        watch.send_signal(signal.SIGINT)
        _, errors = watch.communicate()
    assert watch.returncode == 0
    assert not errors
    assert samples[0]["ts"] < samples[1]["ts"]
    assert inverter.connections == 1
    first, *_, last = inverter.requests
    assert last.received_at - first.received_at >= 5.0
