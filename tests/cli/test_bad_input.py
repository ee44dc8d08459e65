"""What a user gets wrong, through real processes: one clear line, the right exit status, no traceback."""

from __future__ import annotations

import http.server
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from sungrow_lib.simulator.server import StaticSource
from tests.cli.helpers import Serve
from tests.patience import PATIENCE_S

COMMANDS: Final = ("probe", "read", "dump")
"""The commands that talk to a device."""


def sungrow(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sungrow_lib.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def on_device(
    tmp_path: Path, ports: Sequence[int], *arguments: str
) -> list[subprocess.CompletedProcess[str]]:
    """Run every command that talks to a device, side by side, each on a port of its own."""

    def run(command: str, port: int) -> subprocess.CompletedProcess[str]:
        output = ["-o", str(tmp_path / "dump.json")] if command == "dump" else []
        return sungrow(command, "127.0.0.1", "--port", str(port), "--timeout", "2", *output, *arguments)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(run, COMMANDS, ports))


def check(done: subprocess.CompletedProcess[str], status: int, *texts: str) -> None:
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("sungrow: ")
    assert "Traceback" not in done.stderr
    for text in texts:
        assert text in last


# --- what is not Modbus on the port ---------------------------------------------------------------------


@contextmanager
def web_server() -> Iterator[int]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        timeout = 0.2  # gives up on what is no line of HTTP, and says so

        def log_message(self, *_args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextmanager
def speaking(*, greeting: bytes = b"", answer: bytes = b"") -> Iterator[int]:
    """A TCP server that may greet, answers everything alike, and never hangs up."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.sendall(greeting)
                while self.request.recv(100):
                    self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


STRANGERS: Final = {
    "a web server": (web_server, "the device closed the connection; is another program reading it"),
    "HTTP": (lambda: speaking(answer=b"HTTP/1.1 400 Bad Request\r\n\r\n"), "is not Modbus"),
    "silence": (speaking, "does not answer; check --unit"),
    "a greeting": (lambda: speaking(greeting=b"SSH-2.0-OpenSSH_9.2\r\n"), "does not answer"),
    "rubbish": (lambda: speaking(answer=b"\xde\xad\xbe\xef" * 40), "is not Modbus"),
    "a flood": (lambda: speaking(answer=b"\x00" * 9000), "noise"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_something_else_on_the_port(tmp_path: Path, stranger: str) -> None:
    make, text = STRANGERS[stranger]
    with ExitStack() as stack:
        ports = [stack.enter_context(make()) for _ in COMMANDS]
        for done, port in zip(on_device(tmp_path, ports), ports, strict=True):
            check(done, 1, text, f"127.0.0.1:{port}")


def test_nothing_on_the_port(tmp_path: Path) -> None:
    for done in on_device(tmp_path, [1, 2, 3]):
        check(done, 1, "nothing listens on 127.0.0.1:", "is the port right")


# --- a device, but another --------------------------------------------------------------------------------


def test_a_unit_that_is_not_there(tmp_path: Path, serve: Serve, hybrid: StaticSource) -> None:
    ports = [serve({1: hybrid}).port for _ in COMMANDS]
    for done in on_device(tmp_path, ports, "--unit", "9"):
        check(done, 1, "unit 9 does not answer", "check --unit")


@pytest.mark.parametrize("family", ["sg", "ihm"])
def test_a_family_that_is_not_there(tmp_path: Path, serve: Serve, hybrid: StaticSource, family: str) -> None:
    ports = [serve({1: hybrid}).port for _ in COMMANDS]
    for done in on_device(tmp_path, ports, "--family", family):
        if family == "sg":
            check(done, 2, "SH8.0RT-20 is of family sh, not sg", "--family")
        else:
            check(done, 2, "no iHomeManager", "--family")


# --- damaged files ---------------------------------------------------------------------------------------

DAMAGED: Final = {
    "empty": (b"", "not JSON"),
    "cut off": (b'{"function": 4, "registers": {"5000": 36', "not JSON"),
    "another file": (b"\x89PNG\r\n\x1a\n\x00\x00", "not JSON"),
    "no capture": (b'{"hello": "world"}', "registers"),
    "a wrong word": (b'{"function": 4, "registers": {"5000": 70000}}', "5000"),
    "a wrong number": (b'{"function": 4, "registers": {"PV": 1}}', "PV"),
    "coils": (b'{"function": 1, "registers": {"5000": 1}}', "function"),
}


@pytest.mark.parametrize("command", ["decode", "simulate"])
def test_damaged_captures(tmp_path: Path, command: str) -> None:
    paths = {name: tmp_path / f"{name}.json" for name in DAMAGED}
    for name, path in paths.items():
        path.write_bytes(DAMAGED[name][0])
    for path, (_, text) in [(paths[name], DAMAGED[name]) for name in DAMAGED]:
        check(sungrow(command, str(path)), 2, str(path), text)
    check(sungrow(command, str(tmp_path)), 2, str(tmp_path), "cannot be read")


def test_an_occupied_port(tmp_path: Path) -> None:
    capture = tmp_path / "capture.json"
    capture.write_text('{"function": 4, "registers": {"5000": 3602}}')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        check(sungrow("simulate", str(capture), "--port", port), 2, port, "choose another --port")
        # An impossible zone is seen when the model is made, which takes seconds: that comes after the port.
        model = ["--model", "SH8.0RT-20", "--timezone", "Nowhere/Land"]
        check(sungrow("simulate", *model, "--port", port), 2, port, "choose another --port")


def test_a_file_that_cannot_be_written(tmp_path: Path, serve: Serve, hybrid: StaticSource) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    done = sungrow("dump", "127.0.0.1", "--port", str(serve({1: hybrid}).port), "-o", str(folder))
    check(done, 2, str(folder))
    assert not list(folder.iterdir())
