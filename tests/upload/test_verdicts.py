"""The delivery table, row by row, without a network."""

from __future__ import annotations

import json

import pytest

from sungrow_lib.spool import Judged
from sungrow_lib.upload.verdicts import Action, Reply, judge_reply
from sungrow_lib.wire import IngestAnswer, Problem

GOOD = {
    "batch_id": "b1",
    "received": 3,
    "inserted": 2,
    "duplicates": 1,
    "conflicts": [],
    "rejected": [],
    "deferred": [],
    "resend": False,
    "server_version": "1.0",
}


def ruled(body: object, *, status: int = 200, retry_after_s: float | None = None) -> Action:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return judge_reply(Reply(status, content, retry_after_s), batch_id="b1", seqs=[7, 8, 9]).action


def verdict(index: int, code: str = "x") -> dict[str, object]:
    return {"index": index, "code": code, "reason": "why"}


def test_an_answer_that_accounts_for_all_settles_all() -> None:
    ruling = judge_reply(Reply(200, json.dumps(GOOD).encode()), batch_id="b1", seqs=[7, 8, 9])
    assert ruling.settlement is not None
    assert ruling.settlement.delivered == (7, 8, 9)
    assert ruling.settlement.server_version == "1.0"


def test_no_text_of_an_answer_is_kept_for_the_next_one() -> None:
    answer = json.dumps(GOOD)
    problem = json.dumps({"type": "about:blank", "title": "t", "status": 422, "detail": "samples is missing"})
    one, other = (IngestAnswer.model_validate_json(answer) for _ in range(2))
    assert one.batch_id == other.batch_id
    assert one.batch_id is not other.batch_id
    first, second = (Problem.model_validate_json(problem) for _ in range(2))
    assert first.detail is not second.detail


def test_each_reading_goes_where_its_verdict_says() -> None:
    body = GOOD | {
        "inserted": 0,
        "duplicates": 0,
        "conflicts": [verdict(2, "different_value")],
        "rejected": [verdict(0, "invalid")],
        "deferred": [verdict(1, "future")],
        "resend": True,
    }
    ruling = judge_reply(Reply(200, json.dumps(body).encode()), batch_id="b1", seqs=[7, 8, 9])
    assert ruling.resend
    assert ruling.settlement is not None
    assert ruling.settlement.delivered == ()
    assert ruling.settlement.conflicts == (Judged(9, "different_value", "why"),)
    assert ruling.settlement.rejected == (Judged(7, "invalid", "why"),)
    assert ruling.settlement.deferred == (Judged(8, "future", "why"),)
    assert ruling.settlement.retry_in_s == 300


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(GOOD | {"batch_id": "b2"}, id="another batch"),
        pytest.param(GOOD | {"batch_id": None}, id="no batch"),
        pytest.param(GOOD | {"received": 2, "inserted": 1}, id="of another size"),
        pytest.param(GOOD | {"inserted": 1}, id="too few"),
        pytest.param(GOOD | {"inserted": 3}, id="too many"),
        pytest.param(GOOD | {"inserted": 2.0}, id="not a whole number"),
        pytest.param(GOOD | {"inserted": -1, "duplicates": 4}, id="negative"),
        pytest.param(GOOD | {"inserted": 1, "rejected": [verdict(3)]}, id="an index outside"),
        pytest.param(GOOD | {"inserted": 1, "rejected": [verdict(-1)]}, id="an index below"),
        pytest.param(GOOD | {"inserted": 1, "rejected": [verdict(0)], "deferred": [verdict(0)]}, id="doubly"),
        pytest.param(
            GOOD | {"inserted": 0, "rejected": [verdict(0)], "deferred": [verdict(0)]}, id="twice one index"
        ),
        pytest.param({k: v for k, v in GOOD.items() if k != "deferred"}, id="a list missing"),
        pytest.param({}, id="empty object"),
        pytest.param([GOOD], id="a list"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>Please log in to the Wi-Fi</html>", id="captive portal"),
        pytest.param(json.dumps(GOOD).encode()[:-5], id="cut short"),
        pytest.param(b"\xff\xfe\x00", id="garbage"),
    ],
)
def test_what_is_no_answer_to_this_batch_settles_nothing(body: object) -> None:
    assert ruled(body) is Action.ALARM


@pytest.mark.parametrize(
    ("status", "action"),
    [
        (401, Action.PAUSE),
        (403, Action.PAUSE),
        (404, Action.ALARM),
        (405, Action.ALARM),
        (415, Action.ALARM),
        (301, Action.ALARM),
        (302, Action.ALARM),
        (307, Action.ALARM),
        (308, Action.ALARM),
        (201, Action.ALARM),
        (202, Action.ALARM),
        (204, Action.ALARM),
        (206, Action.ALARM),
        (304, Action.ALARM),
        (408, Action.ALARM),
        (418, Action.ALARM),
        (451, Action.ALARM),
        (400, Action.HALVE),
        (413, Action.HALVE),
        (422, Action.HALVE),
        (429, Action.KEEP),
        (500, Action.TROUBLE),
        (502, Action.TROUBLE),
        (503, Action.TROUBLE),
        (599, Action.TROUBLE),
        (600, Action.ALARM),
        (999, Action.ALARM),
    ],
)
@pytest.mark.parametrize("body", [GOOD, b"", b"<html>"], ids=["good body", "no body", "page"])
def test_only_200_delivers_whatever_the_body_says(status: int, action: Action, body: object) -> None:
    assert ruled(body, status=status) is action


@pytest.mark.parametrize("status", range(100, 600))
def test_no_other_status_ever_settles(status: int) -> None:
    ruling = judge_reply(Reply(status, json.dumps(GOOD).encode()), batch_id="b1", seqs=[7, 8, 9])
    assert (ruling.settlement is not None) == (status == 200)


@pytest.mark.parametrize("status", [429, 503, 500])
def test_retry_after_is_passed_on(status: int) -> None:
    ruling = judge_reply(Reply(status, b"", 17.0), batch_id="b1", seqs=[1])
    assert ruling.retry_after_s == 17.0


def test_the_servers_explanation_is_told() -> None:
    problem = {"type": "about:blank", "title": "t", "status": 422, "detail": "samples is missing"}
    ruling = judge_reply(Reply(422, json.dumps(problem).encode()), batch_id="b1", seqs=[1])
    assert "(422 " in ruling.detail
    assert "samples is missing" in ruling.detail


def test_what_is_kept_of_a_verdict_has_its_bounds() -> None:
    """It is written beside the reading, and into the log: a server that says much must not fill the disk."""
    said = {"index": 1, "code": "c" * 10_000, "reason": "because " * 100_000}
    body = GOOD | {"inserted": 2, "duplicates": 0, "conflicts": [], "rejected": [said], "deferred": []}
    ruling = judge_reply(Reply(200, json.dumps(body).encode()), batch_id="b1", seqs=[7, 8, 9])
    assert ruling.settlement is not None
    [judged] = ruling.settlement.rejected
    assert judged.seq == 8
    assert len(judged.code) <= 100
    assert judged.reason.startswith("because because")
    assert len(judged.reason) <= 1_000
