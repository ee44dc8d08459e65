"""What the daemon does to stay small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHOW = """
import gc, weakref
from reference_edge.cli import _stay_small


class Task:
    def __init__(self):
        self.itself = self


def look(times):
    for _ in range(times):
        [[] for _ in range(300)]  # so many new objects make Python look at them


_stay_small()
gc.set_threshold(100, 5, 5)  # sooner, so that few objects are enough
under_way = [Task() for _ in range(1000)]
gone = weakref.ref(under_way[0])
look(20)  # they are old now
print(gone() is None)
under_way.clear()
look(60)
print(gone() is None)
"""
"""Objects that refer to themselves are old when they become garbage, as those of a slow request are."""


def test_garbage_does_not_wait_until_it_is_much_against_what_stays_for_good() -> None:
    run = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.split() == ["False", "True"]
