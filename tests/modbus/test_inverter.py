"""The running reader against simulated inverters: what it remembers, how it is found out, what waits."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sungrow_lib.errors import UsageError
from sungrow_lib.inverter import InverterReader, Reading, UnitSettings
from sungrow_lib.modbus.connection import ConnectionState
from sungrow_lib.modbus.results import MissingReason, Outcome
from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import ConnectionPath
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import Value
from sungrow_lib.registers.words import Block, RegisterWords, Space
from sungrow_lib.sample import SungrowSample
from sungrow_lib.simulator.faults import Fault
from sungrow_lib.simulator.images import IMAGES
from sungrow_lib.simulator.server import InverterSimulator, Profile, RegisterSource
from tests.modbus.helpers import ManualClock, SettingsFactory

pytestmark = pytest.mark.anyio

Image = Mapping[tuple[Space, int], int]
HISTORY = Block(Space.INPUT, 6100, 1)
DATING = Block(Space.INPUT, 13010, 1)
ROOF = UnitSettings(device_id="roof")


def written(family: Family, **values: Value) -> RegisterWords:
    """Registers that hold these values."""
    words = RegisterWords()
    for name, value in values.items():
        register = RegisterMap.for_family(family).by_name(name)
        words |= RegisterWords.from_block(register.block, register.encode(value))
    return words


FIRMWARE = "SAPPHIRE-H_03011.95.03"
NUMBERS = range(6100, 6120)
HYBRID = RegisterWords(IMAGES["SH8.0RT-20"].words) | written(
    Family.SH,
    serial_number="A2341234567",
    inverter_firmware=FIRMWARE,
    communication_module_firmware="WINET-SV200.001.00.P030",
    battery_firmware="SBRBCU-S_22011.01.19",
    total_dc_power=3000,
    clock_year=2026,
    clock_month=1,
    clock_day=31,
    clock_hour=11,
    clock_minute=0,
    clock_second=3,
)
BATTERY = RegisterWords({(Space.INPUT, number): 0 for number in range(10710, 10765)}) | written(
    Family.BATTERY,
    battery_serial="S2301234567",
    battery_unit_soc=12.3,
    cell_voltage_max=3.3456,
    cell_voltage_min=3.3012,
    module_temperature_max=25.5,
    module_temperature_min=21.5,
)


class Device:
    """A unit whose registers may change, and the reader's time of every request to it."""

    def __init__(self, image: Image, clock: ManualClock) -> None:
        self.image: Image = image
        self.clock = clock
        self.asked_at: list[float] = []

    def words(self) -> Image:
        self.asked_at.append(self.clock.now)
        return self.image


class Bench:
    """A simulated dongle, and readers of it one after the other."""

    def __init__(self, settings_for: SettingsFactory, clock: ManualClock, folder: Path) -> None:
        self.settings_for = settings_for
        self.clock = clock
        self.folder = folder

    async def polls(
        self,
        inverter: InverterSimulator,
        count: int,
        *units: UnitSettings,
        fields: Collection[str] | None = None,
        **changes: float,
    ) -> list[Reading]:
        """Readings of a program that starts, polls ``count`` times and ends."""
        settings = self.settings_for(inverter.port, state_dir=self.folder, **changes)
        async with InverterReader(settings, units or [ROOF], fields=fields, clock=self.clock) as reader:
            return [reading for _ in range(count) for reading in await reader.poll()]

    def notes(self) -> Path:
        [path] = [path for path in self.folder.iterdir() if path.name.endswith("-1.json")]
        return path


@pytest.fixture
def bench(settings_for: SettingsFactory, clock: ManualClock, tmp_path: Path) -> Bench:
    return Bench(settings_for, clock, tmp_path / "state")


def sample_of(reading: Reading) -> SungrowSample:
    assert reading.sample is not None, reading.error
    return reading.sample


def refused(inverter: InverterSimulator) -> list[Block]:
    return [request.block for request in inverter.requests if request.refused is not None]


def known(readings: Collection[Reading]) -> set[str]:
    """Names of what any of these readings knew."""
    samples = [sample_of(reading).model_dump() for reading in readings]
    return {name for sample in samples for name, value in sample.items() if value is not None}


def without(image: Image, *numbers: int) -> RegisterWords:
    return RegisterWords({key: word for key, word in image.items() if key[1] not in numbers})


# --- remembered -----------------------------------------------------------------------------------------


async def test_what_is_refused_is_refused_once_and_never_again_after_a_restart(
    bench: Bench, clock: ManualClock
) -> None:
    device = Device(without(HYBRID, 5242, 5631, 5639, *range(13250, 13265)), clock)
    async with InverterSimulator({1: device}, profile=Profile.WINET_S) as inverter:
        first = await bench.polls(inverter, 60)
        assert all(reading.sample for reading in first)
        assert first[-1].outcome is Outcome.READ
        learnt = refused(inverter)
        assert HISTORY in learnt
        assert len(learnt) == len(set(learnt))
        asked = [request for request in inverter.requests if request.unit == 1]
        refused_at = [at for at, request in zip(device.asked_at, asked, strict=True) if request.refused]
        assert min(later - sooner for sooner, later in itertools.pairwise(refused_at)) >= 5.0
        inverter.requests.clear()
        again = await bench.polls(inverter, 30)
        assert refused(inverter) == []
        assert {reading.outcome for reading in again} == {Outcome.READ}
        assert sample_of(again[0]).firmware is None


async def test_readings_tell_which_values_a_refusal_costs(bench: Bench, clock: ManualClock) -> None:
    device = Device(without(HYBRID, *range(5003, 5201), 5242), clock)
    async with InverterSimulator({1: device}, profile=Profile.WINET_S) as inverter:
        readings = await bench.polls(inverter, 60)
        device.image = HYBRID
        served = await bench.polls(inverter, 400)
    told = [{field for one in reading.refused for field in one.fields} for reading in readings]
    assert {"mppt_voltage_v", "output_total_kwh"} <= told[-1]
    assert not told[-1] & known([readings[-1]])
    frequency = [one for one in readings[-1].refused if one.block.first == 5242]
    assert [one.registers for one in frequency] == [("grid_frequency_high_resolution",)]
    for earlier, later in itertools.pairwise(readings):
        assert {one.block for one in earlier.refused} <= {one.block for one in later.refused}
    assert readings[-1].refused is readings[-2].refused, "it is worked out only when more is learnt"
    assert served[-1].refused == ()


@pytest.mark.parametrize("has_unit", [False, True])
async def test_what_the_battery_s_own_unit_tells_is_not_missing(
    bench: Bench, clock: ManualClock, *, has_unit: bool
) -> None:
    units: dict[int, RegisterSource] = {1: Device(without(HYBRID, 13025, 5639, 5632, 5633, 5634), clock)}
    if has_unit:
        units[2] = Device(BATTERY | written(Family.BATTERY, battery_unit_temperature=19.5), clock)
    async with InverterSimulator(units, profile=Profile.WINET_S) as inverter:
        readings = await bench.polls(inverter, 60)
    told = {field for one in readings[-1].refused for field in one.fields}
    assert ("battery_temp_c" in known(readings)) is has_unit
    assert ("battery_temp_c" in told) is not has_unit


async def test_what_a_starting_inverter_refused_is_read_when_it_serves_it(
    bench: Bench, clock: ManualClock
) -> None:
    device = Device(without(HYBRID, *range(5003, 5201)), clock)
    async with InverterSimulator({1: device}, profile=Profile.WINET_S) as inverter:
        await bench.polls(inverter, 22)
        assert refused(inverter)
        device.image = HYBRID
        inverter.requests.clear()
        readings = await bench.polls(inverter, 150)
    assert all(reading.sample for reading in readings)
    starting, started = known(readings[:15]), known(readings[-15:])
    lost = {"mppt_voltage_v", "output_daily_kwh", "output_total_kwh"}
    assert not lost & starting
    assert lost <= started
    left = {entry["first"] for entry in json.loads(bench.notes().read_text())["refused"]}
    assert left == {HISTORY.first}  # the dongle never forwards it


async def test_one_spurious_refusal_costs_a_value_for_minutes_only(bench: Bench, clock: ManualClock) -> None:
    costs = set()
    for position in range(1, 5):
        clock.now += 3600.0
        async with InverterSimulator({1: Device(HYBRID, clock)}) as inverter:
            inverter.inject(*[None] * position, Fault.SHORT_EXCEPTION)
            readings = await bench.polls(inverter, 150, fields=["pv_power_w"])
        bench.notes().unlink()
        costs.add(sample_of(readings[10]).pv_power_w is None)
        assert sample_of(readings[-1]).pv_power_w == 3000
    assert True in costs


async def test_what_is_never_served_is_asked_rarely_and_one_at_a_time(
    bench: Bench, clock: ManualClock
) -> None:
    device = Device(without(HYBRID, 5242, 5631, 5639, *range(13250, 13265)), clock)
    async with InverterSimulator({1: device}, profile=Profile.WINET_S) as inverter:
        await bench.polls(inverter, 60)
        learnt = len(refused(inverter))
        inverter.requests.clear()
        device.asked_at.clear()
        readings = await bench.polls(inverter, 300, poll_interval_s=60.0)
        asked = [request for request in inverter.requests if request.unit == 1]
        again_at = [at for at, request in zip(device.asked_at, asked, strict=True) if request.refused]
    assert all(reading.sample for reading in readings)
    assert 0 < len(again_at) <= learnt
    assert min(later - sooner for sooner, later in itertools.pairwise(again_at)) >= 60.0


async def test_other_firmware_is_reported_once_and_asked_anew(bench: Bench, clock: ManualClock) -> None:
    device = Device(without(HYBRID, 5242), clock)
    async with InverterSimulator({1: device}, profile=Profile.WINET_S) as inverter:
        readings = await bench.polls(inverter, 40)
        told = [sample_of(reading).firmware for reading in readings]
        assert [text for text in told if text] == [FIRMWARE]
        assert readings[-1].identity is not None
        assert readings[-1].identity.firmware == FIRMWARE
        newer = "SAPPHIRE-H_03011.95.14"
        device.image = HYBRID | written(Family.SH, inverter_firmware=newer)
        inverter.requests.clear()
        readings = await bench.polls(inverter, 40)
        assert [text for text in (sample_of(reading).firmware for reading in readings) if text] == [newer]
        assert readings[-1].identity is not None
        assert readings[-1].identity.firmware == newer
        asked = {number for request in inverter.requests for number in request.block.numbers}
        assert 5242 in asked  # refused by the old one


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"device": 1e999}', "[" * 100_000, "\x00" * 50])
async def test_damaged_notes_count_for_nothing(bench: Bench, clock: ManualClock, content: str) -> None:
    async with InverterSimulator({1: Device(HYBRID, clock)}) as inverter:
        await bench.polls(inverter, 3)
        bench.notes().write_text(content)
        [reading, *_] = await bench.polls(inverter, 3)
        assert reading.outcome is Outcome.READ
        assert json.loads(bench.notes().read_text())["answered"]


async def test_notes_that_leave_nothing_to_read_are_forgotten(bench: Bench, clock: ManualClock) -> None:
    async with InverterSimulator({1: Device(HYBRID, clock)}) as inverter:
        await bench.polls(inverter, 3)
        notes = json.loads(bench.notes().read_text())
        every = [
            {"space": "input", "first": number, "count": 1, "code": 2}
            for number in (*range(5000, 5700), *range(13000, 13100))
        ]
        bench.notes().write_text(json.dumps(notes | {"refused": every}))
        readings = await bench.polls(inverter, 6)
        assert readings[-1].outcome is Outcome.READ


async def test_another_device_at_the_address_begins_anew(bench: Bench, clock: ManualClock) -> None:
    device = Device(without(HYBRID, 5639), clock)
    async with InverterSimulator({1: device}, profile=Profile.WINET_S) as inverter:
        await bench.polls(inverter, 20)
        device.image = HYBRID | written(Family.SH, serial_number="A9999999999")
        readings = await bench.polls(inverter, 20)
        assert FIRMWARE in {sample_of(reading).firmware for reading in readings}
        inverter.requests.clear()
        await bench.polls(inverter, 20)
        assert 5639 in {number for request in inverter.requests for number in request.block.numbers}


@pytest.mark.parametrize(
    ("profile", "path"), [(Profile.LAN, ConnectionPath.LAN), (Profile.WINET_S, ConnectionPath.WINET_S)]
)
async def test_path_is_guessed_once(
    bench: Bench, clock: ManualClock, profile: Profile, path: ConnectionPath
) -> None:
    image = HYBRID | RegisterWords({(Space.INPUT, number): 0 for number in NUMBERS})
    async with InverterSimulator({1: Device(image, clock)}, profile=profile) as inverter:
        readings = await bench.polls(inverter, 15)
        assert [request.block for request in inverter.requests].count(HISTORY) == 1
        assert readings[-1].identity is not None
        assert readings[-1].identity.path is path
        [reading] = await bench.polls(inverter, 1)
        assert reading.identity is not None
        assert reading.identity.path is path
        assert [request.block for request in inverter.requests].count(HISTORY) == 1


async def test_hole_gives_way_to_another_register_with_the_same_value(
    bench: Bench, clock: ManualClock
) -> None:
    holes = HYBRID | RegisterWords({(Space.INPUT, 5242): 0xFFFF})
    async with InverterSimulator({1: Device(holes, clock)}) as inverter:
        frequencies = [sample_of(reading).grid_frequency_hz for reading in await bench.polls(inverter, 20)]
        assert frequencies[0] is None
        assert None not in frequencies[1:]
        identities = [request.block for request in inverter.requests if 13250 in request.block.numbers]
        assert len(identities) == 1  # another plan is no reason to read all at once
        [restarted] = await bench.polls(inverter, 1)
        assert sample_of(restarted).grid_frequency_hz is not None
        clock.now += 100_000  # a day later it is looked at again
        [much_later] = await bench.polls(inverter, 1)
        assert sample_of(much_later).grid_frequency_hz is None


# --- tiers and fields -----------------------------------------------------------------------------------


async def test_fields_are_read_with_no_more_than_they_need(bench: Bench, clock: ManualClock) -> None:
    async with InverterSimulator({1: Device(HYBRID, clock)}) as inverter:
        fields = ("battery_soc_pct", "load_power_w")
        for reading in await bench.polls(inverter, 4, fields=fields):
            sample = sample_of(reading)
            assert set(sample.content()) - {"interval_s", "sample_count"} == set(fields)
        assert (
            len(inverter.requests) == 1 + 4
        )  # what it is, and one request for each poll: to 13047, the meter
        assert {request.block.count for request in inverter.requests} <= {13, 40}


@pytest.mark.parametrize(
    "field", ["import_total_kwh", "firmware", "inverter_clock", "battery_cell_voltage_max_v"]
)
async def test_field_of_a_slower_tier_is_dated_all_the_same(
    bench: Bench, clock: ManualClock, field: str
) -> None:
    units: Mapping[int, RegisterSource] = {1: Device(HYBRID, clock), 200: Device(BATTERY, clock)}
    async with InverterSimulator(units) as inverter:
        readings = await bench.polls(inverter, 8, fields=[field])
        values = [getattr(sample_of(reading), field) for reading in readings]
        assert any(values)


async def test_minus_one_of_a_part_is_unknown_until_its_neighbours_were_read(
    bench: Bench, clock: ManualClock
) -> None:
    cold = HYBRID | {(Space.INPUT, 5008): 0xFFFF}
    async with InverterSimulator({1: Device(cold, clock)}) as inverter:
        readings = await bench.polls(inverter, 3, fields=["inverter_temp_c"])
        assert [sample_of(reading).inverter_temp_c for reading in readings] == [None, -0.1, -0.1]
        polled = list(inverter.requests)[-2:]
        assert {request.block for request in polled} == {Block(Space.INPUT, 5003, 9)}


async def test_a_hole_of_a_part_is_unknown_whatever_is_asked_for(bench: Bench, clock: ManualClock) -> None:
    numbers = (*range(5630, 5635), *range(13020, 13029))
    absent = HYBRID | {(Space.INPUT, number): 0xFFFF for number in numbers}
    async with InverterSimulator({1: Device(absent, clock)}) as inverter:
        for fields in (["battery_temp_c"], None):
            readings = await bench.polls(inverter, 3, fields=fields)
            assert [sample_of(reading).battery_temp_c for reading in readings] == [None] * 3


async def test_field_nobody_knows_is_named(settings_for: SettingsFactory) -> None:
    with pytest.raises(UsageError, match="pv_power_w"):
        InverterReader(settings_for(502), [ROOF], fields=["pv_power"])


async def test_slow_tiers_wait_for_a_pass_with_time_but_not_for_ever(
    bench: Bench, clock: ManualClock
) -> None:
    device = Device(HYBRID, clock)
    async with InverterSimulator({1: device}) as inverter:
        await bench.polls(inverter, 3)  # finds the path
        device.asked_at.clear()
        inverter.requests.clear()
        off = UnitSettings(device_id="roof", battery_units=())
        readings = await bench.polls(inverter, 40, off, request_gap_s=0.95)  # four fast reads: no time left
        assert {reading.outcome for reading in readings} == {Outcome.READ}
        starts = [
            at
            for at, request in zip(device.asked_at, inverter.requests, strict=True)
            if DATING.first in request.block.numbers
        ]
        distances = [later - sooner for sooner, later in itertools.pairwise(starts)]
        assert sum(distance > 5.1 for distance in distances[1:]) <= len(distances) / 4
        gaps = [later - sooner for sooner, later in itertools.pairwise(device.asked_at)]
        assert min(gaps) >= 0.95
        assert any(sample_of(reading).backup_power_w is not None for reading in readings)


# --- the battery ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("profile", "unit"), [(Profile.LAN, 200), (Profile.RS485, 200)])
async def test_battery_is_found_and_read_beside_the_inverter(
    bench: Bench, clock: ManualClock, profile: Profile, unit: int
) -> None:
    image = HYBRID | RegisterWords({(Space.INPUT, number): 0 for number in NUMBERS})
    units: Mapping[int, RegisterSource] = {1: Device(image, clock), unit: Device(BATTERY, clock)}
    async with InverterSimulator(units, profile=profile) as inverter:
        readings = await bench.polls(inverter, 40)
        found = [r for r in readings if sample_of(r).battery_cell_voltage_max_v is not None]
        assert 2 <= len(found) <= 4  # once a minute
        sample = sample_of(found[0])
        assert sample.battery_cell_voltage_max_v == 3.3456
        assert sample.battery_cell_voltage_min_v == 3.3012
        assert sample.battery_module_temp_max_c == 25.5
        assert sample.battery_module_temp_min_c == 21.5
        assert {sample_of(reading).battery_soc_pct for reading in readings} != {12.3}
        assert 12.3 not in {sample_of(reading).battery_soc_pct for reading in readings}
        assert inverter.connections == 1
        inverter.requests.clear()
        readings = await bench.polls(inverter, 4)  # remembered
        assert any(sample_of(reading).battery_cell_voltage_max_v for reading in readings)


async def test_battery_behind_a_dongle_fills_in_what_the_inverter_lacks(
    bench: Bench, clock: ManualClock
) -> None:
    device = Device(without(HYBRID, 13025, 5639, 5632, 5633, 5634), clock)
    battery = Device(BATTERY | written(Family.BATTERY, battery_unit_temperature=19.5), clock)
    async with InverterSimulator({1: device, 2: battery}, profile=Profile.WINET_S) as inverter:
        await bench.polls(inverter, 40)
        readings = await bench.polls(inverter, 5)
        temperatures = {sample_of(reading).battery_temp_c for reading in readings}
        assert 19.5 in temperatures
        assert {request.unit for request in inverter.requests} == {1, 2}
        assert not any(sample_of(reading).battery_cell_voltage_max_v for reading in readings)


async def test_battery_that_is_not_there_is_looked_for_once(bench: Bench, clock: ManualClock) -> None:
    image = HYBRID | RegisterWords({(Space.INPUT, number): 0 for number in NUMBERS})
    async with InverterSimulator({1: Device(image, clock)}) as inverter:
        for count in (30, 10):
            readings = await bench.polls(inverter, count, timeout_s=3.0)
            assert {reading.outcome for reading in readings} == {Outcome.READ}
        assert [request.unit for request in inverter.requests].count(200) == 1
        clock.now += 8 * 86_400
        await bench.polls(inverter, 10)
        assert [request.unit for request in inverter.requests].count(200) == 2


@pytest.mark.parametrize("units", [(), None], ids=["switched off", "several inverters"])
async def test_battery_nobody_asked_for_is_left_alone(
    bench: Bench, clock: ManualClock, units: tuple[int, ...] | None
) -> None:
    sources = {1: Device(HYBRID, clock), 3: Device(HYBRID, clock), 200: Device(BATTERY, clock)}
    roof = UnitSettings(device_id="roof", battery_units=units)
    barn = [UnitSettings(device_id="barn", unit=3)] if units is None else []
    async with InverterSimulator(sources) as inverter:
        await bench.polls(inverter, 20, roof, *barn)
        assert 200 not in {request.unit for request in inverter.requests}


# --- asleep or failed -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sun_w", "state"), [(20, ConnectionState.ASLEEP), (3000, ConnectionState.BACKING_OFF)]
)
async def test_silence_after_sunset_is_sleep_and_by_day_a_failure(
    bench: Bench, clock: ManualClock, sun_w: int, state: ConnectionState
) -> None:
    image = HYBRID | written(Family.SH, total_dc_power=sun_w)
    async with InverterSimulator({1: Device(image, clock)}) as inverter:
        settings = bench.settings_for(inverter.port, state_dir=bench.folder)
        async with InverterReader(settings, [ROOF], clock=clock) as reader:
            [reading] = await reader.poll()
            assert reading.state is ConnectionState.IDLE
            await inverter.__aexit__(None, None, None)
            for _ in range(60):
                [reading] = await reader.poll()
            assert reading.outcome is Outcome.SILENT
            assert reading.state is state
            assert reader.state is state
            async with InverterSimulator({1: Device(image, clock)}, port=inverter.port):
                for _ in range(15):
                    [reading] = await reader.poll()
                assert reading.state is ConnectionState.IDLE
                assert reading.sample is not None


@asynccontextmanager
async def fallen_silent(
    bench: Bench, clock: ManualClock, sun_w: int, *, restarted: bool = False
) -> AsyncIterator[InverterReader]:
    """A reader of an inverter that fell silent at this PV power, which it was told or has from its notes."""
    image = HYBRID | written(Family.SH, total_dc_power=sun_w)
    async with InverterSimulator({1: Device(image, clock)}) as inverter:
        settings = bench.settings_for(inverter.port, state_dir=bench.folder)
        if restarted:
            await bench.polls(inverter, 3)
        async with InverterReader(settings, [ROOF], clock=clock) as reader:
            if not restarted:
                await reader.poll()
            await inverter.__aexit__(None, None, None)
            for _ in range(60):
                await reader.poll()
            yield reader


@pytest.mark.parametrize(
    ("sun_w", "state"), [(20, ConnectionState.ASLEEP), (3000, ConnectionState.BACKING_OFF)]
)
async def test_a_restart_at_night_knows_that_the_sun_had_set(
    bench: Bench, clock: ManualClock, sun_w: int, state: ConnectionState
) -> None:
    async with fallen_silent(bench, clock, sun_w, restarted=True) as reader:
        assert reader.state is state


async def test_who_never_answered_does_not_sleep(bench: Bench, clock: ManualClock) -> None:
    async with InverterSimulator({1: Device(HYBRID, clock)}) as inverter:
        port = inverter.port
    settings = bench.settings_for(port, state_dir=bench.folder)
    async with InverterReader(settings, [ROOF], clock=clock) as reader:
        readings = [reading for _ in range(60) for reading in await reader.poll()]
        assert {reading.state for reading in readings} == {ConnectionState.BACKING_OFF}
        assert reader.state is ConnectionState.BACKING_OFF


@pytest.mark.parametrize("restarted", [False, True])
async def test_who_does_not_wake_up_has_failed(bench: Bench, clock: ManualClock, *, restarted: bool) -> None:
    async with fallen_silent(bench, clock, 20, restarted=restarted) as reader:
        [by_night] = await reader.poll()
        assert by_night.state is ConnectionState.ASLEEP
        clock.now += 20 * 3600
        [by_day] = await reader.poll()
        assert by_day.state is ConnectionState.BACKING_OFF


async def test_notes_on_the_night_are_written_twice_a_day(bench: Bench, clock: ManualClock) -> None:
    device = Device(HYBRID, clock)
    written_at = set()
    async with InverterSimulator({1: device}) as inverter:
        settings = bench.settings_for(inverter.port, state_dir=bench.folder)
        async with InverterReader(settings, [ROOF], clock=clock) as reader:
            for sun_w in (3000, 3000, 3000, 40, 70, 40, 0, 0, 90, 170, 3000, 3000):
                device.image = HYBRID | written(Family.SH, total_dc_power=sun_w)
                for _ in range(2):
                    await reader.poll()
                written_at.add(json.loads(bench.notes().read_text())["dark_since"])
    assert len(written_at) == 2


@pytest.mark.parametrize(
    ("sun_w", "state"), [(20, ConnectionState.ASLEEP), (3000, ConnectionState.BACKING_OFF)]
)
@pytest.mark.parametrize("left", [(), range(4990, 5003)], ids=["everything", "all but its name"])
async def test_who_refuses_at_night_sleeps_too(
    bench: Bench, clock: ManualClock, sun_w: int, state: ConnectionState, left: Collection[int]
) -> None:
    device = Device(HYBRID | written(Family.SH, total_dc_power=sun_w), clock)
    async with InverterSimulator({1: device}, profile=Profile.WINET_S) as inverter:
        settings = bench.settings_for(inverter.port, state_dir=bench.folder)
        async with InverterReader(settings, [ROOF], clock=clock) as reader:
            for _ in range(30):
                await reader.poll()
            whole, device.image = (
                device.image,
                {key: device.image[key] for key in device.image if key[1] in left},
            )
            inverter.requests.clear()
            readings = [reading for _ in range(200) for reading in await reader.poll()]
            assert {reading.state for reading in readings[60:]} == {state}
            assert len(inverter.requests) < 40
            device.image = whole
            for _ in range(15):
                [reading] = await reader.poll()
            assert reading.state is ConnectionState.IDLE
            assert reading.outcome is Outcome.READ


async def test_starting_beside_a_device_that_refuses_everything_is_gentle(
    bench: Bench, clock: ManualClock
) -> None:
    device = Device({}, clock)
    async with InverterSimulator({1: device}, profile=Profile.WINET_S) as inverter:
        settings = bench.settings_for(inverter.port, state_dir=bench.folder)
        async with InverterReader(settings, [ROOF], clock=clock) as reader:
            for _ in range(360):
                await reader.poll()
            assert len(inverter.requests) < 1800 / 30
            device.image = HYBRID
            for _ in range(15):
                [reading] = await reader.poll()
            assert reading.sample is not None


async def test_a_device_that_changes_its_mind_is_refused_twice_in_five_seconds_at_most(
    bench: Bench, clock: ManualClock
) -> None:
    """A dongle's update may take away registers that it served a moment ago, many at once."""
    device = Device(HYBRID, clock)
    async with InverterSimulator({1: device}, profile=Profile.WINET_S) as inverter:
        settings = bench.settings_for(inverter.port, state_dir=bench.folder)
        async with InverterReader(settings, [ROOF], clock=clock) as reader:
            for _ in range(30):
                await reader.poll()
            device.image = {key: word for key, word in HYBRID.items() if key[1] >= 13000 or key[1] == 5000}
            inverter.requests.clear()
            device.asked_at.clear()
            readings = [reading for _ in range(100) for reading in await reader.poll()]
        assert all(reading.sample for reading in readings)
        refused_at = [
            at for at, request in zip(device.asked_at, inverter.requests, strict=True) if request.refused
        ]
        assert len(refused_at) > 5
        assert all(third - first >= 5.0 for first, third in zip(refused_at, refused_at[2:], strict=False))


async def test_silent_unit_costs_the_other_no_poll(bench: Bench, clock: ManualClock) -> None:
    async with InverterSimulator({1: Device(HYBRID, clock)}) as inverter:
        readings = await bench.polls(inverter, 30, ROOF, UnitSettings(device_id="barn", unit=7))
        roof = [reading for reading in readings if reading.device_id == "roof"]
        assert len(roof) == 30
        assert all(reading.sample for reading in roof)
        assert sum(request.unit == 7 for request in inverter.requests) < 12


async def test_the_very_first_reading_says_what_it_lacks(bench: Bench, clock: ManualClock) -> None:
    partial = []
    for position in range(16):
        async with InverterSimulator({1: Device(HYBRID, clock)}) as inverter:
            inverter.inject(*[None] * position, Fault.SILENCE)
            [first] = await bench.polls(inverter, 1)
            assert bool(first.missing) == (first.outcome is Outcome.PARTIAL)
            if first.missing:
                partial.append({missing.reason for missing in first.missing})
    assert partial
    assert all(reasons == {MissingReason.TIMEOUT} for reasons in partial)


@pytest.mark.parametrize("fault", list(Fault))
async def test_no_fault_ends_the_loop_or_falsifies_a_value(
    bench: Bench, clock: ManualClock, fault: Fault
) -> None:
    async with InverterSimulator({1: Device(HYBRID, clock)}) as inverter:
        [truth, *_] = await bench.polls(inverter, 2, fields=["battery_soc_pct"])
        inverter.inject(None, None, None, fault, None, fault)
        readings = await bench.polls(inverter, 20, fields=["battery_soc_pct"])
        values = {reading.sample.battery_soc_pct for reading in readings if reading.sample}
        assert values - {None} == {sample_of(truth).battery_soc_pct}
        assert readings[-1].sample is not None
