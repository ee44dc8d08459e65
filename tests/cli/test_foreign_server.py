"""`sungrow read` against a Modbus server that shares no code with ours: pyModbusTCP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from pyModbusTCP.server import DataBank, ModbusServer  # type: ignore[import-untyped]

from sungrow_lib.capture import Capture
from sungrow_lib.cli.command import main
from sungrow_lib.decoding import decoded
from sungrow_lib.registers.words import WORD_MAX, RegisterWords, Space
from sungrow_lib.simulator.images import IMAGES
from tests.decode.readings import READINGS

pytestmark = pytest.mark.usefixtures("skipping_clock")

CAPTURES: Final = {
    **{reading.name: reading.capture for reading in READINGS if reading.space is Space.INPUT},
    **{model: Capture(words=RegisterWords(image.words)) for model, image in IMAGES.items()},
}


class HoleyBank(DataBank):  # type: ignore[misc]
    """Refuses every request that touches a register which is not there."""

    def __init__(self, words: RegisterWords) -> None:
        super().__init__(virtual_mode=True)
        self._words = words

    def get_input_registers(
        self, address: int, number: int = 1, srv_info: object = None
    ) -> tuple[int, ...] | None:
        del srv_info
        return self._words.take(Space.INPUT, address + 1, number)


def filled_bank(words: RegisterWords) -> DataBank:
    """Answers everything; what is not there is 0xFFFF."""
    bank = DataBank(i_regs_default_value=WORD_MAX, h_regs_default_value=WORD_MAX)
    for (space, number), word in words.items():
        fill = bank.set_input_registers if space is Space.INPUT else bank.set_holding_registers
        fill(number - 1, [word])
    return bank


@contextmanager
def served(bank: DataBank) -> Iterator[int]:
    server = ModbusServer(host="127.0.0.1", port=0, no_block=True, data_bank=bank)
    server.start()
    try:
        yield server._service.server_address[1]  # which free port it took, it does not tell otherwise
    finally:
        server.stop()


def read(port: int, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["read", "127.0.0.1", "--port", str(port), "--json", *arguments]) == 0
    sample: dict[str, Any] = json.loads(capsys.readouterr().out)
    return sample


@pytest.mark.parametrize("name", CAPTURES)
def test_read_gets_what_decode_says_of_the_capture(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    capture = CAPTURES[name]
    answer = decoded(capture)
    expected = {field: value for field, value in answer["sample"].items() if value is not None}
    with served(filled_bank(capture.words)) as port:
        sample = read(port, capsys, "--family", answer["device"]["family"])
    unread = {"device_id", "ts", "firmware", "inverter_clock"}  # of a reading, a moment, and too rare
    known = {field: value for field, value in sample.items() if value is not None}
    known.pop("not_answered", None)  # says why something is missing, and is none of the sample
    if expected.keys() & {"power_factor"} and not expected.keys() & {"reactive_power_var"}:
        # A capture that lacks 5033 and has its neighbour: filled with 0xFFFF, it is -1 by the rules.
        assert known.pop("reactive_power_var", -1) == -1
    assert {field: known.get(field) for field in {*expected, *known} - unread} == {
        field: expected.get(field) for field in {*expected, *known} - unread
    }


def test_refusals_of_another_server_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    words = RegisterWords(IMAGES["SH8.0RT-20"].words)
    with served(HoleyBank(words)) as port:
        sample = read(port, capsys)
    expected = decoded(Capture(words=words))["sample"]
    for field in ("battery_soh_pct", "load_power_w", "export_power_w", "pv_daily_kwh", "phase_voltage_v"):
        assert sample[field] == expected[field] is not None
