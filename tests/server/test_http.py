"""The outside of the server: bodies, error answers, headers, limits, the OpenAPI document."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
import sys
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import psycopg
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from openapi_spec_validator import validate
from psycopg import sql
from yarl import URL

from reference_server.administration import create_token
from reference_server.answers import Answer
from reference_server.bodies import parse_json, read_body
from reference_server.connections import LOGGERS
from reference_server.front import _failure
from reference_server.metrics import Metrics
from reference_server.operations import OPERATIONS
from reference_server.problems import Problem
from reference_server.resources import web_folder
from reference_server.routes import ROUTES
from reference_server.storage.migrations import migrate
from sungrow_lib.logs import CONTEXT, JsonFormatter
from sungrow_lib.sample import format_ts
from tests.patience import PATIENCE_S
from tests.server.conftest import OTHER_TOKEN, Api, StartServer, sample

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.anyio


def _body(*samples: Any) -> bytes:
    return json.dumps({"samples": list(samples)}).encode()


async def test_gzip_and_zstd_bodies_also_in_several_parts(api: Api) -> None:
    plain = _body(sample(0), sample(1))
    half = len(plain) // 2
    for coding, compress in (("gzip", gzip.compress), ("zstd", zstd.compress)):
        for body in (compress(plain), compress(plain[:half]) + compress(plain[half:])):
            status, answer = await api.post_raw(body, **{"Content-Encoding": coding})
            assert (status, answer["received"]) == (200, 2)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_damaged_and_cut_bodies_are_400(api: Api, coding: str) -> None:
    whole = (gzip.compress if coding == "gzip" else zstd.compress)(_body(sample(0)))
    for body in (whole[:-3], b"nonsense", whole + b"x"):
        assert (await api.post_raw(body, **{"Content-Encoding": coding}))[0] == 400


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_body_of_a_great_many_parts_is_400(api: Api, coding: str) -> None:
    compress = gzip.compress if coding == "gzip" else zstd.compress
    for nothing, status in ((20, 200), (1000, 400)):  # to find the next costs what is left
        body = compress(b"") * nothing + compress(_body())
        assert (await api.post_raw(body, **{"Content-Encoding": coding}))[0] == status


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_bomb_is_413_and_never_unfolded(start_server: StartServer, coding: str) -> None:
    async with start_server(max_decompressed_bytes=100_000) as api:
        bomb = (gzip.compress if coding == "gzip" else zstd.compress)(b"[" * 50_000_000)
        assert len(bomb) < 100_000
        assert (await api.post_raw(bomb, **{"Content-Encoding": coding}))[0] == 413


@pytest.mark.parametrize(
    "part", [b"{}", b'{"device_id":"sh-1","ts":"2026-01-01T00:00:00Z"}', b"[]", b'{"x":[[],[],[],[]]}']
)
async def test_a_small_body_that_would_take_gigabytes_once_parsed_is_not_parsed(
    api: Api, part: bytes
) -> None:
    plain = b'{"samples":[' + b",".join([part] * (24_000_000 // (1 + len(part)))) + b"]}"
    bomb = zstd.compress(plain)
    assert len(bomb) < 10_000
    status, problem = await api.post_raw(bomb, **{"Content-Encoding": "zstd"})
    assert status == 413
    assert "far more parts" in problem["detail"]


async def test_what_an_edge_says_of_itself_is_short(api: Api) -> None:
    bomb = zstd.compress(b'{"edge_id": "box", "parts": [' + b"{}," * 500_000 + b"{}]}")
    headers = api.headers() | {"Content-Type": "application/json", "Content-Encoding": "zstd"}
    async with api.session.post(api.url + "/v1/edge-status", data=bomb, headers=headers) as answer:
        assert answer.status == 413


async def test_a_client_that_leaves_amid_its_body_is_no_failure_of_ours(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reading, answered = asyncio.Event(), asyncio.Queue[int]()

    async def read(*args: Any) -> bytes:
        reading.set()
        return await read_body(*args)

    def noted(request: web.BaseRequest, error: Exception) -> Answer:
        answer = _failure(request, error)
        answered.put_nowait(answer.status)
        return answer

    monkeypatch.setattr("reference_server.handlers.read_body", read)
    monkeypatch.setattr("reference_server.front._failure", noted)
    _, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    lines = ("POST /v1/ingest HTTP/1.1", "Host: x", f"Authorization: Bearer {api.token}")
    head = "\r\n".join((*lines, "Content-Type: application/json", "Content-Length: 100000", "", ""))
    writer.write(head.encode() + b'{"samples": [')
    async with asyncio.timeout(PATIENCE_S):
        await reading.wait()
        writer.close()
        assert await answered.get() == 400
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("value", ["a\r\nX-Evil: b", "a\nb", "a\r"])
async def test_no_header_ends_before_its_end(value: str) -> None:
    request = make_mocked_request("GET", "/health")
    with pytest.raises(ValueError, match="one line"):
        await Answer(b"{}", headers={"ETag": value}).prepare(request)


async def test_who_takes_no_answers_has_no_more_of_them_made(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = 0

    def counted(*_args: Any) -> None:
        nonlocal answered
        answered += 1

    monkeypatch.setattr(Metrics, "answered", counted)
    asked = 40_000
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(api.url.rpartition(":")[2])))
        client.settimeout(0)
        requests = b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n" * asked
        sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(client, requests))
        before, quiet = -1, 0
        async with asyncio.timeout(PATIENCE_S):
            while answered < asked and quiet < 3:
                before = answered
                await asyncio.sleep(1)
                quiet = quiet + 1 if answered == before > 0 else 0
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    assert 0 < answered < asked


async def test_limits_of_size_and_number(start_server: StartServer) -> None:
    async with start_server(max_request_bytes=2048, max_samples_per_request=3) as api:
        assert (await api.post_raw(_body(sample(0, text="x" * 3000))))[0] == 413
        assert (await api.post_raw(_body(*[sample(i) for i in range(4)])))[0] == 413
        assert (await api.post_raw(_body(*[sample(i) for i in range(3)])))[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"samples": [NaN]}',
        b'{"samples": [Infinity]}',
        b"[" * 100_000,
        b"1" * 10_000 + b"x",
    ],
)
async def test_what_is_not_json_is_400(api: Api, body: bytes) -> None:
    assert (await api.post_raw(body))[0] == 400


async def test_a_lone_surrogate_spoils_its_own_sample_only() -> None:
    assert parse_json(b'["\\ud800", 1]') == ["\ud800", 1]
    for body in (b'["\\ud800", NaN]', b'["\\ud800"' + b",[" * 500 + b"]" * 500 + b"]", b'["\\ud800"'):
        with pytest.raises(Problem) as caught:
            parse_json(body)
        assert caught.value.status == 400


@pytest.mark.parametrize("beside", ["e10", "e400", "1" * 300])
async def test_what_is_json_does_not_hang_on_what_stands_beside_it(beside: str) -> None:
    for body in (b'\xef\xbb\xbf["%s"]', b'["%s", "\xed\xa0\x80"]', b'["%s", NaN]', b'["%s"'):
        with pytest.raises(Problem) as caught:
            parse_json(body % beside.encode())
        assert caught.value.status == 400
    assert parse_json(b'[["%s"], 1]' % beside.encode()) == [[beside], 1]


@pytest.mark.parametrize("name", ["pv_power_w", "only_a_newer_edge_knows"])
@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 5_000, "[[1e400]]"])
async def test_numbers_beyond_any_float_spoil_their_own_sample_only(api: Api, name: str, number: str) -> None:
    spoilt = json.dumps(sample(1) | {name: 0}).replace("0}", number + "}")
    status, answer = await api.post_raw(f'{{"samples": [{json.dumps(sample(0))}, {spoilt}]}}'.encode())
    assert (status, answer["inserted"], len(answer["rejected"])) == (200, 1, 1)
    _, conflicts = await api.get("/v1/conflicts", device_id="sh-1")
    [aside] = conflicts["conflicts"]
    sent = [[number.strip("[]")]] if number.startswith("[") else number
    assert aside["reading"] == sample(1) | {name: sent}
    for path in ("/v1/realtime", "/v1/conflicts"):
        async with api.session.get(
            api.url + path, params={"device_id": "sh-1"}, headers=api.headers()
        ) as shown:
            assert "Infinity" not in await shown.text()


async def test_other_media_types_and_codings_are_415(api: Api) -> None:
    assert (await api.post_raw(_body(), content_type="text/plain"))[0] == 415
    assert (await api.post_raw(_body(), **{"Content-Encoding": "br"}))[0] == 415
    assert (await api.post_raw(_body(), content_type="application/json; charset=utf-8"))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/ingest", 405),
        ("DELETE", "/v1/realtime", 405),
        ("POST", "/health", 405),
        ("GET", "/static/../../pyproject.toml", 404),
        ("GET", "/static/%2e%2e/config.py", 404),
        ("GET", "/static/%2fetc/passwd", 404),
        ("GET", "/static/%00", 404),
        ("GET", "/static/not-there.js", 404),
        ("GET", "/static/", 404),
        ("POST", "/static/index.html", 405),
    ],
)
async def test_every_error_is_a_problem(api: Api, method: str, path: str, status: int) -> None:
    async with api.session.request(method, api.url + path, headers=api.headers()) as answer:
        assert answer.status == status
        assert answer.content_type == "application/problem+json"
        problem = await answer.json(content_type=None)
    assert problem.keys() == {"type", "title", "status", "detail"}
    assert problem["status"] == status


async def test_an_unforeseen_failure_is_500_without_details(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("password=secret")

    monkeypatch.setattr(type(api.server.latest), "json_of", fail)
    await api.ingest(sample(0))
    status, problem = await api.get("/v1/realtime", device_id="sh-1")
    assert status == 500
    assert "secret" not in json.dumps(problem)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"frame": "week"},
        {"frame": "day", "at": "2026-06"},
        {"frame": "day", "at": "9999-12-31"},
        {"frame": "day", "at": "0001-01-01"},
        {"frame": "day", "from": "2026-06-01T00:00:00Z"},
        {"from": "2026-06-01T00:00:00Z", "to": "2026-06-02T00:00:00Z"},
        {"from": "2026-06-01", "to": "2026-06-02", "bucket": "1h"},
        {"from": "2026-06-02T00:00:00Z", "to": "2026-06-01T00:00:00Z", "bucket": "1h"},
        {"from": "1970-06-02T00:00:00Z", "to": "2026-06-01T00:00:00Z", "bucket": "15m"},
        {"frame": "day", "fields": "avg_nothing"},
        {"frame": "day", "device_id": "a b"},
    ],
)
async def test_wrong_queries_are_422_with_errors(api: Api, query: dict[str, str]) -> None:
    await api.ingest(sample(0))
    status, problem = await api.get("/v1/series", **({"device_id": "sh-1"} | query))
    assert status == 422
    assert problem["errors"]


@pytest.mark.parametrize(
    ("query", "field", "message"),
    [
        ("frame=day&fram=month", "fram", "known are at, bucket, device_id, fields, frame, from, to"),
        ("frame=day&Frame=month", "Frame", "is no parameter here"),
        ("frame=day&frame=month", "frame", "may be given once"),
        ("frame=day&fields=pv_kwh&fields=load_kwh", "fields", "may be given once"),
        ("frame=day&%ff%00=1", "\ufffd\0", "is no parameter here"),
        ("frame=day&=1", "", "is no parameter here"),
        ("frame=week&token=secret", "token", "is no parameter here"),
    ],
)
async def test_parameters_that_are_not_there_or_there_twice_are_named(
    api: Api, query: str, field: str, message: str
) -> None:
    await api.ingest(sample(0))
    for _ in range(2):
        async with api.session.get(
            URL(f"{api.url}/v1/series?device_id=sh-1&{query}", encoded=True), headers=api.headers()
        ) as answer:
            assert (answer.status, answer.content_type) == (422, "application/problem+json")
            [fault] = (await answer.json(content_type=None))["errors"]
        assert fault["field"] == field
        assert message in fault["message"]
        assert "secret" not in str(fault)


async def test_a_device_that_may_be_named_though_none_is_needed_may_be_named_once(api: Api) -> None:
    path = "/v1/plants/series?plant=home&frame=day&device_id=sh-1&device_id=sh-2"
    async with api.session.get(api.url + path, headers=api.headers()) as answer:
        problem = await answer.json(content_type=None)
    assert problem["errors"] == [{"field": "device_id", "message": "may be given once"}]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/series?device_id=sh-1&frame=day&_=1781524800000",
        "/v1/realtime?device_id=sh-1&_nocache=1&_nocache=2",
        "/health?from=balancer",
        "/metrics?name=one&name=two",
        "/v1/devices?device_id=sh-1",
        "/?utm=1",
    ],
)
async def test_what_is_added_on_the_way_is_ignored(api: Api, path: str) -> None:
    await api.ingest(sample(0))
    async with api.session.get(URL(api.url + path, encoded=True), headers=api.headers()) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("path", ["/health", "/openapi.json", "/"])
async def test_what_is_open_answers_head_as_get(api: Api, start_server: StartServer, path: str) -> None:
    async with start_server(dsn="host=/nonexistent dbname=x") as homeless:
        homeless.server.database._pool.timeout = 0.2
        for server in (api, homeless):
            async with (
                server.session.get(server.url + path) as got,
                server.session.head(server.url + path) as head,
            ):
                assert (head.status, await head.read()) == (got.status, b"")
                for name in ("Content-Type", "Content-Length", "Cache-Control", "X-Frame-Options"):
                    assert head.headers.get(name) == got.headers.get(name)
    async with api.session.head(api.url + "/v1/ingest", headers=api.headers()) as answer:
        assert answer.status == 405


async def test_health_needs_no_token_and_tells_the_truth(api: Api, start_server: StartServer) -> None:
    async with api.session.get(api.url + "/health") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})
    async with start_server(dsn="host=/nonexistent dbname=x") as homeless:
        homeless.server.database._pool.timeout = 0.2
        async with api.session.get(homeless.url + "/health") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"]
        status, problem = await homeless.send(sample(0))
        assert (status, problem["status"]) == (503, 503)


async def test_an_admin_sees_what_is_behind(api: Api) -> None:
    admin = await create_token(api.dsn, "me", ["admin"], None, None)
    status, health = await api.get("/health", token=admin)
    [(version,)] = api.rows("SELECT split_part(current_setting('server_version'), ' ', 1)")
    has = bool(api.rows("SELECT FROM pg_extension WHERE extname = 'timescaledb'"))
    assert (status, health["status"], health["rollup_marks"]) == (200, "ok", 0)
    assert health["engine"]["postgresql"] == version
    assert (health["engine"]["timescaledb"] is not None, health["engine"]["community"]) == (has, has)
    assert await api.get("/health") == (200, {"status": "ok"})  # a reader's token shows no more than none
    assert await api.get("/health", token="wrong-token-0123456789") == (200, {"status": "ok"})


async def test_every_answer_and_every_line_of_its_log_has_the_request_s_id(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for given, kept in (("trace-1.a", True), ("x y", False), ("a" * 65, False), (None, False)):
        headers = api.headers() | ({"X-Request-ID": given} if given else {})
        async with api.session.get(api.url + "/v1/devices", headers=headers) as answer:
            shown = answer.headers["X-Request-ID"]
        assert (shown == given) is kept
        last = [record for record in caplog.records if record.name == "reference_server.access"][-1]
        assert vars(last)["request_id"] == shown


async def test_only_requests_with_a_problem_are_logged_where_no_others_are_wanted(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with start_server(access_log="problems") as api:
        for path in ("/health", "/v1/nothing"):
            async with api.session.get(api.url + path) as answer:
                await answer.read()
    lines = [record for record in caplog.records if record.name == "reference_server.access"]
    assert [(vars(line)["path"], vars(line)["status"]) for line in lines] == [("/v1/nothing", 404)]


async def test_the_log_names_who_asked_a_trusted_proxy(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def remotes() -> list[str]:
        found = [
            vars(record)["remote"] for record in caplog.records if record.name == "reference_server.access"
        ]
        caplog.clear()
        return found

    asked = (
        ("203.0.113.9", "/v1/devices"),
        ("1.2.3.4, 203.0.113.8", "/v1/nothing"),  # the client may have written the first
        ("2001:db8::9", "/health"),
        ("", "/health"),
    )
    for proxies, expected in (
        ("127.0.0.1", ["203.0.113.9", "203.0.113.8", "2001:db8::9", "127.0.0.1"]),
        ("10.0.0.1", ["127.0.0.1"] * 4),  # who is no proxy of ours is not believed
    ):
        async with start_server(trusted_proxies=proxies) as api:
            for forwarded, path in asked:
                headers = api.headers() | ({"X-Forwarded-For": forwarded} if forwarded else {})
                async with api.session.get(api.url + path, headers=headers) as answer:
                    await answer.read()
        assert remotes() == expected


async def test_what_is_no_http_is_not_logged_as_the_request_before_it(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with start_server(trusted_proxies="127.0.0.1") as api:
        url = URL(api.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")
        await reader.readuntil(b"}")
        writer.write(b"rubbish\r\n\r\n")
        await reader.read()
        writer.close()
    lines = [vars(record) for record in caplog.records if record.name == "reference_server.access"]
    assert [(line["remote"], line["status"]) for line in lines] == [("203.0.113.9", 200), ("127.0.0.1", 400)]


@pytest.mark.parametrize(("took_s", "lines"), [(0.99, 0), (1.0, 1)])
def test_so_are_slow_ones(took_s: float, lines: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    logger = LOGGERS["problems"](logging.getLogger(), "")
    logger.log(make_mocked_request("GET", "/health"), web.Response(), took_s)
    assert len([record for record in caplog.records if record.name == "reference_server.access"]) == lines


def test_what_is_logged_while_answering_has_the_request_s_id() -> None:
    record = logging.makeLogRecord({"msg": "slow", "levelname": "WARNING"})
    token = CONTEXT.set({"request_id": "abc"})
    try:
        assert json.loads(JsonFormatter().format(record))["request_id"] == "abc"
    finally:
        CONTEXT.reset(token)
    assert "request_id" not in json.loads(JsonFormatter().format(record))


@pytest.mark.parametrize("moment", [0.0, 1_790_000_000.0, 1_790_000_000.0009, 1_790_000_059.9994, 1.9999996])
def test_a_log_line_says_when(moment: float) -> None:
    record = logging.makeLogRecord({"msg": "slow", "levelname": "WARNING", "created": moment})
    assert json.loads(JsonFormatter().format(record))["time"] == format_ts(
        datetime.fromtimestamp(moment, UTC)
    )


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_no_log_line_shows_a_token(scheme: str) -> None:
    record = logging.makeLogRecord({"msg": "odd header", "header": f"Authorization: {scheme} sgw_secret"})
    assert json.loads(JsonFormatter().format(record))["header"] == f"Authorization: {scheme} ***"


async def test_a_database_without_schema_is_503_until_it_is_migrated(
    api: Api,
) -> None:
    with psycopg.connect(api.dsn) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    status, problem = await api.send(sample(0))
    assert status == 503
    assert "sungrow-server migrate" in problem["detail"]
    migrate(api.dsn)
    assert (await api.send(sample(0)))[0] == 200


async def test_a_full_disk_of_the_database_is_503_and_named_whatever_language_it_speaks(api: Api) -> None:
    refuse = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE EXCEPTION 'konnte Datei nicht erweitern: Kein Platz' USING ERRCODE = '53100';
    END $$;
    CREATE TRIGGER disk_is_full BEFORE INSERT ON rollup_marks FOR EACH STATEMENT EXECUTE FUNCTION refuse();
    """
    with psycopg.connect(api.dsn, autocommit=True) as connection:
        connection.execute(refuse.encode())
        status, problem = await api.send(sample(0))
        assert (status, problem["detail"].split(";")[0]) == (503, "the database's disk is full")
        assert (await api.get("/v1/devices"))[0] == 200
        connection.execute("DROP TRIGGER disk_is_full ON rollup_marks")
    assert (await api.send(sample(0)))[0] == 200


async def test_a_database_that_may_only_be_read_is_503_until_it_may_be_written(api: Api) -> None:
    """A standby after a failover, say, or one whose administrator wants no writes."""

    def allow(*, only_reads: bool) -> None:
        with psycopg.connect(api.dsn, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            name = sql.Identifier(connection.info.dbname)
            value = sql.Literal("on" if only_reads else "off")
            statement = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
            connection.execute(statement.format(name, value))
            connection.execute(  # sessions that are open know nothing of it
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    assert (await api.send(sample(0)))[0] == 200
    reader = await create_token(api.dsn, "reader", ["read"], None, None)
    allow(only_reads=True)
    for _ in range(5):  # the first may meet sessions that were ended
        status, problem = await api.send(sample(5))
        assert status == 503
    assert "read-only" in problem["detail"]
    for token in (None, reader):
        assert (await api.get("/v1/realtime?device_id=sh-1", token=token))[0] == 200
    status, health = await api.get("/health")
    assert (status, "may only be read" in health["detail"]) == (503, True)
    allow(only_reads=False)
    statuses = [(await api.send(sample(5)))[0] for _ in range(5)]
    assert statuses[-1] == 200
    assert set(statuses) <= {200, 503}


async def test_the_page_is_served_with_a_strict_policy_and_asks_nobody_else(api: Api) -> None:
    files = [path for path in web_folder().rglob("*") if path.suffix in {".html", ".js", ".css", ".svg"}]
    assert len(files) >= 4, "the page is not built: `make test` builds it"
    for path in ("/", *(f"/static/{file.relative_to(web_folder())}" for file in files)):
        async with api.session.get(api.url + path) as answer:
            assert answer.status == 200
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Server"].startswith("sungrow-server/")  # not what it is built with
            text = (await answer.text()).replace("http://www.w3.org/", "")  # a name, not an address
            assert "http://" not in text
            assert "https://" not in text


async def test_the_openapi_document_is_valid_and_the_server_serves_what_it_says(api: Api) -> None:
    async with api.session.get(api.url + "/openapi.json") as answer:
        document = await answer.json()
    validate(document)
    assert document["openapi"].startswith("3.1")
    told = {(method, path) for path, methods in document["paths"].items() for method in methods}
    routed = {(route.method.lower(), route.path) for route in ROUTES if route.method != "HEAD"}
    assert told == {(op.method.lower(), op.path) for op in OPERATIONS}
    assert told == {(m, p) for m, p in routed if p != "/" and not p.startswith("/static")}


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01 this is no HTTP\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret-in-a-header"
        + b"a" * 20_000
        + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem_too(
    api: Api, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    port = int(api.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 400 " in head.partition(b"\r\n")[0]
    assert b"Content-Type: application/problem+json" in head
    assert json.loads(body)["status"] == 400
    assert "secret" not in caplog.text
    assert "Traceback" not in caplog.text


async def _raw(api: Api, *parts: bytes, after_each: bytes = b"") -> bytes:
    """Send bytes, the next part once there is an answer that ends with ``after_each``; return all answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    answer = b""
    for number, part in enumerate(parts):
        if number:
            answer += await asyncio.wait_for(reader.readuntil(after_each), PATIENCE_S)
        writer.write(part)
    answer += await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    return answer


def _request(target: str, *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    head = [f"{method} {target} HTTP/{version}", "Host: a", "Connection: close", *lines]
    return "\r\n".join((*head, "", "")).encode()


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/v1/%72ealtime?device_id=sh-1", 200),
        ("/v1/realtime?device_id=sh%2D1", 200),
        ("/v1%2Frealtime?device_id=sh-1", 404),
        ("//v1/realtime?device_id=sh-1", 404),
        ("/v1/realtime/?device_id=sh-1", 404),
        ("http://another.example/v1/realtime?device_id=sh-1", 200),
    ],
)
async def test_a_path_may_be_written_in_several_ways(api: Api, target: str, status: int) -> None:
    await api.ingest(sample(0))
    for _ in range(2):  # the second time what is asked is known
        answer = await _raw(api, _request(target, f"Authorization: Bearer {api.token}"))
        assert answer.startswith(b"HTTP/1.1 %d " % status)


async def test_other_methods_are_told_those_there_are(api: Api) -> None:
    for path, methods in (("/v1/edge-status", "GET,HEAD,POST"), ("/static/index.html", "GET,HEAD")):
        async with api.session.put(api.url + path, headers=api.headers()) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, methods)


async def test_who_asks_comes_before_what_is_asked(api: Api) -> None:
    await api.ingest(sample(0))
    for query in ("device_id=sh-1", "device_id=no%20name"):
        path = f"{api.url}/v1/realtime?{query}"
        for headers, known in ((api.headers(), True), ({}, False), (api.headers("wrong-0123456789"), False)):
            async with api.session.get(path, headers=headers) as answer:
                assert (answer.status != 401) is known


@pytest.mark.parametrize(("version", "said"), [("1.0", (1, 1)), ("1.1", (0, 1))])
async def test_a_connection_stays_open_for_as_long_as_the_client_likes(
    api: Api, version: str, said: tuple[int, int]
) -> None:
    asked = [_request("/health", version=version).replace(b"close", how) for how in (b"keep-alive", b"close")]
    answers = await _raw(api, *asked, after_each=b'{"status":"ok"}')
    assert answers.count(b"HTTP/%b 200 OK\r\n" % version.encode()) == 2
    assert answers.count(b'{"status":"ok"}') == 2
    assert tuple(answers.count(b"\r\nConnection: %b\r\n" % how) for how in (b"keep-alive", b"close")) == said


@pytest.mark.parametrize(
    "path", ["/health", "/static/index.html", "/v1/series?frame=day", "/v1/series?bucket=raw&{}", "/nothing"]
)
async def test_a_server_that_ends_says_so_with_every_answer(api: Api, path: str) -> None:
    await api.send(sample(0, device_id="other"), token=OTHER_TOKEN)
    path = api.url + path.format("from=2026-06-15T00:00:00Z&to=2026-06-16T00:00:00Z")
    for said in (None, "close"):
        async with api.session.get(path, headers=api.headers(OTHER_TOKEN)) as answer:
            assert answer.headers.get("Connection") == said
        api.server.stopping.set()


@pytest.mark.parametrize("path", ["/health", "/static/index.html", "/nothing", "/v1/series?frame=day"])
async def test_every_answer_says_when_and_how_long_it_is_and_what_browsers_may_do(
    api: Api, path: str
) -> None:
    await api.send(sample(0, device_id="other"), token=OTHER_TOKEN)
    headers = api.headers(OTHER_TOKEN) | {"Accept-Encoding": "identity"}
    for _ in range(2):
        async with api.session.get(api.url + path, headers=headers) as answer:
            body = await answer.read()
        assert parsedate_to_datetime(answer.headers["Date"]).utcoffset() == timedelta()
        assert abs(parsedate_to_datetime(answer.headers["Date"]) - datetime.now(UTC)) < timedelta(minutes=1)
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Request-ID"]
        assert answer.headers.get("Content-Length", "0") == str(len(body))
        assert len(answer.headers.keys()) == len(set(answer.headers.keys()))
        headers |= {"If-None-Match": answer.headers.get("ETag", "*" * 8)}
    assert (answer.status == 304) is (path.startswith(("/static", "/v1")))


async def test_who_waits_for_leave_to_send_a_body_gets_it_once_known(api: Api) -> None:
    body = _body(sample(0))
    head = [f"Content-Length: {len(body)}", "Content-Type: application/json", "Expect: 100-continue"]
    request = _request("/v1/ingest", *head, f"Authorization: Bearer {api.token}", method="POST")
    answer = await _raw(api, request, body, after_each=b"HTTP/1.1 100 Continue\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 1
    assert b'"inserted":1' in answer
    refused = await _raw(api, _request("/v1/ingest", *head, method="POST"), body, after_each=b"\r\n")
    assert refused.startswith(b"HTTP/1.1 401 ")


async def test_what_waits_too_long_is_told_in_time(
    api: Api, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.ingest(sample(0))
    monkeypatch.setattr("reference_server.storage.database.STATEMENT_MS", 200)
    async with start_server() as hurried:
        async with asyncio.timeout(PATIENCE_S), await psycopg.AsyncConnection.connect(api.dsn) as blocker:
            await blocker.execute("LOCK TABLE samples IN ACCESS EXCLUSIVE MODE")
            async with hurried.session.post(
                hurried.url + "/v1/ingest", json={"samples": [sample(1)]}, headers=hurried.headers()
            ) as answer:
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) >= 5
                assert "timeout" in (await answer.json(content_type=None))["detail"]
        while (status := (await hurried.send(sample(1)))[0]) == 503:  # noqa: ASYNC110 - a busy machine may need more
            await asyncio.sleep(0.05)
        assert status == 200
    assert (await api.ingest(sample(1)))["duplicates"] == 1


async def test_rollups_have_all_the_time_they_need(
    api: Api, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.ingest(sample(0))
    monkeypatch.setattr("reference_server.storage.database.STATEMENT_MS", 1_000)
    async with start_server() as hurried:
        async with await psycopg.AsyncConnection.connect(hurried.dsn) as blocker:
            await blocker.execute("LOCK TABLE rollup_15m IN ACCESS EXCLUSIVE MODE")
            refreshing = asyncio.create_task(hurried.server.refresher.refresh_all())
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock' AND query_start < clock_timestamp() - INTERVAL '1.2 s'"
            )
            async with asyncio.timeout(PATIENCE_S):
                while api.rows(waiting) == [(0,)]:
                    assert not refreshing.done()
                    await asyncio.sleep(0.02)
        await refreshing
        assert api.rows("SELECT sample_count FROM rollup_15m") == [(1,)]
