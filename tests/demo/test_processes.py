from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from sungrow_lib.demo.processes import (
    Child,
    ChildError,
    ending_on_signals,
    run_to_end,
    undisturbed,
    wait_until,
)

SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"


def child(tmp_path: Path, code: str) -> Child:
    return Child("the test child", [sys.executable, "-c", code], tmp_path / "child.log")


def wait_up(started: Child) -> None:
    wait_until("the child", lambda: "up" in started.log.read_text(), timeout_s=20, watched=[started])


def test_a_child_ends_when_asked(tmp_path: Path) -> None:
    started = child(tmp_path, SLEEPS)
    wait_up(started)
    started.require_running()
    assert started.stop(patience_s=20)
    assert started.exit_status == -signal.SIGTERM


def test_a_child_that_will_not_end_is_ended(tmp_path: Path) -> None:
    started = child(tmp_path, STUBBORN)
    wait_up(started)
    assert not started.stop(patience_s=0.2)
    assert started.exit_status == -signal.SIGKILL
    assert started.stop(patience_s=0.2)


def test_a_child_that_dies_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    started = child(tmp_path, "print('first'); raise SystemExit('the port is taken')")
    with pytest.raises(ChildError, match=r"(?s)the test child ended early \(exit status 1\).*port is taken"):
        wait_until("never", lambda: False, timeout_s=20, watched=[started])


def test_a_killed_child_is_reported_with_its_signal(tmp_path: Path) -> None:
    started = child(tmp_path, SLEEPS)
    wait_up(started)
    os.kill(started.pid, signal.SIGKILL)
    with pytest.raises(ChildError, match="signal 9"):
        wait_until("never", lambda: False, timeout_s=20, watched=[started])


def test_waiting_in_vain_says_for_what_and_shows_the_logs(tmp_path: Path) -> None:
    started = child(tmp_path, SLEEPS)
    wait_up(started)
    with pytest.raises(ChildError, match=r"(?s)in vain for a miracle.*up"):
        wait_until("a miracle", lambda: False, timeout_s=0.1, watched=[started])
    started.stop(patience_s=20)


def test_ctrl_c_of_the_terminal_does_not_reach_a_child(tmp_path: Path) -> None:
    started = child(tmp_path, SLEEPS)
    assert os.getpgid(started.pid) != os.getpgid(0)
    started.stop(patience_s=20)


def test_a_program_that_is_missing_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ChildError, match="cannot start it"):
        Child("it", [str(tmp_path / "none")], tmp_path / "log")
    with pytest.raises(ChildError, match="cannot start it"):
        run_to_end("it", [str(tmp_path / "none")])


def test_run_to_end_returns_what_was_printed_and_quotes_failures() -> None:
    assert run_to_end("it", [sys.executable, "-c", "print('token')"]) == "token\n"
    with pytest.raises(ChildError, match=r"(?s)it failed \(exit status 1\).*no such database"):
        run_to_end("it", [sys.executable, "-c", "raise SystemExit('no such database')"])
    with pytest.raises(ChildError, match="longer than 0 s"):
        run_to_end("it", [sys.executable, "-c", SLEEPS], timeout_s=0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_the_demo_in_order(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def be_signalled() -> None:
        with ending_on_signals():
            os.kill(os.getpid(), number)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        be_signalled()
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_does_not_disturb_the_shutdown(capfd: pytest.CaptureFixture[str]) -> None:
    with undisturbed("stopping already"):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert "stopping already" in capfd.readouterr().err
