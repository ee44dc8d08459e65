"""Readings whose every value follows from the seed, and the ledger of what became of each."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from sungrow_lib.sample import SungrowSample


class Key(NamedTuple):
    """Names one reading for good: which edge took it, and its number there."""

    edge: str
    device_id: str
    number: int

    def __str__(self) -> str:
        return f"{self.edge}/{self.device_id}/{self.number}"


def reading(seed: int, key: Key, ts: datetime) -> SungrowSample:
    """Return the reading of a key; it carries its key as `running_state`."""
    draw = random.Random(f"{seed}/{key}")
    return SungrowSample(
        device_id=key.device_id,
        ts=ts,
        running_state=str(key),
        pv_power_w=draw.randrange(20_000),
        battery_power_w=draw.randrange(-8_000, 8_000),
        battery_soc_pct=draw.randrange(1001) / 10,
        load_power_w=draw.randrange(15_000),
        export_power_w=draw.randrange(-10_000, 10_000),
        alarm_codes=[key.number % 65_536],  # of a row merged from many readings, these name them all
        mppt_voltage_v=[draw.randrange(10_000) / 10, None, draw.randrange(10_000) / 10],
    )


def values(seed: int, key: Key, ts: datetime) -> dict[str, Any]:
    """Return what a store holds of a key's reading, without key and date."""
    dumped: dict[str, Any] = json.loads(reading(seed, key, ts).model_dump_json(exclude_none=True))
    return {name: value for name, value in dumped.items() if name not in {"device_id", "ts"}}


def merged_values(seed: int, keys: list[Key], ts: datetime) -> dict[str, Any]:
    """Return what a store holds of readings that became one: worked out without the product."""
    each = [values(seed, key, ts) for key in keys]
    merged: dict[str, Any] = {name: _mean([content[name] for content in each]) for name in each[0]}
    codes = [code for content in each for code in content["alarm_codes"]]
    return merged | {"alarm_codes": codes, "sample_count": len(keys)}


def _mean(items: list[Any]) -> Any:
    """Return the average of numbers, or of the numbers at each place of lists; of words the last."""
    if isinstance(items[0], list):
        return [_mean(list(column)) for column in zip(*items, strict=True)]
    return sum(items) / len(items) if isinstance(items[0], int | float) else items[-1]


def keys_of(row: dict[str, Any]) -> list[Key]:
    """Return the keys of all readings in a row: one, or many when a full disk made them one."""
    last = key_of(row)
    if last is None:
        return []
    return [last._replace(number=number) for number in row["alarm_codes"]]


def key_of(row: dict[str, Any]) -> Key | None:
    """Return the key a row carries; None when it carries none."""
    edge, _, rest = str(row.get("running_state", "")).partition("/")
    device_id, _, number = rest.partition("/")
    return Key(edge, device_id, int(number)) if number.isdigit() else None


@dataclass
class Tally:
    """What a ledger tells.

    Attributes:
        tried: the readings taken, each with the date in ms it should have.
        taken_at: s since 1970 at which each was really taken.
        accepted: those the spool accepted.
        dated: the final date in ms the spool said it gave them; none for those that wait for a clock.
        refused: those it did not accept, with the reason.
    """

    tried: dict[Key, int] = field(default_factory=dict)
    taken_at: dict[Key, float] = field(default_factory=dict)
    accepted: set[Key] = field(default_factory=set)
    dated: dict[Key, int] = field(default_factory=dict)
    refused: dict[Key, str] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Add what another ledger tells."""
        self.tried |= other.tried
        self.taken_at |= other.taken_at
        self.accepted |= other.accepted
        self.dated |= other.dated
        self.refused |= other.refused


class Ledger:
    """What became of each reading, one line per event, each one write: a kill leaves whole lines."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def note(self, word: str, key: Key, rest: object = "") -> None:
        """Write one event down."""
        os.write(self._fd, f"{word} {key} {rest}\n".encode())


def read_ledger(path: Path) -> Tally:
    """Read a ledger; one that is not there is empty."""
    tally = Tally()
    lines = path.read_text().splitlines() if path.exists() else []
    for line in lines:
        word, name, rest = line.split(" ", 2)
        edge, device_id, number = name.split("/")
        key = Key(edge, device_id, int(number))
        match word:
            case "try":
                date, _, moment = rest.partition(" ")
                tally.tried[key], tally.taken_at[key] = int(date), float(moment)
            case "has":
                tally.accepted.add(key)
                if rest:
                    tally.dated[key] = int(rest)
            case _:
                tally.refused[key] = rest
    return tally
