"""Answers as JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from sungrow_lib.sample import format_ts
from sungrow_lib.wire import Health


def json_bytes(answer: BaseModel | Mapping[str, Any], *, exclude: Collection[str] = ()) -> bytes:
    """JSON of an answer; of health, fields that were not set stay away."""
    if not isinstance(answer, BaseModel):
        return json.dumps(answer).encode()
    left_out = set(exclude)
    try:
        return answer.model_dump_json(exclude_unset=isinstance(answer, Health), exclude=left_out).encode()
    except (PydanticSerializationError, UnicodeEncodeError):
        # A field only a newer edge knows holds text that is not text; escaped, JSON can carry it.
        return json.dumps(answer.model_dump(exclude=left_out), default=format_ts).encode()
