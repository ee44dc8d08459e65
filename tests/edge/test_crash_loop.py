"""A daemon that is killed and started again as fast as can be still leaves the dongle its pauses."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import anyio
import pytest

from sungrow_lib import InverterSimulator
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import Child
from sungrow_lib.demo.setup import free_ports
from tests.edge.test_run import edge
from tests.living import living_inverter
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio

BETWEEN_POLLS_S: Final = 5.0
LAG_S: Final = 0.5
"""So much later than it came may a busy machine note a request."""
WITHIN_A_POLL_S: Final = 0.9


async def until(is_so: Callable[[], bool], child: Child) -> float:
    """Wait for it; return how late this event loop was at most, and so may have noted requests."""
    worst_s, seen_at = 0.0, anyio.current_time()
    with anyio.fail_after(PATIENCE_S):
        while not is_so():
            child.require_running()
            await anyio.sleep(0.01)
            worst_s, seen_at = max(worst_s, anyio.current_time() - seen_at), anyio.current_time()
    return worst_s


def starts(inverter: InverterSimulator) -> list[float]:
    """When each poll began: at a request with some time before it, or on another connection."""
    times, last = [], None
    for request in inverter.requests:
        if (
            last is None
            or request.connection != last.connection
            or request.received_at - last.received_at > WITHIN_A_POLL_S
        ):
            times.append(request.received_at)
        last = request
    return times


async def test_a_crash_loop_does_not_hammer_the_dongle(tmp_path: Path, tls_files: CertificateFiles) -> None:
    [nobody] = free_ports(1)
    source = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1)
    async with InverterSimulator({1: source}) as inverter:
        moments: list[Callable[[int, int], Callable[[], bool]]] = [
            lambda _asked, polled: lambda: len(starts(inverter)) > polled,  # in the middle of the first poll
            lambda asked, _polled: lambda: inverter.connections > asked,  # connected, nothing asked yet
            lambda _asked, polled: lambda: len(starts(inverter)) > polled,
            lambda _asked, polled: lambda: len(starts(inverter)) > polled + 1,  # it has polled twice
        ]
        late_s = 0.0
        for moment in moments:
            is_so = moment(inverter.connections, len(starts(inverter)))
            with edge(tmp_path, inverter_port=inverter.port, ca=tls_files.ca, server_port=nobody) as child:
                late_s = max(late_s, await until(is_so, child))
                os.kill(child.pid, signal.SIGKILL)
        began = starts(inverter)
    assert len(began) >= 4
    gaps = [later - earlier for earlier, later in pairwise(began)]
    assert min(gaps) >= BETWEEN_POLLS_S - LAG_S - late_s, gaps
    assert inverter.most_connections == 1
