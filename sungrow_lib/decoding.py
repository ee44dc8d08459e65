"""What a capture says: the device, its registers by name, and the sample, as JSON types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from sungrow_lib.capture import Capture
from sungrow_lib.errors import UnknownFamilyError, UsageError
from sungrow_lib.normalizer import Normalizer
from sungrow_lib.quantities import QUANTITIES, Family, QuantityKind, Tier
from sungrow_lib.registers.identity import (
    Identity,
    device_of_another_family,
    family_of,
    identify,
    path_by_name,
)
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.model import Value
from sungrow_lib.registers.variants import signs_battery
from sungrow_lib.registers.words import RegisterWords
from sungrow_lib.sample import SungrowSample, format_ts

_A_BATTERY: Final = Identity(family=Family.BATTERY)
_ITS_BATTERYS: Final = tuple(
    quantity.name
    for quantity in QUANTITIES
    if Family.BATTERY in quantity.sources
    and quantity.kind is not QuantityKind.CODES
    and quantity.tier is not Tier.IDENTITY
)
"""What a battery tells of a hybrid, as it does while both are polled."""

_INVERTERS: Final = frozenset({Family.SH, Family.SG})


def decoded(capture: Capture, family: Family | None = None) -> dict[str, Any]:
    """Return ``{"device", "registers", "sample"}`` of a capture, as JSON types.

    Names of sample values that can hardly be true are added as ``"implausible"``, where there are any.

    Args:
        capture: what was read.
        family: register map to use; None goes by the type code, then by the capture's model.

    Raises:
        UnknownFamilyError: neither says which family it is.
        UsageError: the type code, or the capture's model, says that it is of another family.
    """
    if family is not None:
        refuse_family("the capture", family, capture.words, capture.model)
    family = family or family_of(capture.words, capture.model)
    if family is None:
        raise UnknownFamilyError
    identity = identify(
        capture.words, family=family, model=capture.model, path=path_by_name(capture.connection)
    )
    sample = _sample(identity, capture)
    answer: dict[str, Any] = {
        "device": _device(identity, capture),
        "registers": _registers(identity, capture),
        "sample": sample,
    }
    if implausible := implausible_fields(sample):
        answer["implausible"] = implausible
    return answer


def implausible_fields(sample: Mapping[str, Any]) -> list[str]:
    """Name the values of a sample that can hardly be true; they are kept, and marked."""
    return [
        quantity.name
        for quantity in QUANTITIES
        if quantity.is_numeric and not all(map(quantity.is_plausible, _numbers(sample.get(quantity.name))))
    ]


def _numbers(value: object) -> list[int | float]:
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, int | float)]


def _device(identity: Identity, capture: Capture) -> dict[str, Any]:
    device = identity.device
    return {
        "family": identity.family,
        "model": identity.model,
        "type_code": None if identity.type_code is None else f"0x{identity.type_code:04X}",
        "serial": identity.serial,
        "firmware": identity.firmware or capture.firmware or None,
        "protocol_version": identity.protocol,
        "nominal_power_kw": None if identity.nominal_kw is None else float(identity.nominal_kw),
        "phases": identity.phases,
        "trackers": device.trackers if device else None,
        "strings_per_tracker": list(device.strings) or None if device else None,
        "takes_battery": device.has_battery if device and device.family in _INVERTERS else None,
        "path": identity.path,
        "unit_id": capture.unit_id,
    }


def _registers(identity: Identity, capture: Capture) -> dict[str, Value | None]:
    values = RegisterMap.for_family(identity.family).decode(capture.words, identity.context)
    if identity.family is Family.SH:  # a hybrid's capture may hold the registers of its battery, too
        values = RegisterMap.for_family(Family.BATTERY).decode(capture.words) | values
    return values


def _sample(identity: Identity, capture: Capture) -> dict[str, Any]:
    if signs_battery(capture.firmware):  # what was read may be of the certification, and older
        identity = replace(identity, firmware=capture.firmware)
    values = Normalizer("", identity).values(capture.words, firmware=True)
    if identity.family is Family.SH:
        values |= _of_its_battery(values, capture.words)
    known = {
        **values,
        "device_id": capture.device_id,
        "ts": format_ts(capture.ts) if capture.ts else None,
        "sample_count": 1,
    }
    return {name: known.get(name) for name in SungrowSample.model_fields}


def _of_its_battery(values: Mapping[str, Any], words: RegisterWords) -> dict[str, Any]:
    """What only the battery's own registers say, where a capture of a hybrid holds them."""
    battery = Normalizer("", _A_BATTERY).values(words)
    return {name: battery[name] for name in _ITS_BATTERYS if values[name] is None}


def refuse_family(who: str, family: Family, words: RegisterWords, model: str = "") -> None:
    """Refuse to read words with the map of another family: every value would be wrong.

    Args:
        who: says what it is.
        family: what the user named.
        words: what was read.
        model: what people call the device.

    Raises:
        UsageError: it says that it is something else.
    """
    other = device_of_another_family(words, family, model)
    if other is not None:
        raise UsageError(
            f"{who} says that {other.model} is of family {other.family}, not {family}; "
            f"leave --family {family} out"
        )
