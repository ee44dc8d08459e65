"""What `--help` looks like on a terminal: as it was written, and no line longer than the terminal is wide."""

from __future__ import annotations

import pytest

from reference_edge.cli import main as edge
from reference_server.cli import main as server
from sungrow_lib.cli.command import COMMANDS, main as sungrow

Capsys = pytest.CaptureFixture[str]

PROGRAMS = {"sungrow": sungrow, "sungrow-edge": edge, "sungrow-server": server}
LINES = [
    "sungrow",
    *(f"sungrow {command}" for command in COMMANDS),
    "sungrow-edge",
    *(f"sungrow-edge {command}" for command in ("run", "check", "status", "spool", "spool list")),
    "sungrow-server",
    *(f"sungrow-server {command}" for command in ("run", "migrate", "token", "token create", "import")),
    *(f"sungrow-server {command}" for command in ("device", "export", "backup", "restore", "openapi")),
]


def help_of(line: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: Capsys) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    program, *words = line.split()
    with pytest.raises(SystemExit) as ended:
        PROGRAMS[program]([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("line", LINES)
def test_it_fits_a_terminal_of_80_columns_and_says_the_same(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    narrow = help_of(line, 80, monkeypatch, capsys)
    assert [text for text in narrow.splitlines() if len(text) > 80] == []
    wide = help_of(line, 160, monkeypatch, capsys)
    assert narrow.split() == wide.split()
    assert narrow.count("\n\n") == wide.count("\n\n")


def test_columns_stay_columns_and_examples_stay_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    lines = help_of("sungrow simulate", 80, monkeypatch, capsys).splitlines()
    at = lines.index("  lan       the inverter's own port: registers it lacks inside a block read")
    assert lines[at + 1] == "            0xFFFF"
    at = lines.index("  sungrow simulate input.json holding.json --unit 3")
    assert lines[at + 1] == "      a capture, under another unit id"
    lines = help_of("sungrow-server restore", 80, monkeypatch, capsys).splitlines()
    at = lines.index("  createdb sungrow_new")
    assert lines[at + 1] == "  export DATABASE_URL=postgresql://sungrow@localhost/sungrow_new"
