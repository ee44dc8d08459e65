"""Images and compose files: linted, their rules kept, and every command in them run without a container."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import anyio
import pytest
from ruamel.yaml import YAML

from sungrow_lib import InverterSimulator
from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import Child, wait_until
from sungrow_lib.demo.setup import free_ports
from tests.deploy.images import Image, context, instructions
from tests.living import living_inverter
from tests.patience import PATIENCE_S

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"
APPS: Final = ("edge", "server")
COMPOSE_FILES: Final = sorted(DEPLOY.glob("*compose.yaml"))


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def tool(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found is not None
    return found


def compose(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(path)
    return content


@pytest.mark.parametrize("app", APPS)
def test_a_dockerfile_is_clean(app: str) -> None:
    run(tool("hadolint"), "--failure-threshold", "style", DEPLOY / f"{app}.Dockerfile")


@pytest.mark.parametrize("app", APPS)
def test_an_image_is_small_confined_and_checked(app: str) -> None:
    steps = instructions(DEPLOY / f"{app}.Dockerfile")
    given = dict(steps)  # of instructions that stand twice, the last stage's counts
    bases = [rest.split()[0] for name, rest in steps if name == "FROM"]
    assert len(set(bases)) == 1
    assert "slim" in bases[0]
    assert given["USER"] == "10001:10001"
    assert {"HEALTHCHECK", "ENTRYPOINT", "CMD"} <= set(given)
    last_stage = steps[[name for name, _ in steps].index("FROM", 1) :]
    assert [rest for name, rest in last_stage if name == "COPY"] == [
        "--from=builder /opt/sungrow /opt/sungrow"
    ]
    for rest in (rest for name, rest in steps if name == "RUN"):
        for part in rest.split("&&"):
            if "pip" in part and " install " in part:
                assert "--require-hashes" in part or "--no-deps" in part
                assert "--no-cache-dir" in part
        assert "://" not in rest


def test_nothing_but_sources_goes_into_an_image() -> None:
    assert all((ROOT / name).exists() for name in context())
    assert not {".git", ".venv", "deploy", "tests"} & set(context())


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_a_compose_file_keeps_to_the_specification(path: Path) -> None:
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", path)


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_every_service_is_confined_and_comes_back(path: Path) -> None:
    for name, service in compose(path)["services"].items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert ":" in service["image"] or "build" in service, name
        assert not service["image"].endswith(":latest"), name
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped"), name
        if name != "database":  # its image starts as root and becomes postgres
            assert service["cap_drop"] == ["ALL"], name
            assert service["read_only"], name


def test_only_caddy_is_reached_from_outside_and_only_caddy_is_believed() -> None:
    stack = compose(DEPLOY / "compose.yaml")
    services = stack["services"]
    assert {name for name, service in services.items() if "ports" in service} == {"caddy"}
    assert (
        services["server"]["environment"]["TRUSTED_PROXIES"]
        == (services["caddy"]["networks"]["outer"]["ipv4_address"])
    )
    assert services["database"]["networks"] == ["inner"]
    assert stack["networks"]["inner"]["internal"]


def test_the_server_waits_for_its_schema() -> None:
    services = compose(DEPLOY / "compose.yaml")["services"]
    assert services["migrate"]["depends_on"]["database"]["condition"] == "service_healthy"
    assert services["server"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert services["migrate"]["image"] == services["server"]["image"]


def test_the_server_can_back_up_the_database_of_the_compose_file() -> None:
    image = compose(DEPLOY / "compose.yaml")["services"]["database"]["image"]
    client = re.search(r"postgresql-client-(\d+)", (DEPLOY / "server.Dockerfile").read_text())
    assert client is not None
    assert image.endswith(f"-pg{client[1]}")  # pg_dump refuses a server newer than itself


def test_the_databases_health_check_asks_a_running_database(postgres_dsn: str) -> None:
    check = compose(DEPLOY / "compose.yaml")["services"]["database"]["healthcheck"]["test"]
    assert check[:2] == ["CMD", "pg_isready"]
    programs = Path("/usr/lib/postgresql/15/bin")
    if not programs.is_dir():
        pytest.skip("pg_isready comes with PostgreSQL 15")
    run(programs / "pg_isready", *check[2:], f"--dbname={postgres_dsn}")


# -------------------------------------------------------------------------------- what the images run


@pytest.fixture(scope="module")
def server_image(tmp_path_factory: pytest.TempPathFactory, pip_settings: dict[str, str]) -> Image:
    return built("server", tmp_path_factory.mktemp("server"), pip_settings)


@pytest.fixture(scope="module")
def edge_image(tmp_path_factory: pytest.TempPathFactory, pip_settings: dict[str, str]) -> Image:
    return built("edge", tmp_path_factory.mktemp("edge"), pip_settings)


def built(app: str, folder: Path, pip_settings: dict[str, str]) -> Image:
    image = Image(DEPLOY / f"{app}.Dockerfile", folder, pip_settings)
    image.build()
    return image


@pytest.fixture
def watched() -> Iterator[list[Child]]:
    children: list[Child] = []
    yield children
    for child in children:
        child.stop(60.0)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # downloads
def test_the_server_image_migrates_serves_and_is_healthy(
    server_image: Image, database: str, tmp_path: Path, watched: list[Child]
) -> None:
    [port] = free_ports(1)
    variables = {"DATABASE_URL": database, "LISTEN_PORT": str(port), "TRUSTED_PROXIES": "127.0.0.2"}
    migrated = server_image.run(*server_image.command("migrate"), **variables)
    assert migrated.returncode == 0, migrated.stderr
    assert server_image.run(*server_image.health_check, **variables).returncode != 0  # not yet
    command = server_image.found(server_image.command())
    environment = server_image.environment | variables
    server = Child("the server", command, tmp_path / "log", environment=environment)
    watched.append(server)
    wait_until(
        "health",
        lambda: server_image.run(*server_image.health_check, **variables).returncode == 0,
        timeout_s=PATIENCE_S,
        watched=[server],
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_server_image_does_not_serve_the_world_without_tls(server_image: Image) -> None:
    done = server_image.run(*server_image.command(), DATABASE_URL="postgresql://nobody@127.0.0.1:9/none")
    assert done.returncode != 0
    [line] = done.stderr.splitlines()
    assert "TRUSTED_PROXIES" in line


@pytest.mark.slow
@pytest.mark.timeout(1200)  # downloads
@pytest.mark.anyio
async def test_the_edge_image_polls_and_is_alive(
    edge_image: Image, tmp_path: Path, tls_files: CertificateFiles, watched: list[Child]
) -> None:
    inverter = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1)
    async with InverterSimulator({1: inverter}) as simulator:
        variables = {
            "SERVER_URL": f"https://localhost:{free_ports(1)[0]}",
            "DEVICE_TOKEN": "edge-token-0123456789",
            "CA_FILE": str(tls_files.ca),
            "SUNGROW_HOST": "127.0.0.1",
            "SUNGROW_PORT": str(simulator.port),
            "DEVICE_ID": "roof",
            "SUNGROW_LOCK_DIR": str(tmp_path),
        }
        assert edge_image.run(*edge_image.health_check, **variables).returncode != 0  # not yet
        command = edge_image.found(edge_image.command())
        child = Child("the edge", command, tmp_path / "log", environment=edge_image.environment | variables)
        watched.append(child)

        def is_alive() -> bool:
            return edge_image.run(*edge_image.health_check, **variables).returncode == 0

        await anyio.to_thread.run_sync(
            lambda: wait_until("life", is_alive, timeout_s=PATIENCE_S, watched=[child])
        )
        shown = await anyio.to_thread.run_sync(
            lambda: edge_image.run(*edge_image.command("status", "--json"), **variables)
        )
    assert '"running": true' in shown.stdout  # read from the spool's place in the image's volume
