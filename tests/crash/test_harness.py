"""A short run of the harness. A long one: `make crash`; one of broken parts: `test_broken.py`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.crash.account import Account
from tests.crash.fed import EDGES
from tests.crash.gate import STORMS
from tests.crash.run import Plan, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PLAN: Final = Plan(
    seed=20_260_601,
    inverters=False,
    edges=tuple(
        replace(kind, pause_s=max(kind.pause_s, 0.1)) for kind in EDGES if kind.name not in {"full", "guest"}
    ),
    storms=(STORMS[0], STORMS[2]),
    damages=("spool damaged: header of the log zeroed",),
    damages_in_use=("spool damaged in use: pages of the file",),
    only=frozenset(
        {"kill_server", "kill_database", "bend_clock", "limit_spool", "restore_spool", "copy_card", "cut"}
    ),
)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Account, Counter[str]]:
    return run(PLAN, tmp_path_factory.mktemp("crash"))


def test_nothing_is_lost_doubled_or_altered(judged: tuple[Account, Counter[str]]) -> None:
    account, faults = judged
    assert account.holds, account.report(faults)
    assert account.stored > 300, account.report(faults)
    assert account.merged, "the small disk was never full"
    assert account.kept_aside, "the two edges of one device never met"
    assert {"spool restored from an older copy", "clock jump: fed edge"} <= faults.keys()
    assert all(faults.values()), account.report(faults)


def test_every_reading_counted_apart_is_listed(judged: tuple[Account, Counter[str]], tmp_path: Path) -> None:
    account, _ = judged
    account.write_list(tmp_path / "new" / "list")
    listed = [line.split("\t")[:2] for line in (tmp_path / "new" / "list").read_text().splitlines()]
    assert ["merged", next(iter(account.merged))] in listed
    assert len(listed) == sum(len(readings) for readings in account.apart.values())
