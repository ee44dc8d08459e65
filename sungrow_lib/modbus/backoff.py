"""Growing, jittered waits after failures."""

from __future__ import annotations

import math
import random
from typing import Final

FIRST_DELAY_S: Final = 5.0
LONGEST_DELAY_S: Final = 60.0


class Backoff:
    """When something that failed may be tried again.

    The delay doubles from `first_s` to `longest_s`; the real one is drawn between half of it and all of it,
    so that several readers of one dead network do not return in step.

    Args:
        first_s: longest delay after the first failure, in seconds.
        longest_s: longest delay ever, in seconds.
    """

    def __init__(self, first_s: float = FIRST_DELAY_S, longest_s: float = LONGEST_DELAY_S) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._failures = 0
        self._ready_at = -math.inf

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._failures

    @property
    def at_longest(self) -> bool:
        """Whether the delay has grown to its longest."""
        return self._failures > 0 and self._ceiling_s >= self._longest_s

    @property
    def _ceiling_s(self) -> float:
        # 2.0 ** 1024 overflows: a device may be away for a year.
        return float(min(self._longest_s, self._first_s * 2.0 ** min(self._failures - 1, 32)))

    def failed(self, now: float) -> None:
        """Note a failure at ``now`` (seconds on any steady clock)."""
        self._failures += 1
        self._ready_at = now + self._ceiling_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret

    def succeeded(self) -> None:
        """Forget all failures."""
        self._failures = 0
        self._ready_at = -math.inf

    def remaining_s(self, now: float) -> float:
        """Seconds from ``now`` until the next try is due; 0 when it is."""
        return max(0.0, self._ready_at - now)
