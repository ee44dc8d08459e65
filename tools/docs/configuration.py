"""The configuration page: every variable of edge and server with type, default and rule."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from reference_edge.config import DeviceSettings, EdgeSettings
from reference_server.config import ServerSettings
from reference_server.docstrings import split
from sungrow_lib.sample import DEVICE_ID_PATTERN
from tools.docs.markdown import Page, code, plain, table

SINGLE: Final = {
    "sungrow_host": "host",
    "sungrow_port": "port",
    "sungrow_unit_id": "unit",
    "sungrow_family": "family",
    "sungrow_battery_unit": "battery_unit",
    "sungrow_timeout_s": "timeout_s",
    "device_id": "device_id",
    "device_name": "name",
    "plant": "plant",
    "site_timezone": "timezone",
    "poll_interval_s": "poll_interval_s",
    "inter_register_delay_ms": "inter_register_delay_ms",
}
"""Variables of a single inverter in the environment, and what they are called in a `[[devices]]` table."""

_TYPES: Final[dict[Any, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "secret text",
}
_INTRO: Final = """\
Edge and server read the environment and one TOML file (`--config`); the environment wins. A key of the
file is the variable's name in lower case: `SERVER_URL` and `server_url = "..."` are the same setting.
An empty variable counts as not set. An unknown key in the file, or a value that breaks a rule below,
stops the start with one line that names it.

Few must be given: the edge wants the server's address, a token and an inverter, the server its database
([quick start](../quick-start.md#edge-and-server)). All others have a default that does for a house.
`deploy/.env.example` and `deploy/edge.env.example` hold them as files to fill in.
"""
_SINGLE: Final = """\
A single inverter may stand in the environment; several are `[[devices]]` tables of the file, with the keys
of the third column. Beside tables `SITE_TIMEZONE`, `PLANT`, `POLL_INTERVAL_S`, `INTER_REGISTER_DELAY_MS` and
`SUNGROW_TIMEOUT_S` hold for each that does not say otherwise, and the other variables here are refused.
"""


def pages() -> Iterator[Page]:
    """Make the page."""
    devices = {name: names(name, field) for name, field in DeviceSettings.model_fields.items()}
    text = split(DeviceSettings.__doc__)[1]
    single = [
        (code(name.upper()), plain(text[SINGLE[name]]), code(SINGLE[name]), *devices[SINGLE[name]][1:])
        for name in EdgeSettings.model_fields
        if name in SINGLE
    ]
    body = [
        _INTRO,
        "## Edge",
        _table(EdgeSettings, skip=SINGLE),
        "## One inverter {#inverter}",
        _SINGLE,
        table(("variable", "meaning", "key", "type", "default", "rule"), single),
        "## Server",
        _table(ServerSettings),
    ]
    yield Page(
        "configuration.md",
        "Configuration",
        "Every variable of the edge and the server: type, default, rule and meaning.",
        "\n\n".join(body),
        is_wide=True,
    )


def _table(kind: type[BaseModel], skip: dict[str, str] | None = None) -> str:
    text = split(kind.__doc__)[1]
    rows = [
        (code(name.upper()), plain(text[name]), *names(name, field)[1:])
        for name, field in kind.model_fields.items()
        if name not in (skip or {})
    ]
    return table(("variable", "meaning", "type", "default", "rule"), rows)


def names(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    """Return name, type, default and rule of a setting as a reader wants them."""
    kinds, rules = _parts(field.annotation, field.metadata)
    return name, " or ".join(dict.fromkeys(kinds)), _default(field), "; ".join(dict.fromkeys(rules))


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value in (None, ()) else code(f"{value:g}" if isinstance(value, float) else value)


def _parts(kind: Any, metadata: list[Any]) -> tuple[list[str], list[str]]:
    """Take a type apart into the kinds of value it takes and the rules they keep."""
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *more = get_args(kind)
        return _parts(inner, [*more, *metadata])
    rules = [rule for item in metadata for rule in _rules(item)]
    if origin in {Union, UnionType}:
        parts = [_parts(option, []) for option in get_args(kind) if option is not NoneType]
        return [name for names, _ in parts for name in names], [r for _, more in parts for r in more] + rules
    if origin is Literal:
        return [" or ".join(code(choice) for choice in get_args(kind))], rules
    if origin is tuple:
        return ["list"], rules
    return [_TYPES[kind]], rules


def _rules(item: Any) -> Iterator[str]:
    if isinstance(item, FieldInfo):
        yield from (rule for part in item.metadata for rule in _rules(part))
    limits = ((Ge, "ge", "at least"), (Gt, "gt", "more than"), (Le, "le", "at most"), (Lt, "lt", "less than"))
    for kind, attribute, words in limits:
        if isinstance(item, kind):
            yield f"{words} {_number(getattr(item, attribute))}"
    if isinstance(item, MinLen):
        yield "not empty"
    if isinstance(item, MaxLen):
        yield f"at most {item.max_length} characters"
    if getattr(item, "pattern", None) == DEVICE_ID_PATTERN:
        yield "1 to 64 of letters, digits, `.`, `_`, `-`"
    name = getattr(getattr(item, "func", None), "__name__", "")
    yield from filter(None, [_FUNCTIONS.get(name)])


_FUNCTIONS: Final = {
    "_https": "starts with `https://`; no user, no password, no query",
    "_host": "a name or address alone",
    "_zone": "IANA time zone such as `Europe/Berlin`",
}


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
