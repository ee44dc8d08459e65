"""How long the edge waits."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from sungrow_lib.upload.backoff import Backoff, parse_date, parse_retry_after

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_it_doubles_from_one_second_to_five_minutes() -> None:
    backoff = Backoff(draw=lambda: 1.0)
    assert [backoff.next_s() for _ in range(11)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    backoff.reset()
    assert backoff.next_s() == 1


def test_it_lasts_for_years() -> None:
    backoff = Backoff(draw=lambda: 1.0)
    assert [backoff.next_s() for _ in range(5000)][-1] == 300


def test_jitter_is_full_and_never_undercuts_the_server() -> None:
    draws = [Backoff().next_s() for _ in range(500)]
    assert 0 <= min(draws) < 0.1
    assert 0.9 < max(draws) <= 1
    assert Backoff(draw=lambda: 0.0).next_s(30.0) == 30


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("7200", 7200),
        ("86400", 86_400),
        ("999999999", 86_400),
        ("99999999999999999999", None),
        ("Mon, 01 Jun 2026 12:00:30 GMT", 30),
        ("Mon, 01 Jun 2026 11:00:00 GMT", 0),
        ("Mon, 01 Jun 2026 18:00:00 GMT", 21_600),
        ("Mon, 01 Jun 2027 12:00:00 GMT", 86_400),
        ("Mon, 99 Jun 2026 12:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


def test_an_http_date_is_utc() -> None:
    assert parse_date("Mon, 01 Jun 2026 12:00:00 GMT") == NOW
    assert parse_date("Mon, 01 Jun 2026 12:00:00 -0000") == NOW
    assert parse_date("Monday, 01-Jun-26 12:00:00 GMT") == NOW  # two older forms
    assert parse_date("Mon Jun  1 12:00:00 2026") == NOW
    assert parse_date("Mon, 29 Feb 2027 12:00:00 GMT") is None
    assert parse_date("Mon, 01 Juk 2026 12:00:00 GMT") is None
    assert parse_date("yesterday") is None


@pytest.mark.parametrize("month", range(1, 13))
def test_the_usual_form_is_read_as_any_other(month: int) -> None:
    date = datetime(2026, month, 28, 23, 59, 58, tzinfo=UTC)
    assert parse_date(format_datetime(date, usegmt=True)) == date == parse_date(format_datetime(date))


@pytest.mark.parametrize(
    "year_and_zone", ["9999 23:59:59 -1200", "99999999999999999999 10:00:00 GMT", "2026 10:00:00 +999999"]
)
def test_a_date_of_no_calendar_is_none(year_and_zone: str) -> None:
    assert parse_date(f"Fri, 31 Dec {year_and_zone}") is None
