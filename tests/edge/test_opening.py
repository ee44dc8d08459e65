"""What is said of a spool that takes long to open."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from reference_edge import opening as module
from reference_edge.health import HealthReport, read_health
from reference_edge.opening import tell_of_opening
from reference_edge.survey import Survey
from sungrow_lib.service_manager import ServiceManager
from sungrow_lib.spool import SpoolOpening
from sungrow_lib.upload.status import StatusBoard

pytestmark = pytest.mark.anyio


class Manager(ServiceManager):
    """Hears all that is said."""

    def __init__(self) -> None:
        super().__init__({})
        self.heard: list[dict[str, str]] = []

    def say(self, **state: str) -> None:
        self.heard.append(state)


@pytest.mark.parametrize(
    ("stuck_s", "is_recovering", "status"),
    [
        (0, False, "checking the spool"),
        (0, True, "recovering a damaged spool"),
        (1_000, False, None),
        (1_000, True, None),
    ],
)
async def test_it_says_that_it_gets_on_as_long_as_it_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stuck_s: float,
    status: str | None,
    *,
    is_recovering: bool,
) -> None:
    """What is stuck is for the service manager to end."""
    monkeypatch.setattr(module, "_TOLD_S", 0.01)
    manager, survey, opening = Manager(), Survey(tmp_path), SpoolOpening()
    opening.moved_at -= stuck_s
    opening.is_recovering = is_recovering
    health = tmp_path / "health.json"
    report = HealthReport(health, {}, survey, StatusBoard().snapshot, lambda: 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell_of_opening, opening, manager, survey, report)
        while not read_health(health)["running"]:  # noqa: ASYNC110 - written by a thread
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert [alarm["code"] for alarm in read_health(health)["alarms"]] == ["spool"] * is_recovering
    if status is None:
        assert manager.heard == []
    else:
        assert manager.heard[0] == {
            "EXTEND_TIMEOUT_USEC": "120000000",
            "WATCHDOG": "1",
            "STATUS": status,
        }
