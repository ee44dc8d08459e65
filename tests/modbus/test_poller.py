from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from sungrow_lib.errors import ConfigurationError, DeviceBusyError, DeviceUnreachableError
from sungrow_lib.modbus.connection import ConnectionState
from sungrow_lib.modbus.frames import ReadRequest
from sungrow_lib.modbus.learning import FixedBlocks, UnitMemory, UnitPlan
from sungrow_lib.modbus.poller import ModbusPoller
from sungrow_lib.modbus.results import MissingReason, Outcome
from sungrow_lib.modbus.settings import ConnectionSettings
from sungrow_lib.quantities import Family
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.plan import ReadPlan
from sungrow_lib.registers.words import Block, RegisterWords, Space
from sungrow_lib.simulator.dongle import DongleHabits
from sungrow_lib.simulator.faults import Fault
from sungrow_lib.simulator.server import InverterSimulator, Profile, StaticSource
from tests.modbus.helpers import ManualClock, SettingsFactory

pytestmark = pytest.mark.anyio

FAST = Block(Space.INPUT, 13000, 40)
OTHER = Block(Space.INPUT, 5000, 100)
PLAN = UnitPlan(unit=1, fast=FixedBlocks((FAST, OTHER)))


def fast_only(unit: int) -> UnitPlan:
    return UnitPlan(unit=unit, fast=FixedBlocks((FAST,)))


class TimedSource:
    """Notes the poller's time at each request."""

    def __init__(self, image: Mapping[tuple[Space, int], int], clock: ManualClock) -> None:
        self.image = image
        self.clock = clock
        self.asked_at: list[float] = []

    def words(self) -> Mapping[tuple[Space, int], int]:
        self.asked_at.append(self.clock.now)
        return self.image


async def test_one_poll_brings_everything(
    image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock
) -> None:
    async with (
        InverterSimulator({1: StaticSource(image)}) as inverter,
        ModbusPoller(settings_for(inverter.port), [PLAN], clock=clock) as poller,
    ):
        result = await poller.poll()
        [unit] = result.units
        assert unit.outcome is Outcome.READ
        assert unit.error is None
        assert not unit.missing
        assert dict(unit.words) == {
            (block.space, number): number for block in (FAST, OTHER) for number in block.numbers
        }
        assert unit.arrived_at is not None
        assert unit.arrived_at == clock.wall().replace(microsecond=unit.arrived_at.microsecond)
        assert unit.arrived_at.microsecond % 1000 == 0
        assert [request.block for request in inverter.requests] == [FAST, OTHER]
        assert poller.state is ConnectionState.IDLE


async def test_many_polls_use_one_connection_and_keep_every_distance(
    image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock
) -> None:
    sources = {1: TimedSource(image, clock), 2: TimedSource(image, clock)}
    plans = [PLAN, fast_only(2)]
    async with (
        InverterSimulator(sources) as inverter,
        ModbusPoller(settings_for(inverter.port), plans, clock=clock) as poller,
    ):
        for _ in range(20):
            result = await poller.poll()
            assert [unit.outcome for unit in result.units] == [Outcome.READ, Outcome.READ]
        assert inverter.connections == 1
    asked_at = sorted(sources[1].asked_at + sources[2].asked_at)
    assert len(asked_at) == 60
    assert min(later - sooner for sooner, later in itertools.pairwise(asked_at)) >= 0.02
    starts = asked_at[::3]
    assert min(later - sooner for sooner, later in itertools.pairwise(starts)) >= 5.0
    assert max(later - sooner for sooner, later in itertools.pairwise(starts)) < 5.1


async def test_two_real_polls_are_five_seconds_apart(
    image: RegisterWords, settings_for: SettingsFactory
) -> None:
    async with InverterSimulator({1: StaticSource(image)}) as inverter:
        async with ModbusPoller(settings_for(inverter.port), [PLAN]) as poller:
            await poller.poll()
            await poller.poll()
        received = [request.received_at for request in inverter.requests]
        assert received[2] - received[0] >= 5.0
        answered = inverter.requests[0].answered_at
        assert answered is not None
        assert received[1] - answered >= 0.02


async def test_what_was_read_is_delivered_when_the_rest_fails(
    image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock
) -> None:
    async with (
        InverterSimulator({1: StaticSource(image)}) as inverter,
        ModbusPoller(settings_for(inverter.port), [PLAN], clock=clock) as poller,
    ):
        inverter.inject(None, Fault.SILENCE)
        [unit] = (await poller.poll()).units
        assert unit.outcome is Outcome.PARTIAL
        assert unit.is_reading
        assert unit.words.take(FAST.space, FAST.first, FAST.count) is not None
        assert [(missing.block, missing.reason) for missing in unit.missing] == [
            (OTHER, MissingReason.TIMEOUT)
        ]
        [unit] = (await poller.poll()).units  # the connection was closed; the next poll has a new one
        assert unit.is_reading
        assert inverter.connections == 2


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault.SILENCE, Outcome.SILENT),
        (Fault.HALF_OPEN, Outcome.SILENT),
        (Fault.RESET, Outcome.SILENT),
        (Fault.WRONG_TRANSACTION, Outcome.SILENT),
        (Fault.TRUNCATED, Outcome.DAMAGED),
        (Fault.WRONG_COUNT, Outcome.DAMAGED),
        (Fault.DEVICE_BUSY, Outcome.REFUSED),
        (Fault.EXTRA_BYTES, Outcome.READ),
        (Fault.STALE_REPLY, Outcome.READ),
    ],
)
async def test_no_reading_without_the_fast_block_and_recovery_after(
    image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock, fault: Fault, outcome: Outcome
) -> None:
    async with (
        InverterSimulator({1: StaticSource(image)}) as inverter,
        ModbusPoller(settings_for(inverter.port), [PLAN], clock=clock) as poller,
    ):
        inverter.inject(fault)
        [unit] = (await poller.poll()).units
        assert unit.outcome is outcome
        if not unit.is_reading:
            assert unit.error is not None
            assert not unit.words
            assert unit.arrived_at is None
        outcomes = [(await poller.poll()).units[0].outcome for _ in range(3)]
        assert Outcome.READ in outcomes[:2]
        assert outcomes[-1] is Outcome.READ


async def test_dropped_idle_connection_costs_no_reading(
    image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock
) -> None:
    async with (
        InverterSimulator({1: StaticSource(image)}) as inverter,
        ModbusPoller(settings_for(inverter.port), [PLAN], clock=clock) as poller,
    ):
        assert (await poller.poll()).units[0].outcome is Outcome.READ
        inverter.inject(Fault.RESET)  # hits the first request of the next poll, on the reused connection
        assert (await poller.poll()).units[0].outcome is Outcome.READ
        inverter.inject(None, Fault.CLOSE)  # closes after the last answer of this poll
        assert (await poller.poll()).units[0].outcome is Outcome.READ
        assert (await poller.poll()).units[0].outcome is Outcome.READ
        assert inverter.connections == 3


async def test_second_client_that_takes_over_costs_no_reading(
    image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock
) -> None:
    async with (
        InverterSimulator(
            {1: StaticSource(image)}, profile=Profile.WINET_S, habits=DongleHabits(copy_s=0.0)
        ) as inverter,
        ModbusPoller(settings_for(inverter.port), [PLAN], clock=clock) as poller,
    ):
        for _ in range(3):
            assert (await poller.poll()).units[0].outcome is Outcome.READ
            async with await anyio.connect_tcp("127.0.0.1", inverter.port) as other:
                await other.send(ReadRequest(1, FAST, 1).encode())
                assert await other.receive()
        assert inverter.connections == 6  # each threw the other out


async def test_refused_block_is_learned_at_one_refusal_in_five_seconds(
    image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock
) -> None:
    holes = RegisterWords({key: word for key, word in image.items() if key[1] not in {5040, 5041}})
    source = TimedSource(holes, clock)
    async with (
        InverterSimulator({1: source}, profile=Profile.WINET_S) as inverter,
        ModbusPoller(settings_for(inverter.port), [PLAN], clock=clock) as poller,
    ):
        results = [(await poller.poll()).units[0] for _ in range(20)]
        assert all(unit.is_reading for unit in results)
        assert results[0].missing[0].code == 2
        assert results[-1].outcome is Outcome.READ
        served = {number for _, number in results[-1].words if number < 13000}
        assert served == set(range(5000, 5100)) - {5040, 5041}
        refused_at = [
            at for at, request in zip(source.asked_at, inverter.requests, strict=True) if request.refused
        ]
        assert min(later - sooner for sooner, later in itertools.pairwise(refused_at)) >= 5.0
        inverter.requests.clear()
        await poller.poll()
        assert not [request for request in inverter.requests if request.refused]
        assert Block(Space.INPUT, 5040, 1) in poller.refused[1]
        assert Block(Space.INPUT, 5041, 1) in poller.refused[1]


async def test_a_real_plan_is_cut_between_values(settings_for: SettingsFactory, clock: ManualClock) -> None:
    plan = ReadPlan.for_quantities(Family.SH)
    every = {(Space.INPUT, number): 0 for block in plan.blocks for number in block.numbers}
    lacking = RegisterMap.for_family(Family.SH).by_name("meter_active_power")
    holes = {key: 0 for key in every if key[1] not in lacking.block.numbers}
    async with (
        InverterSimulator({1: StaticSource(holes)}, profile=Profile.WINET_S) as inverter,
        ModbusPoller(settings_for(inverter.port), [UnitPlan(unit=1, fast=plan)], clock=clock) as poller,
    ):
        results = [(await poller.poll()).units[0] for _ in range(25)]
        assert all(unit.is_reading for unit in results)
        assert results[-1].outcome is Outcome.READ
        wanted = {row.name: row for row in plan.registers if row.name != lacking.name}
        for row in wanted.values():
            assert results[-1].words.take(row.space, row.number, row.word_count) is not None, row.name
        starts = {row.number for row in plan.registers}
        assert {request.block.first for request in inverter.requests} <= starts
        inverter.requests.clear()
        await poller.poll()
        asked = tuple(request.block for request in inverter.requests)
        assert ReadPlan.for_quantities(Family.SH, refused=poller.refused[1]).blocks == asked


async def test_silent_unit_does_not_starve_the_other(
    image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock
) -> None:
    plans = [fast_only(7), PLAN]
    async with (
        InverterSimulator({1: StaticSource(image)}) as inverter,
        ModbusPoller(settings_for(inverter.port), plans, clock=clock) as poller,
    ):
        outcomes = [[unit.outcome for unit in (await poller.poll()).units] for _ in range(10)]
        assert {silent for silent, _ in outcomes} == {Outcome.SILENT}
        assert [healthy for _, healthy in outcomes[1:]] == [Outcome.READ] * 9
        asked = [request for request in inverter.requests if request.unit == 7]
        assert len(asked) < 8  # it is asked less and less often


async def test_unreachable_device_backs_off_and_is_found_again(
    image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock
) -> None:
    async with InverterSimulator({}) as gone:
        port = gone.port
    async with ModbusPoller(settings_for(port), [PLAN], clock=clock) as poller:
        began = clock.now
        results = [await poller.poll() for _ in range(40)]
        assert clock.now - began == pytest.approx(39 * 5, abs=1)  # every interval has its result
        assert {result.units[0].outcome for result in results} == {Outcome.SILENT}
        assert isinstance(results[0].units[0].error, DeviceUnreachableError)
        assert poller.state is ConnectionState.ASLEEP
        async with InverterSimulator({1: StaticSource(image)}, port=port):
            outcomes = [(await poller.poll()).units[0].outcome for _ in range(14)]
            assert outcomes[-1] is Outcome.READ


async def test_busy_device_is_a_result_not_an_end(
    image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock
) -> None:
    async with InverterSimulator({1: StaticSource(image)}) as inverter:
        settings = settings_for(inverter.port)
        async with ModbusPoller(settings, [PLAN], clock=clock) as first:
            await first.poll()
            async with ModbusPoller(settings, [PLAN], clock=clock) as second:
                [unit] = (await second.poll()).units
                assert isinstance(unit.error, DeviceBusyError)
                await first.__aexit__(None, None, None)
                assert (await second.poll()).units[0].outcome is Outcome.READ
        assert inverter.most_connections == 1


async def test_name_that_does_not_resolve_is_a_result(tmp_path: Path, clock: ManualClock) -> None:
    settings = ConnectionSettings(host="no-such-host.invalid", lock_dir=tmp_path)
    async with ModbusPoller(settings, [PLAN], clock=clock) as poller:
        [unit] = (await poller.poll()).units
        assert unit.outcome is Outcome.SILENT
        assert "no-such-host.invalid" in str(unit.error)


async def test_an_address_needs_no_name_server(
    image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object, **_more: object) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr("anyio.getaddrinfo", silent)
    async with InverterSimulator({1: StaticSource(image)}) as inverter:
        settings = settings_for(inverter.port)
        async with ModbusPoller(settings, [PLAN], clock=clock) as poller:
            assert (await poller.poll()).units[0].outcome is Outcome.READ
        named = replace(settings, host="inverter.example", timeout_s=0.1)
        async with ModbusPoller(named, [PLAN], clock=clock) as poller:
            [unit] = (await poller.poll()).units
            assert "no name server said in time where 'inverter.example' is" in str(unit.error)


async def test_slow_blocks_come_once_a_minute(
    image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock
) -> None:
    plan = UnitPlan(unit=1, fast=FixedBlocks((FAST,)), slow=FixedBlocks((OTHER,)))
    async with (
        InverterSimulator({1: StaticSource(image)}) as inverter,
        ModbusPoller(settings_for(inverter.port), [plan], clock=clock) as poller,
    ):
        results = [(await poller.poll()).units[0] for _ in range(25)]
        assert {unit.outcome for unit in results} == {Outcome.READ}
        assert [index for index, unit in enumerate(results) if (Space.INPUT, 5000) in unit.words] == [
            0,
            12,
            24,
        ]
        assert sum(request.block == OTHER for request in inverter.requests) == 3


SLOW = FixedBlocks(tuple(Block(Space.INPUT, first, 2) for first in (5110, 5120, 5130)))


def pass_starts(source: TimedSource, inverter: InverterSimulator) -> list[float]:
    pairs = zip(source.asked_at, inverter.requests, strict=True)
    return [at for at, request in pairs if request.block == FAST]


async def test_slow_blocks_wait_for_passes_with_time_left(
    image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock
) -> None:
    source = TimedSource(image, clock)
    plan = UnitPlan(unit=1, fast=FixedBlocks((FAST, OTHER)), slow=SLOW)
    async with (
        InverterSimulator({1: source}) as inverter,
        ModbusPoller(settings_for(inverter.port, request_gap_s=1.5), [plan], clock=clock) as poller,
    ):
        results = [(await poller.poll()).units[0] for _ in range(12)]
        assert {unit.outcome for unit in results} == {Outcome.READ}
        starts = pass_starts(source, inverter)
        assert max(later - sooner for sooner, later in itertools.pairwise(starts)) < 5.1
        first = [
            n
            for n, unit in enumerate(results)
            for block in SLOW.blocks
            if (block.space, block.first) in unit.words
        ]
        assert first == [1, 2, 3]  # the first pass has none: it connects


async def test_slow_blocks_do_not_wait_for_ever(
    image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock
) -> None:
    source = TimedSource(image, clock)
    fast = (FAST, OTHER, Block(Space.INPUT, 13050, 2), Block(Space.INPUT, 13060, 2))
    plan = UnitPlan(unit=1, fast=FixedBlocks(fast), slow=SLOW)
    async with (
        InverterSimulator({1: source}) as inverter,
        ModbusPoller(settings_for(inverter.port, request_gap_s=1.2), [plan], clock=clock) as poller,
    ):
        results = [(await poller.poll()).units[0] for _ in range(20)]
        starts = pass_starts(source, inverter)
        slow = [
            len([1 for block in SLOW.blocks if (block.space, block.first) in unit.words]) for unit in results
        ]
        assert slow[:12] == [0] * 12  # no time at all for a minute
        assert slow[12:] == [1, 1, 1, 0, 0, 0, 0, 0]  # then one in a pass
        gaps = [later - sooner for sooner, later in itertools.pairwise(source.asked_at)]
        assert min(gaps) >= 1.0  # a pause is never given up
        assert max(later - sooner for sooner, later in itertools.pairwise(starts)) < 7


async def test_timed_out_slow_block_is_not_asked_at_every_poll(
    image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock
) -> None:
    async with (
        InverterSimulator({1: StaticSource(image)}) as inverter,
        ModbusPoller(settings_for(inverter.port, timeout_s=0.5), [PLAN], clock=clock) as poller,
    ):
        readings = 0
        for _ in range(12):
            inverter._faults._queued.clear()
            inverter.inject(None, Fault.SILENCE)
            readings += (await poller.poll()).units[0].is_reading
        assert readings >= 11
        assert sum(request.block == OTHER for request in inverter.requests) <= 7


@pytest.mark.parametrize(
    "changes",
    [
        {"poll_interval_s": 4.9},
        {"request_gap_s": 0.019},
        {"timeout_s": 0},
        {"poll_interval_s": float("nan")},
        {"port": 0},
        {"host": ""},
        {"connect_pause_s": -1},
    ],
)
def test_settings_below_what_the_device_stands_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        ConnectionSettings(**({"host": "inverter"} | changes))  # type: ignore[arg-type]


def test_units_are_checked(settings_for: SettingsFactory) -> None:
    for plans in ([], [PLAN, PLAN], [fast_only(300)]):
        with pytest.raises(ConfigurationError):
            ModbusPoller(settings_for(502), plans)


async def test_polls_goes_on(image: RegisterWords, settings_for: SettingsFactory, clock: ManualClock) -> None:
    began = clock.now
    async with (
        InverterSimulator({1: StaticSource(image)}) as inverter,
        ModbusPoller(settings_for(inverter.port), [PLAN], clock=clock) as poller,
    ):
        numbers = []
        async for result in poller.polls():
            numbers.append(result.number)
            if result.number == 3:
                break
    assert numbers == [1, 2, 3]
    assert clock.now - began >= 10.0  # of this clock: no real time passed


def test_the_firmware_is_read_before_what_is_slow() -> None:
    fast, slow, identity = (Block(Space.INPUT, number, 1) for number in (5000, 5001, 13_250))
    plan = UnitPlan(
        unit=1, fast=FixedBlocks((fast,)), slow=FixedBlocks((slow,)), identity=FixedBlocks((identity,))
    )
    assert UnitMemory(plan).due(0.0) == [identity, slow]
