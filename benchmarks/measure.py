"""Timing two ways to do the same job so that their ratio can be trusted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the result.

    Attributes:
        what: the job, and what it is compared with.
        ours_us: microseconds of ours.
        other_us: microseconds of the floor or peer.
        ratio: median of ours / other, pair by pair.
    """

    what: str
    ours_us: float
    other_us: float
    ratio: float

    def __str__(self) -> str:
        return f"{self.what:<58} {self.ours_us:>7.1f} us {self.other_us:>7.1f} us  {self.ratio:>6.2f}"


def compare(
    what: str, ours: Callable[[], object], other: Callable[[], object], *, jobs: int = 1, rounds: int = 15
) -> Figure:
    """Time the two in turn, so that a machine that slows down slows both.

    Args:
        what: the job.
        ours: does ``jobs`` jobs.
        other: does the same number of them.
        jobs: how many jobs one call does.
        rounds: how many pairs count; one more before them does not.
    """
    pairs = [(_time(ours), _time(other)) for _ in range(rounds + 1)][1:]
    return Figure(
        what,
        statistics.median(pair[0] for pair in pairs) / jobs * 1e6,
        statistics.median(pair[1] for pair in pairs) / jobs * 1e6,
        statistics.median(one / two for one, two in pairs),
    )


def _time(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start
