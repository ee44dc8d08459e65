"""What became of every reading: ledgers and spools on the one side, the database on the other.

Nothing counts as taken away, merged or kept aside because spool or server say so, but only where the harness
has done what leads to that, by its own record.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from typing import Any, Final

import anyio
import psycopg

from reference_edge.owner import OwnerFile
from reference_server.history import export_samples
from sungrow_lib.quantities import QUANTITIES, Quantity, QuantityKind
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import SpoolOptions, SpoolRecord, SpoolState
from sungrow_lib.spool.entries import from_ms, to_ms
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.spool.system_clock import SystemClock
from tests.crash.readings import Key, Tally, key_of, keys_of, merged_values, values

MISDATED_MS: Final = 130_000
"""A reading dated further than this from the truth is altered: a clock may be two minutes off."""
SET_APART: Final = (
    "set apart by a recovery and not sent: it stood, or was said to, on a page the harness damaged"
)
_SHOWN: Final = 20
_FEW: Final = 5
_ROUNDED: Final = 3
"""Steps of resolution that an average may be off after several goes of merging."""


@dataclass
class Account:
    """The account of a run.

    Attributes:
        polled: readings taken, and polls the simulators answered or the edge found unanswered.
        accepted: by a spool.
        not_accepted: with the reason.
        stored: rows in the database.
        merged: accepted readings that are part of another's row, counted in it, each with that row: of an
            edge the harness kept without room.
        kept_aside: accepted readings that another edge's of the same device and time keeps out, kept on the
            server, each with the one stored.
        destroyed: accepted readings that the harness itself took away, each with how.
        doubtful: accepted readings that a recovery keeps and does not send, each with what the harness did.
        lost, doubled, altered: what must not be: a line for each.
        ended: processes that ended by themselves.
        left_out: faults that cannot be made on this machine, and why.
    """

    polled: int = 0
    accepted: int = 0
    not_accepted: Counter[str] = field(default_factory=Counter)
    stored: int = 0
    merged: dict[str, str] = field(default_factory=dict)
    kept_aside: dict[str, str] = field(default_factory=dict)
    destroyed: dict[str, str] = field(default_factory=dict)
    doubtful: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, doubled or altered, no process ended, and the sums are right."""
        return not self.findings

    @property
    def findings(self) -> list[str]:
        """All that must not be."""
        kinds = ("lost", "doubled", "altered", "ended")
        found = [f"{kind}: {what}" for kind in kinds for what in getattr(self, kind)]
        reasons = sum(self.not_accepted.values())
        if self.polled != self.accepted + reasons:
            found.append(f"sums: polled {self.polled}, accepted {self.accepted}, not accepted {reasons}")
        return found

    @property
    def apart(self) -> dict[str, dict[str, str]]:
        """Readings that are not stored as they were taken, and are none the worse for the product."""
        return {
            "destroyed": self.destroyed,
            "doubtful": self.doubtful,
            "merged": self.merged,
            "kept aside": self.kept_aside,
        }

    def write_list(self, path: Path) -> None:
        """Write down every reading counted apart and every finding, a line for each."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{kind}\t{key}\t{how}" for kind, all_ in self.apart.items() for key, how in all_.items()]
        path.write_text("".join(f"{line}\n" for line in (*self.findings, *lines)))

    def report(self, faults: Counter[str], **more: object) -> str:
        """Write all of it in short; the last line is JSON, with ``more`` in it."""
        lines = ["faults injected:", *(f"  {count:6} {name}" for name, count in sorted(faults.items()))]
        never = sorted(name for name, count in faults.items() if not count and name not in self.left_out)
        lines += ["faults that never struck: " + ("; ".join(never) or "none")]
        lines += [f"left out: {name}: {why}" for name, why in sorted(self.left_out.items())]
        lines += ["not accepted:", *(f"  {n:6} {why}" for why, n in sorted(self.not_accepted.items()))]
        for kind, readings in self.apart.items():
            lines += [f"{kind}: {len(readings)}"]
            if kind in {"destroyed", "doubtful"}:
                lines += [f"  {count:6} {how}" for how, count in Counter(readings.values()).items()]
            lines += [f"         {key}: {how}" for key, how in list(readings.items())[:_FEW]]
        kinds = Counter(
            finding.partition(":")[0] + " " + finding.partition(": ")[2].partition("/")[0].partition(":")[0]
            for finding in self.findings
        )
        lines += [f"{count:6} {kind}" for kind, count in kinds.items()] + self.findings[:_SHOWN]
        parts = ("merged", "kept_aside", "destroyed", "doubtful", "lost", "doubled", "altered", "ended")
        numbers: dict[str, object] = {
            "polled": self.polled,
            "accepted": self.accepted,
            "not_accepted": sum(self.not_accepted.values()),
            "stored": self.stored,
        }
        numbers |= {name: len(getattr(self, name)) for name in parts} | {"faults": sum(faults.values())}
        return "\n".join([*lines, json.dumps(numbers | more)])


def spool_records(folder: Path) -> list[SpoolRecord]:
    """Read all records of a spool nobody has open, from a copy: looking changes nothing."""
    with TemporaryDirectory() as scratch:
        for file in folder.glob("spool.sqlite*"):
            copy(file, scratch)
        path = Path(scratch, "spool.sqlite")
        options = SpoolOptions(recover=True, owner=OwnerFile.read_at(path).owner)
        with closing(SpoolStore(path, options, SystemClock())) as store:
            return store.records(0, 10_000_000)


def keys_in(folder: Path) -> dict[Key, SpoolState]:
    """Return where each reading of a spool stands."""
    found: dict[Key, SpoolState] = {}
    for record in spool_records(folder):
        found |= dict.fromkeys(keys_of(json.loads(record.entry.content)), record.entry.state)
    return found


def rows_kept_aside(dsn: str) -> list[dict[str, Any]]:
    """Return the bodies of everything the server keeps aside."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT body FROM kept_aside").fetchall()
    return [body if isinstance(body, dict) else json.loads(body) for (body,) in rows]


def rows_stored(dsn: str, devices: Collection[str]) -> list[dict[str, Any]]:
    """Return the rows of those devices that the server knows, as `sungrow-server export` writes them."""
    return anyio.run(_rows_stored, dsn, devices)


async def _rows_stored(dsn: str, devices: Collection[str]) -> list[dict[str, Any]]:
    with psycopg.connect(dsn) as connection:
        known = {name for (name,) in connection.execute("SELECT device_id FROM devices").fetchall()}
    written = io.StringIO()
    for device_id in sorted(known.intersection(devices)):
        await export_samples(dsn, device_id, None, None, written)
    return [json.loads(line) for line in written.getvalue().splitlines()]


@dataclass(frozen=True)
class Fed:
    """What the fed edges did, and what the harness did to them.

    Attributes:
        tally: of all their ledgers.
        destroyed: readings taken away by the harness before the server had them for good, each with how.
        set_apart: readings that recoveries keep and do not send.
        touched: readings of which the harness damaged some page.
        shared: devices that two edges have.
        no_room_until: s since 1970 until which the harness last kept an edge without room, by edge.
        misled: edges whose clock the harness set wrong.
        starts: how often each edge was started.
        seed: of the readings' values.
    """

    tally: Tally
    destroyed: dict[Key, str] = field(default_factory=dict)
    set_apart: set[Key] = field(default_factory=set)
    touched: set[Key] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)
    no_room_until: dict[str, float] = field(default_factory=dict)
    misled: set[str] = field(default_factory=set)
    starts: Counter[str] = field(default_factory=Counter)
    seed: int = 1


def judge_fed(
    account: Account, fed: Fed, rows: Iterable[dict[str, Any]], aside: list[dict[str, Any]]
) -> None:
    """Hold the rows of the fed devices against what was taken."""
    tally, stored = fed.tally, Counter[Key]()
    dates: dict[tuple[str, str], Key] = {}
    for row in rows:
        account.stored += 1
        keys = keys_of(row)
        if not keys or not set(keys) <= tally.tried.keys():
            account.altered.append(f"{row['device_id']} {row['ts']}: nobody took it")
            continue
        if wrong := {key.device_id for key in keys} - {row["device_id"]}:
            account.altered.append(f"{keys[-1]}: of {', '.join(wrong)}, stored as {row['device_id']}'s")
        if (date := (row["device_id"], row["ts"])) in dates:
            account.doubled.append(f"{keys[-1]}: there are two rows of {date}")
        dates[date] = keys[-1]
        stored.update(keys)
        _compare(account, fed, keys, row)
    account.doubled += [f"{key}: stored {count} times" for key, count in stored.items() if count > 1]
    others = _aside(account, fed, aside, dates)
    for key in sorted(tally.accepted - stored.keys()):
        if key in others:
            account.kept_aside[str(key)] = f"for {others[key]}"
        elif key in fed.destroyed:
            account.destroyed[str(key)] = fed.destroyed[key]
        elif key in fed.set_apart and key in fed.touched:
            account.doubtful[str(key)] = SET_APART
        elif key in fed.set_apart:
            account.lost.append(f"{key}: set apart by a recovery, and no page of it was damaged")
        else:
            account.lost.append(f"{key}: nowhere")
    _count(account, fed, stored.keys() | others.keys())


def _compare(account: Account, fed: Fed, keys: list[Key], row: dict[str, Any]) -> None:
    sample, key = SungrowSample.model_validate_json(json.dumps(row)), keys[-1]
    found = {name: value for name, value in row.items() if name not in {"device_id", "ts", "clock_source"}}
    if len(keys) == 1:
        expected = values(fed.seed, key, sample.ts)
        is_right = found == expected
    else:
        expected = merged_values(fed.seed, keys, sample.ts)
        is_right = _is_rounded_alike(found, expected)
        account.merged |= {str(other): f"into {key}, stored as of {row['ts']}" for other in keys[:-1]}
        if fed.tally.taken_at[key] > fed.no_room_until.get(key.edge, 0):
            account.altered.append(f"{key}: merged of {len(keys)}, and there was room")
    date_ms, said_ms = to_ms(sample.ts), fed.tally.dated.get(key)
    if not is_right:
        account.altered.append(f"{key}: taken as {expected}, stored as {found}")
    elif abs(date_ms - fed.tally.tried[key]) > MISDATED_MS:
        account.altered.append(f"{key}: dated {row['ts']}, far from when it was taken")
    elif said_ms not in {None, date_ms} and key.edge not in fed.misled:
        account.altered.append(f"{key}: accepted as of {from_ms(said_ms or 0)}, stored as of {row['ts']}")


def _is_rounded_alike(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether averages differ by rounding at most: a row may have been merged in several goes."""

    def steps(value: Any, quantity: Quantity) -> list[int | None]:
        items = value if isinstance(value, list) else [value]
        return [None if item is None else quantity.to_steps(item) for item in items]

    gauges = {q.name: q for q in QUANTITIES if q.kind is QuantityKind.GAUGE and q.name in expected}
    if found.keys() != expected.keys():
        return False
    for name, value in expected.items():
        if name not in gauges:
            if found[name] != value:
                return False
            continue
        pairs = zip_longest(steps(found[name], gauges[name]), steps(value, gauges[name]))
        if any(a != b and (a is None or b is None or abs(a - b) > _ROUNDED) for a, b in pairs):
            return False
    return True


def _aside(
    account: Account, fed: Fed, rows: list[dict[str, Any]], dates: dict[tuple[str, str], Key]
) -> dict[Key, Key]:
    """Return which readings the server keeps aside as it should, each with the one stored in its place.

    It should where two edges of one device claim one time, and nowhere else.
    """
    found = {}
    for row in rows:
        key = key_of(row)
        if key is None or key not in fed.tally.tried:
            continue
        _compare(account, fed, [key], row | {"device_id": key.device_id})
        other = dates.get((key.device_id, row["ts"]))
        if key.device_id in fed.shared and other is not None and other.edge != key.edge:
            found[key] = other
    return found


def _count(account: Account, fed: Fed, arrived: set[Key]) -> None:
    """Every reading taken was accepted or has its reason; one killed in between may have been either."""
    tally = fed.tally
    unsaid = tally.tried.keys() - tally.accepted - tally.refused.keys()
    account.polled += len(tally.tried)
    account.accepted += len(tally.accepted) + len(unsaid & arrived)
    for reason in tally.refused.values():
        account.not_accepted[f"spool refused: {reason}"] += 1
    if killed := len(unsaid - arrived):
        account.not_accepted["killed in between"] += killed
    for edge, count in Counter(key.edge for key in unsaid).items():
        if fed.starts and count > fed.starts[edge]:
            account.lost.append(
                f"{edge}/: {count} readings with neither yes nor no, {fed.starts[edge]} kills"
            )
    for key in tally.refused.keys() & arrived:
        account.altered.append(f"{key}: refused by the spool, and arrived nevertheless")


def count_meetings(fed: Fed) -> int:
    """Count the times at which two edges of one device each took a reading, as their ledgers tell."""
    edges: dict[tuple[str, int], set[str]] = {}
    for key, date_ms in fed.tally.dated.items():
        if key.device_id in fed.shared:
            edges.setdefault((key.device_id, date_ms), set()).add(key.edge)
    return sum(len(found) > 1 for found in edges.values())
