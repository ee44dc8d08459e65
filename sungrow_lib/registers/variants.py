"""Where a device departs from its family's table: one list of every known exception of scale and sign."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import DeviceContext
from sungrow_lib.registers.model import Register
from sungrow_lib.registers.words import WORD_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A register that some devices fill differently.

    Attributes:
        registers: names.
        families: register maps it concerns.
        lines: product lines it is limited to; empty for all.
        models: models it is limited to; empty for all.
        raw: raw values that give it away, where no model or firmware does; None for every value.
        decimals: scale to use instead.
        signed_by_firmware: as in :class:`~sungrow_lib.registers.model.Register`.
        why: where it was seen.
    """

    registers: tuple[str, ...]
    families: frozenset[Family] = frozenset({Family.SH})
    lines: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    raw: range | None = None
    decimals: int | None = None
    signed_by_firmware: bool | None = None
    why: str

    def concerns(self, register: Register, family: Family, context: DeviceContext) -> bool:
        """Whether this device's ``register`` is, or by its raw value may be, such a case."""
        return (
            register.name in self.registers
            and family in self.families
            and (not self.lines or context.line in self.lines)
            and (not self.models or (context.device is not None and context.device.model in self.models))
        )

    def of(self, register: Register) -> Register:
        """The register as such a device fills it."""
        changes: dict[str, Any] = {}
        if self.decimals is not None:
            changes["decimals"] = self.decimals
        if self.signed_by_firmware is not None:
            changes["signed_by_firmware"] = self.signed_by_firmware
        return replace(register, **changes)


VARIANTS: Final[tuple[Variant, ...]] = (
    Variant(
        registers=("grid_frequency",),
        families=frozenset({Family.SH, Family.SG}),
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
)
"""Every exception; a register concerned twice takes the first that fits."""
