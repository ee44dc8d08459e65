"""Timing two ways to do the same job so that their ratio can be trusted."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the result.

    Attributes:
        what: the job, and what it is compared with.
        ours: of ours, in the unit.
        other: of the floor or peer, in the unit.
        ratio: median of ours / other, pair by pair.
        unit: ``us`` for microseconds, empty for things that are counted.
        goal: what the ratio ought to be, as people read it (``<= 1.5``); empty where there is no goal.
    """

    what: str
    ours: float
    other: float
    ratio: float
    unit: str = "us"
    goal: str = ""

    @classmethod
    def count(cls, what: str, ours: int, other: int) -> Figure:
        """Compare what is counted, not measured."""
        return cls(what, ours, other, ours / other, unit="")

    def __str__(self) -> str:
        ours, other = (self._shown(value) for value in (self.ours, self.other))
        goal = f"  (goal {self.goal})" if self.goal else ""
        return f"{self.what:<58} {ours:>10} {other:>10}  {self.ratio:>6.2f}{goal}"

    def _shown(self, value: float) -> str:
        return f"{value:.1f} {self.unit}" if self.unit else str(value)


def compare(
    what: str,
    ours: Callable[[], object],
    other: Callable[[], object],
    *,
    jobs: int = 1,
    rounds: int = 15,
    clock: Callable[[], float] = time.perf_counter,
    goal: str = "",
) -> Figure:
    """Time the two in turn, so that a machine that slows down slows both.

    Args:
        what: the job.
        ours: does ``jobs`` jobs.
        other: does the same number of them.
        jobs: how many jobs one call does.
        rounds: how many pairs count; one more before them does not.
        clock: what is measured, in seconds: time that passes, or ``time.process_time``.
        goal: what the ratio ought to be.
    """
    pairs = [(_time(ours, clock), _time(other, clock)) for _ in range(rounds + 1)][1:]
    return Figure(
        what,
        statistics.median(pair[0] for pair in pairs) / jobs * 1e6,
        statistics.median(pair[1] for pair in pairs) / jobs * 1e6,
        statistics.median(one / two for one, two in pairs),
        goal=goal,
    )


def _time(job: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    job()
    return clock() - start


def cpu_s(pid: int) -> float:
    """Seconds of a core that a process has used, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
