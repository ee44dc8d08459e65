"""A server that fails now in this way and now in another, for days, does not fill the log."""

from __future__ import annotations

import itertools
import logging
from collections import Counter, defaultdict
from dataclasses import replace

import anyio
import pytest
from aiohttp import web

from sungrow_lib.logs import Repeated
from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import UploadSettings
from tests.patience import PATIENCE_S
from tests.upload import server as play
from tests.upload.helpers import counted, fill, running, until
from tests.upload.server import Batch, Behaviour, IngestServer

_REQUESTS = 80
_DAY_S = 86_400
_EVERY_S = 600.0


async def other_codes(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
    """Reject all, each for another reason."""
    return await play.verdicts("rejected", f"c{len(server.seen)}", lambda _: True)(server, request, batch)


async def other_statuses(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
    """Answer with another status each time."""
    return await play.status(500 + len(server.seen) % 400)(server, request, batch)


async def other_explanations(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
    """Say something else each time, in a way that is no HTTP."""
    del batch
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 200 OK\r\nHeader-%d : x\r\n\r\n" % len(server.seen))
    request.transport.abort()
    return web.Response()


TURNS: dict[str, list[Behaviour]] = {
    "500, no answer": [play.status(500), play.cut_before_answer],
    "500, garbage, 500": [play.status(500), play.raw(b"garbage"), play.status(500)],
    "no answer, well": [play.cut_before_answer, play.answer],
    "500, well": [play.status(500), play.answer],
    "garbage, well": [play.raw(b"garbage"), play.answer],
    "401, well": [play.status(401), play.answer],
    "401, 500, 413, well": [play.status(401), play.status(500), play.status(413), play.answer],
    "rejects for ever other reasons": [other_codes],
    "ever other statuses": [other_statuses],
    "ever other breaches of HTTP": [other_explanations, play.answer],
}


@pytest.mark.anyio
@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("turns", TURNS)
async def test_each_kind_of_trouble_is_said_once_in_ten_minutes(
    spool: DurableSpool,
    settings: UploadSettings,
    server: IngestServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    turns: str,
) -> None:
    monkeypatch.setattr("sungrow_lib.upload.lanes._SAME_TOKEN_S", 0.01)
    endless = itertools.cycle(TURNS[turns])

    async def next_turn(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        return await next(endless)(server, request, batch)

    server.rule = next_turn
    with caplog.at_level(logging.INFO, "sungrow_lib.upload"):
        async with running(spool, replace(settings, backlog_workers=1)):
            with anyio.fail_after(PATIENCE_S):
                while len(server.seen) < _REQUESTS:
                    await fill(spool, 1)
                    await anyio.sleep(0.01)
            server.rule = None
            await counted(spool, pending=0)
    lines = Counter(record.getMessage() for record in caplog.records)
    assert sum(lines.values()) <= 42, lines
    if not turns.startswith(("rejects", "ever")):
        assert max(lines.values()) <= len(TURNS[turns]) + 1, lines


@pytest.mark.anyio
@pytest.mark.usefixtures("short_waits")
async def test_no_other_trouble_hides_an_alarm_and_one_that_lasts_stays_an_error(
    spool: DurableSpool,
    settings: UploadSettings,
    server: IngestServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def errors() -> list[str]:
        return [record.levelname for record in caplog.records if getattr(record, "code", "") == "http_403"]

    monkeypatch.setattr("sungrow_lib.upload.lanes._SAME_TOKEN_S", 0.01)
    server.rule = other_statuses
    await fill(spool, 3)
    with caplog.at_level(logging.INFO, "sungrow_lib.upload"):
        async with running(spool, replace(settings, backlog_workers=1)) as uploader:
            await until(lambda: len(server.seen) >= 40)
            server.rule = play.status(403)
            await until(lambda: bool(errors()))
            monkeypatch.setattr(uploader._link, "_said", defaultdict(lambda: Repeated(0.0)))
            await until(lambda: len(errors()) >= 3)
    assert set(errors()) == {"ERROR"}


class _Day:
    """Hours that go by at once."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("kinds", [1, 2, 5])
def test_trouble_that_comes_and_goes_all_day_is_said_every_ten_minutes(kinds: int) -> None:
    clock, said, ends, counted_times = _Day(), 0, 0, 0
    troubles = Repeated(_EVERY_S, clock)
    for minute in range(_DAY_S // 60):
        clock.now = minute * 60.0
        times = troubles.count(f"kind {minute % kinds}")
        said += times is not None
        counted_times += times or 0
        ends += troubles.over()
    most = _DAY_S / _EVERY_S
    assert most / 2 <= said <= kinds * most
    assert 1 <= ends <= said
    assert counted_times >= _DAY_S // 60 * 0.8  # what is not said is counted


def test_ever_other_troubles_take_little_memory_and_few_lines() -> None:
    clock = _Day()
    troubles = Repeated(_EVERY_S, clock)
    times = [troubles.count(str(number)) for number in range(10_000)]
    assert 2 <= sum(found is not None for found in times) <= 40
    assert len(troubles._said) <= 40
    clock.now = _EVERY_S - 1
    assert troubles.count("one more") is None
    assert len(troubles._said) <= 40
    clock.now = _EVERY_S
    assert troubles.count("one more") == 1


def test_what_is_over_for_long_is_new_when_it_comes_again() -> None:
    clock = _Day()
    troubles = Repeated(_EVERY_S, clock)
    assert troubles.count("a") == 1
    assert troubles.count("a") is None
    assert troubles.over()
    assert not troubles.over()
    clock.now = _EVERY_S + 1
    assert not troubles.over()
    clock.now = _DAY_S
    assert troubles.count("a") == 1
