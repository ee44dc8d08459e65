"""Readings are kept small, come back letter for letter, and a damaged one is never taken for another."""

from __future__ import annotations

import json
import random
import sqlite3
from base64 import b85decode
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, strategies as st

from sungrow_lib.spool import DurableSpool, SpoolEntry, SpoolRecord, schema
from sungrow_lib.spool.packing import pack, unpack
from tests.spool.helpers import FakeClock, reading

SAMPLE: Final = json.dumps(
    {"pv_power_w": 4321, "pv_total_kwh": 10203.6, "mppt_voltage_v": [450.7, None], "running_state": "läuft"},
    ensure_ascii=False,
    separators=(",", ":"),
)
KEPT: Final = "NNR>Y%_2iBHBF3-fU2++k-)@?wTLv=$t%st!Q!2q!%IrjN|b5=Hh3Xk"
"""`SAMPLE` as the first version that packs kept it."""


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_content_comes_back(content: str) -> None:
    assert unpack(pack(content)) == content


def test_what_earlier_versions_kept_stays_readable() -> None:
    assert unpack(SAMPLE) == SAMPLE
    assert unpack(b85decode(KEPT)) == SAMPLE


def test_it_is_small() -> None:
    fields = {"battery_charge_from_pv_total_kwh": 1.5, "export_phase_power_w": [1, 2, 3], "load_power_w": 7}
    content = json.dumps(fields, separators=(",", ":"))
    assert len(pack(content)) < len(content) / 2


@pytest.mark.parametrize("seed", range(200))
def test_a_damaged_content_is_no_reading(seed: int) -> None:
    draw = random.Random(seed)
    kept = bytearray(pack(SAMPLE))
    match draw.randrange(3):
        case 0:
            kept[draw.randrange(len(kept))] ^= 1 << draw.randrange(8)
        case 1:
            del kept[draw.randrange(len(kept)) :]
        case _:
            start = draw.randrange(len(kept))
            kept[start : start + 4] = draw.randbytes(4)
    found = unpack(bytes(kept))
    if found != SAMPLE:
        with pytest.raises(ValueError, match="Expecting value"):
            json.loads(found)


def _text(entry: SpoolEntry) -> SpoolEntry:
    return entry._replace(kept=entry.content)


def _as_text(record: SpoolRecord) -> SpoolRecord:
    return replace(record, entry=_text(record.entry))


@pytest.mark.anyio
async def test_a_spool_of_an_earlier_layout_is_taken_over(path: Path) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        for number in range(5):
            await spool.append(reading(ts=clock.now(), pv_power_w=number))
            clock.pass_s(5)
        records = [record async for record in spool.records()]
    with closing(sqlite3.connect(path)) as connection:
        for record in records[:4]:
            row = (record.entry.content, record.entry.seq)
            connection.execute("UPDATE reading SET content = ? WHERE seq = ?", row)
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    async with DurableSpool.open(path, clock=clock) as spool:
        assert [_as_text(record) async for record in spool.records()] == [*map(_as_text, records)]
        assert [*map(_text, await spool.offer("inv", 10))] == [_text(record.entry) for record in records]
        assert await spool.faults() == []
        assert (await spool.import_records(records)).known == len(records)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)


@pytest.mark.anyio
async def test_verify_tells_of_a_damaged_content(path: Path) -> None:
    async with DurableSpool.open(path, clock=FakeClock()) as spool:
        await spool.append(reading())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE reading SET content = zeroblob(40)")
        connection.commit()
    async with DurableSpool.open(path, clock=FakeClock()) as spool:
        assert await spool.faults() == ["1 readings whose content is no JSON, the first is 1"]
