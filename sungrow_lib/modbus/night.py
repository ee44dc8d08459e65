"""Whether a device that is silent may be asleep: only its own last words about the sun tell."""

from __future__ import annotations

from typing import Final

from sungrow_lib.modbus.clock import Clock
from sungrow_lib.modbus.connection import ConnectionState
from sungrow_lib.modbus.notes import DeviceNotes
from sungrow_lib.modbus.settings import ConnectionSettings
from sungrow_lib.registers.identity import Identity

_DUSK_W: Final = 50.0
_DUSK: Final = 0.02
"""PV power, absolute and by nominal power, up to which a device that falls silent has gone to sleep."""

_DAWN: Final = 2
"""So many times that power is day again: the hour in between does not count as many nights."""

_LONGEST_S: Final = 20 * 3600.0
"""Who is silent for longer after sunset does not sleep."""


class Night:
    """Since when it is dark for one unit, kept in its notes for a restart at night.

    Args:
        settings: how the unit is reached.
        unit: Modbus unit id.
        clock: the clocks.
    """

    def __init__(self, settings: ConnectionSettings, unit: int, clock: Clock) -> None:
        self._clock = clock
        self._since = DeviceNotes.dark_at(settings.host, settings.port, unit, settings.state_dir)

    def see(self, pv_power_w: int | None, identity: Identity | None) -> None:
        """Look at the sun in a reading."""
        nominal_kw = identity.nominal_kw if identity else None
        dusk_w = max(_DUSK_W, _DUSK * 1000 * (nominal_kw or 0))
        if pv_power_w is None:
            return
        if pv_power_w > _DAWN * dusk_w:
            self._since = None
        elif pv_power_w <= dusk_w and self._since is None:
            self._since = self._now()

    def note(self, notes: DeviceNotes) -> None:
        """Write down since when it is dark."""
        notes.dark_since = self._since

    def judge(self, state: ConnectionState) -> ConnectionState:
        """Call that no sleep which is a failure: silence by day, or of who never answered or never wakes."""
        is_dark = self._since is not None and abs(self._now() - self._since) < _LONGEST_S
        return ConnectionState.BACKING_OFF if state is ConnectionState.ASLEEP and not is_dark else state

    def _now(self) -> float:
        return self._clock.wall().timestamp()
