"""Parts that are broken on purpose, all in one run: what each loses, doubles or alters is found."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

import pytest

from tests.crash.account import Account
from tests.crash.broken import ROBBING
from tests.crash.fed import EdgeKind
from tests.crash.run import Plan, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

_SMALL: Final = 180_000
_PATIENT_S: Final = 120.0
"""So long each waits for an answer: on a busy machine too, what the server stores proves delivered."""
_UPLOAD_S: Final = 1.0
"""Fifteen edges that upload each reading at once keep a small machine busy with little but requests."""
CAUGHT: Final = {
    "hasty": ("ack before answer", "lost"),
    "trusting": ("ack of another batch", "lost"),
    "early": ("accepts before the commit", "lost"),
    "thrifty": ("takes readings for doubles", "lost"),
    "coarse": ("rounds values", "altered"),
    "colliding": ("ignores key collisions", "lost"),
    "moving": ("dates again what it sends again", "doubled or altered"),
    "silent": ("merges without a count", "altered"),
    "curt": ("keeps the last of what it merges", "lost"),
    "forgetful": ("forgets what is delivered", "lost"),
    "deaf": ("ignores resend", "lost"),
}
"""How each broken edge is broken, and what has to be found. `robbed` is sound: its server is not."""
TAKING: Final = "takes another edge's spool for its own"
"""How the edge is broken that gets the spool of a sound one, `guest`."""


def an_edge(name: str, fault: str = "") -> EdgeKind:
    kind = EdgeKind(
        name, (f"crash-{name}",), 0.25, fault=fault, answer_s=_PATIENT_S, upload_interval_s=_UPLOAD_S
    )
    if name in {"silent", "curt"}:
        return replace(kind, pause_s=0.2, hurry_s=0.01, max_bytes=_SMALL, step_ms=5000)
    return kind


PLAN: Final = Plan(
    seed=20_260_604,  # the server goes back first: what is merged later must not go with it
    inverters=False,
    edges=(
        *(an_edge(name, fault) for name, (fault, _) in CAUGHT.items()),
        an_edge("damaged", TAKING),
        an_edge("guest"),
        an_edge("robbed"),
        an_edge("sound"),
    ),
    storms=(("answer lost",), ("answer lost",), ("answer of another batch",), ("answer of another batch",)),
    damages=(),
    damages_in_use=(),
    server_fault=ROBBING,
    only=frozenset({"limit_spool", "restore_server", "lend_spool"}),
)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Account, Counter[str]]:
    return run(PLAN, tmp_path_factory.mktemp("broken"))


@pytest.mark.parametrize("name", CAUGHT)
def test_every_broken_edge_is_caught(judged: tuple[Account, Counter[str]], name: str) -> None:
    account, faults = judged
    found = [line for kind in CAUGHT[name][1].split(" or ") for line in getattr(account, kind)]
    assert any(line.startswith(f"{name}/") for line in found), account.report(faults)


def test_an_edge_that_takes_another_edges_spool_for_its_own_is_caught(
    judged: tuple[Account, Counter[str]],
) -> None:
    account, faults = judged
    readings = [line for line in account.altered if line.startswith("guest/crash-guest")]
    assert any("not held back" in line for line in readings), account.report(faults)
    assert any("stored as crash-damaged's" in line for line in readings), account.report(faults)


def test_a_server_that_does_not_store_what_it_says_it_has_is_caught(
    judged: tuple[Account, Counter[str]],
) -> None:
    account, faults = judged
    assert any(line == "robbed/crash-robbed/7: nowhere" for line in account.lost), account.report(faults)


def test_of_the_sound_edge_beside_them_nothing_is_said(judged: tuple[Account, Counter[str]]) -> None:
    account, faults = judged
    assert not any(line.startswith("sound") for line in account.findings), account.report(faults)
    assert not account.holds
