"""Registers to a sample: what the values mean, with one sign on every model, firmware and path.

The normalizer is pure. Which register supplies which quantity stands in
:data:`~sungrow_lib.quantities.QUANTITIES`; here are only the judgements no table can hold: which way the
battery flows, whether there is a battery or a meter at all, and which alarms are active.
"""

from sungrow_lib.normalizer.hybrid import rests_on_firmware, shows_signed_battery
from sungrow_lib.normalizer.sample import Normalizer

__all__ = ["Normalizer", "rests_on_firmware", "shows_signed_battery"]
