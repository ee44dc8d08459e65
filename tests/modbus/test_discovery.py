from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio
import pytest

from sungrow_lib.errors import DeviceError, DeviceTimeoutError, DeviceUnreachableError, UnknownFamilyError
from sungrow_lib.modbus.careful import CarefulReader
from sungrow_lib.modbus.discovery import guess_path, identify_unit, recognise_unit
from sungrow_lib.modbus.session import DeviceSession
from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import ConnectionPath
from sungrow_lib.registers.plan import ReadPlan
from sungrow_lib.registers.words import Block, RegisterWords, Space
from sungrow_lib.simulator.faults import Fault
from sungrow_lib.simulator.images import IMAGES
from sungrow_lib.simulator.server import InverterSimulator, Profile, StaticSource
from tests.modbus.helpers import ManualClock, SettingsFactory

pytestmark = pytest.mark.anyio

Image = Mapping[tuple[Space, int], int]
HYBRID = IMAGES["SH8.0RT-20"].words


class Device:
    """A simulated device, a reader inside a pass, and the poller's time of every refused read."""

    def __init__(self, image: Image, clock: ManualClock) -> None:
        self._image = image
        self._clock = clock
        self.asked_at: list[float] = []

    def words(self) -> Image:
        self.asked_at.append(self._clock.now)
        return self._image

    @asynccontextmanager
    async def reader(
        self, settings_for: SettingsFactory, profile: Profile = Profile.WINET_S, unit: int = 1, at: int = 1
    ) -> AsyncIterator[tuple[InverterSimulator, CarefulReader]]:
        async with (
            InverterSimulator({at: self}, profile=profile) as inverter,
            DeviceSession(settings_for(inverter.port), self._clock) as session,
            session.one_pass(),
        ):
            yield inverter, CarefulReader(session, unit)


def inputs(numbers: range, **words: int) -> Image:
    return {(Space.INPUT, number): words.get(f"r{number}", 0) for number in numbers}


@pytest.mark.parametrize(
    ("image", "family"),
    [
        (HYBRID, Family.SH),
        (IMAGES["SG20RT"].words, Family.SG),
        (inputs(range(8000, 8010), r8000=0x0710), Family.IHM),
        (inputs(range(10710, 10731), r10710=0x0930), Family.BATTERY),
    ],
    ids=list(Family),
)
async def test_family_by_asking_politely(
    settings_for: SettingsFactory, clock: ManualClock, image: Image, family: Family
) -> None:
    device = Device(image, clock)
    async with device.reader(settings_for) as (inverter, reader):
        assert (await identify_unit(reader)).family is family
        refused_at = [
            at for at, request in zip(device.asked_at, inverter.requests, strict=True) if request.refused
        ]
    assert all(later - sooner >= 5.0 for sooner, later in itertools.pairwise(refused_at))


@pytest.mark.parametrize(
    ("unit", "image", "family", "refusals"),
    [
        (200, inputs(range(10710, 10731), r10710=0x20E8), Family.BATTERY, 0),
        (247, inputs(range(8000, 8010), r8000=0x072A), Family.IHM, 0),
        (247, inputs(range(8000, 8010), r8000=0x0710), Family.IHM, 1),
        (200, HYBRID, Family.SH, 1),
        (247, IMAGES["SG20RT"].words, Family.SG, 1),
    ],
    ids=["a battery", "an iHomeManager", "one nobody knows", "a hybrid", "a string inverter"],
)
async def test_a_unit_is_first_asked_as_what_usually_answers_there(
    settings_for: SettingsFactory,
    clock: ManualClock,
    unit: int,
    image: Image,
    family: Family,
    refusals: int,
) -> None:
    async with Device(image, clock).reader(settings_for, unit=unit, at=unit) as (inverter, reader):
        assert (await identify_unit(reader)).family is family
        refused = [request.block for request in inverter.requests if request.refused is not None]
    assert len(refused) == len(set(refused)) == refusals


@pytest.mark.parametrize(
    ("image", "family"), [(HYBRID, Family.SH), (IMAGES["SG20RT"].words, Family.SG)], ids=["sh", "sg"]
)
async def test_type_code_nobody_knows_is_told_by_what_is_served(
    settings_for: SettingsFactory, clock: ManualClock, image: Image, family: Family
) -> None:
    strange = RegisterWords(image) | {(Space.INPUT, 5000): 1}
    async with Device(strange, clock).reader(settings_for) as (_, reader):
        assert (await identify_unit(reader)).family is family


@pytest.mark.parametrize("profile", [Profile.LAN, Profile.WINET_S])
@pytest.mark.parametrize(
    ("image", "family"),
    [(inputs(range(13000, 13048), r13008=7), Family.SH), (inputs(range(5003, 5046), r5031=7), Family.SG)],
    ids=["sh", "sg"],
)
async def test_a_unit_that_serves_no_plate_is_told_by_what_it_serves(
    settings_for: SettingsFactory, clock: ManualClock, profile: Profile, image: Image, family: Family
) -> None:
    async with Device(image, clock).reader(settings_for, profile) as (_, reader):
        assert (await identify_unit(reader)).family is family


async def test_a_hybrid_of_which_little_is_served_is_told_by_it(
    settings_for: SettingsFactory, clock: ManualClock
) -> None:
    async with Device({(Space.INPUT, 13022): 7977}, clock).reader(settings_for, Profile.LAN) as (_, reader):
        assert (await identify_unit(reader)).family is Family.SH


async def test_nothing_tells_the_family(settings_for: SettingsFactory, clock: ManualClock) -> None:
    holes = dict.fromkeys(inputs(range(4990, 5003)), 0xFFFF)
    async with Device(holes, clock).reader(settings_for) as (_, reader):
        with pytest.raises(UnknownFamilyError, match="--family"):
            await identify_unit(reader)


async def test_everything_that_would_tell_the_family_is_refused(
    settings_for: SettingsFactory, clock: ManualClock
) -> None:
    async with Device(inputs(range(1, 10)), clock).reader(settings_for) as (_, reader):
        with pytest.raises(DeviceError, match=r"refuses every question.*exception 2.*--family"):
            await identify_unit(reader)


async def test_named_family_needs_no_plate(settings_for: SettingsFactory, clock: ManualClock) -> None:
    async with Device(inputs(range(13000, 13100)), clock).reader(settings_for) as (inverter, reader):
        assert (await identify_unit(reader, family=Family.SH)).model is None
        assert len(inverter.requests) == 1


@pytest.mark.parametrize("profile", [Profile.LAN, Profile.RS485])
async def test_silent_unit_is_named(
    settings_for: SettingsFactory, clock: ManualClock, profile: Profile
) -> None:
    async with Device(HYBRID, clock).reader(settings_for, profile, unit=9) as (_, reader):
        with pytest.raises(DeviceTimeoutError, match="unit 9 does not answer"):
            await identify_unit(reader)


@pytest.mark.parametrize(
    ("profile", "path"), [(Profile.LAN, ConnectionPath.LAN), (Profile.WINET_S, ConnectionPath.WINET_S)]
)
async def test_path_of_a_hybrid(
    settings_for: SettingsFactory, clock: ManualClock, profile: Profile, path: ConnectionPath
) -> None:
    async with Device(HYBRID, clock).reader(settings_for, profile) as (inverter, reader):
        assert await guess_path(reader, Family.SG) is ConnectionPath.UNKNOWN
        assert await guess_path(reader, Family.SH) is path
        await guess_path(reader, Family.SH)
        assert sum(request.refused is not None for request in inverter.requests) <= 1


@pytest.mark.parametrize(
    ("image", "unit", "path"),
    [
        (IMAGES["SG20RT"].words, 1, ConnectionPath.WINET_S),
        (inputs(range(4990, 5003), r5000=0x0132), 1, ConnectionPath.UNKNOWN),
        (inputs(range(8000, 8010), r8000=0x0710), 247, ConnectionPath.LAN),
        (inputs(range(10710, 10731), r10710=0x0930), 200, ConnectionPath.LAN),
        (inputs(range(10710, 10731), r10710=0x0930), 2, ConnectionPath.WINET_S),
    ],
    ids=["SG20RT", "SG60KU-M", "iHomeManager", "battery", "battery behind a dongle"],
)
async def test_path_of_what_has_hardly_another(
    settings_for: SettingsFactory, clock: ManualClock, image: Image, unit: int, path: ConnectionPath
) -> None:
    device = Device(image, clock)
    async with device.reader(settings_for, Profile.LAN, unit, at=unit) as (_, reader):
        assert (await recognise_unit(reader)).path is path
        assert await guess_path(reader, Family.SG) is path


async def test_plan_is_dated_by_its_first_block_and_survives_a_late_failure(
    settings_for: SettingsFactory, clock: ManualClock
) -> None:
    plan = ReadPlan.for_quantities(Family.SH)
    async with Device(HYBRID, clock).reader(settings_for, Profile.LAN) as (inverter, reader):
        inverter.inject(None, None, Fault.RESET)
        reading = await reader.read_plan(plan)
    assert reading.arrived_at is not None
    assert isinstance(reading.error, DeviceUnreachableError)
    assert len(reading.words) == sum(block.count for block in plan.blocks[:2])


async def test_plan_of_which_nothing_arrives_fails(settings_for: SettingsFactory, clock: ManualClock) -> None:
    async with Device(HYBRID, clock).reader(settings_for) as (inverter, reader):
        inverter.inject(Fault.SILENCE)
        with pytest.raises(DeviceTimeoutError):
            await reader.read_plan(ReadPlan.for_quantities(Family.SH))


async def test_busy_device_is_not_taken_for_one_that_lacks_registers(
    settings_for: SettingsFactory, clock: ManualClock
) -> None:
    plan = ReadPlan.for_registers(Family.SH, ["load_power"])
    async with Device(HYBRID, clock).reader(settings_for) as (inverter, reader):
        inverter.inject(Fault.DEVICE_BUSY)
        reading = await reader.read_plan(plan, thorough=True)
        assert reading.arrived_at is None
        assert reading.plan.blocks == plan.blocks
        assert not reader.notes.refused


@pytest.mark.parametrize(
    "fault", [Fault.WRONG_UNIT, Fault.WRONG_TRANSACTION, Fault.SILENCE, Fault.DEVICE_BUSY, Fault.TRUNCATED]
)
async def test_a_refusal_that_does_not_arrive_whole_is_one_to_the_device(
    settings_for: SettingsFactory, clock: ManualClock, fault: Fault
) -> None:
    device = Device(inputs(range(5000, 5003)), clock)
    async with device.reader(settings_for) as (inverter, reader):
        reader.reconnects = 1
        inverter.inject(fault)
        with contextlib.suppress(DeviceError):
            await reader.read(Block(Space.INPUT, 13000, 1))
        assert await reader.read(Block(Space.INPUT, 13001, 1)) is None
    assert device.asked_at[1] - device.asked_at[0] >= 5.0


async def test_a_unit_that_is_not_there_is_a_refusal_to_its_gateway(
    settings_for: SettingsFactory, clock: ManualClock
) -> None:
    device = Device(inputs(range(5000, 5003)), clock)
    async with device.reader(settings_for, Profile.RS485, unit=9) as (_, reader):
        with pytest.raises(DeviceError):
            await reader.read(Block(Space.INPUT, 5000, 1))
        before = clock.now
        with pytest.raises(DeviceError):
            await reader.read(Block(Space.INPUT, 5000, 1))
        assert clock.now - before >= 5.0


async def test_tasks_that_share_a_session_take_turns(
    settings_for: SettingsFactory, clock: ManualClock
) -> None:
    device = Device(HYBRID, clock)
    async with (
        InverterSimulator({1: device}) as inverter,
        DeviceSession(settings_for(inverter.port), clock) as session,
    ):

        async def one() -> None:
            async with session.one_pass():
                await session.read(1, Block(Space.INPUT, 5000, 1))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(one)
    assert all(later - sooner >= 5.0 for sooner, later in itertools.pairwise(device.asked_at))


def test_static_source_is_a_source() -> None:
    assert StaticSource(HYBRID).words() is HYBRID
