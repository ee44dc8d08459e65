"""What the edge says to Prometheus, on loopback. Unknown is absent, never zero."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from reference_edge.account import ACCEPTED, DeviceAccount
from reference_edge.exposition import CONTENT_TYPE, Family, exposition
from reference_edge.page import Page, listen
from reference_edge.survey import Survey
from sungrow_lib._version import __version__
from sungrow_lib.errors import ConfigurationError
from sungrow_lib.quantities import QUANTITIES, Quantity, QuantityKind
from sungrow_lib.upload import ConnectionState, UploadStatus

_STATES: Final = ("pending", "waiting", "deferred", "rejected", "conflicts", "delivered")
_VALUES: Final = [q for q in QUANTITIES if q.is_numeric and q.kind is not QuantityKind.META]
_FRESH_INTERVALS: Final = 3
"""A reading older than so many poll intervals says nothing of now."""


def metrics_listener(port: int) -> socket.socket:
    """Return a socket that listens on 127.0.0.1, for `serve_metrics`.

    Raises:
        ConfigurationError: another program has the port.
    """
    try:
        return listen(port)
    except OSError as error:
        raise ConfigurationError(
            f"METRICS_PORT: port {port} on 127.0.0.1 cannot be used: {error.strerror}; choose another",
            variable="METRICS_PORT",
        ) from None


async def serve_metrics(listener: socket.socket, collector: EdgeCollector) -> None:
    """Answer `GET /metrics` until cancelled."""
    await Page("/metrics", CONTENT_TYPE, lambda: exposition(collector.collect())).serve(listener)


class EdgeCollector:
    """Turns what the daemon knows into metrics, when it is asked.

    Args:
        accounts: what became of the polls, by device.
        intervals: seconds between polls, by device.
        survey: what spool and disk said last.
        upload: tells how the uploader does.
        queued: how many readings wait in memory.
    """

    def __init__(
        self,
        accounts: Mapping[str, DeviceAccount],
        intervals: Mapping[str, float],
        survey: Survey,
        upload: Callable[[], UploadStatus],
        queued: Callable[[], int],
    ) -> None:
        self._accounts = accounts
        self._intervals = intervals
        self._survey = survey
        self._upload = upload
        self._queued = queued

    def collect(self) -> Iterator[Family]:
        """Yield all metrics."""
        yield _gauge("sungrow_edge_info", "Version of the edge", [((__version__,), 1.0)], ("version",))
        yield from self._polls()
        yield from self._spool()
        yield from self._delivery()
        yield from self._readings()

    def _polls(self) -> Iterator[Family]:
        yield Family(
            "sungrow_edge_polls_total",
            "counter",
            "Polls by what came of them",
            ("device_id", "outcome"),
            [
                ((account.device_id, outcome), count)
                for account in self._accounts.values()
                for outcome, count in {ACCEPTED: account.accepted, **account.not_accepted}.items()
            ],
        )
        yield _gauge(
            "sungrow_edge_device_up",
            "Whether the last poll brought a reading",
            [((a.device_id,), float(a.reason is None)) for a in self._accounts.values() if a.at],
            ("device_id",),
        )

    def _spool(self) -> Iterator[Family]:
        accounts = self._accounts.values()
        yield _gauge(
            "sungrow_edge_spool_readings",
            "Readings in the spool by where they stand",
            [
                ((account.device_id, state), getattr(account.counts, state))
                for account in accounts
                if account.counts
                for state in _STATES
            ],
            ("device_id", "state"),
        )
        yield _gauge(
            "sungrow_edge_oldest_pending_timestamp_seconds",
            "Time stamp of the oldest reading to be delivered",
            [
                ((account.device_id,), account.counts.oldest_pending.timestamp())
                for account in accounts
                if account.counts and account.counts.oldest_pending
            ],
            ("device_id",),
        )
        yield _gauge(
            "sungrow_edge_memory_readings", "Readings that wait for the spool", [((), self._queued())]
        )
        survey = self._survey
        clock = survey.clock
        for name, what, value in (
            ("sungrow_edge_spool_bytes", "Size of the spool on disk", survey.spool_bytes),
            ("sungrow_edge_disk_free_bytes", "Room on the spool's disk", survey.disk_free_bytes),
            ("sungrow_edge_merged_readings", "Readings merged into others on a full disk", survey.merged),
            ("sungrow_edge_clock_offset_seconds", "This clock minus the server's", clock and clock.offset_s),
            ("sungrow_edge_clock_trusted", "Whether the clock dates readings", clock and clock.is_trusted),
        ):
            if value is not None:
                yield _gauge(name, what, [((), float(value))])

    def _delivery(self) -> Iterator[Family]:
        upload = self._upload()
        yield Family(
            "sungrow_edge_delivered_readings_total",
            "counter",
            "Readings the server confirmed",
            (),
            [((), upload.delivered)],
        )
        if upload.connection is not ConnectionState.UNKNOWN:
            is_up = float(upload.connection is ConnectionState.CONNECTED)
            yield _gauge("sungrow_edge_server_up", "Whether the last request was taken", [((), is_up)])
        if upload.last_success is not None:
            at = upload.last_success.timestamp()
            yield _gauge(
                "sungrow_edge_last_upload_timestamp_seconds", "Last answer that took a reading", [((), at)]
            )
        alarms = (*upload.alarms, *self._survey.alarms.values())  # both may raise the same
        raised = dict.fromkeys((alarm.code, alarm.device_id or "") for alarm in alarms)
        yield _gauge(
            "sungrow_edge_alarm",
            "Alarms that are raised now",
            [(labels, 1.0) for labels in raised],
            ("code", "device_id"),
        )

    def _readings(self) -> Iterator[Family]:
        fresh = [account for account in self._accounts.values() if self._is_fresh(account)]
        for quantity in _VALUES:
            numbers = [
                ((account.device_id, *labels), number)
                for account in fresh
                for labels, number in _numbers(quantity, getattr(account.sample, quantity.name))
            ]
            if numbers:
                labels = ("device_id",) if quantity.length is None else ("device_id", "item")
                yield _gauge(f"sungrow_{quantity.name}", quantity.title, numbers, labels)

    def _is_fresh(self, account: DeviceAccount) -> bool:
        if account.sample is None:
            return False
        age_s = (datetime.now(UTC) - account.sample.ts).total_seconds()
        return abs(age_s) <= _FRESH_INTERVALS * self._intervals[account.device_id]


def _numbers(quantity: Quantity, value: object) -> Iterator[tuple[tuple[str, ...], float]]:
    """The labels and numbers of a value: one, or those of a list's items that are known."""
    if quantity.length is None:
        if isinstance(value, int | float):
            yield (), value
    elif isinstance(value, list):
        for item, number in enumerate(value, start=1):
            if number is not None:
                yield (str(item),), number


def _gauge(
    name: str, what: str, samples: list[tuple[tuple[str, ...], float]], labels: tuple[str, ...] = ()
) -> Family:
    return Family(name, "gauge", what, labels, samples)
