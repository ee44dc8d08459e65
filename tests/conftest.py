"""What all tests share: databases, certificates, and the list of what could not be tested on this machine.

Tools that the tests use but cannot bring (a browser, a web server, another PostgreSQL) are asked for with the
fixture `need`. Where one is missing its tests are skipped and the last lines of the run say so; with
SUNGROW_REQUIRE_ALL=1 they fail. The collected facts and captures, which nothing can install, are asked for
with `beside`: where they are not at hand, their tests are skipped and named in any case.
"""

from __future__ import annotations

import gc
import logging
import os
import secrets
import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from reference_server.storage.migrations import migrate
from sungrow_lib.demo.certificates import CertificateFiles, make_certificates
from sungrow_lib.demo.postgres import EmbeddedPostgres
from tests import wheels
from tests.memory import folder_in_memory, has_plenty
from tests.mortal import LentDatabase, Mortal

REQUIRE_ALL = os.environ.get("SUNGROW_REQUIRE_ALL") == "1"
TIMESCALEDB_DSN = os.environ.get("SUNGROW_TEST_TIMESCALEDB_DSN", "")
OLDEST_POSTGRESQL = Path("/usr/lib/postgresql/15/bin")  # where Debian puts it

_OLDEST_MISSING = ("PostgreSQL 15", "the oldest supported database (Debian: postgresql-15)")

EMBEDDED, OLDEST, TIMESCALEDB = "embedded", "postgresql15", "timescaledb"

_BESIDE: Final = {
    "facts": "the register tables against those collected from documents and projects",
    "captures": "whole captures of devices against the figures of their source",
}
"""What the folders are for that may lie in ``shared``, beside the repository or the folder that holds it."""

_left_out: dict[str, str] = {}


class Need(Protocol):
    """Gives the path of the first of ``commands`` that is installed; skips the test when none is."""

    def __call__(self, *commands: str, purpose: str) -> Path: ...


def _leave_out(what: str, purpose: str) -> NoReturn:
    _left_out[what] = purpose
    text = f"{what} is not installed: {purpose}"
    if REQUIRE_ALL:
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A command that a test runs in this process sets up logging for the whole of it."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


@pytest.fixture(scope="session")
def need() -> Need:
    def find(*commands: str, purpose: str) -> Path:
        for command in commands:
            if path := shutil.which(command):
                return Path(path)
        _leave_out(commands[0], purpose)

    return find


@pytest.fixture(scope="session")
def leave_out() -> Callable[[str, str], NoReturn]:
    """Skips the test because of what is not there, given with its purpose."""
    return _leave_out


class Beside(Protocol):
    """Gives the path of a folder beside the repository; skips the test where it is not at hand."""

    def __call__(self, folder: str) -> Path: ...


@pytest.fixture(scope="session")
def beside() -> Beside:
    def find(folder: str) -> Path:
        for around in Path(__file__).resolve().parents[2:4]:
            if (path := around / "shared" / folder).is_dir():
                return path
        _left_out[f"../shared/{folder}"] = _BESIDE[folder]
        pytest.skip(f"../shared/{folder} is not at hand: {_BESIDE[folder]}")

    return find


def pytest_configure() -> None:
    """Undo what a shell does to background jobs: they, and so our children, would ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)  # asked by pytest-xdist alone
def pytest_xdist_auto_num_workers() -> int:
    """Use two for each core: much of the time a test waits, for a polite pace or for what it starts."""
    return 2 * (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@pytest.hookimpl(trylast=True)  # pytest itself puts what shares an engine side by side
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that may take longest: as the last, one would keep a single core busy."""
    if not hasattr(config, "workerinput"):
        return
    limits: dict[Path, float] = {}
    for item in items:
        marker = item.get_closest_marker("timeout")
        limits[item.path] = max(limits.get(item.path, 0.0), marker.args[0] if marker else 0.0)
    items.sort(key=lambda item: -limits[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what is loaded and collected out of the search for garbage: it stays to the end of the run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a worker of a run on several cores tell the main process what it left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = _left_out


@pytest.hookimpl(optionalhook=True)  # asked for by pytest-xdist alone
def pytest_testnodedown(node: Any) -> None:
    """Collect what a worker left out."""
    _left_out.update(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say, after everything else, what this run did not test."""
    if hasattr(config, "workeroutput"):
        return
    writer = config.get_terminal_writer()
    if _left_out:
        writer.line("left out, because it is not on this machine:")
    for what, purpose in sorted(_left_out.items()):
        writer.line(f"  {what}: {purpose}")


# ------------------------------------------------------------------------------------------- databases


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of `any_database` or `mortal_database` once on each engine that can be had.

    Of the former, one that is marked `one_engine` is run on the embedded one alone.
    """
    if "mortal_database" in metafunc.fixturenames:
        metafunc.parametrize("mortal_database", _engines(), indirect=True)
    if "any_engine" not in metafunc.fixturenames:
        return
    one_is_enough = metafunc.definition.get_closest_marker("one_engine") is not None
    engines = [EMBEDDED] if one_is_enough else _engines()
    metafunc.parametrize("any_engine", engines, indirect=True, scope="session")


def _engines() -> list[str]:
    engines = [EMBEDDED]
    if REQUIRE_ALL or OLDEST_POSTGRESQL.is_dir():
        engines.append(OLDEST)
    else:
        _left_out.update([_OLDEST_MISSING])
    if TIMESCALEDB_DSN:
        engines.append(TIMESCALEDB)
    else:
        _left_out["TimescaleDB"] = "the production database (set SUNGROW_TEST_TIMESCALEDB_DSN)"
    return engines


@pytest.fixture(scope="session")
def engine_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Start each engine at its first use, all of them throw-away clusters of this session."""
    running: dict[str, str] = {TIMESCALEDB: TIMESCALEDB_DSN}
    with ExitStack() as clusters:
        # Each database that is made is some hundred files, for which a busy disk takes seconds.
        in_memory = clusters.enter_context(folder_in_memory()) if has_plenty() else None

        def start(engine: str) -> str:
            if engine == OLDEST and not OLDEST_POSTGRESQL.is_dir():
                _leave_out(*_OLDEST_MISSING)
            if engine not in running:
                bin_dir = OLDEST_POSTGRESQL if engine == OLDEST else None
                folder = in_memory / engine if in_memory else tmp_path_factory.mktemp(engine)
                cluster = EmbeddedPostgres(folder, throw_away=True, bin_dir=bin_dir)
                running[engine] = clusters.enter_context(cluster).dsn
            return running[engine]

        yield start


@pytest.fixture(scope="session")
def postgres_dsn(engine_dsn: Callable[[str], str]) -> str:
    """The embedded PostgreSQL of this session; a test that writes wants `database` instead."""
    return engine_dsn(EMBEDDED)


@pytest.fixture
def database(postgres_dsn: str) -> Iterator[str]:
    """A fresh, empty database in the embedded PostgreSQL."""
    with _fresh_database(postgres_dsn) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def any_engine(request: pytest.FixtureRequest, engine_dsn: Callable[[str], str]) -> str:
    """One engine after the other: embedded, the oldest supported, TimescaleDB."""
    return engine_dsn(request.param)


@pytest.fixture
def any_database(any_engine: str) -> Iterator[str]:
    """A fresh, empty database on each engine that can be had."""
    with _fresh_database(any_engine) as dsn:
        yield dsn


@pytest.fixture
def mortal_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mortal]:
    """An empty database that a test may kill, on each engine that can be had."""
    if request.param == TIMESCALEDB:
        with _fresh_database(TIMESCALEDB_DSN) as dsn, LentDatabase(dsn, TIMESCALEDB_DSN) as lent:
            yield lent
        return
    if request.param == OLDEST and not OLDEST_POSTGRESQL.is_dir():
        _leave_out(*_OLDEST_MISSING)
    bin_dir = OLDEST_POSTGRESQL if request.param == OLDEST else None
    with EmbeddedPostgres(tmp_path / "mortal", bin_dir=bin_dir) as cluster:
        yield cluster


@pytest.fixture
def migrated(any_engine: str, schema_on: Callable[[str], str]) -> Iterator[str]:
    """A fresh database with the schema, on each engine that can be had."""
    if any_engine == TIMESCALEDB_DSN:  # its workers come and go: no copy of a database can be made
        with _fresh_database(any_engine) as dsn:
            migrate(dsn)
            yield dsn
    else:
        with _fresh_database(any_engine, template=schema_on(any_engine)) as dsn:
            yield dsn


@pytest.fixture(scope="session")
def schema_on() -> Callable[[str], str]:
    """Name an engine's database that has the schema and is only copied: faster than to make it anew."""

    @cache
    def make(engine: str) -> str:
        name = _made(engine)
        migrate(make_conninfo(engine, dbname=name))
        return name

    return make


@contextmanager
def _fresh_database(engine: str, template: str = "template0") -> Iterator[str]:
    name = _made(engine, template)
    dsn = make_conninfo(engine, dbname=name)
    if (
        engine == TIMESCALEDB_DSN
    ):  # not in template0, and without it the same server is nothing but PostgreSQL
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(b"CREATE EXTENSION timescaledb")
            # Its jobs run when a test says so, not when they find the time.
            connection.execute("SELECT _timescaledb_functions.stop_background_workers()")
    yield dsn
    with psycopg.connect(engine, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _made(engine: str, template: str = "template0") -> str:
    name = f"test_{secrets.token_hex(6)}"  # a TimescaleDB may be shared, and outlive the run
    # Where nothing is ever synced, files are copied with a third of the work of writing each page to the log.
    strategy = "" if engine == TIMESCALEDB_DSN else " STRATEGY FILE_COPY"
    with psycopg.connect(engine, autocommit=True) as connection:
        statement = f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8'{strategy}"
        connection.execute(statement.encode())
    return name


# ------------------------------------------------------------------------------------------- the rest


@pytest.fixture(scope="session")
def pip_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which pip installs what the lock files name from wheels that are brought once a run."""
    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent
    return wheels.bring(common / "wheels")


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    """A private authority and a certificate for localhost, 127.0.0.1 and ::1."""
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
