"""Short constructors, so that the register tables read like the reference they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from sungrow_lib.registers.model import Access, DataType, Kind, Register, Status
from sungrow_lib.registers.words import Space

_DECIMALS: Final = {1: 0, 0.1: 1, 0.01: 2, 0.001: 3, 0.0001: 4}

ENABLE: Final = {0xAA: "enable", 0x55: "disable"}
"""Sungrow's usual switch."""
START_STOP: Final = {0xCF: "start", 0xCE: "stop"}


def u16(name: str, number: int, scale: float = 1, unit: str = "", **more: Any) -> Register:
    """Unsigned 16-bit number; ``items=n`` makes an array."""
    return _number(DataType.U16, name, number, scale, unit, more)


def s16(name: str, number: int, scale: float = 1, unit: str = "", **more: Any) -> Register:
    """Signed 16-bit number."""
    return _number(DataType.S16, name, number, scale, unit, more)


def u32(name: str, number: int, scale: float = 1, unit: str = "", **more: Any) -> Register:
    """Unsigned 32-bit number; ``items=n`` makes an array."""
    return _number(DataType.U32, name, number, scale, unit, more)


def s32(name: str, number: int, scale: float = 1, unit: str = "", **more: Any) -> Register:
    """Signed 32-bit number."""
    return _number(DataType.S32, name, number, scale, unit, more)


def energy16(name: str, number: int, scale: float = 0.1, **more: Any) -> Register:
    """16-bit energy counter, in kWh."""
    return u16(name, number, scale, "kWh", kind=Kind.COUNTER, **more)


def energy32(name: str, number: int, scale: float = 0.1, **more: Any) -> Register:
    """32-bit energy counter, in kWh."""
    return u32(name, number, scale, "kWh", kind=Kind.COUNTER, **more)


def text(name: str, number: int, words: int, **more: Any) -> Register:
    """Text, two characters to a word, padded with zeros."""
    return Register(name=name, number=number, type=DataType.STRING, word_count=words, kind=Kind.TEXT, **more)


def choice(name: str, number: int, choices: Mapping[int, str], **more: Any) -> Register:
    """One word that stands for a text."""
    more = {"kind": Kind.STATE, **more}
    return Register(name=name, number=number, type=DataType.ENUM, choices=choices, **more)


def bits(name: str, number: int, texts: Mapping[int, str], *, words: int = 2, **more: Any) -> Register:
    """Words whose bits each stand for a text."""
    return Register(
        name=name,
        number=number,
        type=DataType.BITFIELD,
        word_count=words,
        bits=texts,
        kind=Kind.STATE,
        **more,
    )


def each(rows: Iterable[Register], **changes: Any) -> tuple[Register, ...]:
    """The same registers with these attributes in common."""
    return tuple(replace(row, **changes) for row in rows)


def sourced(rows: Iterable[Register], sources: Mapping[Status, str]) -> tuple[Register, ...]:
    """The same registers, each with the source its status stands for unless it names one itself.

    They are named where they are: nobody has seen them yet, and the modules that list them group by group
    would keep every one of them a second time.
    """
    table = tuple(rows)
    for row in table:
        if not row.source:
            object.__setattr__(row, "source", sources[row.status])
    return table


def settings(*rows: Register) -> tuple[Register, ...]:
    """Holding registers that may be written."""
    return tuple(
        replace(
            row,
            space=Space.HOLDING,
            access=Access.READ_WRITE,
            kind=row.kind if row.kind is Kind.STATE else Kind.SETTING,
        )
        for row in rows
    )


def _number(
    data_type: DataType, name: str, number: int, scale: float, unit: str, more: dict[str, Any]
) -> Register:
    items = more.pop("items", 1)
    return Register(
        name=name,
        number=number,
        type=data_type,
        word_count=items * data_type.item_words,
        decimals=_DECIMALS[scale],
        unit=unit,
        **more,
    )
