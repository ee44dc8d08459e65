"""The page's own sources: strict types, and what can be tested without a browser."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import REQUIRE_ALL
from tools.node import find_node
from tools.page import INSTALLED, SOURCES

ENTRIES: Final = sorted(path.name for path in (SOURCES / "test").glob("*.test.ts"))


def node(script: str, *arguments: str) -> None:
    """Run a script of the page with Node, wherever it comes from."""
    found = find_node()
    if found is None or not INSTALLED.is_file() or not (SOURCES / "node_modules" / "typescript").is_dir():
        text = "the packages of dashboard/ are not installed: `make environment-dev` brings them"
        if REQUIRE_ALL:
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    answer = subprocess.run(
        [found.node, script, *arguments], cwd=SOURCES, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_types() -> None:
    node("node_modules/typescript/bin/tsc", "--noEmit")


def test_units() -> None:
    assert ENTRIES
    node("test.mjs")


def test_no_text_stands_outside_the_file_of_texts() -> None:
    """A quoted or bare sentence in a component would be missed by a translation."""
    suspicious = []
    for path in (SOURCES / "src" / "ui").glob("*.tsx"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            bare = line.strip()
            is_text = bare[:1].isupper() and " " in bare and not any(sign in bare for sign in "={}();:<>")
            if is_text:
                suspicious.append(f"{path.name}:{number}: {bare}")
    assert not suspicious


def test_the_lock_file_names_no_host_and_pins_everything() -> None:
    text = (SOURCES / "package-lock.json").read_text()
    assert "resolved" not in text
    assert "://" not in text.replace('"url": "https://', "").replace('"funding": "https://', "")
    assert Path(SOURCES / ".npmrc").read_text().count("ignore-scripts=true") == 1
