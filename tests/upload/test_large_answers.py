"""An answer may be as large as the batch needs, and take no more memory than that."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from aiohttp import web

from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import UploadSettings
from sungrow_lib.upload.status import ConnectionState
from sungrow_lib.upload.verdicts import Action, Reply, judge_reply
from tests.upload import server as play
from tests.upload.helpers import counted, fill, running, until
from tests.upload.server import Batch, IngestServer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("short_waits")]
_MOST_MB = 20
JUDGE = """
import resource
from sungrow_lib.upload.verdicts import Reply, judge_reply

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

size = 1024 * 500 + 64_000
for code in (200, 422):
    judge_reply(Reply(code, b"{}"), batch_id="b", seqs=range(500))
before = peak_mb()
for begin, piece, end in [
    ('{"x":[', "[],", "1]}"),
    ('{"batch_id":"b","conflicts":[', "{},", "1]}"),
    ('{"batch_id":"b","conflicts":[', '{"index":1,"code":"c","reason":"r"},', "1]}"),
    ('{"x":[', '"' + chr(92) + '"[",', "1]}"),
    ("[", "1,", "1]"),
    ('{"x":"', "[", '"}'),
    ('{"x":"', chr(92) + '"', '"}'),
    ("", '"', ""),
    ("", "[", ""),
]:
    for code in (200, 422):
        body = (begin + piece * ((size - 50) // len(piece)) + end).encode()
        print(judge_reply(Reply(code, body), batch_id="b", seqs=range(500)).action)
print(peak_mb() - before)
"""


def test_what_an_answer_is_made_of_takes_little_memory() -> None:
    command = [sys.executable, "-c", JUDGE]
    *actions, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert actions == [Action.ALARM, Action.HALVE] * 9
    assert float(peak) < _MOST_MB


def rejecting(reason: str) -> play.Behaviour:
    """Reject all, and say much about each."""

    async def behave(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        del server, request
        size = len(batch["samples"])
        rejected = [{"index": index, "code": "invalid", "reason": reason} for index in range(size)]
        return web.json_response(answer(batch["batch_id"], size, rejected), dumps=json.dumps)

    return behave


def answer(batch_id: str, size: int, rejected: list[dict[str, object]]) -> dict[str, object]:
    sums = {"batch_id": batch_id, "received": size, "inserted": 0, "duplicates": 0}
    lists = {"conflicts": [], "rejected": rejected, "deferred": []}
    return sums | lists | {"resend": False, "server_version": "1"}


@pytest.mark.parametrize("size", [1, 500, 10_000])
def test_the_most_that_a_server_has_to_say_is_an_answer(size: int) -> None:
    reason = 'stored before with other values of {"a": [1, 2]}, ' * 5
    verdicts: list[dict[str, object]] = [
        {"index": index, "code": "different_value", "reason": reason[:240]} for index in range(size)
    ]
    body = json.dumps(answer("b", size, verdicts), indent=2).encode()
    ruling = judge_reply(Reply(200, body), batch_id="b", seqs=range(size))
    assert ruling.settlement is not None
    assert len(ruling.settlement.rejected) == size


def test_a_newer_server_may_say_more_of_each_reading() -> None:
    more = {f"field_{number}": "new" for number in range(5)}
    verdicts = [{"index": index, "code": "invalid", "reason": "because", **more} for index in range(500)]
    body = json.dumps(answer("b", 500, verdicts)).encode()
    ruling = judge_reply(Reply(200, body), batch_id="b", seqs=range(500))
    assert ruling.settlement is not None
    assert len(ruling.settlement.rejected) == 500


def test_a_refusal_with_many_faults_tells_why() -> None:
    errors = [{"field": f"samples[{number}]", "message": "because"} for number in range(100)]
    about = {"type": "about:blank", "title": "Unprocessable", "status": 422}
    problem = about | {"detail": "a hundred faults", "errors": errors}
    ruling = judge_reply(Reply(422, json.dumps(problem).encode()), batch_id="b", seqs=range(500))
    assert "a hundred faults" in ruling.detail


@pytest.mark.parametrize("characters", [240, 900, 6_000])
async def test_a_server_that_says_much_of_each_reading_is_heard(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, characters: int
) -> None:
    """What is too much for a batch is not too much for a smaller one."""
    server.rule = rejecting("x" * characters)
    await fill(spool, 64)
    async with running(spool, replace(settings, batch_size=32)):
        await counted(spool, rejected=64)


async def test_an_answer_far_larger_than_the_batch_needs_changes_nothing(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 3)
    server.rule = play.raw(b" " * 200_000)
    async with running(spool, settings) as uploader:
        await until(lambda: any("larger" in alarm.detail for alarm in uploader.status.alarms))
        counts = await spool.counts()
        assert (counts.pending, counts.delivered) == (3, 0)
        server.rule = None
        await counted(spool, delivered=3)


async def test_a_large_page_does_not_hide_what_the_status_says(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 3)
    server.rule = play.raw(b"<p>" * 4_000_000, 503)
    async with running(spool, settings) as uploader:
        await until(lambda: uploader.status.connection is ConnectionState.TROUBLED)
        assert uploader.status.alarms == ()
        server.rule = None
        await counted(spool, delivered=3)
