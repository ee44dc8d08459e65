"""The document and the server agree, whatever is asked; and nothing that is sent makes the server fail."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import pytest
from anyio import to_thread
from hypothesis import HealthCheck, given, settings, strategies as st

from reference_server.administration import create_token, set_device
from reference_server.openapi import document
from reference_server.operation import Op
from reference_server.operations import OPERATIONS
from tests.patience import PATIENCE_S
from tests.server.conftest import NOW, TOKEN, Api, StartServer, sample

if TYPE_CHECKING:
    from schemathesis import Case

pytestmark = [pytest.mark.anyio, pytest.mark.one_engine]

ENDLESS: Final = "/v1/stream"
OURS: Final = {"device_id": "sh-1", "plant": "home"}
BODIES: Final = 10_000
AT_ONCE: Final = 20
QUICK: Final = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("op", [op for op in OPERATIONS if op.path != ENDLESS], ids=lambda op: op.name)
def test_every_operation_is_told_in_full(op: Op) -> None:
    told = document(OPERATIONS)["paths"][op.path][op.method.lower()]
    assert told["summary"]
    answers = told["responses"]
    assert {"200", "500"} <= answers.keys()
    if op.scope is not None:
        assert {"401", "403", "429", "503"} <= answers.keys()
    assert list(answers["200"]["content"]) == [op.media, *op.also]
    for media, content in answers["200"]["content"].items():
        assert "example" in content or content["schema"]["contentMediaType"] == media
    assert ("304" in answers) == op.has_etag
    assert all("Retry-After" in answers[status]["headers"] for status in {"429", "503"} & answers.keys())


def test_the_stream_is_told_with_how_to_go_on() -> None:
    told = document(OPERATIONS)["paths"][ENDLESS]["get"]["parameters"]
    assert [parameter["name"] for parameter in told if parameter["in"] == "header"] == ["Last-Event-ID"]


async def test_every_request_that_is_shown_is_answered(start_server: StartServer) -> None:
    """What the pages of the API put into their `curl`, on a device and a plant of those names."""
    async with start_server(device_tokens=f"{TOKEN}:roof") as api:
        await set_device(api.dsn, "roof", name=None, plant="home", timezone=None, poll_interval_s=None)
        await api.ingest(sample(device_id="roof", pv_power_w=1), edge_id="box")
        for path, methods in document(OPERATIONS)["paths"].items():
            told = methods.get("get", {}).get("parameters", ())
            query = {parameter["name"]: parameter["example"] for parameter in told if "example" in parameter}
            if "get" in methods:
                async with api.session.get(api.url + path, params=query, headers=api.headers()) as answer:
                    assert answer.status == 200, (path, query)


@pytest.mark.parametrize("accept", ["application/json", "text/csv", "application/vnd.apache.parquet"])
async def test_head_is_answered_as_get_without_a_body(api: Api, accept: str) -> None:
    """Of everything, with and without a token; of a stream only that it would begin."""
    await set_device(api.dsn, "sh-1", name=None, plant="home", timezone=None, poll_interval_s=None)
    await api.ingest(*(sample(n, pv_power_w=n) for n in range(5)), edge_id="box")
    raw = {"bucket": "raw", "from": "2026-06-15T11:00:00Z", "to": "2026-06-15T12:00:00Z"}
    asked = [(op.path, {**op.query_example}) for op in OPERATIONS if op.method == "GET"]
    for path, query in [*asked, ("/v1/series", {"device_id": "sh-1"} | raw), ("/v1/realtime", {})]:
        query.update({name: value for name, value in OURS.items() if name in query})
        for headers in ({"Accept": accept}, {"Accept": accept} | api.headers()):
            async with api.session.head(api.url + path, params=query, headers=headers) as head:
                assert await head.read() == b""
            if path == ENDLESS:
                assert head.status == (200 if "Authorization" in headers else 401)
                continue
            async with api.session.get(api.url + path, params=query, headers=headers) as got:
                body = await got.read()
            assert (head.status, head.content_type) == (got.status, got.content_type), path
            assert head.headers.get("ETag") == got.headers.get("ETag")
            if "Content-Length" in got.headers and path != "/metrics":  # that has something new to say
                assert int(head.headers["Content-Length"]) == len(body), path
    async with api.session.head(api.url + "/v1/ingest", headers=api.headers()) as refused:
        assert (refused.status, refused.headers["Allow"]) == (405, "POST")


async def test_schemathesis_finds_no_disagreement(api: Api) -> None:
    await set_device(api.dsn, "sh-1", name=None, plant="home", timezone=None, poll_interval_s=None)
    await api.ingest(*(sample(n, pv_power_w=n, fault_codes=[n]) for n in range(5)), edge_id="box")
    await api.ingest(sample(0, pv_power_w=7), sample(1, pv_power_w="x"))  # two are kept aside
    answered = await to_thread.run_sync(_explore, api.url)
    expected = {op.name for op in OPERATIONS if op.path != ENDLESS}
    assert {name for name, statuses in answered.items() if 200 in statuses} == expected


def _explore(url: str) -> dict[str, Counter[int]]:
    """Ask whatever the document allows; return what each operation answered, how often."""
    return {operation.definition.raw["operationId"]: _agreed(operation, url) for operation in _operations()}


def _operations() -> Iterator[Any]:
    """All but the endless one, as schemathesis reads them: it takes seconds to load, so not at collection."""
    import schemathesis  # noqa: PLC0415
    from schemathesis.core.result import Ok  # noqa: PLC0415

    for result in schemathesis.openapi.from_dict(document(OPERATIONS)).get_all_operations():
        assert isinstance(result, Ok), result
        if (operation := result.ok()).path != ENDLESS:
            yield operation


@cache
def _checks() -> list[Any]:
    from schemathesis.checks import not_a_server_error  # noqa: PLC0415
    from schemathesis.specs.openapi.checks import (  # noqa: PLC0415
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    return [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
    ]


def _agreed(operation: Any, url: str) -> Counter[int]:
    statuses: Counter[int] = Counter()

    @given(case=operation.as_strategy(), is_ours=st.booleans())
    @QUICK
    def agree(case: Case[Any], is_ours: bool) -> None:  # noqa: FBT001 - hypothesis gives it by name
        if is_ours:
            _make_ours(case)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = case.call_and_validate(base_url=url, headers=headers, checks=_checks(), timeout=PATIENCE_S)
        statuses[answer.status_code] += 1

    agree()
    return statuses


async def test_no_operation_with_parameters_passes_over_others(api: Api) -> None:
    await api.ingest(sample(0))
    refused = await to_thread.run_sync(_explore_strange, api.url)
    assert refused == {op.name for op in OPERATIONS if op.query.model_fields and op.path != ENDLESS}


def _explore_strange(url: str) -> set[str]:
    """Ask with what the document does not name; return which operations refuse that."""
    refused = set()
    for operation in _operations():
        known = {parameter.name for parameter in operation.query}
        if known:
            _refuses_strange(operation, url, known)
            refused.add(operation.definition.raw["operationId"])
    return refused


def _refuses_strange(operation: Any, url: str, known: set[str]) -> None:
    strange = st.text(st.characters(codec="utf-8"), max_size=20).filter(
        lambda name: not name.startswith("_") and name not in known
    )

    @given(case=operation.as_strategy(), name=strange)
    @QUICK
    def refuses(case: Case[Any], name: str) -> None:
        _make_ours(case)
        case.query[name] = "1"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = case.call_and_validate(base_url=url, headers=headers, checks=_checks(), timeout=PATIENCE_S)
        assert answer.status_code == 422
        assert name in {fault["field"] for fault in answer.json()["errors"]}

    refuses()


def _make_ours(case: Case[Any]) -> None:
    """Ask about what there is, instead of a device nobody has heard of."""
    for parameter in case.operation.query:
        if parameter.name in OURS:
            case.query[parameter.name] = OURS[parameter.name]
    if "frame" in {parameter.name for parameter in case.operation.query}:
        case.query.setdefault(
            "frame", "day"
        )  # of a frame or of a range, not both; of fields there are too many
        for name in ("from", "to", "bucket", "fields"):
            case.query.pop(name, None)
    if isinstance(case.body, dict):
        samples = case.body.get("samples")
        for item in samples if isinstance(samples, list) else [case.body]:
            if isinstance(item, dict):
                item["device_id"] = OURS["device_id"]


# ------------------------------------------------------------------------------------------- rubbish


SCALARS: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["sh-1", "2026-06-15T11:59:00.000Z", "2026-06-15T12:59:00+01:00", "NaN", "\0", "\ud800"]),
)
NAMES: Final = st.sampled_from(
    ["device_id", "ts", "pv_power_w", "interval_s", "fault_codes", "mppt_voltage_v", "running_state", "new"]
)
VALUES: Final = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
SAMPLES: Final = st.one_of(
    VALUES,
    st.builds(
        lambda fields: {"device_id": "sh-1", "ts": "2026-06-15T11:59:00.000Z"} | fields,
        st.dictionaries(NAMES, VALUES, max_size=4),
    ),
)
ENVELOPE: Final = st.sampled_from(
    ["batch_id", "edge_id", "generation", "seq", "last_delivered", "device", "x"]
)
BATCHES: Final = st.one_of(
    VALUES,
    st.builds(
        lambda samples, rest: {"samples": samples} | rest,
        st.lists(SAMPLES, max_size=3),
        st.dictionaries(ENVELOPE, VALUES, max_size=2),
    ),
)
TEXTS: Final = st.one_of(
    st.binary(max_size=60),
    BATCHES.map(lambda batch: json.dumps(batch).encode()),
    st.tuples(BATCHES, st.integers(0, 40)).map(lambda cut: json.dumps(cut[0]).encode()[: cut[1]]),
)


@contextmanager
def _connected(api: Api) -> Iterator[http.client.HTTPConnection]:
    host, _, port = api.url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
    try:
        yield connection
    finally:
        connection.close()


@cache
def _bodies() -> list[bytes]:
    """The same for each engine: to think them up takes longer than to send them."""
    found: list[bytes] = []

    @given(bodies=st.lists(TEXTS, min_size=AT_ONCE, max_size=AT_ONCE))
    @settings(QUICK, max_examples=BODIES // AT_ONCE)
    def think_up(bodies: list[bytes]) -> None:
        found.extend(bodies)

    think_up()
    return found


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_ten_thousand_bodies_give_no_500(api: Api) -> None:
    token = await create_token(api.dsn, "any", ["ingest"], None, None)  # else a made-up device is rightly 403

    def send() -> Counter[int]:
        statuses: Counter[int] = Counter()
        with _connected(api) as connection:
            for body in _bodies():
                status = _post(connection, body, token)
                assert status in {200, 400, 413, 422}, body
                statuses[status] += 1
        return statuses

    statuses = await to_thread.run_sync(send)
    assert statuses.total() >= BODIES
    assert min(statuses[200], statuses[400], statuses[422]) > BODIES // 50, statuses


def _post(connection: http.client.HTTPConnection, body: bytes, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/ingest", body=body, headers=headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status == 200:
        said: dict[str, Any] = json.loads(text)
        listed = [v for kind in ("conflicts", "rejected", "deferred") for v in said[kind]]
        assert said["inserted"] + said["duplicates"] + len(listed) == said["received"]
    else:
        assert answer.headers["Content-Type"].startswith("application/problem+json")
    return answer.status


@pytest.mark.parametrize(
    "header",
    [
        ("Content-Encoding", "gzip, gzip, gzip"),
        ("Content-Encoding", "\xff"),
        ("Content-Type", "application/json; charset=klingon"),
        ("If-None-Match", '"' * 500),
        ("Last-Event-ID", "yesterday"),
        ("X-Forwarded-For", "'; DROP TABLE samples; --"),
        ("X-Request-ID", "a" * 5000),
        ("Accept", "*/*;q=x, application/vnd.apache.parquet, text/csv"),
        ("Authorization", f"Bearer {TOKEN} {TOKEN}"),
    ],
    ids=lambda header: header[0] + "=" + header[1][:12],
)
async def test_rubbish_in_headers_is_no_failure(api: Api, header: tuple[str, str]) -> None:
    await api.ingest(sample(0))
    name, value = header
    asked = ("/v1/realtime?device_id=sh-1", "/v1/series?device_id=sh-1&frame=day", "/health", "/v1/devices")

    def ask() -> list[int]:
        found = []
        with _connected(api) as connection:
            for path in asked:
                connection.request("GET", path, headers=api.headers() | {name: value})
                answer = connection.getresponse()
                answer.read()
                found.append(answer.status)
        return found

    assert max(await to_thread.run_sync(ask)) < 500


RUBBISH: Final = [
    *("\0", "'", '"', "%00", "../../etc/passwd", "1e999", "-1", "NaN", "\ud7ff", "a" * 5000, "{}", "*"),
]


async def test_rubbish_in_any_parameter_is_no_failure(api: Api) -> None:
    await api.ingest(sample(0), device={"plant": "home"})
    asked = [op for op in OPERATIONS if op.method == "GET" and op.path != ENDLESS]
    for op in asked:
        names = [field.alias or name for name, field in op.query.model_fields.items()]
        usual = {name: value for name, value in (OURS | {"frame": "day"}).items() if name in names}
        for name, text in product([*names, "unheard_of"], RUBBISH):
            query = usual | {name: text}
            if name in {"to", "bucket"} and "frame" in names:
                query = {"from": "2026-06-15", "to": "2026-06-16", "bucket": "1h"} | query
                del query["frame"]
            async with api.session.get(api.url + op.path, params=query, headers=api.headers()) as answer:
                assert answer.status < 500, (op.path, query)


@pytest.mark.parametrize("text", RUBBISH)
async def test_rubbish_in_queries_is_told_and_no_failure(api: Api, text: str) -> None:
    await api.ingest(sample(0))
    day = {"from": f"{NOW:%Y-%m-%d}T00:00:00Z", "to": f"{NOW:%Y-%m-%d}T01:00:00Z"}
    for path, query in (
        ("/v1/realtime", {}),
        ("/v1/series", {"frame": text}),
        ("/v1/series", {"frame": "day", "at": text}),
        ("/v1/series", {"frame": "day", "fields": text}),
        ("/v1/series", day | {"bucket": text}),
        ("/v1/conflicts", {"before": text}),
        ("/v1/completeness", day | {"to": text}),
        ("/v1/events", {"from": text}),
    ):
        device = {"device_id": text} if path == "/v1/realtime" else {"device_id": "sh-1"}
        status, problem = await api.get(path, **device, **query)
        assert status in {400, 403, 422} or (path, status) == ("/v1/conflicts", 200), (path, query)
        assert status == 200 or problem["detail"]
