"""A server that goes back twice, the second time between a batch and its witness: who used up all is caught.

The short form of what a storm would have to hit upon. The inverter of an edge sleeps, so that nothing new
comes, and the edge sends all again. What it sends alone is held on its way until the server goes back again.
"""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import anyio
import pytest
import trustme
from aiohttp import web

from sungrow_lib.spool import DurableSpool
from sungrow_lib.spool.entries import to_ms
from sungrow_lib.upload import BatchUploader, UploadSettings
from sungrow_lib.upload.witnesses import Witnesses
from tests.crash import broken
from tests.crash.account import Account, Fed, judge_fed
from tests.crash.readings import Key, Tally, reading
from tests.patience import PATIENCE_S
from tests.upload import server as play
from tests.upload.server import Batch, IngestServer

KEPT: Final = 160
"""Readings both backups have."""
LATER: Final = 12
"""Readings that come after them: more than witnesses can be."""
_SETTLED: Final = 24
"""So many requests after the server has all of these again, only witnesses' names prove anything."""
_HELD: Final = 16
"""So often something that is sent alone is held: more often than there are witnesses."""
BEGIN: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
pytestmark = pytest.mark.anyio


@dataclass
class GoingBack:
    """A rule for the server: it asks for all where it lacks something, and goes back in the worst moment."""

    backup: dict[tuple[str, str], Batch] = field(default_factory=dict)
    held: list[Batch] = field(default_factory=list)
    count: int = 0
    times: int = 0

    def restore(self, server: IngestServer) -> None:
        server.stored = dict(self.backup)
        self.times += 1

    async def __call__(self, server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        self.count += self.times == 1 and len(server.stored) > KEPT + LATER
        if self.times == 1 and self.count > _SETTLED and len(batch["samples"]) == 1:
            self.held.append(batch)
            if len(self.held) == _HELD:
                self.restore(server)
                for late in self.held:
                    play.judge(server, late)
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        reply = play.judge(server, batch)
        missing = play.lacks(server, batch)
        return web.json_response(reply | {"resend": missing and self.times > 0})


class _Edge:
    """A spool that is fed, and the ledger of that."""

    def __init__(self, spool: DurableSpool) -> None:
        self._spool, self.tally = spool, Tally()

    async def take(self, count: int) -> None:
        for _ in range(count):
            key = Key("spending", "inv", len(self.tally.tried) + 1)
            ts = BEGIN + timedelta(seconds=5 * key.number)
            self.tally.tried[key], self.tally.taken_at[key] = to_ms(ts), 0.0
            await self._spool.append(reading(1, key, ts), ts_is_final=True)
            self.tally.accepted.add(key)

    async def drained(self) -> None:
        with anyio.fail_after(PATIENCE_S):
            while (await self._spool.counts()).undelivered:  # noqa: ASYNC110 - looked at from outside
                await anyio.sleep(0.01)


async def account_of(folder: Path) -> Account:
    """Play it with real parts on the edge's side; judge what is on the server in the end."""
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    async with IngestServer(context) as server, DurableSpool.open(folder / "spool.sqlite") as spool:
        settings = UploadSettings(
            server_url=server.url,
            token=server.token,
            ca_file=folder / "ca.pem",
            batch_size=4,
            upload_interval_s=0.02,
            backlog_workers=1,
        )
        edge, rule = _Edge(spool), GoingBack()
        server.rule = rule
        async with BatchUploader(spool, settings) as uploader, anyio.create_task_group() as tasks:
            tasks.start_soon(uploader.run)
            await edge.take(KEPT)
            await edge.drained()
            rule.backup = dict(server.stored)
            await edge.take(LATER)
            await edge.drained()
            rule.restore(server)
            await edge.take(1)  # by its answer the edge learns of it; then its inverter sleeps
            with anyio.fail_after(PATIENCE_S):
                while rule.times == 1:  # noqa: ASYNC110 - looked at from outside
                    await anyio.sleep(0.01)
            await edge.drained()
            await edge.take(1)
            await edge.drained()
            tasks.cancel_scope.cancel()
        rows = [json.loads(json.dumps(row)) for row in server.stored.values()]
    account = Account()
    judge_fed(account, Fed(edge.tally), [{n: v for n, v in r.items() if n != "__seq"} for r in rows], [])
    return account


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sungrow_lib.upload.backoff.FIRST_S", 0.01)
    monkeypatch.setattr("sungrow_lib.upload.backoff.LIMIT_S", 0.05)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_second_restore_between_a_batch_and_its_witness_costs_nothing(tmp_path: Path) -> None:
    account = await account_of(tmp_path)
    assert account.holds, account.findings
    assert account.stored == KEPT + LATER + 2


async def test_an_edge_that_uses_up_its_witnesses_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("next", "answered"):  # put back in the end
        monkeypatch.setattr(Witnesses, name, getattr(Witnesses, name))
    broken.apply("uses up its witnesses")
    account = await account_of(tmp_path)
    assert account.lost, account.findings
    assert len(account.findings) == len(account.lost), account.findings
