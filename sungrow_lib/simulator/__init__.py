"""Inverters to try everything on: register images of real devices, brought to life by a modelled house."""

from __future__ import annotations

from typing import Final

from sungrow_lib.simulator.images import IMAGES, LivingInverter, living_inverter

MODELS: Final = tuple(IMAGES)
"""Models that can be simulated without a capture."""

__all__ = ["MODELS", "LivingInverter", "living_inverter"]
