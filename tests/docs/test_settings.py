"""The guides of edge and server name every setting there is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from reference_edge.config import DeviceSettings, EdgeSettings
from reference_server.config import ServerSettings

GUIDES: Final = Path(__file__).resolve().parents[2] / "docs"
EDGE: Final = (GUIDES / "edge.md").read_text()
SERVER: Final = (GUIDES / "server.md").read_text()


@pytest.mark.parametrize("name", EdgeSettings.model_fields)
def test_every_setting_of_the_edge_is_in_the_guide(name: str) -> None:
    assert f"`{name.upper()}`" in EDGE


@pytest.mark.parametrize("name", DeviceSettings.model_fields)
def test_every_setting_of_a_device_is_in_the_guide(name: str) -> None:
    assert f"`{name}`" in EDGE


@pytest.mark.parametrize("name", ServerSettings.model_fields)
def test_every_setting_of_the_server_is_in_the_guide(name: str) -> None:
    assert f"`{name.upper()}`" in SERVER
