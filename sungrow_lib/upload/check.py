"""Whether a server would take our readings, without storing one."""

from __future__ import annotations

import json
from typing import Final

from pydantic import ValidationError

from sungrow_lib.errors import (
    CredentialsRefusedError,
    RequestRefusedError,
    ServerBusyError,
    UnexpectedAnswerError,
)
from sungrow_lib.upload.credentials import TokenSource
from sungrow_lib.upload.http import IngestTransport
from sungrow_lib.upload.settings import UploadSettings
from sungrow_lib.upload.verdicts import CODE_LIMIT, REASON_LIMIT, UNFIT, UNFIT_ADVICE, VERSION_LIMIT, Reply
from sungrow_lib.wire import IngestAnswer
from sungrow_lib.wording import shown

_OK: Final = 200
_UNAUTHORISED: Final = 401
_FORBIDDEN: Final = 403
_TOO_MANY: Final = 429
_SERVER_ERRORS: Final = 500
_NEVER: Final = "9999-12-31T00:00:00.000Z"
"""Further ahead than any server accepts: it judges the device, defers the sample and stores nothing."""


async def check_server(settings: UploadSettings) -> str:
    """Deliver an empty batch, then ask for each device whether the token covers it.

    Nothing is stored: the question is a sample dated so far ahead that a server can only defer it.

    Args:
        settings: where to and how; its `devices` are asked for.

    Returns:
        Address and version of the server, which accepted the token for every device.

    Raises:
        ServerUnreachableError: no verified connection.
        CredentialsRefusedError: the token is not valid, may not ingest, or does not cover a device.
        RequestRefusedError: the server does not take readings of a device.
        ServerBusyError: it answers, but cannot take readings now.
        UnexpectedAnswerError: what answers is not this product's server.
        ConfigurationError: the token file or the certificate file cannot be used.
    """
    token = await TokenSource(settings).current()
    async with IngestTransport(settings) as transport:
        answer = _accepted(await transport.ingest(_body([]), token), settings)
        for device_id in settings.devices:
            reply = await transport.ingest(_body([{"device_id": device_id, "ts": _NEVER}]), token)
            _require_device(reply, device_id, settings)
    return f"{settings.server_url}, version {shown(answer.server_version, VERSION_LIMIT)}"


def _body(samples: list[dict[str, str]]) -> list[str]:
    return [json.dumps({"samples": samples})]


def _accepted(reply: Reply, settings: UploadSettings) -> IngestAnswer:
    if reply.status in {_UNAUTHORISED, _FORBIDDEN}:
        raise CredentialsRefusedError(
            f"{settings.server_url} refuses the token (HTTP {reply.status}); make one with "
            "`sungrow-server token create` (DEVICE_TOKEN)",
            status=reply.status,
        )
    if reply.status >= _SERVER_ERRORS or reply.status == _TOO_MANY:
        raise ServerBusyError(
            f"{settings.server_url} answers HTTP {reply.status}; see its /health", status=reply.status
        )
    if reply.status in UNFIT:
        raise RequestRefusedError(
            f"{settings.server_url} refuses what it is sent, however little (HTTP {reply.status}). "
            f"{UNFIT_ADVICE}",
            status=reply.status,
        )
    answer = _answer(reply) if reply.status == _OK else None
    if answer is None:
        raise UnexpectedAnswerError(
            f"what answers at {settings.server_url} is not the server (HTTP {reply.status}); check SERVER_URL"
        )
    return answer


def _require_device(reply: Reply, device_id: str, settings: UploadSettings) -> None:
    if reply.status == _FORBIDDEN:
        raise _not_covered(device_id)
    for verdict in (answer := _accepted(reply, settings)).deferred + answer.rejected:
        if verdict.code == "future":
            return
        if verdict.code == "device_forbidden":
            raise _not_covered(device_id)
        why = f"{shown(verdict.code, CODE_LIMIT)}: {shown(verdict.reason, REASON_LIMIT)}"
        raise RequestRefusedError(
            f"the server takes no readings of {device_id} ({why})",
            status=reply.status,
        )
    raise UnexpectedAnswerError(
        f"{settings.server_url} did not say whether it takes readings of {device_id}; check SERVER_URL"
    )


def _not_covered(device_id: str) -> CredentialsRefusedError:
    return CredentialsRefusedError(
        f"the token (DEVICE_TOKEN) does not cover the device {device_id}; check its name, or make a token "
        f"with `sungrow-server token create --scope ingest --device {device_id}`",
        status=_FORBIDDEN,
    )


def _answer(reply: Reply) -> IngestAnswer | None:
    try:
        return IngestAnswer.model_validate_json(reply.body)
    except ValidationError:
        return None
