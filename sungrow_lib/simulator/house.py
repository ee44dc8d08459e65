"""A modelled house that is alive: sun, household, battery and grid, balanced to the watt.

At every moment ``pv + discharge + import = load + charge + export + losses`` holds in whole watts. Powers are
constant within a step of whole seconds, so every energy is the exact integral of its power, in
watt-seconds, and the battery's content follows its charge and discharge. What happens depends on nothing
but the seed, the zone, the equipment and the steps taken: two houses advanced alike are equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Final
from zoneinfo import ZoneInfo

from sungrow_lib.errors import UsageError
from sungrow_lib.simulator.energies import Diary, Energies, Flows
from sungrow_lib.simulator.equipment import EQUIPMENT, Array, Battery, HouseKind
from sungrow_lib.simulator.household import HouseholdDay
from sungrow_lib.simulator.sun import Sky

HISTORY_STEP: Final = timedelta(minutes=5)
"""Step for replaying long spans."""
LIVE_STEP: Final = timedelta(seconds=1)
"""Step while somebody is watching."""
QUARTER: Final = timedelta(minutes=15)
"""What a row of the distant past stands for; the offsets of all zones are multiples of it."""
MINUTE: Final = timedelta(minutes=1)
"""What a row of the last days stands for."""
CLOSE_DAYS: Final = 3
"""So many days before today are told by the minute."""

_QUARTER_S: Final = 900
_STANDARD_LIGHT: Final = 1000.0
"""W/m2 at which a module gives its peak power."""
_PERFORMANCE: Final = 0.88
"""What dirt, cables and mismatch leave of the peak power."""
_CHARGE_EFFICIENCY_PCT: Final = 95
"""Part of the charged energy that can be taken out again."""
_CONVERSION_LOSS_PCT: Final = 2
_TAPER_START_PCT: Final = 94.0
"""State of charge from which the battery takes less and less."""
_REGULATION_W: Final = 9
"""How far the battery's regulation is off at most: the meter never stands at exactly 0 W."""
_STARTING_SHARE: Final = 0.004
"""Part of the peak power at which a tracker starts."""


@dataclass(frozen=True, slots=True)
class BatteryState:
    """The battery at one moment.

    Attributes:
        soc_pct: % of its capacity.
        voltage_v: V at its terminals.
        current_a: A, + charging.
        temp_c: °C.
    """

    soc_pct: float
    voltage_v: float
    current_a: float
    temp_c: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseState:
    """A snapshot; it does not change when the house goes on.

    Attributes:
        ts: the moment, aware, UTC.
        local: the same in the house's zone: the inverter's clock.
        flows: powers during the step that ended at ``ts``.
        total: energies since the house was built.
        today: energies since the inverter's midnight.
        month_output: AC output since the first of the inverter's month, watt-seconds.
        tracker_power_w: W per tracker; their sum is ``flows.pv_w``.
        tracker_voltage_v: V per tracker.
        tracker_current_a: A per tracker.
        battery: None where there is none.
        inverter_temp_c: °C inside the inverter.
        outdoor_temp_c: °C.
        frequency_hz: Hz of the grid.
        phase_voltage_v: V per phase.
        phase_import_w: W per phase taken from the grid, negative while exporting; the sum is import - export.
    """

    ts: datetime
    local: datetime
    flows: Flows
    total: Energies
    today: Energies
    month_output: int
    tracker_power_w: tuple[int, ...]
    tracker_voltage_v: tuple[float, ...]
    tracker_current_a: tuple[float, ...]
    battery: BatteryState | None
    inverter_temp_c: float
    outdoor_temp_c: float
    frequency_hz: float
    phase_voltage_v: tuple[float, float, float]
    phase_import_w: tuple[int, int, int]

    @property
    def is_running(self) -> bool:
        """Whether the inverter turns DC into AC."""
        return self.flows.ac_w > 0


class House:
    """A living house: advance it, then look at its state.

    Args:
        seed: which weather and which household.
        zone: the site's time zone; the inverter's clock runs on it.
        kind: with a hybrid inverter and a battery, or with a string inverter.
        born: when its counters started (aware); whole seconds.
        latitude_deg: degrees north.

    Raises:
        UsageError: ``born`` has no time zone.
    """

    def __init__(
        self,
        seed: int,
        zone: ZoneInfo,
        *,
        kind: HouseKind = HouseKind.HYBRID,
        born: datetime,
        latitude_deg: float = 45.0,
    ) -> None:
        if born.tzinfo is None:
            raise UsageError("a house is born at a time with an offset, such as 2026-01-01T00:00:00+00:00")
        self.kind = kind
        self.equipment = EQUIPMENT[kind]
        self.zone = zone
        self._seed = seed
        self._sky = Sky(seed, zone, latitude_deg)
        self._roofs = tuple(array.roof for array in self.equipment.arrays)
        self._second = int(born.timestamp() // 1)  # of the epoch: how far it has been advanced
        self._day = self._local().date()
        self._household = HouseholdDay(seed, self._day)
        self._flows = Flows()
        self._trackers: tuple[int, ...] = (0,) * len(self._roofs)
        self._light: tuple[float, ...] = (0.0,) * len(self._roofs)
        self.diary = Diary()
        """What the inverter remembers of its days, months and years."""
        self._before, self._today, self._month_output = Energies(), Energies(), 0
        battery = self.equipment.battery
        self._stored = self._content(battery, 40) if battery else 0  # 1/100 watt-seconds
        self._outdoor_c = self._sky.outdoor_temp_c(self._local())
        self._inverter_c = self._outdoor_c + 12.0
        self._battery_c = 20.0

    @property
    def now(self) -> datetime:
        """How far the house has been advanced, aware, UTC."""
        return datetime.fromtimestamp(self._second, UTC)

    def advance(self, to: datetime, step: timedelta = LIVE_STEP) -> None:
        """Let time pass up to ``to`` in steps of whole seconds; a time in the past changes nothing.

        Args:
            to: aware; fractions of a second wait for the next call.
            step: length of a step, a divisor of 15 minutes, so that midnight of every zone ends a step.
        """
        end = int(to.timestamp() // 1)
        length = int(step.total_seconds())
        while self._second < end:
            to_grid = length - self._second % length
            self._step(min(end - self._second, to_grid))

    @property
    def state(self) -> HouseState:
        """What the house is like now."""
        battery = self.equipment.battery
        voltages = tuple(
            self._tracker_voltage(array, power, light)
            for array, power, light in zip(self.equipment.arrays, self._trackers, self._light, strict=True)
        )
        return HouseState(
            ts=self.now,
            local=self._local(),
            flows=self._flows,
            total=self._before.plus(self._today),
            today=replace(self._today),
            month_output=self._month_output,
            tracker_power_w=self._trackers,
            tracker_voltage_v=voltages,
            tracker_current_a=tuple(
                power / voltage if power else 0.0
                for power, voltage in zip(self._trackers, voltages, strict=True)
            ),
            battery=self._battery_state(battery) if battery else None,
            inverter_temp_c=self._inverter_c,
            outdoor_temp_c=self._outdoor_c,
            frequency_hz=50.0 + 0.02 * self._ripple(0, 97) + 0.012 * self._ripple(1, 23),
            phase_voltage_v=self._phase_voltages(),
            phase_import_w=self._phase_imports(),
        )

    # --- one step --------------------------------------------------------------------------------------

    def _step(self, seconds: int) -> None:
        middle = datetime.fromtimestamp(self._second + seconds / 2, self.zone)
        second = middle.hour * 3600 + middle.minute * 60 + middle.second
        self._light = self._sky.light(middle, self._roofs)
        self._outdoor_c = self._sky.outdoor_temp_c(middle)
        available = self._available()
        self._flows = self._balance(sum(available), self._household.power_w(second), seconds)
        self._trackers = _shared(self._flows.pv_w, available)
        self._count(seconds)
        self._warm(seconds)
        self._second += seconds
        if self._second % _QUARTER_S == 0:
            self._end_quarter()

    def _end_quarter(self) -> None:
        ended, begun = datetime.fromtimestamp(self._second - 1, self.zone), self._local()
        self.diary.write(ended, self._today)
        if begun.date() == ended.date():
            return
        self.diary.begin_day(ended, begun)
        self._before, self._today = self._before.plus(self._today), Energies()
        if begun.month != ended.month:
            self._month_output = 0
        self._household = HouseholdDay(self._seed, begun.date())

    def _available(self) -> tuple[int, ...]:
        """DC power the sun offers per tracker, W."""
        powers = []
        for array, light in zip(self.equipment.arrays, self._light, strict=True):
            cell_c = self._outdoor_c + 0.028 * light
            share = light / _STANDARD_LIGHT * _PERFORMANCE * (1 - 0.0035 * (cell_c - 25))
            powers.append(int(array.peak_w * share) if share > _STARTING_SHARE else 0)
        return tuple(powers)

    def _balance(self, offered_w: int, load_w: int, seconds: int) -> Flows:
        """Share out the sun: house, battery, grid; what lacks comes from the battery, then the grid."""
        pv_w, rated_w = offered_w, self.equipment.rated_w
        miss_w = round(_REGULATION_W * self._ripple(20, 3.7))
        made_w = pv_w - self._losses(pv_w)
        spare_w = made_w - load_w
        charge_w = max(0, min(spare_w + miss_w, self._charge_limit(seconds))) if spare_w > 0 else 0
        excess_w = made_w - charge_w - rated_w
        if excess_w > 0:  # more than the inverter can turn into AC: the trackers leave their best point
            pv_w -= excess_w * 100 // (100 - _CONVERSION_LOSS_PCT) + 1
            made_w = pv_w - self._losses(pv_w)
        discharge_w = 0
        lacking_w = load_w - made_w
        if lacking_w > 0:
            wanted_w = lacking_w * 100 // (100 - _CONVERSION_LOSS_PCT) + miss_w
            discharge_w = max(0, min(wanted_w, self._discharge_limit(seconds), rated_w - pv_w))
        losses_w = self._losses(pv_w + discharge_w)
        ac_w = pv_w + discharge_w - charge_w - losses_w
        import_w = max(0, load_w - ac_w)
        return Flows(
            pv_w=pv_w,
            load_w=load_w,
            charge_w=charge_w,
            discharge_w=discharge_w,
            import_w=import_w,
            export_w=max(0, ac_w - load_w),
            losses_w=losses_w,
            ac_w=ac_w,
            direct_w=max(0, load_w - import_w - discharge_w),
        )

    def _losses(self, throughput_w: int) -> int:
        return self.equipment.idle_w + throughput_w * _CONVERSION_LOSS_PCT // 100

    def _count(self, seconds: int) -> None:
        flows = self._flows
        self._today.add(flows, seconds)
        self._month_output += max(0, flows.ac_w) * seconds
        self._stored += (flows.charge_w * _CHARGE_EFFICIENCY_PCT - flows.discharge_w * 100) * seconds

    def _warm(self, seconds: int) -> None:
        """Temperatures follow what heats them, slowly."""
        heat_c = 10.0 + 26.0 * abs(self._flows.ac_w) / self.equipment.rated_w
        self._inverter_c += (self._outdoor_c + heat_c - self._inverter_c) * (1 - math.exp(-seconds / 1500))
        indoor_c = 17.0 + 0.25 * self._outdoor_c + (self._flows.charge_w + self._flows.discharge_w) / 900
        self._battery_c += (indoor_c - self._battery_c) * (1 - math.exp(-seconds / 14_400))

    # --- battery ---------------------------------------------------------------------------------------

    @staticmethod
    def _content(battery: Battery, soc_pct: int) -> int:
        """1/100 watt-seconds stored at a state of charge."""
        return battery.capacity_wh * 3600 * soc_pct

    def _soc_pct(self, battery: Battery) -> float:
        return self._stored / (battery.capacity_wh * 3600)

    def _charge_limit(self, seconds: int) -> int:
        battery = self.equipment.battery
        if battery is None:
            return 0
        soc = self._soc_pct(battery)
        taper = min(1.0, 0.04 + (100 - soc) / (100 - _TAPER_START_PCT))
        room = self._content(battery, 100) - self._stored
        return max(0, min(int(battery.max_charge_w * taper), room // (_CHARGE_EFFICIENCY_PCT * seconds)))

    def _discharge_limit(self, seconds: int) -> int:
        battery = self.equipment.battery
        if battery is None:
            return 0
        left = self._stored - self._content(battery, battery.reserve_pct)
        return max(0, min(battery.max_discharge_w, left // (100 * seconds)))

    def _battery_state(self, battery: Battery) -> BatteryState:
        soc = self._soc_pct(battery)
        power_w = self._flows.charge_w - self._flows.discharge_w
        at_rest = battery.empty_voltage_v + (battery.full_voltage_v - battery.empty_voltage_v) * soc / 100
        voltage = at_rest + power_w / 1500
        return BatteryState(soc, voltage, power_w / voltage, self._battery_c)

    # --- electrical detail -----------------------------------------------------------------------------

    def _local(self) -> datetime:
        return datetime.fromtimestamp(self._second, self.zone)

    def _ripple(self, stream: int, period_s: float) -> float:
        """A smooth disturbance within -1..1, another one for every stream."""
        at = self._second / period_s + (self._seed % 1000) * 0.37 + stream * 1.7
        return 0.6 * math.sin(at) + 0.4 * math.sin(2.618 * at + stream)

    def _tracker_voltage(self, array: Array, power_w: int, light: float) -> float:
        """V at a tracker: near the best point while it works, floating in twilight, nothing at night."""
        if power_w == 0:
            return min(0.9, light / 8) * array.mpp_voltage_v
        cell_c = self._outdoor_c + 0.028 * light
        dim = 0.04 * math.exp(-light / 90)
        return array.mpp_voltage_v * (1 - 0.0028 * (cell_c - 25) - dim) + 2.0 * self._ripple(7, 41)

    def _phase_voltages(self) -> tuple[float, float, float]:
        """V per phase: the grid's own ups and downs, lifted by feeding in, lowered by drawing."""
        a, b, c = (
            231.0 + 1.6 * self._ripple(2 + phase, 611) + 0.7 * self._ripple(5 + phase, 37) - power / 1400
            for phase, power in enumerate(self._phase_imports())
        )
        return a, b, c

    def _phase_imports(self) -> tuple[int, int, int]:
        """W per phase at the meter: uneven load, even feed-in."""
        flows = self._flows
        load_a = int(flows.load_w * (0.42 + 0.08 * self._ripple(11, 3701)))
        load_b = int(flows.load_w * (0.27 + 0.06 * self._ripple(12, 2903)))
        a, b = load_a - flows.ac_w // 3, load_b - flows.ac_w // 3
        return a, b, flows.import_w - flows.export_w - a - b


def _shared(pv_w: int, available: tuple[int, ...]) -> tuple[int, ...]:
    """Divide what is taken among the trackers in proportion to what each offers; the sum is exact."""
    offered = sum(available)
    if pv_w >= offered:
        return available
    first = [power * pv_w // offered for power in available[:-1]]
    return (*first, pv_w - sum(first))


def spans(house: House, until: datetime, length: timedelta) -> Iterator[datetime]:
    """Live through the spans of ``length`` that end by ``until``; yields where the house stands in each.

    That is the span's last second: still in it, also by its time stamp and by the counters of its day.
    """
    end = until.astimezone(UTC)
    while True:
        into_span = house.now.timestamp() % length.total_seconds()
        last_second = house.now - timedelta(seconds=into_span) + length - LIVE_STEP
        if last_second <= house.now:
            last_second += length
        if last_second >= end:
            return
        house.advance(last_second, min(length, HISTORY_STEP))
        yield last_second


def close_look(until: datetime, zone: ZoneInfo) -> datetime:
    """The site's midnight from which on a past is told by the minute: the same all day long."""
    return birth(until, zone, days=CLOSE_DAYS)


def birth(until: datetime, zone: ZoneInfo, *, days: int = 365) -> datetime:
    """The site's midnight ``days`` days before the day of ``until`` (aware): the same all day long."""
    day = until.astimezone(zone).date() - timedelta(days=days)
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def settled_house(seed: int, zone: ZoneInfo, *, kind: HouseKind, until: datetime, days: int = 365) -> House:
    """A house born ``days`` days before ``until`` and replayed to it: counters and battery have a past.

    The replay takes the same steps as :func:`sungrow_lib.simulator.history.modelled_past`, so a house
    settled until the end of a history stands exactly where that history ends, and one settled a little later
    has lived on from there.
    """
    house = House(seed, zone, kind=kind, born=birth(until, zone, days=days))
    settle(house, until, past_until=until)
    return house


def settle(house: House, until: datetime, *, past_until: datetime) -> None:
    """Replay a house to ``until``, in the steps of a past that ends at ``past_until`` (both aware)."""
    close = close_look(past_until, house.zone)
    if until <= close:
        lived = spans(house, until, QUARTER)
    else:
        lived = chain(spans(house, close, QUARTER), spans(house, until, MINUTE))
    for _ in lived:
        pass
