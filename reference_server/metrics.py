"""`GET /metrics`: what this server process did, for Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from reference_server.storage.database import Database
from reference_server.storage.errors import StorageError
from sungrow_lib._version import __version__
from sungrow_lib.wire import IngestAnswer

CONTENT_TYPE: Final = "text/plain"
_BUCKETS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


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
        self._samples = Counter(
            "sungrow_samples", "Readings received, by verdict", ["verdict"], registry=self._registry
        )
        self._streams = Gauge("sungrow_streams", "Open live streams", registry=self._registry)
        self._marks = Gauge(
            "sungrow_rollup_marks", "Rollup buckets that wait to be recomputed", registry=self._registry
        )
        self._up = Gauge("sungrow_database_up", "Whether the database answers", registry=self._registry)
        Gauge("sungrow_build_info", "Version", ["version"], registry=self._registry).labels(__version__).set(
            1
        )

    def answered(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, path, str(status)).inc()
        self._seconds.labels(method, path).observe(seconds)

    def ingested(self, answer: IngestAnswer) -> None:
        """Count the verdicts of a batch."""
        for verdict, count in (
            ("inserted", answer.inserted),
            ("duplicate", answer.duplicates),
            ("conflict", len(answer.conflicts)),
            ("rejected", len(answer.rejected)),
            ("deferred", len(answer.deferred)),
        ):
            if count:
                self._samples.labels(verdict).inc(count)

    async def text(self, streams: int) -> bytes:
        """Return everything counted, with ``streams`` open now; a database that is away is told, too."""
        self._streams.set(streams)
        try:
            [(marks,)] = await self._database.rows("count_marks")
            self._marks.set(marks)
            self._up.set(1)
        except StorageError:
            self._up.set(0)
        return generate_latest(self._registry)
