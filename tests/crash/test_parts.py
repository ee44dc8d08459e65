"""Parts of the harness that could hide a loss, or invent one, if they were wrong."""

from __future__ import annotations

from tests.crash.machine import ClockHistory


def test_what_a_clock_showed_is_put_right_also_where_it_was_set_back() -> None:
    history = ClockHistory()
    for since, offset_s in ((1000, 0), (2000, -600), (2700, 0), (3000, 900), (3050, 0)):
        history.note(since, offset_s)
    true = [1500, 1999, 2001, 2100, 2650, 2701, 2990, 3010, 3049, 3060]
    shown = [1500, 1999, 1401, 1500, 2050, 2701, 2990, 3910, 3949, 3060]
    assert list(history.true_times(shown)) == true
