"""Whether a server would take our readings, without sending one."""

from __future__ import annotations

import json
from typing import Final

from pydantic import ValidationError

from sungrow_lib.errors import CredentialsRefusedError, ServerBusyError, UnexpectedAnswerError
from sungrow_lib.upload.credentials import TokenSource
from sungrow_lib.upload.http import IngestTransport
from sungrow_lib.upload.settings import UploadSettings
from sungrow_lib.upload.verdicts import Reply
from sungrow_lib.wire import IngestAnswer

_OK: Final = 200
_UNAUTHORISED: Final = 401
_FORBIDDEN: Final = 403
_SERVER_ERRORS: Final = 500


async def check_server(settings: UploadSettings) -> str:
    """Deliver an empty batch.

    Returns:
        Version of the server, which accepted the token.

    Raises:
        ServerUnreachableError: no verified connection.
        CredentialsRefusedError: the token is not valid, or may not ingest.
        ServerBusyError: it answers, but cannot take readings now.
        UnexpectedAnswerError: what answers is not this product's server.
        ConfigurationError: the token file or the certificate file cannot be used.
    """
    token = await TokenSource(settings).current()
    async with IngestTransport(settings) as transport:
        reply = await transport.ingest(json.dumps({"samples": []}).encode(), token)
    if reply.status in {_UNAUTHORISED, _FORBIDDEN}:
        raise CredentialsRefusedError(
            f"{settings.server_url} refuses the token (HTTP {reply.status}); make one with "
            "`sungrow-server token create` (DEVICE_TOKEN)",
            status=reply.status,
        )
    if reply.status >= _SERVER_ERRORS:
        raise ServerBusyError(
            f"{settings.server_url} answers HTTP {reply.status}; see its /health", status=reply.status
        )
    answer = _answer(reply) if reply.status == _OK else None
    if answer is None:
        raise UnexpectedAnswerError(
            f"what answers at {settings.server_url} is not the server (HTTP {reply.status}); check SERVER_URL"
        )
    return f"{settings.server_url}, version {answer.server_version}"


def _answer(reply: Reply) -> IngestAnswer | None:
    try:
        return IngestAnswer.model_validate_json(reply.body)
    except ValidationError:
        return None
