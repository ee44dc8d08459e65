"""What the running daemon says of itself, in a small file that `sungrow-edge status` shows."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from reference_edge.account import DeviceAccount
from reference_edge.refused import refused_words
from reference_edge.survey import Survey
from sungrow_lib._version import __version__
from sungrow_lib.sample import format_ts
from sungrow_lib.spool import ClockState, SystemClock
from sungrow_lib.spool.disk import disk_of, is_gone
from sungrow_lib.upload import ConnectionState, UploadStatus

_LOG: Final = logging.getLogger("sungrow_edge")
_EVERY_S: Final = 5.0
"""Seconds between two writes when nothing changes."""
_LAST_S: Final = 0.5
"""Seconds the last write may take."""
_LOOK_S: Final = 1.0
"""Seconds between two looks at what changed: the most often the file is written."""
_PARTS: Final = frozenset({"version", "polls", "connections", "upload", "alarms"})
_SERVER_WORDS: Final = {
    ConnectionState.UNKNOWN: "not asked yet",
    ConnectionState.REFUSED: "it refuses the token",
    ConnectionState.TROUBLED: "it answers that it has trouble of its own",
    ConnectionState.NOT_TAKEN: "it refuses a batch as a whole",
    ConnectionState.NOT_UNDERSTOOD: "it does not answer as an ingest does",
}
"""What `status` calls a connection, where its name alone would be misleading."""
_WRITING: Final = threading.Lock()
"""One write at a time, also where an earlier one was left behind."""
_STALE_S: Final = 30.0
"""Seconds after which a file says that its daemon no longer writes it."""


class HealthReport:
    """Collects what happens and keeps the health file up to date.

    Args:
        path: the file; replaced as a whole, so that it is never read half written. While its disk is
            unmounted, nothing is written: it would lie below, in the way and out of sight.
        accounts: what became of the polls, by device.
        survey: what spool, disk and clock said last.
        upload_status: tells how the uploader does.
        queued: how many readings are in memory alone.
    """

    def __init__(
        self,
        path: Path,
        accounts: Mapping[str, DeviceAccount],
        survey: Survey,
        upload_status: Callable[[], UploadStatus],
        queued: Callable[[], int],
    ) -> None:
        self._path = path
        self._draft = draft_of(path)
        self._accounts = accounts
        self._survey = survey
        self._upload_status = upload_status
        self._queued = queued
        self._has_failed = False
        self._disk = disk_of(path)
        self._clock = SystemClock()

    async def run(self) -> None:
        """Write the file at each change and every few seconds, until cancelled."""
        written: dict[str, Any] = {}
        next_write = anyio.current_time()
        while True:
            report = self._report()
            if report != written or anyio.current_time() >= next_write:
                written, next_write = report, anyio.current_time() + _EVERY_S
                # A disk that hangs would hold up the end; what is left behind writes what was so at its time.
                await anyio.to_thread.run_sync(self._write, report, abandon_on_cancel=True)
            await anyio.sleep(_LOOK_S)

    async def write_last(self) -> None:
        """Write what was so at the end: no poll is missing in it. A disk that hangs does not hold it up."""
        with anyio.move_on_after(_LAST_S):
            await anyio.to_thread.run_sync(self._write, self._report(), abandon_on_cancel=True)

    def _report(self) -> dict[str, Any]:
        upload = asdict(self._upload_status())
        upload["last_success"] = _when(upload["last_success"])
        own = [asdict(alarm) for alarm in self._survey.alarms.values()]
        alarms = [alarm | {"since": _when(alarm["since"])} for alarm in (*own, *upload.pop("alarms"))]
        return {
            "pid": os.getpid(),
            "version": __version__,
            "started_at": _when(self._survey.started_at),
            "polls": {a.device_id: _poll(a) for a in self._accounts.values() if a.at},
            "connections": {a.address: a.connection for a in self._accounts.values() if a.connection},
            "in_memory": self._queued(),
            "upload": upload,
            "alarms": alarms,
            "clock": _clock(self._survey.clock),
        }

    def _write(self, report: dict[str, Any]) -> None:
        with _WRITING:
            self._disk = self._disk or disk_of(self._path)  # it may be mounted late
            if self._disk is None or not is_gone(self._disk):
                self._replace(report)

    def _replace(self, report: dict[str, Any]) -> None:
        try:
            # Not forced to disk: after a power cut there is no daemon whose health it could tell.
            self._draft.write_text(
                json.dumps(report | {"written_at": _now()} | self._clock.stamp()._asdict()), encoding="utf-8"
            )
            self._draft.replace(self._path)
        except OSError as error:
            if not self._has_failed:
                _LOG.warning(
                    "the health file cannot be written (HEALTH_FILE)",
                    extra={"file": str(self._path), "reason": error.strerror},
                )
            self._has_failed = True
        else:
            self._has_failed = False


def _clock(clock: ClockState | None) -> dict[str, Any]:
    if clock is None:
        return {"trusted": None, "offset_s": None, "server_serves": None}
    return {
        "trusted": clock.is_trusted,
        "offset_s": clock.offset_s,
        "server_serves": clock.server_serves and not clock.is_trusted,
    }


def _poll(account: DeviceAccount) -> dict[str, Any]:
    return {
        "at": _when(account.at),
        "outcome": account.outcome,
        "reason": account.reason,
        "polled": account.polled,
        "accepted": account.accepted,
        "not_accepted": dict(account.not_accepted),
        "counter_breaks": dict(account.counter_breaks),
        "refused": account.refusals.told(),
    }


def read_health(path: Path) -> dict[str, Any]:
    """Return what the health file says, with `running` and `age_s`, its age in seconds.

    A file that is missing or damaged gives `running` false and `age_s` None.
    """
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        age_s = _age_s(report)
        pid = int(report["pid"])
        is_whole = report.keys() >= _PARTS
    except (OSError, ValueError, KeyError, TypeError):
        is_whole = False
    if not is_whole:
        return {"running": False, "age_s": None}
    return {"running": is_fresh(age_s) and _is_alive(pid), "age_s": round(age_s, 1)} | report


def _age_s(report: dict[str, Any]) -> float:
    """Return how old a report is: by the clock that nobody sets, if that has counted on since."""
    age_s = (datetime.now(UTC) - datetime.fromisoformat(report["written_at"])).total_seconds()
    now = SystemClock().stamp()
    return float(now.boot_ms - report["boot_ms"]) / 1000 if report.get("boot_id") == now.boot_id else age_s


def is_fresh(age_s: float | None) -> bool:
    """Whether what was said so many seconds ago is of today.

    An age below zero is a clock that was set back: as unusable as one that is far too great.
    """
    return age_s is not None and abs(age_s) < _STALE_S


def draft_of(path: Path) -> Path:
    """Return where a health file is written before it takes its place."""
    return path.with_name(path.name + ".new")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # somebody else's process, but there
    except (OSError, OverflowError):
        return False
    return pid > 0


def health_lines(health: dict[str, Any]) -> Iterator[str]:
    """Write for people what `read_health` returned, or `daemon_health` in `liveness`."""
    yield from _state_lines(health)
    if health["age_s"] is not None:
        yield from _said_lines(health)


def _state_lines(health: dict[str, Any]) -> Iterator[str]:
    age = None if health["age_s"] is None else f"{health['age_s']:.0f} s ago"
    if (trouble := health.get("trouble")) is not None:
        who = "process of unknown number" if health["pid"] is None else f"process {health['pid']}"
        but = "but its health cannot be read: " if health["running"] else "but "
        yield f"the daemon runs ({who}), {but}{trouble}"
        if age is not None:
            yield f"the following is what it said last, {age}"
    elif age is None:
        yield "the daemon is not running, and has not said anything of its health; start it: sungrow-edge run"
    elif health["running"]:
        yield f"the daemon runs (process {health['pid']}, version {health['version']}); it said so {age}"
    else:
        yield f"the daemon is not running; the following is what it said last, {age}"


def _said_lines(health: dict[str, Any]) -> Iterator[str]:
    yield from (_alarm_line(alarm) for alarm in health["alarms"])
    for device_id, poll in health["polls"].items():
        reason = f": {poll['reason']}" if poll["reason"] else ""
        yield f"{device_id}: last poll {poll['at']}, {poll['outcome']}{reason}"
        if breaks := poll.get("counter_breaks"):
            told = ", ".join(f"{counter} {times} times" for counter, times in breaks.items())
            yield f"{device_id}: counters that ran back or jumped: {told}; they are kept, and make no energy"
        if words := refused_words(poll["refused"]) if "refused" in poll else None:
            yield f"{device_id}: {words}"
    for address, state in health["connections"].items():
        yield f"{address}: {state}"
    if number := health.get("in_memory"):
        are = "reading is" if number == 1 else "readings are"
        yield f"{number} {are} in memory alone, to be written to the spool"
    upload = health["upload"]
    state = _SERVER_WORDS.get(upload["connection"], upload["connection"])
    yield f"server: {state}, last upload {upload['last_success'] or 'none since the start'}"
    if upload["last_error"] and upload["connection"] != "connected":
        yield f"server: {upload['last_error']}"


def _alarm_line(alarm: dict[str, Any]) -> str:
    whom = f" {alarm['device_id']}" if alarm["device_id"] else ""
    return f"ALARM{whom} {alarm['code']} since {alarm['since']}: {alarm['detail']}"


def _now() -> str:
    return format_ts(datetime.now(UTC))


def _when(moment: datetime | None) -> str | None:
    return None if moment is None else format_ts(moment)
