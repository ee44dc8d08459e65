"""The polls of the simulated inverters, by the simulators' own count, and which of them a reading is of."""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from datetime import UTC, datetime
from typing import Any, Final

from sungrow_lib.demo.proof import dating_block, poll_at, served_polls
from sungrow_lib.demo.site import DEVICES, DemoDevice, DemoSite
from sungrow_lib.simulator.journal import JournalEntry, read_journal
from sungrow_lib.spool import SpoolRecord
from tests.crash.damage import Stood, keys_in
from tests.crash.readings import Key, keys_of

POLLED: Final = "sungrow-edge"
"""The edge that reads of inverters are counted for."""


class DevicePolls:
    """What one simulator answered.

    Args:
        device: which one.
        site: where its journal is.
    """

    def __init__(self, device: DemoDevice, site: DemoSite) -> None:
        journal = site.journal(device)
        self.device = device
        self.entries: list[JournalEntry] = list(read_journal(journal)) if journal.exists() else []
        self.dating = dating_block(device.family)
        self.polls = served_polls(device.device_id, self.entries, self.dating)
        self._times = [poll.answered_at for poll in self.polls]

    def before(self, moment: datetime) -> int:
        """Return the number of the last poll that was answered before; -1 for none."""
        return bisect_right(self._times, moment) - 1

    def at(self, moment: datetime) -> int | None:
        """Return which poll a reading of this date came from."""
        return poll_at(self._times, moment)


class Numbered:
    """The names of polled readings: the number of the poll, as the simulator counts.

    A date may be wrong or not known yet, so a reading goes by the machine's running time, which is kept with
    it and follows no clock that the harness sets wrong.

    Args:
        site: where the journals are.
    """

    def __init__(self, site: DemoSite) -> None:
        self._site = site
        self._known: dict[Stood, Key] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the journals anew: they grow."""
        self._read_at = datetime.now(UTC)
        self.devices = {device.device_id: DevicePolls(device, self._site) for device in DEVICES}

    def key_at(self, device_id: str, moment: datetime) -> Key | None:
        """Return the key of the reading of a moment."""
        if moment > self._read_at:
            self.refresh()
        index = self.devices[device_id].at(moment) if device_id in self.devices else None
        return None if index is None else Key(POLLED, device_id, index)

    def of_row(self, row: dict[str, Any]) -> Key | None:
        """Return the key of a row of the database."""
        return self.key_at(row["device_id"], datetime.fromisoformat(row["ts"]))

    def of_record(self, record: SpoolRecord) -> list[Key]:
        """Return the keys of a reading the spool has; those of a fed edge carry their own."""
        if carried := keys_of(json.loads(record.entry.content)):
            return carried
        reading = Stood(record.entry.seq, record.entry.content)
        if key := self.key_at(record.entry.device_id, taken_at(record)):
            self._known[reading] = key
        return [self._known[reading]] if reading in self._known else []  # it may have lost its device's name

    def of_reading(self, reading: Stood) -> list[Key]:
        """Return the keys of a reading as it stands on a page, if it was seen in the spool."""
        return [self._known[reading]] if reading in self._known else keys_in(reading)


def taken_at(record: SpoolRecord) -> datetime:
    """Return when a reading was really taken, by the machine's running time."""
    since_s = time.clock_gettime(time.CLOCK_BOOTTIME) - record.stamp.boot_ms / 1000
    return datetime.fromtimestamp(time.time() - since_s, UTC)
