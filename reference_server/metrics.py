"""`GET /metrics`: what this server did, for Prometheus: all of its worker processes together."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from reference_server.storage.database import Database
from reference_server.storage.errors import StorageError
from sungrow_lib._version import __version__
from sungrow_lib.wire import IngestAnswer

CONTENT_TYPE: Final = "text/plain"
METRICS_TEXT: Final = f"{CONTENT_TYPE}; charset=utf-8"
SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable: where worker processes count together; has to be set before they start."""
MOST_DEVICES: Final = 1_000
"""Devices up to which each has its own series; a larger fleet is watched by its counts."""
_VERDICTS: Final = ("inserted", "duplicate", "conflict", "rejected", "deferred")
_BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class StateCollector(Collector):
    """What holds for all processes alike, looked up when somebody asks.

    Args:
        marks: how many rollup buckets wait; None when the database is away.
        lags: age of each device's newest reading, in seconds.
    """

    def __init__(self, marks: int | None, lags: Mapping[str, float] | None = None) -> None:
        self._marks = marks
        self._lags = lags or {}

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; asked for by the registry."""
        lag = GaugeMetricFamily(
            "sungrow_device_lag_seconds",
            f"Age of each device's newest reading; none with more than {MOST_DEVICES} devices",
            labels=["device_id"],
        )
        for device_id, seconds in self._lags.items():
            lag.add_metric([device_id], seconds)
        yield lag
        if self._marks is not None:
            yield GaugeMetricFamily(
                "sungrow_rollup_marks", "Rollup buckets that wait to be recomputed", self._marks
            )
        is_up = int(self._marks is not None)
        yield GaugeMetricFamily("sungrow_database_up", "Whether the database answers", is_up)
        build = GaugeMetricFamily("sungrow_build_info", "Version", labels=["version"])
        build.add_metric([__version__], 1)
        yield build


class Metrics:
    """Counts what this process does.

    Args:
        database: asked for what all processes share.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "sungrow_http_requests",
            "Requests answered",
            ["method", "path", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "sungrow_http_request_seconds",
            "Time to answer",
            ["method", "path"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._answers: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        samples = Counter(
            "sungrow_samples", "Readings received, by verdict", ["verdict"], registry=self._registry
        )
        # All of them from 0 on: the first of a kind is an increase, too.
        self._samples = [samples.labels(verdict) for verdict in _VERDICTS]
        self._streams = Gauge(
            "sungrow_streams", "Open live streams", registry=self._registry, multiprocess_mode="livesum"
        )

        self._pool = Gauge(
            "sungrow_database_connections",
            "Connections to the database by state, and requests that wait for one",
            ["state"],
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._refreshed = Gauge(
            "sungrow_rollups_refreshed_timestamp_seconds",
            "When all rollups that waited had been recomputed",
            registry=self._registry,
            multiprocess_mode="max",
        )

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        key = method, path, status
        known = self._answers.get(key)
        if known is None:  # what counts them is looked up by its labels once: that takes longer than to count
            known = self._requests.labels(method, path, str(status)), self._seconds.labels(method, path)
            self._answers[key] = known
        count, duration = known
        count.inc()
        duration.observe(seconds)

    def ingested(self, answer: IngestAnswer) -> None:
        """Count the verdicts of a batch."""
        counts = (
            answer.inserted,
            answer.duplicates,
            len(answer.conflicts),
            len(answer.rejected),
            len(answer.deferred),
        )
        for samples, count in zip(self._samples, counts, strict=True):
            if count:
                samples.inc(count)

    def streams(self, count: int) -> None:
        """Note how many live streams this process has open."""
        self._streams.set(count)

    def connections(self, pool: Mapping[str, int]) -> None:
        """Note how this process's connections to the database are used."""
        for state, count in pool.items():
            self._pool.labels(state).set(count)

    def refreshed(self, at: datetime) -> None:
        """Note when no rollup waited any more."""
        self._refreshed.set(at.timestamp())

    async def text(self, now: datetime, *, devices: Collection[str] | None = None) -> bytes:
        """Return everything counted, by all workers; a database that is away is told, too.

        Args:
            now: the time, UTC.
            devices: those that may be named, None for every one.
        """
        try:
            [(marks,)] = await self._database.rows("count_marks")
            state = StateCollector(marks, await self._lags(now, devices))
        except StorageError:
            state = StateCollector(None)
        return generate_latest(self._counted()) + generate_latest(_registry_of(state))

    async def _lags(self, now: datetime, devices: Collection[str] | None) -> dict[str, float]:
        rows = await self._database.rows("device_lags", limit=MOST_DEVICES + 1)
        if len(rows) > MOST_DEVICES:
            return {}
        return {
            name: max(0.0, (now - last).total_seconds())
            for name, last in rows
            if last is not None and (devices is None or name in devices)
        }

    def _counted(self) -> CollectorRegistry:
        if SHARED_FOLDER not in os.environ:
            return self._registry
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # not typed
        return together


def _registry_of(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry
