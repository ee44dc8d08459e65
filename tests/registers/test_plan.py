"""Read plans: few requests, whole values, nothing refused twice."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from sungrow_lib.errors import UsageError
from sungrow_lib.quantities import QUANTITIES, Family, Tier
from sungrow_lib.registers.applies import ConnectionPath, DeviceContext
from sungrow_lib.registers.devices import DEVICE_BY_MODEL, DEVICE_TYPES
from sungrow_lib.registers.identity import IDENTITY_REGISTERS
from sungrow_lib.registers.map import RegisterMap
from sungrow_lib.registers.plan import ReadPlan
from sungrow_lib.registers.words import BLOCK_MAX, WORD_MAX, Block, RegisterWords, Space


def context(model: str, path: ConnectionPath) -> DeviceContext:
    return DeviceContext(DEVICE_BY_MODEL[model.casefold()], path)


LAN = context("SH8.0RT-20", ConnectionPath.LAN)
DONGLE = context("SH10RT", ConnectionPath.WINET_S)


def shown(plan: ReadPlan) -> list[str]:
    return [str(block) for block in plan.blocks]


def learnt(plan: ReadPlan, answers: set[int]) -> tuple[ReadPlan, list[Block]]:
    """Ask a device that refuses every request with a register outside ``answers``, until it refuses none."""
    refused: list[Block] = []
    while bad := next((block for block in plan.blocks if not set(block.numbers) <= answers), None):
        assert bad not in refused
        refused.append(bad)
        plan = plan.without(bad)
    return plan, refused


def test_a_hybrid_on_its_lan_port_is_read_in_four_requests() -> None:
    plan = ReadPlan.for_quantities(Family.SH, LAN)
    assert shown(plan) == [
        "input 13000..13047",
        "input 5003..5035",
        "input 5214..5242",
        "input 5601..5631",
    ]
    assert plan.fast == Block(Space.INPUT, 13000, 48)


def test_that_plan_brings_the_whole_fast_sample() -> None:
    names = {register.name for register in ReadPlan.for_quantities(Family.SH, LAN).registers}
    fields = [
        quantity.name
        for quantity in QUANTITIES
        if quantity.tier is Tier.FAST
        and any(source.register in names for item in quantity.sources.get(Family.SH, ()) for source in item)
    ]
    assert len(fields) == 41
    assert len(names) == 52


def test_slow_quantities_share_the_fast_ones_requests() -> None:
    both = ReadPlan.for_quantities(Family.SH, LAN, tiers=(Tier.FAST, Tier.SLOW))
    assert shown(both)[0] == "input 13000..13079"
    assert len(both.blocks) == 6


def test_holes_are_not_bridged_on_the_dongle() -> None:
    plan = ReadPlan.for_quantities(Family.SH, DONGLE)
    assert "input 5003..5021" in shown(plan)
    assert "input 5033..5035" in shown(plan)
    assert len(plan.blocks) == 7


def test_a_string_inverters_poll_is_dated_by_its_power() -> None:
    plan = ReadPlan.for_quantities(Family.SG, context("SG20RT", ConnectionPath.WINET_S))
    assert shown(plan) == [
        "input 5031..5038",
        "input 5003..5024",
        "input 5083..5100",
        "input 5144..5148",
    ]


def test_what_a_device_lacks_is_not_asked() -> None:
    names = {
        register.name
        for register in ReadPlan.for_quantities(
            Family.SH, context("SH6.0RS", ConnectionPath.WINET_S), tiers=tuple(Tier)
        ).registers
    }
    assert "mppt_2_voltage" in names
    assert names.isdisjoint({"mppt_3_voltage", "phase_b_voltage", "bms_alarm", "inverter_firmware"})


def test_quantities_can_be_chosen() -> None:
    plan = ReadPlan.for_quantities(Family.SH, DONGLE, names={"battery_power_w"})
    assert [register.name for register in plan.registers] == [
        "battery_power_signed",
        "power_flow_status",
        "battery_voltage",
        "battery_power",
        "battery_soc",
        "battery_soh",
        "total_active_power",
        "battery_capacity",
    ]


def test_the_first_register_of_a_feature_speaks_for_all() -> None:
    names = [register.name for register in RegisterMap.for_family(Family.SH) if register.feature]
    plan = ReadPlan.for_registers(Family.SH, names, LAN)
    features = {(register.space, register.feature) for register in plan.registers}
    plan, refused = learnt(plan, set())
    assert not plan.registers
    alone = [block for block in refused if any(block == register.block for (register,) in plan.wanted)]
    assert len(alone) == len(features)


def test_a_feature_whose_first_register_is_served_is_searched() -> None:
    names = [register.name for register in RegisterMap.for_family(Family.SH) if register.feature == "wallbox"]
    plan, _ = learnt(ReadPlan.for_registers(Family.SH, names, LAN), {*range(33541, 33551)} - {33545})
    assert {register.name for register in plan.registers} == {*names} - {"wallbox_user_current"}


def test_what_was_refused_of_a_feature_counts_for_every_plan_of_it() -> None:
    first = RegisterMap.for_family(Family.SH).by_name("forced_charging_enable")
    one = ReadPlan.for_registers(Family.SH, ["forced_charging_2_target_soc"], LAN)
    assert one.registers
    assert not one.without(first.block).registers


@pytest.mark.parametrize("family", Family)
def test_no_feature_stands_apart(family: Family) -> None:
    """A feature of one register says nothing: its name is a slip."""
    features = [register.feature for register in RegisterMap.for_family(family) if register.feature]
    assert all(features.count(feature) > 1 for feature in features)


def test_named_registers_are_planned_as_they_are() -> None:
    plan = ReadPlan.for_registers(Family.SH, IDENTITY_REGISTERS[Family.SH])
    assert shown(plan)[:2] == ["input 2582..2592", "input 4952..4983"]
    with pytest.raises(UsageError, match="no register 'nope'"):
        ReadPlan.for_registers(Family.SH, ["nope"])


def test_an_empty_plan_has_no_fast_block() -> None:
    plan = ReadPlan.for_registers(Family.SH, [])
    assert plan.blocks == ()
    assert plan.fast is None


def test_a_refused_bridge_is_asked_again_without_its_holes() -> None:
    plan = ReadPlan.for_quantities(Family.SH, LAN)
    after = plan.without(Block(Space.INPUT, 5003, 33))
    assert "input 5003..5005" in shown(after)
    assert "input 5033..5035" in shown(after)
    assert "input 5003..5035" not in shown(after)
    assert after.fast == plan.fast


def test_a_refused_run_is_halved_between_values() -> None:
    plan = ReadPlan.for_registers(Family.SH, ["load_power", "export_power", "daily_battery_charge_from_pv"])
    assert shown(plan) == ["input 13008..13012"]
    assert shown(plan.without(plan.blocks[0])) == ["input 13010..13012", "input 13008..13009"]


def test_a_refused_register_gives_way_to_its_next_best() -> None:
    plan = ReadPlan.for_quantities(Family.SH, DONGLE, names={"grid_frequency_hz"})
    assert shown(plan) == ["input 5242..5242"]
    plan = plan.without(plan.blocks[0])
    assert shown(plan) == ["input 5148..5148"]
    plan = plan.without(plan.blocks[0])
    assert shown(plan) == ["input 5036..5036"]
    assert plan.without(plan.blocks[0]).blocks == ()


@pytest.mark.parametrize(
    ("family", "neighbour"), [(Family.SH, "start_stop_sg_style"), (Family.SG, "start_stop")]
)
def test_a_clock_that_is_refused_is_not_asked_for_in_parts(family: Family, neighbour: str) -> None:
    plan = ReadPlan.for_quantities(family, DONGLE, tiers=[Tier.IDENTITY], names={"inverter_clock"})
    assert shown(plan) == ["holding 5000..5005"]
    assert plan.without(plan.blocks[0]).blocks == ()
    names = [row.name for row in plan.registers]
    both = ReadPlan.for_registers(family, [*names, neighbour])
    assert shown(both.without(Block(Space.HOLDING, 5000, 3))) == ["holding 5006..5006"]


def test_what_was_learnt_can_be_given_to_a_new_plan() -> None:
    first = ReadPlan.for_quantities(Family.SH, DONGLE)
    _, refused = learnt(first, set(range(13000, 13048)) | set(range(5003, 5022)))
    again = ReadPlan.for_quantities(Family.SH, DONGLE, refused=refused)
    assert all(set(block.numbers) <= {*range(13000, 13048), *range(5003, 5022)} for block in again.blocks)


def test_the_plan_is_stable() -> None:
    assert ReadPlan.for_quantities(Family.SH, LAN).blocks == ReadPlan.for_quantities(Family.SH, LAN).blocks
    assert ReadPlan.for_quantities(Family.SH, LAN) == ReadPlan.for_quantities(Family.SH, LAN)


contexts = st.builds(
    DeviceContext, st.none() | st.sampled_from(DEVICE_TYPES), st.sampled_from(ConnectionPath)
)
tiers = st.lists(st.sampled_from(Tier), min_size=1, unique=True)


def check_rules(plan: ReadPlan) -> None:
    numbers = [(block.space, number) for block in plan.blocks for number in block.numbers]
    assert len(numbers) == len(set(numbers)), "a register is asked twice"
    assert all(1 <= block.count <= BLOCK_MAX for block in plan.blocks)
    for register in plan.registers:
        holders = [block for block in plan.blocks if (register.space, register.number) in cells(block)]
        assert len(holders) == 1
        assert set(register.block.numbers) <= set(holders[0].numbers), "a value is split"
    for refused in plan.refused:
        assert not any(cells(refused) <= cells(block) for block in plan.blocks), "refused and asked again"


def test_a_hole_gives_way_to_what_else_may_have_the_value() -> None:
    plan = ReadPlan.for_quantities(Family.SH, LAN, names=["grid_frequency_hz"])
    [hole] = plan.blocks
    words = RegisterWords.from_block(hole, [WORD_MAX] * hole.count)
    beyond = plan.past_holes(words)
    assert [row.name for row in plan.registers] == ["grid_frequency_high_resolution"]
    assert [row.name for row in beyond.registers] == ["grid_frequency_alt"]
    assert beyond.past_holes(words) == beyond
    nothing_else = beyond.without(beyond.blocks[0]).without(Block(Space.INPUT, 5036, 1))
    assert nothing_else.blocks == ()
    both_gone = plan.without(beyond.blocks[0]).without(Block(Space.INPUT, 5036, 1))
    assert both_gone.past_holes(words).blocks == plan.blocks  # it may only be asleep


def cells(block: Block) -> set[tuple[Space, int]]:
    return {(block.space, number) for number in block.numbers}


@settings(max_examples=50)
@given(st.sampled_from(Family), contexts, tiers)
def test_every_plan_keeps_the_rules(family: Family, where: DeviceContext, chosen: list[Tier]) -> None:
    check_rules(ReadPlan.for_quantities(family, where, tiers=chosen))


@settings(max_examples=50)
@given(st.data(), st.sampled_from(Family))
def test_a_plan_of_any_registers_keeps_the_rules(data: st.DataObject, family: Family) -> None:
    names = st.sampled_from([register.name for register in RegisterMap.for_family(family)])
    check_rules(ReadPlan.for_registers(family, data.draw(st.lists(names, unique=True))))


@settings(max_examples=50)
@given(st.data(), contexts)
def test_learning_ends_with_everything_the_device_answers(data: st.DataObject, where: DeviceContext) -> None:
    plan = ReadPlan.for_quantities(Family.SH, where, tiers=(Tier.FAST, Tier.SLOW))
    missing = data.draw(st.sets(st.sampled_from([row.name for row in plan.registers]), max_size=8))
    gone = {n for row in plan.registers if row.name in missing for n in row.block.numbers}
    answers = {number for row in RegisterMap.for_family(Family.SH) for number in row.block.numbers} - gone
    after, _ = learnt(plan, answers)
    check_rules(after)
    kept = {row.name for row in after.registers}
    assert {row.name for row in plan.registers} - missing <= kept


@settings(max_examples=50)
@given(contexts)
def test_blocks_stand_in_wire_order_behind_the_fast_one(where: DeviceContext) -> None:
    rest = ReadPlan.for_quantities(Family.SH, where).blocks[1:]
    assert all(left.first < right.first for left, right in pairwise(rest))


def test_minus_one_watt_is_no_hole_and_never_moves_the_date_of_a_poll() -> None:
    """13010 = -1 W fills both words with 0xFFFF; it once made another block date the polls that followed."""
    minus_one = RegisterWords({(Space.INPUT, 13010): WORD_MAX, (Space.INPUT, 13011): WORD_MAX})
    known = DeviceContext(DEVICE_BY_MODEL["sh8.0rt-20"])
    for context in (known, DeviceContext()):
        plan = ReadPlan.for_quantities(Family.SH, context)
        assert plan.past_holes(minus_one) == plan
        assert plan.past_holes(minus_one).fast == plan.fast


def test_a_signed_register_gives_way_only_where_it_may_be_missing() -> None:
    current = RegisterMap.for_family(Family.SH).by_name("phase_a_current")
    minus_one = RegisterWords({(Space.INPUT, current.number): WORD_MAX})
    known = ReadPlan.for_quantities(Family.SH, DeviceContext(DEVICE_BY_MODEL["sh8.0rt-20"]))
    unknown = ReadPlan.for_quantities(Family.SH)
    assert known.past_holes(minus_one) == known
    assert current not in unknown.past_holes(minus_one).registers
