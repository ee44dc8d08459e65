# ruff: noqa: ASYNC240 - small local files
"""A file that never was a spool is refused and left alone; a damaged spool is not taken for one."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from sungrow_lib.errors import NotASpoolError
from sungrow_lib.spool import DurableSpool, SpoolOptions
from sungrow_lib.spool.schema import PAGE_BYTES
from tests.spool.helpers import FakeClock, reading

pytestmark = pytest.mark.anyio

RECOVERING: Final = SpoolOptions(recover=True)
NOISE: Final = random.Random(1).randbytes(8 * PAGE_BYTES)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


async def fill(path: Path, count: int) -> None:
    clock = FakeClock()
    async with DurableSpool.open(path, clock=clock) as spool:
        for _ in range(count):
            await spool.append(reading(ts=clock.now()))
            clock.pass_s(5)


def overwrite_first_page(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.write(content)


@pytest.mark.parametrize(
    "content",
    [b"-----BEGIN CERTIFICATE-----\nMIIB\n" * 90, b"x", NOISE, NOISE[:-7], b"\x0d" * 3 * PAGE_BYTES],
    ids=["certificate", "one byte", "noise of whole pages", "noise", "bytes like a page's"],
)
@pytest.mark.parametrize("options", [SpoolOptions(), RECOVERING, SpoolOptions(check=False)])
async def test_another_file_is_left_alone(path: Path, content: bytes, options: SpoolOptions) -> None:
    path.write_bytes(content)
    with pytest.raises(NotASpoolError, match=f"{path} is no spool but some other file"):
        async with DurableSpool.open(path, options=options):
            pass
    assert path.read_bytes() == content
    assert names(path.parent) == {path.name}


async def test_another_database_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine (what TEXT)")
    content = path.read_bytes()
    with pytest.raises(NotASpoolError, match="is a database, but not a spool"):
        async with DurableSpool.open(path, options=RECOVERING):
            pass
    assert path.read_bytes() == content
    assert names(path.parent) == {path.name}


async def test_an_empty_file_becomes_a_spool(path: Path) -> None:
    path.touch()
    await fill(path, 1)


@pytest.mark.parametrize("count", [0, 1, 40])
@pytest.mark.parametrize("content", [bytes(PAGE_BYTES), NOISE[:PAGE_BYTES], NOISE[:16]])
async def test_a_spool_without_its_beginning_is_recovered(path: Path, count: int, content: bytes) -> None:
    await fill(path, count)
    overwrite_first_page(path, content)
    assert names(path.parent) == {path.name}
    async with DurableSpool.open(path, options=RECOVERING) as spool:
        assert (await spool.counts()).accepted == count
        assert spool.recovery is not None


async def test_a_spool_that_became_zeros_is_set_aside(path: Path) -> None:
    path.write_bytes(bytes(20 * PAGE_BYTES))
    async with DurableSpool.open(path, options=RECOVERING) as spool:
        assert spool.recovery is not None
        assert Path(spool.recovery.set_aside).stat().st_size == 20 * PAGE_BYTES


@pytest.mark.parametrize("companion", ["-wal", "-shm", "-reserve"])
async def test_what_stands_beside_a_spool_tells_it(path: Path, companion: str) -> None:
    path.write_bytes(NOISE)
    Path(f"{path}{companion}").write_bytes(b"")
    async with DurableSpool.open(path, options=RECOVERING) as spool:
        assert spool.recovery is not None
        assert Path(spool.recovery.set_aside).read_bytes() == NOISE
