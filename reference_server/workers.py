"""Runs the server in as many processes as asked for, and replaces one that dies."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from time import monotonic
from typing import Final

from prometheus_client.multiprocess import mark_process_dead

from reference_server.config import ServerSettings
from reference_server.leftovers import FOLDERS, clean_up, held
from reference_server.listeners import bind, bind_metrics, tls_context
from reference_server.metrics import SHARED_FOLDER
from reference_server.service import Post, run
from sungrow_lib.logs import configure_logging

_LOG: Final = logging.getLogger(__name__)

_STOP_LIMIT_S: Final = 20.0
"""A worker that has not ended so long after it was asked to is killed."""
_SHORT_LIFE_S: Final = 5.0
_PAUSE_S: Final = 1.0


def serve(settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT; requests that were taken are finished.

    Raises:
        ConfigurationError: the certificate cannot be used, or the address is taken.
    """
    tls_context(settings)
    count = settings.workers or os.cpu_count() or 1
    posts = [Post(number, sockets) for number, sockets in enumerate(bind(settings, count))]
    posts[0].metrics.extend(bind_metrics(settings))
    if count == 1:
        run(settings, posts[0])
        return
    with _shared_metrics():
        _Supervisor(settings, posts).supervise()


@contextmanager
def _shared_metrics() -> Iterator[None]:
    """Where the workers count together, so that each shows the counts of all."""
    clean_up(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=FOLDERS) as folder, held(Path(folder)):
        os.environ[SHARED_FOLDER] = folder
        yield


@dataclass(slots=True)
class _Worker:
    post: Post
    process: SpawnProcess
    started: float


class _Supervisor:
    """Keeps one process running for each post.

    Workers are started anew, not forked: nothing of the supervisor is in them but their sockets, which it
    keeps open itself, so that clients that wait for a dead worker are taken by its successor.

    Args:
        settings: how the server is set up.
        posts: what the workers do.
    """

    def __init__(self, settings: ServerSettings, posts: list[Post]) -> None:
        self._settings = settings
        self._posts = posts
        self._context = multiprocessing.get_context("spawn")
        self._told, self._tell = os.pipe()
        self._stopping = False

    def supervise(self) -> None:
        """Run the workers until asked to stop, then end them."""
        os.set_blocking(self._tell, False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        workers = [self._started(post) for post in self._posts]
        while not self._stopping:
            wait([self._told, *(worker.process.sentinel for worker in workers)])
            if not self._stopping:
                workers = [w if w.process.is_alive() else self._replaced(w) for w in workers]
        _end(workers)

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True
        os.write(self._tell, b"\0")

    def _started(self, post: Post) -> _Worker:
        arguments = self._settings, post
        process = self._context.Process(target=_work, args=arguments, name=f"worker-{post.number}")
        # It is born deaf to Ctrl-C: a terminal sends that to all, and who is busy with imports cannot answer.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return _Worker(post, process, monotonic())

    def _replaced(self, dead: _Worker) -> _Worker:
        code = dead.process.exitcode
        _LOG.error("a worker ended and is replaced", extra={"worker": dead.post.number, "exit_status": code})
        assert dead.process.pid is not None
        mark_process_dead(dead.process.pid)  # type: ignore[no-untyped-call]  # not typed
        if monotonic() - dead.started < _SHORT_LIFE_S:
            wait([self._told], _PAUSE_S)
        return self._started(dead.post)


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    end = monotonic() + _STOP_LIMIT_S
    for worker in workers:
        worker.process.join(max(0.0, end - monotonic()))
        if worker.process.is_alive():
            _LOG.error("a worker does not end and is killed", extra={"worker": worker.post.number})
            worker.process.kill()
            worker.process.join()


def _work(settings: ServerSettings, post: Post) -> None:
    """Be a worker."""
    configure_logging(settings.log_level)
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None
    try:
        run(settings, post, parent=supervisor.sentinel)
    except Exception:  # noqa: BLE001 - whatever it is, the log says so and a successor is started
        _LOG.exception("a worker failed")
        sys.exit(1)
