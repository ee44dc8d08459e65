from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sungrow_lib.cli.command import main


@pytest.mark.parametrize(
    "arguments", [["--for", "soon"], ["--for", "0s"], ["--port", "0"], ["--port", "70000"]]
)
def test_wrong_use_is_one_line_and_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", *arguments])
    assert ended.value.code == 2
    assert f"{arguments[1]!r} is not a" in capsys.readouterr().err


def test_help_teaches_what_the_account_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for word in ("--for 60s", "--data-dir", "not_accepted", "lost, doubled, altered", "exit status"):
        assert word in text


def test_a_folder_in_use_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["demo", "--data-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"sungrow: {tmp_path} is not empty; give a new folder with --data-dir\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_port_in_use_is_refused_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 2
    assert f"port {port} is in use; choose another with --port" in capsys.readouterr().err
