"""What became of every reading: ledgers and spools on the one side, the database on the other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory
from typing import Any, Final

import psycopg

from sungrow_lib.quantities import QUANTITIES, Quantity, QuantityKind
from sungrow_lib.sample import SungrowSample
from sungrow_lib.spool import SpoolOptions, SpoolRecord, SpoolState
from sungrow_lib.spool.entries import to_ms
from sungrow_lib.spool.merging import merge_contents
from sungrow_lib.spool.store import SpoolStore
from sungrow_lib.spool.system_clock import SystemClock
from tests.crash.readings import Key, Tally, key_of, keys_of, values

MISDATED_MS: Final = 130_000
"""A reading dated further than this from the truth is altered: a clock may be two minutes off."""
_SHOWN: Final = 20
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
        merged: accepted readings that a full disk made part of another row, with their number in it.
        kept_aside: accepted readings that another one of the same key keeps out, kept on the server.
        destroyed: accepted readings that the harness itself took away, each with how.
        doubtful: accepted readings that a recovery keeps and does not send: of a spool the harness damaged.
        lost, doubled, altered: what must not be.
        findings: one line for each of these.
    """

    polled: int = 0
    accepted: int = 0
    not_accepted: Counter[str] = field(default_factory=Counter)
    stored: int = 0
    merged: int = 0
    kept_aside: int = 0
    destroyed: dict[str, str] = field(default_factory=dict)
    doubtful: int = 0
    lost: int = 0
    doubled: int = 0
    altered: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, doubled or altered."""
        return self.lost == self.doubled == self.altered == 0

    def lose(self, what: str) -> None:
        """Note a loss."""
        self.lost += 1
        self.findings.append(f"lost: {what}")

    def double(self, what: str) -> None:
        """Note a reading that is stored twice."""
        self.doubled += 1
        self.findings.append(f"doubled: {what}")

    def alter(self, what: str) -> None:
        """Note a reading that is stored with other values."""
        self.altered += 1
        self.findings.append(f"altered: {what}")

    def report(self, faults: Counter[str]) -> str:
        """Write all of it; the last line is JSON."""
        names = (
            *("polled", "accepted", "stored", "merged", "kept_aside", "doubtful"),
            *("lost", "doubled", "altered"),
        )
        lines = ["faults injected:", *(f"  {count:6} {name}" for name, count in sorted(faults.items()))]
        if never := sorted(name for name, count in faults.items() if not count):
            lines += ["faults that never struck: " + "; ".join(never)]
        lines += ["not accepted:", *(f"  {n:6} {why}" for why, n in sorted(self.not_accepted.items()))]
        lines += ["taken away by the harness itself:"]
        lines += [f"  {count:6} {how}" for how, count in Counter(self.destroyed.values()).items()]
        lines += [f"  {key}" for key in list(self.destroyed)[:_SHOWN]]
        kinds = Counter(
            finding.partition(" ")[0] + finding.partition(":")[2].partition("/")[0]
            for finding in self.findings
        )
        lines += [f"{count:6} {kind}" for kind, count in kinds.items()] + self.findings[:_SHOWN]
        numbers: dict[str, int] = {name: getattr(self, name) for name in names}
        numbers |= {
            "not_accepted": sum(self.not_accepted.values()),
            "destroyed": len(self.destroyed),
            "faults": sum(faults.values()),
        }
        return "\n".join([*lines, json.dumps(numbers)])


def spool_records(folder: Path) -> list[SpoolRecord]:
    """Read all records of a spool nobody has open, from a copy: looking changes nothing."""
    with TemporaryDirectory() as scratch:
        for file in folder.glob("spool.sqlite*"):
            copy(file, scratch)
        options = SpoolOptions(recover=True)
        with closing(SpoolStore(Path(scratch, "spool.sqlite"), options, SystemClock())) as store:
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


@dataclass(frozen=True)
class Fed:
    """What the fed edges did.

    Attributes:
        tally: of all their ledgers.
        destroyed: readings taken away by the harness before the server had them for good, each with how.
        set_apart: readings that recoveries keep and do not send.
        seed: of the readings' values.
    """

    tally: Tally
    destroyed: dict[Key, str]
    set_apart: set[Key]
    seed: int


def judge_fed(
    account: Account, fed: Fed, rows: Iterable[dict[str, Any]], aside: list[dict[str, Any]]
) -> None:
    """Hold the rows of the fed devices against what was taken."""
    tally, stored = fed.tally, Counter[Key]()
    dates: Counter[tuple[str, str]] = Counter()
    for row in rows:
        account.stored += 1
        dates[row["device_id"], row["ts"]] += 1
        keys = keys_of(row)
        if not keys or not set(keys) <= tally.tried.keys():
            account.alter(f"{row['device_id']} {row['ts']}: nobody took it")
            continue
        stored.update(keys)
        account.merged += len(keys) - 1
        _compare(account, fed, keys, row)
    for what, count in (*dates.items(), *stored.items()):
        if count > 1:
            account.double(f"{what} is stored {count} times")
    others = _aside(account, fed, aside)
    for key in tally.accepted - stored.keys():
        if key in others:
            account.kept_aside += 1
        elif key in fed.destroyed:
            account.destroyed[str(key)] = fed.destroyed[key]
        elif key in fed.set_apart:
            account.doubtful += 1
        else:
            account.lose(str(key))
    _count(account, tally, set(stored) | others)


def _compare(account: Account, fed: Fed, keys: list[Key], row: dict[str, Any]) -> None:
    sample, key = SungrowSample.model_validate_json(json.dumps(row)), keys[-1]
    expected = values(fed.seed, key, sample.ts)
    if len(keys) > 1:
        expected = merge_contents([values(fed.seed, each, sample.ts) for each in keys])
    found = {name: value for name, value in row.items() if name not in {"device_id", "ts", "clock_source"}}
    if not (found == expected or (len(keys) > 1 and _is_rounded_alike(found, expected))):
        account.alter(f"{key}: taken as {expected}, stored as {found}")
    elif abs(to_ms(sample.ts) - fed.tally.tried[key]) > MISDATED_MS:
        account.alter(f"{key}: dated {row['ts']}, far from when it was taken")


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


def _aside(account: Account, fed: Fed, rows: list[dict[str, Any]]) -> set[Key]:
    found = set()
    for row in rows:
        key = key_of(row)
        if key is not None and key in fed.tally.tried:
            found.add(key)
            _compare(account, fed, [key], row | {"device_id": key.device_id})
    return found


def _count(account: Account, tally: Tally, arrived: set[Key]) -> None:
    """Every reading taken was accepted or has its reason; one killed in between may have been either."""
    unsaid = tally.tried.keys() - tally.accepted - tally.refused.keys()
    account.polled += len(tally.tried)
    account.accepted += len(tally.accepted) + len(unsaid & arrived)
    for reason in tally.refused.values():
        account.not_accepted[f"spool refused: {reason}"] += 1
    if killed := len(unsaid - arrived):
        account.not_accepted["killed in between"] += killed
    for key in tally.refused.keys() & arrived:
        account.alter(f"{key} was refused by the spool and arrived nevertheless")
