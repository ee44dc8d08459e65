"""Tokens, backup and restore as docs/deployment.md tells them, typed into a shell beside no container."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from ruamel.yaml import YAML

from sungrow_lib.demo.postgres import EmbeddedPostgres
from sungrow_lib.demo.processes import wait_until
from sungrow_lib.demo.setup import clean_environment, free_ports, is_listening
from sungrow_lib.sample import format_ts
from tests.deploy import docker
from tests.guides.shell import DOCS, Terminal, runnable
from tests.patience import PATIENCE_S

GUIDE: Final = DOCS / "deployment.md"
COMPOSE: Final = DOCS.parent / "deploy" / "compose.yaml"
READING: Final = {"device_id": "roof", "pv_power_w": 4242}

pytestmark = pytest.mark.slow


@dataclass
class Stack:
    """The services of the compose file as processes, and a reader's terminal.

    Attributes:
        terminal: where the page is typed.
        url: where the server answers.
        cluster: the database's.
    """

    terminal: Terminal
    url: str
    cluster: EmbeddedPostgres

    def is_listening(self) -> bool:
        return is_listening(int(self.url.rpartition(":")[2]))

    def ask(self, method: str, path: str, token: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.request(method, self.url + path, headers=headers, json=body, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def databases(self) -> set[str]:
        with psycopg.connect(self.cluster.dsn_of("postgres")) as connection:
            return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """What `docker compose up` leaves: a migrated database named as in the file, and the server."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "docker").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{docker.__file__}" "$@"\n')
    (programs / "docker").chmod(0o755)
    (tmp_path / "backups").mkdir()
    [port] = free_ports(1)
    described = YAML(typ="safe").load(COMPOSE)["services"]
    assert described["database"]["environment"]["POSTGRES_DB"] == "sungrow"
    assert "./backups:/backups" in described["server"]["volumes"]
    with EmbeddedPostgres(tmp_path / "database", throw_away=True) as cluster:
        dsn = cluster.dsn_of("sungrow")
        found = conninfo_to_dict(dsn)
        place = {"PGHOST": str(found["host"]), "PGPORT": str(found["port"])}
        services = {
            "server": {
                "environment": {"DATABASE_URL": dsn, "LISTEN_PORT": str(port)},
                "entrypoint": ["sungrow-server"],
                "command": ["run"],
                "volumes": {"/backups": str(tmp_path / "backups")},
            },
            "database": {"environment": place, "entrypoint": [], "command": [], "volumes": {}},
        }
        (tmp_path / "services.json").write_text(json.dumps(services))
        environment = clean_environment() | {"DOCKER_STAND_IN": str(tmp_path / "services.json")}
        standing_for = {"postgresql://sungrow:PASSWORD@database/sungrow_new": cluster.dsn_of("sungrow_new")}
        with Terminal(tmp_path, environment, standing_for) as terminal:
            terminal.environment["PATH"] = f"{programs}{os.pathsep}{terminal.environment['PATH']}"
            terminal.type("docker compose run --rm server migrate")
            terminal.type("docker compose start server")
            stack = Stack(terminal, f"http://127.0.0.1:{port}", cluster)
            wait_until("the server", stack.is_listening, timeout_s=PATIENCE_S)
            yield stack
            if stack.is_listening():
                terminal.type("docker compose stop server")


def test_a_reader_makes_tokens_backs_up_and_restores(stack: Stack) -> None:
    tokens, backup, restore = runnable(GUIDE, "compose")
    edge, me = re.findall(r"^\S{30,}$", stack.terminal.type(tokens), re.MULTILINE)
    before, after = (format_ts(datetime.now(UTC).replace(microsecond=0, second=s)) for s in (0, 30))
    assert stack.ask("POST", "/v1/ingest", edge, {"samples": [READING | {"ts": before}]})["inserted"] == 1

    stack.terminal.type(backup)
    files = sorted(path.name for path in (stack.terminal.folder / "backups").iterdir())
    assert re.fullmatch(r"sungrow-\d{4}-\d\d-\d\d", files[0])
    assert files[1:] == [f"{files[0]}.json"]
    assert stack.ask("POST", "/v1/ingest", edge, {"samples": [READING | {"ts": after}]})["inserted"] == 1

    stack.terminal.standing_for = {**stack.terminal.standing_for, "sungrow-2026-01-31": files[0]}
    stack.terminal.type(restore)
    wait_until("the server", stack.is_listening, timeout_s=PATIENCE_S)
    assert {"sungrow", "sungrow_old"} <= stack.databases()
    assert "sungrow_new" not in stack.databases()
    assert stack.ask("GET", "/v1/realtime", me)["ts"] == before
    answer = stack.ask(
        "POST", "/v1/ingest", edge, {"samples": [READING | {"ts": before}], "last_delivered": [after]}
    )
    assert (answer["duplicates"], answer["resend"]) == (1, True), "the edge is told to send again"
