"""requirements/*.lock: everything pinned by hash, no addresses, in step with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[2]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD: Final = PROJECT["dependency-groups"]["build"]

WANTED: Final[dict[str, tuple[list[str] | None, list[str]]]] = {
    "dev": (["dev"], BUILD),
    "demo": (["demo"], BUILD),
    "library": ([], []),
    "edge": (["edge"], []),
    "server": (["server"], []),
    "build": (None, BUILD),
    "node": (None, PROJECT["dependency-groups"]["node"]),
}
"""Lock file -> the extras it covers (None: not even the library), and further requirements."""


def entries(name: str) -> list[str]:
    """Logical lines of a lock file, without comments."""
    lines = (ROOT / "requirements" / f"{name}.lock").read_text().splitlines()
    joined = "\n".join(line for line in lines if not line.lstrip().startswith("#")).replace("\\\n", " ")
    return joined.splitlines()


def pinned(name: str) -> dict[str, Requirement]:
    requirements = [Requirement(entry.split(" --hash=")[0]) for entry in entries(name)]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def declared(extras: Iterable[str]) -> Iterator[Requirement]:
    """What the base and ``extras`` ask for, extras of extras included."""
    optional = PROJECT["project"]["optional-dependencies"]
    texts = [*PROJECT["project"]["dependencies"], *(text for extra in extras for text in optional[extra])]
    for requirement in map(Requirement, texts):
        if canonicalize_name(requirement.name) == canonicalize_name(PROJECT["project"]["name"]):
            yield from declared(requirement.extras)
        else:
            yield requirement


def test_there_is_a_lock_file_for_each_purpose() -> None:
    assert {path.stem for path in (ROOT / "requirements").glob("*.lock")} == set(WANTED)


@pytest.mark.parametrize("name", WANTED)
def test_every_package_is_pinned_to_a_version_and_hashes(name: str) -> None:
    entry = re.compile(r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==[^ ;]+( ; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+")
    wrong = [line for line in entries(name) if not entry.fullmatch(line.rstrip())]
    assert entries(name)
    assert not wrong


@pytest.mark.parametrize("name", WANTED)
def test_no_lock_file_names_a_host_or_an_index(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    assert not re.search(
        r"://|\bfile:|--(extra-)?index-url|--find-links|--trusted-host|\.(org|com|net|io)\b", text
    )


@pytest.mark.parametrize("name", WANTED)
def test_what_the_project_declares_is_locked_in_a_version_it_accepts(name: str) -> None:
    extras, more = WANTED[name]
    locked = pinned(name)
    own = [] if extras is None else declared(extras)
    for requirement in [*own, *map(Requirement, more)]:
        found = locked.get(canonicalize_name(requirement.name))
        assert found is not None, f"{requirement.name} is not in {name}.lock: run `make lock`"
        (version,) = [specifier.version for specifier in found.specifier]
        assert requirement.specifier.contains(version), f"{found} is not {requirement}: run `make lock`"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_markers_choose_for_each_python(python: str) -> None:
    zstd = pinned("library")["backports-zstd"]
    assert zstd.marker is not None
    chosen = zstd.marker.evaluate({"python_version": python, "python_full_version": f"{python}.0"})
    assert chosen == (python != "3.14")


def test_the_same_package_has_the_same_version_everywhere() -> None:
    versions: dict[str, set[str]] = {}
    for name in WANTED:
        for package, requirement in pinned(name).items():
            versions.setdefault(package, set()).add(str(requirement.specifier))
    assert not {package: found for package, found in versions.items() if len(found) > 1}
