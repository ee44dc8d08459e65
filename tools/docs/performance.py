"""The performance page: the figures kept in benchmarks/results/."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tools.docs.markdown import Page, table

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "benchmarks" / "results"
PROSE: Final = ROOT / "docs" / "performance.md"
_INTRO: Final = """\
Each figure compares our way with a floor (the least work that could do the job) or with another program,
in turn, in the same run on the same machine. Absolute times differ from machine to machine; **the ratio is
what to look at**: below 1 means faster or less. `make bench` measures all of it again.
"""


def pages() -> Iterator[Page]:
    """Make the page."""
    body = [_INTRO]
    for path in sorted(RESULTS.glob("*.json")):
        body += _suite(json.loads(path.read_text(encoding="utf-8")))
    yield Page(
        "benchmarks.md",
        "Benchmarks",
        "Measured figures, each against a floor or a peer in the same run, with machine and date.",
        "\n\n".join(body),
    )


def _suite(result: dict[str, Any]) -> Iterator[str]:
    about = {name: value for name, value in result.items() if name not in {"suite", "figures"}}
    yield f"## {result['suite'].replace('_', ' ').capitalize()}"
    yield ", ".join(f"{name} {value}" for name, value in about.items()) + "."
    yield table(
        ("what / compared with", "ours", "the other", "ratio", "goal"),
        (
            (
                figure["what"],
                _shown(figure["ours"], figure["unit"]),
                _shown(figure["other"], figure["unit"]),
                f"**{figure['ratio']:.2f}**",
                figure.get("goal", ""),
            )
            for figure in result["figures"]
        ),
    )


def _shown(value: float, unit: str) -> str:
    if unit != "us":
        return f"{value:,.0f} {unit}".rstrip() if value == round(value) else f"{value:,.2f} {unit}".rstrip()
    for limit, factor, name in ((1e3, 1, "µs"), (1e6, 1e3, "ms"), (float("inf"), 1e6, "s")):
        if value < limit:
            return f"{value / factor:.3g} {name}"
    raise AssertionError(value)
