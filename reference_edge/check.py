"""`sungrow-edge check`: try everything the daemon will need, and say what to do about what fails."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

import anyio.to_thread

from reference_edge.advice import advise, shown_size
from reference_edge.app import SPOOL, upload_settings
from reference_edge.config import DeviceSettings, EdgeSettings
from reference_edge.health import read_health
from reference_edge.places import is_there, require_folder, require_room
from reference_edge.station import by_address, connection_settings, units
from reference_edge.survey import DISK_LOW_BYTES
from sungrow_lib.cli.guard import EXIT_FAILED, EXIT_OK
from sungrow_lib.errors import (
    ConfigurationError,
    DeviceBusyError,
    DeviceError,
    SpoolUnavailableError,
    SungrowError,
)
from sungrow_lib.inverter import InverterReader
from sungrow_lib.modbus.limiter import LOCK_DIR_VARIABLE, lock_dir
from sungrow_lib.modbus.notes import STATE_DIR_VARIABLE
from sungrow_lib.spool import DurableSpool
from sungrow_lib.spool.disk import free_bytes, missing_place
from sungrow_lib.spool.errors import HARDLY_ANY
from sungrow_lib.spool.foreign import is_missing
from sungrow_lib.spool.reserve import reserve_bytes, room_to_accept, room_to_make
from sungrow_lib.upload.check import check_server
from sungrow_lib.upload.credentials import TokenSource
from sungrow_lib.upload.http import IngestTransport

_ANSWER_S: Final = 5.0
_ENOUGH_BYTES: Final = 100_000


async def check(settings: EdgeSettings, is_offline: bool) -> int:  # noqa: FBT001 - the command's own flag
    """Check the spool, the token, the server with every device, and every inverter; print a line for each.

    What works, but not as it was meant, is a note.

    Returns:
        Exit status: 0 when all is well, 1 otherwise.
    """
    print("ok    settings")
    for words in settings.slowed:
        print(f"NOTE  settings: {words}")
    results = [await _try("spool", lambda: _check_spool(settings.spool_path))]
    if await anyio.to_thread.run_sync(missing_place, settings.spool_path) is None:  # else that is said
        results.append(await _try("disk", lambda: _check_disk(settings.spool_path)))
    results.append(await _try("locks", lambda: _check_locks(settings)))
    results.append(await _try("notes", lambda: _check_notes(settings.state_dir)))
    if settings.health_file is not None:
        results.append(await _try("health file", lambda: _check_health(settings.health_path)))
    if settings.metrics_port:
        results.append(await _try("metrics", lambda: _check_metrics(settings)))
    if settings.device_token_file is not None:
        results.append(await _try("token", lambda: _check_token(settings)))
    if settings.ca_file is not None:
        results.append(await _try("authority", lambda: _check_authority(settings)))
    if not is_offline:
        results.append(await _try("server", lambda: check_server(upload_settings(settings))))
        for devices in by_address(settings.inverters):
            name = ", ".join(device.device_id for device in devices)

            async def read(devices: list[DeviceSettings] = devices) -> str:
                return await _check_inverters(devices, settings)

            results.append(await _try(name, read))
    return EXIT_OK if all(results) else EXIT_FAILED


async def _try(what: str, job: Callable[[], Awaitable[str]]) -> bool:
    try:
        print(f"ok    {what}: {await job()}")
    except SungrowError as error:
        print(f"FAIL  {what}: {advise(str(error))}")
        return False
    return True


async def _check_token(settings: EdgeSettings) -> str:
    await TokenSource(upload_settings(settings)).current()
    return f"read from {settings.device_token_file}"


async def _check_authority(settings: EdgeSettings) -> str:
    async with IngestTransport(upload_settings(settings)):  # reads the certificates, contacts nobody
        return f"certificates read from {settings.ca_file}"


async def _check_locks(settings: EdgeSettings) -> str:
    folder = lock_dir(settings.sungrow_lock_dir)
    await anyio.to_thread.run_sync(require_folder, folder, LOCK_DIR_VARIABLE)
    return str(folder)


async def _check_notes(folder: Path) -> str:
    return await anyio.to_thread.run_sync(_find_notes, folder)


def _find_notes(folder: Path) -> str:
    is_made = is_there(folder)
    require_folder(folder if is_made else folder.absolute().parent, STATE_DIR_VARIABLE)
    return str(folder) if is_made else f"{folder} (the daemon will make it)"


async def _check_health(path: Path) -> str:
    await anyio.to_thread.run_sync(require_room, path, "HEALTH_FILE")
    return str(path)


async def _check_metrics(settings: EdgeSettings) -> str:
    port = settings.metrics_port
    try:
        with socket.create_server(("127.0.0.1", port)):
            return f"127.0.0.1:{port}"
    except OSError as error:
        if await anyio.to_thread.run_sync(_is_our_daemon, port):
            return f"127.0.0.1:{port} (the daemon answers there)"
        raise ConfigurationError(
            f"METRICS_PORT: port {port} on 127.0.0.1 cannot be used: {error.strerror}; choose another",
            variable="METRICS_PORT",
        ) from None


def _is_our_daemon(port: int) -> bool:
    asked = HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
    try:
        asked.request("GET", "/metrics")
        return b"sungrow_edge_" in asked.getresponse().read(_ENOUGH_BYTES)
    except (OSError, HTTPException):
        return False
    finally:
        asked.close()


async def _check_spool(path: Path) -> str:
    if not await anyio.to_thread.run_sync(is_missing, path):
        async with DurableSpool.open(path):  # which looks at every page first
            return str(path)
    if (why := await anyio.to_thread.run_sync(missing_place, path)) is not None:
        raise SpoolUnavailableError(why)
    await anyio.to_thread.run_sync(require_room, path, "SPOOL_PATH")
    return f"{path} (the daemon will make it)"


async def _check_disk(path: Path) -> str:
    return await anyio.to_thread.run_sync(_look_for_room, path)


def _look_for_room(path: Path) -> str:
    """Say how much room there is beside the spool; a note where that is little.

    Raises:
        SpoolUnavailableError: it is too little for readings, or hardly any beside the reserve,
            or the disk does not tell.
    """
    path = Path(os.path.realpath(path))  # a link may lead to another disk
    try:
        free = free_bytes(path.parent)
    except OSError as error:
        raise SpoolUnavailableError(f"{path.parent}: {error.strerror} (SPOOL_PATH)") from None
    kept, size = reserve_bytes(path), SPOOL.reserve_bytes
    least = room_to_accept(size)
    words = f"{shown_size(free)} are free beside the spool"
    advice = f"free some, at least {shown_size(DISK_LOW_BYTES)}, or name another disk (SPOOL_PATH)"
    if free + kept < least:
        raise SpoolUnavailableError(f"{words}; a reading is taken from {shown_size(least)} on; {advice}")
    if free < HARDLY_ANY:
        left = f"the disk is full, the daemon lives on its reserve, {shown_size(kept)} yet"
        raise SpoolUnavailableError(f"{words}: {left}; {advice}")
    if free <= room_to_make(size) and kept < size:
        words += f"; the reserve for a full disk is made from {shown_size(room_to_make(size))} on"
    if free < DISK_LOW_BYTES:
        print(f"NOTE  disk: {words}; {advice}")
    return words


async def _check_inverters(devices: list[DeviceSettings], settings: EdgeSettings) -> str:
    try:
        async with InverterReader(connection_settings(devices, settings), units(devices)) as reader:
            readings = await reader.poll()
        for reading in readings:
            if reading.sample is None:
                raise reading.error or DeviceError()
    except DeviceBusyError as busy:
        return await anyio.to_thread.run_sync(_said_by_daemon, busy, devices, settings.health_path)
    return ", ".join(
        f"{reading.identity.model or reading.identity.family}" for reading in readings if reading.identity
    )


def _said_by_daemon(busy: DeviceBusyError, devices: list[DeviceSettings], health_path: Path) -> str:
    """Return what the daemon with these settings says of inverters, if it is the one that is reading them.

    Raises:
        DeviceError: it is not, or its last poll of one of them brought no reading.
    """
    health = read_health(health_path)
    if not health["running"] or health["pid"] != busy.process:
        raise busy
    who = f"the daemon (process {busy.process})"
    for device in devices:
        poll = health["polls"].get(device.device_id)
        if poll is None:
            raise DeviceError(f"{who} has not polled {device.device_id} yet; ask again in a minute")
        if poll["reason"]:
            raise DeviceError(f"{who} polls it, last at {poll['at']}: {poll['outcome']}, {poll['reason']}")
    last = min(health["polls"][device.device_id]["at"] for device in devices)
    return f"{who} polls it, last at {last}"
