"""The edge's settings: what is accepted, and that every refusal names the variable and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reference_edge.app import upload_settings
from reference_edge.cli import main
from reference_edge.config import EdgeSettings
from reference_edge.station import by_address, connection_settings, device_info
from sungrow_lib.errors import ConfigurationError
from sungrow_lib.settings import load_settings

SINGLE = {
    "SERVER_URL": "https://solar.example.org/",
    "DEVICE_TOKEN": "secret-token-0123456789",
    "SUNGROW_HOST": "192.168.1.20",
    "DEVICE_ID": "roof",
}


def load(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], file: Path | None = None
) -> EdgeSettings:
    for name in os.environ:
        if name.upper() in {field.upper() for field in EdgeSettings.model_fields}:
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings(EdgeSettings, file)


def test_a_single_inverter_needs_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        monkeypatch,
        SINGLE
        | {
            "SUNGROW_PORT": "1502",
            "SUNGROW_UNIT_ID": "2",
            "POLL_INTERVAL_S": "10",
            "INTER_REGISTER_DELAY_MS": "50",
            "SITE_TIMEZONE": "Europe/Berlin",
        },
    )
    [device] = settings.inverters
    assert (device.device_id, device.host, device.port, device.unit) == ("roof", "192.168.1.20", 1502, 2)
    assert settings.server_url == "https://solar.example.org"
    manners = connection_settings([device], settings)
    assert (manners.poll_interval_s, manners.request_gap_s) == (10, 0.05)


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(
        """
        server_url = "https://file.example.org"
        device_token = "from-the-file-0123456789"
        batch_size = 100
        [[devices]]
        device_id = "a"
        host = "10.0.0.1"
        [[devices]]
        device_id = "b"
        host = "10.0.0.1"
        unit = 2
        inter_register_delay_ms = 200
        [[devices]]
        device_id = "c"
        host = "10.0.0.2"
        """
    )
    settings = load(monkeypatch, {"SERVER_URL": "https://environment.example.org"}, file)
    assert settings.server_url == "https://environment.example.org"
    assert settings.batch_size == 100
    groups = by_address(settings.inverters)
    assert [[device.device_id for device in group] for group in groups] == [["a", "b"], ["c"]]
    assert connection_settings(groups[0], settings).request_gap_s == 0.2


def test_the_environment_may_hold_the_tables_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text('[[devices]]\ndevice_id = "of-the-file"\nhost = "10.0.0.1"')
    several = '[{"device_id": "a", "host": "10.0.0.2"}, {"device_id": "b", "host": "10.0.0.3"}]'
    single = {name: SINGLE[name] for name in ("SERVER_URL", "DEVICE_TOKEN")}
    settings = load(monkeypatch, single | {"devices": several, "BATCH_SIZE": "7"}, file)
    assert [device.device_id for device in settings.inverters] == ["a", "b"]
    assert settings.batch_size == 7


TABLES = """
[[devices]]
device_id = "a"
host = "10.0.0.1"
[[devices]]
device_id = "b"
host = "10.0.0.2"
timezone = "Europe/Madrid"
plant = "south"
poll_interval_s = 5
inter_register_delay_ms = 20
timeout_s = 5
"""
"""One table says little, one says everything, some of it what is the default anyway."""


@pytest.mark.parametrize("where", ["environment", "file"])
def test_what_makes_sense_for_all_holds_for_tables_that_do_not_say_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    for_all = {
        "SITE_TIMEZONE": "Europe/Berlin",
        "PLANT": "north",
        "POLL_INTERVAL_S": "30",
        "INTER_REGISTER_DELAY_MS": "200",
        "SUNGROW_TIMEOUT_S": "9",
    }
    file = tmp_path / "edge.toml"
    needed = {name: SINGLE[name] for name in ("SERVER_URL", "DEVICE_TOKEN")}
    if where == "file":
        text = "".join(
            f"{name.lower()} = {value if value.isdigit() else repr(value)}\n"
            for name, value in for_all.items()
        )
        file.write_text(text + TABLES)
        settings = load(monkeypatch, needed, file)
    else:
        file.write_text(TABLES)
        settings = load(monkeypatch, needed | for_all, file)
    assert [
        (d.timezone, d.plant, d.poll_interval_s, d.inter_register_delay_ms, d.timeout_s)
        for d in settings.inverters
    ] == [("Europe/Berlin", "north", 30, 200, 9), ("Europe/Madrid", "south", 5, 20, 5)]


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("SUNGROW_PORT", "1502", "port"),
        ("SUNGROW_UNIT_ID", "2", "unit"),
        ("SUNGROW_FAMILY", "sg", "family"),
        ("SUNGROW_BATTERY_UNIT", "off", "battery_unit"),
        ("DEVICE_ID", "c", "device_id"),
        ("DEVICE_NAME", "Roof", "name"),
    ],
)
def test_what_describes_an_inverter_that_nothing_names_is_refused_beside_tables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, key: str
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(TABLES)
    needed = {wanted: SINGLE[wanted] for wanted in ("SERVER_URL", "DEVICE_TOKEN")}
    with pytest.raises(ConfigurationError, match=f"^{name} is for the inverter .* write {key} into"):
        load(monkeypatch, needed | {name: value}, file)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SUNGROW_PORT", "502"),
        ("SUNGROW_UNIT_ID", "1"),
        ("SUNGROW_FAMILY", "auto"),
        ("SUNGROW_BATTERY_UNIT", "auto"),
    ],
)
def test_the_value_of_a_default_may_be_left_beside_tables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(TABLES)
    needed = {wanted: SINGLE[wanted] for wanted in ("SERVER_URL", "DEVICE_TOKEN")}
    assert [d.device_id for d in load(monkeypatch, needed | {name: value}, file).inverters] == ["a", "b"]


def test_a_named_inverter_beside_tables_is_one_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(TABLES)
    said = {"SUNGROW_PORT": "1502", "DEVICE_NAME": "Roof", "SITE_TIMEZONE": "Europe/Rome"}
    settings = load(monkeypatch, SINGLE | said, file)
    assert [(d.device_id, d.host, d.port, d.name, d.timezone) for d in settings.inverters] == [
        ("a", "10.0.0.1", 502, None, "Europe/Rome"),
        ("b", "10.0.0.2", 502, None, "Europe/Madrid"),
        ("roof", "192.168.1.20", 1502, "Roof", "Europe/Rome"),
    ]


def test_a_named_inverter_beside_tables_needs_an_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(TABLES)
    nameless = {name: value for name, value in SINGLE.items() if name != "DEVICE_ID"}
    with pytest.raises(ConfigurationError, match=r"^DEVICE_ID is required beside SUNGROW_HOST"):
        load(monkeypatch, nameless, file)


@pytest.mark.parametrize("hosts", [("h1", "H1"), ("h1.local", "H1.Local"), ("::1", "[0:0::1]")])
def test_inverters_behind_one_host_however_it_is_written_share_a_connection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hosts: tuple[str, str]
) -> None:
    behind = "[[devices]]\ndevice_id = '{0}'\nhost = '{1}'\nunit = {2}\n"
    file = tmp_path / "edge.toml"
    file.write_text("".join(behind.format(f"u{unit}", host, unit) for unit, host in enumerate(hosts, 1)))
    needed = {wanted: SINGLE[wanted] for wanted in ("SERVER_URL", "DEVICE_TOKEN")}
    settings = load(monkeypatch, needed, file)
    assert [[d.device_id for d in group] for group in by_address(settings.inverters)] == [["u1", "u2"]]


def test_the_interval_that_is_told_is_the_one_at_which_is_polled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edge.toml"
    behind = "[[devices]]\ndevice_id = '{}'\nhost = '{}'\nunit = {}\npoll_interval_s = {}\n"
    devices = [("u1", "10.0.0.1", 1, 5), ("u2", "10.0.0.1", 2, 29), ("u3", "10.0.0.2", 1, 7)]
    file.write_text("".join(behind.format(*device) for device in devices))
    needed = {name: SINGLE[name] for name in ("SERVER_URL", "DEVICE_TOKEN")}
    settings = load(monkeypatch, needed | {"SPOOL_PATH": str(tmp_path / "spool.sqlite")}, file)
    polled = {
        device.device_id: connection_settings(group, settings).poll_interval_s
        for group in by_address(settings.inverters)
        for device in group
    }
    assert polled == {"u1": 29, "u2": 29, "u3": 7}
    told = upload_settings(settings).devices
    assert {name: info.poll_interval_s for name, info in told.items()} == polled
    for group in by_address(settings.inverters):
        for device in group:
            assert device_info(device).poll_interval_s == polled[device.device_id]
    assert main(["check", "--offline", "--config", str(file)]) == 0
    [note] = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("ok ")]
    assert note.startswith("NOTE  settings: u1 is polled every 29 s, not every 5: ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"SERVER_URL": "http://solar.example.org"}, "SERVER_URL: must start with https://"),
        ({"SERVER_URL": ""}, "SERVER_URL: is required"),
        ({"DEVICE_TOKEN": ""}, "DEVICE_TOKEN"),
        ({"DEVICE_ID": ""}, "DEVICE_ID is required"),
        ({"DEVICE_ID": "my roof"}, "DEVICE_ID"),
        ({"SUNGROW_HOST": ""}, "SUNGROW_HOST"),
        ({"SUNGROW_HOST": "  "}, "SUNGROW_HOST: the host is empty"),
        ({"SUNGROW_HOST": "http://192.168.1.20"}, "SUNGROW_HOST: 'http://192.168.1.20' is more than a host"),
        ({"SUNGROW_HOST": "1.2.3.4:502"}, "SUNGROW_HOST: '1.2.3.4:502' is more than a host"),
        ({"SUNGROW_HOST": "a..b"}, "SUNGROW_HOST: 'a..b' is no name of a host"),
        ({"SUNGROW_HOST": "a b"}, "SUNGROW_HOST: 'a b' is no name of a host"),
        ({"SUNGROW_PORT": "70000"}, "SUNGROW_PORT"),
        ({"SUNGROW_UNIT_ID": "one"}, "SUNGROW_UNIT_ID"),
        ({"POLL_INTERVAL_S": "1"}, "POLL_INTERVAL_S"),
        ({"INTER_REGISTER_DELAY_MS": "5"}, "INTER_REGISTER_DELAY_MS"),
        ({"BATCH_SIZE": "0"}, "BATCH_SIZE"),
        ({"SITE_TIMEZONE": "Middle/Earth"}, "SITE_TIMEZONE"),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL: must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ({"SERVER_URL": "https://[half"}, "SERVER_URL: is not an address"),
        ({"SERVER_URL": "https://solar.example.org/?q"}, "without ? or #"),
        ({"SERVER_URL": "https://bücher..example"}, "SERVER_URL: its host is no name: between two dots"),
        ({"SERVER_URL": f"https://{'ü' * 70}.example"}, "SERVER_URL: its host is no name"),
        ({"SERVER_URL": f"https://{'a' * 64}.example"}, "SERVER_URL: its host is no name"),
        ({"SERVER_URL": "https://a..example"}, "SERVER_URL: its host is no name"),
        ({"SERVER_URL": "https://two words.example"}, "SERVER_URL: its host holds characters"),
        ({"POLL_INTERVAL_S": "4"}, "POLL_INTERVAL_S: must be at least 5"),
        ({"POLL_INTERVAL_S": "often"}, "POLL_INTERVAL_S: must be a number"),
        ({"SUNGROW_UNIT_ID": "248"}, "SUNGROW_UNIT_ID: must be at most 247"),
        ({"SUNGROW_PORT": "modbus"}, "SUNGROW_PORT: must be a whole number"),
        ({"UPLOAD_INTERVAL_S": "0"}, "UPLOAD_INTERVAL_S: must be more than 0"),
        ({"DEVICE_ID": "my roof"}, "DEVICE_ID: must be 1 to 64 letters, digits,"),
        ({"SUNGROW_BATTERY_UNIT": "no"}, "SUNGROW_BATTERY_UNIT: must be a whole number or must be 'auto' or"),
        ({"POLL_INTERVAL_S": "nan"}, "POLL_INTERVAL_S: must be a number that has an end, not nan or inf"),
        ({"POLL_INTERVAL_S": "-5"}, "POLL_INTERVAL_S: must be at least 5"),
        ({"DEVICES": "[bad"}, "DEVICES: is not valid JSON"),
        ({"DEVICE_TOKEN": "two words"}, "DEVICE_TOKEN: The token is empty or holds characters"),
        ({"DEVICE_TOKEN": " "}, "DEVICE_TOKEN: The token is empty or holds characters"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, change: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(monkeypatch, SINGLE | change)
    assert said in str(caught.value)
    assert SINGLE["DEVICE_TOKEN"] not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://bücher.example", "https://[fe80::1%eth0]:8443", "https://127.0.0.1"]
)
def test_a_name_in_other_letters_and_an_address_are_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert load(monkeypatch, SINGLE | {"SERVER_URL": url}).server_url == url


@pytest.mark.parametrize(
    ("host", "kept"),
    [
        ("Inv.Local", "inv.local"),
        ("[::1]", "::1"),
        ("fe80::1%Eth0", "fe80::1%Eth0"),
        (" 10.0.0.1 ", "10.0.0.1"),
    ],
)
def test_a_host_is_kept_as_it_is_compared(monkeypatch: pytest.MonkeyPatch, host: str, kept: str) -> None:
    assert load(monkeypatch, SINGLE | {"SUNGROW_HOST": host}).inverters[0].host == kept


def test_a_password_in_the_address_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="SERVER_URL: must not hold a user") as caught:
        load(monkeypatch, SINGLE | {"SERVER_URL": "https://me:hunter2@solar.example.org"})
    assert "hunter2" not in str(caught.value)


def test_what_concerns_several_settings_has_no_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"^set either DEVICE_TOKEN,"):
        load(monkeypatch, SINGLE | {"DEVICE_TOKEN": ""})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server_url = ", "is not valid TOML"),
        ("port = " + "9" * 5_000, "is not valid TOML"),
        ("port = " + "[" * 5_000, "is not valid TOML: it is nested too deeply"),
        ("sever_url = 'https://x.example'", "SEVER_URL: is not a setting"),
        ("device_token = ''", "DEVICE_TOKEN: The token is empty"),
        ("metrics_port = true", "METRICS_PORT: must be a whole number"),
        ("poll_interval_s = true", "POLL_INTERVAL_S: must be a number"),
        ("poll_interval_s = nan", "POLL_INTERVAL_S: must be a number that has an end, not nan or inf"),
        ("poll_interval_s = inf", "POLL_INTERVAL_S: must be a number that has an end, not nan or inf"),
        ("poll_interval_s = -inf", "POLL_INTERVAL_S: must be a number that has an end, not nan or inf"),
        ("poll_interval_s = -5", "POLL_INTERVAL_S: must be at least 5"),
        ("poll_interval_s = 'often'", "POLL_INTERVAL_S: must be a number"),
        ("batch_size = nan", "BATCH_SIZE: must be a number that has an end"),
        ("sungrow_timeout_s = nan", "SUNGROW_TIMEOUT_S: must be a number that has an end"),
        (
            "[[devices]]\ndevice_id = 'a'\nhost = 'h'\npoll_interval_s = nan",
            "devices[1].poll_interval_s: must be a number that has an end",
        ),
        *(
            (f'{name} = "/var/\\u0000x"', f"{name.upper()}: must not hold the character NUL")
            for name in (
                "spool_path",
                "ca_file",
                "device_token_file",
                "sungrow_lock_dir",
                "sungrow_state_dir",
                "health_file",
                "sungrow_host",
                "plant",
            )
        ),
        (
            '[[devices]]\ndevice_id = "a"\nhost = "h\\u0000"',
            "devices[1].host: must not hold the character NUL",
        ),
        ("[[devices]]\ndevice_id = 'a'\nhots = 'h'", "devices[1].hots: is not a setting"),
        ("sungrow_battery_unit = true", "SUNGROW_BATTERY_UNIT: must be a whole number or must be 'auto' or"),
        ("log_level = true", "LOG_LEVEL: must be 'DEBUG',"),
        ("edge_id = true", "EDGE_ID: must be text, in quotation marks"),
        ("[[devices]]\ndevice_id = 'a'\nhost = 'h'\nunit = true", "devices[1].unit: must be a whole number"),
        ("[[devices]]\ndevice_id = 'a'", "devices[1].host: is required"),
        (
            "[[devices]]\ndevice_id = 'a'\nhost = 'h'\n[[devices]]\ndevice_id = 'a'\nhost = 'i'",
            "two devices have the same device_id: a",
        ),
        (
            "[[devices]]\ndevice_id = 'a'\nhost = 'h'\n[[devices]]\ndevice_id = 'b'\nhost = 'h'",
            "two devices have the same host, port and unit",
        ),
        (
            "[[devices]]\ndevice_id = 'a'\nhost = 'V.de'\n[[devices]]\ndevice_id = 'b'\nhost = ' v.DE'",
            "two devices have the same host, port and unit: v.de:502 unit 1",
        ),
        (
            "[[devices]]\ndevice_id = 'a'\nhost = '[::1]'\n[[devices]]\ndevice_id = 'b'\nhost = '0:0::1'",
            "two devices have the same host, port and unit",
        ),
    ],
)
def test_a_wrong_file_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(text)
    needed = [name for name in ("SERVER_URL", "DEVICE_TOKEN") if name.lower() not in text]
    with pytest.raises(ConfigurationError) as caught:
        load(monkeypatch, {name: SINGLE[name] for name in needed}, file)
    assert said in str(caught.value)


def test_a_misspelt_key_is_named_before_the_one_it_was_meant_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text("sever_url = 'https://x.example'\n[[devices]]\ndevice_id = 'a'\nhost = 'h'")
    with pytest.raises(ConfigurationError, match=r"^SEVER_URL: is not a setting"):
        load(monkeypatch, {}, file)


@pytest.mark.parametrize("command", [["run"], ["check", "--offline"], ["status"], ["spool", "stats"]])
def test_a_folder_as_the_spool_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    for name, value in (SINGLE | {"SPOOL_PATH": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    assert main(command) in {1, 2}
    said = "".join(capsys.readouterr())
    assert f"{tmp_path} is a folder; name a file in it (SPOOL_PATH)" in said
    assert "Traceback" not in said


def test_a_missing_file_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reference_edge", "run", "--config", str(tmp_path / "none.toml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"sungrow-edge: cannot read the configuration {tmp_path / 'none.toml'}: No such file or directory"
    ]


@pytest.mark.parametrize("command", [["run"], ["check", "--offline"], ["status"], ["spool", "stats"]])
def test_another_file_in_the_spools_place_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]
) -> None:
    file = tmp_path / "ca.pem"
    content = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    file.write_text(content)
    for name, value in (SINGLE | {"SPOOL_PATH": str(file), "CA_FILE": str(file)}).items():
        monkeypatch.setenv(name, value)
    done = subprocess.run(
        [sys.executable, "-m", "reference_edge", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"sungrow-edge: {file} is no spool but some other file, which was left as it is")
    assert file.read_text() == content
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("text", "units"), [("auto", None), ("off", ()), ("3", (3,))])
def test_battery_is_looked_for_where_told(
    monkeypatch: pytest.MonkeyPatch, text: str, units: tuple[int, ...] | None
) -> None:
    settings = load(monkeypatch, SINGLE | {"SUNGROW_BATTERY_UNIT": text})
    assert settings.inverters[0].battery_units == units


def test_notes_stand_beside_the_spool_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, SINGLE | {"SPOOL_PATH": "/var/lib/edge/spool.sqlite"})
    assert settings.state_dir == Path("/var/lib/edge/sungrow-state")
    settings = load(monkeypatch, SINGLE | {"SUNGROW_STATE_DIR": "/var/lib/notes"})
    [device] = settings.inverters
    assert connection_settings([device], settings).state_dir == Path("/var/lib/notes")


def test_notes_are_never_in_the_spool_s_own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They would make it, though the spool's disk may be mounted there later."""
    spool = tmp_path / "usb" / "edge"
    (tmp_path / "link").symlink_to(spool.parent)
    for chosen in (spool, tmp_path / "link" / "edge"):
        more = {"SPOOL_PATH": str(spool / "spool.sqlite"), "SUNGROW_STATE_DIR": str(chosen)}
        assert load(monkeypatch, SINGLE | more).state_dir == spool / "sungrow-state"
