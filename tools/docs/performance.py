"""The performance page: docs/performance.md with the figures kept in benchmarks/results/."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tools.docs.markdown import Page, table

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "benchmarks" / "results"
PROSE: Final = ROOT / "docs" / "performance.md"
_GOAL: Final = re.compile(r"<= (?P<limit>[\d.]+)(?: (?P<unit>[\w%]+))?(?: \(.*\))?")
_IN_UNIT: Final = {("us", "s"): 1e6, ("us", "ms"): 1e3, ("kB", "MB"): 1e3}
_PLACE: Final = re.compile(r"<!-- figures: (\w+) -->")


def pages() -> Iterator[Page]:
    """Make the page: the prose, and at each place of figures those that were measured last."""
    _, front, prose = PROSE.read_text(encoding="utf-8").split("---\n", 2)
    [description] = re.findall(r'^description: "(.*)"$', front, re.MULTILINE)
    title, _, body = prose.strip().partition("\n")
    shown = _PLACE.sub(lambda place: figures(place[1]), re.sub(r"\]\((?!https?:)", "](../", body))
    yield Page("performance.md", title.removeprefix("# "), description, shown)


def places() -> list[str]:
    """Name the suites whose figures the prose shows."""
    return _PLACE.findall(PROSE.read_text(encoding="utf-8"))


def figures(suite: str) -> str:
    """Return a suite's table, with machine and date."""
    result = json.loads((RESULTS / f"{suite}.json").read_text(encoding="utf-8"))
    about = {name: value for name, value in result.items() if name not in {"suite", "figures"}}
    return "\n\n".join((_table(result["figures"]), f"Measured: {_listed(about)}."))


def _listed(about: dict[str, Any]) -> str:
    return ", ".join(
        f"{value}" if name in {"date", "machine"} else f"{name} {value}" for name, value in about.items()
    )


def _table(found: list[dict[str, Any]]) -> str:
    return table(
        ("what / compared with", "ours", "the other", "ratio", "goal"),
        (
            (
                figure["what"],
                _shown(figure["ours"], figure["unit"]),
                _shown(figure["other"], figure["unit"]),
                f"**{figure['ratio']:.2f}**",
                _goal(figure),
            )
            for figure in found
        ),
    )


def _goal(figure: dict[str, Any]) -> str:
    """Say whether it is met by what the table shows: two decimals of the ratio, or our figure in its unit."""
    goal: str = figure.get("goal", "")
    if not goal:
        return ""
    found = _GOAL.fullmatch(goal)
    assert found is not None, f"no goal that can be held: {goal}"
    value = figure["ratio"]
    if unit := found["unit"]:
        assert (figure["unit"], unit) in _IN_UNIT or figure["unit"] in {"", unit}, goal
        value = figure["ours"] / _IN_UNIT.get((figure["unit"], unit), 1)
    told = goal.replace(" ", "\N{NO-BREAK SPACE}")
    return told if round(value, 2) <= float(found["limit"]) else f"{told}, **missed**"


def _shown(value: float, unit: str) -> str:
    if unit != "us":
        return f"{value:,.{0 if value == round(value) else 2}f}\N{NO-BREAK SPACE}{unit}".rstrip()
    for limit, factor, name in ((1e3, 1, "µs"), (1e6, 1e3, "ms"), (float("inf"), 1e6, "s")):
        if value < limit:
            return f"{value / factor:.3g}\N{NO-BREAK SPACE}{name}"
    raise AssertionError(value)
