"""Prometheus' text format 0.0.4, as much of it as the edge needs.

The package `prometheus_client` says the same, but takes four megabytes of a daemon that has fifty. What is
written here is read with its parser in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_IN_HELP: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})
_IN_LABEL: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Family(NamedTuple):
    """A metric with all its samples.

    Attributes:
        name: as Prometheus shows it; that of a counter ends in `_total`.
        kind: `counter` or `gauge`.
        what: says in words what it is.
        labels: names of the labels, the same for each sample.
        samples: the labels' values, and the number. What is not known has no sample.
    """

    name: str
    kind: str
    what: str
    labels: tuple[str, ...]
    samples: list[tuple[tuple[str, ...], float]]


def exposition(families: Iterable[Family]) -> bytes:
    """Write metrics for Prometheus to read."""
    return "".join(line for family in families for line in _lines(family)).encode()


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {family.what.translate(_IN_HELP)}\n"
    yield f"# TYPE {family.name} {family.kind}\n"
    for values, number in family.samples:
        pairs = zip(family.labels, values, strict=True)
        labels = ",".join(f'{name}="{value.translate(_IN_LABEL)}"' for name, value in pairs)
        yield f"{family.name}{'{' + labels + '}' if labels else ''} {_shown(number)}\n"


def _shown(number: float) -> str:
    if math.isfinite(number):
        return repr(float(number))
    return "NaN" if math.isnan(number) else f"{'+' if number > 0 else '-'}Inf"
