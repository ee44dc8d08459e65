"""What a quantity is: the words in which the table of them is written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Family(StrEnum):
    """The register maps Sungrow uses; a device speaks one of them per Modbus unit."""

    SH = "sh"
    SG = "sg"
    BATTERY = "battery"
    IHM = "ihm"


class QuantityKind(StrEnum):
    """How values of a quantity behave over time, and so how they may be aggregated."""

    GAUGE = "gauge"
    """A momentary value: averaged over time, with minimum and maximum."""
    COUNTER = "counter"
    """Only ever grows until the device resets it: aggregated by its increase."""
    DAILY_COUNTER = "daily_counter"
    """A counter that the inverter resets at its own midnight; advisory, never summed."""
    STATE = "state"
    """A word from a fixed or open vocabulary."""
    CODES = "codes"
    """The set of codes active now; an empty list means read and none active."""
    META = "meta"
    """Says something about the reading itself."""


class Tier(StrEnum):
    """How often a quantity is read."""

    FAST = "fast"
    SLOW = "slow"
    IDENTITY = "identity"


@dataclass(frozen=True, slots=True)
class Source:
    """A register that can supply a quantity.

    Attributes:
        register: its name in the family's register table.
        negate: whether the register's sign is opposite to the quantity's.
    """

    register: str
    negate: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """The fastest a counter can rise, with a margin; what is faster is a jump.

    Attributes:
        times: of the device's nominal power in kW, per hour.
        at_least: per hour, in the counter's unit, however small the device is.
    """

    times: float
    at_least: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What a value means, how finely it is known and where it comes from.

    Attributes:
        name: field name, ending in the unit where there is one.
        title: what a person calls it.
        unit: printed unit, empty for none.
        kind: behaviour over time.
        decimals: decimal digits of the resolution; 0 makes the values integers.
        low: least plausible value, in the unit.
        high: greatest plausible value; it also decides how many bytes a stored value takes.
        length: most items of a list quantity (trackers, phases, strings); None for a single value.
        tier: how often it is read.
        sign: what a positive value means, where that needs saying.
        pace: of a counter, the fastest it can rise.
        sources: per family the registers that supply it, best first. For a list: one tuple per item.
    """

    name: str
    title: str
    unit: str
    kind: QuantityKind = QuantityKind.GAUGE
    decimals: int = 0
    low: float = 0.0
    high: float = 0.0
    length: int | None = None
    tier: Tier = Tier.FAST
    sign: str = ""
    pace: Pace | None = None
    sources: Mapping[Family, tuple[tuple[Source, ...], ...]] = field(default_factory=dict)

    @property
    def is_numeric(self) -> bool:
        """Whether values are numbers stored as integers of the resolution."""
        return self.kind not in {QuantityKind.STATE, QuantityKind.CODES} and bool(self.high)

    @property
    def is_signed(self) -> bool:
        """Whether negative values are meaningful."""
        return self.low < 0

    @property
    def factor(self) -> int:
        """Resolution steps per unit."""
        return _FACTORS[self.decimals]

    @property
    def storage_bytes(self) -> int:
        """Bytes of the stored integer: 2 where the plausible range fits, else 4."""
        reach = max(abs(self.low), abs(self.high)) * self.factor
        return 2 if reach <= _INT2_MAX else 4

    @property
    def storage_limit(self) -> int:
        """Greatest magnitude, in resolution steps, the stored integer can hold."""
        return _INT2_MAX if self.storage_bytes == 2 else _INT4_MAX  # noqa: PLR2004 - bytes of an int2

    def to_steps(self, value: float) -> int:
        """Number of resolution steps nearest to ``value`` (in the unit)."""
        return round(value * _FACTORS[self.decimals])

    def from_steps(self, steps: int) -> float:
        """Value in the unit of a number of resolution steps: an int when there are no decimals."""
        return steps / _FACTORS[self.decimals] if self.decimals else steps

    def is_plausible(self, value: float) -> bool:
        """Whether ``value`` (in the unit) lies in the plausible range."""
        return math.isfinite(value) and self.low <= value <= self.high

    def columns(self) -> Iterator[str]:
        """Names of the database columns that hold it: one, or one per list item (counted from 1)."""
        if self.length is None or self.kind is QuantityKind.CODES:
            yield self.name
            return
        for item in range(1, self.length + 1):
            yield f"{self.name}_{item}"


_FACTORS: Final = (1, 10, 100, 1000, 10_000)
_INT2_MAX: Final = 2**15 - 1
_INT4_MAX: Final = 2**31 - 1
