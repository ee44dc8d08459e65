"""When old readings are dropped: soon after a start, then every hour."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from reference_server import retention
from reference_server.retention import Retention
from reference_server.storage.errors import StorageUnavailableError
from tests.patience import PATIENCE_S
from tests.server.conftest import NOW, Clock, StartServer, sample

pytestmark = pytest.mark.anyio

DAY_S = 86_400
SOON_S = range(60, 301)


class EndError(Exception):
    """The play is over."""


async def _pauses(
    monkeypatch: pytest.MonkeyPatch, outcomes: list[StorageUnavailableError | None]
) -> list[float]:
    """The pauses before each of these outcomes of dropping, and the one after the last."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > len(outcomes):
            raise EndError

    async def drop(*_: Any) -> None:
        outcome = outcomes[len(pauses) - 1]
        if outcome is not None:
            raise outcome

    async def refresh(*_: Any) -> None:
        pass

    monkeypatch.setattr(retention, "sleep", sleep)
    monkeypatch.setattr(retention, "drop_raw", drop)
    monkeypatch.setattr(retention, "refresh_unreached", refresh)
    unused: Any = None
    with pytest.raises(EndError):
        await Retention(unused, retention=timedelta(days=1), clock=Clock()).run()
    return pauses


async def test_the_first_time_is_minutes_after_the_start_and_not_the_same_everywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    firsts = set()
    for _ in range(50):
        first, *later = await _pauses(monkeypatch, [None, None])
        firsts.add(round(first))
        assert later == [3600.0, 3600.0]
    assert firsts <= set(SOON_S)
    assert len(firsts) > 5


async def test_what_failed_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    _, after_failure, after_success = await _pauses(monkeypatch, [StorageUnavailableError(), None])
    assert round(after_failure) in SOON_S
    assert after_success == 3600.0


async def test_a_server_that_was_just_started_drops_what_is_too_old(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(NOW)
    async with start_server(clock=clock, raw_retention_days=30) as api:
        await api.ingest(*(sample(-DAY_S * day, pv_power_w=100 + day) for day in range(20)))
        await api.server.refresher.refresh_all()
    clock.now = NOW + timedelta(days=15)
    monkeypatch.setattr(retention, "_SOON_S", (0.0, 0.0))
    async with asyncio.timeout(PATIENCE_S), start_server(clock=clock, raw_retention_days=30) as api:
        while api.rows(f"SELECT FROM samples WHERE ts < timestamptz '{NOW}' - INTERVAL '17 days'"):  # noqa: ASYNC110 - the database tells of no event
            await asyncio.sleep(0.02)
        kept = api.rows(f"SELECT count(*) FROM samples WHERE ts > timestamptz '{NOW}' - INTERVAL '15 days'")
        assert kept == [(15,)]
        assert api.rows("SELECT sum(sample_count) FROM rollup_15m") == [(20,)]
