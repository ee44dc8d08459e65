from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sungrow_lib.demo import setup
from sungrow_lib.demo.processes import (
    Child,
    ChildError,
    Job,
    ending_on_signals,
    run_jobs,
    undisturbed,
    wait_until,
)
from sungrow_lib.demo.setup import free_ports
from tests.patience import PATIENCE_S

SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"


def child(tmp_path: Path, code: str) -> Child:
    return Child("the test child", [sys.executable, "-c", code], tmp_path / "child.log")


def wait_up(started: Child) -> None:
    wait_until("the child", lambda: "up" in started.log.read_text(), timeout_s=PATIENCE_S, watched=[started])


def test_a_child_ends_when_asked(tmp_path: Path) -> None:
    started = child(tmp_path, SLEEPS)
    wait_up(started)
    started.require_running()
    assert started.stop(patience_s=60)
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
        wait_until("never", lambda: False, timeout_s=PATIENCE_S, watched=[started])


def test_a_killed_child_is_reported_with_its_signal(tmp_path: Path) -> None:
    started = child(tmp_path, SLEEPS)
    wait_up(started)
    os.kill(started.pid, signal.SIGKILL)
    with pytest.raises(ChildError, match="signal 9"):
        wait_until("never", lambda: False, timeout_s=PATIENCE_S, watched=[started])


def test_waiting_in_vain_says_for_what_and_shows_the_logs(tmp_path: Path) -> None:
    started = child(tmp_path, SLEEPS)
    wait_up(started)
    with pytest.raises(ChildError, match=r"(?s)in vain for a miracle.*up"):
        wait_until("a miracle", lambda: False, timeout_s=0.1, watched=[started])
    started.stop(patience_s=60)


def test_ctrl_c_of_the_terminal_does_not_reach_a_child(tmp_path: Path) -> None:
    started = child(tmp_path, SLEEPS)
    assert os.getpgid(started.pid) != os.getpgid(0)
    started.stop(patience_s=60)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_a_child_does_not_outlive_a_demo_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time; from sungrow_lib.demo.processes import Child; "
        f"child = Child('it', [sys.executable, '-c', {SLEEPS!r}], pathlib.Path({str(tmp_path / 'log')!r})); "
        "print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        orphan = int(demo.stdout.readline())
        demo.kill()
    stat = Path(f"/proc/{orphan}/stat")
    deadline = time.monotonic() + PATIENCE_S
    while stat.exists() and ") Z" not in stat.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not stat.exists() or ") Z" in stat.read_text()


def test_a_program_that_is_missing_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ChildError, match="cannot start it"):
        Child("it", [str(tmp_path / "none")], tmp_path / "log")
    with pytest.raises(ChildError, match="cannot start it"):
        run_jobs(Job("it", [str(tmp_path / "none")]))


def job(code: str) -> Job:
    return Job("it", [sys.executable, "-c", code])


def test_jobs_return_what_they_printed_in_their_order() -> None:
    assert run_jobs(job("import time; time.sleep(0.3); print('one')"), job("print('two')")) == [
        "one\n",
        "two\n",
    ]


def test_a_job_that_fails_is_quoted_and_ends_the_others() -> None:
    begun = time.monotonic()
    with pytest.raises(ChildError, match=r"(?s)it failed \(exit status 1\).*no such database"):
        run_jobs(job("raise SystemExit('no such database')"), job(SLEEPS))
    assert time.monotonic() - begun < 30


def test_a_job_that_takes_too_long_is_ended() -> None:
    with pytest.raises(ChildError, match="it took too long"):
        run_jobs(job(SLEEPS), timeout_s=0.1)


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


def test_free_ports_are_different_and_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    lowest = min(free_ports(9))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", lowest))
        monkeypatch.setattr(setup, "_NOT_HANDED_OUT", range(lowest, lowest + 20))
        for _ in range(20):
            assert lowest not in free_ports(1)
        assert len(set(free_ports(5))) == 5


GETS_ON = """
import pathlib, time
for day in range(5):
    print(day, flush=True)
    while not pathlib.Path({folder!r}, str(day)).exists():
        time.sleep(0.01)
"""


def test_what_gets_on_may_take_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = [0.0], []
    monkeypatch.setattr("sungrow_lib.demo.setup.time.monotonic", lambda: clock[0])

    def tell(text: str) -> None:
        told.append(text)
        clock[0] += 100  # as long as a day takes on this slow machine
        if day := text.removeprefix("the test child: "):
            (tmp_path / day).touch()

    setup.finish([child(tmp_path, GETS_ON.format(folder=str(tmp_path)))], 120, tell)
    assert told[-5:] == [f"the test child: {day}" for day in range(5)]


def test_what_stands_still_is_named(tmp_path: Path) -> None:
    started = child(tmp_path, SLEEPS)
    try:
        with pytest.raises(ChildError, match=r"stands still .*the test child: up"):
            setup.finish([started], 3.0, lambda _: wait_up(started))
    finally:
        started.stop(5)


def test_what_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(ChildError, match="exit status 3"):
        setup.finish([child(tmp_path, "raise SystemExit(3)")], 120, lambda _: None)
