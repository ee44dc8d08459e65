"""A server with a modelled year of a house, for the notebooks: tests and site run them on it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from sungrow_lib import Normalizer, SungrowSample
from sungrow_lib.demo.postgres import EmbeddedPostgres
from sungrow_lib.demo.processes import Child, python, wait_until
from sungrow_lib.demo.setup import clean_environment, free_ports, is_listening
from sungrow_lib.simulator.history import modelled_history, write_csv
from sungrow_lib.simulator.house import HISTORY_STEP, House, birth
from sungrow_lib.simulator.images import LivingInverter, image_named

DEVICE: Final = "house"
TOKEN: Final = "notebook-token-0123456789"
ZONE: Final = ZoneInfo("Europe/Berlin")
END: Final = datetime(2026, 6, 21, tzinfo=ZONE)
"""A fixed date: the plots are the same whenever they are drawn."""
CLOSE_LOOK: Final = timedelta(days=7)
"""So long before the end every reading is there, not only quarters of an hour."""
_STEP: Final = timedelta(minutes=5)
_SHADE: Final = (16.0, 18.0)
"""Hours of the day in which a chimney stands before the second tracker."""
_SHADED: Final = 0.45
_GAP: Final = (datetime(2026, 6, 16, 9, tzinfo=ZONE), datetime(2026, 6, 16, 13, tzinfo=ZONE))


@dataclass(frozen=True, slots=True)
class ModelledServer:
    """Where it answers, and with which token."""

    url: str
    token: str = TOKEN

    @property
    def environment(self) -> dict[str, str]:
        """What the notebooks ask for."""
        return {"SUNGROW_SERVER": self.url, "SUNGROW_TOKEN": self.token}


@contextmanager
def modelled_server(dsn: str | None = None, *, days: int = 365) -> Iterator[ModelledServer]:
    """Run a server on a modelled year, or fewer days of it.

    Args:
        dsn: an empty database; one of its own when None.
        days: how long the house has a past.
    """
    with tempfile.TemporaryDirectory(prefix="sungrow-notebooks-") as name:
        folder = Path(name)
        if dsn is None:
            with EmbeddedPostgres(folder / "database", throw_away=True) as cluster:
                yield from _serving(folder, cluster.dsn, days)
        else:
            yield from _serving(folder, dsn, days)


def _serving(folder: Path, dsn: str, days: int) -> Iterator[ModelledServer]:
    [port] = free_ports(1)
    environment = clean_environment() | {
        "DATABASE_URL": dsn,
        "DEVICE_TOKENS": f"{TOKEN}:{DEVICE}",
        "LISTEN_PORT": str(port),
        "RAW_RETENTION_DAYS": "36500",
    }
    files = write_house(folder, days)
    _command(environment, "migrate")
    for file in files:
        _command(environment, "import", str(file), "--device", DEVICE, "--source", "simulated")
    described = ("--name", "The modelled house", "--timezone", str(ZONE), "--poll-interval", "300")
    _command(environment, "device", "set", DEVICE, *described)
    server = Child(
        "the server", python("reference_server", "run"), folder / "server.log", environment=environment
    )
    try:
        wait_until("the server", lambda: is_listening(port), timeout_s=60, watched=[server])
        yield ModelledServer(f"http://127.0.0.1:{port}")
    finally:
        server.stop(15.0)


def _command(environment: dict[str, str], *words: str) -> None:
    done = subprocess.run(
        python("reference_server", *words), env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"sungrow-server {words[0]}: {done.stderr}")


def write_house(folder: Path, days: int) -> list[Path]:
    """Write what is to be imported: the past, the last days closely, and readings that contradict them."""
    image = image_named("SH8.0RT-20")
    begin = END - CLOSE_LOOK
    house = House(7, ZONE, kind=image.kind, born=birth(END, ZONE, days=days))
    past = list(modelled_history(DEVICE, house, begin))
    close = list(_readings(house, LivingInverter(house, image)))
    again = [
        reading.model_copy(update={"load_power_w": (reading.load_power_w or 0) + 250})
        for reading in close[1000:1006]
    ]
    files = []
    for name, samples in (("past", past), ("close", close), ("again", again)):
        files.append(folder / f"{name}.csv")
        with files[-1].open("w", encoding="utf-8", newline="") as stream:
            write_csv(samples, stream)
    return files


def _readings(house: House, inverter: LivingInverter) -> Iterator[SungrowSample]:
    normalizer, chimney = Normalizer(device_id=DEVICE), _Chimney()
    moment = (END - CLOSE_LOOK).astimezone(UTC)
    while (moment := moment + _STEP) < END:
        house.advance(moment, HISTORY_STEP)
        if _GAP[0] <= moment < _GAP[1]:
            continue
        reading = normalizer.normalize(inverter.words_at(moment), ts=moment, interval_s=_STEP.total_seconds())
        yield chimney.before(reading)


class _Chimney:
    """The modelled roof is free of shade; this stands before its second tracker for two hours a day."""

    def __init__(self) -> None:
        self._taken_kwh = {"daily": 0.0, "total": 0.0}
        self._day: date | None = None

    def before(self, reading: SungrowSample) -> SungrowSample:
        """Take what is shaded from the sun's power and energy, and from what is exported."""
        local = reading.ts.astimezone(ZONE)
        if local.date() != self._day:
            self._day, self._taken_kwh["daily"] = local.date(), 0.0
        currents, voltages = reading.mppt_current_a, reading.mppt_voltage_v
        changed: dict[str, Any] = {}
        if _SHADE[0] <= local.hour + local.minute / 60 < _SHADE[1] and currents and voltages:
            was = currents[1] or 0.0
            shaded = round(was * _SHADED, 1)
            lost_w = round((was - shaded) * (voltages[1] or 0.0))
            for span in self._taken_kwh:
                self._taken_kwh[span] += lost_w * _STEP.total_seconds() / 3.6e6
            changed["mppt_current_a"] = [currents[0], shaded, *currents[2:]]
            for name in ("pv_power_w", "export_power_w"):
                changed[name] = (getattr(reading, name) or 0) - lost_w
        for name in ("pv", "export", "export_from_pv"):
            for span, kwh in self._taken_kwh.items():
                changed[f"{name}_{span}_kwh"] = (getattr(reading, f"{name}_{span}_kwh") or 0.0) - kwh
        return SungrowSample.model_validate(reading.model_dump() | changed)


def main() -> int:
    """Run the server until standard input ends; print the environment as JSON."""
    with modelled_server() as server:
        print(json.dumps(server.environment), flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
