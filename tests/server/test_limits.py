"""Who asks too often, who guesses tokens, who asks behind a proxy; and what the process counts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from pydantic import SecretStr

from reference_server.administration import create_token
from reference_server.config import ServerSettings, TrustedNetwork
from reference_server.limits import Allowance, Guard, Visitor, client_address, household
from reference_server.problems import Problem, come_back, not_now
from reference_server.server import Server
from reference_server.shared_table import OwnTable, SharedTable
from sungrow_lib.demo.setup import free_ports
from tests.server.conftest import OTHER_TOKEN, TOKEN, Api, StartServer, sample

pytestmark = [pytest.mark.anyio, pytest.mark.one_engine]


async def _status(api: Api, token: str, **headers: str) -> tuple[int, str | None]:
    sent = api.headers(token) | {name.replace("_", "-"): value for name, value in headers.items()}
    async with api.session.get(api.url + "/v1/devices", headers=sent) as answer:
        return answer.status, answer.headers.get("Retry-After")


async def test_a_token_that_asks_too_often_is_told_when_to_come_back(start_server: StartServer) -> None:
    async with start_server(requests_per_minute=5) as api:
        assert [(await _status(api, TOKEN))[0] for _ in range(5)] == [200] * 5
        status, retry_after = await _status(api, TOKEN)
        assert status == 429
        assert 1 <= int(retry_after or 0) <= 30
        assert (await _status(api, OTHER_TOKEN))[0] == 429  # the address is the same


def _pauses(problem: Problem) -> int:
    return int(problem.response().headers["Retry-After"])


@pytest.mark.parametrize("per_minute", [600, 60, 40, 4])
def test_who_asked_too_often_at_once_does_not_come_back_at_once(
    per_minute: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reference_server.limits.monotonic", lambda: 1000.0)
    guard, visitor, pauses = Guard(per_minute, 0), Visitor("192.0.2.1", b"token"), set()
    for _ in range(per_minute):
        guard.request(visitor)
    for _ in range(300):
        with pytest.raises(Problem) as refused:
            guard.request(visitor)
        pauses.add(_pauses(refused.value))
        assert f"come back in {_pauses(refused.value)} s" in refused.value.detail
    assert min(pauses) >= 60 / per_minute
    assert len(pauses) >= 4


@pytest.mark.parametrize("wait_s", [0.0, 0.01, 0.99, 1.0, 1.01, 2.5, 15.0, 60.0, 3000.0])
def test_pauses_are_whole_seconds_of_chance_never_shorter_than_the_wait(wait_s: float) -> None:
    pauses = {come_back(wait_s) for _ in range(500)}
    assert min(pauses) >= max(1, wait_s)
    assert max(pauses) <= max(1, wait_s) * 1.5 + 5
    assert len(pauses) >= 4


def test_a_database_that_is_away_is_not_asked_by_all_at_once_either() -> None:
    pauses = {_pauses(not_now("away")) for _ in range(300)}
    assert min(pauses) >= 5
    assert len(pauses) >= 4


OLD_S = -3600.0  # an hour ago: a backlog


async def test_a_draining_backlog_makes_no_fresh_reading_wait(start_server: StartServer) -> None:
    async with start_server(requests_per_minute=3) as api:
        for number in range(3):
            await api.ingest(sample(OLD_S + number))
        for number in range(2):
            status, problem = await api.send(sample(OLD_S + 10 + number))
            assert (status, problem["status"]) == (429, 429)
        for number in range(3):
            await api.ingest(sample(number))  # fresh ones have an allowance of their own
        assert api.rows("SELECT count(*) FROM samples") == [(6,)]  # nothing of what was refused is stored


async def test_fresh_readings_make_no_backlog_wait(start_server: StartServer) -> None:
    async with start_server(requests_per_minute=3) as api:
        for number in range(3):
            await api.ingest(sample(number))
        assert (await api.send(sample(5)))[0] == 429
        assert (await _status(api, TOKEN))[0] == 429  # who reads counts beside the fresh ones
        await api.ingest(sample(OLD_S))


@pytest.mark.parametrize(
    ("fields", "rubbish"),
    [
        pytest.param({}, [], id="quickly read"),
        pytest.param({"from_a_newer_edge": 1}, [{"device_id": "sh-1", "ts": 5}, 7], id="read the long way"),
    ],
)
async def test_the_youngest_reading_says_what_a_batch_is(
    start_server: StartServer, fields: dict[str, Any], rubbish: list[Any]
) -> None:
    async with start_server(requests_per_minute=1) as api:
        await api.ingest(sample(OLD_S, **fields))
        assert (await api.send(sample(OLD_S + 1, **fields)))[0] == 429
        await api.ingest(sample(OLD_S + 2, **fields), sample(0, **fields), *rubbish)
        assert (await api.send(sample(1, **fields)))[0] == 429


async def test_rubbish_is_read_so_often_only(start_server: StartServer) -> None:
    async with start_server(requests_per_minute=2) as api:
        statuses = [(await api.post_raw(b"rubbish"))[0] for _ in range(8)]
        assert statuses == [400] * 6 + [429] * 2  # three times the limit, whatever becomes of it
        assert (await _status(api, TOKEN))[0] == 200


async def test_a_body_that_would_be_refused_anyway_is_not_read(start_server: StartServer) -> None:
    async with start_server(requests_per_minute=1) as api:
        await api.ingest(sample(0))
        await api.ingest(sample(OLD_S))
        assert (await api.post_raw(b"rubbish"))[0] == 429


async def test_behind_a_trusted_proxy_each_client_counts_for_itself(start_server: StartServer) -> None:
    async with start_server(requests_per_minute=3, trusted_proxies="127.0.0.0/8") as api:
        for _ in range(3):
            assert (await _status(api, TOKEN, X_Forwarded_For="203.0.113.1"))[0] == 200
        assert (await _status(api, OTHER_TOKEN, X_Forwarded_For="203.0.113.1"))[0] == 429
        assert (await _status(api, OTHER_TOKEN, X_Forwarded_For="203.0.113.1, 203.0.113.2"))[0] == 200


async def test_guessing_is_ended_and_good_tokens_go_on(start_server: StartServer) -> None:
    async with start_server(failed_logins_per_minute=4) as api:
        assert (await _status(api, TOKEN))[0] == 200
        for number in range(4):
            assert (await _status(api, f"wrong-token-{number}-0123456789"))[0] == 401
        status, retry_after = await _status(api, "wrong-token-9-0123456789")
        assert (status, bool(retry_after)) == (429, True)
        assert (await _status(api, TOKEN))[0] == 200
        new = await create_token(api.dsn, "new", ["read"], ["sh-1"], None)
        assert (await _status(api, new))[0] == 429


def test_a_token_that_was_good_for_one_process_is_for_all(tmp_path: Path) -> None:
    one, other = (Guard(0, 2, SharedTable(tmp_path / "table")) for _ in range(2))
    good, guess = Visitor("203.0.113.1", b"good token"), Visitor("203.0.113.1", b"a guess")
    one.logged_in(good)
    for _ in range(2):
        one.failed(guess)
    other.before_login(good)
    with pytest.raises(Problem, match="wrong tokens"):
        other.before_login(guess)


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),  # not a proxy of ours: not believed
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.2.3.4, 203.0.113.9", "203.0.113.9"),  # the client may have written the rest
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "rubbish", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::/64"),
        ("10.0.0.1", "2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "", "203.0.113.9"),
    ],
)
def test_only_trusted_forwarders_are_believed(remote: str, forwarded: str, expected: str) -> None:
    settings = ServerSettings(database_url="x", trusted_proxies="10.0.0.0/8")
    trusted: tuple[TrustedNetwork, ...] = settings.trusted_proxies
    request = make_mocked_request("GET", "/", headers={"X-Forwarded-For": forwarded})
    assert household(client_address(request.clone(remote=remote), trusted)) == expected


@pytest.mark.parametrize("kind", ["own", "shared"])
def test_an_allowance_fills_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    now = [1000.0]
    monkeypatch.setattr("reference_server.limits.monotonic", lambda: now[0])
    table = SharedTable(tmp_path / "table") if kind == "shared" else OwnTable()
    allowance = Allowance(60, table, b"request ")
    for _ in range(60):
        assert allowance.wait_s(b"a") == 0
        allowance.take(b"a")
    assert allowance.wait_s(b"a") == pytest.approx(1)
    assert allowance.wait_s(b"b") == 0
    assert Allowance(60, table, b"failure ").wait_s(b"a") == 0
    now[0] += 1
    assert allowance.wait_s(b"a") == pytest.approx(0)
    assert Allowance(0).wait_s(b"a") == 0


def test_two_processes_count_together_and_lose_no_count(tmp_path: Path) -> None:
    path = tmp_path / "table"
    work = (
        "import sys; from pathlib import Path; from reference_server.shared_table import SharedTable\n"
        "table = SharedTable(Path(sys.argv[1]))\n"
        "for _ in range(2000): table.push(b'a', 0.0, 1.0)"
    )
    command = [sys.executable, "-c", work, str(path)]
    for process in [subprocess.Popen(command) for _ in range(2)]:
        assert process.wait() == 0
    assert SharedTable(path).get(b"a") == 4000


def test_a_crowded_table_forgets_what_ends_first(tmp_path: Path) -> None:
    table = SharedTable(tmp_path / "table")
    keys = [str(number).encode() for number in range(70_000)]
    for number, key in enumerate(keys):
        table.push(key, float(number), 60.0)
    assert all(table.get(key) == number + 60 for number, key in list(enumerate(keys))[-100:])


async def test_workers_grant_one_allowance_together(
    migrated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    guards = [Server.from_settings(_settings(migrated)).guard for _ in range(2)]
    visitor = Visitor("192.0.2.1", b"token")
    for number in range(4):
        guards[number % 2].request(visitor)
        guards[number % 2].batch(visitor, is_backlog=True)
    for guard in guards:
        with pytest.raises(Problem, match="too many"):
            guard.request(visitor)
        with pytest.raises(Problem, match="too many"):
            guard.batch(visitor, is_backlog=True)


def _settings(dsn: str) -> ServerSettings:
    return ServerSettings(database_url=SecretStr(dsn), requests_per_minute=4)


async def test_metrics_need_a_token_and_count(api: Api) -> None:
    await api.ingest(sample(0), sample(1), sample(1))
    async with api.session.get(api.url + "/metrics") as answer:
        assert answer.status == 401
    api.server.metrics.connections({"waiting": 7})  # else as it was when the server looked last
    async with api.session.get(api.url + "/metrics", headers=api.headers()) as answer:
        assert answer.content_type == "text/plain"
        text = await answer.text()
    assert 'sungrow_samples_total{verdict="inserted"} 2.0' in text
    assert 'sungrow_samples_total{verdict="duplicate"} 1.0' in text
    assert 'sungrow_samples_total{verdict="conflict"} 0.0' in text  # there before the first of them
    assert 'sungrow_http_requests_total{method="POST",path="/v1/ingest",status="200"} 1.0' in text
    assert "sungrow_rollup_marks 1.0" in text
    assert "sungrow_database_up 1.0" in text
    assert 'sungrow_device_lag_seconds{device_id="sh-1"} 59.0' in text
    for name in ('sungrow_database_connections{state="waiting"} ', "sungrow_rollups_refreshed_timestamp"):
        assert name in text
    assert TOKEN not in text
    async with api.session.get(api.url + "/metrics", headers=api.headers(OTHER_TOKEN)) as answer:
        assert 'device_id="sh-1"' not in await answer.text()  # not a device of that token


async def test_a_port_of_its_own_shows_metrics_without_a_token(migrated: str) -> None:
    port, metrics_port = free_ports(2)
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": migrated,
        "LISTEN_PORT": str(port),
        "METRICS_PORT": str(metrics_port),
    }
    with _running(environment):
        async with aiohttp.ClientSession() as session:
            text = await _until_answered(session, f"http://127.0.0.1:{metrics_port}/metrics")
            assert "sungrow_build_info" in text
            async with session.get(f"http://127.0.0.1:{metrics_port}/v1/devices") as answer:
                assert answer.status == 404
            async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                assert answer.status == 401


@contextmanager
def _running(environment: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", "reference_server", "run"]
    with subprocess.Popen(command, env=environment) as process:
        try:
            yield
        finally:
            process.kill()


async def _until_answered(session: aiohttp.ClientSession, url: str) -> str:
    while True:
        try:
            async with session.get(url) as answer:
                return await answer.text()
        except aiohttp.ClientError:
            await asyncio.sleep(0.05)
