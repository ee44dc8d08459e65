"""Whole captures, which are no part of the project: their names, where somebody put them beside it."""

from __future__ import annotations

from typing import Final

FILES: Final = (
    "sg20rt_solariot70_rebuilt_input.json",
    "sg250hx_plant_unit1_input.json",
    "sg250hx_plant_unit2_input.json",
    "sg250hx_plant_unit3_input.json",
    "sg250hx_plant_unit4_input.json",
    "sg250hx_plant_unit5_input.json",
    "sg3.0rs_403_holding.json",
    "sg60ku-m_official_example_input.json",
    "sh-rt_evcc18473_charging_input.json",
    "sh10rt_pysungrow_ident_input.json",
    "sh25t_official_example_input.json",
    "sh8.0rt-20_master_holding.json",
    "sh8.0rt-20_master_input.json",
    "sh8.0rt-20_slave2_holding.json",
    "sh8.0rt-20_slave2_input.json",
    "sh8.0rt-20_slave_holding.json",
    "sh8.0rt-20_slave_input.json",
)
"""All of them; each repeats the figures of its source."""
