"""Stands for `docker compose` where there is no container engine: the same words, run beside no container.

`exec` and `run` do what the container would be told, with its service's environment; `stop` and `start` end
and begin the server's process. Whatever else is asked of it is an error: a page that tells more is not tried.
The services are read from the JSON file that ``DOCKER_STAND_IN`` names.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

PATIENCE_S: Final = 300.0


def main(words: list[str]) -> int:
    """Do what `docker compose ...` would do; return its exit status."""
    place = Path(os.environ["DOCKER_STAND_IN"])
    services: dict[str, Any] = json.loads(place.read_text())
    assert words.pop(0) == "compose", words
    verb, *rest = words
    extra: dict[str, str] = {}
    while rest[0].startswith("-"):
        option = rest.pop(0)
        assert option in {"-e", "--rm"}, option
        if option == "-e":
            name, _, value = rest.pop(0).partition("=")
            extra[name] = value
    service, *command = rest
    known = services[service]
    environment = os.environ | known["environment"] | extra
    if verb == "exec":
        return _run([_mounted(word, known) for word in command], environment)
    if verb == "run":
        return _run([*known["entrypoint"], *(_mounted(word, known) for word in command)], environment)
    assert verb in {"stop", "start"}, verb
    assert not command
    (_stop if verb == "stop" else _start)(place.with_name(f"{service}.pid"), known, environment)
    return 0


def _run(command: list[str], environment: dict[str, str]) -> int:
    return subprocess.run(command, env=environment, check=False).returncode


def _mounted(word: str, service: dict[str, Any]) -> str:
    """A path inside the container is that of its volume."""
    for inside, outside in service["volumes"].items():
        word = re.sub(f"^{inside}(?=/)", outside, word)
    return word


def _start(pid_file: Path, service: dict[str, Any], environment: dict[str, str]) -> None:
    with pid_file.with_suffix(".log").open("a") as log:
        process = subprocess.Popen(
            [*service["entrypoint"], *service["command"]],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    pid_file.write_text(str(process.pid))


def _stop(pid_file: Path, service: dict[str, Any], environment: dict[str, str]) -> None:
    del service, environment
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            pid_file.unlink()
            return
        time.sleep(0.05)
    raise SystemExit(f"process {pid} does not end")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
