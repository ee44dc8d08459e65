"""The web page in a real browser, over real TLS, on a real server and database."""

from __future__ import annotations

import csv
import json
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped] # it has no types
from playwright.sync_api import Page, expect

from sungrow_lib.sample import format_ts
from tests.dashboard.conftest import EMPTY_TOKEN, NAMES, RAW_DAYS, TOKEN, DashboardServer, OpenPage

TITLES = {"Produced": "pv_kwh", "Consumed": "load_kwh", "Bought": "import_kwh", "Sold": "export_kwh"}
HOUSE = "of=device%3Ahouse"
LIVELY = "#/now?of=device%3Alively"


def flow(page: Page) -> str:
    """What the picture of the moment says."""
    return page.get_by_role("img", name="Energy flow").get_attribute("aria-label") or ""


def tile(page: Page, title: str) -> str:
    return page.locator(".tile", has_text=title).locator("dd").inner_text()


def kwh(value: float) -> str:
    return f"{value:.1f} kWh" if value < 1000 else f"{value:,.0f} kWh"


# ------------------------------------------------------------------------------------------- now


def test_a_reading_is_on_the_screen_as_soon_as_it_is_stored(
    server: DashboardServer, open_page: OpenPage
) -> None:
    server.ingest(
        pv_power_w=3210, load_power_w=900, battery_power_w=1500, battery_soc_pct=64.5, export_power_w=810
    )
    page = open_page(LIVELY)
    picture = page.get_by_role("img", name="Energy flow")
    expect(picture).to_have_attribute(
        "aria-label",
        "Energy flow: Sun 3.21 kW, House 900 W, Battery charging 1.50 kW, Battery 65 %, Grid selling 810 W",
    )
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    server.ingest(pv_power_w=4560, load_power_w=900, battery_power_w=-250, export_power_w=-30)
    expect(page.locator('[data-part="sun"]')).to_have_text("4.56 kW")
    expect(page.locator('[data-of="battery"].wire')).to_have_attribute("data-runs", "in")
    expect(page.locator('[data-of="grid"].wire')).to_have_attribute("data-runs", "in")
    expect(page.locator('[data-part="soc"]')).to_have_text("65 %")  # not read now: the last known value
    assert not [url for url in asked if "/realtime" in url], "it came by the stream, nobody asked"
    expect(page.locator(".state").first).to_contain_text("Live")


def test_what_is_unknown_is_not_shown_as_zero(server: DashboardServer, open_page: OpenPage) -> None:
    server.ask(
        "POST",
        "/v1/ingest",
        {
            "samples": [
                {
                    "device_id": "lonely",
                    "ts": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                    "pv_power_w": 0,
                    "active_power_w": 0,
                }
            ]
        },
    )
    page = open_page("#/now?of=device%3Alonely")
    expect(page.locator('[data-part="sun"]')).to_have_text("0 W")
    assert "Battery" not in flow(page)
    assert "House" not in flow(page)
    expect(page.locator(".tile", has_text="Consumed")).to_have_count(0)


def test_silence_is_stale_and_the_last_values_stay(server: DashboardServer, open_page: OpenPage) -> None:
    server.ingest("house", 30, pv_power_w=700)
    page = open_page(f"#/now?{HOUSE}")
    expect(page.locator(".moment .state")).to_contain_text("Stale")
    expect(page.locator('[data-part="sun"]')).to_contain_text("W")  # the last values stay


def test_an_inverter_without_a_battery_sleeps_when_its_sun_is_gone(
    server: DashboardServer, open_page: OpenPage
) -> None:
    server.ingest("sleepy", 60, pv_power_w=4, active_power_w=0, running_state="standby")
    page = open_page("#/now?of=device%3Asleepy")
    expect(page.locator(".moment .state")).to_contain_text("Asleep")
    expect(page.locator(".mood")).to_contain_text("Good night")
    expect(page.locator('[data-part="sun"]')).to_have_text("4 W")


def test_a_device_without_a_meter_makes_no_claim_about_the_house(
    server: DashboardServer, open_page: OpenPage
) -> None:
    server.ingest("sleepy", pv_power_w=2400, active_power_w=2300)
    page = open_page("#/now?of=device%3Asleepy")
    expect(page.locator(".mood")).to_have_text("The sun gives power.")
    assert flow(page) == "Energy flow: Sun 2.40 kW, AC output 2.30 kW"


def test_today_is_what_the_api_says(server: DashboardServer, open_page: OpenPage) -> None:
    page = open_page(f"#/now?{HOUSE}")
    expect(page.locator(".today .tile").first).to_be_visible()
    sums = _sums(server, "day")
    assert tile(page, "Produced") == kwh(sums["pv_kwh"])


def test_a_plant_shows_its_devices_together(server: DashboardServer, open_page: OpenPage) -> None:
    server.ingest("house", pv_power_w=2000, load_power_w=500, export_power_w=1500, active_power_w=2000)
    server.ingest("barn", pv_power_w=1000, active_power_w=1000)
    page = open_page("#/now?of=plant%3AFarm")
    expect(page.locator('[data-part="sun"]')).to_have_text("3.00 kW")
    expect(page.locator('[data-part="house"]')).to_have_text("1.50 kW")  # the meter they share counts once
    server.ingest("barn", pv_power_w=1500, active_power_w=1500)
    expect(page.locator('[data-part="sun"]')).to_have_text("3.50 kW")
    expect(page.locator(".members li")).to_have_count(2)


# ------------------------------------------------------------------------------------------- history


def _sums(server: DashboardServer, frame: str) -> dict[str, float]:
    buckets = server.get("/v1/series", device_id="house", frame=frame, at=server.today)["series"]
    names = ("pv_kwh", "load_kwh", "import_kwh", "export_kwh", "charge_kwh", "discharge_kwh")
    return {name: sum(b[name] or 0 for b in buckets) for name in names}


@pytest.mark.parametrize("frame", ["day", "month", "year", "all"])
def test_every_span_shows_the_sums_of_the_api(
    server: DashboardServer, open_page: OpenPage, frame: str
) -> None:
    page = open_page(f"#/history?{HOUSE}&frame={frame}")
    expect(page.locator('[data-part="totals"]')).to_be_visible()
    sums = _sums(server, frame)
    assert sums["pv_kwh"] > 0
    for title, name in (
        ("Produced", "pv_kwh"),
        ("Consumed", "load_kwh"),
        ("Bought", "import_kwh"),
        ("Sold", "export_kwh"),
    ):
        assert tile(page, title) == kwh(sums[name]), title
    expect(page.get_by_label("Date")).to_have_count(0 if frame == "all" else 1)  # all time has no other
    if frame in {"year", "all"}:
        expect(page.locator('[data-part="coverage"]')).to_contain_text("of this span")  # a week is no year


def test_a_day_can_be_stepped_zoomed_read_and_saved(server: DashboardServer, open_page: OpenPage) -> None:
    page = open_page(f"#/history?{HOUSE}&frame=day")
    chart = page.get_by_role("group", name="Power House")
    expect(chart).to_be_visible()
    expect(page.get_by_role("button", name="Later")).to_be_disabled()
    expect(page.locator("figure")).to_contain_text("below it is bought")  # signs are explained
    page.get_by_role("button", name="Earlier").click()
    yesterday = date.fromisoformat(server.today) - timedelta(days=1)
    expect(page.get_by_role("heading", level=2)).to_contain_text(f"{yesterday:%A}")
    buckets = server.get("/v1/series", device_id="house", frame="day", at=str(yesterday))["series"]
    expect(page.locator(".tile", has_text="Produced")).to_contain_text(
        kwh(sum(b["pv_kwh"] or 0 for b in buckets))
    )
    box = chart.locator(".u-over").bounding_box()
    assert box is not None
    middle, height = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle, height)
    expect(page.locator(".legend .at")).to_have_text(re.compile("1[12]:[05]"))
    expect(page.locator(".legend li", has_text="Sun").locator("b")).to_contain_text("W")
    page.mouse.down()
    page.mouse.move(middle + 150, height, steps=3)
    page.mouse.up()
    expect(page.get_by_role("button", name="Whole span")).to_be_enabled()
    page.get_by_text("Show as table").click()
    expect(
        page.get_by_role("row", name=re.compile("^12:06"))
    ).to_be_visible()  # so near, each reading is shown
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    rows = list(csv.DictReader(download.value.path().read_text().splitlines()))
    assert 60 < len(rows) < 300
    assert {"ts", "pv_power_w", "battery_soc_pct"} <= rows[0].keys()
    assert all(f"{yesterday}T11:50" <= row["ts"] < f"{yesterday}T20:00" for row in rows)
    chart.locator(".u-over").dblclick()
    expect(page.get_by_role("button", name="Whole span")).to_be_disabled()


def test_the_curve_of_a_day_has_steps_of_five_minutes_where_readings_allow(
    server: DashboardServer, open_page: OpenPage
) -> None:
    now = datetime.now(UTC)
    fresh = [
        {
            "device_id": "lonely",
            "ts": format_ts(now - timedelta(minutes=minute)),
            "interval_s": 60,
            "pv_power_w": 100 + minute,
        }
        for minute in range(1, 31)
    ]
    assert server.ask("POST", "/v1/ingest", {"samples": fresh})["rejected"] == []
    page = open_page("#/history?of=device%3Alonely&frame=day")
    page.get_by_text("Show as table").click()
    fine = now - timedelta(minutes=now.minute % 5 + 8)  # inside a bucket that is over and full
    middle = fine.replace(minute=fine.minute // 5 * 5 + 2).astimezone(server.zone)
    row = page.get_by_role("row", name=f"{middle:%H:%M}")
    expect(row).to_contain_text(re.compile(r"1\d\d W"))
    page.goto(f"{server.url}#/history?{HOUSE}&frame=day&at={_days_ago(server, 5)}")  # a reading each quarter
    expect(page.get_by_role("group", name="Power House")).to_be_visible()
    page.get_by_text("Show as table").click()
    noon = page.get_by_role("row", name=re.compile("^12:"))
    expect(noon).to_have_count(4)
    expect(noon.filter(has_text="\N{EN DASH}")).to_have_count(0)


def test_a_day_behind_the_horizon_is_drawn_in_quarters_of_an_hour_without_a_complaint(
    server: DashboardServer, open_page: OpenPage
) -> None:
    for days in (RAW_DAYS + 1, RAW_DAYS):
        page = open_page(f"#/history?{HOUSE}&frame=day&at={_days_ago(server, days)}")
        expect(page.get_by_role("group", name="Power House")).to_be_visible()
        page.get_by_text("Show as table").click()
        expect(page.get_by_role("row", name=re.compile("^02:"))).to_have_count(4)
        page.get_by_role("button", name="Trackers").click()
        expect(page.locator(".empty, figure").first).to_be_visible()


def _days_ago(server: DashboardServer, days: int) -> str:
    return str(date.fromisoformat(server.today) - timedelta(days=days))


def test_a_table_stands_behind_the_bars_and_a_bar_opens_its_day(
    server: DashboardServer, open_page: OpenPage
) -> None:
    page = open_page(f"#/history?{HOUSE}&frame=month&at={server.today}")
    page.get_by_text("Show as table").click()
    buckets = server.get("/v1/series", device_id="house", frame="month", at=server.today)["series"]
    table = page.get_by_role("table")
    expect(table.get_by_role("row").nth(len(buckets))).to_contain_text(kwh(buckets[-1]["export_kwh"] or 0))
    chart = page.get_by_role("group", name="Energy House")
    chart.focus()
    page.keyboard.press("Home")
    for _ in buckets[1:]:
        page.keyboard.press("ArrowRight")
    expect(page.locator("p[aria-live]", has_text="Sold")).to_contain_text("Bought")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Day", exact=True)).to_have_attribute("aria-pressed", "true")
    page.go_back()
    expect(page.get_by_role("button", name="Month", exact=True)).to_have_attribute("aria-pressed", "true")


def test_by_touch_the_page_says_what_touch_can_do(server: DashboardServer, open_page: OpenPage) -> None:
    phone: dict[str, Any] = {"has_touch": True, "is_mobile": True, "viewport": {"width": 360, "height": 740}}
    page = open_page(f"#/history?{HOUSE}&frame=all", **phone)
    expect(page.get_by_text("Tap a bar")).to_be_visible()
    expect(page.get_by_text("Drag over the chart")).to_be_hidden()
    chart = page.get_by_role("group", name="Energy House").locator(".u-over")
    chart.tap(position={"x": 8, "y": 20})  # the first month
    expect(page.get_by_role("button", name="Month", exact=True)).to_have_attribute("aria-pressed", "true")
    page.goto(f"{server.url}#/history?{HOUSE}&frame=day&at={_days_ago(server, 1)}")
    expect(page.get_by_text("Tap the chart to read its values")).to_be_visible()
    page.get_by_role("group", name="Power House").locator(".u-over").tap()
    expect(page.locator(".legend .at")).to_have_text(re.compile("1[12]:[05]"))


def test_battery_and_trackers_have_views_of_their_own(server: DashboardServer, open_page: OpenPage) -> None:
    for minute in range(3):
        server.ingest(
            "lively", 30 + 60 * minute, mppt_voltage_v=[400, 380], mppt_current_a=[5, 2.5], battery_soc_pct=50
        )
    page = open_page("#/history?of=device%3Alively&frame=day&view=trackers")
    expect(page.get_by_role("button", name="Tracker 2")).to_be_visible()
    page.get_by_role("button", name="Battery").click()
    expect(page.get_by_role("button", name="State of charge")).to_be_visible()
    page.get_by_role("button", name="Month", exact=True).click()
    page.get_by_role("button", name="Trackers").click()
    expect(page.get_by_text("shown day by day")).to_be_visible()


def test_days_are_the_sites_whatever_the_zone_of_the_viewer(
    server: DashboardServer, open_page: OpenPage
) -> None:
    for zone in ("Pacific/Kiritimati", "America/Los_Angeles"):
        page = open_page(f"#/history?{HOUSE}&frame=day", timezone_id=zone)
        expect(page.get_by_label("Date")).to_have_value(server.today)
        expect(page.locator('[data-part="totals"]')).to_be_visible()
        assert tile(page, "Produced") == kwh(_sums(server, "day")["pv_kwh"])


def test_a_span_without_readings_says_so(server: DashboardServer, open_page: OpenPage) -> None:
    del server
    page = open_page(f"#/history?{HOUSE}&frame=day&at=2001-05-05")
    expect(page.get_by_text("No reading in this span")).to_be_visible()


# ------------------------------------------------------------------------------------------- condition


def test_condition_tells_alarms_edge_and_what_is_kept_aside(
    server: DashboardServer, open_page: OpenPage
) -> None:
    server.ingest("lively", 40, fault_codes=[10], alarm_codes=[], running_state="fault")
    stamp = (datetime.now(UTC) - timedelta(seconds=20)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    for watts in (100, 200):
        reading = {"device_id": "lively", "ts": stamp, "pv_power_w": watts}
        server.ask("POST", "/v1/ingest", {"samples": [reading]})
    status = {
        "edge_id": "box-1",
        "device_id": "lively",
        "connection": "backing off",
        "connection_detail": "no answer within 3 s",
        "backlog": 42,
        "quarantined": 3,
    }
    server.ask("POST", "/v1/edge-status", status)
    page = open_page("#/condition?of=device%3Alively")
    events = page.get_by_role("region", name="Alarms and faults")
    expect(events.get_by_role("row", name="code 10")).to_contain_text("Fault")
    edge = page.locator(".card", has=page.get_by_role("heading", name="Edge"))
    expect(edge).to_contain_text("the inverter is silent: no answer within 3 s")
    expect(edge).to_contain_text("42")
    expect(page.get_by_role("region", name="Readings kept aside")).to_contain_text("other value: pv_power_w")
    expect(page.locator(".days li")).not_to_have_count(0)


def test_condition_tells_counters_that_ran_back(server: DashboardServer, open_page: OpenPage) -> None:
    now = datetime.now(UTC)
    for ago_s, counted in ((600, 5000.0), (300, 12.0)):
        stamp = now - timedelta(seconds=ago_s)
        reading = {"device_id": "lively", "ts": format_ts(stamp), "import_total_kwh": counted}
        server.ask("POST", "/v1/ingest", {"samples": [reading]})
    page = open_page("#/condition?of=device%3Alively")
    breaks = page.get_by_role("region", name="Counters that ran back or jumped")
    expect(breaks).to_contain_text("import_total_kwh")
    expect(breaks).to_contain_text("5000")


def test_of_a_device_that_never_told_anything_nobody_claims_that_all_is_well(
    server: DashboardServer, open_page: OpenPage
) -> None:
    del server
    page = open_page("#/condition?of=device%3Anew")
    alarms = page.locator(".card", has=page.get_by_role("heading", name="Alarms and faults"))
    expect(alarms).to_contain_text("Waiting for its first reading")
    expect(page.get_by_text("All is well")).to_have_count(0)


# ------------------------------------------------------------------------------------------- in and out


def test_signing_in_and_out(server: DashboardServer, open_page: OpenPage) -> None:
    page = open_page(LIVELY, token=None, allow_errors=True)  # the browser reports the 401
    expect(page.get_by_label("Read token")).to_be_focused()
    page.keyboard.type("not-the-token-0123456789")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    token = server.new_token("viewer", "lively")
    page.get_by_label("Read token").fill(token)
    page.get_by_label("Stay signed in").uncheck()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("navigation")).to_be_visible()
    assert page.evaluate("localStorage.getItem('sungrow-read-token')") is None
    page.reload()
    expect(page.get_by_role("navigation")).to_be_visible()
    server.revoke("viewer")
    expect(page.get_by_role("alert")).to_contain_text("expired or been revoked")
    assert page.evaluate("sessionStorage.getItem('sungrow-read-token')") is None


def test_no_device_is_a_clear_state(server: DashboardServer, open_page: OpenPage) -> None:
    del server
    page = open_page(token=EMPTY_TOKEN)
    expect(page.get_by_role("heading", name="No device yet")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Read token")).to_be_focused()


def test_a_server_that_goes_and_comes_back(server: DashboardServer, open_page: OpenPage) -> None:
    server.ingest(pv_power_w=1234)
    page = open_page(LIVELY, allow_errors=True)  # the browser reports refused connections
    expect(page.locator('[data-part="sun"]')).to_have_text("1.23 kW")
    server.process.stop(10)
    expect(page.locator(".moment .state")).to_contain_text("Offline")
    expect(page.get_by_role("status")).to_contain_text("cannot be reached")
    expect(page.locator('[data-part="sun"]')).to_have_text("1.23 kW")
    page.screenshot(path=server.pictures / "offline.png", full_page=True)
    server.start()
    expect(page.get_by_role("status")).to_be_hidden()
    server.ingest(pv_power_w=2345)
    expect(page.locator('[data-part="sun"]')).to_have_text("2.35 kW")


# ------------------------------------------------------------------------------------------- for everybody


def test_the_page_can_be_walked_through_by_keyboard(server: DashboardServer, open_page: OpenPage) -> None:
    server.ingest(pv_power_w=100)
    page = open_page(LIVELY)
    expect(page.locator('[data-part="sun"]')).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("System")).to_be_focused()
    for name in ("Now", "History"):
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name=name, exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Earlier")).to_be_visible()
    page.get_by_role("link", name="Skip to the content").focus()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def _expect_arrival(page: Page, route: str) -> None:
    """Wait until this part of the page is shown, with all it asks for; else one looks at the part before."""
    part, _, query = route.partition("?")
    wanted = dict(parse_qsl(query))
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"{part.capitalize()}: ")
    expect(page.get_by_label("System")).to_have_value(wanted["of"])
    for choice in [wanted[name] for name in ("frame", "view") if name in wanted]:
        button = page.locator(".choice").get_by_role("button", name=choice.capitalize(), exact=True)
        expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".card").first).to_be_visible()
    expect(page.locator(".waiting")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(360, 740), (1280, 900)], ids=["phone", "desktop"])
def test_every_page_fits_and_is_accessible(
    server: DashboardServer, open_page: OpenPage, scheme: str, size: tuple[int, int]
) -> None:
    server.ingest(
        "house",
        pv_power_w=5230,
        load_power_w=870,
        battery_power_w=2150,
        battery_soc_pct=64.5,
        export_power_w=2140,
    )
    server.ingest("sleepy", 60, pv_power_w=0, active_power_w=0, running_state="standby")
    page = open_page(
        f"#/now?{HOUSE}",
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        reduced_motion="reduce",
    )
    routes = [
        f"now?{HOUSE}",
        f"history?{HOUSE}&frame=day",
        f"history?{HOUSE}&frame=month",
        f"history?{HOUSE}&frame=day&view=battery",
        f"condition?{HOUSE}",
    ]
    if (scheme, size[0]) in {("light", 360), ("dark", 1280)}:  # colours and widths are tried above
        routes += [
            f"history?{HOUSE}&frame=day&view=trackers&at={_days_ago(server, 1)}",
            f"history?{HOUSE}&frame=year",
            f"history?{HOUSE}&frame=all&view=battery",
            "now?of=plant%3AFarm",
            "history?of=plant%3AFarm&frame=day",
            "condition?of=plant%3AFarm",
            "now?of=device%3Anew",
            "condition?of=device%3Anew",
            "now?of=device%3Asleepy",
        ]
    for number, route in enumerate(routes):
        page.goto(f"{server.url}#/{route}")
        _expect_arrival(page, route)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], route
        found: Any = Axe().run(page)
        serious = [
            (violation["id"], [node["html"] for node in violation["nodes"]][:3])
            for violation in found.response["violations"]
            if violation["impact"] in {"serious", "critical"}
        ]
        assert not serious, route
        page.screenshot(path=server.pictures / f"{size[0]}-{scheme}-{number:02}.png", full_page=True)


def test_on_a_wall_the_moment_fills_the_screen(server: DashboardServer, open_page: OpenPage) -> None:
    server.ingest("house", pv_power_w=5230, load_power_w=870, export_power_w=2140)
    page = open_page(f"#/now?{HOUSE}", color_scheme="dark")
    for width, height in ((1920, 1080), (2560, 1440)):
        page.set_viewport_size({"width": width, "height": height})
        page.reload()
        expect(page.locator(".today .u-over")).to_be_visible()
        for card in (".moment", ".today"):
            box = page.locator(card).bounding_box()
            assert box is not None
            assert 0.9 * height < box["y"] + box["height"] <= height, "it fills the screen without scrolling"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        letters = page.locator(".tile dd").first.evaluate(
            "node => parseFloat(getComputedStyle(node).fontSize)"
        )
        assert letters >= height / 50, "to be read from the other end of the room"
        page.screenshot(path=server.pictures / f"wall-{width}.png")


def test_the_page_can_be_put_on_the_home_screen(server: DashboardServer, open_page: OpenPage) -> None:
    page = open_page(token=None)
    found = page.context.new_cdp_session(page).send("Page.getAppManifest")
    assert found["errors"] == []
    manifest = json.loads(found["data"])
    assert manifest["display"] == "standalone"
    for icon in manifest["icons"]:
        found_type = page.evaluate(
            "async (url) => (await fetch(url)).headers.get('Content-Type')",
            server.url + icon["src"].lstrip("/"),
        )
        assert found_type == icon["type"]


def test_the_colours_can_be_chosen_and_are_remembered(server: DashboardServer, open_page: OpenPage) -> None:
    del server
    page = open_page(LIVELY, color_scheme="light")
    page.get_by_label("Colours").select_option("dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    expect(page.get_by_label("Colours")).to_have_value("dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_every_device_can_be_chosen(server: DashboardServer, open_page: OpenPage) -> None:
    del server
    page = open_page()
    for name in ("Barn", "House"):
        page.get_by_label("System").select_option(label=name)
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Now: {name}")
    assert page.get_by_label("System").locator("option").count() == 1 + len(NAMES)
    page.evaluate("history.replaceState(null, '', '/')")  # as from the home screen: it names no device
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Now: House")


def test_a_browser_that_keeps_nothing_still_shows_the_page(
    server: DashboardServer, open_page: OpenPage
) -> None:
    server.ingest(pv_power_w=100)
    page = open_page(LIVELY, token=None)
    page.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage'])"
        "  Object.defineProperty(window, name, {get() { throw new DOMException('no', 'SecurityError') }})"
    )
    page.reload()
    page.get_by_label("Read token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator('[data-part="sun"]')).to_be_visible()
