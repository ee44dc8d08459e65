"""Alarms and faults in words, with begin and end, from the codes that readings hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from sungrow_lib.registers.faults import SG_FAULT_BY_CODE, SH_FAULT_BITS, Severity
from sungrow_lib.wire.reports import DeviceEvent

_SG_TEXTS: Final[Mapping[int, str]] = {code: entry.meaning for code, entry in SG_FAULT_BY_CODE.items()}
_SH_TEXTS: Final[Mapping[int, str]] = {
    bits.code(bit): text for bits in reversed(SH_FAULT_BITS) for bit, text in bits.texts.items()
}


def text_of(code: int, model: str | None) -> str:
    """Words for a code; a string inverter's and a hybrid's mean different things."""
    is_string = (model or "").upper().startswith("SG")
    first, second = (_SG_TEXTS, _SH_TEXTS) if is_string else (_SH_TEXTS, _SG_TEXTS)
    return first.get(code) or second.get(code) or f"unknown code {code}"


def events_of(
    changes: Iterable[tuple[datetime, str, list[int]]], begin: datetime, model: str | None
) -> list[DeviceEvent]:
    """Put the events together.

    Args:
        changes: readings at which the active codes changed, in order; before ``begin`` the last word then.
        begin: when the span begins.
        model: of the device.
    """
    open_: dict[tuple[str, int], datetime] = {}
    events: list[DeviceEvent] = []
    for ts, kind, codes in changes:
        ended = [key for key in open_ if key[0] == kind and key[1] not in codes]
        events += [_event(key, open_.pop(key), ts, begin, model) for key in ended]
        for code in codes:
            open_.setdefault((kind, code), ts)
    events += [_event(key, since, None, begin, model) for key, since in open_.items()]
    return sorted(
        (event for event in events if event.end is None or event.end >= begin),
        key=lambda event: (event.begin, event.kind, event.code),
    )


def _event(
    key: tuple[str, int], since: datetime, end: datetime | None, begin: datetime, model: str | None
) -> DeviceEvent:
    kind, code = key
    return DeviceEvent(
        kind=Severity(kind),
        code=code,
        text=text_of(code, model),
        begin=since,
        began_before=since < begin,
        end=end,
    )
