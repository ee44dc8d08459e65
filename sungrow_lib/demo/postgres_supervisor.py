"""Keeps one PostgreSQL and its owner together.

Run as a script by :mod:`sungrow_lib.demo.postgres`, never imported. It stands between the two because each
can be killed at any moment:

* Its standard input is a pipe that only the owner holds. The owner ends, however it ends, the pipe closes,
  and PostgreSQL is shut down. A copy of the owner made by fork() would hold the pipe too, so on Linux the
  owner itself is watched as well.
* PostgreSQL asks the kernel for a shutdown signal when this process dies (Linux).
* A lock on ``lock`` is inherited by every process of the cluster. Who gets it knows that no one of an earlier
  run is left, so a stale ``postmaster.pid`` can go, whatever process has its number today.

PostgreSQL refuses to run as root, and as a user id without a name. Such a user is called `nobody` inside a
private user namespace (files stay the user's). Where those are forbidden, root really becomes `nobody`, with
a private copy of the programs. No account is made, and the permissions of nothing that exists change.

Only the standard library is used, so that it starts in milliseconds with ``python -I -S``.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, Literal, NoReturn

SOCKET_NAME: Final = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT: Final = 103
"""Most bytes of a socket's path: 107 on Linux, 103 on macOS."""

ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""All that PostgreSQL sees: a PGPORT or PGOPTIONS of the user must not change the cluster."""

LOCK_PATIENCE_S: Final = 3.0
START_PATIENCE_S: Final = 300.0
"""Recovery after a crash replays the log; that may take a while on a slow disk."""

NOBODY: Final = "nobody"
TEMPORARY_PREFIX: Final = "sungrow-postgres-"
CLONE_NEWUSER: Final = 0x10000000
PR_SET_PDEATHSIG: Final = 1

_libc = ctypes.CDLL(None, use_errno=True)


class RefusedError(Exception):
    """PostgreSQL cannot run here; the message is for the user."""


class FailedError(Exception):
    """PostgreSQL ended although it should not have; the message is for the user."""


class ReleasedError(Exception):
    """The owner has gone or asks to stop."""


@dataclass(frozen=True)
class Request:
    """What the owner asks for, JSON in the first argument.

    Attributes:
        data_dir: folder of the cluster, its log and its lock; exists.
        bin_dir: folder of initdb and postgres.
        private: folders to copy when another user id must read the programs; empty when every user can.
        private_root: the folder they are in; the copy keeps their places relative to it.
        initdb: options of initdb.
        postgres: options of postgres.
        database: name of the database (and of its owner) to make in a new cluster.
        owner: process id of the owner.
    """

    data_dir: str
    bin_dir: str
    private: Sequence[str]
    private_root: str
    initdb: Sequence[str]
    postgres: Sequence[str]
    database: str
    owner: int


class Watch:
    """Wakes up when a child ends, and says so when the owner has gone or asks to stop."""

    def __init__(self, owner: int) -> None:
        self._released = False
        wake, notify = os.pipe()
        for end in (wake, notify):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(notify)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only wakes the poll
        signal.signal(signal.SIGTERM, self._release)
        self._wake = wake
        self._poll = select.poll()
        self._poll.register(wake, select.POLLIN)
        self._poll.register(sys.stdin.fileno(), select.POLLIN)
        self._watch_process(owner)

    def pause(self, seconds: float | None) -> None:
        """Wait until something happens, at most ``seconds``.

        Raises:
            ReleasedError: the owner has gone or asks to stop.
        """
        events = self._poll.poll(None if seconds is None else seconds * 1000)
        if any(descriptor != self._wake for descriptor, _ in events):
            self._released = True
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 64)
        if self._released:
            raise ReleasedError

    def _watch_process(self, owner: int) -> None:
        if not hasattr(os, "pidfd_open"):
            return
        with contextlib.suppress(OSError):  # an old kernel; the pipe alone has to do
            self._poll.register(os.pidfd_open(owner), select.POLLIN)
        # Had the owner died before, another process could have its number by now.
        self._released = self._released or os.getppid() != owner

    def _release(self, _signal: int, _frame: FrameType | None) -> None:
        self._released = True


@dataclass(frozen=True)
class Runner:
    """How PostgreSQL's programs are started: directly, or by root as another user id.

    Attributes:
        bin_dir: folder of the programs.
        runtime_dir: folder for the socket, 0700.
        user: user (and group) id to take, None to stay what we are.
    """

    bin_dir: Path
    runtime_dir: Path
    user: int | None

    def start(
        self, program: Sequence[str], data_dir: Path, options: Sequence[str], *, stdin: int, keep: int
    ) -> subprocess.Popen[bytes]:
        """Start ``program`` on ``data_dir``; the descriptor ``keep`` and our standard error go with it."""
        # Another user id may be kept out of a parent of the data folder, /root for one. Its own working
        # directory it always reaches.
        shown = "/proc/self/cwd" if self.user is not None else str(data_dir)
        return subprocess.Popen(  # noqa: S603  PostgreSQL's own programs
            [self.bin_dir / program[0], *program[1:], "-D", shown, *options],
            stdin=stdin,
            stdout=2,
            cwd=data_dir if self.user is not None else "/",
            env=ENVIRONMENT,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            pass_fds=(keep,),
            preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509  this process has one thread
        )

    def own(self, path: Path) -> None:
        """Give something this process has just made to the user id that PostgreSQL runs as."""
        if self.user is not None:
            os.chown(path, self.user, self.user)


def _die_with(parent: int) -> Callable[[], None]:
    """Make the calling child shut down when its parent dies: SIGINT is PostgreSQL's fast, clean shutdown."""

    def ask_kernel() -> None:
        if sys.platform == "linux":
            _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel was asked
            os._exit(1)

    return ask_kernel


def enter_user_namespace() -> None:
    """Be called nobody in a namespace of this process's own; files it makes still belong to who it was.

    Raises:
        OSError: not allowed here.
    """
    user, group, nobody = os.geteuid(), os.getegid(), pwd.getpwnam(NOBODY).pw_uid
    if _libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "no user namespace")
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"{nobody} {user} 1")
    (own / "gid_map").write_text(f"{nobody} {group} 1")


def become(user: int) -> None:
    """Take another user id for good.

    Raises:
        OSError: not allowed here.
    """
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def works(step: Callable[[], None]) -> bool:
    """Whether ``step`` passes, tried in a child because it cannot be undone."""
    child = os.fork()
    if child == 0:
        try:
            step()
        except BaseException:  # noqa: BLE001  whatever it is, the child must not go on
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def choose_user(data_dir: Path) -> int | None:
    """Decide who runs PostgreSQL, entering a user namespace if that is what it takes.

    Returns:
        The user id to take, or None to stay what this process is by now.

    Raises:
        RefusedError: there is no way on this machine.
    """
    me = os.geteuid()
    if me != 0 and _has_account(me):
        return None
    cluster = data_dir / "cluster"
    owner = cluster.stat().st_uid if cluster.exists() else me
    if sys.platform == "linux" and owner == me and works(enter_user_namespace):
        enter_user_namespace()
        return None
    if sys.platform != "linux" or me != 0:
        raise RefusedError(
            f"PostgreSQL refuses to run as user id {me}, and this machine allows no user namespaces; "
            "run this as an ordinary user with a name"
        )
    if cluster.exists() and owner == 0:
        raise RefusedError(
            f"the database in {data_dir} belongs to root, and this machine allows no user namespaces to run "
            "it in; run this as an ordinary user with another folder"
        )
    user = owner or pwd.getpwnam(NOBODY).pw_uid
    if not works(lambda: become(user)):
        raise RefusedError(
            "PostgreSQL refuses to run as root, and this machine allows neither user namespaces nor a change "
            "of user id; run this as an ordinary user"
        )
    return user


def _has_account(user: int) -> bool:
    try:
        pwd.getpwuid(user)
    except KeyError:
        return False
    return True


@contextlib.contextmanager
def prepared_runner(request: Request) -> Iterator[Runner]:
    """Find out who runs PostgreSQL, from where, and with which socket folder; clean up after it."""
    data_dir = Path(request.data_dir)
    user = choose_user(data_dir)
    runtime_dir = data_dir / "run"
    # libpq takes a comma in a host for the end of its name
    usable = len(os.fsencode(runtime_dir / SOCKET_NAME)) <= SOCKET_PATH_LIMIT and "," not in str(runtime_dir)
    if user is None and usable:
        runtime_dir.mkdir(mode=0o700, exist_ok=True)
        yield Runner(Path(request.bin_dir), runtime_dir, None)
        return
    with temporary_folder(data_dir / "temporary") as temporary:
        bin_dir = Path(request.bin_dir)
        if user is not None and request.private:
            bin_dir = _copy_programs(request, temporary, user)
        runner = Runner(bin_dir, temporary, user)
        runner.own(runner.runtime_dir)
        yield runner


@contextlib.contextmanager
def temporary_folder(note: Path) -> Iterator[Path]:
    """Make a folder with a short path; ``note`` remembers it, for the next run to remove after a SIGKILL."""
    if note.exists() and (leftover := Path(note.read_text())).name.startswith(TEMPORARY_PREFIX):
        shutil.rmtree(leftover, ignore_errors=True)
    # /tmp rather than TMPDIR: that one may be as long, or closed to others.
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir="/tmp") as temporary:
        note.write_text(temporary)
        try:
            yield Path(temporary)
        finally:
            note.unlink()


def _copy_programs(request: Request, target: Path, user: int) -> Path:
    """Copy PostgreSQL's programs for ``user`` and return the copy's folder of programs."""
    for folder in request.private:
        source = Path(request.private_root, folder)
        shutil.copytree(source, target / folder, symlinks=True, ignore=shutil.ignore_patterns("include"))
    _give_tree(target, user)
    return target / Path(request.bin_dir).relative_to(request.private_root)


def _give_tree(tree: Path, user: int) -> None:
    for folder, _, files in os.walk(tree):
        for path in (folder, *(os.path.join(folder, name) for name in files)):  # noqa: PTH118  os.walk's text
            os.chown(path, user, user, follow_symlinks=False)


class Cluster:
    """One PostgreSQL cluster in ``data_dir / "cluster"``."""

    def __init__(self, request: Request, runner: Runner, watch: Watch, lock: int) -> None:
        self._request = request
        self._runner = runner
        self._watch = watch
        self._lock = lock
        self._log = Path(request.data_dir, "postgres.log")
        self._path = Path(request.data_dir, "cluster")

    def create(self) -> None:
        """Make the cluster when it is missing: beside its place, so that half a one is never used."""
        new = self._path.with_name("cluster.new")
        shutil.rmtree(new, ignore_errors=True)
        if self._path.exists():
            return
        new.mkdir(mode=0o700)
        self._runner.own(new)
        self._run(["initdb"], new, self._request.initdb)
        make_database = f"CREATE DATABASE {self._request.database}\n".encode()
        self._run(["postgres", "--single"], new, ["postgres"], text=make_database)
        new.rename(self._path)

    def start(self) -> subprocess.Popen[bytes]:
        """Start PostgreSQL and return when it takes connections."""
        pid_file = self._path / "postmaster.pid"
        pid_file.unlink(missing_ok=True)  # ours is the lock, so its writer is gone
        quoted = str(self._runner.runtime_dir).replace('"', '""')
        options = [*self._request.postgres, "-c", f'unix_socket_directories="{quoted}"']
        server = self._start(["postgres"], self._path, options)
        deadline = time.monotonic() + START_PATIENCE_S
        try:
            while not _says_ready(pid_file, server.pid):
                if server.poll() is not None:
                    self._complain("PostgreSQL did not start")
                if time.monotonic() > deadline:
                    self._complain(f"PostgreSQL was not ready within {START_PATIENCE_S:.0f} s")
                self._watch.pause(0.02)
        except BaseException:
            shut_down(server)
            raise
        return server

    def _start(
        self, program: Sequence[str], data_dir: Path, options: Sequence[str], stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        return self._runner.start(program, data_dir, options, stdin=stdin, keep=self._lock)

    def _run(self, program: Sequence[str], data_dir: Path, options: Sequence[str], text: bytes = b"") -> None:
        child = self._start(program, data_dir, options, stdin=subprocess.PIPE)
        assert child.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError), child.stdin as stdin:
                stdin.write(text)
            while child.poll() is None:
                self._watch.pause(1.0)
        except BaseException:
            shut_down(child)
            raise
        if child.returncode != 0:
            self._complain(f"{program[0]} failed")

    def _complain(self, summary: str) -> NoReturn:
        marks = ("FATAL:", "PANIC:", "DETAIL:", "error:", "initdb: could not")
        lines = self._log.read_text(errors="replace").splitlines()[-50:]
        reasons = [line for line in lines if any(mark in line for mark in marks)][:2]
        raise FailedError("; ".join([summary, *reasons, f"its log is {self._log}"]))


def _says_ready(pid_file: Path, pid: int) -> bool:
    """Whether PostgreSQL has written itself and the word "ready" (line 8) into its pid file."""
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"  # noqa: PLR2004  line 8


def shut_down(process: subprocess.Popen[bytes]) -> None:
    """End PostgreSQL: a fast, clean shutdown; after some patience an immediate one; in the end by force."""
    for how, patience_s in ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
            return


def take_lock(path: Path, watch: Watch) -> int:
    """Lock the data folder for this cluster's processes, waiting for the last of an earlier run to end.

    Raises:
        RefusedError: another process runs it.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RefusedError(
                    f"the database in {path.parent} is already running for another process; "
                    "end that one, or choose another folder"
                ) from None
            watch.pause(0.05)
        else:
            return lock


def open_log(path: Path) -> None:
    """Make ``path`` this process's standard error, which PostgreSQL inherits; keep the previous run's log."""
    if path.exists():
        path.rename(path.with_name(path.name + ".1"))
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    os.close(log)


def answer(kind: Literal["ready", "refused", "failed"], **more: str | int) -> None:
    """Tell the owner, in the one line it reads; nobody may be there to read it."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps({"kind": kind, **more}).encode() + b"\n")


def supervise(request: Request, watch: Watch) -> None:
    """Run PostgreSQL until the owner lets go of it.

    Raises:
        ReleasedError: the owner has gone or asks to stop, and nothing is left running.
        RefusedError: PostgreSQL cannot run here.
        FailedError: PostgreSQL ended by itself.
    """
    data_dir = Path(request.data_dir)
    lock = take_lock(data_dir / "lock", watch)
    open_log(data_dir / "postgres.log")
    with prepared_runner(request) as runner:
        cluster = Cluster(request, runner, watch, lock)
        cluster.create()
        server = cluster.start()
        try:
            answer("ready", pid=server.pid, socket_dir=str(runner.runtime_dir))
            while server.poll() is None:
                watch.pause(None)
        finally:
            if server.poll() is None:
                shut_down(server)
        raise FailedError(f"PostgreSQL ended with status {server.returncode}")


def main() -> int:
    """Run the request of the first argument; tell the owner on standard output how it went."""
    request = Request(**json.loads(sys.argv[1]))
    os.umask(0o077)
    try:
        supervise(request, Watch(request.owner))
    except ReleasedError:
        return 0
    except RefusedError as error:
        answer("refused", message=str(error))
    except FailedError as error:
        answer("failed", message=str(error))
    except OSError as error:
        answer("refused", message=f"{error.filename or request.data_dir}: {error.strerror}")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
