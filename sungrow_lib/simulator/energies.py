"""Powers and energies of a modelled house, in whole watts and watt-seconds, and the diary of its days."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple


class Flows(NamedTuple):
    """Powers in whole watts, none negative but ``ac_w``; both sides of the balance are equal.

    Attributes:
        pv_w: DC power of all trackers.
        load_w: consumption of the house.
        charge_w: into the battery.
        discharge_w: out of the battery.
        import_w: from the grid.
        export_w: to the grid.
        losses_w: turned to heat in the inverter.
        ac_w: AC power of the inverter, + out of it.
        direct_w: consumption covered by the sun at that moment.
    """

    pv_w: int = 0
    load_w: int = 0
    charge_w: int = 0
    discharge_w: int = 0
    import_w: int = 0
    export_w: int = 0
    losses_w: int = 0
    ac_w: int = 0
    direct_w: int = 0


@dataclass(slots=True)
class Energies:
    """Energy counters, in watt-seconds: each the exact integral of its power.

    Attributes:
        output: of the inverter's AC power while it is positive.
        running_s: seconds the inverter was producing.
    """

    pv: int = 0
    load: int = 0
    charge: int = 0
    discharge: int = 0
    imported: int = 0
    exported: int = 0
    direct: int = 0
    output: int = 0
    running_s: int = 0

    def add(self, flows: Flows, seconds: int) -> None:
        """Count ``flows`` having lasted ``seconds``."""
        self.pv += flows.pv_w * seconds
        self.load += flows.load_w * seconds
        self.charge += flows.charge_w * seconds
        self.discharge += flows.discharge_w * seconds
        self.imported += flows.import_w * seconds
        self.exported += flows.export_w * seconds
        self.direct += flows.direct_w * seconds
        if flows.ac_w > 0:
            self.output += flows.ac_w * seconds
            self.running_s += seconds

    def plus(self, other: Energies) -> Energies:
        """What both count together."""
        return Energies(*(getattr(self, name) + getattr(other, name) for name in Energies.__slots__))


DIARY: Final = ("pv", "direct", "exported", "charge")
"""The energies an inverter keeps a history of."""

_QUARTER_S: Final = 900
_QUARTERS: Final = 96


@dataclass(slots=True)
class Page:
    """The history of one energy, as the inverter keeps it.

    Attributes:
        quarters: mean power, W, in each quarter of an hour of the running day.
        days: energy, watt-seconds, on each day of the running month.
        months: the same in each month of the running year.
        years: the same by year.
    """

    quarters: list[int] = field(default_factory=lambda: [0] * _QUARTERS)
    days: list[int] = field(default_factory=lambda: [0] * 31)
    months: list[int] = field(default_factory=lambda: [0] * 12)
    years: dict[int, int] = field(default_factory=dict)


class Diary:
    """What the inverter remembers of its days, months and years; written every quarter of an hour."""

    def __init__(self) -> None:
        self.pages = {name: Page() for name in DIARY}
        """One page for each energy in :data:`DIARY`."""
        self._written = dict.fromkeys(DIARY, 0)

    def begin_day(self, before: datetime, now: datetime) -> None:
        """Turn the page: clear the quarters, and days and months when those begin anew too.

        Args:
            before: any moment of the day that ended, in the site's zone.
            now: any moment of the day that begins.
        """
        self._written = dict.fromkeys(DIARY, 0)
        for page in self.pages.values():
            page.quarters = [0] * _QUARTERS
            if now.month != before.month:
                page.days = [0] * 31
            if now.year != before.year:
                page.months = [0] * 12

    def write(self, ended: datetime, today: Energies) -> None:
        """Enter a quarter of an hour.

        Args:
            ended: its last second, in the site's zone.
            today: the energies of the day so far.
        """
        slot = (ended.hour * 3600 + ended.minute * 60) // _QUARTER_S
        for name, page in self.pages.items():
            energy: int = getattr(today, name)
            gained, self._written[name] = energy - self._written[name], energy
            page.quarters[slot] = gained // _QUARTER_S
            page.days[ended.day - 1] += gained
            page.months[ended.month - 1] += gained
            page.years[ended.year] = page.years.get(ended.year, 0) + gained
