"""Fields only a newer edge knows: stored as they came, whatever they hold, and told so that all can read."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from pydantic import ValidationError
from pydantic_core import from_json

from reference_server.history import export_samples
from sungrow_lib.client import SungrowClient
from sungrow_lib.sample import SungrowSample
from tests.server.conftest import NOW, TOKEN, Api, sample

pytestmark = pytest.mark.anyio

_DAY: Final = {"from": "2026-06-15T00:00:00Z", "to": "2026-06-16T00:00:00Z", "bucket": "raw"}
_TEXTS: Final = st.text(st.characters() | st.sampled_from("\ud800\udc00\0\u2028\x85\\\"'u"), max_size=6)
_VALUES: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)
_FIELDS: Final = st.dictionaries(_TEXTS.map("new_{}".format), _VALUES, min_size=1, max_size=3)
_MANY: Final = 60


def _thought_up() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    @given(fields=_FIELDS)
    @settings(max_examples=_MANY, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def think_up(fields: dict[str, Any]) -> None:
        found.append(fields)

    think_up()
    return found


async def _post(api: Api, reading: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps({"samples": [reading]}).replace("Infinity", "1e999").encode()
    status, answer = await api.post_raw(body)
    assert status == 200, answer
    return dict(answer)


async def _get(api: Api, path: str, accept: str = "application/json", **query: str) -> bytes:
    headers = api.headers() | {"Accept": accept}
    async with api.session.get(
        api.url + path, params={"device_id": "sh-1"} | query, headers=headers
    ) as answer:
        assert answer.status == 200
        return await answer.read()


async def test_whatever_was_taken_can_be_read_back(api: Api) -> None:
    inserted = 0
    async with SungrowClient(api.url, TOKEN) as client:
        for number, fields in enumerate(_thought_up()):
            answer = await _post(api, sample(number - 200, **fields))
            inserted += answer["inserted"]
            if answer["inserted"]:
                assert (await _post(api, sample(number - 200, **fields)))["duplicates"] == 1
                conflict = fields | {"new_one": number}
                await _post(api, sample(number - 200, **conflict))
                await client.realtime("sh-1")
        found = await client.range("sh-1", begin=NOW - timedelta(days=1), end=NOW, bucket="raw")
        assert len(found) == inserted > _MANY / 2
        assert [entry async for entry in client.conflicts("sh-1")]
        await _get(api, "/v1/series", "text/csv", **_DAY)
        await _get(api, "/v1/series", "application/vnd.apache.parquet", **_DAY)
        streamed = client.stream("sh-1", after=NOW - timedelta(days=1))
        for _ in range(inserted):
            assert isinstance(await anext(streamed), SungrowSample)
        await streamed.aclose()


async def test_half_a_pair_of_surrogates_is_stored_and_spelled_out(api: Api) -> None:
    fields: dict[str, Any] = {
        "new_text": "bad\ud800",
        "new\udfff": {"a\ud800": ["\udc00\N{SLIGHTLY SMILING FACE}", 1]},
    }
    told = {"new_text": "bad\\ud800", "new\\udfff": {"a\\ud800": ["\\udc00\N{SLIGHTLY SMILING FACE}", 1]}}
    assert (await _post(api, sample(0, pv_power_w=1, **fields)))["inserted"] == 1
    assert (await _post(api, sample(0, pv_power_w=1, **fields)))["duplicates"] == 1
    other = fields | {"new_text": "bad\ud801"}
    assert len((await _post(api, sample(0, pv_power_w=1, **other)))["conflicts"]) == 1
    now = from_json(await _get(api, "/v1/realtime"))
    [reading] = from_json(await _get(api, "/v1/series", **_DAY))["series"]
    assert {name: now[name] for name in told} == {name: reading[name] for name in told} == told
    [aside] = from_json(await _get(api, "/v1/conflicts"))["conflicts"]
    assert {name: aside["reading"][name] for name in told} == told | {"new_text": "bad\\ud801"}
    exported = io.StringIO()
    await export_samples(api.dsn, "sh-1", None, None, exported)
    line = json.loads(exported.getvalue())
    assert {name: line[name] for name in fields} == fields


async def test_names_that_are_spelled_alike_are_told_apart(api: Api) -> None:
    fields: dict[str, Any] = {
        "new\ud800": 1,
        "new\\ud800": 2,
        "inner": {"\udfff\\ud800": 3, "\\udfff\ud800": 4},
    }
    assert (await _post(api, sample(0, **fields)))["inserted"] == 1
    now = from_json(await _get(api, "/v1/realtime"))
    assert (now["new\\ud800"], now["\\new\\ud800"]) == (2, 1)
    assert sorted(now["inner"].values()) == [3, 4]


async def test_a_number_beyond_any_float_beside_half_a_pair_is_rejected(api: Api) -> None:
    fields: dict[str, Any] = {"new\ud800": [float("inf"), "\udc00"]}
    answer = await _post(api, sample(0, **fields))
    assert [verdict["reason"] for verdict in answer["rejected"]] == [
        "new\\ud800: must hold finite numbers of ordinary size"
    ]
    [aside] = from_json(await _get(api, "/v1/conflicts"))["conflicts"]
    assert aside["reading"]["new\\ud800"] == ["1e999", "\\udc00"], "as it was sent"


def test_our_own_samples_hold_nothing_but_text() -> None:
    good: dict[str, Any] = {"device_id": "sh-1", "ts": NOW}
    for bad in ({"running_state": "Run\ud800"}, {"firmware": "\udfff"}, {"new": "\ud800"}, {"new\ud800": 1}):
        with pytest.raises(ValidationError):
            SungrowSample.model_validate(good | bad)


async def test_they_are_named_once_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    def named() -> list[tuple[str, list[str]]]:
        lines = [vars(record) for record in caplog.records if "newer" in record.message]
        caplog.clear()
        return [(line["device_id"], line["fields"]) for line in lines]

    await api.ingest(sample(0, new_b=1, new_a=None), sample(1, new_b=2, new_c="x", pv_power_w=-1e9))
    assert named() == [("sh-1", ["new_b", "new_c"])]
    await api.ingest(sample(2, new_b=1, new_c=1), sample(3, pv_power_w=1))
    assert named() == []
    await api.ingest(sample(4, new_b=1, new_d=1), sample(4, "sh-2", new_b=1))
    assert named() == [("sh-1", ["new_d"]), ("sh-2", ["new_b"])]
    for number in range(200):
        fields: dict[str, Any] = {f"other_{number}": 1, "long" * 100: 1, "line\n": 1}
        await api.ingest(sample(5 + number, **fields))
    told = named()
    assert told[0] == ("sh-1", ["line ", ("long" * 16)[:64], "other_0"])
    assert len(told) < 32
