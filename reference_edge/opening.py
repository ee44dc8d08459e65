"""Says how the opening of a large or damaged spool gets on, to whoever waits for the daemon."""

from __future__ import annotations

import time
from typing import Final

import anyio

from reference_edge.health import HealthReport
from reference_edge.survey import Survey
from sungrow_lib.service_manager import ServiceManager
from sungrow_lib.spool import SpoolOpening

_TOLD_S: Final = 2.0
"""Seconds between two words; most spools are open before the first."""
_PATIENCE_S: Final = 120.0
"""As long as the unit's watchdog waits: for each word, and nothing is said of an opening stuck for longer."""


async def tell_of_opening(
    opening: SpoolOpening, service: ServiceManager, survey: Survey, health: HealthReport
) -> None:
    """Tell the service manager and the health file that it goes on, until cancelled."""
    await anyio.sleep(_TOLD_S)
    async with anyio.create_task_group() as beside:
        beside.start_soon(health.run)
        while True:
            if opening.is_recovering:
                survey.note_recovery()
            if time.monotonic() - opening.moved_at < _PATIENCE_S:
                service.say(
                    EXTEND_TIMEOUT_USEC=f"{_PATIENCE_S * 1e6:.0f}",
                    WATCHDOG="1",
                    STATUS="recovering a damaged spool" if opening.is_recovering else "checking the spool",
                )
            await anyio.sleep(_TOLD_S)
