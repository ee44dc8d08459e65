"""The wheel carries everything, and its library works with nothing but what it declares."""

from __future__ import annotations

import email
import gzip
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


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
    assert {name.decode().rpartition(".")[2] for name in named} == {"js", "css", "svg"}
    for name in ("index.html", *(name.decode() for name in named)):
        assert gzip.decompress(files[f"{name}.gz"]) == files[name]
        assert f"{name}.br" in files
    assert sum(len(content) for name, content in files.items() if name.endswith(".gz")) < 200_000
    assert b"uplot" in files["licences.txt"]


def test_a_source_distribution_carries_the_page_and_needs_no_node(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(tmp_path)]
    subprocess.run([*command, "--target", "sdist"], cwd=ROOT, check=True, capture_output=True, text=True)
    [sdist] = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [unpacked] = (path for path in tmp_path.iterdir() if path.is_dir())
    assert not (unpacked / "dashboard").exists()
    subprocess.run([*command, "--target", "wheel"], cwd=unpacked, check=True, env={"PATH": ""})
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as built:
        assert "reference_server/web/index.html" in built.namelist()


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


def test_only_the_extras_ask_for_server_and_database_packages(wheel: Path) -> None:
    metadata = email.message_from_string(content(wheel, "METADATA"))
    always = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {line.replace("[", "<").split("<")[0].split(">")[0].split("~")[0] for line in always} == {
        "anyio",
        "backports-zstd",
        "httpx",
        "pydantic",
        "pymodbus",
    }


@pytest.mark.slow
@pytest.mark.timeout(600)  # downloads
def test_the_bare_library_installs_into_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    lock = ROOT / "requirements" / "library.lock"
    for arguments in (
        ["install", "--quiet", "--require-hashes", "--requirement", str(lock)],
        ["install", "--quiet", "--no-deps", str(wheel)],
        ["check"],
    ):
        subprocess.run([python, "-m", "pip", "--disable-pip-version-check", *arguments], check=True)
    use = "import sungrow_lib; [getattr(sungrow_lib, name) for name in sungrow_lib.__all__]"
    subprocess.run([python, "-W", "error", "-c", use], check=True, cwd=tmp_path)
    shown = subprocess.run(
        [tmp_path / "venv" / "bin" / "sungrow", "--version"], check=True, capture_output=True, text=True
    )
    assert shown.stdout.startswith("sungrow_lib ")
