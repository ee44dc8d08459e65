"""Random histories against a model in memory: the spool never says anything else."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from sungrow_lib.spool import Judged, Lane, Settlement, SpoolOptions, SpoolState
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import FakeClock

DEVICES = st.sampled_from(["a", "b"])


class SpoolModel(RuleBasedStateMachine):
    """What was accepted, and where it stands; restarts, reboots and clock steps included."""

    batches = Bundle("batches")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = FakeClock()
        self.content: dict[int, tuple[str, str]] = {}
        self.state: dict[int, SpoolState] = {}
        self.offered_ts: dict[int, int] = {}
        self.future: set[int] = set()
        self.open()

    def open(self) -> None:
        options = SpoolOptions(keep_delivered_s=3600)
        self.store = SpoolStore(self.folder / "spool.db", options, self.clock)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @rule(device=DEVICES, lag_ms=st.integers(0, 3_000), value=st.integers())
    def append(self, device: str, lag_ms: int, value: int) -> None:
        content = json.dumps({"pv_power_w": value})
        boot = self.clock.stamp()
        self.clock.pass_s(lag_ms / 1000)
        entry = self.store.append(device, self.clock.wall_ms - lag_ms, content, boot=boot, ts_is_final=False)
        assert entry.seq == max(self.content, default=0) + 1
        self.content[entry.seq] = (device, content)
        self.state[entry.seq] = entry.state
        self.refresh_waiting()

    @rule(target=batches, device=DEVICES, lane=st.sampled_from(Lane), limit=st.integers(1, 6))
    def offer(self, device: str, lane: Lane, limit: int) -> object:
        entries = self.store.offer(device, limit, lane)
        for entry in entries:
            assert (entry.device_id, entry.content) == self.content[entry.seq]
            expected = SpoolState.DEFERRED if lane is Lane.DUE else SpoolState.PENDING
            assert self.state[entry.seq] is expected
            if entry.seq not in self.future:
                assert self.offered_ts.setdefault(entry.seq, entry.ts_ms) == entry.ts_ms
        return (device, [entry.seq for entry in entries]) if entries else multiple()

    @rule(batch=batches, verdicts=st.lists(st.sampled_from("ddddcrfl"), min_size=6, max_size=6))
    def settle(self, batch: tuple[str, list[int]], verdicts: list[str]) -> None:
        """Settle a batch, perhaps one settled long ago: late answers move nothing that is settled."""
        device, seqs = batch
        sorted_out: dict[str, list[int]] = {kind: [] for kind in "dcrfl"}
        for seq, kind in zip(seqs, verdicts, strict=False):
            sorted_out[kind].append(seq)
            if self.state.get(seq) not in {SpoolState.PENDING, SpoolState.DEFERRED}:
                continue
            self.state[seq] = {
                "d": SpoolState.DELIVERED,
                "c": SpoolState.CONFLICT,
                "r": SpoolState.REJECTED,
            }.get(kind, SpoolState.DEFERRED)
            if kind == "f":
                self.future.add(seq)
        later = [Judged(seq, "future", "") for seq in sorted_out["f"]]
        later += [Judged(seq, "device_deleted", "") for seq in sorted_out["l"]]
        verdict = Settlement(
            delivered=sorted_out["d"],
            conflicts=[Judged(seq, "different_value", "") for seq in sorted_out["c"]],
            rejected=[Judged(seq, "invalid", "") for seq in sorted_out["r"]],
            deferred=later,
        )
        self.store.settle(device, verdict)

    @rule(device=DEVICES)
    def reoffer(self, device: str) -> None:
        for state in (SpoolState.DELIVERED, SpoolState.REJECTED, SpoolState.CONFLICT):
            self.store.reoffer(device, state, 0)
            for seq, (owner, _) in self.content.items():
                if owner == device and self.state.get(seq) is state:
                    self.state[seq] = SpoolState.PENDING

    @rule()
    def prune(self) -> None:
        self.store.prune()
        left = {record.entry.seq for record in self.store.records(0, 10_000)}
        gone = set(self.state) - left
        assert all(self.state[seq] is SpoolState.DELIVERED for seq in gone)
        for seq in gone:
            del self.state[seq]

    @rule(seconds=st.integers(1, 5_000))
    def time_passes(self, seconds: int) -> None:
        self.clock.pass_s(seconds)

    @rule(seconds=st.integers(-90_000, 90_000), synchronised=st.booleans())
    def clock_is_set(self, seconds: int, *, synchronised: bool) -> None:
        self.clock.step_s(seconds)
        self.clock.synchronised = synchronised

    @rule(off_by_s=st.integers(-1_000, 1_000))
    def server_answers(self, off_by_s: int) -> None:
        self.store.observe_server(self.clock.wall_ms + off_by_s * 1000, self.clock.stamp())
        self.store.release()
        self.refresh_waiting()

    @rule(reboots=st.booleans())
    def restart(self, *, reboots: bool) -> None:
        self.store.close()
        if reboots:
            self.clock.reboot(f"boot-{self.clock.wall_ms}-{self.clock.boot_ms}")
        self.open()

    def refresh_waiting(self) -> None:
        """A waiting reading may have become pending; no other may have moved by itself."""
        for record in self.store.records(0, 10_000):
            before = self.state[record.entry.seq]
            if before is SpoolState.WAITING and record.entry.state is SpoolState.PENDING:
                self.state[record.entry.seq] = SpoolState.PENDING

    @invariant()
    def every_reading_is_where_it_belongs(self) -> None:
        records = self.store.records(0, 10_000)
        assert {record.entry.seq: record.entry.state for record in records} == self.state
        for record in records:
            assert (record.entry.device_id, record.entry.content) == self.content[record.entry.seq]

    @invariant()
    def no_two_readings_share_a_key(self) -> None:
        final = [r.entry for r in self.store.records(0, 10_000) if r.entry.state is not SpoolState.WAITING]
        keys = [(entry.device_id, entry.ts_ms) for entry in final]
        assert len(keys) == len(set(keys))


TestSpoolModel = SpoolModel.TestCase
TestSpoolModel.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
