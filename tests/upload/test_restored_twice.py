"""A server that goes back to an old state again while it is still being sent what it lost the first time."""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass, field, replace as changed

import anyio
import pytest
from aiohttp import web

from sungrow_lib.errors import SpoolUnavailableError
from sungrow_lib.spool import DurableSpool, Settlement, SpoolState
from sungrow_lib.upload import UploadSettings
from tests.patience import PATIENCE_S
from tests.upload import server as play
from tests.upload.helpers import counted, fill, is_number, running, until
from tests.upload.server import Batch, IngestServer

pytestmark = pytest.mark.anyio

KEPT = 160
"""Readings the old state holds."""


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sungrow_lib.upload.backoff.FIRST_S", 0.01)
    monkeypatch.setattr("sungrow_lib.upload.backoff.LIMIT_S", 0.05)


@dataclass
class Restored:
    """A rule for the server: it says `resend` when it lacks what the edge names, and goes back when told.

    Attributes:
        at: requests, counted from the first `resend`, after which it goes back; the number of the last one.
        save_at: the request after which the state to go back to is taken anew.
        save_with: the reading after whose request, the first one since then, it is taken anew.
        lose_witnesses: whether the answers to single readings are lost while it goes back.
    """

    at: int = 0
    save_at: int = 0
    save_with: int = 0
    lose_witnesses: int = 0
    state: dict[tuple[str, str], Batch] = field(default_factory=dict)
    count: int = 0
    resends: int = 0

    def go_back(self, server: IngestServer) -> None:
        server.stored = dict(self.state)

    async def __call__(self, server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        reply = play.judge(server, batch)
        missing = play.lacks(server, batch)
        self.resends += missing
        self.count += self.resends > 0
        if self.count and (self.count == self.save_at or self.save_with in batch["seq"]):
            self.state = dict(server.stored)
            self.save_with = 0
        if self.count and self.count == self.at:
            self.go_back(server)
        if self.at < self.count and self.lose_witnesses and len(batch["samples"]) == 1:
            self.lose_witnesses -= 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.json_response(reply | {"resend": missing})


def make_hole(server: IngestServer, seqs: Container[int]) -> set[tuple[str, str]]:
    """Let the server lose these readings; return their keys."""
    hole = {key for key, row in server.stored.items() if row["__seq"] in seqs}
    server.stored = {key: row for key, row in server.stored.items() if key not in hole}
    return hole


async def restored_once(spool: DurableSpool, server: IngestServer, rule: Restored) -> None:
    """Bring the server to where it has lost its newest readings for the first time."""
    await counted(spool, delivered=KEPT)
    rule.state = dict(server.stored)
    await fill(spool, 3)
    await counted(spool, delivered=KEPT + 3)
    rule.go_back(server)
    await fill(spool, 1)
    await until(lambda: rule.resends > 0)


async def _delivered(spool: DurableSpool) -> set[int]:
    return {record.entry.seq async for record in spool.records(SpoolState.DELIVERED)}


async def is_known_to_be_delivered(spool: DurableSpool, seqs: set[int]) -> None:
    """Wait for the answer, too: of readings whose answer is lost the edge never learns that they were new."""
    with anyio.fail_after(PATIENCE_S):
        while not seqs <= await _delivered(spool):  # noqa: ASYNC110 - a test looks from outside
            await anyio.sleep(0.005)


async def all_is_there(spool: DurableSpool, server: IngestServer, count: int) -> None:
    await counted(spool, delivered=count, pending=0)
    await until(lambda: server.seqs_stored() == set(range(1, count + 1)))


@pytest.mark.parametrize("moment", [30, 55])
@pytest.mark.parametrize("lost_answers", [0, 4])
async def test_it_gets_everything_again(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, moment: int, lost_answers: int
) -> None:
    rule = server.rule = Restored(at=moment, lose_witnesses=lost_answers)
    await fill(spool, KEPT)
    async with running(spool, settings):
        await restored_once(spool, server, rule)
        await until(lambda: rule.count > moment)
        await fill(spool, 1)
        await all_is_there(spool, server, KEPT + 5)


async def test_also_when_the_state_is_from_while_it_was_being_sent_all(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    """What it then lacks are old readings in the middle; the newest ones are all there."""
    rule = server.rule = Restored(save_at=12, at=55)
    await fill(spool, KEPT)
    async with running(spool, changed(settings, backlog_workers=1)):
        await counted(spool, delivered=KEPT)
        make_hole(server, range(28, 40))
        await restored_once(spool, server, rule)
        await until(lambda: rule.count > rule.at)
        await fill(spool, 1)
        await all_is_there(spool, server, KEPT + 5)
    assert rule.resends >= 2


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_also_when_what_it_then_lacks_came_before_known_readings_of_one_batch(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, *, is_restarted: bool
) -> None:
    """The last row of that batch, and of all later ones, was there before: their names prove nothing."""
    rule = server.rule = Restored(save_with=31)
    await fill(spool, KEPT)
    settings = changed(settings, batch_size=10, backlog_workers=1)
    async with running(spool, settings):
        await counted(spool, delivered=KEPT)
        hole = make_hole(server, {41, 42})
        await restored_once(spool, server, rule)
        await until(lambda: hole <= server.stored.keys())
        await is_known_to_be_delivered(spool, {41, 42})
        if not is_restarted:
            await counted(spool, delivered=KEPT + 4, pending=0)
    async with running(spool, settings):
        await counted(spool, delivered=KEPT + 4, pending=0)
        assert not hole & rule.state.keys()
        rule.go_back(server)
        await fill(spool, 1)
        await all_is_there(spool, server, KEPT + 5)
    assert rule.resends >= 2


async def test_also_when_the_edge_was_restarted_since_that_state(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    rule = server.rule = Restored(save_at=12)
    await fill(spool, KEPT)
    settings = changed(settings, backlog_workers=1)
    async with running(spool, settings):
        await counted(spool, delivered=KEPT)
        hole = make_hole(server, range(28, 40))
        await restored_once(spool, server, rule)
        await until(lambda: hole <= server.stored.keys())
        await until(lambda: rule.count > 25)
    before = rule.count
    async with running(spool, settings):
        await until(lambda: rule.count > before + 20)
    rule.go_back(server)
    async with running(spool, settings):
        await fill(spool, 1)
        await all_is_there(spool, server, KEPT + 5)
    assert rule.resends >= 2


async def test_also_after_a_restart_of_the_edge(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    rule = server.rule = Restored()
    await fill(spool, KEPT)
    async with running(spool, settings):
        await restored_once(spool, server, rule)
        await until(lambda: rule.count > 15)
    async with running(spool, settings):
        await until(lambda: rule.count > 35)
    rule.go_back(server)
    async with running(spool, settings):
        await all_is_there(spool, server, KEPT + 4)


@dataclass
class Overtaken:
    """A rule: four new readings are stored, and lost again before their answer comes, amid the next `resend`.

    So are answers to two batches held that were sent meanwhile, until their witnesses are those readings.
    """

    news: set[int]
    is_stored: anyio.Event = field(default_factory=anyio.Event)
    go_on: list[anyio.Event] = field(default_factory=lambda: [anyio.Event() for _ in range(3)])
    known: list[list[int]] = field(default_factory=list)
    is_resending: bool = False

    async def __call__(self, server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        del request
        reply = play.judge(server, batch) | {"resend": play.lacks(server, batch)}
        if self.news <= set(batch["seq"]) and not self.is_stored.is_set():
            self.is_stored.set()
            await self.go_on[0].wait()
        elif self.is_resending and len(self.known) < 2:
            self.known.append(batch["seq"])
            await self.go_on[len(self.known)].wait()
        return web.json_response(reply)

    async def answer_in_turn(self, spool: DurableSpool) -> None:
        """Answer the batches one after the other, while all is being offered again."""
        for _ in range(300):  # longer than other lanes need to send, if they do
            await spool.counts()
        for event, seqs in zip(self.go_on, [self.news, *map(set, self.known)], strict=False):
            event.set()
            if self.known:
                await is_known_to_be_delivered(spool, seqs)
        for event in self.go_on:
            event.set()
        self.is_resending = False


async def test_an_answer_from_before_all_is_offered_again_does_not_count(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = Overtaken(news={41, 42, 43, 44})
    reoffer = spool.reoffer

    async def long_reoffer(device_id: str) -> int:
        rule.is_resending = True
        count = await reoffer(device_id)
        await rule.answer_in_turn(spool)
        return count

    await answers_were_lost(spool, server)
    await spool.settle("inv", Settlement(delivered=range(1, 41)))
    await fill(spool, 4)
    server.rule = rule
    async with running(spool, changed(settings, backlog_workers=2)) as uploader:
        await rule.is_stored.wait()
        make_hole(server, rule.news)
        monkeypatch.setattr(spool, "reoffer", long_reoffer)
        await uploader.resend("inv")
        monkeypatch.undo()
        await counted(spool, delivered=44, pending=0)
        await fill(spool, 1)  # the next one would show what the server lacks
        await all_is_there(spool, server, 45)


# --- the witnesses themselves ----------------------------------------------------------------------------


async def test_what_is_new_to_the_server_needs_none(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 40)
    async with running(spool, settings):
        await counted(spool, delivered=40)
    sent = [seq for seen in server.seen for seq in seen.seqs]
    assert sorted(sent) == list(range(1, 41))


async def test_nor_does_a_server_that_has_got_nothing_new_since_it_lost_all(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await fill(spool, 40)
    async with running(spool, settings) as uploader:
        await counted(spool, delivered=40)
        before = len(server.seen)
        await uploader.resend("inv")
        await until(lambda: len(server.seen) >= before + 10)
        await counted(spool, delivered=40, pending=0)
    sent = [seq for seen in server.seen[before:] for seq in seen.seqs]
    assert sorted(sent) == list(range(1, 41))


async def answers_were_lost(spool: DurableSpool, server: IngestServer) -> None:
    """Let the server have forty readings, of which the edge knows the last four to be delivered."""
    await fill(spool, 40)
    for entry in await spool.offer("inv", 40):
        sample = json.loads(entry.to_json())
        server.stored["inv", sample["ts"]] = sample | {"__seq": entry.seq}
    await spool.settle("inv", Settlement(delivered=[37, 38, 39, 40]))


def to_witnesses(behaviour: play.Behaviour) -> play.Behaviour:
    async def behave(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        is_witness = min(batch["seq"]) > 36
        return await (behaviour if is_witness else play.answer)(server, request, batch)

    return behave


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(play.answer, id="known"),
        pytest.param(play.verdicts("conflicts", "different_value", lambda _: True), id="conflict"),
        pytest.param(play.verdicts("rejected", "invalid", lambda _: True), id="rejected"),
        pytest.param(play.verdicts("deferred", "device_deleted", lambda _: True), id="deferred"),
        pytest.param(play.status(413), id="too large"),
        pytest.param(play.status(422), id="refused"),
        pytest.param(play.status(500), id="failing"),
    ],
)
async def test_whatever_becomes_of_a_witness_it_stays_delivered_and_is_not_counted(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, behaviour: play.Behaviour
) -> None:
    await answers_were_lost(spool, server)
    server.rule = to_witnesses(behaviour)
    async with running(spool, settings) as uploader:
        await counted(spool, delivered=40, pending=0, deferred=0, rejected=0, conflicts=0)
        await until(lambda: uploader.status.delivered == 36)
        assert uploader.status.alarms == ()
    assert any(min(seen.seqs) > 36 for seen in server.seen), "no witness was sent"


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(play.cut_before_answer, id="answer lost"),
        pytest.param(play.status(429), id="slow down"),
        pytest.param(play.status(404), id="wrong address"),
        pytest.param(play.altered(batch_id="another"), id="another batch"),
    ],
)
async def test_without_an_answer_to_the_witness_nothing_is_settled(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, behaviour: play.Behaviour
) -> None:
    await answers_were_lost(spool, server)
    server.rule = to_witnesses(behaviour)
    async with running(spool, settings):
        await until(lambda: len(server.seen) > 20)
        assert (await spool.counts()).delivered == 4
        server.rule = None
        await counted(spool, delivered=40, pending=0)


@pytest.mark.parametrize("lost_answers", [0, 1, 2, 3, 8])
async def test_lost_answers_to_witnesses_do_not_hide_what_the_server_lost(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, lost_answers: int
) -> None:
    """A witness whose answer is lost is stored all the same: it can tell of a loss no more."""
    rule = Restored(lose_witnesses=lost_answers, count=1)

    async def behave(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        if len(batch["samples"]) == 1 and 39 in server.seqs_stored() and not rule.resends:
            make_hole(server, {37, 38, 39, 40})  # just before the first witness comes
        return await rule(server, request, batch)

    server.rule = behave
    await answers_were_lost(spool, server)
    async with running(spool, changed(settings, backlog_workers=1)):
        await until(lambda: rule.count > lost_answers + 1)
        await all_is_there(spool, server, 40)


async def test_one_witness_is_on_its_way_at_a_time(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    """The answers to all that are on their way may be lost at once, and what they told of with them."""
    on_their_way: list[int] = []
    most = 0

    async def behave(server: IngestServer, request: web.Request, batch: Batch) -> web.StreamResponse:
        nonlocal most
        on_their_way.append(batch["seq"][0])
        most = max(most, len(on_their_way))
        for _ in range(100):  # as long as another lane needs to send one, if it does
            if most > 1:
                break
            await spool.counts()
        on_their_way.pop()
        return await play.answer(server, request, batch)

    await answers_were_lost(spool, server)
    server.rule = to_witnesses(behave)
    async with running(spool, settings):
        await counted(spool, delivered=40, pending=0)
    assert most == 1


async def test_a_refused_token_pauses_at_the_witness_too(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await answers_were_lost(spool, server)
    server.rule = to_witnesses(play.status(401))
    async with running(spool, settings) as uploader:
        await until(lambda: uploader.status.paused == ("inv",))
        assert (await spool.counts()).delivered == 4


async def test_a_poisonous_reading_is_still_found_among_known_ones(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await answers_were_lost(spool, server)
    server.rule = play.failing_on(422, is_number(10))
    async with running(spool, settings):
        await until(lambda: [10] in [seen.seqs for seen in server.seen])
        await fill(spool, 1)
        await counted(spool, delivered=40, pending=0, deferred=1)
    (record,) = [r async for r in spool.records(SpoolState.DEFERRED)]
    assert record.entry.seq == 10


async def test_a_witness_the_server_lacks_means_that_it_lost_readings(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await answers_were_lost(spool, server)
    entries = {record.entry.seq: record.entry async for record in spool.records()}
    for seq in (37, 38, 39, 40):
        del server.stored["inv", json.loads(entries[seq].to_json())["ts"]]
    async with running(spool, settings):
        await until(lambda: server.seqs_stored() == set(range(1, 41)))
        await counted(spool, delivered=40, pending=0)


async def test_the_list_keeps_naming_what_was_new_last(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer
) -> None:
    await answers_were_lost(spool, server)
    async with running(spool, settings):
        await counted(spool, delivered=40, pending=0)
    new = {record.entry.ts async for record in spool.records() if record.entry.seq > 36}
    ends = {record.entry.ts async for record in spool.records() if record.entry.seq in {37, 40}}
    named = await spool.last_delivered("inv")
    assert set(named[::2]) == ends
    assert not new & set(named[1::2])


async def test_what_could_not_be_offered_again_is_offered_once_it_can(
    spool: DurableSpool, settings: UploadSettings, server: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server asked with is delivered by then: it has no reason to ask again."""
    offer_again, refusals = spool.reoffer, iter(range(20))

    async def reoffer(device_id: str) -> int:
        if next(refusals, None) is not None:
            raise SpoolUnavailableError("database is locked")
        return await offer_again(device_id)

    async with running(spool, settings):
        await fill(spool, 60)
        await counted(spool, delivered=60)
        server.stored.clear()
        server.rule = Restored()
        monkeypatch.setattr(spool, "reoffer", reoffer)
        await fill(spool, 1)
        await until(lambda: len(server.stored) == 61)
        await counted(spool, delivered=61)
