from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pymodbus.client import ModbusTcpClient

from sungrow_lib.cli.command import main
from sungrow_lib.simulator import MODELS
from sungrow_lib.simulator.journal import read_journal
from tests.patience import PATIENCE_S

Capsys = pytest.CaptureFixture[str]


def capture(path: Path, *, function: int = 4, unit: int | None = 1, **registers: int) -> Path:
    document = {
        "function": function,
        "unit_id": unit,
        "registers": {key[1:]: word for key, word in registers.items()},
    }
    path.write_text(json.dumps(document))
    return path


@contextmanager
def simulating(*arguments: str, stop: signal.Signals = signal.SIGTERM) -> Iterator[int]:
    command = [sys.executable, "-m", "sungrow_lib.cli", "simulate", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        yield int(first.split(":")[1])
        process.send_signal(stop)
        assert process.wait(timeout=PATIENCE_S) == 0


def words(port: int, first: int, count: int, unit: int = 1, *, holding: bool = False) -> list[int]:
    client = ModbusTcpClient("127.0.0.1", port=port, timeout=PATIENCE_S, retries=0)
    assert client.connect()  # type: ignore[no-untyped-call]
    read = client.read_holding_registers if holding else client.read_input_registers
    answer = read(first - 1, count=count, device_id=unit)
    client.close()  # type: ignore[no-untyped-call]
    return list(answer.registers)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_capture_is_served_and_stopped_cleanly(tmp_path: Path, stop: signal.Signals) -> None:
    files = [
        capture(tmp_path / "input.json", r5000=3602),
        capture(tmp_path / "holding.json", function=3, r5000=2026),
        capture(tmp_path / "slave.json", unit=2, r5000=3603),
    ]
    with simulating(*map(str, files), stop=stop) as port:
        assert words(port, 5000, 2) == [3602, 0xFFFF]
        assert words(port, 5000, 1, holding=True) == [2026]
        assert words(port, 5000, 1, unit=2) == [3603]


@pytest.mark.parametrize(
    ("unit", "registers", "options", "field"),
    [
        (1, {"r5000": 3602, "r13008": 5, "r13009": 0}, "", "load_power_w"),
        (3, {"r5003": 12, "r5031": 700, "r5032": 0}, " --unit 3 --family sg", "active_power_w"),
        (1, {"r13001": 2, "r13022": 7977, "r13023": 500}, " --family sh", "battery_soc_pct"),
    ],
)
def test_the_command_to_try_reads_the_capture(
    tmp_path: Path, unit: int, registers: dict[str, int], options: str, field: str
) -> None:
    file = capture(tmp_path / "input.json", unit=unit, **registers)
    serve = [sys.executable, "-m", "sungrow_lib.cli", "simulate", "--port", "0", str(file)]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().split(":")[1])
        command = process.stdout.readline().removeprefix("try: ").partition("    ")[0]
        read = [sys.executable, "-m", "sungrow_lib.cli", *command.split()[1:], field]
        try:
            done = subprocess.run(read, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        finally:
            process.terminate()
    assert command == f"sungrow read 127.0.0.1 --port {port}{options}"
    assert (done.returncode, field in done.stdout) == (0, True), done.stderr


def test_a_capture_is_served_as_it_is_and_only_what_it_lacks_is_a_hole(tmp_path: Path) -> None:
    file = capture(tmp_path / "input.json", r5000=3602, r5726=65449, r5723=7, r5728=1, r13046=5, r13047=6)
    with simulating(str(file)) as port:
        assert words(port, 5723, 6) == [7, 0xFFFF, 0xFFFF, 65449, 0xFFFF, 1]
        assert words(port, 13046, 2) == [5, 6]


def test_capture_under_another_unit_with_a_fault_and_a_journal(tmp_path: Path) -> None:
    file = capture(tmp_path / "input.json", unit=None, r5000=3602)
    journal = tmp_path / "journal"
    arguments = [str(file), "--unit", "7", "--journal", str(journal), "--fault", "short-exception:2"]
    with simulating(*arguments) as port:
        assert words(port, 5000, 1, unit=7) == [3602]
        assert words(port, 5000, 1, unit=7) == []
    assert [(entry.unit, entry.words, entry.fault) for entry in read_journal(journal)] == [
        (7, (3602,), None),
        (7, (3602,), "short-exception"),
    ]


@pytest.mark.parametrize(("model", "past"), [(MODELS[0], []), (MODELS[1], ["--past", "1"])])
def test_model_is_alive_and_as_old_as_asked(model: str, past: list[str]) -> None:
    with simulating("--model", model, "--timezone", "Europe/Brussels", *past) as port:
        assert words(port, 5000, 1)[0] not in {0, 0xFFFF}
        low, high = words(port, 5004, 2)
    total = high << 16 | low  # kWh or tenths of it: a year makes more than 8000, a day less than 200
    assert (total < 3000) == bool(past)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--model"),
        (["--model", "SH99"], MODELS[0]),
        (["absent.json"], "absent.json"),
        (["--model", MODELS[0], "--fault", "fire"], "short-exception"),
        (["--model", MODELS[0], "--timezone", "Mars/Base"], "Mars/Base"),
        (["--model", MODELS[0], "absent.json"], "not both"),
        (
            ["--model", MODELS[0], "--host", "192.0.2.1"],
            "(Cannot assign requested address); choose another --host",
        ),
        (["--model", MODELS[0], "--host", "no-such-host.invalid"], "choose another --host"),
    ],
)
def test_mistakes_get_one_clear_line(capsys: Capsys, arguments: list[str], text: str) -> None:
    assert main(["simulate", *arguments]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def test_several_units_cannot_share_a_new_name(tmp_path: Path, capsys: Capsys) -> None:
    files = [capture(tmp_path / f"{unit}.json", unit=unit, r5000=1) for unit in (1, 2)]
    assert main(["simulate", "--unit", "3", *map(str, files)]) == 2
    assert "several units" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["read", "probe", "dump", "simulate"])
def test_help_teaches(capsys: Capsys, command: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "exit status:" in text
    assert max(map(len, text.splitlines())) <= 120
