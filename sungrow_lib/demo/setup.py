"""How the demo's parts are started and told about each other. The apps run as programs of their own."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import Child, ChildError, Job, python, run_jobs, wait_until
from sungrow_lib.demo.site import DEVICES, DemoDevice, DemoSite, write_secret
from sungrow_lib.errors import ConfigurationError

EDGE: Final = "reference_edge"
SERVER: Final = "reference_server"
SUNGROW: Final = "sungrow_lib.cli"

_START_S: Final = 120.0
_ANSWER_S: Final = 5.0
_IMPORT_S: Final = 3600.0
"""It is work, not waiting; a slow machine takes its time."""
_LOOK_S: Final = 0.05
_NOT_HANDED_OUT: Final = range(15_000, 32_000)
"""Ports below those a system gives to whoever asks for any, or connects: such a one may be taken by
somebody, even by who tries whether it is free yet, before the program it is meant for listens on it."""
_KEPT_VARIABLES: Final = ("PATH", "HOME", "LANG", "TMPDIR", "TZDIR", "VIRTUAL_ENV", "SYSTEMROOT")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """How to reach the demo's server.

    Attributes:
        port: its port on this machine.
        ca: who vouches for it.
        token: may read.
    """

    port: int
    ca: Path
    token: str

    @property
    def url(self) -> str:
        """Its address, also that of the dashboard."""
        return f"https://localhost:{self.port}"

    def get(self, path: str, *, signed_in: bool = True) -> bytes:
        """Return the body of a successful answer.

        Raises:
            OSError: there was none.
        """
        headers = {"Authorization": f"Bearer {self.token}"} if signed_in else {}
        request = urllib.request.Request(self.url + path, headers=headers)  # noqa: S310 - https, see url
        trust = ssl.create_default_context(cafile=str(self.ca))
        with urllib.request.urlopen(request, timeout=_ANSWER_S, context=trust) as answer:  # noqa: S310
            return bytes(answer.read())

    def is_healthy(self) -> bool:
        """Whether it answers and reaches its database."""
        try:
            self.get("/health", signed_in=False)
        except OSError:
            return False
        return True


class ServerCommands:
    """The `sungrow-server` command with the demo's settings.

    Args:
        site: where the demo takes place.
        dsn: address of the database.
        certificates: for HTTPS.
        port: where to listen.
    """

    def __init__(self, site: DemoSite, dsn: str, certificates: CertificateFiles, port: int) -> None:
        self._site = site
        self._environment = clean_environment() | {
            "DATABASE_URL": dsn,
            "LISTEN_HOST": "127.0.0.1",
            "LISTEN_PORT": str(port),
            "TLS_CERT_FILE": str(certificates.cert),
            "TLS_KEY_FILE": str(certificates.key),
        }

    def migrate(self) -> None:
        """Make the tables."""
        run_jobs(self._job("migrate"))

    def make_tokens(self) -> tuple[str, str]:
        """Name the devices with their plants and time zones; return a token to ingest and one to read."""
        devices = [word for device in DEVICES for word in ("--device", device.device_id)]
        edge, reader, *_ = run_jobs(
            self._job("token", "create", "--label", "the demo's edge", "--scope", "ingest", *devices),
            self._job("token", "create", "--label", "you", "--scope", "read", *devices),
            *(self._description(device) for device in DEVICES),
        )
        return edge.strip(), reader.strip()

    def import_histories(self) -> None:
        """Fill in the modelled years, marked as simulated."""
        run_jobs(
            *(
                self._job(
                    *("import", str(self._site.history(device))),
                    *("--device", device.device_id, "--source", "simulated"),
                )
                for device in DEVICES
            ),
            timeout_s=_IMPORT_S,
        )

    def export(self) -> Iterator[str]:
        """Yield what is stored since the demo began, one JSON object each."""
        begin = self._site.start.strftime("%Y-%m-%dT%H:%M:%SZ")
        for device in DEVICES:
            [output] = run_jobs(self._job("export", "--device", device.device_id, "--from", begin))
            yield from output.splitlines()

    def run(self, *arguments: str) -> str:
        """Run `sungrow-server` with any arguments; return what it printed.

        Raises:
            ChildError: it failed.
        """
        [output] = run_jobs(self._job(*arguments))
        return output

    def start(self) -> Child:
        """Start the server."""
        return Child(
            "the server", python(SERVER, "run"), self._site.log("server"), environment=self._environment
        )

    def _description(self, device: DemoDevice) -> Job:
        options = ("--name", device.name, "--plant", device.plant, "--timezone", str(self._site.zone))
        return self._job("device", "set", device.device_id, *options)

    def _job(self, *arguments: str) -> Job:
        return Job(f"sungrow-server {arguments[0]}", python(SERVER, *arguments), self._environment)


def clean_environment() -> dict[str, str]:
    """The environment without settings of the apps: the user's own must not leak into the demo."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES or name.startswith(("LC_", "PYTHON", "LD_", "DYLD_"))
    }


def write_histories(site: DemoSite, days: int) -> list[Child]:
    """Start writing what each device has lived through in so many days; done when the processes end."""
    return [
        Child(
            f"the model of {device.name}",
            python(
                "sungrow_lib.demo.past",
                *("--device", device.device_id, "--model", device.model, "--seed", str(device.seed)),
                *("--zone", str(site.zone), "--until", site.start.isoformat()),
                *("--days", str(days), "--output", str(site.history(device))),
            ),
            site.log(f"{device.device_id}-history"),
        )
        for device in DEVICES
    ]


def finish(children: Sequence[Child], patience_s: float, told: Callable[[str], None]) -> None:
    """Wait until the processes have ended successfully, however long they take while they get on.

    Args:
        children: those that :func:`write_histories` started.
        patience_s: how long none of them may get on.
        told: is called with how far they are, again and again.

    Raises:
        ChildError: one failed, or they stand still.
    """
    seen, since = "", time.monotonic()
    while running := [child for child in children if child.exit_status is None]:
        now = ", ".join(f"{child.name}: {child.last_line()}" for child in running)
        if now != seen:
            seen, since = now, time.monotonic()
            told(now)
        if time.monotonic() - since > patience_s:
            raise ChildError(f"the modelled year stands still since {patience_s:.0f} s ({now})")
        time.sleep(_LOOK_S)
    for child in children:
        if child.exit_status != 0:
            child.require_running()


def start_simulator(site: DemoSite, device: DemoDevice, port: int, days: int) -> Child:
    """Start an inverter whose registers go on where its history of so many days ends."""
    return Child(
        f"the inverter {device.model}",
        python(
            SUNGROW,
            *("simulate", "--model", device.model, "--host", "127.0.0.1", "--port", str(port)),
            *("--journal", str(site.journal(device)), "--seed", str(device.seed)),
            *("--past", str(days), "--timezone", str(site.zone), "--profile", device.profile.value),
        ),
        site.log(device.device_id),
        environment=clean_environment(),
    )


def await_simulators(simulators: Sequence[Child], ports: Sequence[int]) -> None:
    """Wait until the inverters take connections.

    Raises:
        ChildError: one does not.
    """
    wait_until("the inverters", lambda: all(map(is_listening, ports)), timeout_s=_START_S, watched=simulators)


def write_edge_settings(
    site: DemoSite, server: ServerAddress, token: str, ports: Sequence[int], spool: Path | None = None
) -> None:
    """Write the edge's settings, with its spool in the site's folder unless another file is named."""
    token_file = site.folder / "edge.token"
    write_secret(token_file, token)
    settings: dict[str, Any] = {
        "server_url": server.url,
        "device_token_file": str(token_file),
        "ca_file": str(server.ca),
        "spool_path": str(spool or site.folder / "spool.sqlite"),
        "upload_interval_s": 1.0,
        "sungrow_lock_dir": str(site.folder / "locks"),
    }
    lines = [_toml(settings)]
    for device, port in zip(DEVICES, ports, strict=True):
        table = {
            "device_id": device.device_id,
            "host": "127.0.0.1",
            "port": port,
            "timezone": str(site.zone),
            "name": device.name,
            "plant": device.plant,
        }
        lines.append("[[devices]]\n" + _toml(table))
    (site.folder / "locks").mkdir(mode=0o700)
    site.edge_config.write_text("\n".join(lines), encoding="utf-8")


def start_edge(site: DemoSite, server: ServerAddress, token: str, ports: Sequence[int]) -> Child:
    """Write the edge's settings and start it."""
    write_edge_settings(site, server, token, ports)
    return Child(
        "the edge",
        python(EDGE, "run", "--config", str(site.edge_config)),
        site.log("edge"),
        environment=clean_environment(),
    )


def _toml(values: dict[str, Any]) -> str:
    """Write flat settings as TOML, texts as literal strings."""
    lines = []
    for key, value in values.items():
        if isinstance(value, str) and "'" in value:
            raise ConfigurationError(f"{value} holds a quote; give another --data-dir")
        lines.append(f"{key} = '{value}'\n" if isinstance(value, str) else f"{key} = {value}\n")
    return "".join(lines)


def free_ports(count: int) -> list[int]:
    """Return different TCP ports of this machine nobody listens on."""
    found: list[int] = []
    with contextlib.ExitStack() as bound:
        first = secrets.randbelow(len(_NOT_HANDED_OUT))
        for port in (*_NOT_HANDED_OUT[first:], *_NOT_HANDED_OUT[:first]):
            if len(found) == count:
                break
            probe = bound.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # somebody has it
                probe.bind(("127.0.0.1", port))
                found.append(port)
    return found


def require_free(port: int) -> None:
    """Do nothing when nobody listens on ``port``.

    Raises:
        ConfigurationError: somebody does.
    """
    if is_listening(port):
        raise ConfigurationError(f"port {port} is in use; choose another with --port")


def is_listening(port: int) -> bool:
    """Whether somebody takes connections on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
