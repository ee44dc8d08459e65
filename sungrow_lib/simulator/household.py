"""What a modelled household consumes, from fridge to dinner: the same for the same seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from random import Random
from typing import Final

_DAY_S: Final = 86_400
_FRIDGE_CYCLE_S: Final = 2700
_FRIDGE_ON_S: Final = 1000
_FRIDGE_W: Final = 95
_WEEKEND: Final = 5
"""First weekday number of the weekend."""
_HEATING_FROM: Final = 0.3
"""How deep in winter (0 to 1) the heat pump starts to heat."""


@dataclass(frozen=True, slots=True)
class Appliance:
    """One use of an appliance.

    Attributes:
        start_s: when it is switched on, seconds of the local day.
        end_s: when it is switched off.
        power_w: W while its heater or motor runs.
        cycle_s: period of its thermostat; 0 for steady.
        duty: part of the period it draws ``power_w``; a tenth of it in the rest.
    """

    start_s: float
    end_s: float
    power_w: float
    cycle_s: float = 0.0
    duty: float = 1.0

    def draw(self, second: float) -> float:
        """W drawn at ``second`` of the local day."""
        if not self.start_s <= second < self.end_s:
            return 0.0
        if self.cycle_s and (second - self.start_s) % self.cycle_s > self.duty * self.cycle_s:
            return self.power_w / 10
        return self.power_w


class HouseholdDay:
    """Consumption of one local day.

    Args:
        seed: which household.
        day: local date.
    """

    def __init__(self, seed: int, day: date) -> None:
        rng = Random(f"{seed}/load/{day}")  # noqa: S311 - a reproducible model, no secret
        winter = (1 + math.cos(2 * math.pi * (day.timetuple().tm_yday - 15) / 365)) / 2
        self._base_w = 170 + 60 * winter
        self._jitter = [rng.gauss(0, 14) for _ in range(_DAY_S // 60 + 1)]
        self._uses = tuple(_uses(rng, weekend=day.weekday() >= _WEEKEND, winter=winter))

    def power_w(self, second: float) -> int:
        """W drawn by the house at ``second`` of the local day, at least 60."""
        minute, rest = divmod(second / 60, 1)
        left, right = self._jitter[int(minute)], self._jitter[int(minute) + 1]
        power = self._base_w + left + (right - left) * rest
        if second % _FRIDGE_CYCLE_S < _FRIDGE_ON_S:
            power += _FRIDGE_W
        for use in self._uses:
            if use.start_s <= second < use.end_s:  # else it draws nothing: most of the time
                power += use.draw(second)
        return max(60, round(power))


def _uses(rng: Random, *, weekend: bool, winter: float) -> list[Appliance]:
    """Draw up the appliances a day sees."""

    def at(hour: float, spread_h: float, minutes: float) -> tuple[float, float]:
        start = max(0.0, rng.gauss(hour, spread_h)) * 3600
        return start, min(_DAY_S, start + minutes * 60 * rng.uniform(0.8, 1.2))

    up = 8.5 if weekend else 6.7
    uses = [
        Appliance(*at(up, 0.2, 75), 160 + 120 * winter),  # light, radio, bathroom
        Appliance(*at(up + 0.3, 0.1, 5), 1900),  # kettle
        Appliance(*at(up + 0.5, 0.2, 9), 1200),  # toaster, coffee
        Appliance(*at(12.5, 0.4, 35 if weekend else 12), 1700, 90, 0.6),  # lunch
        Appliance(*at(18.6, 0.5, 45), 2300, 120, 0.55),  # dinner
        Appliance(*at(18.2, 0.4, 260), 190 + 160 * winter),  # evening: light, screens
        Appliance(*at(10.0, 1.0, 420), 130),  # someone works at home
    ]
    if rng.random() < (0.65 if weekend else 0.3):
        start, end = at(10.2, 1.2, 110)
        uses += [Appliance(start, start + 1500, 2050, 180, 0.8), Appliance(start + 1500, end, 240, 60, 0.5)]
    if rng.random() < 0.55:  # noqa: PLR2004 - the dishwasher runs every other evening
        start, end = at(20.3, 0.5, 95)
        uses += [Appliance(start, start + 1100, 1900), Appliance(start + 1100, end, 110)]
    if winter > _HEATING_FROM:
        uses.append(Appliance(0, _DAY_S, 1150, 2640, 0.62 * winter * rng.uniform(0.85, 1.15)))  # heat pump
    if rng.random() < 0.35 * winter:
        uses.append(Appliance(*at(16.5, 1.0, 80), 2400, 300, 0.7))  # tumble dryer
    return uses
