"""The examples of settings name each one there is, with its default, and compose uses no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from reference_edge.config import EdgeSettings
from reference_server.config import ServerSettings
from sungrow_lib.settings import AppSettings, load_settings

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
CONTAINERS: Final = {"SITE_ADDRESS", "SITE_TLS", "SITE_CERT_FILE", "SITE_KEY_FILE", "POSTGRES_PASSWORD"}
FILES: Final[dict[str, tuple[type[AppSettings], set[str], set[str]]]] = {
    ".env.example": (ServerSettings, set(), CONTAINERS),
    "edge.env.example": (EdgeSettings, {"DEVICES"}, {"SUNGROW_EDGE_CONFIG"}),
}
"""File -> whose settings it shows, those that only a TOML file can hold, and what else it names."""


def assignments(name: str) -> dict[str, tuple[bool, str]]:
    """Variable -> whether it is set (not only shown), and its value."""
    found = re.findall(r"^(#?)([A-Z_]+)=(.*)$", (DEPLOY / name).read_text(), re.MULTILINE)
    assert len({variable for _, variable, _ in found}) == len(found)
    return {variable: (not hash_, value) for hash_, variable, value in found}


@pytest.mark.parametrize("name", FILES)
def test_every_setting_is_named_and_no_other(name: str) -> None:
    kind, in_a_file_only, more = FILES[name]
    settings = {field.upper() for field in kind.model_fields} - in_a_file_only
    assert set(assignments(name)) == settings | more


@pytest.mark.parametrize("name", FILES)
def test_what_is_shown_as_default_is_the_default(name: str) -> None:
    kind, _, _ = FILES[name]
    for variable, (is_set, value) in assignments(name).items():
        field = kind.model_fields.get(variable.lower())
        if field is None or is_set or field.default is PydanticUndefined:
            continue
        default = field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        assert value == ("" if default in (None, ()) else str(default)), variable


def test_the_example_of_an_edge_is_a_working_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, (is_set, value) in assignments("edge.env.example").items():
        if is_set:
            monkeypatch.setenv(variable, value or "edge-token-0123456789")
    [inverter] = load_settings(EdgeSettings).inverters
    assert inverter.device_id == "roof"


def test_compose_asks_for_no_variable_the_example_lacks() -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text()))
    assert asked == CONTAINERS | {"REQUESTS_PER_MINUTE"}
    required = set(re.findall(r"\$\{([A-Z_]+):\?", (DEPLOY / "compose.yaml").read_text()))
    assert required == {variable for variable, (is_set, _) in assignments(".env.example").items() if is_set}
