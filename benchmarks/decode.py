"""Decoding: the whole hybrid map to values and to a sample, against pymodbus converting the same numbers.

pymodbus has no names, scales, sentinels, enumerations or bit fields: it only makes numbers of the words.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from pymodbus.client import ModbusTcpClient

from benchmarks.measure import Figure, compare
from sungrow_lib import Family, Normalizer, RegisterMap, RegisterWords, identify, living_inverter
from sungrow_lib.registers.model import DataType, Register

_NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
_CALLS = 50
_TYPES = ModbusTcpClient.DATATYPE
_PYMODBUS_TYPES = {
    DataType.U16: _TYPES.UINT16,
    DataType.S16: _TYPES.INT16,
    DataType.U32: _TYPES.UINT32,
    DataType.S32: _TYPES.INT32,
}


def run() -> Iterator[Figure]:
    """Yield the figures."""
    inverter = living_inverter("SH8.0RT-20", zone=ZoneInfo("UTC"), seed=1, start=_NOW)
    words = RegisterWords(inverter.words())
    table = RegisterMap.for_family(Family.SH)
    identity = identify(words)
    normalizer = Normalizer("roof", identity)
    numeric = [row for row in table if row.type in _PYMODBUS_TYPES and _is_in(row, words)]

    def pymodbus() -> None:
        for _ in range(_CALLS):
            for row in numeric:
                taken = words.take(row.space, row.number, row.word_count)
                ModbusTcpClient.convert_from_registers(
                    list(taken or ()), _PYMODBUS_TYPES[row.type], word_order="little"
                )

    def decode() -> None:
        for _ in range(_CALLS):
            table.decode(words, identity.context)

    def normalize() -> None:
        for _ in range(_CALLS):
            normalizer.normalize(words, ts=_NOW)

    count = len(table.decode(words, identity.context))
    yield compare(
        f"decode {count} SH registers / pymodbus, {len(numeric)} of them", decode, pymodbus, jobs=_CALLS
    )
    yield compare("decode and normalize to a sample / pymodbus, the same", normalize, pymodbus, jobs=_CALLS)


def _is_in(row: Register, words: RegisterWords) -> bool:
    return words.take(row.space, row.number, row.word_count) is not None
