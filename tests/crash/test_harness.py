"""A short run of the harness with two edges broken on purpose. A long one, of sound ones: `make crash`."""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest

from tests.crash.account import Account
from tests.crash.fed import EDGES, EdgeKind
from tests.crash.gate import STORMS
from tests.crash.run import Plan, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PLAN: Final = Plan(
    seed=20_260_601,
    inverters=False,
    edges=(
        *(kind for kind in EDGES if kind.name not in {"plain", "full"}),
        EdgeKind("hasty", ("crash-a",), 0.03, fault="ack before answer"),
        EdgeKind("trusting", ("crash-b",), 0.03, fault="ack of another batch"),
    ),
    storms=(STORMS[0], ("answer of another batch",), ("answer of another batch",)),
    damages=("spool damaged: header of the log zeroed",),
    only=frozenset({"kill_server", "kill_database", "bend_clock", "limit_spool", "restore_spool", "cut"}),
)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Account, Counter[str]]:
    return run(PLAN, tmp_path_factory.mktemp("crash"))


def culprits(account: Account) -> set[str]:
    return {finding.split(": ")[1].split("/")[0] for finding in account.findings}


def test_of_sound_edges_nothing_is_lost_doubled_or_altered(judged: tuple[Account, Counter[str]]) -> None:
    account, faults = judged
    assert culprits(account) <= {"hasty", "trusting"}, account.report(faults)
    assert account.polled == account.accepted + sum(account.not_accepted.values())
    assert account.stored > 300, account.report(faults)
    assert account.merged > 0, "the small disk was never full"
    assert account.kept_aside > 0, "the two edges of one device never met"
    assert {"spool restored from an older copy", "clock jump"} <= faults.keys()
    assert all(faults.values()), account.report(faults)


def test_edges_that_believe_too_much_are_caught(judged: tuple[Account, Counter[str]]) -> None:
    account, faults = judged
    assert not account.holds
    assert {"hasty", "trusting"} <= culprits(account), account.report(faults)
