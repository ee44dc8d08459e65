"""Sun and weather over a modelled house: what falls on each roof, the same for the same seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from random import Random
from typing import Final
from zoneinfo import ZoneInfo

_SOLAR_CONSTANT: Final = 1361.0
"""W/m2 outside the atmosphere."""
_DAY_S: Final = 86_400
_HOURS_PER_DEGREE: Final = 1 / 15
_HORIZON: Final = 0.01
"""Sine of the elevation below which a roof sees no usable light."""


@dataclass(frozen=True, slots=True)
class Roof:
    """A plane that carries modules.

    Attributes:
        tilt_deg: degrees from level.
        azimuth_deg: degrees from south, + towards west.
        sky_view: part of the sky it sees.
    """

    tilt_deg: float
    azimuth_deg: float
    sky_view: float = field(init=False, repr=False, compare=False)
    _tilt: tuple[float, float] = field(init=False, repr=False, compare=False)
    _azimuth: tuple[float, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tilt, azimuth = math.radians(self.tilt_deg), math.radians(self.azimuth_deg)
        object.__setattr__(self, "_tilt", (math.cos(tilt), math.sin(tilt)))
        object.__setattr__(self, "_azimuth", (math.cos(azimuth), math.sin(azimuth)))
        object.__setattr__(self, "sky_view", (1 + math.cos(tilt)) / 2)

    def facing(self, up: float, south: float, west: float) -> float:
        """Cosine of the angle between the sun (a unit vector) and the normal, from 0."""
        (cos_tilt, sin_tilt), (cos_azimuth, sin_azimuth) = self._tilt, self._azimuth
        return max(0.0, up * cos_tilt + (south * cos_azimuth + west * sin_azimuth) * sin_tilt)


@dataclass(frozen=True, slots=True)
class Cloud:
    """A passing cloud.

    Attributes:
        start_s: when its edge arrives, seconds of the local day.
        length_s: how long it takes to pass.
        depth: the part of the beam its middle takes away, 0 to 1.
    """

    start_s: float
    length_s: float
    depth: float

    def shade(self, second: float) -> float:
        """Part of the beam taken away at ``second`` of the local day."""
        passed = (second - self.start_s) / self.length_s
        return self.depth * math.sin(math.pi * passed) if 0.0 < passed < 1.0 else 0.0


@dataclass(frozen=True, slots=True)
class SkyDay:
    """The weather of one local day.

    Attributes:
        clearness: part of the clear-sky beam that reaches the ground between the clouds, 0 to 1.
        clouds: what passes by.
        warmth_k: how much warmer than usual for the season.
    """

    clearness: float
    clouds: tuple[Cloud, ...]
    warmth_k: float

    @classmethod
    def of(cls, seed: int, day: date) -> SkyDay:
        """Weather of ``day``: the same for the same seed, alike from one day to the next."""
        rng = Random(f"{seed}/sky/{day}")  # noqa: S311 - a reproducible model, no secret
        winter = math.cos(2 * math.pi * (day.timetuple().tm_yday - 10) / 365)
        mood = 0.5 * (_mood(seed, day.toordinal() // 3) + _mood(seed, day.toordinal())) - 0.1 * winter
        clearness = min(1.0, max(0.06, 0.12 + 1.1 * mood))
        clouds = tuple(
            Cloud(rng.uniform(5, 20) * 3600, rng.uniform(180, 2400), rng.uniform(0.2, 0.85))
            for _ in range(int(rng.uniform(0, 26) * (1.1 - clearness)))
        )
        return cls(clearness, clouds, rng.uniform(-4, 4))

    def beam_share(self, second: float) -> float:
        """Part of the clear-sky beam that arrives at ``second`` of the local day."""
        share = self.clearness
        for cloud in self.clouds:
            share *= 1.0 - cloud.shade(second)
        return share


def _mood(seed: int, key: int) -> float:
    return Random(f"{seed}/mood/{key}").random()  # noqa: S311 - a reproducible model, no secret


class Sky:
    """Sun geometry of a place together with its weather.

    Args:
        seed: which weather.
        zone: the place's time zone; its winter offset gives the longitude.
        latitude_deg: degrees north.
    """

    def __init__(self, seed: int, zone: ZoneInfo, latitude_deg: float) -> None:
        self._seed = seed
        self._sin_latitude = math.sin(math.radians(latitude_deg))
        self._cos_latitude = math.cos(math.radians(latitude_deg))
        self._solar_offset_h = _standard_offset_h(zone)
        self._day: date | None = None
        self._weather = SkyDay(1.0, (), 0.0)
        self._sin_declination = self._cos_declination = 0.0
        self._equation_h = 0.0
        self._season = 0.0

    def _enter(self, day: date) -> None:
        """Prepare what is constant over one local day."""
        number = day.timetuple().tm_yday
        declination = math.radians(23.45) * math.sin(2 * math.pi * (284 + number) / 365)
        self._sin_declination, self._cos_declination = math.sin(declination), math.cos(declination)
        b = 2 * math.pi * (number - 81) / 364
        self._equation_h = (9.87 * math.sin(2 * b) - 7.53 * math.cos(b) - 1.5 * math.sin(b)) / 60
        self._season = math.cos(2 * math.pi * (number - 200) / 365)
        self._weather = SkyDay.of(self._seed, day)
        self._day = day

    def light(self, moment: datetime, roofs: tuple[Roof, ...]) -> tuple[float, ...]:
        """Irradiance on each roof, W/m2, at ``moment`` (aware, in the site's zone)."""
        if moment.date() != self._day:
            self._enter(moment.date())
        hour_angle = self._hour_angle(moment)
        cos_hour = math.cos(hour_angle)
        sin_elevation = (
            self._sin_latitude * self._sin_declination + self._cos_latitude * self._cos_declination * cos_hour
        )
        if sin_elevation < _HORIZON:
            return (0.0,) * len(roofs)
        air_mass = 1 / sin_elevation
        beam = _SOLAR_CONSTANT * 0.7 ** (air_mass**0.678)
        share = self._weather.beam_share(_second_of_day(moment))
        diffuse = beam * sin_elevation * (0.10 + 0.18 * (1 - share))
        south = (
            cos_hour * self._cos_declination * self._sin_latitude - self._sin_declination * self._cos_latitude
        )
        west = math.sin(hour_angle) * self._cos_declination
        return tuple(
            beam * share * roof.facing(sin_elevation, south, west) + diffuse * roof.sky_view for roof in roofs
        )

    def outdoor_temp_c(self, moment: datetime) -> float:
        """Air temperature, °C, at ``moment`` (aware, in the site's zone): warmest in the afternoon."""
        if moment.date() != self._day:
            self._enter(moment.date())
        of_day = math.cos(2 * math.pi * (_second_of_day(moment) / _DAY_S - 0.63))
        return (
            11.0
            + 9.5 * self._season
            + (2.0 + 3.0 * self._weather.clearness) * of_day
            + self._weather.warmth_k
        )

    def _hour_angle(self, moment: datetime) -> float:
        utc = moment.astimezone(UTC)
        solar_h = _second_of_day(utc) / 3600 + self._solar_offset_h + self._equation_h
        return math.radians((solar_h - 12) / _HOURS_PER_DEGREE)


def _standard_offset_h(zone: ZoneInfo) -> float:
    """Offset from UTC without summer time, hours."""
    offsets = [datetime(2026, month, 1, tzinfo=zone).utcoffset() for month in (1, 7)]
    return min(offset.total_seconds() for offset in offsets if offset is not None) / 3600


def _second_of_day(moment: datetime) -> float:
    return moment.hour * 3600 + moment.minute * 60 + moment.second + moment.microsecond / 1e6
