"""Properties are checked without a time limit for each example: the machine may be busy."""

from __future__ import annotations

import csv

import pytest
from hypothesis import settings

from tests.conftest import Beside
from tests.registers.facts import Rows

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def rows(beside: Beside) -> Rows:
    """Reads a list collected from documents and projects; skips the test where they are not at hand."""

    def read(name: str) -> list[dict[str, str]]:
        with (beside("facts") / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return read
