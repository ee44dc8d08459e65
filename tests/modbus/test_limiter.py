from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from sungrow_lib.errors import ConfigurationError, DeviceBusyError
from sungrow_lib.modbus.clock import SystemClock
from sungrow_lib.modbus.limiter import DeviceLimiter, Endpoint, lock_dir
from tests.modbus.helpers import ManualClock

pytestmark = pytest.mark.anyio

ENDPOINT = Endpoint("192.0.2.7", 502)


def limiter(
    folder: Path, clock: ManualClock, endpoint: Endpoint = ENDPOINT, gap_s: float = 0.1
) -> DeviceLimiter:
    return DeviceLimiter(endpoint, folder, request_gap_s=gap_s, clock=clock)


async def one_pass(device: DeviceLimiter, clock: ManualClock, lasts_s: float = 0.0) -> float:
    """Make one pass with one request; return when the request left."""
    async with device.one_pass():
        await device.before_request()
        left_at = clock.now
        await clock.sleep(lasts_s)
        device.after_answer()
    return left_at


async def test_passes_start_five_seconds_apart(tmp_path: Path, clock: ManualClock) -> None:
    device = limiter(tmp_path, clock)
    device.acquire()
    starts = [await one_pass(device, clock, lasts_s=0.5) for _ in range(4)]
    assert [round(later - sooner, 2) for sooner, later in pairwise(starts)] == [5.04] * 3


@pytest.mark.parametrize(("answer_s", "interval_s"), [(0.002, 5.012), (0.02, 5.03), (0.5, 5.04)])
async def test_a_request_may_have_left_as_late_as_its_answer_allows(
    tmp_path: Path, clock: ManualClock, answer_s: float, interval_s: float
) -> None:
    device = limiter(tmp_path, clock)
    device.acquire()
    sooner, later = [await one_pass(device, clock, lasts_s=answer_s) for _ in range(2)]
    assert later - sooner == pytest.approx(interval_s, abs=0.0001)


async def test_connecting_is_no_first_request(tmp_path: Path, clock: ManualClock) -> None:
    device = limiter(tmp_path, clock)
    device.acquire()
    async with device.one_pass():
        await clock.sleep(0.02)
        device.after_answer()  # it let us in
        await clock.sleep(2.0)
        await device.before_request()
        asked_at = clock.now
        await clock.sleep(0.02)
        device.after_answer()
    assert await one_pass(device, clock) - asked_at == pytest.approx(5.03, abs=0.001)


async def test_long_pass_is_followed_by_a_second_of_rest(tmp_path: Path, clock: ManualClock) -> None:
    device = limiter(tmp_path, clock)
    device.acquire()
    first = await one_pass(device, clock, lasts_s=8.0)
    assert await one_pass(device, clock) - (first + 8.0) == pytest.approx(1.01)


async def test_slow_connecting_does_not_bring_requests_together(tmp_path: Path, clock: ManualClock) -> None:
    device = limiter(tmp_path, clock)
    device.acquire()
    async with device.one_pass():
        await clock.sleep(3.0)  # connecting
        await device.before_request()
        first = clock.now
    assert await one_pass(device, clock) - first >= 5.0


async def test_gap_between_an_answer_and_the_next_request(tmp_path: Path, clock: ManualClock) -> None:
    device = limiter(tmp_path, clock, gap_s=0.02)
    device.acquire()
    async with device.one_pass():
        await device.before_request()
        await clock.sleep(0.3)
        device.after_answer()
        answered = clock.now
        await device.before_request()
        assert 0.02 <= clock.now - answered < 0.03


async def test_pace_survives_a_restart(tmp_path: Path, clock: ManualClock) -> None:
    first = limiter(tmp_path, clock)
    first.acquire()
    began = await one_pass(first, clock)
    first.release()
    second = limiter(tmp_path, clock)
    second.acquire()
    assert await one_pass(second, clock) - began >= 5.0


async def test_a_pass_that_never_ended_counts_until_now(tmp_path: Path, clock: ManualClock) -> None:
    killed = limiter(tmp_path, clock)
    killed.acquire()
    await killed.one_pass().__aenter__()
    killed.release()  # what the kernel does at SIGKILL
    clock.now += 60.0
    successor = limiter(tmp_path, clock)
    successor.acquire()
    taken_at = clock.now
    assert await one_pass(successor, clock) - taken_at == pytest.approx(1.01)


async def test_the_next_holder_knows_of_the_last_refusal(tmp_path: Path, clock: ManualClock) -> None:
    first = limiter(tmp_path, clock)
    assert first.refused_at < 0
    first.acquire()
    await one_pass(first, clock)
    first.after_refusal()
    first.release()
    clock.now += 2.0
    second = limiter(tmp_path, clock)
    second.acquire()
    assert clock.now - second.refused_at == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("wall_step_s", "wait_s"),
    [(2.0, 3.01), (3600.0, 0.0), (-3600.0, 5.01)],
    ids=["quick reboot", "long outage", "clock went back"],
)
async def test_after_a_reboot_the_wall_clock_decides(
    tmp_path: Path, clock: ManualClock, wall_step_s: float, wait_s: float
) -> None:
    before = limiter(tmp_path, clock)
    before.acquire()
    await one_pass(before, clock)
    before.release()
    rebooted = ManualClock(boottime=5.0, boot_id="boot-2")
    rebooted.wall_offset += clock.wall() - rebooted.wall() + timedelta(seconds=wall_step_s)
    after = limiter(tmp_path, rebooted)
    after.acquire()
    assert await one_pass(after, rebooted) - 5.0 == pytest.approx(wait_s, abs=0.001)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"process":1,"started":{},"ended":null}',
        b"\xff" * 600,
        b'{"process": 1, "started": {"boot_id": "boot-1", "boottime": 1e18, "wall": 1e18}, "ended": null}',
    ],
)
async def test_unreadable_record_costs_five_seconds_not_more(
    tmp_path: Path, clock: ManualClock, content: bytes
) -> None:
    (tmp_path / ENDPOINT.lock_name).write_bytes(content)
    device = limiter(tmp_path, clock)
    device.acquire()
    began = clock.now
    assert await one_pass(device, clock) - began == pytest.approx(5.01)


async def test_a_record_is_json_of_one_length_whatever_the_boot_is_called(
    tmp_path: Path, clock: ManualClock
) -> None:
    clock.boot_id = 'a "boot" \\ ü'
    device = limiter(tmp_path, clock)
    device.acquire()
    lock = tmp_path / ENDPOINT.lock_name
    assert set(json.loads(lock.read_bytes()).values()) == {os.getpid(), None}
    async with device.one_pass():
        assert json.loads(lock.read_bytes())["ended"] is None
        device.after_refusal()
    content = lock.read_bytes()
    record = json.loads(content)
    now = {"boot_id": clock.boot_id, "boottime": clock.boottime(), "wall": clock.wall().timestamp()}
    assert record == {"process": os.getpid(), "started": now, "ended": now, "refused": now}
    assert len(content) == 512


def test_two_pollers_of_one_process_exclude_each_other(tmp_path: Path, clock: ManualClock) -> None:
    first, second = limiter(tmp_path, clock), limiter(tmp_path, clock)
    first.acquire()
    first.acquire()  # its own
    with pytest.raises(DeviceBusyError, match=rf"192\.0\.2\.7:502 is being read by process {os.getpid()};"):
        second.acquire()
    limiter(tmp_path, clock, Endpoint("192.0.2.7", 503)).acquire()  # another port is another device
    first.release()
    second.acquire()


def test_everyone_may_use_the_lock_whatever_the_umask(tmp_path: Path, clock: ManualClock) -> None:
    before = os.umask(0o077)
    try:
        limiter(tmp_path, clock).acquire()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / ENDPOINT.lock_name).stat().st_mode) == 0o666


def test_links_are_not_followed(tmp_path: Path, clock: ManualClock) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    lock = tmp_path / ENDPOINT.lock_name
    lock.symlink_to(victim)
    with pytest.raises(ConfigurationError, match="SUNGROW_LOCK_DIR"):
        limiter(tmp_path, clock).acquire()
    lock.unlink()
    os.link(victim, lock)
    with pytest.raises(ConfigurationError, match="plain file"):
        limiter(tmp_path, clock).acquire()
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(ConfigurationError):
        limiter(tmp_path, clock).acquire()
    assert victim.read_text() == "precious"


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(ConfigurationError, match="SUNGROW_LOCK_DIR") as caught:
        limiter(tmp_path / "absent", clock).acquire()
    assert caught.value.variable == "SUNGROW_LOCK_DIR"


def test_removed_lock_file_is_replaced(tmp_path: Path, clock: ManualClock) -> None:
    first = limiter(tmp_path, clock)
    first.acquire()
    first.release()
    (tmp_path / ENDPOINT.lock_name).unlink()
    first.acquire()
    with pytest.raises(DeviceBusyError):
        limiter(tmp_path, clock).acquire()


async def test_lock_file_removed_while_held_is_noticed_at_the_next_pass(
    tmp_path: Path, clock: ManualClock
) -> None:
    first, second = limiter(tmp_path, clock), limiter(tmp_path, clock)
    first.acquire()
    began = await one_pass(first, clock)
    (tmp_path / ENDPOINT.lock_name).unlink()
    first.acquire()
    with pytest.raises(DeviceBusyError):
        second.acquire()
    assert await one_pass(first, clock) - began >= 5.0  # the new file knew nothing, but we do
    (tmp_path / ENDPOINT.lock_name).unlink()
    second.acquire()
    with pytest.raises(DeviceBusyError):
        first.acquire()


def test_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SUNGROW_LOCK_DIR", str(tmp_path))
    assert lock_dir() == tmp_path
    assert lock_dir(Path("/chosen")) == Path("/chosen")
    monkeypatch.delenv("SUNGROW_LOCK_DIR")
    assert lock_dir().stat().st_mode & stat.S_IWOTH


def test_one_name_per_address_however_it_is_written() -> None:
    assert Endpoint("::1", 502).lock_name == Endpoint("0:0:0:0:0:0:0:1", 502).lock_name
    assert "/" not in Endpoint("fe80::1%eth0", 502).lock_name


HOLDER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from sungrow_lib.modbus.clock import SystemClock
    from sungrow_lib.modbus.limiter import DeviceLimiter, Endpoint
    import anyio
    async def main():
        endpoint = Endpoint("192.0.2.7", 502)
        device = DeviceLimiter(endpoint, Path(sys.argv[1]), request_gap_s=0.1, clock=SystemClock())
        device.acquire()
        began = SystemClock().boottime()
        async with device.one_pass():
            print(began, flush=True)
            await anyio.sleep(60)
    anyio.run(main)
    """
)


async def test_another_process_excludes_us_until_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:  # noqa: ASYNC220 - nothing else runs
        assert holder.stdout is not None
        began = float(holder.stdout.readline())
        device = DeviceLimiter(ENDPOINT, tmp_path, request_gap_s=0.1, clock=SystemClock())
        with pytest.raises(DeviceBusyError, match=f"process {holder.pid};"):
            device.acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        device.acquire()
        # It died in its pass: the five seconds from its start are kept by us, in real time.
        async with device.one_pass():
            assert SystemClock().boottime() - began >= 5.0


def test_one_device_has_one_lock_whichever_way_its_address_is_written() -> None:
    names = {
        Endpoint(address, 502).lock_name for address in ("192.0.2.7", "::ffff:192.0.2.7", "::ffff:c000:207")
    }
    assert names == {ENDPOINT.lock_name}
