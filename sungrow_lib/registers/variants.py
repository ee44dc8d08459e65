"""Where a device departs from its family's table: one list of every known exception of scale and sign."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final

from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import DeviceContext
from sungrow_lib.registers.model import DataType, Register
from sungrow_lib.registers.words import WORD_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A register that some devices fill differently.

    Attributes:
        registers: names; empty for all of ``type``.
        type: how their words make a value; None for any.
        families: register maps it concerns.
        lines: product lines it is limited to; empty for all.
        models: models it is limited to; empty for all.
        above_kw: nominal AC power above which a known model is such a device.
        raw: raw values that give it away, where no model or firmware does; None for every value.
        decimals: scale to use instead.
        signed_by_firmware: as in :class:`~sungrow_lib.registers.model.Register`.
        valid_range: likewise.
        is_other: whether they hold something else there, so that the register has no value.
        why: where it was seen.
    """

    registers: tuple[str, ...] = ()
    type: DataType | None = None
    families: frozenset[Family] = frozenset({Family.SH})
    lines: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    above_kw: float | None = None
    raw: range | None = None
    decimals: int | None = None
    signed_by_firmware: bool | None = None
    valid_range: tuple[float, float] | None = None
    is_other: bool = False
    why: str

    def concerns(self, register: Register, family: Family, context: DeviceContext) -> bool:
        """Whether this device's ``register`` is, or by its raw value may be, such a case."""
        return (
            (not self.registers or register.name in self.registers)
            and self.type in {None, register.type}
            and family in self.families
            and self._fits(context)
        )

    def _fits(self, context: DeviceContext) -> bool:
        device = context.device
        return (
            (not self.lines or context.line in self.lines)
            and (not self.models or (device is not None and device.model in self.models))
            and (self.above_kw is None or (device is not None and (device.power_kw or 0) > self.above_kw))
        )

    def of(self, register: Register) -> Register:
        """The register as such a device fills it."""
        changes: dict[str, Any] = {}
        if self.decimals is not None:
            changes["decimals"] = self.decimals
        if self.signed_by_firmware is not None:
            changes["signed_by_firmware"] = self.signed_by_firmware
        if self.valid_range is not None:
            changes["valid_range"] = self.valid_range
        return replace(register, **changes)


VARIANTS: Final[tuple[Variant, ...]] = (
    Variant(
        registers=("grid_frequency", "channel_2_grid_frequency"),
        families=frozenset({Family.SH, Family.SG, Family.IHM}),
        raw=range(1001, WORD_MAX),
        decimals=2,
        why="old WiNet-S firmware sends 0.01 Hz: SG20RT read 499.8 Hz, SH5.0RS 500.9 Hz",
    ),
    Variant(
        registers=("battery_soh",),
        raw=range(101),
        decimals=0,
        why="SH10RS through an RS485 gateway counts whole percents: 99 where others say 990",
    ),
    Variant(
        registers=("total_output_energy",),
        lines=frozenset({"SH-CX"}),
        decimals=0,
        why="SH-CX counts whole kWh",
    ),
    Variant(
        registers=("backup_phase_a_power", "backup_phase_b_power", "backup_phase_c_power"),
        lines=frozenset({"SH-CX"}),
        decimals=-1,
        why="SH-CX counts 0.01 kW, which is 10 W",
    ),
    Variant(
        registers=("battery_power",),
        lines=frozenset({"SH-CX"}),
        signed_by_firmware=False,
        why="only SH-CX moves more than 32 kW, so only there the upper half is a magnitude",
    ),
    Variant(
        registers=("battery_power",),
        models=frozenset({"SH50CX"}),
        raw=range(62_501, WORD_MAX),
        signed_by_firmware=True,
        why="SH50CX moves no quarter more than its 50 kW, so what is above that is negative",
    ),
    Variant(
        registers=tuple(f"mppt_{n}_{what}_mirror" for n in (1, 2) for what in ("voltage", "current")),
        lines=frozenset({"SH-T"}),
        is_other=True,
        why="SH-T has its strings, not its trackers, from 5253 on",
    ),
    Variant(
        type=DataType.S32,
        families=frozenset({Family.SH, Family.SG}),
        above_kw=30,
        valid_range=(-65_535, 2_000_000),
        why="a plant moves more than a house: only what an idle word and a hole make is no value",
    ),
)
"""Every exception; a register concerned twice takes the first that fits."""

_SIGNING_FIRMWARE: Final = ((re.compile(r"SAPPHIRE-H_\w+\.(\d+)\.(\d+)"), (95, 1)),)
"""Firmware by its text, and the version from which on it signs battery power and current (SH-RT, 2024)."""


def signs_battery(firmware: str | None) -> bool:
    """Whether this firmware is known to send 13021 and 13022 with a sign: > 0 discharging, < 0 charging."""
    return any(
        tuple(map(int, found.groups())) >= first
        for pattern, first in _SIGNING_FIRMWARE
        if (found := pattern.search(firmware or ""))
    )
