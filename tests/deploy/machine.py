"""Stands for what only root of a machine with systemd can do: `sudo`, `apt`, `systemctl`, `systemd-run`.

What is typed is the guide's own text. `sudo` runs it as whoever runs the tests; `systemctl` starts, stops and
restarts what the installed unit says, with the unit's settings, and comes back when the service has said that
it is ready; `systemd-run` runs a command with the properties given. Anything else asked of them is an error.
The JSON file that ``MACHINE_STAND_IN`` names holds the folder that stands for `/`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

PROGRAMS: Final = ("apt", "sudo", "systemctl", "systemd-run")
PACKAGES: Final = {"caddy", "libnss-systemd", "postgresql", "python3-venv"}
PLACES: Final = ("/opt/", "/etc/", "/usr/local/bin/", "/var/lib/")
"""Where the guides write; all of it is below the folder here."""
PATIENCE_S: Final = 300.0


def place(folder: Path) -> None:
    """Put the stand-ins into a folder for PATH."""
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {name} "$@"\n')
        (folder / name).chmod(0o755)


def inside(text: str, root: Path) -> str:
    """Return a text with the machine's paths turned into those below ``root``."""
    return re.sub(
        "|".join(f"(?<![\\w./-]){name}" for name in PLACES), lambda match: f"{root}{match[0]}", text
    )


def main(program: str, words: list[str]) -> int:
    """Do what one of the programs would do; return its exit status."""
    root = Path(json.loads(Path(os.environ["MACHINE_STAND_IN"]).read_text())["root"])
    if program == "apt":
        assert words[:2] == ["install", "--yes"], words
        assert set(words[2:]) <= PACKAGES, words
        return 0
    if program == "sudo":
        return _sudo(words, root)
    if program == "systemd-run":
        return _systemd_run(words, root)
    verb, *rest = words
    for name in [word for word in rest if not word.startswith("-")]:
        if verb in {"stop", "restart"} and name != "caddy":
            _stop(root / f"{name}.pid")
        if verb in {"enable", "start", "restart"}:
            _start(name, root)
    return 0


def _sudo(words: list[str], root: Path) -> int:
    if words[0] == "-u":
        words = words[2:]
    program, *rest = words
    if program.endswith("install-edge.sh"):
        rest += ["--root", str(root)]
    path = f"{root}/usr/local/bin{os.pathsep}{os.environ['PATH']}"
    found = shutil.which(program, path=path)
    assert found is not None, program
    return subprocess.run([found, *rest], env=os.environ | {"PATH": path}, check=False).returncode


def _systemd_run(words: list[str], root: Path) -> int:
    properties = {}
    while words[0].startswith("--"):
        option, _, value = words.pop(0).partition("=")
        if option == "--property":
            name, _, value = value.partition("=")
            properties[name] = inside(value, root)
    state = root / "var/lib" / properties["StateDirectory"]
    state.mkdir(parents=True, exist_ok=True)
    command = [inside(words[0], root), *words[1:]]
    environment = os.environ | _settings(Path(properties["EnvironmentFile"]))
    done = subprocess.run(command, cwd=properties["WorkingDirectory"], env=environment, check=False)
    return done.returncode


def _settings(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if line)


def _start(name: str, root: Path) -> None:
    """Start a service of ours and wait until it says that it is ready; of Caddy the file is checked alone."""
    if name == "caddy":
        _check_caddy(root)
        return
    unit = re.findall(
        r"^(Exec\w+|EnvironmentFile|Environment)=(.*)$",
        inside((root / f"etc/systemd/system/{name}.service").read_text(), root),
        re.MULTILINE,
    )
    environment = dict(os.environ)
    for key, value in unit:
        if key == "EnvironmentFile":
            environment |= _settings(Path(value))
        elif key == "Environment" and not value.startswith("SUNGROW_LOCK_DIR="):
            environment |= dict([value.split("=", 1)])
    for command in [value for key, value in unit if key == "ExecStartPre"]:
        subprocess.run(shlex.split(command), env=environment, check=True)
    [command] = [value for key, value in unit if key == "ExecStart"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inlet:
        address = root / f"{name}.notify"
        address.unlink(missing_ok=True)
        inlet.bind(str(address))
        inlet.settimeout(PATIENCE_S)
        with (root / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                shlex.split(command),
                env=environment | {"NOTIFY_SOCKET": str(address)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (root / f"{name}.pid").write_text(str(process.pid))
        while b"READY=1" not in inlet.recv(4096):
            pass


def _check_caddy(root: Path) -> None:
    caddy = shutil.which("caddy")
    if caddy is None:  # what it serves is the matter of tests/deploy/test_caddy.py
        return
    [line] = re.findall(
        r"^Environment=(.*)$",
        (root / "etc/systemd/system/caddy.service.d/site.conf").read_text(),
        re.MULTILINE,
    )
    command = [caddy, "validate", "--adapter", "caddyfile", "--config", str(root / "etc/caddy/Caddyfile")]
    environment = os.environ | dict([line.split("=", 1)]) | {"HOME": str(root)}
    subprocess.run(command, env=environment, check=True, capture_output=True)


def _stop(pid_file: Path) -> None:
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_S
    while _is_running(pid):
        assert time.monotonic() < deadline, "it does not end"
        time.sleep(0.05)
    pid_file.unlink()


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
