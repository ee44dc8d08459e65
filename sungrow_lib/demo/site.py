"""The demo's site: two inverters, a time zone in which the sun is up, and a folder for everything."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from sungrow_lib.errors import ConfigurationError
from sungrow_lib.quantities import Family
from sungrow_lib.simulator.house import QUARTER
from sungrow_lib.simulator.server import Profile

_MORNING_H: Final = 10.0
"""Local hour at which the demo likes to start: the sun is up, the day lies ahead."""
_WESTMOST_H: Final = -12
_HOURS: Final = 24


@dataclass(frozen=True, slots=True)
class DemoDevice:
    """One simulated inverter of the demo.

    Attributes:
        device_id: what the edge calls it.
        name: what people call it.
        plant: the plant it belongs to.
        model: which register image it serves.
        family: register map it speaks; the edge finds out by itself.
        seed: its weather and household.
        profile: the path to it that is imitated.
    """

    device_id: str
    name: str
    plant: str
    model: str
    family: Family
    seed: int
    profile: Profile


DEVICES: Final = (
    DemoDevice("demo-house", "House with battery", "Demo house", "SH8.0RT-20", Family.SH, 7, Profile.LAN),
    DemoDevice("demo-workshop", "Workshop roof", "Demo workshop", "SG20RT", Family.SG, 11, Profile.WINET_S),
)
"""A hybrid with a battery on its LAN port, and a string inverter behind its dongle, as they were captured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSite:
    """Where and when the demo takes place.

    Attributes:
        folder: holds everything, 0700.
        zone: the site's time zone.
        start: when live operation begins, UTC, a full quarter of an hour; the history ends there.
    """

    folder: Path
    zone: ZoneInfo
    start: datetime

    @classmethod
    def in_folder(cls, folder: Path, now: datetime) -> DemoSite:
        """Choose zone and start for a demo that begins ``now`` (aware)."""
        into_quarter = now.timestamp() % QUARTER.total_seconds()
        start = (now - timedelta(seconds=into_quarter)).astimezone(UTC).replace(microsecond=0)
        return cls(folder=folder, zone=morning_zone(now), start=start)

    @property
    def database(self) -> Path:
        """Folder of the PostgreSQL cluster."""
        return self.folder / "postgres"

    @property
    def edge_config(self) -> Path:
        """The edge's TOML file."""
        return self.folder / "edge.toml"

    def log(self, name: str) -> Path:
        """Log file of one of the processes."""
        return self.folder / f"{name}.log"

    def journal(self, device: DemoDevice) -> Path:
        """What the device's simulator answered."""
        return self.folder / f"{device.device_id}.journal"

    def history(self, device: DemoDevice) -> Path:
        """The device's modelled year, CSV."""
        return self.folder / f"{device.device_id}.csv"


def morning_zone(now: datetime) -> ZoneInfo:
    """Return the fixed offset, in whole hours, in which it is about 10:00 at ``now`` (aware)."""
    utc = now.astimezone(UTC)
    offset = round(_MORNING_H - (utc.hour + utc.minute / 60))
    if offset < _WESTMOST_H:
        offset += _HOURS
    # The names of these zones count westwards: Etc/GMT-2 is two hours ahead of UTC.
    return ZoneInfo(f"Etc/GMT{-offset:+d}" if offset else "Etc/GMT")


def prepare_folder(wanted: Path | None) -> Path:
    """Return an empty folder only its owner can enter: ``wanted``, or a temporary one.

    Raises:
        ConfigurationError: it is not empty, or cannot be made.
    """
    try:
        if wanted is None:
            return Path(tempfile.mkdtemp(prefix="sungrow-demo-"))
        folder = wanted.absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigurationError(f"{folder} is not empty; give a new folder with --data-dir")
        folder.chmod(0o700)
    except OSError as error:
        raise ConfigurationError(f"cannot use {wanted} as data folder: {error.strerror}") from None
    return folder


def remove_folder(folder: Path) -> None:
    """Remove the demo's folder with everything in it."""
    shutil.rmtree(folder, ignore_errors=True)


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner has ever been able to read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
