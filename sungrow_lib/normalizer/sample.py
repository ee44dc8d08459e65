"""The normalizer: everything that was read of a device in one poll, as one sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sungrow_lib.normalizer.battery import battery_values
from sungrow_lib.normalizer.blank import filled
from sungrow_lib.normalizer.hybrid import hybrid_values, shows_signed_battery
from sungrow_lib.normalizer.meter import without_idle_phases
from sungrow_lib.normalizer.string_inverter import fault_codes_of, metered
from sungrow_lib.normalizer.values import Values, codes_of_bits, supplied_values
from sungrow_lib.quantities import Family
from sungrow_lib.registers.identity import Identity, identify
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.words import RegisterWords
from sungrow_lib.sample import SungrowSample

_CODES: Final = ("alarm_codes", "fault_codes")
_CLOCK: Final = ("year", "month", "day", "hour", "minute", "second")
_PHASES: Final = "phase_voltage_v"
_LINES: Final = "line_voltage_v"
_LEAST_LINE_V: Final = 600
"""V that no inverter has between a phase and the neutral: those for 800 V have 462."""
_CENTURY: Final = range(2000, 2100)


@dataclass(frozen=True, slots=True)
class Normalizer:
    """Turns what was read from one device into samples.

    >>> from datetime import UTC, datetime
    >>> from sungrow_lib.registers.words import Space
    >>> words = RegisterWords({(Space.INPUT, 13010): 65134, (Space.INPUT, 13011): 65535})
    >>> normalizer = Normalizer("house", Identity(family=Family.SH))
    >>> normalizer.normalize(words, ts=datetime(2026, 1, 31, 10, tzinfo=UTC)).export_power_w
    -402

    Attributes:
        device_id: goes into every sample.
        identity: what the device is; None to tell it from each reading. Its firmware may tell that the
            battery power is signed, too.
        signed_battery: whether this device was ever seen to sign its battery power (13022 below 0), so
            that a positive value is known to mean discharging; see `learning`.
    """

    device_id: str
    identity: Identity | None = None
    signed_battery: bool = False

    def normalize(
        self, words: RegisterWords, *, ts: datetime, interval_s: float | None = None, firmware: bool = False
    ) -> SungrowSample:
        """Return the sample of one poll.

        Args:
            words: what the poll read; nothing older, for a sample holds only what was read together.
            ts: arrival of the fast block: aware, whole milliseconds.
            interval_s: seconds this reading stands for; None on the first poll.
            firmware: whether to report the firmware, which is wanted when it changed.

        Raises:
            UnknownFamilyError: no identity was given and the words do not tell the family.
            pydantic.ValidationError: ``ts`` or the device id is not valid.
        """
        values = self.values(words, firmware=firmware)
        values |= {"interval_s": interval_s, "sample_count": 1}
        known = {name: value for name, value in values.items() if value is not None}
        return SungrowSample(device_id=self.device_id, ts=ts, **known)

    def values(self, words: RegisterWords, *, firmware: bool = False) -> dict[str, Any]:
        """Return every quantity a device can supply, by name; None for what ``words`` do not tell.

        Raises:
            UnknownFamilyError: no identity was given and the words do not tell the family.
        """
        identity = self.identity or identify(words)
        table = RegisterMap.for_family(identity.family)
        registers: Values = table.decode(words, identity.context, absent=False)
        if (known := filled(identity.family, registers, words)) is not words:
            words, registers = known, table.decode(known, identity.context, absent=False)
        if holes := table.holes(words):
            registers = {**registers, **dict.fromkeys(holes & registers.keys())}
        if identity.family is Family.SG:
            registers = metered(registers)
        if identity.context.phases == 1:
            registers = without_idle_phases(registers)
        values = supplied_values(identity.family, registers)
        if identity.family is Family.SH:
            values |= hybrid_values(values, registers, identity, signed=self.signed_battery)
        if identity.family is Family.BATTERY:
            values |= battery_values(values)
        if identity.family is Family.SG:
            values |= fault_codes_of(registers)
        else:
            values |= {name: codes_of_bits(name, identity.family, words) for name in _CODES}
        values[_not_measured(identity, values[_LINES])] = None
        values["inverter_clock"] = _clock(registers)
        if not firmware:
            values["firmware"] = None
        return values

    def learning(self, words: RegisterWords) -> Normalizer:
        """Return the normalizer that has seen ``words``: this one, or one that knows the sign."""
        if self.signed_battery or not shows_signed_battery(words):
            return self
        return replace(self, signed_battery=True)


def _not_measured(identity: Identity, volts: list[float | None] | None) -> str:
    """Which of the two meanings the same three registers do not have on this device."""
    has_neutral = identity.has_neutral
    if has_neutral is None:
        has_neutral = max((volt or 0 for volt in volts or ()), default=0) < _LEAST_LINE_V
    return _LINES if has_neutral else _PHASES


def _clock(registers: Values) -> str | None:
    """The inverter's own date and time, None unless all of it was read and exists."""
    parts = [registers.get(f"clock_{part}") for part in _CLOCK]
    whole = [part for part in parts if isinstance(part, int)]
    if len(whole) < len(parts) or whole[0] not in _CENTURY:
        return None
    try:
        return datetime(*whole).isoformat()  # type: ignore[arg-type] # noqa: DTZ001 - it tells no zone
    except ValueError:
        return None
