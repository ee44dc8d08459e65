"""What the commands of `sungrow-edge spool` do."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO, cast

import anyio.to_thread

from reference_edge.advice import shown_size
from reference_edge.owner import OwnerFile
from reference_edge.spool_commands import STATES
from sungrow_lib.cli.guard import EXIT_FAILED, EXIT_OK
from sungrow_lib.errors import SpoolCorruptError, SungrowError, UsageError
from sungrow_lib.sample import DEVICE_ID_PATTERN, format_ts
from sungrow_lib.spool import DurableSpool, SpoolOptions, SpoolOwner, SpoolRecord, SpoolState
from sungrow_lib.spool.transfer import head_line, read_lines, record_line, tail_line

_CHUNK: Final = 1_000
_NAMED: Final = 10
"""So many numbers of readings are said at most."""
_CUT_OFF: Final = "unexpected end of data"
"""What Python says of text that ends within a character."""
_SET_APART: Final = (SpoolState.REJECTED, SpoolState.CONFLICT, SpoolState.DEFERRED)


@asynccontextmanager
async def _opened(path: Path, owner: SpoolOwner | None = None) -> AsyncIterator[DurableSpool]:
    async with DurableSpool.open(
        path, options=SpoolOptions(owner=owner)
    ) as spool:  # which looks at every page first
        yield spool


async def _stats(args: argparse.Namespace, path: Path) -> int:
    async with _opened(path) as spool:
        counts = await spool.counts()
        devices = {name: await spool.counts(name) for name in await spool.devices()}
        apart, held = await spool.set_apart(), await spool.held()
        identity = spool.identity
    names = [state.name.lower() for state in SpoolState if state is not SpoolState.CONFLICT] + ["conflicts"]
    stats = {
        "spool": str(path),
        "edge_id": identity.edge_id,
        "generation": identity.generation,
        "bytes": counts.bytes,
        "last_seq": counts.accepted,
        "oldest_pending": _when(counts.oldest_pending),
        "devices": {
            device_id: {name: getattr(counted, name) for name in names}
            for device_id, counted in devices.items()
        },
        "set_apart": [
            {"device_id": device_id, "state": state.name.lower(), "code": code, "readings": number}
            for device_id, state, code, number, _reason in apart
        ],
        "held": {device_id: device._asdict() for device_id, device in held.items()},
    }
    _say(stats, args, _stats_lines)
    return EXIT_OK


def _stats_lines(stats: dict[str, Any]) -> Iterator[str]:
    yield f"{stats['spool']}: {shown_size(stats['bytes'])}, last number {stats['last_seq']}"
    yield f"edge {stats['edge_id']}, generation {stats['generation']}"
    for device_id, counted in stats["devices"].items():
        yield f"{device_id}: " + ", ".join(f"{number} {name}" for name, number in counted.items() if number)
    for apart in stats["set_apart"]:
        why = apart["code"] or "what cannot be read"
        yield f"{apart['device_id']}: {apart['readings']} {apart['state']} because of {why}"
    for device_id, held in stats["held"].items():
        kept = f", and {held['delivered']} delivered ones" if held["delivered"] else ""
        yield f"{device_id}: held back are {held['undelivered']} readings{kept} ({held['why']})"
    if stats["oldest_pending"]:
        yield f"oldest to deliver: {stats['oldest_pending']}"


async def _list(args: argparse.Namespace, path: Path) -> int:
    left, damaged = args.limit, set[int]()
    async with _opened(path) as spool:
        async for record in _chosen(spool, args, damaged, args.after):
            _write(record_line(record) if args.json else _summary(record))
            left -= 1
            if not left:
                break
    return _say_damaged(damaged)


def _say_damaged(damaged: set[int]) -> int:
    """Name the readings that were left out, if any; return the exit status."""
    if not damaged:
        return EXIT_OK
    numbers = _named(sorted(damaged))
    sys.stderr.write(
        f"sungrow-edge: {len(damaged)} left out, because damage made values of them that none can have; "
        f"their numbers: {numbers}; all others are there\n"
    )
    return EXIT_FAILED


def _summary(record: SpoolRecord) -> str:
    entry = record.entry
    words = [str(entry.seq), entry.device_id, format_ts(entry.ts), entry.state.name.lower()]
    if record.at is not None and entry.state is not SpoolState.PENDING:  # else it was delivered then, once
        until = "until" if entry.state is SpoolState.DEFERRED else "since"
        words.append(f"{until} {format_ts(record.at)}")
    if record.code:
        words.append(f"{record.code}: {record.reason}" if record.reason else record.code)
    return "  ".join(words)


async def _known(spool: DurableSpool, device_id: str | None) -> list[str]:
    """Return the devices of the spool; refuse one that is not among them."""
    known = await spool.devices()
    if device_id is not None and device_id not in known:
        raise UsageError(f"no reading of {device_id} is here; known: {', '.join(known) or 'none'}")
    return known


async def _chosen(
    spool: DurableSpool, args: argparse.Namespace, damaged: set[int], after: int = 0
) -> AsyncIterator[SpoolRecord]:
    await _known(spool, args.device)
    async for record in spool.records(*STATES.get(args.state, ()), after=after, left_out=damaged):
        if args.device in (None, record.entry.device_id):
            yield record


async def _export(args: argparse.Namespace, path: Path) -> int:
    count, damaged = 0, set[int]()
    async with _opened(path) as spool:
        await _known(spool, args.device)  # before a file is made
        owner = await spool.owner()
        with _output(args.file) as output:
            output.write(f"{head_line(spool.identity, owner.spool_id)}\n")
            async for record in _chosen(spool, args, damaged):
                output.write(f"{record_line(record)}\n")
                count += 1
            output.write(f"{tail_line(count)}\n")
    return _say_damaged(damaged)


@contextmanager
def _output(name: str) -> Iterator[TextIO]:
    if name == "-":
        yield sys.stdout
        return
    try:
        with Path(name).open("x", encoding="utf-8") as file:
            yield file
    except FileExistsError:
        raise UsageError(f"{name} is there already; name a new file") from None
    except OSError as error:
        raise UsageError(f"cannot write {name}: {error.strerror}") from None


async def _import(args: argparse.Namespace, path: Path) -> int:
    with _input(args.file) as lines:
        # Read twice: nothing is taken from a file that is damaged further on.
        await anyio.to_thread.run_sync(_read_through, lines, args.partial)
        lines.seek(0)
        owner = OwnerFile.read_at(path).owner  # a new spool is this edge's, too
        async with _opened(path, owner) as spool:
            records = read_lines(lines, partial=args.partial, here=await spool.owner())
            done = await spool.import_records(records)
            generation = spool.identity.generation
    result = {
        "imported": done.imported,
        "known": done.known,
        "different": list(done.different),
        "ahead": done.ahead,
        "generation": generation,
    }
    _say(result, args, _import_lines)
    return EXIT_FAILED if done.different else EXIT_OK


def _read_through(lines: Iterable[str], partial: bool) -> None:  # noqa: FBT001 - anyio passes by position
    try:
        for _ in read_lines(lines, partial=partial):
            pass
    except UsageError as error:
        raise UsageError(f"{error}; nothing was imported") from None


def _import_lines(result: dict[str, Any]) -> Iterator[str]:
    yield f"{result['imported']} readings imported, {result['known']} were here already"
    if result["ahead"]:
        yield (
            f"{result['ahead']} of them are dated ahead of the time: they are deferred (future), "
            "offered again, and date no other"
        )
    if result["different"]:
        yield (
            f"{len(result['different'])} left out, because another reading of the same device and time is "
            f"here; their numbers in the export: {_named(result['different'])}"
        )


def _named(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:_NAMED])) + (" ..." if len(numbers) > _NAMED else "")


@contextmanager
def _input(name: str) -> Iterator[TextIO]:
    try:
        if name == "-":
            with tempfile.TemporaryFile("w+", encoding="utf-8") as copy:
                shutil.copyfileobj(sys.stdin, copy)
                copy.seek(0)
                yield cast("TextIO", copy)
        else:
            with Path(name).open(encoding="utf-8") as file:
                yield file
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        if error.reason == _CUT_OFF:
            raise UsageError(
                f"{name} ends in the middle of a line: it was cut off; copy or export it anew, or leave that "
                "line out and use --partial; nothing was imported"
            ) from None
        raise UsageError(
            f"{name} is not a spool export: it is not UTF-8 text; nothing was imported"
        ) from None


async def _requeue(args: argparse.Namespace, path: Path) -> int:
    if bool(args.seq) == args.all:
        raise UsageError("name the readings by their numbers, or say --all (with --device or --code)")
    if args.seq and (args.device or args.code):
        raise UsageError("--device and --code go with --all, not with numbers")
    async with _opened(path) as spool:
        await _known(spool, args.device)
        numbers, damaged = set(args.seq), set[int]()
        chosen = [
            (record.entry.seq, record.held and record.entry.device_id)
            async for record in spool.records(*_SET_APART, left_out=damaged)
            if args.device in (None, record.entry.device_id)
            and args.code in (None, record.code)
            and (args.all or record.entry.seq in numbers)
        ]
        _say_held({device_id for _, device_id in chosen if device_id is not None})
        seqs = args.seq or [seq for seq, device_id in chosen if device_id is None]
        left, moved = iter(seqs), 0
        while chunk := list(islice(left, _CHUNK)):
            moved += await spool.requeue(chunk)
    _say({"requeued": moved}, args, lambda done: [f"{done['requeued']} readings are offered again"])
    if moved < len(args.seq):
        sys.stderr.write(f"sungrow-edge: {len(args.seq) - moved} of the numbers are not set apart\n")
        return EXIT_FAILED
    return _say_damaged(damaged if args.all else set())


async def _resend(args: argparse.Namespace, path: Path) -> int:
    async with _opened(path) as spool:
        known = await _known(spool, args.device)
        chosen = [args.device] if args.device else known
        held = await spool.held()
        _say_held(held.keys() & set(chosen))
        done = {device_id: await spool.reoffer(device_id) for device_id in chosen if device_id not in held}
    _say(done, args, _resend_lines)
    return EXIT_OK


def _say_held(device_ids: Iterable[str]) -> None:
    for device_id in sorted(device_ids):
        sys.stderr.write(
            f"sungrow-edge: {device_id} is held back and left out; name it first (spool rename)\n"
        )


def _resend_lines(done: dict[str, int]) -> Iterator[str]:
    yield from (f"{name}: {number} offered again" for name, number in done.items())
    if not done:
        yield "no reading is kept here"


async def _rename(args: argparse.Namespace, path: Path) -> int:
    if args.undo:
        return await _undo_rename(args, path)
    if args.new is None:
        raise UsageError("say what it is to be called: rename OLD NEW")
    if not re.fullmatch(DEVICE_ID_PATTERN, args.new):
        raise UsageError(f"{args.new!r} is no device id: 1 to 64 letters, digits, dots, dashes, underscores")
    async with _opened(path) as spool:
        if args.old in await spool.held():
            await _require_meant(spool, args)
        done = await spool.rename_device(args.old, args.new)
    if args.new == args.old:
        lines = [f"{done.moved} readings of {args.old} are held back no longer; what is undelivered is sent"]
    else:
        lines = [f"{done.moved} readings of {args.old} are {args.new}'s now; what is undelivered is sent"]
        if done.moved:
            lines.append(f"if that is wrong: sungrow-edge spool rename --undo {args.old}")
    if done.left:
        lines.append(f"{done.left} are left, because {args.new} has readings of the same times")
    _say(done._asdict(), args, lambda _: lines)
    return EXIT_FAILED if done.left else EXIT_OK


async def _require_meant(spool: DurableSpool, args: argparse.Namespace) -> None:
    """Ask for a word that says which kind of name it is: what is sent under a wrong one stays sent.

    Raises:
        UsageError: it is missing.
    """
    held = await spool.held()
    here, configured = {*await spool.devices()} - held.keys(), {*_configured(args)}
    if args.new in held and args.new != args.old:
        return  # which is refused
    if args.new == args.old:
        if args.new not in configured and not args.force:
            raise UsageError(
                f"no device of the settings is called {args.old}, and {held[args.old].undelivered} readings "
                "would be sent under that name; if a device really is called so, say --force"
            )
        return
    if args.new not in here | configured:
        if not args.force:
            raise UsageError(
                f"{args.new} is neither in the settings nor known to the spool (known: "
                f"{', '.join(sorted(here | configured)) or 'none'}); if it is meant, say --force"
            )
    elif not args.into_existing:
        place = "of the settings" if args.new in configured else "of this spool"
        number = held[args.old].undelivered
        raise UsageError(
            f"{args.new} is a device {place}, and {number} readings of {args.old} would be sent as its own; "
            "if it is meant, say --into-existing"
        )


async def _undo_rename(args: argparse.Namespace, path: Path) -> int:
    if args.new is not None or args.force or args.into_existing:
        raise UsageError("--undo takes the old name only: rename --undo OLD")
    async with _opened(path) as spool:
        done = await spool.undo_rename(args.old)
    lines = [f"{done.moved} readings are {args.old}'s again, and held back"]
    if done.left:
        lines.append(f"{done.left} were sent already, and keep the name they were sent under")
    _say(done._asdict(), args, lambda _: lines)
    return EXIT_FAILED if done.left else EXIT_OK


def _configured(args: argparse.Namespace) -> Iterator[str]:
    """Yield the devices of the settings, where there are any that can be read."""
    with suppress(SungrowError):
        yield from (inverter.device_id for inverter in args.settings(args).inverters)


async def _set_aside(args: argparse.Namespace, path: Path) -> int:
    async with _opened(path) as spool:
        done = await spool.set_aside_device(args.device)
    lines = [f"{done.moved} readings of {args.device} are in quarantine (set_aside)"]
    if done.left:
        lines.append(f"{done.left} wait for a date; say it again once the clock is trusted")
    _say(done._asdict(), args, lambda _: lines)
    return EXIT_FAILED if done.left else EXIT_OK


async def _verify(args: argparse.Namespace, path: Path) -> int:
    try:
        async with _opened(path) as spool:
            faults = await spool.faults()
    except SpoolCorruptError as error:
        faults = [str(error)]
    result = {"spool": str(path), "ok": not faults, "faults": faults}
    _say(result, args, lambda _: faults or [f"{path} is sound"])
    return EXIT_FAILED if faults else EXIT_OK


def _when(moment: datetime | None) -> str | None:
    return None if moment is None else format_ts(moment)


def _say(
    result: dict[str, Any], args: argparse.Namespace, lines: Callable[[dict[str, Any]], Iterable[str]]
) -> None:
    if args.json:
        _write(json.dumps(result))
    else:
        for line in lines(result):
            _write(line)


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")


JOBS: Final = {
    "stats": _stats,
    "list": _list,
    "export": _export,
    "import": _import,
    "requeue": _requeue,
    "resend": _resend,
    "rename": _rename,
    "set-aside": _set_aside,
    "verify": _verify,
}
