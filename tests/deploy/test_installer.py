"""The edge's installer: into a scratch root, twice, with a real run of it, and undone again."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.request import Request, urlopen
from zoneinfo import ZoneInfo

import anyio
import pytest

from reference_server.storage.migrations import migrate
from sungrow_lib import InverterSimulator, __version__
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import Child, python, wait_until
from sungrow_lib.demo.setup import clean_environment, free_ports
from tests.clone import NEXT_VERSION, Clone
from tests.conftest import Need
from tests.deploy import machine
from tests.guides.shell import DOCS, Terminal, runnable
from tests.living import living_inverter
from tests.patience import PATIENCE_S

ROOT: Final = Path(__file__).resolve().parents[2]
INSTALLER: Final = ROOT / "deploy" / "install-edge.sh"
SCRIPTS: Final = (INSTALLER, ROOT / "deploy" / "systemd" / "sungrow-server.sh", ROOT / ".ci" / "run")
TOKEN: Final = "edge-token-0123456789"
GIVEN: Final = ("--server", "https://localhost:1", "--inverter", "127.0.0.1", "--device", "roof")


def installer(
    root: Path, *words: str, token: str = "", pip_settings: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    return subprocess.run(
        [INSTALLER, "--root", root, *words],
        env=kept | {"PATH": os.environ["PATH"], "HOME": str(root.parent), **pip_settings},
        input=token,
        capture_output=True,
        text=True,
        check=False,
    )


def files(root: Path) -> set[str]:
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()}
    return {name for name in found if not name.startswith("opt/sungrow-edge/")}


def test_the_scripts_are_clean(need: Need) -> None:
    shellcheck = need("shellcheck", purpose="the check of the installer (Debian: shellcheck)")
    done = subprocess.run([shellcheck, *SCRIPTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_help_names_every_option() -> None:
    shown = subprocess.run([INSTALLER, "--help"], capture_output=True, text=True, check=True).stdout
    text = INSTALLER.read_text()
    options = set(re.findall(r"--[a-z-]+", text[text.index("while [") : text.index("done\n")])) - {"--help"}
    assert len(options) >= 10
    assert not [option for option in options if f"  {option} " not in shown]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--server", "https://solar.example.org"), "--server, --inverter and --device"),
        ((*GIVEN, "--server", "http://solar.example.org"), "https://"),
        ((*GIVEN, "--token-file", "/no/such/file"), "cannot read the token"),
        ((*GIVEN, "--device", 'a"b'), "quotation marks"),
        ((*GIVEN, "--device"), "needs a value"),
        (("--purge",), "--uninstall"),
        (("--uninstall", "--discard-readings"), "--purge"),
        (("--wrong",), "no option"),
    ],
)
def test_wrong_use_is_one_line_and_changes_nothing(
    tmp_path: Path, words: tuple[str, ...], reason: str
) -> None:
    done = installer(tmp_path, *words)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert reason in line
    assert not list(tmp_path.iterdir())


@pytest.fixture
def server(database: str, tls_files: CertificateFiles, tmp_path: Path) -> Iterator[str]:
    migrate(database)
    [port] = free_ports(1)
    environment = clean_environment() | {
        "DATABASE_URL": database,
        "DEVICE_TOKENS": f"{TOKEN}:roof",
        "LISTEN_PORT": str(port),
        "TLS_CERT_FILE": str(tls_files.cert),
        "TLS_KEY_FILE": str(tls_files.key),
    }
    with ExitStack() as stack:
        child = Child(
            "the server", python("reference_server", "run"), tmp_path / "server.log", environment=environment
        )
        stack.callback(child.stop, 60.0)
        yield f"https://localhost:{port}"


def shown(server: str, ca: Path) -> dict[str, object]:
    """The latest reading the server has; empty before the first."""
    request = Request(f"{server}/v1/realtime", headers={"Authorization": f"Bearer {TOKEN}"})
    try:
        with urlopen(request, timeout=5, context=ssl.create_default_context(cafile=str(ca))) as answer:
            content: dict[str, object] = json.load(answer)
    except OSError:
        return {}
    return content


@pytest.mark.slow
@pytest.mark.timeout(1200)  # downloads
@pytest.mark.anyio
async def test_one_command_installs_an_edge_that_works_and_another_undoes_it(
    server: str, tls_files: CertificateFiles, tmp_path: Path, pip_settings: dict[str, str]
) -> None:
    inverter = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1)
    async with InverterSimulator({1: inverter}) as simulator:
        options = (*GIVEN, "--server", server, "--port", str(simulator.port), "--ca", str(tls_files.ca))
        await anyio.to_thread.run_sync(_live, tmp_path / "root", options, server, tls_files.ca, pip_settings)


def _live(root: Path, options: tuple[str, ...], server: str, ca: Path, pip_settings: dict[str, str]) -> None:
    root.mkdir()
    done = installer(
        root, *options, "--timezone", "Europe/Berlin", token=TOKEN + "\n", pip_settings=pip_settings
    )
    assert done.returncode == 0, done.stderr
    edge = root / "usr/local/bin/sungrow-edge"
    settings = root / "etc/sungrow-edge/edge.toml"
    assert files(root) == {
        "etc/sungrow-edge/ca.pem",
        "etc/sungrow-edge/edge.toml",
        "etc/sungrow-edge/token",
        "etc/systemd/system/sungrow-edge.service",
        "etc/tmpfiles.d/sungrow-edge.conf",
        "usr/local/bin/sungrow",
        "usr/local/bin/sungrow-edge",
    }
    assert (root / "etc/sungrow-edge/token").stat().st_mode & 0o007 == 0
    assert tomllib.loads(settings.read_text())["devices"][0]["timezone"] == "Europe/Berlin"
    _run(edge, "check", "--offline")
    _deliver(root, edge, server, ca)
    _upgrade(root, edge, settings, pip_settings)
    _deliver(root, edge, server, ca)
    _undo(root, edge)


def _run(edge: Path, *words: str) -> str:
    done = subprocess.run(
        [edge, *words], env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _deliver(root: Path, edge: Path, server: str, ca: Path) -> None:
    """Run what was installed until the server shows a reading."""
    child = Child("the edge", [str(edge), "run"], root.parent / "edge.log", environment=clean_environment())
    try:
        wait_until(
            "a reading", lambda: "pv_power_w" in shown(server, ca), timeout_s=PATIENCE_S, watched=[child]
        )
    finally:
        child.stop(60.0)
    assert json.loads(_run(edge, "status", "--json"))["spool"]["delivered"] >= 1


def _upgrade(root: Path, edge: Path, settings: Path, pip_settings: dict[str, str]) -> None:
    """The guide is followed to a newer version: it asks and changes nothing and keeps every reading."""
    folder = root.parent / "upgrade"
    folder.mkdir()
    machine.place(folder / "bin")
    (folder / "machine.json").write_text(json.dumps({"root": str(root)}))
    clone = Clone(folder)
    clone.publish_next()
    settings.write_text(settings.read_text() + "# changed by hand\n")
    before = {name: (root / name).read_bytes() for name in files(root)}
    readings = _readings(edge, folder / "before.jsonl")
    assert __version__ in _run(edge, "--version")
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    environment = clean_environment() | kept | pip_settings
    environment |= {"MACHINE_STAND_IN": str(folder / "machine.json")}
    [block] = runnable(DOCS / "deployment.md", "edge-machine")
    with Terminal(clone.folder, environment, {}) as terminal:
        terminal.environment["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        terminal.type(block)
    assert NEXT_VERSION in _run(edge, "--version")
    assert {name: (root / name).read_bytes() for name in files(root)} == before
    assert readings
    assert _readings(edge, folder / "after.jsonl") == readings


def _readings(edge: Path, file: Path) -> list[str]:
    """Every reading the spool keeps, delivered ones, too."""
    _run(edge, "spool", "export", str(file))
    return [line for line in file.read_text().splitlines() if '"ts"' in line]


def _undo(root: Path, edge: Path) -> None:
    """Readings stay until they are told to go, and go only when all are delivered."""
    _run(edge, "spool", "resend")
    refused = installer(root, "--uninstall", "--purge")
    assert refused.returncode == 1
    assert "what no server has" in refused.stderr
    assert "pending" in refused.stderr
    assert edge.exists()
    assert installer(root, "--uninstall").returncode == 0
    assert not (root / "opt/sungrow-edge").exists()
    left = files(root)
    assert {name.split("/")[0] for name in left} == {"etc", "var"}
    assert "var/lib/sungrow-edge/spool.sqlite" in left
