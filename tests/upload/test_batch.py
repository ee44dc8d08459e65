"""Readings on their way are the readings that were taken."""

from __future__ import annotations

import sys

from sungrow_lib.spool import SpoolEntry, SpoolState
from sungrow_lib.spool.packing import pack
from sungrow_lib.upload.batch import Batch


def _entry(seq: int) -> SpoolEntry:
    source = "server" if seq % 3 == 0 else None
    kept = pack(f'{{"pv_power_w":{seq}}}')
    return SpoolEntry(seq, "roof", 1_780_000_000_000 + 5_000 * seq, kept, source, SpoolState.DEFERRED)


def test_each_reading_comes_out_as_it_went_in() -> None:
    entries = [_entry(seq) for seq in range(1, 8)]
    batch = Batch(entries)
    assert [*batch] == entries
    assert batch[-1] == entries[-1]
    assert [*batch[:3]] == entries[:3]
    assert [*batch[3:]] == entries[3:]
    assert not Batch([])


def test_what_an_earlier_version_kept_as_text_says_the_same() -> None:
    entry = _entry(1)._replace(kept='{"running_state":"läuft"}')
    [taken] = Batch([entry])
    assert taken.to_json() == entry.to_json()


def test_a_batch_is_a_handful_of_objects() -> None:
    entries = iter([_entry(seq) for seq in range(10_000, 10_500)])
    before = sys.getallocatedblocks()
    batch = Batch(entries)
    del entries  # what it was made of is gone
    assert sys.getallocatedblocks() <= before
    assert len(batch) == 500
