from __future__ import annotations

import io

import pytest

from sungrow_lib.demo.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_gets_whole_lines_and_few_live_ones() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.step("tables"):
        pass
    for number in range(100):
        progress.live(f"polled {number}")
    progress.say("{}")
    assert stream.getvalue() == "  ✓ tables (0.0 s)\npolled 0\n{}\n"


def test_a_terminal_sees_one_line_that_changes() -> None:
    stream = Terminal()
    progress = Progress(stream)
    progress.live("polled 1")
    progress.live("polled 2")
    progress.say("done")
    assert stream.getvalue() == "\r\x1b[Kpolled 1\r\x1b[Kpolled 2\ndone\n"


def test_a_step_that_fails_is_marked() -> None:
    stream = Terminal()
    with pytest.raises(RuntimeError), Progress(stream).step("server"):
        raise RuntimeError
    assert stream.getvalue().endswith("✗ server\n")
