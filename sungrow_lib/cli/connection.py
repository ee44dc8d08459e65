"""Connection options, the same for every command that talks to a device."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import anyio
import anyio._backends._asyncio  # loaded now: in the midst of a job, Ctrl-C would find it half loaded

from sungrow_lib.decoding import refuse_family
from sungrow_lib.errors import (
    ConfigurationError,
    DamagedReplyError,
    DeviceBusyError,
    DeviceError,
    DeviceUnreachableError,
    UnknownFamilyError,
    UsageError,
)
from sungrow_lib.modbus.settings import ConnectionSettings, require_unit
from sungrow_lib.quantities import Family
from sungrow_lib.registers.words import RegisterWords

CONNECTION_HELP: Final = """\
connection:
  A dongle (WiNet-S) or an inverter's LAN port serves one program at a time. This command waits its turn (5 s
  after the last pass of any program, 100 ms between requests) and refuses to disturb a program that is
  connected, such as a running sungrow-edge. Programs find each other by lock files in SUNGROW_LOCK_DIR
  (default: the system's lock folder).
"""

_AUTO: Final = "auto"
FAMILIES_TO_NAME: Final = (Family.SH, Family.SG, Family.IHM)
"""Families that --family takes where a device is asked."""
_T = TypeVar("_T")


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Add HOST, --port, --unit, --family and --timeout."""
    parser.add_argument("host", metavar="HOST", help="name or address of the inverter or its dongle")
    parser.add_argument("--port", type=int, default=502, help="Modbus TCP port (default: %(default)s)")
    parser.add_argument(
        "--unit", type=int, default=1, help="Modbus unit id; a battery is often 200 (default: %(default)s)"
    )
    parser.add_argument(
        "--family",
        choices=(_AUTO, *(family.value for family in FAMILIES_TO_NAME)),
        default=_AUTO,
        help="register map: sh hybrid, sg string inverter, ihm iHomeManager; auto asks the device "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=3.0,
        metavar="SECONDS",
        help="wait for the connection and for each answer (default: %(default)g)",
    )


def settings_of(args: argparse.Namespace) -> ConnectionSettings:
    """Return the connection settings the user asked for.

    Raises:
        ConfigurationError: one of them is not possible.
    """
    require_unit(args.unit)
    return ConnectionSettings(host=args.host, port=args.port, timeout_s=args.timeout)


def family_of(args: argparse.Namespace) -> Family | None:
    """Return the family the user named; None for auto."""
    return None if args.family == _AUTO else Family(args.family)


def check_family(family: Family | None, words: RegisterWords) -> None:
    """Refuse to read a device with the map of another family.

    Args:
        family: what the user named; None for auto.
        words: what the device answered where it says what it is.

    Raises:
        UsageError: it says that it is something else, or nothing where every iHomeManager does.
    """
    if family is None:
        return
    refuse_family("the device", family, words)
    if family is Family.IHM and not words:
        raise UsageError("this is no iHomeManager; leave --family ihm out, or check --unit (usually 247)")


def tell(text: str) -> None:
    """Say something to the person waiting, beside the answer."""
    print(text, file=sys.stderr, flush=True)


def run_on_device(args: argparse.Namespace, job: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run ``job``; an error of the device names the device.

    Raises:
        DeviceError: what the job raised, with host and port in front.
        ConfigurationError: an option is not possible.
    """
    try:
        return anyio.run(job)
    except (DeviceUnreachableError, DeviceBusyError, ConfigurationError):
        raise  # these say which device
    except UnknownFamilyError as error:
        families = "|".join(FAMILIES_TO_NAME)
        raise UnknownFamilyError(
            f"nothing that {args.host}:{args.port} answers tells its register family; name it with "
            f"--family {families}, or check --unit"
        ) from error
    except DamagedReplyError as error:
        hint = "try again, with no other program reading the device"
        raise DamagedReplyError(f"{args.host}:{args.port}: {error}; {hint}") from error
    except DeviceError as error:
        raise DeviceError(f"{args.host}:{args.port}: {error}") from error
