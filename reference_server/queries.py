"""Query parameters of the API, typed and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from reference_server.buckets import SERIES_FIELDS
from reference_server.tables import RAW_FIELDS
from sungrow_lib.sample import DEVICE_ID_PATTERN, parse_ts
from sungrow_lib.wire.answers import Frame

_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 2999
_DAY_LENGTH: Final = len("2026-01-31")


_ADDED_ON_THE_WAY: Final = "_"
"""Names with this in front are nobody's: programs add such a one lest a cache answers."""


_IN_ANY_QUERY: Final = frozenset({"device_id"})
"""It may be left out of any query, so it may be in any: of a plant it says nothing."""


class NoQuery(BaseModel):
    """An operation without parameters; whatever is asked of it is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def check_names(model: type[NoQuery], names: Iterable[str]) -> None:
    """Refuse parameters that an operation does not take, or takes once: else what was meant is passed over.

    Raises:
        ValidationError: one entry for each of them.
    """
    known = {field.alias or name for name, field in model.model_fields.items()}
    taken = known | _IN_ANY_QUERY
    sent = Counter(name for name in names if not name.startswith(_ADDED_ON_THE_WAY))
    unknown = f"is no parameter here; known are {', '.join(sorted(known))}"
    faults = [
        _fault(name, "may be given once" if name in taken else unknown)
        for name, count in sent.items()
        if known and (count > 1 or name not in taken)
    ]
    if faults:
        raise ValidationError.from_exception_data("query", faults)


class DeviceQuery(NoQuery):
    """Which device is meant.

    Attributes:
        device_id: may be left out when the token sees exactly one device.
    """

    device_id: Annotated[str, Field(pattern=DEVICE_ID_PATTERN)] | None = None


def _in_range(value: date) -> date:
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        raise ValueError(f"must lie in the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return value


def _fault(field: str, message: str) -> InitErrorDetails:
    kind = PydanticCustomError("query", "{message}", {"message": message})
    return InitErrorDetails(type=kind, loc=(field,), input=None)


def _wrong(field: str, message: str) -> ValidationError:
    """Make the error of one parameter, found while looking at several."""
    return ValidationError.from_exception_data("query", [_fault(field, message)])


def _is_plain_date(value: str) -> bool:
    """Whether it looks like 2026-01-31; dates of weeks, such as 2026-W01-1, are as long."""
    return len(value) == _DAY_LENGTH and value[4] == value[7] == "-"


def _day(value: str, what: str) -> date:
    """Read a date.

    Raises:
        ValueError: it is none, but must be ``what``.
    """
    try:
        if _is_plain_date(value):
            return date.fromisoformat(value)
    except ValueError:
        pass  # it looks like one
    raise ValueError(f"must be {what}")


def _plain_date(value: object) -> object:
    return _day(value, "a date such as 2026-01-31") if isinstance(value, str) else value


QueryDate = Annotated[
    date,
    BeforeValidator(_plain_date),
    AfterValidator(_in_range),
    Field(json_schema_extra={"format": "date"}),
]


def _time(value: object) -> datetime:
    try:
        return parse_ts(value)
    except ValueError:
        if isinstance(value, str) and _lost_its_plus(value):
            raise ValueError("must be RFC 3339; a + in an address is a space, so write it as %2B") from None
        raise


def _lost_its_plus(value: str) -> bool:
    try:
        parse_ts("+".join(value.rsplit(" ", 1)))
    except ValueError:
        return False
    return " " in value


def _time_or_day(value: object) -> object:
    if not (isinstance(value, str) and len(value) == _DAY_LENGTH):
        return _time(value)
    return _day(value, "a time (RFC 3339), or a date such as 2026-01-31")


QueryTime = Annotated[datetime, BeforeValidator(_time), AfterValidator(_in_range)]
QueryTimeOrDay = Annotated[datetime | date, BeforeValidator(_time_or_day), AfterValidator(_in_range)]
Merged = Literal["5m", "15m", "1h", "1d", "1M"]
Bucket = Literal["raw", Merged]
_ALWAYS: Final = frozenset({"bucket", "sample_count", "coverage", "partial"})
"""Fields of a bucket that come unasked; asking for them is no mistake."""
_NO_FIELD: Final = "{!r} is not a field of a sample, such as pv_power_w; its time comes unasked, as bucket"


class StreamQuery(DeviceQuery):
    """Which device's readings, and which of them were seen.

    Attributes:
        last_event_id: the same as `Last-Event-ID`, from libraries that put it here when they connect again.
    """

    last_event_id: Annotated[str | None, Field(alias="lastEventId")] = None


class ConflictsQuery(DeviceQuery):
    """Which readings kept aside.

    Attributes:
        reason: only these.
        before: only entries with a smaller number; `next_before` of the answer before.
        limit: most entries of one answer.
    """

    reason: Literal["conflict", "rejected", "additional", "behind_horizon"] | None = None
    before: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


def _in_order(begin: datetime | None, end: datetime | None) -> None:
    if begin is not None and end is not None and end < begin:
        raise _wrong("to", "must not be before from")


class DaysQuery(DeviceQuery):
    """Which local days: all that the span of time touches.

    Attributes:
        from_: its start, RFC 3339, or a local day, which begins it; four weeks before its end by default.
        to: its end, not included, RFC 3339 or a local day; now by default.
    """

    from_: Annotated[QueryTimeOrDay | None, Field(alias="from")] = None
    to: QueryTimeOrDay | None = None


class EventsQuery(DeviceQuery):
    """Which span of time.

    Attributes:
        from_: its start, RFC 3339; a week before its end by default.
        to: its end, not included; now by default.
    """

    from_: Annotated[QueryTime | None, Field(alias="from")] = None
    to: QueryTime | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _in_order(self.from_, self.to)
        return self


class SpanQuery(NoQuery):
    """Which span of time, in which steps.

    Attributes:
        frame: day = hours, month = days, year = months, all = every month.
        at: the local day the frame holds; today by default.
        from_: start of a range, RFC 3339; in place of `frame`. The first and the last bucket are cut to the
            range; where raw readings are gone (`RAW_RETENTION_DAYS`), to the quarters of an hour around it.
        to: its end, RFC 3339, not included.
        bucket: step of a range.
    """

    frame: Frame | None = None
    at: QueryDate | None = None
    from_: Annotated[QueryTime | None, Field(alias="from", examples=["2026-06-01T00:00:00Z"])] = None
    to: Annotated[QueryTime | None, Field(examples=["2026-06-02T00:00:00Z"])] = None
    bucket: Bucket | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        span = (self.from_, self.to, self.bucket)
        if self.frame is None and None in span:
            raise ValueError("give either frame, or from, to and bucket")
        if self.frame is not None and span != (None, None, None):
            raise ValueError("give either frame or from, to and bucket, not both")
        _in_order(self.from_, self.to)
        return self


class PlantSeriesQuery(SpanQuery):
    """Which plant, which span of time, in which steps.

    Attributes:
        plant: its name.
    """

    plant: Annotated[str, Field(min_length=1, max_length=128)]
    bucket: Merged | None = None


class SeriesQuery(SpanQuery, DeviceQuery):
    """Which span of time, in which steps.

    Attributes:
        bucket: step of a range; raw = each reading as it was sent.
        fields: which fields to answer, comma-separated; ``avg_``, ``min_`` and ``max_`` of any gauge
            that is one number (lists only raw), of raw readings the fields of a sample.
    """

    fields: Annotated[str | None, Field(examples=["pv_kwh,avg_battery_temp_c"])] = None

    @property
    def chosen_fields(self) -> tuple[str, ...] | None:
        """The fields asked for, None for the usual ones."""
        if self.fields is None:
            return None
        unasked = _ALWAYS.difference(RAW_FIELDS) if self.bucket == "raw" else _ALWAYS
        named = dict.fromkeys(part.strip() for part in self.fields.split(","))  # each once, in order
        return tuple(name for name in named if name not in unasked)

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        for name in self.chosen_fields or ():
            if self.bucket != "raw" and name not in SERIES_FIELDS:
                text = f"{name!r} is not a field of a series, such as avg_battery_temp_c or pv_kwh"
                raise _wrong("fields", text)
            if self.bucket == "raw" and name not in RAW_FIELDS:
                raise _wrong("fields", _NO_FIELD.format(name))
        return self
