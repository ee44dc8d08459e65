"""The demo's live line: how many readings were polled, spooled, uploaded and stored so far."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from sungrow_lib.demo.processes import python
from sungrow_lib.demo.proof import covers, dating_block
from sungrow_lib.demo.setup import EDGE, ServerAddress, clean_environment
from sungrow_lib.demo.site import DEVICES, DemoSite
from sungrow_lib.simulator.journal import JournalEntry

_ASK_S: Final = 2.0
"""Seconds between two questions to the edge and the server."""


@dataclass(slots=True)
class LiveCounts:
    """Readings on their way.

    Attributes:
        polled: reads answered by the inverters that date a reading.
        spooled: accepted by the edge's spool.
        uploaded: confirmed by the server.
        stored: in the database, as the dashboard sees it.
    """

    polled: int = 0
    spooled: int = 0
    uploaded: int = 0
    stored: int = 0

    def __str__(self) -> str:
        return (
            f"polled {self.polled} · spooled {self.spooled} · uploaded {self.uploaded} · stored {self.stored}"
        )


class _Tail:
    """A file that grows; gives each complete line once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def lines(self) -> Iterator[str]:
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._read)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                yield line.decode(errors="replace")


class EdgeStatus:
    """What `sungrow-edge status` says, asked in the background again and again."""

    def __init__(self, config: Path) -> None:
        self._command = python(EDGE, "status", "--config", str(config), "--json")
        self._process: subprocess.Popen[str] | None = None
        self._next = 0.0
        self.spool: dict[str, int] = {}
        """Counts of the spool: accepted, delivered, quarantined, pending."""

    def refresh(self) -> bool:
        """Take the answer if there is one, and say so; ask again if it is time. Never blocks for long."""
        if self._process is None:
            if time.monotonic() >= self._next:
                self._process = self._start()
            return False
        if self._process.poll() is None:
            return False
        self._take(self._process)
        self._process, self._next = None, time.monotonic() + _ASK_S
        return True

    def ask(self) -> dict[str, int]:
        """Ask now and return the counts of the spool; those of the last answer when there is none."""
        self.close()
        self._take(self._start())
        return self.spool

    def close(self) -> None:
        """End a question that is still open."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 - our own program
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env=clean_environment(),
        )

    def _take(self, process: subprocess.Popen[str]) -> None:
        output, _ = process.communicate()
        if process.returncode == 0:
            self.spool = json.loads(output)["spool"]


class LiveView:
    """Gathers the live counts from journals, edge and server.

    Args:
        site: where the demo takes place.
        server: its server.
        edge: the edge's status.
    """

    def __init__(self, site: DemoSite, server: ServerAddress, edge: EdgeStatus) -> None:
        self._site = site
        self._server = server
        self._edge = edge
        self._journals = [(dating_block(device.family), _Tail(site.journal(device))) for device in DEVICES]
        self.counts = LiveCounts()
        """The counts as of the last `refresh`."""

    def refresh(self) -> LiveCounts:
        """Bring the counts up to date."""
        for dating, journal in self._journals:
            blocks = (JournalEntry.from_json(line).block for line in journal.lines())
            self.counts.polled += sum(covers(block, dating) for block in blocks)
        if self._edge.refresh():  # both at one time, so that the counts fit together
            self.counts.spooled = self._edge.spool.get("accepted", 0)
            self.counts.uploaded = self._edge.spool.get("delivered", 0)
            self._ask_server()
        return self.counts

    def _ask_server(self) -> None:
        # A busy server answers next time; one that died is noticed by its process.
        with contextlib.suppress(OSError, ValueError, KeyError):
            self.counts.stored = sum(self._stored(device.device_id) for device in DEVICES)

    def _stored(self, device_id: str) -> int:
        span = {"from": _rfc3339(self._site.start), "to": _rfc3339(datetime.now(UTC)), "bucket": "15m"}
        answer: dict[str, Any] = json.loads(
            self._server.get(f"/v1/series?{urlencode({'device_id': device_id, **span, 'fields': 'pv_kwh'})}")
        )
        return sum(bucket["sample_count"] or 0 for bucket in answer["series"])


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
