"""Says once for each device which fields came that only a newer edge knows: they are kept as they came."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from reference_server.storage.codec import Row
from sungrow_lib.quantities import QUANTITY_BY_NAME
from sungrow_lib.wording import shown

_LOG: Final = logging.getLogger(__name__)
_MOST_DEVICES: Final = 10_000
_MOST_NAMES: Final = 32
"""Names of a device that are told of; whoever sends other ones with each reading does not fill the log."""
_LONGEST_NAME: Final = 64


class NewerFields:
    """Remembers of which fields it has told."""

    def __init__(self) -> None:
        self._told: dict[int, set[str]] = {}

    def note(self, rows: Iterable[Row], device_ids: Mapping[int, str]) -> None:
        """Tell of the fields of readings that were taken, as far as they are news.

        Args:
            rows: the readings.
            device_ids: names of their devices, by key.
        """
        found: defaultdict[int, set[str]] = defaultdict(set)
        for row in rows:
            if row.extra:
                unknown = row.extra.keys() - QUANTITY_BY_NAME.keys()  # the others are implausible values
                found[row.device].update(shown(name, _LONGEST_NAME) for name in unknown)
        for device, names in found.items():
            self._note(device, device_ids[device], names)

    def _note(self, device: int, device_id: str, names: set[str]) -> None:
        told = self._told.get(device, set())
        news = sorted(names - told)[: _MOST_NAMES - len(told)]
        if not news:
            return
        if len(self._told) >= _MOST_DEVICES:
            self._told.clear()
        self._told[device] = told | set(news)
        extra = {"device_id": device_id, "fields": news}
        _LOG.info("kept as they came: fields that a newer version of this server may know", extra=extra)


__all__ = ["NewerFields"]
