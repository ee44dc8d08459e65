"""Fixtures of the spool's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sungrow_lib.spool import DurableSpool
from tests.spool.helpers import FakeClock


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def spool(path: Path, clock: FakeClock) -> AsyncIterator[DurableSpool]:
    async with DurableSpool.open(path, clock=clock) as opened:
        yield opened
