"""The OpenAPI 3.1 document, made from the list of operations."""

from __future__ import annotations

from collections import ChainMap
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from reference_server import explanations
from reference_server.bodies import ENCODINGS
from reference_server.docstrings import split
from reference_server.examples import problem
from reference_server.operation import Op
from reference_server.problems import TITLES
from sungrow_lib._version import __version__
from sungrow_lib.wire import PROBLEM_JSON, Problem

_REF: Final = "#/components/schemas/{model}"
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds after which to come back.", "schema": {"type": "integer"}}
}
_SENT_WITH: Final[dict[int, dict[str, Any]]] = {429: _RETRY_AFTER, 503: _RETRY_AFTER}
"""Headers of an error, by its status."""

Operations = tuple[Op, ...]


@cache
def document(operations: Operations) -> dict[str, Any]:
    """Return the document of these operations."""
    paths: dict[str, dict[str, Any]] = {}
    for op in operations:
        paths.setdefault(op.path, {})[op.method.lower()] = _operation(op)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sungrow reference server",
            "version": __version__,
            "description": explanations.API,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": tag, "description": explanations.TAGS[tag]}
            for tag in dict.fromkeys(op.tag for op in operations)
        ],
        "paths": paths,
        "components": {
            "schemas": _schemas(operations),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(operations: Operations) -> dict[str, Any]:
    bodies = dict.fromkeys(op.body for op in operations if op.body is not None)
    answers: dict[type[BaseModel], None] = dict.fromkeys(
        [Problem, *(op.answer for op in operations if op.answer is not None)]
    )
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "serialization") for model in answers]
    wanted += [(model, "validation") for model in bodies]
    _, schema = models_json_schema(wanted, ref_template=_REF)
    definitions: dict[str, Any] = schema["$defs"]
    models = {model.__name__: model for model in (*answers, *bodies)}
    return {
        name: _described(_untitled(definition), models.get(name)) for name, definition in definitions.items()
    }


def _described(definition: dict[str, Any], model: type[BaseModel] | None) -> dict[str, Any]:
    """Say at each property what the model's docstring says of it, not in a list above them all."""
    text, fields = split(definition.get("description"))
    meanings = ChainMap(fields, _meanings(model) if model else {})
    described = definition | ({"description": text} if text else {})
    if "properties" in definition:
        described["properties"] = {
            name: {"description": meanings[name], **schema} if name in meanings else schema
            for name, schema in definition["properties"].items()
        }
    return described


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings of a model and of those it is made from say of its fields."""
    return dict(ChainMap(*(split(kind.__doc__)[1] for kind in model.__mro__)))


def _untitled(schema: Any) -> Any:
    """Leave out pydantic's titles of properties: readers would take them for type names."""
    if isinstance(schema, dict):
        return {
            key: _untitled(value)
            for key, value in schema.items()
            if key != "title" or not isinstance(value, str)
        }
    if isinstance(schema, list):
        return [_untitled(item) for item in schema]
    return schema


def _operation(op: Op) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": op.name,
        "tags": [op.tag],
        "summary": op.summary,
        "security": [] if op.scope is None else [{"token": []}],
        "responses": _answers(op) | {str(status): _problem(status) for status in op.statuses},
    }
    scopes = " or ".join(f"`{scope.value}`" for scope in (op.scope, op.or_scope) if scope)
    needs = f"Needs a token with the scope {scopes}." if scopes else "Needs no token."
    operation["description"] = f"{explanations.OPERATIONS[op.name]}\n{needs}"
    parameters = _parameters(op) + _headers(op)
    if parameters:
        operation["parameters"] = parameters
    if op.body is not None:
        operation["requestBody"] = _body(op.body, op.body_example)
    return operation


def _answers(op: Op) -> dict[str, Any]:
    unchanged = {"304": {"description": "Not modified: the client has it already"}} if op.has_etag else {}
    return {"200": _answer(op)} | unchanged


def _answer(op: Op) -> dict[str, Any]:
    if op.answer is not None:
        schema = {"$ref": _REF.format(model=op.answer.__name__)}
    else:
        schema = {"type": "object" if op.media == "application/json" else "string"}
    others = {media: _other(media, example) for media, example in op.also.items()}
    return {"description": "Done", "content": {op.media: _content(schema, op.example)} | others}


def _other(media: str, example: str | None) -> dict[str, Any]:
    """The same as text; what cannot be shown as one is bytes."""
    if example is not None:
        return _content({"type": "string"}, example)
    text = "A file of bytes: one table, its columns those of the CSV; times in the site's zone, unknown null."
    return {"schema": {"type": "string", "contentMediaType": media, "description": text}}


def _content(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": TITLES.get(status) or HTTPStatus(status).phrase,
        "content": {PROBLEM_JSON: _content({"$ref": _REF.format(model=Problem.__name__)}, problem(status))},
    } | ({"headers": _SENT_WITH[status]} if status in _SENT_WITH else {})


def _body(model: type[BaseModel], example: Any) -> dict[str, Any]:
    return {
        "required": True,
        "description": f"May be compressed: {' or '.join(ENCODINGS)} by Content-Encoding.",
        "content": {"application/json": _content({"$ref": _REF.format(model=model.__name__)}, example)},
    }


def _parameters(op: Op) -> list[dict[str, Any]]:
    model = op.query
    schema = model.model_json_schema(ref_template=_REF)
    definitions = schema.get("$defs", {})
    meanings = _meanings(model)
    fields = {field.alias or name: name for name, field in model.model_fields.items()}
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "description": meanings[fields[name]],
            "schema": _inlined(_untitled(_not_null(definition)), definitions),
        }
        # One request in all, and no value for each parameter: some exclude one another.
        | ({"example": op.query_example[name]} if name in op.query_example else {})
        for name, definition in schema.get("properties", {}).items()
    ]


def _headers(op: Op) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in op.headers.items()
    ]


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out cannot be null in a URL."""
    kept = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in {"anyOf", "default"}}
    return rest | (kept[0] if len(kept) == 1 else {"anyOf": kept} if kept else {})


def _inlined(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    rest = {key: value for key, value in schema.items() if key != "$ref"}
    inlined: dict[str, Any] = _untitled(definitions[reference.rsplit("/", 1)[-1]])
    return inlined | rest
