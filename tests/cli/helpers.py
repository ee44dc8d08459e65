from __future__ import annotations

from collections.abc import Callable

from sungrow_lib.modbus.clock import SystemClock
from sungrow_lib.simulator.server import InverterSimulator

Serve = Callable[..., InverterSimulator]

SERIAL = "A234343434"


class SkippingClock(SystemClock):
    """Sleeps end at once, and count as if they had been slept."""

    skipped = 0.0

    def boottime(self) -> float:
        return super().boottime() + self.skipped

    async def sleep(self, seconds: float) -> None:
        self.skipped += seconds
        await super().sleep(0)
