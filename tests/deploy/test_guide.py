"""What docs/deployment.md tells to type: valid shell, files that exist, commands and options that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from ruamel.yaml import YAML

from reference_server.config import ServerSettings

ROOT: Final = Path(__file__).resolve().parents[2]
GUIDE: Final = (ROOT / "docs" / "deployment.md").read_text()
BLOCKS: Final = re.findall(r"^```sh[^\n]*\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
TYPED: Final = re.compile(
    r"(?:^|sudo |server )(sungrow(?:-edge|-server)?) ([a-z]+(?: create)?)( .*)?", re.MULTILINE
)
COMMANDS: Final = sorted(set(TYPED.findall("".join(BLOCKS))))
SERVICES: Final = re.findall(
    r"docker compose (?:exec|stop|start|run)(?: --rm)?(?: -e \S+)? (\w+)", "".join(BLOCKS)
)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_is_valid_shell(block: str) -> None:
    subprocess.run(["/bin/sh", "-n"], input=block, text=True, check=True)


def test_files_named_in_the_guide_exist() -> None:
    named = set(re.findall(r"\b(?:deploy|requirements|tests)/[\w./-]*\w", GUIDE)) - {"deploy/.env"}
    assert len(named) > 8
    assert not [path for path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize(("program", "words", "rest"), COMMANDS)
def test_each_command_exists_with_its_options(program: str, words: str, rest: str) -> None:
    modules = {
        "sungrow": "sungrow_lib.cli",
        "sungrow-edge": "reference_edge",
        "sungrow-server": "reference_server",
    }
    command = [sys.executable, "-m", modules[program], *words.split(), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert not [option for option in re.findall(r"--[a-z-]+", rest) if option not in shown]


def test_the_services_named_are_those_of_the_compose_file() -> None:
    compose = (ROOT / "deploy" / "compose.yaml").read_text()
    assert set(SERVICES) == {"server", "database"}
    assert not [name for name in SERVICES if f"\n  {name}:\n" not in compose]


def test_health_and_metrics_are_asked_where_the_files_let_them_through() -> None:
    runbook = (ROOT / "docs" / "operations.md").read_text()
    services = YAML(typ="safe").load(ROOT / "deploy" / "compose.yaml")["services"]
    port = services["server"]["environment"]["LISTEN_PORT"]
    assert (
        f'exec caddy wget -qO- --header "Authorization: Bearer $TOKEN" http://server:{port}/health' in runbook
    )
    assert f"`server:{port}`, on the network `outer`" in runbook
    assert all("outer" in services[name]["networks"] for name in ("caddy", "server"))
    assert f"http://127.0.0.1:{ServerSettings.model_fields['listen_port'].default}/health" in runbook
    scraped = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
    assert set(re.findall(r"targets: (.*?\])", scraped)) == {
        '["127.0.0.1:9100"]',
        f'["server:{port}"]',
        '["127.0.0.1:9105"]',
    }, "Caddy would answer with 404"


def test_the_installer_takes_the_options_of_the_guide() -> None:
    installer = (ROOT / "deploy" / "install-edge.sh").read_text()
    used = re.findall(r"install-edge\.sh (--.*)$", GUIDE, re.MULTILINE)
    options = set(re.findall(r"--[a-z]+", " ".join(used)))
    assert options
    assert not [option for option in options if f"{option}" not in installer]
