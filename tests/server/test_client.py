"""SungrowClient against the real server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sungrow_lib.client import SungrowClient
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.setup import free_ports
from sungrow_lib.errors import (
    CredentialsRefusedError,
    RequestRefusedError,
    ServerBusyError,
    ServerUnreachableError,
    UnexpectedAnswerError,
    UsageError,
)
from sungrow_lib.wire.answers import Frame, Realtime
from tests.server.conftest import NOW, TOKEN, Api, StartServer, sample

pytestmark = [pytest.mark.anyio, pytest.mark.one_engine]


async def test_it_reads_what_was_sent(api: Api) -> None:
    await api.ingest(sample(0, pv_power_w=7, newer_field=1, running_state="Run", fault_codes=[3]))
    async with SungrowClient(api.url, TOKEN) as client:
        [device] = await client.devices()
        assert (device.device_id, device.last_ts) == ("sh-1", NOW - timedelta(minutes=1))
        now = await client.realtime("sh-1")
        assert (now.pv_power_w, now.battery_power_w, now.fault_codes) == (7, None, [3])
        assert now.ts == NOW - timedelta(minutes=1)
        hours = await client.series("sh-1")
        assert hours[-2].max_pv_power_w == 7
        months = await client.series("sh-1", frame=Frame.YEAR, at=NOW.date(), fields=["max_pv_power_w"])
        assert (len(months), months[-1].max_pv_power_w, months[-1].pv_kwh) == (6, 7, None)
        assert len(await client.series("sh-1", frame="month", at=NOW.date())) == NOW.day
        assert len(await client.series("sh-1", frame="month", at=str(NOW.date()))) == NOW.day
        with pytest.raises(RequestRefusedError, match="'pv_kw' is not a field"):
            await client.series("sh-1", fields=["pv_kwh", "pv_kw"])
        with pytest.raises(RequestRefusedError, match=r"frame: must be 'day', 'month', 'year' or 'all'$"):
            await client.series("sh-1", frame="week")
        allowed = "must be 1 to 64 letters, digits, dots, hyphens or underscores"
        with pytest.raises(RequestRefusedError, match=rf"device_id: {allowed}$"):
            await client.realtime("a b")
        with pytest.raises(RequestRefusedError, match="bucket: must be 'raw', '5m', "):
            await client.range("sh-1", begin=NOW, end=NOW, bucket="2h")
        [quarter] = await client.range("sh-1", begin=NOW - timedelta(minutes=15), end=NOW, bucket="15m")
        assert quarter.sample_count == 1
        with pytest.raises(UsageError, match="no time zone"):
            await client.range("sh-1", begin=NOW.replace(tzinfo=None), end=NOW, bucket="15m")


async def test_fields_of_a_newer_edge_fit_into_tables(api: Api) -> None:
    newer: dict[str, Any] = {"mode": "eco", "level": 4, "parts": ["a", None], "odd": {"a": 1}, "is_on": True}
    await api.ingest(sample(0, pv_power_w=1), sample(1, **newer), sample(2, pv_power_w=10**7, level=4.5))
    async with SungrowClient(api.url, TOKEN) as client:
        raw = await client.range("sh-1", begin=NOW - timedelta(hours=1), end=NOW, bucket="raw")
        table = raw.to_arrow()
        assert table["mode"].to_pylist() == [None, "eco", None]
        assert table["level"].to_pylist() == [None, 4, 4.5]
        assert table["parts"].to_pylist() == [None, ["a", None], None]
        assert (table["odd"].to_pylist()[1], table["is_on"].to_pylist()[1]) == ({"a": 1}, True)
        assert table["implausible"].to_pylist() == [None, None, ["pv_power_w"]]
        assert raw.to_pandas()["mode"].iloc[1] == "eco"
        assert raw.to_polars()["level"].to_list() == [None, 4, 4.5]
        [*_, last] = await client.range(
            "sh-1", begin=NOW - timedelta(minutes=15), end=NOW, bucket="15m", fields="max_pv_power_w"
        )
        assert last.max_pv_power_w == 1
    await api.ingest(sample(3, mode=1))  # it was text a moment ago
    async with SungrowClient(api.url, TOKEN) as client:
        raw = await client.range("sh-1", begin=NOW - timedelta(hours=1), end=NOW, bucket="raw")
        assert raw.to_arrow()["mode"].to_pylist() == [None, '"eco"', None, "1"]


async def test_wrong_use_is_named(api: Api) -> None:
    for token in ("", "t\u00f6ken", "two words", "a\nb"):
        with pytest.raises(UsageError, match="the token is none"):
            SungrowClient(api.url, token)
    client = SungrowClient(api.url, TOKEN)
    with pytest.raises(UsageError, match="no time zone"):
        async for _ in client.pages("sh-1", begin=NOW.replace(tzinfo=None), end=NOW, bucket="raw"):
            pass
    await client.aclose()
    with pytest.raises(UsageError, match="closed"):
        await client.devices()
    with pytest.raises(UsageError, match="closed"):
        async for _ in client.stream("sh-1"):
            pass


async def test_refusals_become_the_products_errors(api: Api, start_server: StartServer) -> None:
    async with SungrowClient(api.url, TOKEN) as client:
        with pytest.raises(RequestRefusedError, match="404") as missing:
            await client.realtime("sh-1")
        assert missing.value.status == 404
        with pytest.raises(CredentialsRefusedError) as forbidden:
            await client.realtime("other")
        assert forbidden.value.status == 403
        with pytest.raises(RequestRefusedError, match="device_id"):
            await client.realtime()
        with pytest.raises(UnexpectedAnswerError):
            await client._get("/openapi.json", {}, Realtime)
    async with SungrowClient(api.url, "wrong-token") as client:
        with pytest.raises(CredentialsRefusedError, match="sungrow-server token create") as unknown:
            await client.devices()
        assert unknown.value.status == 401
    async with start_server(dsn="host=/nonexistent dbname=x") as homeless:
        homeless.server.database._pool.timeout = 0.2
        async with SungrowClient(homeless.url, TOKEN, tries=1) as client:
            with pytest.raises(ServerBusyError) as busy:
                await client.devices()
            assert busy.value.retry_after_s is not None
            assert busy.value.retry_after_s >= 5


async def test_a_busy_server_is_asked_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await api.ingest(sample(0, pv_power_w=7))
    pauses: list[float] = []
    answers = iter([ServerBusyError("busy", status=503, retry_after_s=2.0), ServerUnreachableError("gone")])
    async with SungrowClient(api.url, TOKEN) as client:
        ask = client._asked

        async def sometimes(path: str, parameters: Mapping[str, str]) -> bytes:
            for error in answers:
                raise error
            return await ask(path, parameters)

        async def pause(seconds: float) -> None:
            pauses.append(seconds)

        monkeypatch.setattr(client, "_asked", sometimes)
        monkeypatch.setattr("sungrow_lib.client.anyio.sleep", pause)
        assert (await client.realtime("sh-1")).pv_power_w == 7
    assert pauses == [2.0, 1.0]


async def test_no_server_is_one_error() -> None:
    async with SungrowClient("http://127.0.0.1:9", TOKEN, tries=1) as client:
        with pytest.raises(ServerUnreachableError):
            await client.devices()


async def test_a_private_authority_has_to_be_named(tls_files: CertificateFiles) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls_files.cert, tls_files.key)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server, SungrowClient(f"https://localhost:{port}", TOKEN, tries=1) as client:
        with pytest.raises(ServerUnreachableError, match="certificate with ca="):
            await client.devices()


async def test_where_nothing_listens_the_address_is_asked_about() -> None:
    [nobody] = free_ports(1)
    async with SungrowClient(f"https://localhost:{nobody}", TOKEN, tries=1) as client:
        with pytest.raises(ServerUnreachableError, match="is the address right"):
            await client.devices()


def test_a_token_is_never_sent_in_clear_text_to_another_machine(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="https"):
        SungrowClient("http://sun.example.org", TOKEN)
    with pytest.raises(UsageError, match="certificate"):
        SungrowClient("https://sun.example.org", TOKEN, ca=tmp_path / "none.pem")
