"""What the daemon and the spool say of the edge's health, for people and programs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from reference_edge.advice import shown_size
from reference_edge.config import EdgeSettings
from reference_edge.health import health_lines
from reference_edge.liveness import daemon_health
from reference_edge.survey import held_words, is_to_be_named
from sungrow_lib.errors import NotASpoolError, SpoolError
from sungrow_lib.sample import format_ts
from sungrow_lib.spool import DurableSpool, HeldDevice, HeldWhy, SetApart, SpoolCounts, SpoolOptions
from sungrow_lib.spool.disk import missing_place
from sungrow_lib.spool.foreign import is_missing
from sungrow_lib.spool.reserve import reserve_bytes
from sungrow_lib.wording import shown

_MOST_APART: Final = 10
"""So many codes of readings set apart are told; `spool stats` has them all."""
_CODE_CHARS: Final = 64
_REASON_CHARS: Final = 200
_SHARED: Final = frozenset({"accepted", "bytes", "merged", "merging"})


async def read_status(settings: EdgeSettings) -> dict[str, Any]:
    """Return the daemon's health and the spool's counts, of all devices and of each.

    Where the spool cannot be read, `spool_error` says why, and what is in it is not there.

    Raises:
        NotASpoolError: it is some other file: the settings are wrong.
    """
    known: dict[str, Any] = {
        "daemon": daemon_health(settings.health_path, settings.spool_path),
        "disk": _disk(settings.spool_path),
        "spool_error": None,
    }
    if is_missing(settings.spool_path):
        advice = missing_place(settings.spool_path) or "`sungrow-edge run` makes it (SPOOL_PATH)"
        return known | {"spool_error": f"there is no spool at {settings.spool_path} yet; {advice}"}
    try:
        return known | await _read_spool(settings, is_running=known["daemon"]["running"])
    except NotASpoolError:
        raise
    except SpoolError as error:
        return known | {"spool_error": str(error)}


async def _read_spool(settings: EdgeSettings, *, is_running: bool) -> dict[str, Any]:
    # A running daemon looked at every page when it opened the file, and keeps it open, so that closing it
    # here writes nothing; to look again would read two weeks of readings from an SD card.
    options = SpoolOptions(check=not is_running)
    async with DurableSpool.open(settings.spool_path, options=options) as spool:
        apart = await spool.set_apart()
        return {
            "edge_id": settings.edge_id or spool.identity.edge_id,
            "generation": spool.identity.generation,
            "recovery": asdict(spool.recovery) if spool.recovery else None,
            "spool": _counted(await spool.counts()),
            "set_apart": [_apart(one) for one in apart[:_MOST_APART]],
            "set_apart_more": len(apart[_MOST_APART:]),
            "held": {name: device._asdict() for name, device in (await spool.held()).items()},
            "devices": {
                device_id: _own(await spool.counts(device_id)) for device_id in await spool.devices()
            },
        }


def _disk(path: Path) -> dict[str, int] | None:
    """Room on the spool's disk, for this user; None where there is no such folder."""
    path = Path(os.path.realpath(path))
    try:
        usage = shutil.disk_usage(path.parent)
    except OSError:
        return None
    return {"free_bytes": usage.free, "total_bytes": usage.total, "reserve_bytes": reserve_bytes(path)}


def _counted(counts: SpoolCounts) -> dict[str, Any]:
    oldest = counts.oldest_pending
    merging = counts.merging
    return asdict(counts) | {
        "merging": merging
        and {"begin": format_ts(merging.begin), "end": format_ts(merging.end), "readings": merging.readings},
        "quarantined": counts.quarantined,
        "oldest_pending": format_ts(oldest) if oldest else None,
        "backlog_age_s": max(0.0, (datetime.now(UTC) - oldest).total_seconds()) if oldest else None,
    }


def _own(counts: SpoolCounts) -> dict[str, Any]:
    """Leave out what is known of all devices together only: number, size, merged ones."""
    return {name: value for name, value in _counted(counts).items() if name not in _SHARED}


def _apart(apart: SetApart) -> dict[str, Any]:
    """Write down why readings were set apart; code and reason may be a server's words."""
    told = apart._asdict() | {"state": apart.state.name.lower()}
    for name, most in (("code", _CODE_CHARS), ("reason", _REASON_CHARS)):
        told[name] = told[name] and shown(told[name], most)
    return told


def status_lines(status: dict[str, Any]) -> Iterator[str]:
    """Write a status for people; not what is wrong with the spool."""
    if status["spool_error"]:
        yield from health_lines(status["daemon"])
        yield from _disk_lines(status)
        return
    yield f"edge {status['edge_id']}, spool generation {status['generation']}"
    yield from health_lines(status["daemon"])
    if (recovery := status["recovery"]) is not None:
        yield (
            f"{recovery['at']}: the spool was damaged; {recovery['saved']} readings were taken over, "
            f"{recovery['lost']} are known to be lost; the damaged file is {recovery['set_aside']}"
        )
        if recovery["doubtful"]:
            yield f"{recovery['doubtful']} of those taken over are doubtful: they are set apart and not sent"
    for name, counts in {"all devices": status["spool"], **status["devices"]}.items():
        accepted = f"{counts['accepted']} accepted, " if "accepted" in counts else ""
        yield (
            f"{name}: {accepted}{counts['delivered']} delivered and kept, "
            f"{counts['pending']} pending, {counts['waiting']} waiting for a trusted clock, "
            f"{counts['deferred']} deferred, {counts['quarantined']} in quarantine"
        )
    yield from _apart_lines(status)
    yield from _held_lines(status)
    if (age_s := status["spool"]["backlog_age_s"]) is not None:
        yield f"oldest reading to deliver: {status['spool']['oldest_pending']} ({age_s:.0f} s ago)"
    if merged := status["spool"]["merged"]:
        merging = status["spool"]["merging"]
        last = (
            f", {merging['readings']} of them from {merging['begin']} to {merging['end']}" if merging else ""
        )
        yield f"{merged} readings became part of others while the disk was full{last}"
    yield f"the spool takes {shown_size(status['spool']['bytes'])}"
    yield from _disk_lines(status)


def _apart_lines(status: dict[str, Any]) -> Iterator[str]:
    for apart in status["set_apart"]:
        why = apart["code"] or "what cannot be read"
        latest = f", the latest: {apart['reason']}" if apart["reason"] else ""
        yield f"{apart['device_id']}: {apart['readings']} {apart['state']} because of {why}{latest}"
    if more := status["set_apart_more"]:
        yield f"{more} more codes or devices: sungrow-edge spool stats"


def _held_lines(status: dict[str, Any]) -> Iterator[str]:
    """Say what is held, and what to do about it unless an alarm of the daemon's has said that."""
    said = " ".join(
        alarm["detail"] for alarm in status["daemon"].get("alarms", ()) if alarm["code"] == "held"
    )
    for name, held in status["held"].items():
        device = HeldDevice(HeldWhy(held["why"]), held["undelivered"], held["delivered"])
        if is_to_be_named(device):
            is_told = f"`sungrow-edge spool set-aside {name}`" in said
            yield f"{name}: {device.undelivered} held back" if is_told else held_words(name, device)


def _disk_lines(status: dict[str, Any]) -> Iterator[str]:
    if (disk := status["disk"]) is not None:
        kept = disk["reserve_bytes"]
        reserve = (
            f"{shown_size(kept)} are kept for a full disk" if kept else "no reserve is kept for a full disk"
        )
        free, total = shown_size(disk["free_bytes"]), shown_size(disk["total_bytes"])
        yield f"disk: {free} of {total} are free; {reserve}"
