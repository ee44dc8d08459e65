from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import anyio.from_thread
import pytest

from sungrow_lib.registers.words import RegisterWords, Space
from sungrow_lib.simulator.images import IMAGES
from sungrow_lib.simulator.server import InverterSimulator, Profile, RegisterSource, StaticSource
from tests.cli.helpers import Serve, SkippingClock


@pytest.fixture(autouse=True)
def _own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("SUNGROW_LOCK_DIR", "SUNGROW_STATE_DIR"):
        folder = tmp_path / variable
        folder.mkdir()
        monkeypatch.setenv(variable, str(folder))


@pytest.fixture
def skipping_clock(monkeypatch: pytest.MonkeyPatch) -> SkippingClock:
    """Let commands that are not watched for their real pace run without waiting."""
    clock = SkippingClock()
    monkeypatch.setattr("sungrow_lib.modbus.session.SystemClock", lambda: clock)
    return clock


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start simulators that live beside the test, in a thread of their own."""
    with ExitStack() as stack:
        portal = stack.enter_context(anyio.from_thread.start_blocking_portal())

        def start(units: Mapping[int, RegisterSource], profile: Profile = Profile.LAN) -> InverterSimulator:
            simulator = InverterSimulator(units, profile=profile)
            return stack.enter_context(portal.wrap_async_context_manager(simulator))

        yield start


@pytest.fixture
def hybrid() -> StaticSource:
    """The answers of a real SH8.0RT-20, with a serial number that is not made of zeros."""
    serial = RegisterWords({(Space.INPUT, 4990 + at): 0x4132 if at == 0 else 0x3334 for at in range(5)})
    rest = RegisterWords({(Space.INPUT, 4995 + at): 0 for at in range(5)})
    return StaticSource(RegisterWords(IMAGES["SH8.0RT-20"].words) | serial | rest)


@pytest.fixture
def string_inverter() -> StaticSource:
    return StaticSource(IMAGES["SG20RT"].words)
