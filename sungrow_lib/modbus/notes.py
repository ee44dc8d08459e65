"""What a device was found to serve and to refuse, kept between runs so that little is refused again."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from sungrow_lib.registers.applies import ConnectionPath
from sungrow_lib.registers.identity import Identity
from sungrow_lib.registers.words import BLOCK_MAX, Block, Space

STATE_DIR_VARIABLE: Final = "SUNGROW_STATE_DIR"
_LOG: Final = logging.getLogger(__name__)
_LOG.addHandler(logging.NullHandler())  # a command without a log has nothing to say of it

_TRY_AGAIN_S: Final = 60.0
"""Seconds from a file that cannot be written to the next attempt: every reading asks for one."""
_unwritten: Final[set[Path]] = set()
"""Folders of which it was said that they cannot be written."""

_HOLES_LAST_S: Final = 86_400.0
"""Seconds after which a hole is looked at again under the same firmware, too."""

_FIRST_REST_S: Final = 600.0
"""Seconds after which a refused request is made once more: a starting inverter refuses what it has."""

_DAY_S: Final = 86_400.0
_LONGEST_REST_S: Final = 32 * _DAY_S
"""A refusal that was confirmed is asked about after a day, then after two, four, ... up to this."""

_LONGEST_CODELESS_REST_S: Final = 4 * 3600.0
"""The same without an exception code that Modbus knows: it says nothing of the registers, and never lasts."""

_APART_S: Final = 60.0
_APART_CONFIRMED_S: Final = 600.0
"""Seconds between any refusal and the next request that was refused before: repeated ones crash dongles."""

_LONGEST_FILE: Final = 1_000_000
"""Bytes; hundreds of times what a device with every refusal there could be would fill."""


_UNUSABLE: Final = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What reading notes may raise where there are none, or none that can be used."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """How a refusal came about.

    Attributes:
        at: when the request was last made (Unix seconds).
        times: how often it was refused, the times well apart; 0 when it was only inferred from others.
    """

    at: float
    times: int

    def again(self, at: float) -> _Asked:
        """Return the same after one more refusal; one soon after another confirms nothing."""
        is_apart = self.times == 0 or abs(at - self.at) >= _FIRST_REST_S
        return _Asked(at, self.times + is_apart)

    def rest_s(self, code: int) -> float:
        """Seconds until the request is made again."""
        if code == 0:
            return min(_FIRST_REST_S * 2.0 ** min(self.times - 1, 9), _LONGEST_CODELESS_REST_S)
        if self.times <= 1:
            return _FIRST_REST_S
        return min(_DAY_S * 2.0 ** min(self.times - 2, 9), _LONGEST_REST_S)

    @property
    def apart_s(self) -> float:
        """Seconds that must have passed since any refusal when the request is made again."""
        return _APART_S if self.times <= 1 else _APART_CONFIRMED_S


_NEVER: Final = _Asked(0.0, 0)


def state_dir(chosen: Path | None = None) -> Path:
    """Folder of the notes: ``chosen``, else ``SUNGROW_STATE_DIR``, else the user's state folder."""
    if chosen is not None:
        return chosen
    if named := os.environ.get(STATE_DIR_VARIABLE):
        return Path(named)
    return _users_folder()


def _users_folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "sungrow"


class DeviceNotes:
    """The experience with one unit, in a small file.

    The experience is with one device (family, type code, serial number), reached at one address; another
    device there begins anew. It is forgotten when a firmware text changes, for firmware decides what is
    served.

    Args:
        path: the file; None to keep nothing.
        fingerprint: which device the experience is with.
    """

    def __init__(self, path: Path | None = None, fingerprint: str = "") -> None:
        self.path = path
        self._fingerprint = fingerprint
        self._saved = ""
        self._not_before = 0.0
        self.forget()

    def forget(self) -> None:
        """Start afresh."""
        self.answered: set[Block] = set()
        self.refused: dict[Block, int] = {}
        """Refused requests with their exception codes; they are not made until `to_ask_again` names them."""
        self._asked: dict[Block, _Asked] = {}
        self.holes: dict[str, float] = {}
        """Registers that read as holes, with the time (Unix seconds) at which they did."""
        self.connection = ConnectionPath.UNKNOWN
        """How the device is reached, once that was found out."""
        self.firmware: dict[str, str] = {}
        """Firmware texts by register, as last read."""
        self.signed_battery = False
        """Whether the device was seen to sign its battery power."""
        self.battery_unit: int | None = None
        """Unit id of the battery beside the device, once it was found."""
        self.no_battery: dict[int, float] = {}
        """Unit ids that proved to be no battery, with the time (Unix seconds) at which they were tried."""
        self.dark_since: float | None = None
        """When its sun had set (Unix seconds); None by day and where that is not known."""

    @classmethod
    def load(cls, host: str, port: int, unit: int, identity: Identity, folder: Path | None = None) -> Self:
        """Read the notes on a unit; notes on another device at this address count for nothing.

        Args:
            host: name or address of the device.
            port: its TCP port.
            unit: Modbus unit id.
            identity: what the device says of itself.
            folder: where notes are kept; see `state_dir`.
        """
        path = _file(host, port, unit, folder)
        notes = cls(path, f"{identity.family} {identity.type_code} {identity.serial}")
        try:
            data = json.loads(_content(path))
            notes._saved = json.dumps(data)
            notes._fill(data)
        except _UNUSABLE:  # the device is asked afresh, which only takes longer
            notes.forget()
        return notes

    @staticmethod
    def dark_at(host: str, port: int, unit: int, folder: Path | None = None) -> float | None:
        """Read since when (Unix seconds) it was dark, by the notes on whatever answered there last."""
        try:
            since = json.loads(_content(_file(host, port, unit, folder)))["dark_since"]
            return None if since is None else float(since)
        except _UNUSABLE:
            return None

    def _fill(self, data: Any) -> None:
        if data["device"] != self._fingerprint:
            return
        self.answered = {_block(entry) for entry in data["answered"]}
        self.refused = {_block(entry): int(entry["code"]) for entry in data["refused"]}
        self._asked = {
            _block(entry): _Asked(float(entry.get("at", 0.0)), int(entry.get("times", 1)))
            for entry in data["refused"]
        }
        self.holes = {str(name): float(at) for name, at in data["holes"].items()}
        self.connection = ConnectionPath(data["path"])
        self.firmware = {str(name): str(text) for name, text in data["firmware"].items()}
        self.signed_battery = data["signed_battery"] is True
        self.battery_unit = None if data["battery_unit"] is None else int(data["battery_unit"])
        self.no_battery = {int(unit): float(at) for unit, at in data["no_battery"].items()}
        self.dark_since = None if data["dark_since"] is None else float(data["dark_since"])

    def add(self, block: Block, code: int | None = None, at: float = 0.0) -> None:
        """Note that a request was served, or refused with ``code``; a refusal is written at once.

        Args:
            block: the request.
            code: exception code of a refusal.
            at: when it was refused (Unix seconds).
        """
        if code is None:
            self.answered.add(block)
            if block in self.refused:
                self._take_back(block)
            return
        self.refused[block] = code
        self._asked[block] = self._asked.get(block, _NEVER).again(at)
        self.save()

    def infer(self, block: Block, code: int) -> None:
        """Note that a request need not be made because others like it, of the same space, were refused."""
        self.refused[block] = code
        self.save()

    def _take_back(self, served: Block) -> None:
        """A request is served after all; what was inferred from such refusals counts no longer."""
        inferred = [
            block
            for block in self.refused
            if block.space is served.space and self._asked.get(block, _NEVER).times == 0
        ]
        for block in {served, *inferred}:
            del self.refused[block]
            self._asked.pop(block, None)

    def to_ask_again(self, now: float, is_wanted: Callable[[Block], bool]) -> Block | None:
        """Name the refused request that it is time to make once more; None most of the time.

        A first refusal may have been a whim, or a device that was still starting: it is asked about after
        ten minutes. Each that is confirmed is asked about more rarely. There is a distance to every other
        refusal, so that what was refused all at once is asked about one by one.

        Args:
            now: Unix seconds.
            is_wanted: tells whether a request would bring something.
        """
        asked = self._asked
        since_any = min((abs(now - one.at) for one in asked.values()), default=0.0)
        due = [
            block
            for block, one in asked.items()
            if one.times and since_any >= one.apart_s and abs(now - one.at) >= one.rest_s(self.refused[block])
        ]
        # What contains another refused one would be refused with it.
        due = [block for block in due if is_wanted(block) and not self._contains_refused(block)]
        return min(due, key=lambda block: (asked[block].times, asked[block].at, block), default=None)

    def _contains_refused(self, block: Block) -> bool:
        return any(other != block and block.covers(other) for other in self.refused)

    def put_off(self, block: Block, at: float) -> None:
        """Note that a refused request was made again and told nothing: no answer, or "not now"."""
        self._asked[block] = _Asked(at, self._asked.get(block, _NEVER).times)
        self.save()

    def has_answered(self, block: Block) -> bool:
        """Whether a request was served before, alone or as part of another."""
        return block in self.answered or any(answered.covers(block) for answered in self.answered)

    def see_holes(self, names: Iterable[str], at: float) -> None:
        """Note registers that read as holes at a time (Unix seconds)."""
        self.holes |= dict.fromkeys(sorted(names), at)

    def expire_holes(self, now: float) -> None:
        """Forget holes seen long before ``now`` (Unix seconds): what was asleep then may be filled by now."""
        self.holes = {name: at for name, at in self.holes.items() if abs(now - at) < _HOLES_LAST_S}

    def see_firmware(self, texts: Mapping[str, str]) -> bool:
        """Note the firmware texts a reading brought; when one changed, all other experience is void.

        Returns:
            Whether one of them differs from what was noted before.
        """
        before = self.firmware
        changed = any(before.get(name, text) != text for name, text in texts.items())
        if changed:
            self.forget()
        self.firmware = before | dict(texts)
        return changed

    def save(self) -> None:
        """Write the file whole, or leave the old one; does nothing when nothing is new.

        A folder that cannot be written costs time at the next run and nothing now: that is logged once, and
        it is tried again.
        """
        document = self._document()
        told = json.dumps(document)  # each pass comes here, and to indent takes Python's own slow encoder
        if self.path is None or told == self._saved or time.monotonic() < self._not_before:
            return
        draft = self.path.with_suffix(f".{os.getpid()}.tmp")
        try:
            _make(self.path.parent)
            draft.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            draft.replace(self.path)
        except OSError as error:
            self._not_before = time.monotonic() + _TRY_AGAIN_S
            with suppress(OSError):
                draft.unlink()
            _say_unwritten(self.path.parent, error)
        else:
            self._saved = told
            _unwritten.discard(self.path.parent)

    def _document(self) -> dict[str, Any]:
        return {
            "device": self._fingerprint,
            "path": self.connection,
            "holes": self.holes,
            "firmware": self.firmware,
            "signed_battery": self.signed_battery,
            "battery_unit": self.battery_unit,
            "no_battery": self.no_battery,
            "dark_since": self.dark_since,
            "answered": [_entry(block) for block in sorted(self.answered)],
            "refused": [self._refusal(block) for block in sorted(self.refused)],
        }

    def _refusal(self, block: Block) -> dict[str, Any]:
        asked = self._asked.get(block, _NEVER)
        return {**_entry(block), "code": self.refused[block], "at": asked.at, "times": asked.times}


def _make(folder: Path) -> None:
    """Make a folder; of a chosen one only the last part, as the disk for it may not be mounted yet."""
    folder.mkdir(parents=_is_users(folder), exist_ok=True)


def _is_users(folder: Path) -> bool:
    try:
        return folder == _users_folder()
    except RuntimeError:  # an account without a home
        return False


def _say_unwritten(folder: Path, error: OSError) -> None:
    if folder not in _unwritten:
        _unwritten.add(folder)
        _LOG.warning(
            "what an inverter serves and refuses cannot be noted; it is asked again after a restart",
            extra={"folder": str(folder), "setting": STATE_DIR_VARIABLE, "reason": error.strerror},
        )


def _file(host: str, port: int, unit: int, folder: Path | None) -> Path:
    place = re.sub(r"[^A-Za-z0-9._-]", "-", f"{host.lower()}-{port}-{unit}")
    return state_dir(folder) / f"device-{place}.json"


def _content(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(_LONGEST_FILE)


def _entry(block: Block) -> dict[str, Any]:
    return {"space": block.space.name.lower(), "first": block.first, "count": block.count}


def _block(entry: Any) -> Block:
    block = Block(Space[entry["space"].upper()], int(entry["first"]), int(entry["count"]))
    if not (1 <= block.count <= BLOCK_MAX and block.first >= 1):
        raise ValueError("no block")
    return block
