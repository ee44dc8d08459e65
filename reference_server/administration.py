"""What the owner does with tokens and devices; one transaction for each command but to erase."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from reference_server.storage.connection import Connection
from reference_server.storage.database import PATIENCE_S, connected, fetch, fetch_records, session
from reference_server.storage.devices import KnownDevice, known_device
from reference_server.storage.errors import StorageError
from reference_server.storage.looks import reading_spans
from reference_server.storage.migrations import refresh_aggregates
from reference_server.storage.rollups import lock_device, mark_without_interval, rebuild_days
from reference_server.storage.writers import older_writers
from reference_server.tokens import NewToken
from reference_server.zones import known_zone
from sungrow_lib.errors import UsageError
from sungrow_lib.sample import DEVICE_ID_PATTERN, format_ts
from sungrow_lib.wire import DeviceInfo
from sungrow_lib.wording import first_fault

_LONGEST_INTERVAL_S: Final = 86_400
_THE_REST: Final = (
    "erase_rollup_15m",
    "erase_rollup_day",
    "erase_counter_breaks",
    "erase_marks",
    "erase_aside",
    "erase_imports",
    "erase_backfills",
    "erase_edges",
    "erase_edge_status",
    "erase_settings",
    "erase_description",
    "erase_plant_sums",  # after what says that the device is another one: none is kept any more
    "erase_older_plant_sums",
)
"""Statements that forget what else there is of a device."""


async def create_token(
    url: str, label: str, scopes: Sequence[str], devices: Sequence[str] | None, expires_at: datetime | None
) -> str:
    """Make a token and return it, the only time it can be seen.

    Raises:
        UsageError: a device has no valid name.
        StorageError: the database cannot be used.
    """
    for device_id in devices or ():
        require_device_id(device_id)
    new = NewToken.make()
    async with connected(url) as connection:
        [(token,)] = await fetch(
            connection,
            "create_token",
            prefix=new.prefix,
            hash=new.hash,
            label=label,
            scopes=sorted(set(scopes)),
            devices=sorted(set(devices)) if devices else None,
            expires_at=expires_at,
        )
        detail = " ".join(_rights(label, scopes, devices, expires_at))
        await fetch(connection, "audit_token", token=token, action="created", detail=detail)
    return new.secret


async def list_tokens(url: str) -> list[dict[str, Any]]:
    """All tokens, without what is secret."""
    async with connected(url) as connection:
        return await fetch_records(connection, "list_tokens")


async def revoke_token(url: str, token: int) -> None:
    """End a token; the server refuses it within a second.

    Raises:
        UsageError: there is no such token, or it was revoked before.
    """
    async with connected(url) as connection:
        if not await fetch(connection, "revoke_token", token=token):
            raise UsageError(
                f"there is no token {token} that could be revoked; see sungrow-server token list"
            )
        await fetch(connection, "audit_token", token=token, action="revoked", detail=None)


async def rotate_token(url: str, token: int, overlap_s: int) -> tuple[str, datetime]:
    """Make a successor and let the old token end after ``overlap_s`` seconds.

    The successor has the same rights and, from now on, as long as the old one was made for.

    Returns:
        The successor, the only time it can be seen, and when the old token ends or has ended.

    Raises:
        UsageError: there is no such token, or it was revoked or rotated before.
    """
    new = NewToken.make()
    async with connected(url) as connection:
        created = await fetch(connection, "copy_token", token=token, prefix=new.prefix, hash=new.hash)
        if not created:
            raise UsageError(
                f"there is no token {token} to rotate, or it was revoked or rotated before; see "
                "sungrow-server token list"
            )
        [(end,)] = await fetch(connection, "expire_token", token=token, seconds=overlap_s)
        detail = f"successor {created[0][0]}, ends {format_ts(end)}"
        await fetch(connection, "audit_token", token=token, action="rotated", detail=detail)
        await fetch(
            connection, "audit_token", token=created[0][0], action="created", detail=f"successor of {token}"
        )
    return new.secret, end


async def list_devices(url: str) -> list[dict[str, Any]]:
    """All devices that are not deleted."""
    async with connected(url) as connection:
        return await fetch_records(connection, "list_devices", device_ids=None)


async def set_device(
    url: str,
    device_id: str,
    *,
    name: str | None,
    plant: str | None,
    timezone: str | None,
    poll_interval_s: float | None,
) -> KnownDevice | None:
    """Set what wins over what the edge says; None leaves a value as it is. Makes the device known.

    Returns:
        The device as it was, None when it was not known.

    Raises:
        UsageError: a name, the time zone or the interval is not valid.
        StorageError: another session holds the device for too long; nothing is set.
    """
    require_device_id(device_id)
    if timezone is not None and known_zone(timezone) is None:
        raise UsageError(f"{timezone or 'an empty name'} is no time zone; use one such as Europe/Berlin")
    if poll_interval_s is not None and not 0 < poll_interval_s <= _LONGEST_INTERVAL_S:
        raise UsageError("the poll interval must be more than 0 s and at most a day")
    _require_names(name, plant)
    async with connected(url, patience_s=PATIENCE_S) as connection:
        before = await known_device(connection, device_id)
        await fetch(connection, "add_devices", device_ids=[device_id])
        [(device,)] = await fetch(
            connection,
            "set_device",
            device_id=device_id,
            name=name,
            plant=plant,
            timezone=timezone,
            poll_interval_s=poll_interval_s,
        )
        given = {"name": name, "plant": plant, "timezone": timezone, "poll_interval_s": poll_interval_s}
        detail = ", ".join(f"{field}={value}" for field, value in given.items() if value is not None)
        await fetch(connection, "audit_device", device_id=device_id, action="set", detail=detail)
        if timezone is not None:
            await rebuild_days(connection, device)
        now = await known_device(connection, device_id)
        if before is not None and now is not None and before.poll_interval_s != now.poll_interval_s:
            await mark_without_interval(connection, device)
    return before


def _require_names(name: str | None, plant: str | None) -> None:
    """Refuse what an edge may not call a device, or a plant, either: nobody could ask for that plant."""
    for what, text in (("name", name), ("plant", plant)):
        if text is not None and not text.strip():
            raise UsageError(f"the {what} must not be empty; without --{what} it stays as it is")
    try:
        DeviceInfo(name=name, plant=plant)
    except ValidationError as error:
        raise UsageError(first_fault(error)) from None


async def delete_device(url: str, device_id: str, *, deleted: bool) -> bool:
    """Take no more readings of a device, or with ``deleted`` false take them again.

    Returns:
        Whether that is a change: it was not so already.

    Raises:
        UsageError: there is no such device.
        StorageError: another session holds it for too long; nothing is changed.
    """
    async with connected(url, patience_s=PATIENCE_S) as connection:
        before = await fetch(connection, "mark_device_deleted", device_id=device_id, deleted=deleted)
        if not before:
            raise _no_device(device_id)
        [(was_deleted,)] = before
        if is_change := was_deleted != deleted:
            action = "deleted" if deleted else "restored"
            await fetch(connection, "audit_device", device_id=device_id, action=action, detail=None)
        return bool(is_change)


async def erase_device(url: str, device_id: str) -> int:
    """Delete a device and forget its readings, rollups and description; return how many readings went.

    Its name stays, deleted, so that what an edge still holds is not taken; `device restore` clears that.
    What is just being stored is waited for. If it breaks off, the device is deleted already, and erasing it
    again does the rest.

    Raises:
        UsageError: there is no such device.
        StorageError: what is just being stored is not done in time, another session holds the device for too
            long, or the database cannot be used.
    """
    async with session(url, patience_s=PATIENCE_S) as connection:
        found = await fetch(connection, "find_devices", device_ids=[device_id])
        if not found:
            raise _no_device(device_id)
        device = found[0][0]
        await fetch(connection, "mark_device_deleted", device_id=device_id, deleted=True)
        await _wait_for_writers(connection, device, device_id)
        count = await _erase_readings(connection, device)
        async with connection.transaction():
            await lock_device(connection, device)
            for statement in _THE_REST:
                await fetch(connection, statement, device=device)
            detail = f"{count} readings"
            await fetch(connection, "audit_device", device_id=device_id, action="erased", detail=detail)
    refresh_aggregates(url)
    return count


async def _wait_for_writers(connection: Connection, device: int, device_id: str) -> None:
    """Wait for what may be storing something of a deleted device: after that, nothing of it is stored."""
    async with connection.transaction():
        await lock_device(connection, device)  # no import stores any more
    stalled = await older_writers(connection, PATIENCE_S)
    if stalled:
        raise StorageError(
            f"{device_id} is deleted, but not erased: a server has been storing readings for more than "
            f"{PATIENCE_S:g} s (process {', '.join(map(str, stalled))} of the database); end it if it "
            "stands still, and erase the device again"
        )


async def _erase_readings(connection: Connection, device: int) -> int:
    """Forget a device's raw readings, a month at a time; return how many there were.

    What breaks off is done again: rollups, which tell where readings are, are forgotten last.
    """
    count = 0
    async for begin, end in reading_spans(connection, device):
        async with connection.transaction():
            await lock_device(connection, device)
            [(gone,)] = await fetch(connection, "erase_samples", device=device, from_ts=begin, to_ts=end)
        count += gone
    return count


async def token_log(url: str) -> list[dict[str, Any]]:
    """What was done with tokens, newest first."""
    async with connected(url) as connection:
        return await fetch_records(connection, "token_audit")


async def device_log(url: str) -> list[dict[str, Any]]:
    """What was done with devices, newest first."""
    async with connected(url) as connection:
        return await fetch_records(connection, "device_audit")


def _rights(
    label: str, scopes: Sequence[str], devices: Sequence[str] | None, expires_at: datetime | None
) -> Iterator[str]:
    if label:
        yield label
    yield "scopes=" + ",".join(sorted(set(scopes)))
    yield "devices=" + (",".join(sorted(set(devices))) if devices else "all")
    if expires_at is not None:
        yield f"expires={format_ts(expires_at)}"


def _no_device(device_id: str) -> UsageError:
    return UsageError(f"there is no device {device_id}; see sungrow-server device list")


def require_device_id(device_id: str) -> None:
    """Refuse what cannot name a device.

    Raises:
        UsageError: it says what can.
    """
    if re.fullmatch(DEVICE_ID_PATTERN[1:-1], device_id) is None:
        raise UsageError(f"{device_id!r} cannot name a device; use 1 to 64 of A-Z a-z 0-9 . _ -")
