"""Tokens: none, wrong, expired, revoked, another's; and that they are never written anywhere."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import pytest

from reference_server import auth
from reference_server.administration import (
    create_token,
    list_tokens,
    revoke_token,
    rotate_token,
    set_device,
)
from reference_server.operation import Op
from reference_server.operations import OPERATIONS
from reference_server.routes import ROUTES
from reference_server.tokens import Scope
from sungrow_lib.errors import UsageError
from tests.patience import PATIENCE_S
from tests.server.conftest import OTHER_TOKEN, TOKEN, Api, sample

pytestmark = pytest.mark.anyio

GUARDED = [op for op in OPERATIONS if op.scope is not None]
OPEN = {"/", "/health", "/openapi.json"}  # what the contract leaves open
PARAMETERS = {
    "/v1/series": {"frame": "day"},
    "/v1/plants/series": {"frame": "day", "plant": "home"},
    "/v1/completeness": {"from": "2026-06-14T00:00:00Z", "to": "2026-06-15T00:00:00Z"},
}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/ingest": {"samples": [sample(0)]},
    "/v1/edge-status": {"edge_id": "box", "device_id": "sh-1"},
}
LISTING = {"/v1/devices", "/v1/plants", "/v1/plants/series", "/metrics"}
"""They name no device; each shows of what it lists only what the token may see."""


async def _ask(api: Api, op: Op, authorization: str | None) -> tuple[int, str]:
    headers = {} if authorization is None else {"Authorization": authorization}
    query = {"device_id": "sh-1"} | PARAMETERS.get(op.path, {})
    body = None if op.body is None else BODIES[op.path]
    async with api.session.request(
        op.method, api.url + op.path, headers=headers, params=query, json=body
    ) as answer:
        if answer.status == 401:
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        if answer.content_type == "text/event-stream":  # it has no end
            return answer.status, ""
        return answer.status, await answer.text()


async def _refusal(api: Api, op: Op, authorization: str | None) -> int:
    """Ask, and see that a refusal tells nothing of the device."""
    status, text = await _ask(api, op, authorization)
    assert status == 403 or "sh-1" not in text
    return status


def test_every_route_is_an_operation_or_the_page() -> None:
    paths = {(route.method, route.path) for route in ROUTES}
    heads = {path for method, path in paths if method == "HEAD"}
    assert heads == {path for method, path in paths if method == "GET"}
    page = {("GET", "/"), ("GET", "/static/{name}")}
    assert paths - page - {("HEAD", path) for path in heads} == {(op.method, op.path) for op in OPERATIONS}
    assert {op.path for op in OPERATIONS if op.scope is None} == OPEN - {"/"}
    scopes = {(op.method, op.path): {op.scope, op.or_scope} - {None} for op in OPERATIONS}
    for route in ROUTES:
        assert set(route.scopes) == scopes.get((route.method.replace("HEAD", "GET"), route.path), set())


@pytest.mark.parametrize("op", GUARDED, ids=lambda op: op.name)
async def test_every_guarded_operation(api: Api, op: Op) -> None:
    await api.ingest(sample(0), sample(0, device_id="sh-2"))
    await set_device(api.dsn, "sh-1", name=None, plant="home", timezone=None, poll_interval_s=None)
    for wrong in (None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe9", TOKEN):
        assert await _refusal(api, op, wrong) == 401, wrong
    assert (await _ask(api, op, f"Bearer {TOKEN}"))[0] == 200
    assert op.scope is not None
    others = [scope.value for scope in Scope if scope not in {op.scope, op.or_scope}]
    assert await _refusal(api, op, await _new(api, others, None)) == 403
    if op.or_scope is not None:
        assert (await _ask(api, op, await _new(api, [op.or_scope.value], None)))[0] == 200
    every = [scope.value for scope in Scope]
    now = datetime.now(UTC)
    assert (await _ask(api, op, await _new(api, every, ["sh-1"], now + timedelta(hours=1))))[0] == 200
    assert await _refusal(api, op, await _new(api, every, None, now)) == 401
    revoked = await _new(api, every, None)
    await revoke_token(api.dsn, max(entry["token"] for entry in await list_tokens(api.dsn)))
    assert await _refusal(api, op, revoked) == 401
    for foreign in (f"Bearer {OTHER_TOKEN}", await _new(api, every, ["sh-2"])):
        status, text = await _ask(api, op, foreign)
        if op.path in LISTING:
            assert status in {200, 404}
            assert "sh-1" not in text
        else:
            assert status == 403


async def test_each_request_on_a_connection_is_judged_by_its_own_token(api: Api) -> None:
    await api.ingest(sample(0))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    good, other, wrong = f"Bearer {TOKEN}", f"Bearer {OTHER_TOKEN}", f"Bearer {TOKEN}x"
    expected = {good: 200, other: 403, wrong: 401, "": 401}
    for sent in (good, wrong, good, "", good, other, other, wrong, other, good, "", ""):
        line = f"Authorization: {sent}\r\n" if sent else ""
        writer.write(f"GET /v1/realtime?device_id=sh-1 HTTP/1.1\r\nHost: a\r\n{line}\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        assert int(head.split()[1]) == expected[sent], sent
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await asyncio.wait_for(reader.readexactly(int(length)), PATIENCE_S)
    writer.close()


async def _new(
    api: Api, scopes: list[str], devices: list[str] | None, expires_at: datetime | None = None
) -> str:
    return f"Bearer {await create_token(api.dsn, 'a label', scopes, devices, expires_at)}"


async def test_a_token_sees_its_own_devices_only(api: Api) -> None:
    await api.ingest(sample(0), sample(0, device_id="sh-2"))
    await api.send(sample(0, device_id="other"), token=OTHER_TOKEN)
    _, mine = await api.get("/v1/devices")
    assert [device["device_id"] for device in mine["devices"]] == ["sh-1", "sh-2"]
    everything = await create_token(api.dsn, "reader", ["read"], None, None)
    _, every = await api.get("/v1/devices", token=everything)
    assert len(every["devices"]) == 3


async def test_device_id_may_be_left_out_with_one_device_only(api: Api) -> None:
    await api.send(sample(0, device_id="other"), token=OTHER_TOKEN)
    assert (await api.get("/v1/realtime", token=OTHER_TOKEN))[1]["device_id"] == "other"
    assert (await api.get("/v1/realtime"))[0] == 422
    everything = await create_token(api.dsn, "reader", ["read"], None, None)
    assert (await api.get("/v1/realtime", token=everything))[0] == 200
    await api.ingest(sample(0))
    assert (await api.get("/v1/realtime", token=everything))[0] == 422


async def _until_refused(api: Api, token: str) -> None:
    while (status := (await api.send(sample(0), token=token))[0]) != 401:
        assert status == 200
        await asyncio.sleep(0.05)


async def test_a_revoked_token_is_refused_within_a_second(api: Api) -> None:
    token = await create_token(api.dsn, "short", ["ingest"], ["sh-1"], None)
    assert (await api.send(sample(0), token=token))[0] == 200
    [entry] = await list_tokens(api.dsn)
    await revoke_token(api.dsn, entry["token"])
    assert auth._CACHE_S < 1
    await _until_refused(api, token)
    with pytest.raises(UsageError):
        await revoke_token(api.dsn, entry["token"])


async def test_an_expired_token_is_refused(api: Api) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    token = await create_token(api.dsn, "late", ["ingest"], ["sh-1"], past)
    assert (await api.send(sample(0), token=token))[0] == 401


async def test_rotation_overlaps(api: Api) -> None:
    old = await create_token(api.dsn, "box", ["ingest"], ["sh-1"], None)
    [entry] = await list_tokens(api.dsn)
    new, _ = await rotate_token(api.dsn, entry["token"], 3600)
    assert (await api.send(sample(0), token=old))[0] == 200
    assert (await api.send(sample(0), token=new))[0] == 200
    entry = max(await list_tokens(api.dsn), key=itemgetter("token"))
    newest, _ = await rotate_token(api.dsn, entry["token"], 0)
    await _until_refused(api, new)
    assert (await api.send(sample(0), token=newest))[0] == 200
    assert (await api.send(sample(0), token=old))[0] == 200
    with pytest.raises(UsageError):
        await rotate_token(api.dsn, 99, 1)


async def test_a_successor_lives_as_long_as_the_old_token_was_made_for(api: Api) -> None:
    old = await create_token(api.dsn, "box", ["ingest"], ["sh-1"], datetime.now(UTC) + timedelta(days=30))
    a_month_later = (
        "created_at = created_at - interval '31 days', expires_at = expires_at - interval '31 days'"
    )
    api.rows(f"UPDATE tokens SET {a_month_later} RETURNING 1")
    assert (await api.send(sample(0), token=old))[0] == 401
    [entry] = await list_tokens(api.dsn)
    new, _ = await rotate_token(api.dsn, entry["token"], 3600)
    assert (await api.send(sample(0), token=new))[0] == 200
    made = max(await list_tokens(api.dsn), key=itemgetter("token"))
    assert made["expires_at"] - made["created_at"] == entry["expires_at"] - entry["created_at"]
    with pytest.raises(UsageError):  # its end is that of the overlap now
        await rotate_token(api.dsn, entry["token"], 3600)


async def test_tokens_are_stored_as_hashes_and_never_logged(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = await create_token(api.dsn, "box", ["ingest"], ["sh-1"], None)
    await api.send(sample(0), token=token)
    await api.send(sample(0), token="wrong-token-0123456789")
    written = caplog.text + repr([vars(record) for record in caplog.records])
    for secret in (token, TOKEN, "wrong-token-0123456789"):
        assert secret not in written
    assert token.startswith("sgw_")
    stored = repr(api.rows("SELECT t::text FROM tokens t")) + repr(
        api.rows("SELECT a::text FROM token_audit a")
    )
    assert token not in stored
    assert token[:10] in stored
    assert TOKEN not in repr(api.server.settings)
    assert (await list_tokens(api.dsn))[0]["last_used_at"] is not None
