"""A device is renamed by one program while another one imports: every reading keeps its own device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from sungrow_lib.spool import DurableSpool, HeldWhy, SpoolImport, SpoolRecord, holding, renaming, taking_in
from sungrow_lib.spool.store import SpoolStore
from tests.spool.helpers import NOON_MS
from tests.spool.test_holding import append, make, offered, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def edge(path: Path) -> Iterator[SpoolStore]:
    """What imports; a device is held."""
    with closing(opened(path)) as store:
        append(store, "barn", *range(10))
        store.change(lambda c: holding.hold(c, "barn", HeldWhy.FOREIGN))
        yield store


@pytest.fixture
def command(path: Path) -> Iterator[SpoolStore]:
    with closing(opened(path)) as store:
        yield store


def rename(store: SpoolStore, old: str, new: str) -> None:
    store.change(lambda c: renaming.rename(c, old, new))


def records(
    folder: Path, device_id: str, *numbers: int, value: int = 0, held: HeldWhy | None = None
) -> list[SpoolRecord]:
    """Readings of another spool."""
    folder.mkdir(exist_ok=True)
    with closing(opened(folder / "spool.db")) as store:
        append(store, device_id, *numbers, value=value)
        found = [r for r in store.records(0, 1_000) if r.entry.device_id == device_id]
    return [replace(record, held=held) for record in found]


def whose(store: SpoolStore) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for record in store.records(0, 1_000):
        entry = record.entry
        found.setdefault(entry.device_id, []).append((entry.ts_ms - NOON_MS) // 5_000)
    return found


@pytest.mark.parametrize("is_other_program", [True, False])
def test_what_was_given_the_name_meanwhile_is_not_imported_beside_it(
    edge: SpoolStore,
    command: SpoolStore,
    tmp_path: Path,
    is_other_program: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Of one device and time there is one reading, whichever of the two came first."""
    roof = records(tmp_path / "other", "roof", *range(20), value=99)
    importer = edge.importer()
    edge.import_chunk(importer, roof[15:])
    rename(command if is_other_program else edge, "barn", "roof")
    done = edge.import_chunk(importer, roof[:15])
    assert done == SpoolImport(imported=5, different=tuple(range(1, 11)))
    assert whose(edge) == {"roof": [*range(10), *range(15, 20), *range(10, 15)]}
    assert edge.faults() == []


def test_what_comes_under_the_old_name_afterwards_is_held_and_not_the_new_ones(
    edge: SpoolStore, command: SpoolStore, tmp_path: Path
) -> None:
    barn = records(tmp_path / "other", "barn", *range(20, 30), held=HeldWhy.FOREIGN)
    importer = edge.importer()
    edge.import_chunk(importer, barn[:5])
    rename(command, "barn", "roof")
    edge.import_chunk(importer, barn[5:])
    assert offered(edge, "roof") == [*range(10), *range(20, 25)]
    assert set(edge.look(holding.read_held)) == {"barn"}
    assert offered(edge, "barn") == []
    assert whose(command)["barn"] == [*range(25, 30)]


async def test_what_is_taken_in_from_another_edges_spool_stays_held_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sungrow_lib.spool.durable.CHUNK", 4)
    make(path, "roof")
    found_path = path.with_name("found")
    make(found_path, "shed")
    with closing(opened(path)) as command, closing(opened(found_path)) as found:
        name = f"shed.{found.identity.edge_id[:8]}"
        after_chunk(monkeypatch, lambda: rename(command, name, "hut"))
        async with DurableSpool.open(path) as spool:
            await taking_in._take_in(spool, found, set())
            assert len(await spool.peek("hut", 100)) == 4
            assert await spool.peek(name, 100) == []
            assert (await spool.held())[name].undelivered == 6


def after_chunk(monkeypatch: pytest.MonkeyPatch, deed: Callable[[], None]) -> None:
    """Do something once, as soon as some readings are imported."""
    import_chunk, deeds = SpoolStore.import_chunk, [deed]

    def imported(self: SpoolStore, *args: object) -> SpoolImport:
        done = import_chunk(self, *args)  # type: ignore[arg-type]  # whatever it takes
        if deeds:
            deeds.pop()()
        return done

    monkeypatch.setattr(SpoolStore, "import_chunk", imported)
