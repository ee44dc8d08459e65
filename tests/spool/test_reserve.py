"""What is kept for a full disk, and what is said where there is no room for it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sungrow_lib.spool.reserve import Reserve, reserve_bytes


@pytest.mark.parametrize(
    ("free", "then", "said"),
    [
        (10_000_000, 10_000_000, []),
        (300_000, 300_000, ["disk too full for the spool's reserve"]),
        (10_000_000, 300_000, ["disk nearly full"]),
    ],
    ids=["room", "a tiny disk", "less and less room"],
)
def test_the_log_says_once_what_the_disk_has_no_room_for(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    free: int,
    then: int,
    said: list[str],
) -> None:
    caplog.set_level(logging.WARNING)
    reserve = Reserve(path, 100_000)
    for left in (free, then, then):
        monkeypatch.setattr("sungrow_lib.spool.reserve.free_bytes", lambda _, left=left: left)
        reserve.keep()
    assert [record.getMessage().split(";")[0] for record in caplog.records] == said
    assert reserve_bytes(path) == (100_000 if free > 400_000 else 0)


def test_a_disk_that_does_not_tell_has_no_reserve(path: Path) -> None:
    """A name that leads to itself fails as a disk may."""
    path.with_name(f"{path.name}-reserve").symlink_to(f"{path.name}-reserve")
    reserve = Reserve(path, 100_000)
    reserve.keep()
    assert not reserve.holds(0)
    assert not reserve.give_up(reserve.part)
    assert not reserve.is_used_up
    assert reserve_bytes(path) == 0
