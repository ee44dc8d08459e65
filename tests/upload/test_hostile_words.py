"""What a server says is kept and shown as one line of a bounded length."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import h11
import httpcore
import pytest
from aiohttp import web

from sungrow_lib.errors import RequestRefusedError
from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import UploadSettings
from sungrow_lib.upload.check import _require_device
from sungrow_lib.upload.http import _explain
from sungrow_lib.upload.verdicts import Reply, judge_reply
from tests.upload.helpers import counted, fill, running, until
from tests.upload.server import Batch, IngestServer, verdicts

pytestmark = pytest.mark.anyio
ODD = "\x1b]0;title\x07\x1b[2J one\ntwo\u202e"


def answer(size: int, **fields: object) -> dict[str, object]:
    body = {
        "batch_id": "b",
        "received": size,
        "inserted": 0,
        "duplicates": 0,
        "conflicts": [],
        "rejected": [],
    }
    body |= {"conflicts": [], "rejected": [], "deferred": []}
    return body | {"resend": False, "server_version": "1"} | fields


def test_words_are_one_line_without_control_characters() -> None:
    verdict = {"index": 0, "code": ODD, "reason": ODD * 500}
    body = answer(1, rejected=[verdict], server_version=ODD + "9" * 5_000_000)
    settlement = judge_reply(Reply(200, json.dumps(body).encode()), batch_id="b", seqs=[1]).settlement
    assert settlement is not None
    [(_, code, reason)] = settlement.rejected
    assert code.isprintable()
    assert reason.isprintable()
    assert settlement.server_version is not None
    assert settlement.server_version.isprintable()
    assert len(settlement.server_version) <= 100


def test_an_explanation_is_one_line_without_control_characters() -> None:
    body = json.dumps({"type": "t", "title": "t", "status": 404, "detail": ODD}).encode()
    assert judge_reply(Reply(404, body), batch_id="b", seqs=[1]).detail.isprintable()


async def test_what_check_says_of_a_refusal_is_one_line(settings: UploadSettings) -> None:
    verdict = {"index": 0, "code": ODD, "reason": ODD * 5_000}
    with pytest.raises(RequestRefusedError) as refused:
        _require_device(Reply(200, json.dumps(answer(1, rejected=[verdict])).encode()), "inv", settings)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1_500


def test_what_came_in_place_of_an_answer_is_not_quoted_whole() -> None:
    asked = h11.Connection(h11.CLIENT, max_incomplete_event_size=102400)
    asked.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    asked.send(h11.EndOfMessage())
    asked.receive_data(b"\0" * 90_000 + b"\r\n\r\n")
    with pytest.raises(h11.RemoteProtocolError) as caught:
        asked.next_event()
    assert len(_explain(httpcore.RemoteProtocolError(str(caught.value)))) < 500


async def test_a_server_that_is_another_one_each_time_does_not_fill_the_spool(
    spool: DurableSpool,
    server: IngestServer,
    settings: UploadSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sungrow_lib.spool.settling._MOST_VERSIONS", 5)

    async def rejects(server: IngestServer, _request: web.Request, batch: Batch) -> web.StreamResponse:
        size = len(batch["samples"])
        rejected = [{"index": index, "code": "invalid", "reason": "no"} for index in range(size)]
        version = f"v{len(server.seen)}"
        return web.json_response(
            answer(size, batch_id=batch["batch_id"], rejected=rejected, server_version=version)
        )

    server.rule = rejects
    await fill(spool, 8)
    async with running(spool, settings):
        await until(lambda: len(server.seen) > 12)
        with closing(sqlite3.connect(tmp_path / "spool.db")) as connection:
            [versions] = connection.execute("SELECT count(*) FROM server_version").fetchone()
        assert 1 <= versions <= 5
        server.rule = None
        await counted(spool, delivered=8)


async def test_a_server_that_rejects_all_took_nothing(
    spool: DurableSpool, server: IngestServer, settings: UploadSettings
) -> None:
    server.rule = verdicts("rejected", "invalid", lambda _: True)
    await fill(spool, 4)
    async with running(spool, settings) as uploader:
        await counted(spool, rejected=4)
        assert uploader.status.last_success is None
        assert uploader.status.delivered == 0
