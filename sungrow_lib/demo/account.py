"""The account of a demo's run: journals, the edge's log and spool, and the rows stored, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sungrow_lib.demo.proof import (
    EdgeAccount,
    Proof,
    ServedPoll,
    dating_block,
    prove,
    read_failures,
    served_polls,
)
from sungrow_lib.demo.site import DEVICES, DemoDevice, DemoSite
from sungrow_lib.normalizer import Normalizer
from sungrow_lib.registers.identity import identify
from sungrow_lib.registers.words import RegisterWords
from sungrow_lib.sample import SungrowSample
from sungrow_lib.simulator.journal import JournalEntry, read_journal


def prove_run(site: DemoSite, stored: Sequence[SungrowSample], spool: Mapping[str, int]) -> Proof:
    """Hold what is stored against what was served.

    Args:
        site: where journals and logs are.
        stored: every row of the run in the database.
        spool: the counts of `sungrow-edge status`.
    """
    account = EdgeAccount(
        accepted=spool["accepted"],
        uploaded=spool["delivered"],
        quarantined=spool["quarantined"],
        pending=spool["pending"] + spool["waiting"] + spool["deferred"],
        failures=read_failures(site.log("edge")),
    )
    polls: dict[str, list[ServedPoll]] = {}
    normalizers: dict[str, Normalizer] = {}
    for device in DEVICES:
        entries = list(read_journal(site.journal(device)))
        polls[device.device_id] = served_polls(device.device_id, entries, dating_block(device.family))
        normalizers[device.device_id] = _normalizer(device, entries)

    def derive(poll: ServedPoll) -> SungrowSample:
        return normalizers[poll.device_id].normalize(poll.words, ts=poll.answered_at, firmware=True)

    return prove(polls, derive, stored, account)


def _normalizer(device: DemoDevice, entries: Sequence[JournalEntry]) -> Normalizer:
    """A normalizer that knows of the device what it ever answered."""
    words = RegisterWords()
    for entry in entries:
        words |= RegisterWords.from_block(entry.block, entry.words)
    return Normalizer(device.device_id, identify(words, family=device.family))
