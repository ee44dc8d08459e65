"""What a device is: family, model, serial number, firmware; from its answers or its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from sungrow_lib.errors import UnknownFamilyError
from sungrow_lib.quantities import Family
from sungrow_lib.registers.applies import ConnectionPath, DeviceContext
from sungrow_lib.registers.devices import DEVICE_BY_CODE, DeviceType, device_called
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.words import WORD_MAX, RegisterWords, Space

IDENTITY_REGISTERS: Final = {
    Family.SH: (
        "protocol_version",
        "arm_software_version",
        "dsp_software_version",
        "serial_number",
        "device_type_code",
        "nominal_output_power",
        "output_type",
        "inverter_firmware",
        "communication_module_firmware",
        "battery_firmware",
        "firmware_part_1",
    ),
    Family.SG: (
        "protocol_version",
        "arm_software_version",
        "dsp_software_version",
        "serial_number",
        "device_type_code",
        "nominal_active_power",
        "output_type",
    ),
    Family.BATTERY: ("battery_device_type", "battery_serial", "battery_bcu_firmware"),
    Family.IHM: ("device_type_code", "protocol_version", "application_software_version"),
}
"""By family, the registers that say what a device is; they change only with its firmware."""

_TYPE_CODES: Final = (
    ((Space.INPUT, 5000), frozenset({Family.SH, Family.SG})),
    ((Space.INPUT, 10710), frozenset({Family.BATTERY})),
    ((Space.INPUT, 8000), frozenset({Family.IHM})),
)
"""Where the type code stands, and which families put it there. Holding 5000 is the clock's year."""

_ANSWERS: Final = {
    Family.SH: range(13000, 13048),
    Family.SG: range(5022, 5046),
    Family.BATTERY: range(10740, 10750),
    Family.IHM: range(8145, 8180),
}
"""Input registers only this family fills; a hybrid is recognised before a string inverter."""

_MODEL_WORD: Final = re.compile(
    r"(?<![A-Za-z])(?:SH|MG|SG|SBR|SBH|iHomeManager|iHM)[A-Za-z0-9._-]*", re.IGNORECASE
)
_FAMILY_OF_PREFIX: Final = {
    "sbr": Family.BATTERY,
    "sbh": Family.BATTERY,
    "sh": Family.SH,
    "mg": Family.SH,
    "sg": Family.SG,
    "ih": Family.IHM,
}
_MODEL_NAME: Final = re.compile(r"(?:sh|mg|sg)(?:[-\d]|$)|sb[rh]|ih(?:omemanager|m)$", re.IGNORECASE)

_PATH_MARKS: Final = (
    ("winet", ConnectionPath.WINET_S),
    ("logger", ConnectionPath.LOGGER),
    ("rs-?485", ConnectionPath.RS485),
    (r"\blan\b|ethernet", ConnectionPath.LAN),
)

_FIRMWARE: Final = {
    Family.SH: ("inverter_firmware", "firmware_part_1", "arm_software_version"),
    Family.SG: ("arm_software_version",),
    Family.BATTERY: ("battery_bcu_firmware",),
    Family.IHM: ("application_software_version",),
}
_T = TypeVar("_T")
_SERIAL: Final = ("serial_number", "battery_serial")
_NOMINAL_KW: Final = ("nominal_output_power", "nominal_active_power")
_PHASES_OF_OUTPUT: Final = {"single": 1, "3P4L": 3, "3P3L": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What is known of a device.

    Attributes:
        family: register map it speaks.
        device: its model, None when the type code is unknown and nobody named it.
        path: how it is reached.
        type_code: what it says of itself, None when not read.
        serial: serial number.
        firmware: running firmware, or the certified version where no running one is told.
        protocol: version of the register map it follows, such as ``V1.0.11``.
        nominal_kw: nominal AC power it states, in kW.
        phases: 1 or 3, as wired where it says so, else by model.
        has_neutral: whether it is wired with a neutral; voltages are those between phases if not.
    """

    family: Family
    device: DeviceType | None = None
    path: ConnectionPath = ConnectionPath.UNKNOWN
    type_code: int | None = None
    serial: str | None = None
    firmware: str | None = None
    protocol: str | None = None
    nominal_kw: float | None = None
    phases: int | None = None
    has_neutral: bool | None = None

    @property
    def model(self) -> str | None:
        """Sungrow's name of the model, None when unknown."""
        return self.device.model if self.device else None

    @property
    def context(self) -> DeviceContext:
        """What decoding needs to know of it."""
        return DeviceContext(self.device, self.path, self.phases)


def identify(
    words: RegisterWords,
    *,
    family: Family | None = None,
    model: str = "",
    path: ConnectionPath = ConnectionPath.UNKNOWN,
) -> Identity:
    """Tell what device answered ``words``.

    Args:
        words: what was read, any subset.
        family: register map, where the user names it.
        model: what people call the device; used where the type code says nothing.
        path: how it was reached.

    Raises:
        UnknownFamilyError: neither the type code, nor ``model``, nor the answers tell the family.
    """
    family = family or family_of(words, model) or family_by_answers(words)
    if family is None:
        raise UnknownFamilyError
    type_code = _type_code(words, family)
    device = _device_of_code(type_code, family) or device_by_name(model, family)
    values = RegisterMap.for_family(family).decode(words, DeviceContext(device, path))
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
    return Identity(
        family=family,
        device=device,
        path=path,
        type_code=type_code,
        serial=_first(texts, _SERIAL),
        firmware=_first(texts, _FIRMWARE[family]),
        protocol=_protocol(numbers.get("protocol_version")),
        nominal_kw=_first(numbers, _NOMINAL_KW) or (device.power_kw if device else None),
        phases=_phases(texts.get("output_type")) or (device.phases if device else None),
        has_neutral=_has_neutral(texts.get("output_type")),
    )


def family_of(words: RegisterWords, model: str = "") -> Family | None:
    """Tell the family by the type code, then by what people call the device; None when neither helps."""
    device = device_by_code(words)
    return device.family if device else family_by_name(model)


def family_by_answers(words: RegisterWords) -> Family | None:
    """Tell the family by which registers hold something; for devices whose type code nobody knows."""
    for family, numbers in _ANSWERS.items():
        if any(words.get((Space.INPUT, number), WORD_MAX) != WORD_MAX for number in numbers):
            return family
    return None


def has_answers_of(family: Family, words: RegisterWords) -> bool:
    """Tell whether registers were read that only this family has, whatever they hold."""
    return any((Space.INPUT, number) in words for number in _ANSWERS[family])


def family_by_name(text: str) -> Family | None:
    """Tell the family from free text such as ``SH-RT hybrid``; None when it names none."""
    for word in _MODEL_WORD.findall(text):
        if _MODEL_NAME.match(word):
            lowered = word.casefold()
            return next(family for prefix, family in _FAMILY_OF_PREFIX.items() if lowered.startswith(prefix))
    return None


def device_of_another_family(words: RegisterWords, family: Family, model: str = "") -> DeviceType | None:
    """Find the model that rules ``family`` out; None when nothing does.

    A type code where ``family`` puts it settles it; else that of another family does, else the name of a
    known model. Codes and models that nobody knows rule nothing out.
    """
    told = [
        device
        for key, families in _TYPE_CODES
        if (device := DEVICE_BY_CODE.get(words.get(key, WORD_MAX))) and device.family in families
    ]
    if any(device.family is family for device in told):
        return None
    if told:
        return told[0]
    named = device_by_name(model)
    return named if named and named.family not in {None, family} else None


def device_by_code(words: RegisterWords) -> DeviceType | None:
    """Find the model by the type code it states; None when none was read or nobody knows it.

    Several models may share the code: the first that does is returned.
    """
    for key, families in _TYPE_CODES:
        device = DEVICE_BY_CODE.get(words.get(key, WORD_MAX))
        if device and device.family in families:
            return device
    return None


def device_by_name(text: str, family: Family | None = None) -> DeviceType | None:
    """Find the first model named in free text such as ``SH10RT (3587 = 0xE03)``; None when there is none."""
    for word in _MODEL_WORD.findall(text):
        device = device_called(word.rstrip(".-_"))
        if device and family in {None, device.family}:
            return device
    return None


def path_by_name(text: str) -> ConnectionPath:
    """Tell the connection path from free text such as ``internal LAN port``."""
    lowered = text.casefold()
    return next((path for mark, path in _PATH_MARKS if re.search(mark, lowered)), ConnectionPath.UNKNOWN)


def _type_code(words: RegisterWords, family: Family) -> int | None:
    key = next(key for key, families in _TYPE_CODES if family in families)
    code = words.get(key)
    return None if code in {None, WORD_MAX} else code


def _device_of_code(code: int | None, family: Family) -> DeviceType | None:
    device = DEVICE_BY_CODE.get(code) if code is not None else None
    return device if device and device.family is family else None


def _protocol(number: float | None) -> str | None:
    """A byte per field, in BCD as other readers take it: 0x01001100 is V1.0.11; else it is a number."""
    if not number:
        return None
    fields = int(number).to_bytes(4, "big")[:3]
    return "V" + ".".join(f"{byte:x}" if f"{byte:x}".isdecimal() else str(byte) for byte in fields)


def _has_neutral(output_type: str | None) -> bool | None:
    is_known = any((output_type or "").startswith(start) for start in _PHASES_OF_OUTPUT)
    return not output_type.startswith("3P3L") if output_type is not None and is_known else None


def _phases(output_type: str | None) -> int | None:
    if output_type is None:
        return None
    return next((n for mark, n in _PHASES_OF_OUTPUT.items() if output_type.startswith(mark)), None)


def _first(values: Mapping[str, _T], names: tuple[str, ...]) -> _T | None:
    return next((values[name] for name in names if name in values), None)
