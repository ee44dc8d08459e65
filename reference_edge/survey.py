"""Looks now and then at spool, disk and clock, raises alarms, and tells the server how the edge does."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from reference_edge.account import DeviceAccount
from reference_edge.advice import shown_size
from reference_edge.intake import MEMORY_READINGS, Intake
from reference_edge.owner import OwnerFile
from sungrow_lib._version import __version__
from sungrow_lib.errors import ServerError, SpoolError, SungrowError
from sungrow_lib.modbus.connection import ConnectionState
from sungrow_lib.sample import format_ts, whole_milliseconds
from sungrow_lib.spool import ClockState, DurableSpool, HeldDevice, HeldWhy, SpoolMerging
from sungrow_lib.spool.disk import free_bytes
from sungrow_lib.upload import Alarm, BatchUploader
from sungrow_lib.upload.uploader import CLOCK
from sungrow_lib.wire import EdgeStatus

_LOG: Final = logging.getLogger("sungrow_edge")
_LOOK_S: Final = 30.0
_LISTEN_S: Final = 1.0
_SECOND_LOOK_S: Final = 8.0
"""By then the first readings are there, and the server's word on the clock."""
_JUDGE_S: Final = 1.0
"""What polls and spool say is an alarm so soon; what has to be looked for, after the next look."""
_REPORT_S: Final = 60.0
_SECOND_REPORT_S: Final = 38.0
DISK_LOW_BYTES: Final = 200_000_000
"""Free room below which the disk is an alarm: some months of readings, if nothing else writes."""
MERGED_TOLD: Final = timedelta(days=1)
"""So long after the last merging the alarm goes on: it is seen by whoever looks once a day."""
_LONGEST_WORD: Final = 128
_SPOOL: Final = "spool"
_DISK: Final = "disk"
_MERGED: Final = "merged"
_HELD: Final = "held"
_INVERTERS: Final = "inverters"
_POLLS_TO_FAIL: Final = 3
"""So many polls without a reading make an inverter one that does not answer; one or two happen."""


@dataclass
class Survey:
    """What was seen last; None for what is not known yet.

    Attributes:
        folder: where the spool is.
        started_at: when the daemon started, aware UTC.
        spool_bytes: size of the spool on disk.
        merged: readings that ever became part of another one on a full disk.
        merging: when that was last.
        disk_free_bytes: room left on the spool's disk for this user.
        clock: what is known of the machine's clock.
        held: devices whose readings are kept and not sent, and why.
        alarms: raised now, by code.
        owner_file: where it is written down which spool it is.
    """

    folder: Path
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    spool_bytes: int | None = None
    merged: int | None = None
    merging: SpoolMerging | None = None
    disk_free_bytes: int | None = None
    clock: ClockState | None = None
    held: dict[str, HeldDevice] = field(default_factory=dict)
    alarms: dict[str, Alarm] = field(default_factory=dict)
    owner_file: OwnerFile | None = None

    async def run(
        self,
        spool: DurableSpool,
        uploader: BatchUploader,
        accounts: Mapping[str, DeviceAccount],
        intake: Intake,
    ) -> None:
        """Look, and report to the server, until cancelled."""
        looked = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._go_on_reporting, spool, uploader, accounts, looked)
            pause_s = _SECOND_LOOK_S
            while True:
                before = _told(spool, uploader, intake)
                await self._look(spool, accounts, intake)
                looked.set()
                await self._wait(pause_s, before, lambda: _told(spool, uploader, intake))
                pause_s = _LOOK_S

    async def _wait(self, seconds: float, before: object, told: Callable[[], object]) -> None:
        """Wait for the next look; no longer than until what others say of the same things is another."""
        with anyio.move_on_after(seconds):
            while told() == before:  # noqa: ASYNC110 - it is told by nobody else
                await anyio.sleep(_LISTEN_S)

    async def _go_on_reporting(
        self,
        spool: DurableSpool,
        uploader: BatchUploader,
        accounts: Mapping[str, DeviceAccount],
        looked: anyio.Event,
    ) -> None:
        """Report beside the looks: a server that is silent must not make an alarm late."""
        await looked.wait()
        pause_s = _SECOND_REPORT_S
        while True:
            await self._report(spool, uploader, accounts)
            await anyio.sleep(pause_s)
            pause_s = _REPORT_S

    def note_recovery(self) -> None:
        """Raise an alarm while a damaged spool is recovered; the first look afterwards ends it."""
        self._set(_SPOOL, "A damaged spool is being recovered; no inverter is polled until that is done.")

    async def watch(self, intake: Intake) -> None:
        """Keep the alarms up to date with what is known, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_disk)
            while True:
                self.judge(intake)
                await anyio.sleep(_JUDGE_S)

    async def _watch_disk(self) -> None:
        """Know how much room there is; a disk that hangs holds up nobody else, nor the end."""
        while True:
            with suppress(OSError):
                self.disk_free_bytes = await anyio.to_thread.run_sync(
                    free_bytes, self.folder, abandon_on_cancel=True
                )
            await anyio.sleep(_JUDGE_S)

    async def _look(self, spool: DurableSpool, accounts: Mapping[str, DeviceAccount], intake: Intake) -> None:
        try:
            self.clock = await spool.clock()
            for device_id, account in accounts.items():
                account.counts = await spool.counts(device_id)
                self.spool_bytes, self.merged = account.counts.bytes, account.counts.merged
                self.merging = account.counts.merging
            self.held = await spool.held()
            if self.owner_file is not None:
                await anyio.to_thread.run_sync(self.owner_file.remember, await spool.owner())
        except (OSError, SpoolError) as error:
            _LOG.debug("no look at the spool", extra={"reason": str(error)})
        self.judge(intake)

    def judge(self, intake: Intake) -> None:
        """Raise the alarms that are due, and end the others."""
        free = self.disk_free_bytes
        self._set(
            _DISK,
            f"Only {shown_size(free)} are free on the spool's disk; free some."
            if free is not None and free < DISK_LOW_BYTES
            else None,
        )
        self._set(
            _SPOOL,
            f"The spool takes no reading ({intake.refusal}); {len(intake)} of at most {MEMORY_READINGS} "
            "wait in memory."
            if intake.refusal
            else None,
        )
        self._set(
            _MERGED,
            f"{merged_words(self.merging)}; this ends a day after the last of them."
            if self.merging is not None and abs(datetime.now(UTC) - self.merging.end) < MERGED_TOLD
            else None,
        )

        self._set(_INVERTERS, silent_words(intake.accounts))
        held = [held_words(name, device) for name, device in self.held.items() if is_to_be_named(device)]
        self._set(_HELD, " ".join(held) or None)

    def _set(self, code: str, detail: str | None) -> None:
        earlier = self.alarms.get(code)
        if detail is None:
            self.alarms.pop(code, None)
            return
        if earlier is None:
            _LOG.error("the edge needs attention", extra={"code": code, "reason": detail})
        self.alarms[code] = Alarm(code, detail, None, earlier.since if earlier else datetime.now(UTC))

    # --- to the server -----------------------------------------------------------------------------------

    async def _report(
        self, spool: DurableSpool, uploader: BatchUploader, accounts: Mapping[str, DeviceAccount]
    ) -> None:
        for account in accounts.values():
            try:
                await uploader.report(self._status(spool, account))
            except ServerError as error:
                _LOG.debug("no report to the server", extra={"reason": str(error)})
                return
            except SungrowError as error:
                _LOG.debug("no report on a device", extra={"reason": str(error)})

    def _status(self, spool: DurableSpool, account: DeviceAccount) -> EdgeStatus:
        counts = account.counts
        return EdgeStatus(
            edge_id=spool.identity.edge_id,
            device_id=account.device_id,
            edge_version=__version__,
            connection=account.connection,
            connection_detail=_word(account.reason),
            backlog=counts.undelivered if counts else None,
            oldest_waiting=counts.oldest_pending if counts else None,
            quarantined=counts.quarantined if counts else None,
            clock=self.clock and _dated_by(self.clock, account.device_id),
            clock_offset_s=self.clock and self.clock.offset_s,
            polled=account.polled,
            accepted=account.accepted,
            not_accepted=dict(account.not_accepted),
            started_at=whole_milliseconds(self.started_at),
        )


def _told(spool: DurableSpool, uploader: BatchUploader, intake: Intake) -> object:
    """Whether readings wait for a trusted clock, or in memory: whatever is said of it agrees soon.

    A spool has a new generation when a device was renamed, or readings were imported: others may be held now.
    And readings may have become part of others since, on a full disk.
    """
    waits = any(alarm.code == CLOCK for alarm in uploader.status.alarms)
    return waits, intake.refusal is None, spool.identity.generation, spool.merged


def silent_words(accounts: Mapping[str, DeviceAccount]) -> str | None:
    """Say that no inverter can be read, of those whose sun has not set; None if one can."""
    awake = [account for account in accounts.values() if account.connection != ConnectionState.ASLEEP]
    if not awake or any(account.unread < _POLLS_TO_FAIL for account in awake):
        return None
    told = "; ".join(f"{account.device_id}: {account.reason}" for account in awake)
    return f"No inverter can be read ({told})."


def is_to_be_named(device: HeldDevice) -> bool:
    """Whether somebody has to say what becomes of a device's readings."""
    return device.undelivered > 0 or (device.why is not HeldWhy.ASIDE and device.delivered > 0)


def held_words(name: str, device: HeldDevice) -> str:
    """Say why a device's readings are not sent, and what to do."""
    number = "1 reading" if device.undelivered == 1 else f"{device.undelivered} readings"
    delivered = f", {device.delivered} that a server has are not offered again" if device.delivered else ""
    return (
        f"{number} of {name} are kept and not sent{delivered}, because {_HELD_WHY[device.why]}; "
        f"`sungrow-edge spool rename {name} NAME` names it and sends them, `sungrow-edge spool set-aside "
        f"{name}` puts them into quarantine for good."
    )


def merged_words(merging: SpoolMerging) -> str:
    """Say when the disk was full, and what that cost."""
    begin, end = format_ts(merging.begin), format_ts(merging.end)
    when = f"at {begin}" if begin == end else f"from {begin} to {end}"
    return f"The disk was full {when}: {merging.readings} readings became part of others, fewer per minute"


def _dated_by(clock: ClockState, device_id: str) -> str:
    """Say what dates a device's readings, in the word of the API."""
    if clock.dates(device_id):
        return "trusted"
    return "server" if clock.server_serves else "untrusted"


def _word(text: str | None) -> str | None:
    """Fit a text into one of the API's short ones."""
    return text and re.sub(r"[\x00-\x1f\x7f]+", " ", text)[:_LONGEST_WORD]


_HELD_WHY: Final = {
    HeldWhy.LOST: "their device's name was lost with damaged pages",
    HeldWhy.FOREIGN: "they came with the spool of another edge (what follows the last dot)",
    HeldWhy.ASIDE: "somebody set them aside",
}
