"""The wheel carries everything, and its library works with nothing but what it declares."""

from __future__ import annotations

import email
import gzip
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Final, Protocol

import pytest
from packaging.metadata import Metadata

from sungrow_lib import __version__

ROOT: Final = Path(__file__).resolve().parents[2]
EXTRAS: Final = {"edge", "server", "demo", "notebooks", "docs", "dev", "all"}


@pytest.fixture(scope="session")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


class Build(Protocol):
    """Builds a distribution and returns its path."""

    def __call__(self, kind: str, target: Path, *, source: Path, env: dict[str, str]) -> Path: ...


def content(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (found,) = [path for path in archive.namelist() if path.endswith(f".dist-info/{name}")]
        return archive.read(found).decode()


def test_every_module_and_every_sql_file_is_in_the_wheel(names: set[str]) -> None:
    modules = {
        path.relative_to(ROOT).as_posix()
        for package in ("sungrow_lib", "reference_edge", "reference_server")
        for path in (ROOT / package).rglob("*.py")
    }
    sql = {f"reference_server/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "db").rglob("*.sql")}
    assert sql
    assert modules | sql <= names


def test_the_web_page_is_in_the_wheel_with_all_that_it_names(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {
            name.rpartition("/")[2]: archive.read(name)
            for name in archive.namelist()
            if name.startswith("reference_server/web/")
        }
    named = set(re.findall(rb'/static/([^"]+)', files["index.html"]))
    assert {name.decode().rpartition(".")[2] for name in named} == {"js", "css", "json", "svg"}
    for name in ("index.html", *(name.decode() for name in named)):
        assert gzip.decompress(files[f"{name}.gz"]) == files[name]
        assert f"{name}.br" in files
    assert sum(len(content) for name, content in files.items() if name.endswith(".gz")) < 200_000
    assert b"uplot" in files["licences.txt"]


def test_a_source_distribution_makes_the_same_wheel_and_needs_no_node(
    wheel: Path, sdist: Path, build: Build, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [unpacked] = tmp_path.iterdir()
    assert not (unpacked / "dashboard").exists()
    again = build("wheel", tmp_path / "dist", source=unpacked, env={"PATH": ""})
    assert again.name == wheel.name
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert one.namelist() == other.namelist()
        assert not [name for name in one.namelist() if one.read(name) != other.read(name)]


def test_a_source_distribution_holds_what_the_package_is_made_of_and_nothing_else(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        paths = [name.split("/")[1:] for name in archive.getnames()]
    assert {path[0] for path in paths} == {
        "sungrow_lib",
        "reference_edge",
        "reference_server",
        "db",
        "pyproject.toml",
        "hatch_build.py",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "PKG-INFO",
        ".gitignore",
    }
    assert not [path for path in paths if path[-1].endswith((".pyc", ".sqlite"))]


def test_the_packages_say_that_they_are_typed(names: set[str]) -> None:
    assert {
        f"{package}/py.typed" for package in ("sungrow_lib", "reference_edge", "reference_server")
    } <= names


def test_nothing_but_the_packages_is_in_the_wheel(names: set[str]) -> None:
    folders = {name.split("/")[0] for name in names}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {
        "sungrow_lib",
        "reference_edge",
        "reference_server",
    }


def test_licence_and_commands(wheel: Path) -> None:
    assert "Apache License" in content(wheel, "licenses/LICENSE")
    commands = content(wheel, "entry_points.txt")
    for command in ("sungrow", "sungrow-edge", "sungrow-server"):
        assert f"\n{command} = " in commands


def test_metadata_are_valid_and_both_distributions_have_the_same(wheel: Path, sdist: Path) -> None:
    text = content(wheel, "METADATA")
    with tarfile.open(sdist) as archive:
        [name] = [name for name in archive.getnames() if name.count("/") == 1 and name.endswith("/PKG-INFO")]
        told = archive.extractfile(name)
        assert told is not None
        assert told.read().decode() == text
    metadata = Metadata.from_email(text, validate=True)
    assert metadata.name == "sungrow-lib"
    assert str(metadata.version) == __version__
    assert metadata.license_expression == "Apache-2.0"
    assert str(metadata.requires_python) == ">=3.11"
    assert metadata.description_content_type == "text/markdown"
    assert metadata.description == (ROOT / "README.md").read_text()
    assert set(metadata.provides_extra or []) == EXTRAS


def test_the_version_is_written_in_one_place() -> None:
    assigned = re.compile(r"^\s*(__version__|version) *= *\"", re.MULTILINE)
    sources = [ROOT / "pyproject.toml", *ROOT.glob("sungrow_lib/**/*.py"), *ROOT.glob("reference_*/**/*.py")]
    found = [path.relative_to(ROOT).as_posix() for path in sources if assigned.search(path.read_text())]
    assert found == ["sungrow_lib/_version.py"]


def test_only_the_extras_ask_for_server_and_database_packages(wheel: Path) -> None:
    metadata = email.message_from_string(content(wheel, "METADATA"))
    always = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {line.replace("[", "<").split("<")[0].split(">")[0].split("~")[0] for line in always} == {
        "anyio",
        "backports-zstd",
        "certifi",
        "httpcore",
        "httpx",
        "pydantic",
        "pymodbus",
    }
