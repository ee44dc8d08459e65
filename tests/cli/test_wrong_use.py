"""Wrong use of the three commands: exit status 2 and one line that ends with where help is."""

from __future__ import annotations

import pytest

import reference_edge.cli
import reference_server.cli
import sungrow_lib.cli.command

MAINS = {
    "sungrow": sungrow_lib.cli.command.main,
    "sungrow-edge": reference_edge.cli.main,
    "sungrow-server": reference_server.cli.main,
}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("sungrow", "COMMAND"),
        ("sungrow fly", "'fly'"),
        ("sungrow read", "required: HOST;"),
        ("sungrow read roof --family bird", "'bird'"),
        ("sungrow read roof --port x", "--port"),
        ("sungrow dump roof -o x --device-id my/roof", "'my/roof' is no device id"),
        ("sungrow decode", "FILE"),
        ("sungrow simulate --port 70000", "'70000' is not a port, 0 to 65535"),
        ("sungrow simulate --unit 0", "'0' is not a Modbus unit id, 1 to 247"),
        ("sungrow simulate --unit 999", "'999' is not a Modbus unit id"),
        ("sungrow simulate --profile cable", "'lan', 'winet-s', 'rs485'"),
        ("sungrow demo --history 0", "'0' is not a number of days, 1 to 365"),
        ("sungrow demo --port 0", "'0' is not a port, 1 to 65535"),
        ("sungrow-edge", "COMMAND"),
        ("sungrow-edge spool fly", "'fly'"),
        ("sungrow-edge check --fly", "--fly"),
        ("sungrow-server", "COMMAND"),
        ("sungrow-server token fly", "'fly'"),
    ],
)
def test_wrong_use_is_one_line(line: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, *arguments = line.split()
    with pytest.raises(SystemExit) as ended:
        MAINS[program](arguments)
    assert ended.value.code == 2
    out, error = capsys.readouterr()
    assert out == ""
    [complaint] = error.splitlines()
    assert complaint.startswith(program)
    assert text in complaint
    assert complaint.endswith("--help")
