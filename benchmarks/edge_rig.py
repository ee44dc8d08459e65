"""What a real `sungrow-edge run` is measured against: simulated inverters, an HTTPS server, a slow line.

Prometheus is played, too, by something that asks for the metrics as often.
The server keeps the contract of the API (every reading is new to it) and counts what reaches it; it stands
for the real one, whose own work is no part of what is measured here.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from aiohttp import ClientError, ClientSession, web

from benchmarks.measure import cpu_s
from sungrow_lib import InverterSimulator, living_inverter
from sungrow_lib.demo.certificates import make_certificates
from sungrow_lib.demo.setup import clean_environment, free_ports
from sungrow_lib.sample import format_ts

MODELS: Final = ["SH8.0RT-20", "SG20RT"]
TOKEN: Final = "benchmark-token-0123456789"
_SLICE: Final = 4096
_SCRAPED_S: Final = 15.0
_MEMORY: Final = Path("/dev/shm")
_AS_INSTALLED: Final = {"PYTHONDONTWRITEBYTECODE": ""}
"""pip compiles what it installs; a checkout whose modules are compiled at every start is another thing."""


@dataclass
class Server:
    """Takes every reading, and counts.

    Attributes:
        readings: that arrived.
        backlog: those of them that were taken before the server was there.
        body_bytes: of the requests that brought them, as sent.
    """

    port: int = 0
    readings: int = 0
    backlog: int = 0
    body_bytes: int = 0
    started: str = field(default_factory=lambda: format_ts(datetime.now(UTC)))

    async def ingest(self, request: web.Request) -> web.Response:
        """Answer a batch as a server does that had none of it."""
        batch = json.loads(await request.read())  # unpacked by aiohttp
        count = len(batch["samples"])
        self.readings += count
        self.backlog += sum(sample["ts"] < self.started for sample in batch["samples"])
        self.body_bytes += request.content_length or 0
        verdicts: dict[str, list[object]] = {name: [] for name in ("conflicts", "rejected", "deferred")}
        return web.json_response(
            {
                "batch_id": batch["batch_id"],
                "received": count,
                "inserted": count,
                "duplicates": 0,
                **verdicts,
                "resend": False,
                "server_version": "1.0",
            }
        )

    async def other(self, _request: web.Request) -> web.Response:
        """Answer a question of health, or a report."""
        return web.json_response({"status": "ok"})


@dataclass
class Line:
    """A line of so many bytes a second each way, in front of the server.

    Attributes:
        rate: bytes a second; infinite for a line that is no limit.
        is_down: whether new connections are closed at once.
        sent: bytes that went to the server, those of TLS and HTTP included.
    """

    to: int
    rate: float
    port: int = 0
    is_down: bool = False
    sent: int = 0
    _free_at: dict[bool, float] = field(default_factory=lambda: {True: 0.0, False: 0.0})

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a connection on."""
        if self.is_down:
            writer.close()
            return
        onward = await asyncio.open_connection("127.0.0.1", self.to)
        await asyncio.gather(
            self._pass(reader, onward[1], is_up=True), self._pass(onward[0], writer, is_up=False)
        )

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_up: bool) -> None:
        try:
            while data := await reader.read(_SLICE):
                now = time.monotonic()
                self._free_at[is_up] = max(now, self._free_at[is_up]) + len(data) / self.rate
                self.sent += len(data) if is_up else 0
                await asyncio.sleep(self._free_at[is_up] - now)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@dataclass
class Prometheus:
    """Asks daemons for their metrics as often as it usually does.

    Attributes:
        ports: of the daemons, also of those that run no more.
        answers: it got.
    """

    ports: list[int] = field(default_factory=list)
    answers: int = 0

    async def run(self) -> None:
        """Ask, until cancelled."""
        async with ClientSession() as session:
            while True:
                await asyncio.sleep(_SCRAPED_S)
                for port in self.ports:
                    with suppress(ClientError):  # it runs no more
                        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                            self.answers += "sungrow_pv_power_w" in await answer.text()


@dataclass(frozen=True)
class Rig:
    """The world of an edge.

    Attributes:
        folder: where its files are.
        server: takes the readings.
        line: leads there.
        memory: a folder that is on no disk, for what the unit keeps in `/run`.
        simulators: the inverters.
        prometheus: asks the edge.
        ca: who vouches for the server.
    """

    folder: Path
    memory: Path
    server: Server
    line: Line
    simulators: list[InverterSimulator]
    prometheus: Prometheus
    ca: Path

    def configuration(self, name: str, log_level: str = "WARNING") -> Path:
        """Write the settings of an edge that has done nothing yet."""
        home, memory = self.folder / name, self.memory / name
        home.mkdir()
        memory.mkdir()
        self.prometheus.ports += free_ports(1)
        lines = [
            f'server_url = "https://localhost:{self.line.port}"',
            f'device_token = "{TOKEN}"',
            f'ca_file = "{self.ca}"',
            f'spool_path = "{home / "spool.sqlite"}"',
            f'sungrow_lock_dir = "{memory}"',
            f'health_file = "{memory / "health.json"}"',
            f"metrics_port = {self.prometheus.ports[-1]}",
            f'log_level = "{log_level}"',
        ]
        for number, simulator in enumerate(self.simulators):
            lines += [
                "[[devices]]",
                f'device_id = "inverter-{number}"',
                'host = "127.0.0.1"',
                f"port = {simulator.port}",
                'timezone = "Europe/Berlin"',
            ]
        file = home / "edge.toml"
        file.write_text("\n".join(lines))
        return file


@asynccontextmanager
async def rig(folder: Path, models: list[str], rate: float) -> AsyncIterator[Rig]:
    """Start all but the edge."""
    async with AsyncExitStack() as stack:
        files = make_certificates(folder / "tls")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(files.cert, files.key)
        server = Server()
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/ingest", server.ingest)
        app.router.add_route("*", "/{rest:.*}", server.other)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        server.port = runner.addresses[0][1]
        line = Line(server.port, rate)
        relay = await asyncio.start_server(line.serve, "127.0.0.1", 0)
        stack.callback(relay.close)
        line.port = relay.sockets[0].getsockname()[1]
        now = datetime.now(UTC)
        simulators = [
            await stack.enter_async_context(
                InverterSimulator({1: living_inverter(model, zone=ZoneInfo("UTC"), seed=seed, start=now)})
            )
            for seed, model in enumerate(models)
        ]
        memory = stack.enter_context(tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None))
        prometheus = Prometheus()
        stack.callback(asyncio.create_task(prometheus.run()).cancel)
        yield Rig(folder, Path(memory), server, line, simulators, prometheus, files.ca)


class Process:
    """A program under measurement.

    Args:
        arguments: of this interpreter.
        output: file that takes what it says.
    """

    def __init__(self, arguments: list[str], output: Path) -> None:
        self.started = time.monotonic()
        with output.open("ab") as stream:
            self._popen = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=stream,
                stderr=stream,
                stdin=subprocess.DEVNULL,
                env=clean_environment() | _AS_INSTALLED,
            )

    def resident_mb(self) -> float:
        """Memory it holds now, what it shares with others included."""
        return int(self._proc("statm").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def forget_most(self) -> None:
        """Let `most_resident_mb` begin anew."""
        Path(f"/proc/{self._popen.pid}/clear_refs").write_text("5", encoding="ascii")

    def most_resident_mb(self) -> float:
        """Most memory it ever held, of which no look from outside misses a moment."""
        lines = self._proc("status").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6

    def cpu_s(self) -> float:
        """Seconds of a core it has used."""
        return cpu_s(self._popen.pid)

    def written(self) -> int:
        """Bytes it has sent towards the disk."""
        lines = self._proc("io").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))

    def stop(self) -> int:
        """End it as its service manager would; return the bytes it has sent to the disk in all."""
        self._popen.terminate()
        _, status, usage = os.wait4(self._popen.pid, 0)
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        assert self._popen.returncode == 0, self._popen.returncode
        return usage.ru_oublock * 512

    def kill(self) -> None:
        """End it at once."""
        self._popen.kill()
        self._popen.wait()

    def _proc(self, file: str) -> str:
        return Path(f"/proc/{self._popen.pid}/{file}").read_text(encoding="ascii")


def edge(configuration: Path) -> Process:
    """Start the daemon as its command does."""
    output = configuration.with_name("edge.log")
    return Process(["-m", "reference_edge", "run", "--config", str(configuration)], output)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what tells nobody."""
    while not is_so():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.005)
