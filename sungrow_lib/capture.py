"""Capture files: the raw registers of one device, as JSON that people can send each other.

::

    {"model": "SH10RT", "firmware": "...", "connection": "LAN", "function": 4, "unit_id": 1,
     "registers": {"5000": 3587, "13022": 184}}

Keys of `registers` are document numbers (the wire address is one less), values raw unsigned 16-bit words.
One file holds one function code and one unit. `ts` and `device_id` may be given; unknown keys are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final

from pydantic_core import PydanticCustomError

from sungrow_lib.errors import CaptureError
from sungrow_lib.quantities import Family
from sungrow_lib.registers.devices import DEVICE_TYPES
from sungrow_lib.registers.identity import device_by_code, device_by_name, family_by_name
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import DataType, Register
from sungrow_lib.registers.words import WORD_MAX, RegisterWords, Space
from sungrow_lib.sample import DEVICE_ID_PATTERN, format_ts, parse_ts

SIZE_LIMIT: Final = 4_000_000
"""Bytes; a file with every register there is has less than half of it."""

_DIGIT: Final = re.compile(r"[0-9]", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,5}", re.ASCII)
_LAST_NUMBER: Final = 65_536
_LAST_UNIT: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Registers of one device, and what the file says about it.

    Attributes:
        words: raw words; of both spaces once captures are merged.
        model: what the file calls the device, free text.
        firmware: free text.
        connection: how the device was reached, free text.
        unit_id: Modbus unit, None when not said.
        ts: when it was read, None when not said.
        device_id: id in the user's system, None when not said.
    """

    words: RegisterWords
    model: str = ""
    firmware: str = ""
    connection: str = ""
    unit_id: int | None = None
    ts: datetime | None = None
    device_id: str | None = None

    def masked(self) -> Capture:
        """Return the same capture with every digit of every serial number made a 0, in its device id, too."""
        masked = {
            (register.space, number): _masked_word(self.words[register.space, number])
            for register in _SERIALS
            for number in register.block.numbers
            if (register.space, number) in self.words
        }
        device_id = self.device_id
        for serial in _serials(self.words):
            hidden = _DIGIT.sub("0", serial)
            device_id = device_id and re.sub(re.escape(serial), hidden, device_id, flags=re.IGNORECASE)
        return replace(self, words=self.words | masked, device_id=device_id)


def load_capture(path: Path) -> Capture:
    """Read a capture file.

    Raises:
        CaptureError: the file cannot be read, is too large, or is no capture; says which and why.
    """
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(data) > SIZE_LIMIT:
        raise CaptureError(f"{path}: too large for a capture (more than {SIZE_LIMIT // 1_000_000} MB)")
    try:
        return parse_capture(_parsed(data))
    except CaptureError as error:
        raise CaptureError(f"{path}: {error}") from None


def parse_capture(document: object) -> Capture:
    """Check a capture's JSON document and return what it holds.

    Raises:
        CaptureError: it is no capture; says why.
    """
    if not isinstance(document, Mapping) or "registers" not in document:
        raise CaptureError('not a capture: it must be a JSON object with "function" and "registers"')
    return Capture(
        words=_words(_space(document), document["registers"]),
        model=_free_text(document, "model"),
        firmware=_free_text(document, "firmware"),
        connection=_free_text(document, "connection"),
        unit_id=_unit(document),
        ts=_timestamp(document),
        device_id=_device_id(document),
    )


def merge_captures(captures: Sequence[Capture]) -> Capture:
    """Join captures of one device, such as its input and its holding registers.

    Raises:
        CaptureError: they are of different devices or moments, or there is none.
    """
    if not captures:
        raise CaptureError("no capture given")
    _agree("units", (capture.unit_id for capture in captures))
    _agree("devices", (capture.device_id for capture in captures))
    _agree("models", (_model_name(capture.model) for capture in captures))
    _agree("register families", (family_by_name(capture.model) for capture in captures))
    _check_type_codes(captures)
    merged = captures[0]
    for capture in captures[1:]:
        _check_overlap(merged.words, capture.words)
        merged = replace(
            merged,
            words=merged.words | capture.words,
            model=merged.model or capture.model,
            firmware=merged.firmware or capture.firmware,
            connection=merged.connection or capture.connection,
            unit_id=capture.unit_id if merged.unit_id is None else merged.unit_id,
            ts=merged.ts or capture.ts,
            device_id=merged.device_id or capture.device_id,
        )
    return merged


def capture_document(capture: Capture, space: Space) -> dict[str, Any]:
    """Return the JSON document of one register space of ``capture``."""
    document: dict[str, Any] = {
        "model": capture.model or None,
        "firmware": capture.firmware or None,
        "connection": capture.connection or None,
        "function": int(space),
        "unit_id": capture.unit_id,
        "ts": format_ts(capture.ts) if capture.ts else None,
        "device_id": capture.device_id,
    }
    registers = {number: word for (of, number), word in capture.words.items() if of is space}
    return {
        **{key: value for key, value in document.items() if value is not None},
        "registers": {str(number): registers[number] for number in sorted(registers)},
    }


def write_capture(path: Path, capture: Capture, space: Space, *, mask_serials: bool = True) -> None:
    """Write one register space of ``capture``; serial numbers are masked unless asked not to.

    Raises:
        CaptureError: the file cannot be written.
    """
    document = capture_document(capture.masked() if mask_serials else capture, space)
    if mask_serials:
        document["serial_redacted"] = True
    try:
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise CaptureError(f"{path}: cannot be written: {error.strerror or error}") from None


def _parsed(data: bytes) -> object:
    try:
        return json.loads(data, object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise CaptureError("not a capture: nested too deeply") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise CaptureError(f"not JSON, or cut off: it cannot be read on from {where}") from None
    except UnicodeDecodeError:
        raise CaptureError("not JSON: it is no text") from None
    except ValueError:  # a number of thousands of digits
        raise CaptureError("not JSON of a capture: it holds a number that no register can hold") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        twice = next(key for n, (key, _) in enumerate(pairs) if key in dict(pairs[:n]))
        raise CaptureError(f'"{twice:.20}" stands twice in one object')
    return document


def _space(document: Mapping[str, Any]) -> Space:
    function = document.get("function")
    if isinstance(function, bool) or function not in tuple(Space):
        raise CaptureError('"function" must be 4 (input registers) or 3 (holding registers)')
    return Space(function)


def _words(space: Space, registers: object) -> RegisterWords:
    if not isinstance(registers, Mapping):
        raise CaptureError('"registers" must be an object of document number to word')
    words: dict[tuple[Space, int], int] = {}
    for key, word in registers.items():
        number = _number(key)
        if (space, number) in words:
            raise CaptureError(f"register {number} stands twice, with and without leading zeros")
        words[space, number] = _word(key, word)
    return RegisterWords(words)


def _number(key: str) -> int:
    number = int(key) if _NUMBER.fullmatch(key) else 0
    if not 1 <= number <= _LAST_NUMBER:
        raise CaptureError(f'"{key:.20}" is no register number (1 to {_LAST_NUMBER})')
    return number


def _word(key: str, word: object) -> int:
    if isinstance(word, bool) or not isinstance(word, int) or not 0 <= word <= WORD_MAX:
        raise CaptureError(f"register {key} holds {json.dumps(word):.40}, which is no word (0 to {WORD_MAX})")
    return word


def _free_text(document: Mapping[str, Any], key: str) -> str:
    text = document.get(key)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise CaptureError(f'"{key}" must be text')
    return text


def _unit(document: Mapping[str, Any]) -> int | None:
    unit = document.get("unit_id")
    if unit is None:
        return None
    if isinstance(unit, bool) or not isinstance(unit, int) or not 0 <= unit <= _LAST_UNIT:
        raise CaptureError(f'"unit_id" must be 0 to {_LAST_UNIT}')
    return unit


def _timestamp(document: Mapping[str, Any]) -> datetime | None:
    if document.get("ts") is None:
        return None
    try:
        return parse_ts(document["ts"])
    except PydanticCustomError as error:
        raise CaptureError(str(error)) from None


def _device_id(document: Mapping[str, Any]) -> str | None:
    device_id = document.get("device_id")
    if device_id is None:
        return None
    if not isinstance(device_id, str) or not re.fullmatch(DEVICE_ID_PATTERN, device_id):
        raise CaptureError('"device_id" must be 1 to 64 letters, digits, dots, dashes or underscores')
    return device_id


def _model_name(text: str) -> str | None:
    device = device_by_name(text)
    return device.model if device else None


def _agree(what: str, answers: Iterable[object]) -> None:
    different = sorted({str(answer) for answer in answers if answer is not None})
    if len(different) > 1:
        raise CaptureError(
            f"these captures are of different {what} ({', '.join(different)}): decode each alone"
        )


def _check_type_codes(captures: Sequence[Capture]) -> None:
    """Refuse captures of which one is named what another's type code rules out.

    People name their inverter loosely: where the capture with the type code bears the same name, it is no
    sign of a second device.
    """
    for capture in captures:
        told = device_by_code(capture.words)
        if told is None:
            continue
        names = [other.model for other in captures if other is not capture]
        _agree("register families", (told.family, *map(family_by_name, names)))
        fitting = {_model_name(capture.model), *(row.model for row in DEVICE_TYPES if row.code == told.code)}
        models = (model for model in map(_model_name, names) if model not in fitting)
        _agree("models", (told.model, *models))


def _check_overlap(left: RegisterWords, right: RegisterWords) -> None:
    for key in sorted(left.keys() & right.keys()):
        if left[key] != right[key]:
            space, number = key
            raise CaptureError(
                f"two captures hold different words for {space.name.lower()} register {number}: "
                "they are of different moments, decode each alone"
            )


_SERIALS: Final[tuple[Register, ...]] = tuple(
    register
    for register in chain(RegisterMap.for_family(Family.SH), RegisterMap.for_family(Family.BATTERY))
    if register.type is DataType.STRING and "serial" in register.name
)
"""The string inverters' serial number stands where the hybrids' does."""


def _serials(words: RegisterWords) -> Iterator[str]:
    for register in _SERIALS:
        text = register.decode([words.get((register.space, number), 0) for number in register.block.numbers])
        if isinstance(text, str):
            yield text


def _masked_word(word: int) -> int:
    high, low = (ord("0") if chr(byte).isdecimal() else byte for byte in divmod(word, 256))
    return high << 8 | low
