"""What an uploader says of a server that takes nothing: which of the reasons it is."""

from __future__ import annotations

import pytest

from reference_edge.health import health_lines
from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import ConnectionState, UploadSettings
from tests.edge.test_health import report
from tests.upload import server as play
from tests.upload.helpers import fill, running, until
from tests.upload.server import IngestServer

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (401, ConnectionState.REFUSED),
        (403, ConnectionState.REFUSED),
        (429, ConnectionState.TROUBLED),
        (500, ConnectionState.TROUBLED),
        (503, ConnectionState.TROUBLED),
        (404, ConnectionState.NOT_UNDERSTOOD),
        (413, ConnectionState.NOT_TAKEN),
        (422, ConnectionState.NOT_TAKEN),
    ],
)
async def test_a_refused_token_is_told_from_trouble_of_the_server(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, code: int, state: ConnectionState
) -> None:
    server.rule = play.status(code)
    await fill(spool, 1)
    async with running(spool, settings) as uploader:
        await until(lambda: uploader.status.connection is not ConnectionState.UNKNOWN)
        assert uploader.status.connection is state


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (ConnectionState.REFUSED, "server: it refuses the token, last upload none since the start"),
        (ConnectionState.TROUBLED, "server: it answers that it has trouble of its own, last upload none"),
        (
            ConnectionState.NOT_TAKEN,
            "server: it refuses a batch as a whole, last upload none",
        ),
        (ConnectionState.UNREACHABLE, "server: unreachable, last upload none"),
    ],
)
def test_status_has_words_for_each(state: ConnectionState, words: str) -> None:
    upload = {"connection": str(state), "last_success": None, "last_error": "because"}
    lines = list(health_lines(report(upload=upload, running=True, age_s=1.0)))
    assert [line for line in lines if line.startswith(words)]
    assert "server: because" in lines
