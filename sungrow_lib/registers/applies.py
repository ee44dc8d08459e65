"""Which devices have a register: by product line, model, trackers, phases and connection path."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from fnmatch import fnmatchcase
from typing import Final

from sungrow_lib.registers.devices import DeviceType


class ConnectionPath(StrEnum):
    """How the device is reached; each path forwards another part of the map."""

    LAN = "LAN"
    WINET_S = "WiNet-S"
    RS485 = "RS485"
    LOGGER = "Logger"
    UNKNOWN = "unknown"


class Presence(Enum):
    """Whether a device has a register."""

    PRESENT = "present"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class DeviceContext:
    """What decides how a device's words are read.

    Attributes:
        device: its model; None when unknown.
        path: how it is reached.
        wired_phases: 1 or 3, as the device says; counts where its model does not tell.
    """

    device: DeviceType | None = None
    path: ConnectionPath = ConnectionPath.UNKNOWN
    wired_phases: int | None = None

    @property
    def phases(self) -> int | None:
        """1 or 3; None when unknown. The model is surer: a path may fill in 0 for what the device says."""
        return (self.device.phases if self.device else None) or self.wired_phases

    @property
    def line(self) -> str:
        """Product line, empty when the model is unknown."""
        return self.device.line if self.device else ""


NOTHING_KNOWN: Final = DeviceContext()
"""Neither model nor path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applies:
    """The devices that have a register; what is left empty does not restrict.

    Attributes:
        lines: product lines such as ``SH-RT``.
        models: models beyond those lines, as shell patterns.
        not_lines: product lines that lack it.
        not_models: models that lack it, as shell patterns.
        trackers: least number of trackers.
        strings: least number of strings, counted only where a tracker has more than one.
        three_phase: only three-phase devices have it.
        three_phase_meter: filled by a meter of three phases, which a single-phase device may have, too.
        winet: whether the WiNet-S dongle forwards it.
        winet_zero_models: models whose dongle may answer 0 in its place, as shell patterns.
        certain: False where even a device that fits may lack it.
    """

    lines: frozenset[str] = frozenset()
    models: tuple[str, ...] = ()
    not_lines: frozenset[str] = frozenset()
    not_models: tuple[str, ...] = ()
    trackers: int = 0
    strings: int = 0
    three_phase: bool = False
    three_phase_meter: bool = False
    winet: bool = True
    winet_zero_models: tuple[str, ...] = ()
    certain: bool = True

    def presence(self, context: DeviceContext) -> Presence:
        """Tell whether this device, reached over its path, has the register."""
        device = context.device
        if context.path is ConnectionPath.WINET_S and not self.winet:
            return Presence.ABSENT
        if device is None:
            return Presence.UNKNOWN
        answers = (self._fits_model(device), self._fits_layout(device, context.phases))
        if False in answers:
            return Presence.ABSENT
        return Presence.PRESENT if self.certain and None not in answers else Presence.UNKNOWN

    def doubts_zero(self, context: DeviceContext) -> bool:
        """Whether a 0 of this device, reached over its path, may stand for "not known"."""
        if context.path is not ConnectionPath.WINET_S:
            return False
        device = context.device
        return not self.winet or (device is not None and _matches(device.model, self.winet_zero_models))

    def is_lacking(self, context: DeviceContext) -> bool:
        """Whether the device lacks it by its model: what its path is not known to forward may be answered."""
        return self.presence(replace(context, path=ConnectionPath.UNKNOWN)) is Presence.ABSENT

    def _fits_model(self, device: DeviceType) -> bool:
        if device.line in self.not_lines or _matches(device.model, self.not_models):
            return False
        if not self.lines and not self.models:
            return True
        return device.line in self.lines or _matches(device.model, self.models)

    def _fits_layout(self, device: DeviceType, phases: int | None) -> bool | None:
        """Whether trackers, strings and phases suffice; None where the device's are not known."""
        if device.trackers is not None and device.trackers < self.trackers:
            return False
        if self.three_phase and phases == 1:
            return False
        if self.strings and device.strings:
            return max(device.strings) > 1 and sum(device.strings) >= self.strings
        unknown = (
            (self.trackers and device.trackers is None)
            or (self.strings and not device.strings)
            or (self.three_phase and phases is None)
            or (self.three_phase_meter and phases != _THREE)
        )
        return None if unknown else True


_THREE: Final = 3


def _matches(model: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in patterns)


EVERYWHERE: Final = Applies()
"""Every model of the family, on every path."""
