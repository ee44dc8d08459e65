"""Several readings of one device as one: what a full disk is given before anything is refused.

Pure. Works on the content of readings as the spool keeps it: JSON objects without `device_id` and `ts`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sungrow_lib.quantities import QUANTITIES, Quantity, QuantityKind

Content = Mapping[str, Any]
_COUNT: Final = "sample_count"
_INTERVAL: Final = "interval_s"


def merge_contents(contents: Sequence[Content]) -> dict[str, Any]:
    """Merge readings that follow each other.

    Gauges are averaged over time, counters, states and words are the last ones known, codes are all that
    were seen, `interval_s` and `sample_count` are sums. What no reading knows stays unknown.

    Args:
        contents: at least one, in the order of time.
    """
    counts = [content.get(_COUNT) or 1 for content in contents]
    weights = _weights([content.get(_INTERVAL) for content in contents], counts)
    merged: dict[str, Any] = {}
    for quantity in QUANTITIES:
        known = [
            (content[quantity.name], weight)
            for content, weight in zip(contents, weights, strict=True)
            if content.get(quantity.name) is not None
        ]
        if known:
            merged[quantity.name] = _merge(quantity, known)
    merged[_COUNT] = sum(counts)
    return merged


def _weights(intervals: Sequence[float | None], counts: Sequence[int]) -> list[float]:
    """Seconds each row stands for; a reading that does not know its own counts as the shortest known."""
    rows = list(zip(intervals, counts, strict=True))
    shortest = min((interval / count for interval, count in rows if interval), default=1.0)
    return [interval or shortest * count for interval, count in rows]


def _merge(quantity: Quantity, known: Sequence[tuple[Any, float]]) -> Any:
    values = [value for value, _ in known]
    if quantity.kind is QuantityKind.GAUGE:
        if quantity.length is None:
            return _average(quantity, known)
        return [_average(quantity, item) if item else None for item in _items(known)]
    if quantity.kind is QuantityKind.CODES:
        return list(dict.fromkeys(code for codes in values for code in codes))
    if quantity.name == _INTERVAL:
        return quantity.from_steps(quantity.to_steps(math.fsum(values)))
    return values[-1]


def _items(known: Sequence[tuple[list[Any], float]]) -> Iterator[list[tuple[float, float]]]:
    """For each tracker, phase or string: its known values and their weights."""
    for place in range(max(len(values) for values, _ in known)):
        yield [
            (values[place], weight)
            for values, weight in known
            if place < len(values) and values[place] is not None
        ]


def _average(quantity: Quantity, known: Sequence[tuple[float, float]]) -> float:
    total = math.fsum(weight for _, weight in known)
    return quantity.from_steps(quantity.to_steps(math.fsum(v * weight for v, weight in known) / total))
