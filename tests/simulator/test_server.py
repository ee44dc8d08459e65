from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from pymodbus.client import AsyncModbusTcpClient

from sungrow_lib.errors import ConfigurationError
from sungrow_lib.registers.words import Block, Space
from sungrow_lib.simulator.faults import Fault, FaultSchedule, RecurringFault, deliver
from sungrow_lib.simulator.journal import Journal, read_journal
from sungrow_lib.simulator.server import InverterSimulator, Profile, StaticSource
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio

IMAGE = {
    (Space.INPUT, 5000): 3602,
    (Space.INPUT, 5002): 7,
    (Space.HOLDING, 5000): 2026,
    (Space.INPUT, 6100): 1,
}


async def exchange(port: int, *frames: bytes, patience_s: float = 30.0) -> list[bytes]:
    """Send frames one after the other on one connection; return what came back to each in time."""
    answers = []
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        for frame in frames:
            await stream.send(frame)
            with anyio.move_on_after(patience_s):
                try:
                    answers.append(await stream.receive())
                    continue
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    answers.append(b"end")
                    break
            answers.append(b"")
    return answers


def read_frame(first: int, count: int, *, function: int = 4, unit: int = 1, transaction: int = 1) -> bytes:
    return struct.pack(">HHHBBHH", transaction, 0, 6, unit, function, first - 1, count)


@pytest.mark.parametrize(
    ("profile", "frame", "answer"),
    [
        (Profile.LAN, read_frame(5000, 1), "0001 0000 0005 01 04 02 0E12"),
        (Profile.LAN, read_frame(5000, 1, function=3), "0001 0000 0005 01 03 02 07EA"),
        (Profile.LAN, read_frame(5000, 3), "0001 0000 0009 01 04 06 0E12 FFFF 0007"),
        (Profile.LAN, read_frame(6100, 1), "0001 0000 0005 01 04 02 0001"),
        (Profile.LAN, read_frame(7000, 3), "0001 0000 0003 01 84 02"),
        (Profile.LAN, read_frame(5000, 126), "0001 0000 0003 01 84 03"),
        (Profile.LAN, read_frame(5000, 0), "0001 0000 0003 01 84 03"),
        (Profile.LAN, read_frame(5000, 1, function=6), "0001 0000 0003 01 86 01"),
        (Profile.LAN, read_frame(5000, 1, unit=9), ""),
        (Profile.RS485, read_frame(5000, 1, unit=9), "0001 0000 0003 09 84 0B"),
        (Profile.WINET_S, read_frame(5000, 1), "0001 0000 0005 01 04 02 0E12"),
        (Profile.WINET_S, read_frame(5000, 3), "0001 0000 0003 01 84 02"),
        (Profile.WINET_S, read_frame(6100, 1), "0001 0000 0003 01 84 02"),
    ],
)
async def test_answers_byte_for_byte(profile: Profile, frame: bytes, answer: str) -> None:
    async with InverterSimulator({1: StaticSource(IMAGE)}, profile=profile) as inverter:
        patience_s = 30.0 if answer else 0.3
        assert await exchange(inverter.port, frame, patience_s=patience_s) == [bytes.fromhex(answer)]


async def test_another_implementation_can_read_it() -> None:
    async with InverterSimulator({1: StaticSource(IMAGE)}) as inverter:
        client = AsyncModbusTcpClient("127.0.0.1", port=inverter.port, retries=0, timeout=PATIENCE_S)
        assert await client.connect()
        answer = await client.read_input_registers(4999, count=3, device_id=1)
        assert answer.registers == [3602, 0xFFFF, 7]
        refused = await client.read_input_registers(6999, count=1, device_id=1)
        assert refused.exception_code == 2
        client.close()


async def test_what_is_not_modbus_ends_the_connection_and_nothing_else() -> None:
    async with InverterSimulator({1: StaticSource(IMAGE)}) as inverter:
        assert await exchange(inverter.port, b"GET / HTTP/1.1\r\n\r\n") == [b"end"]
        assert len(await exchange(inverter.port, read_frame(5000, 1))) == 1
        assert inverter.connections == 2


async def test_registers_are_asked_anew_for_every_request() -> None:
    class Counting:
        calls = 0

        def words(self) -> Mapping[tuple[Space, int], int]:
            self.calls += 1
            return {(Space.INPUT, 5000): self.calls}

    async with InverterSimulator({1: Counting()}) as inverter:
        answers = await exchange(inverter.port, read_frame(5000, 1), read_frame(5000, 1))
        assert [answer[-1] for answer in answers] == [1, 2]


async def test_failure_in_the_body_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with InverterSimulator({1: StaticSource(IMAGE)}):
            raise ZeroDivisionError


async def test_occupied_port_is_named() -> None:
    async with InverterSimulator({}) as first:
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{first.port}.*--port"):
            async with InverterSimulator({}, port=first.port):
                pass


async def test_journal_says_what_was_answered(tmp_path: Path) -> None:
    path = tmp_path / "journal.ndjson"
    began = datetime.now(UTC)
    with Journal(path) as journal:
        async with InverterSimulator({1: StaticSource(IMAGE)}, journal=journal) as inverter:
            inverter.inject(None, None, None, Fault.SILENCE)
            refused, unknown = read_frame(7000, 1), read_frame(5000, 1, unit=9)
            good, holding = read_frame(5000, 3), read_frame(5000, 1, function=3)
            await exchange(inverter.port, good, refused, holding, unknown, good, patience_s=0.3)
    entries = list(read_journal(path))
    assert [(entry.number, entry.unit, entry.block, entry.words, entry.fault) for entry in entries] == [
        (1, 1, Block(Space.INPUT, 5000, 3), (3602, 0xFFFF, 7), None),
        (2, 1, Block(Space.HOLDING, 5000, 1), (2026,), None),
        (3, 1, Block(Space.INPUT, 5000, 3), (3602, 0xFFFF, 7), "silence"),
    ]
    assert all(timedelta() <= entry.answered_at - began + timedelta(milliseconds=1) for entry in entries)
    first = json.loads(path.read_text().splitlines()[0])
    assert set(first) == {"n", "ts", "unit", "space", "first", "count", "words"}
    assert first["ts"].endswith("Z")


def test_journal_is_continued_behind_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.ndjson"
    with Journal(path) as journal:
        journal.record(1, Block(Space.INPUT, 5000, 1), (1,))
    with path.open("a") as stream:
        stream.write('{"n":2,"ts":"20')
    with Journal(path) as journal:
        journal.record(1, Block(Space.INPUT, 5000, 1), (2,))
    assert [(entry.number, entry.words) for entry in read_journal(path)] == [(1, (1,)), (2, (2,))]


def test_journal_in_an_absent_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot write the journal"):
        Journal(tmp_path / "absent" / "journal")


SERVING = textwrap.dedent(
    """
    import sys, anyio
    from pathlib import Path
    from sungrow_lib.registers.words import Space
    from sungrow_lib.simulator.journal import Journal
    from sungrow_lib.simulator.server import InverterSimulator, StaticSource
    async def main():
        source = StaticSource({(Space.INPUT, 5000): 1})
        async with InverterSimulator({1: source}, journal=Journal(Path(sys.argv[1]))) as inverter:
            print(inverter.port, flush=True)
            await anyio.sleep(60)
    anyio.run(main)
    """
)


async def test_killed_simulator_never_answered_more_than_its_journal_says(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    command = [sys.executable, "-c", SERVING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: ASYNC220 - nothing else runs
        assert process.stdout is not None
        port = int(process.stdout.readline())
        answers = await exchange(port, *[read_frame(5000, 1)] * 20)
        os.kill(process.pid, signal.SIGKILL)
    assert len([answer for answer in answers if answer]) == 20
    assert [entry.number for entry in read_journal(path)] == list(range(1, 21))


def test_faults_by_name() -> None:
    assert RecurringFault.parse("reset:20") == RecurringFault(Fault.RESET, 20)
    assert RecurringFault.parse("half-open") == RecurringFault(Fault.HALF_OPEN, 1)
    for wrong in ("", "fire", "reset:0", "reset:often"):
        with pytest.raises(ConfigurationError, match=r"short-exception|EVERY"):
            RecurringFault.parse(wrong)


def test_recurring_and_queued_faults() -> None:
    schedule = FaultSchedule((RecurringFault(Fault.RESET, 3),))
    assert [schedule.next() for _ in range(6)] == [None, None, Fault.RESET, None, None, Fault.RESET]
    schedule.inject(Fault.CLOSE, None)
    assert [schedule.next() for _ in range(3)] == [Fault.CLOSE, None, Fault.RESET]


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize(
    "frame", [bytes.fromhex("0001 0000 0005 01 04 02 0E12"), bytes.fromhex("000100000003018402")]
)
def test_every_fault_can_spoil_every_frame(fault: Fault, frame: bytes) -> None:
    delivery = deliver(fault, frame, b"")
    changed = (delivery.payload, delivery.delay_s, delivery.reset, delivery.close, delivery.deaf)
    if fault is not Fault.STALE_REPLY:  # there was nothing before it
        assert changed != (frame, 0.0, False, False, False)
