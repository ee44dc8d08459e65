"""Every device type Sungrow's documents list, by type code (input register 5000; 10710 on a battery).

Shared codes stand more than once: the first model of a code is the one shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sungrow_lib.quantities import Family


@dataclass(frozen=True, slots=True)
class DeviceType:
    """One model.

    Attributes:
        code: what the device says in its type code register.
        model: Sungrow's name for it.
        line: product line, such as ``SH-RT`` or ``SG-CX``.
        power_kw: nominal AC power by its name, in kW; None where it has none.
        trackers: number of MPP trackers; None where no document says.
        strings: strings per tracker; empty where no document says.
        phases: 1 or 3; None where no document says.
        source: the newest document that lists it, or the project that found it.
        notes: what to beware of.
    """

    code: int
    model: str
    line: str
    power_kw: float | None = None
    trackers: int | None = None
    strings: tuple[int, ...] = ()
    phases: int | None = None
    source: str = ""
    notes: str = ""

    @property
    def family(self) -> Family | None:
        """The register map it speaks; None for a logger, which has a map of its own."""
        return _FAMILY_OF_LINE.get(self.line.partition("-")[0])

    @property
    def has_battery(self) -> bool:
        """Whether a battery can be connected."""
        return self.family is Family.SH


_FAMILY_OF_LINE: Final = {
    "SH": Family.SH,
    "SG": Family.SG,
    "battery": Family.BATTERY,
    "energy manager": Family.IHM,
}

_Row = tuple[int, str, float | None, int | None, tuple[int, ...]]
"""Code, model, kW, trackers, strings per tracker."""


def _line(
    line: str, phases: int | None, rows: Iterable[_Row], *, source: str, notes: str = ""
) -> tuple[DeviceType, ...]:
    return tuple(
        DeviceType(code, model, line, power, trackers, strings, phases, source, notes)
        for code, model, power, trackers, strings in rows
    )


DEVICE_TYPES: Final[tuple[DeviceType, ...]] = (
    *_line(
        "SG-CX",
        3,
        (
            (0x249C, "SG36CX-P3-CN", 36, 4, (2, 2, 2, 1)),
            (0x249D, "SG40CX-P3-CN", 40, 4, (2, 2, 2, 1)),
            (0x249E, "SG50CX-P3-CN", 50, 4, (2,) * 4),
            (0x2C00, "SG33CX", 33, 3, (2, 2, 2)),
            (0x2C01, "SG40CX", 40, 4, (2,) * 4),
            (0x2C02, "SG50CX", 50, 5, (2,) * 5),
            (0x2C05, "SG100CX", 100, 9, (2,) * 9),
            (0x2C06, "SG110CX", 110, 9, (2,) * 9),
            (0x2C0A, "SG36CX-US", 36, 4, (2,) * 4),
            (0x2C0B, "SG60CX-US", 60, 6, (2,) * 6),
            (0x2C10, "SG30CX", 30, 3, (2, 2, 2)),
            (0x2C12, "SG100CX-JP", 100, 12, (2,) * 12),
            (0x2C15, "SG25CX-SA", 25, 3, (2, 2, 2)),
            (0x2C21, "SG49.5CX-JP", 49.5, 6, (2,) * 6),
            (0x2C22, "SG75CX", 75, 9, (2,) * 9),
            (0x2C23, "SG30CX-P2-CN", 30, 3, (2, 2, 2)),
            (0x2C24, "SG40CX-P2-CN", 40, 3, (2, 2, 2)),
            (0x2C2C, "SG110CX-P2-CN", 110, 9, (2,) * 9),
            (0x2C2D, "SG125CX-P2", 125, 12, (2,) * 12),
            (0x2C2F, "SG33CX-P2-CN", 33, 3, (2, 2, 2)),
            (0x2C30, "SG36CX-P2-CN", 36, 3, (2, 2, 2)),
            (0x2C31, "SG50CX-P2-CN", 50, 4, (2,) * 4),
            (0x2C32, "SG50CX-P2", 50, 4, (2,) * 4),
            (0x2C33, "SG25CX-P2", 25, 3, (2, 2, 2)),
            (0x2C34, "SG30CX-P2", 30, 3, (2, 2, 2)),
            (0x2C35, "SG33CX-P2", 33, 3, (2, 2, 2)),
            (0x2C36, "SG36CX-P2", 36, 4, (2,) * 4),
            (0x2C37, "SG40CX-P2", 40, 4, (2,) * 4),
            (0x2C3F, "SG75CX-P2", 75, 8, (2,) * 8),
            (0x2C40, "SG110CX-P2", 110, 12, (2,) * 12),
            (0x2C4A, "SG36CX-P2H-CN", 36, 3, (2, 1, 1)),
            (0x2C4B, "SG40CX-P2H-CN", 40, 3, (2, 1, 1)),
            (0x2C4C, "SG50CX-P2H-CN", 50, 4, (2, 1, 1, 1)),
            (0x2C4D, "SG110CX-P2H-CN", 110, 9, (2, 2, 1, 1, 1, 1, 1, 1, 1)),
            (0x2C53, "SG15CX-P2-LV", 15, 2, (4, 4)),
            (0x2C54, "SG20CX-P2-LV", 20, 3, (6, 6, 6)),
            (0x2C55, "SG25CX-P2-LV", 25, 3, (6, 6, 6)),
            (0x2C57, "SG150CX", 150, 7, (3,) * 7),
            (0x2C58, "SG150CX-CN-V12", 150, 7, (3,) * 7),
            (0x2C59, "SG150CX-CN-V11", 150, 7, (3,) * 7),
            (0x2C60, "SG50CX-P2-JP", 50, 4, (2,) * 4),
            (0x2C75, "SG75CX-LV", 75, 7, (3,) * 7),
            (0x2C7C, "SG125CX-P3", 125, 10, (2,) * 10),
            (0x2C7D, "SG110CX-P3-CN A", 110, 8, (2,) * 8),
            (0x2C7E, "SG110CX-P3-CN", 110, 8, (2,) * 8),
            (0x2C7F, "SG100CX-P2", 100, 12, (2,) * 12),
            (0x2C80, "SG50CX-P2-LV", 50, 8, (2,) * 8),
            (0x2C82, "SG100CX-P2-CN", 100, 9, (2,) * 9),
            (0x2C85, "SG100CX-P3-CN A", 100, 8, (2,) * 8),
            (0x2C86, "SG100CX-P3-CN", 100, 8, (2,) * 8),
            (0x2C89, "SG80CX-P3", 80, 10, (2,) * 10),
            (0x2C8A, "SG110CX-P3", 110, 10, (2,) * 10),
        ),
        source="string protocol V1.1.80",
    ),
    *_line(
        "SG-CX",
        3,
        ((0x2C12, "SG100CX", 100, 12, (2,) * 12),),
        source="string protocol V1.1.53",
    ),
    *_line(
        "SG-HX",
        3,
        (
            (0x2C0C, "SG250HX", 250, 12, (2,) * 12),
            (0x2C11, "SG250HX-US", 250, 12, (2,) * 12),
            (0x2C13, "SG250HX-IN", 250, 12, (2,) * 12),
            (0x2C1C, "SG125HX", 125, 6, (2,) * 6),
            (0x2C25, "SG125HX-JP", 125, 12, (2,) * 12),
            (0x2C26, "SG320HX", 320, 12, (2,) * 12),
            (0x2C27, "SG350HX", 350, 12, (2,) * 12),
            (0x2C43, "SG285HX", 285, 12, (2,) * 12),
            (0x2C46, "SG333HX", 333, 12, (2,) * 12),
            (0x2C4F, "SG350HX-US", 350, 12, (2,) * 12),
        ),
        source="string protocol V1.1.53",
    ),
    *_line(
        "SG-K-D",
        1,
        (
            (0x0126, "SG5K-D", 5, 2, ()),
            (0x2403, "SG8K-D", 8, None, ()),
        ),
        source="AlexanderLanin/homeassistant-sungrow",
        notes="not in the official tables",
    ),
    *_line(
        "SG-KTL",
        3,
        (
            (0x0026, "SG10KTL", 10, 2, (3, 3)),
            (0x0027, "SG30KTL", 30, 2, (4, 4)),
            (0x0028, "SG15KTL", 15, 2, (3, 3)),
            (0x0029, "SG12KTL", 12, 2, (3, 3)),
            (0x002A, "SG20KTL", 20, 2, (3, 3)),
            (0x002C, "SG30KU", 30, 2, (5, 5)),
            (0x002D, "SG36KTL", 36, 2, (5, 5)),
            (0x002E, "SG36KU", 36, 2, (5, 5)),
            (0x002F, "SG40KTL", 40, 2, (4, 4)),
            (0x0070, "SG30KTL-M-V31", 30, 3, (3, 3, 2)),
            (0x0072, "SG34KJ", 34, 2, (4, 4)),
            (0x0073, "LP_P34KSG", 34, 1, (4,)),
            (0x0074, "SG36KTL-M", 36, 3, (3, 3, 2)),
            (0x010F, "SG60KTL", 60, 1, (14,)),
            (0x0116, "SG50KTL", 50, 3, (3, 3, 3)),
            (0x011B, "SG50KTL-M", 50, 4, (3,) * 4),
            (0x011B, "SG50KTL-M-20", 50, 4, (3,) * 4),
            (0x0131, "SG60KTL-M", 60, 4, (4,) * 4),
            (0x0132, "SG60KU-M", 60, 4, (4,) * 4),
            (0x0134, "SG33KTL-M", 33, 3, (3, 3, 2)),
            (0x0135, "SG40KTL-M", 40, 3, (3, 3, 3)),
            (0x0136, "SG60KU", 60, 1, (8,)),
            (0x0137, "SG49K5J", 49.5, 4, (3,) * 4),
            (0x0138, "SG80KTL", 80, 1, (18,)),
            (0x0138, "SG80KTL-20", 80, 1, (18,)),
            (0x0139, "SG80KTL-M", 80, 4, (4,) * 4),
            (0x013C, "SG12KTL-M", 12, 2, (2, 2)),
            (0x013D, "SG33K3J", 33.3, 3, (3, 3, 3)),
            (0x013E, "SG10KTL-M", 10, 2, (1, 1)),
            (0x013F, "SG8KTL-M", 8, 2, (1, 1)),
            (0x0141, "SG30KTL-M", 30, 3, (3, 3, 2)),
            (0x0142, "SG15KTL-M", 15, 2, (2, 2)),
            (0x0143, "SG20KTL-M", 20, 2, (2, 2)),
            (0x0147, "SG5KTL-MT", 5, 2, (1, 1)),
            (0x0148, "SG6KTL-MT", 6, 2, (1, 1)),
            (0x0149, "SG17KTL-M", 17, 2, (2, 2)),
            (0x2C0F, "SG10KTL-MT", 10, 2, (2, 2)),
        ),
        source="string protocol V1.1.80",
    ),
    *_line(
        "SG-KTL",
        3,
        (
            (0x013B, "SG125HV", 125, 1, (1,)),
            (0x014C, "SG111HV", 111, 1, (1,)),
            (0x2C03, "SG125HV-20", 125, 1, (1,)),
        ),
        source="string protocol V1.1.53",
    ),
    *_line(
        "SG-RS",
        1,
        (
            (0x2600, "SG2.0RS-S", 2, 1, (1,)),
            (0x2601, "SG2.5RS-S", 2.5, 1, (1,)),
            (0x2602, "SG3.0RS-S", 3, 1, (1,)),
            (0x2603, "SG3.0RS", 3, 2, (1, 1)),
            (0x2604, "SG3.6RS", 3.6, 2, (1, 1)),
            (0x2605, "SG4.0RS", 4, 2, (1, 1)),
            (0x2606, "SG5.0RS", 5, 2, (1, 1)),
            (0x2607, "SG6.0RS", 6, 2, (1, 1)),
            (0x2607, "SG6.0RS-CN", 6, 2, (1, 1)),
            (0x2608, "SG8.0RS", 8, 3, (1, 1, 1)),
            (0x2608, "SG8.0RS-CN", 8, 3, (1, 1, 1)),
            (0x2609, "SG10RS", 10, 3, (1, 1, 1)),
            (0x2609, "SG10RS-CN", 10, 3, (1, 1, 1)),
            (0x260D, "SG5.5RS-JP", 5.5, 3, (3, 3, 3)),
            (0x260E, "SG9.0RS", 9, 3, (1, 1, 1)),
            (0x260F, "SG5.0RS-ADA", 5, 3, (1, 1, 1)),
            (0x2611, "SG8.0RS-L", 8, 2, (2, 1)),
            (0x2612, "SG3.0RS-L", 3, 1, (1,)),
            (0x2613, "SG4.0RS-L", 4, 2, (1, 1)),
            (0x2614, "SG5.0RS-L", 5, 2, (1, 1)),
            (0x2615, "SG6.0RS-L", 6, 2, (1, 1)),
            (0x2616, "SG9.0RS-L", 9, 3, (1, 1, 1)),
            (0x2617, "SG10RS-L", 10, 3, (1, 1, 1)),
            (0x2618, "SG3.3RS-L", 3.3, 1, (1,)),
            (0x2619, "SG4.6RS-L", 4.6, 2, (1, 1)),
            (0x261A, "SG7.5RS-L", 7.5, 2, (2, 1)),
            (0x2622, "SG3.0RS-L2", 3, 1, (1,)),
            (0x2623, "SG4.0RS-L2", 4, 2, (1, 1)),
            (0x2624, "SG5.0RS-L2", 5, 2, (1, 1)),
            (0x2625, "SG6.0RS-L2", 6, 2, (1, 1)),
            (0x2626, "SG7.5RS-L2", 7.5, 3, (1, 1, 1)),
            (0x2627, "SG8.0RS-L2", 8, 3, (1, 1, 1)),
            (0x2628, "SG10RS-L2", 10, 3, (1, 1, 1)),
            (0x2629, "SG3.0RS-L2-IN", 3, 1, (1,)),
            (0x262A, "SG3.3RS-L2-IN", 3.3, 1, (1,)),
            (0x262C, "SG3.0RS-L2-S", 3, 1, (1,)),
            (0x262D, "SG3.3RS-L2-S", 3.3, 1, (1,)),
            (0x262E, "SG4.0RS-L2-S", 4, 1, (1,)),
        ),
        source="string protocol V1.1.80",
    ),
    *_line(
        "SG-RT",
        3,
        (
            (0x2430, "SG5.0RT", 5, 2, (1, 1)),
            (0x2430, "SG5.0RT-20", 5, 2, (1, 1)),
            (0x2431, "SG6.0RT", 6, 2, (1, 1)),
            (0x2431, "SG6.0RT-20", 6, 2, (1, 1)),
            (0x2432, "SG8.0RT", 8, 2, (2, 1)),
            (0x2432, "SG8.0RT-20", 8, 2, (1, 1)),
            (0x2433, "SG10RT", 10, 2, (2, 1)),
            (0x2433, "SG10RT-20", 10, 2, (1, 1)),
            (0x2434, "SG12RT", 12, 2, (2, 1)),
            (0x2434, "SG12RT-20", 12, 2, (1, 1)),
            (0x2435, "SG15RT", 15, 2, (2, 2)),
            (0x2435, "SG15RT-20", 15, 2, (2, 1)),
            (0x2436, "SG17RT", 17, 2, (2, 2)),
            (0x2436, "SG17RT-20", 17, 2, (2, 2)),
            (0x2437, "SG20RT", 20, 2, (2, 2)),
            (0x2437, "SG20RT-20", 20, 2, (2, 2)),
            (0x2438, "SG22RT", 22, 2, (2, 2)),
            (0x2438, "SG22RT-20", 22, 2, (2, 2)),
            (0x2439, "SG25RT", 25, 2, (2, 2)),
            (0x2439, "SG25RT-20", 25, 2, (2, 2)),
            (0x243A, "SG11RT-20", 11, 2, (1, 1)),
            (0x243B, "SG23RT", 23, 2, (2, 2)),
            (0x243B, "SG23RT-20", 23, 2, (2, 2)),
            (0x243C, "SG7.0RT", 7, 2, (2, 1)),
            (0x243C, "SG7.0RT-20", 7, 2, (1, 1)),
            (0x243D, "SG3.0RT", 3, 2, (1, 1)),
            (0x243D, "SG3.0RT-20", 3, 2, (1, 1)),
            (0x243E, "SG4.0RT", 4, 2, (1, 1)),
            (0x243E, "SG4.0RT-20", 4, 2, (1, 1)),
            (0x2440, "SG5.0RT-P2", 5, 2, (1, 1)),
            (0x2441, "SG6.0RT-P2", 6, 2, (1, 1)),
            (0x2442, "SG8.0RT-P2", 8, 2, (2, 1)),
            (0x2443, "SG10RT-P2", 10, 2, (2, 1)),
            (0x2444, "SG12RT-P2", 12, 2, (2, 1)),
            (0x2445, "SG15RT-P2", 15, 2, (2, 2)),
            (0x2446, "SG17RT-P2", 17, 2, (2, 2)),
            (0x2447, "SG20RT-P2", 20, 2, (2, 2)),
            (0x2449, "SG25RT-P2", 25, 2, (2, 2)),
            (0x244B, "SG23RT-P2", 23, 2, (2, 2)),
            (0x244C, "SG7.0RT-P2", 7, 2, (2, 1)),
            (0x244D, "SG3.0RT-P2", 3, 2, (1, 1)),
            (0x244E, "SG4.0RT-P2", 4, 2, (1, 1)),
            (0x247D, "SG5.0RT", 5, 2, (1, 1)),
            (0x247E, "SG6.0RT", 6, 2, (1, 1)),
            (0x247F, "SG8.0RT", 8, 2, (2, 1)),
            (0x2480, "SG10RT", 10, 2, (2, 1)),
            (0x2481, "SG12RT", 12, 2, (2, 1)),
            (0x2482, "SG15RT", 15, 2, (2, 2)),
            (0x2483, "SG17RT", 17, 2, (2, 2)),
            (0x2484, "SG20RT", 20, 2, (2, 2)),
            (0x2485, "SG25RT", 25, 2, (2, 2)),
            (0x2486, "SG23RT", 23, 2, (2, 2)),
            (0x2487, "SG7.0RT", 7, 2, (2, 1)),
            (0x2488, "SG3.0RT", 3, 2, (1, 1)),
            (0x2489, "SG4.0RT", 4, 2, (1, 1)),
        ),
        source="string protocol V1.1.80",
    ),
    *_line(
        "SG-T-CN",
        3,
        (
            (0x2473, "SG10T-CN", 10, 2, (1, 1)),
            (0x2474, "SG12T-CN", 12, 2, (1, 1)),
            (0x2475, "SG15T-CN", 15, 2, (1, 1)),
            (0x2476, "SG17T-CN", 17, 2, (2, 1)),
            (0x2477, "SG20T-CN", 20, 2, (2, 1)),
            (0x2479, "SG25T-CN", 25, 2, (2, 1)),
            (0x247B, "SG23T-CN", 23, 2, (2, 1)),
            (0x247C, "SG30T-CN", 30, 2, (2, 2)),
            (0x2497, "SG20T-P2-CN", 20, 2, (2, 2)),
            (0x2498, "SG23T-P2-CN", 23, 2, (2, 2)),
            (0x2499, "SG25T-P2-CN", 25, 2, (2, 2)),
            (0x249A, "SG30T-P2-CN", 30, 3, (2, 2, 1)),
            (0x249B, "SG33T-P2-CN", 33, 3, (2, 2, 1)),
        ),
        source="string protocol V1.1.80",
    ),
    *_line(
        "SG-TX",
        3,
        (
            (0x2C08, "SG136TX", 136, 12, (2,) * 12),
            (0x2C72, "SG40TX", 40, 6, (2,) * 6),
            (0x2C73, "SG50TX", 50, 6, (2,) * 6),
            (0x2C74, "SG60TX", 60, 6, (2,) * 6),
        ),
        source="string protocol V1.1.80",
    ),
    *_line(
        "SH-CX",
        3,
        (
            (0x0E39, "SH100CX", 100, 10, (2,) * 10),
            (0x0E3A, "SH110CX", 110, 10, (2,) * 10),
            (0x0E3D, "SH125CX", 125, 10, (2,) * 10),
            (0x0E51, "SH50CX", 50, 10, (2,) * 5),
            (0x0E52, "SH80CX", 80, 10, (2,) * 10),
        ),
        source="hybrid protocol V1.1.16",
    ),
    *_line(
        "SH-K",
        1,
        (
            (0x0D03, "SH5K-V13", 5, 2, ()),
            (0x0D06, "SH3K6", 3.6, 2, ()),
            (0x0D07, "SH4K6", 4.6, 2, ()),
            (0x0D09, "SH5K-20", 5, 2, ()),
            (0x0D0A, "SH3K6-30", 3.6, 2, ()),
            (0x0D0B, "SH4K6-30", 4.6, 2, ()),
            (0x0D0C, "SH5K-30", 5, 2, ()),
        ),
        source="hybrid protocol V1.0.20",
    ),
    *_line(
        "SH-RL",
        None,
        (
            (0x0D27, "MG5RL", 5, 2, (1, 1)),
            (0x0D28, "MG6RL", 6, 2, (1, 1)),
            (0x0D29, "MG8RL", 8, 3, (1, 1, 1)),
            (0x0D2A, "MG10RL", 10, 3, (1, 1, 1)),
            (0x0D2F, "MG12RL", 12, 3, (1, 1, 1)),
            (0x0D31, "MG7.5RL", 7.5, 3, (1, 1, 1)),
        ),
        source="hybrid protocol V1.1.16",
    ),
    *_line(
        "SH-RL",
        1,
        (
            (0x0D2B, "SH5RL", 5, 2, (1, 1)),
            (0x0D2C, "SH6RL", 6, 2, (1, 1)),
            (0x0D2D, "SH8RL", 8, 3, (1, 1, 1)),
            (0x0D2E, "SH10RL", 10, 3, (1, 1, 1)),
            (0x0D41, "SH3RL", 3, 2, (1, 1)),
            (0x0D42, "SH3.6RL", 3.6, 2, (1, 1)),
            (0x0D43, "SH4RL", 4, 2, (1, 1)),
        ),
        source="hybrid protocol V1.1.16",
    ),
    *_line(
        "SH-RS",
        1,
        (
            (0x0D0D, "SH3.6RS", 3.6, 2, (1, 1)),
            (0x0D0F, "SH5.0RS", 5, 2, (1, 1)),
            (0x0D10, "SH6.0RS", 6, 2, (1, 1)),
            (0x0D17, "SH3.0RS", 3, 2, (1, 1)),
            (0x0D18, "SH4.0RS", 4, 2, (1, 1)),
            (0x0D1A, "SH8.0RS", 8, 4, (1,) * 4),
            (0x0D1B, "SH10RS", 10, 4, (1,) * 4),
        ),
        source="hybrid protocol V1.1.16",
    ),
    *_line(
        "SH-RS",
        1,
        ((0x0D0E, "SH4.6RS", 4.6, 2, ()),),
        source="hybrid protocol V1.0.20",
    ),
    *_line(
        "SH-RT",
        3,
        (
            (0x0E00, "SH5.0RT", 5, 2, (1, 1)),
            (0x0E01, "SH6.0RT", 6, 2, (1, 1)),
            (0x0E02, "SH8.0RT", 8, 2, (1, 1)),
            (0x0E03, "SH10RT", 10, 2, (1, 1)),
            (0x0E08, "SH5.0RT-V122", 5, 2, (1, 1)),
            (0x0E09, "SH6.0RT-V122", 6, 2, (1, 1)),
            (0x0E0A, "SH8.0RT-V122", 8, 2, (1, 1)),
            (0x0E0B, "SH10RT-V122", 10, 2, (1, 1)),
            (0x0E0C, "SH5.0RT-V112", 5, 2, (1, 1)),
            (0x0E0D, "SH6.0RT-V112", 6, 2, (1, 1)),
            (0x0E0E, "SH8.0RT-V112", 8, 2, (1, 1)),
            (0x0E0F, "SH10RT-V112", 10, 2, (1, 1)),
            (0x0E10, "SH5.0RT-20", 5, 2, (1, 1)),
            (0x0E11, "SH6.0RT-20", 6, 2, (1, 1)),
            (0x0E12, "SH8.0RT-20", 8, 2, (1, 1)),
            (0x0E13, "SH10RT-20", 10, 2, (1, 1)),
        ),
        source="hybrid protocol V1.1.16",
    ),
    *_line(
        "SH-T",
        3,
        (
            (0x0E20, "SH5T", 5, 2, (1, 1)),
            (0x0E21, "SH6T", 6, 2, (1, 1)),
            (0x0E22, "SH8T", 8, 2, (1, 1)),
            (0x0E23, "SH10T", 10, 2, (2, 1)),
            (0x0E24, "SH12T", 12, 2, (2, 1)),
            (0x0E25, "SH15T", 15, 3, (2, 2, 1)),
            (0x0E26, "SH20T", 20, 3, (2, 2, 1)),
            (0x0E28, "SH25T", 25, 3, (2, 2, 1)),
        ),
        source="hybrid protocol V1.1.16",
    ),
    *_line(
        "battery",
        None,
        (
            (0x20E6, "SBR064", None, None, ()),
            (0x20E7, "SBR096", None, None, ()),
            (0x20E8, "SBR128", None, None, ()),
            (0x20E9, "SBR160", None, None, ()),
            (0x20EA, "SBR192", None, None, ()),
            (0x20EB, "SBR224", None, None, ()),
            (0x20EC, "SBR256", None, None, ()),
        ),
        source="theunknown86/unknown_sungrow",
        notes="read on the battery unit, document register 10710",
    ),
    *_line(
        "energy manager",
        None,
        ((0x072A, "iHomeManager", None, None, ()),),
        source="iHM protocol V1.0.2",
        notes="register 8000 on unit 247",
    ),
    *_line(
        "logger",
        None,
        (
            (0x0705, "Logger3000", None, None, ()),
            (0x0710, "Logger1000", None, None, ()),
            (0x0718, "Logger4000", None, None, ()),
        ),
        source="Voyanti/ha-sungrow",
        notes="register 8000 on unit 247",
    ),
)
"""All of them, by product line."""

DEVICE_BY_CODE: Final[Mapping[int, DeviceType]] = {device.code: device for device in reversed(DEVICE_TYPES)}
"""The first model of each code."""

DEVICE_BY_MODEL: Final[Mapping[str, DeviceType]] = {
    device.model.casefold(): device for device in reversed(DEVICE_TYPES)
}
"""By name in lower case; names of several codes give the first."""

_BATTERY_NAME: Final = re.compile(r"sb[rh]\d{2,3}", re.IGNORECASE)
_CODE_UNKNOWN: Final = 0xFFFF
"""Not-available word: no device has it for a type code."""


def device_called(name: str) -> DeviceType | None:
    """Return the model of this name, in any case of letters; None when there is none.

    No document lists the type codes of the SBH batteries; their names alone make them known models.
    """
    listed = DEVICE_BY_MODEL.get(name.casefold())
    if listed or not _BATTERY_NAME.fullmatch(name):
        return listed
    return DeviceType(_CODE_UNKNOWN, name.upper(), "battery", notes="in no list of type codes")
