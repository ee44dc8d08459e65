"""Pages about the server's API: errors, limits, metrics; and the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from reference_edge.account import DeviceAccount
from reference_edge.metrics import EdgeCollector
from reference_edge.survey import Survey
from reference_server.config import ServerSettings
from reference_server.metrics import Metrics, StateCollector
from reference_server.openapi import document
from reference_server.operations import OPERATIONS
from reference_server.problems import TITLES, problem_type
from reference_server.storage.database import Database
from reference_server.tokens import Scope
from sungrow_lib.spool import ClockState, SpoolCounts
from sungrow_lib.upload.status import ConnectionState, UploadStatus
from sungrow_lib.wire import LAST_DELIVERED_LIMIT, VerdictCode
from tools.docs.markdown import Page, code, table

WHAT_TO_DO: Final = {
    400: "send JSON",
    401: "send `Authorization: Bearer TOKEN` with a token that is neither revoked nor expired",
    403: "use a token with the scope, and for the device, that `detail` names",
    404: "look at the path, or at `device_id`: there is no such device, or no reading of it yet",
    405: "look at the method",
    413: "send fewer samples, or a smaller body",
    415: "send `application/json`, plain or with `Content-Encoding: gzip` or `zstd`",
    422: "correct what `errors` lists; nothing of the request was taken",
    429: "wait as long as `Retry-After` says",
    500: "a defect of the server: keep the data, try again later, and report it with the server's log",
    503: "the database is away or busy: keep the data and try again after `Retry-After`",
}
"""By status, what a caller does; the keys are those of the server's own list."""

_EXACT: Final = 2**53 - 1
_SCOPES: Final = {
    Scope.INGEST: "send readings and an edge's status",
    Scope.READ: "read everything of the devices it may see",
    Scope.CONTROL: "kept for commands to devices; nothing asks for it yet",
    Scope.ADMIN: "see versions, the database's engine and waiting rollups in `/health`",
}
_ERRORS: Final = """\
Every error is answered in one form, `application/problem+json` (RFC 9457):

```json
{
  "type": "urn:sungrow:problem:wrong-content",
  "title": "Wrong content",
  "status": 422,
  "detail": "frame: must be 'day', 'month', 'year' or 'all'",
  "errors": [{"field": "frame", "message": "must be 'day', 'month', 'year' or 'all'"}]
}
```
Go by `status` or `type`; `title` and `detail` are for people. `errors` comes with 422 only.
"""
_ABOUT: Final = """\
Every operation is described in the [API reference](../api/sungrow-reference-server.info.mdx); the running
server shows the same document at `/openapi.json`.
"""
_AUTHENTICATION: Final = """\
Send `Authorization: Bearer TOKEN` with every call below `/v1/`, never a token in an address.
`sungrow-server token create` makes one: it has scopes, the devices it may touch, and optionally an end.
"""
_METRICS: Final = """\
Server and edge answer Prometheus in its text format. `deploy/prometheus/` has a configuration to take
from and alerts that cover what needs a person; [Grafana and Prometheus](../grafana.md#alerts) lists
them.

## Of the server {{#server}}

At `GET /metrics`, for a token with the scope `read`, or on a listener of its own without one
(`METRICS_PORT`, loopback only). Counters and gauges are of all worker processes together. A token that
may touch some devices only is shown `sungrow_device_lag_seconds` of those.

{server}
Three to look at first: `sungrow_database_up` is 1; `sungrow_device_lag_seconds` stays near the poll interval
by day; and `rate(sungrow_samples_total{{verdict="rejected"}}[1h])` is 0.

## Of the edge {{#edge}}

At `http://127.0.0.1:PORT/metrics` with `METRICS_PORT` set. What is not known is absent, never 0.

{edge}
Beside them stands the last reading of each device: every numeric [field](fields.md) with `sungrow_` before
its name, such as `sungrow_pv_power_w{{device_id="roof"}}`; lists have a label `item`, counted from 1. A
reading older than three poll intervals is absent.
"""
_IDEMPOTENCY: Final = """\
A reading is known by its device and its time, `(device_id, ts)`. The server stores the first and takes any
later one as a duplicate, so **any request may be sent again**: after a lost answer, a timeout, a crash, as
often as you like. One bad sample never voids its batch; each gets a verdict.
"""
_VERDICTS: Final = """\
| verdict | means |
|---|---|
| inserted | stored now |
| duplicate | was stored already, with no different value |
| conflict | another value is stored under the same key; it stands, yours is kept aside for inspection |
| rejected | can never be valid; kept aside when well-formed enough |
| deferred | not now: keep it and try again every few minutes |
"""


def pages() -> Iterator[Page]:
    """Make the pages."""
    yield Page(
        "http.md",
        "HTTP API in brief",
        "Authentication, errors, limits, idempotency and verdicts of the HTTP API.",
        "\n\n".join(_http()),
    )
    yield Page(
        "metrics.md", "Metrics", "Every Prometheus metric of server and edge.", _metrics(), is_wide=True
    )


def _http() -> Iterator[str]:
    yield _ABOUT
    yield "## Authentication"
    yield _AUTHENTICATION
    yield table(("scope", "may"), ((code(scope.value), text) for scope, text in _SCOPES.items()))
    yield "## Operations"
    yield table(
        ("call", "scope", "does"),
        (
            (code(f"{op.method} {op.path}"), code(op.scope.value) if op.scope else "none", op.summary)
            for op in OPERATIONS
        ),
    )
    yield "## Idempotency"
    yield _IDEMPOTENCY
    yield _VERDICTS
    codes = ", ".join(code(verdict.value) for verdict in VerdictCode)
    yield f"Codes of conflicts, rejects and deferrals: {codes}."
    yield "## Errors"
    yield _ERRORS
    yield table(
        ("status", "type", "title", "what to do"),
        ((status, code(problem_type(title)), title, WHAT_TO_DO[status]) for status, title in TITLES.items()),
    )
    yield "## Limits"
    yield table(("limit", "default", "set by"), _limits())


def _limits() -> Iterator[tuple[str, str, str]]:
    fields = ServerSettings.model_fields
    for name, what in (
        ("max_samples_per_request", "samples of one batch"),
        ("max_request_bytes", "bytes of a body as sent"),
        ("max_decompressed_bytes", "bytes of a body once decompressed"),
        ("requests_per_minute", "requests a minute of one token, and of one address (0: any number)"),
        ("failed_logins_per_minute", "wrong tokens a minute of one address"),
        ("raw_retention_days", "days raw readings are kept"),
    ):
        yield what, f"{fields[name].default:,}", code(name.upper())
    yield "times in `last_delivered`", f"{LAST_DELIVERED_LIMIT}", "fixed"


def _metrics() -> str:
    return _METRICS.format(server=_metrics_table(metrics()), edge=_metrics_table(edge_metrics()))


def _metrics_table(found: list[tuple[str, str, tuple[str, ...], str]]) -> str:
    rows = (
        (code(name), meaning, kind, ", ".join(map(code, labels))) for name, kind, labels, meaning in found
    )
    return table(("metric", "meaning", "type", "labels"), rows)


def metrics() -> list[tuple[str, str, tuple[str, ...], str]]:
    """Return name, type, labels and meaning of each metric the server shows."""
    return [*_counted(), *(_described(family) for family in StateCollector(0).collect())]


def edge_metrics() -> list[tuple[str, str, tuple[str, ...], str]]:
    """Return the same of each metric the edge shows of itself."""
    now = datetime.now(UTC)
    account = DeviceAccount("roof", "", at=now, counts=SpoolCounts(0, 0, 0, 0, 0, 0, 0, 0, 0, now))
    clock = ClockState(is_trusted=True, offset_s=0, is_vouched=True, server_serves=False, behind_s={})
    survey = Survey(Path(), now, 0, 0, None, 0, clock)
    status = UploadStatus(ConnectionState.CONNECTED, now, None, 0, 0, (), (), None)
    collector = EdgeCollector({"roof": account}, {"roof": 5.0}, survey, lambda: status, lambda: 0)
    return [(family.name, family.kind, family.labels, family.what) for family in collector.collect()]


def _counted() -> list[tuple[str, str, tuple[str, ...], str]]:
    server = Metrics(cast("Database", None))  # nothing is asked of the database
    [registry] = [value for value in vars(server).values() if isinstance(value, CollectorRegistry)]
    collectors = registry._collector_to_names  # noqa: SLF001 - no public list of them
    return [
        _described(family, collector._labelnames)  # noqa: SLF001 - the same
        for collector in collectors
        if isinstance(collector, MetricWrapperBase)
        for family in collector.describe()
    ]


def _described(family: Metric, labels: tuple[str, ...] = ()) -> tuple[str, str, tuple[str, ...], str]:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return name, family.type, labels or tuple(getattr(family, "_labelnames", ())), family.documentation


def openapi() -> str:
    """Return the OpenAPI document as the site shows it."""
    made = json.loads(json.dumps(document(OPERATIONS)))
    choices = {
        f"#/components/schemas/{name}": schema
        for name, schema in made["components"]["schemas"].items()
        if "enum" in schema
    }
    shown: dict[str, Any] = _readable(_with_choices(made, choices))
    shown["servers"] = [{"url": "https://solar.example.org", "description": "your server"}]
    for operation in (operation for methods in shown["paths"].values() for operation in methods.values()):
        _lead_with_the_example(operation, shown["components"]["schemas"])
    return json.dumps(shown, indent=1)


def _lead_with_the_example(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Give a body's example to its schema: else the page makes one up, all null, and shows it first."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        name = content["schema"]["$ref"].rpartition("/")[2]
        schemas[name]["example"] = content.pop("example")


def _with_choices(schema: Any, choices: dict[str, Any]) -> Any:
    """Write a word's choices where it is used: the renderer shows a reference as an object to unfold."""
    if isinstance(schema, list):
        return [_with_choices(item, choices) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = choices.get(schema.get("$ref", ""))
    if found is not None:
        schema = {**found, **{name: value for name, value in schema.items() if name != "$ref"}}
    return {name: _with_choices(value, choices) for name, value in schema.items()}


def _readable(schema: Any) -> Any:
    """Write "this or null" as one type: the renderer shows alternatives as an object to unfold."""
    if isinstance(schema, list):
        return [_readable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(kept) == 1 and len(kept) < len(schema["anyOf"]) and isinstance(kept[0].get("type"), str):
        rest = {name: value for name, value in schema.items() if name != "anyOf"}
        schema = {**kept[0], **rest, "type": [kept[0]["type"], "null"]}
    return {name: _readable(value) for name, value in schema.items() if not _is_rounded(name, value)}


def _is_rounded(name: str, value: Any) -> bool:
    """Leave out a bound that a browser's numbers cannot hold: the page would show another."""
    return name in {"minimum", "maximum"} and isinstance(value, int) and abs(value) > _EXACT
