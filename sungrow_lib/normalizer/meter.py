"""The phases of a meter: an inverter of one phase may have a meter of three, and then all of them count."""

from __future__ import annotations

from typing import Final

from sungrow_lib.normalizer.values import Number, Values

_PHASES: Final = tuple(f"meter_phase_{phase}_active_power" for phase in "abc")
"""Of a hybrid."""
_OTHERS: Final = (
    _PHASES[1:],
    ("meter_phase_b_power", "meter_phase_c_power"),
    ("phase_b_active_power", "phase_c_active_power"),
)
"""What a meter of one phase leaves empty: of a hybrid, of a string inverter, of an iHomeManager."""
_THREE: Final = 3


def without_idle_phases(registers: Values) -> Values:
    """The registers of a single-phase inverter, without the zeros that its meter's missing phases may read.

    One phase that is 0 beside one that is not is a phase at rest.
    """
    zeros = [
        name
        for names in _OTHERS
        if not any(registers.get(name) for name in names)
        for name in names
        if registers.get(name) == 0
    ]
    return {**registers, **dict.fromkeys(zeros)} if zeros else registers


def live_phases(registers: Values) -> list[Number]:
    """The powers of a hybrid's meter, phase by phase, as far as they are known."""
    return [value for name in _PHASES if isinstance(value := registers.get(name), int | float)]


def total_of_phases(registers: Values, phases: int | None) -> Number | None:
    """W through a hybrid's meter, + buying; None unless every phase it has is known.

    Args:
        registers: decoded registers by name.
        phases: those of the inverter; one of three has no meter of one.
    """
    live = live_phases(registers)
    if len(live) == _THREE:
        return sum(live)
    is_of_one = (
        phases != _THREE
        and all(name in registers for name in _PHASES)
        and registers[_PHASES[0]] is not None
        and len(live) == 1
    )
    return live[0] if is_of_one else None
