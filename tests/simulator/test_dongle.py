"""A dongle's habits: a copy of the registers, one client, and a restart when it is pestered."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import SocketStream

from sungrow_lib.registers.words import RegisterWords, Space
from sungrow_lib.simulator.dongle import Dongle, DongleHabits, forwarded
from sungrow_lib.simulator.images import IMAGES
from sungrow_lib.simulator.server import InverterSimulator, Profile, StaticSource
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio

IMAGE = RegisterWords({(Space.INPUT, 5000): 3602, (Space.INPUT, 5001): 80})
GOOD = bytes.fromhex("0001 0000 0006 01 04 1387 0001")
LACKING = bytes.fromhex("0001 0000 0006 01 04 2000 0001")


async def ask(stream: SocketStream, frame: bytes) -> bytes:
    """Send a request; return the answer, empty when the connection ended."""
    with anyio.fail_after(PATIENCE_S):
        try:
            await stream.send(frame)
            return await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return b""


def dongle() -> InverterSimulator:
    return InverterSimulator({1: StaticSource(IMAGE)}, profile=Profile.WINET_S, habits=DongleHabits())


async def test_it_restarts_after_too_many_refusals_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    async with dongle() as inverter:
        monkeypatch.setattr(inverter._dongle, "_clock", lambda: now[0])
        monkeypatch.setattr(inverter._dongle, "_away_until", 0.0)
        async with await anyio.connect_tcp("127.0.0.1", inverter.port) as stream:
            answers = [await ask(stream, LACKING) for _ in range(5)]
            assert [answer[-2:] for answer in answers[:4]] == [b"\x84\x02"] * 4
            assert await ask(stream, GOOD) == b""
        async with await anyio.connect_tcp("127.0.0.1", inverter.port) as stream:
            assert await ask(stream, GOOD) == b""  # still away
        now[0] += 30.0
        async with await anyio.connect_tcp("127.0.0.1", inverter.port) as stream:
            assert (await ask(stream, GOOD))[-2:] == bytes.fromhex("0E12")


async def test_the_newest_client_throws_the_others_out() -> None:
    async with dongle() as inverter, await anyio.connect_tcp("127.0.0.1", inverter.port) as first:
        assert await ask(first, GOOD)
        async with await anyio.connect_tcp("127.0.0.1", inverter.port) as second:
            assert await ask(second, GOOD)
            assert await ask(first, GOOD) == b""
            assert await ask(second, GOOD)
            assert inverter.connections == 2


def test_refusals_far_enough_apart_do_no_harm() -> None:
    now = [0.0]
    patient = Dongle(DongleHabits(refusals=1, within_s=5.0, restart_s=30.0), clock=lambda: now[0])
    for _ in range(20):
        assert not patient.refused()
        now[0] += 5.01
    assert not patient.refused()
    assert patient.refused()
    away = [patient.is_away]
    now[0] += 30.0
    assert [*away, patient.is_away] == [True, False]
    assert patient.crashes == 1


def test_the_copy_is_as_old_as_its_habit() -> None:
    now, reads = [0.0], []

    def read() -> RegisterWords:
        reads.append(now[0])
        return IMAGE

    copying = Dongle(DongleHabits(copy_s=5.0), clock=lambda: now[0])
    for moment in (0.0, 4.9, 5.0, 9.9, 30.0):
        now[0] = moment
        assert copying.words(1, read) == IMAGE
    assert reads == [0.0, 5.0, 30.0]


def test_a_hybrids_dongle_lacks_history_meter_voltages_and_holes() -> None:
    words = {**IMAGES["SH8.0RT-20"].words, (Space.INPUT, 5741): 2300}
    numbers = {number for space, number in forwarded(words) if space is Space.INPUT}
    assert {5000, 5034, 13008, 13034} <= numbers
    assert not numbers & {5741, 13124, *range(6100, 6800)}


def test_other_devices_are_forwarded_whole() -> None:
    string = IMAGES["SG20RT"].words
    assert forwarded(string) == string
    unknown = {(Space.INPUT, 7): 1}
    assert forwarded(unknown) == unknown
