"""The pages of the guides are well-formed, reachable, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from reference_server.storage.schema_sql import GAUGES
from sungrow_lib import ConnectionSettings, InverterSimulator, SungrowInverter
from sungrow_lib.quantities import QUANTITIES, QuantityKind
from sungrow_lib.upload import status, uploader
from tests.living import living_inverter
from tools.docs.__main__ import pages as generated_pages

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
GENERATED: Final = ("api", "reference", "notebooks")
PAGES: Final = sorted(path for path in DOCS.rglob("*.md") if path.relative_to(DOCS).parts[0] not in GENERATED)
SIDEBAR: Final = (ROOT / "website" / "sidebars.ts").read_text()


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(DOCS).as_posix() for path in paths]


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def targets() -> set[Path]:
    """Every file a link may name, generated ones too."""
    notebooks = {DOCS / "notebooks" / f"{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")}
    return notebooks | {DOCS / "reference" / page.path for page in generated_pages()}


@pytest.mark.parametrize("path", PAGES, ids=names(PAGES))
def test_each_page_says_what_it_is_about(path: Path) -> None:
    text = path.read_text()
    head = re.match(
        r'---\n(?:slug: \S+\n)?description: "[^"\n]{20,160}"\n(?:sidebar_label: "[^"\n]+"\n)?---\n\n# \S',
        text,
    )
    assert head, f'{path.name} begins with: description: "20 to 160 characters", then a heading'
    assert len(re.findall(r"^# ", without_code(text), re.MULTILINE)) == 1


@pytest.mark.parametrize("path", PAGES, ids=names(PAGES))
def test_each_page_is_in_the_sidebar(path: Path) -> None:
    name = path.relative_to(DOCS).with_suffix("").as_posix()
    # What a generated page is made from is shown as that page.
    assert f"'{name}'" in SIDEBAR or f"'reference/{name}'" in SIDEBAR, "add it to website/sidebars.ts"


@pytest.mark.parametrize("path", PAGES, ids=names(PAGES))
def test_each_link_leads_to_a_file(path: Path, targets: set[Path]) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", without_code(path.read_text())):
        if target.startswith(("https://", "pathname://")):
            continue
        file = (path.parent / target).resolve()
        # What the site's own tools make of the OpenAPI document is checked by the site's build.
        assert file in targets or file.exists() or file.is_relative_to(DOCS / "api"), target


def test_the_link_check_sees_a_broken_link(targets: set[Path], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[gone](gone.md)\n")
    with pytest.raises(AssertionError, match="gone"):
        test_each_link_leads_to_a_file(page, targets)


def test_the_runbook_knows_every_alarm() -> None:
    """The codes an owner sees in `sungrow-edge status`, taken from where they are raised."""
    found = {status.NO_TOKEN, uploader.CLOCK}
    for path in (*(ROOT / "sungrow_lib" / "upload").glob("*.py"), ROOT / "reference_edge" / "survey.py"):
        text = path.read_text()
        found |= set(re.findall(r'(?:_alarm\(|Action\.ALARM, .*)"(\w+)"', text))
        found |= set(re.findall(r'^_[A-Z]+: Final = "(\w+)"$', text, re.MULTILINE))
    assert {"spool", "internal", "not_our_answer", "disk", "merged"} <= found
    runbook = (DOCS / "operations.md").read_text()
    assert not [code for code in (*found, "http_401", "http_403", "http_404") if f"`{code}`" not in runbook]


def test_the_data_model_names_what_kind_each_number_is_of() -> None:
    section = (DOCS / "data-model.md").read_text().split("## Gauges and counters\n")[1].split("\n## ")[0]
    gauges = section.split("- **Gauges**")[1].split("- **Lifetime")[0]
    assert set(re.findall(r"`(\w+[^_`])`", gauges)) == {q.name for q in GAUGES}
    kinds = {True: QuantityKind.DAILY_COUNTER, False: QuantityKind.COUNTER}
    for quantity in (
        q for q in QUANTITIES if q not in GAUGES and ("_daily_" in q.name or "_total_" in q.name)
    ):
        assert quantity.kind is kinds["_daily_" in quantity.name]
    counters = [q for q in QUANTITIES if q.kind in kinds.values()]
    assert all("_daily_" in q.name or "_total_" in q.name for q in counters)


def test_no_change_is_told_twice() -> None:
    unreleased = (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1]
    entries = re.findall(r"^- .*(?:\n  .*)*", unreleased, re.MULTILINE)
    assert len(entries) > 30
    assert sorted(entries) == sorted(set(entries))


def test_each_attack_of_the_landing_page_is_a_test_that_exists() -> None:
    landing = (ROOT / "website" / "src" / "pages" / "index.tsx").read_text()
    files = re.findall(r"'(tests/[a-z_/]+\.py)'", landing)
    assert len(files) == 6
    assert all((ROOT / file).is_file() for file in files)


@pytest.mark.anyio
async def test_the_code_of_the_landing_page_runs() -> None:
    landing = (ROOT / "website" / "src" / "pages" / "index.tsx").read_text()
    found = re.search(r"const CODE = `(.*?)`;", landing, re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {"SungrowInverter": SungrowInverter}
    exec(f"async def shown(settings):\n{indent(found[1], '    ')}", names)
    inverter = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1)
    async with InverterSimulator({1: inverter}) as simulator:
        await names["shown"](ConnectionSettings(host="127.0.0.1", port=simulator.port))
