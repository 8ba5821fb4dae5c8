"""The API's reference page and the static copy of its OpenAPI document, made from the document itself: part of `make
docs`.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runfold_server.app.routes import api_document
from runfold_server.mlflow.not_implemented import PLANNED_2, PLANNED_3
from runfold_server.native.log import asyncapi

from .markdown import table

PAGE = Path("docs/api.md")
DOCUMENT = Path("docs/openapi.json")
LOG_DOCUMENT = Path("docs/asyncapi.json")
Json = Mapping[str, Any]


def openapi_text() -> str:
    """The document as a file."""
    return json.dumps(api_document(), indent=1, ensure_ascii=False) + "\n"


def asyncapi_text() -> str:
    """The document about the log as a file."""
    return json.dumps(asyncapi.document(), indent=1, ensure_ascii=False) + "\n"


def api_page() -> str:
    """The page, in Markdown."""
    described = api_document()
    return "\n\n".join(part.strip() for part in _parts(described)) + "\n"


def _parts(described: Json) -> Iterator[str]:
    yield (
        "# API\n\nMade by `make docs` from the routes themselves; changes here are lost. The same as OpenAPI 3.1: "
        "`/openapi.json` of a "
        "server, or [openapi.json](openapi.json)."
    )
    yield described["info"]["description"]
    by_tag: dict[str, list[str]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            text = "\n\n".join(_operation(method.upper(), path, operation))
            by_tag.setdefault(operation["tags"][0], []).append(text)
    for tag, texts in sorted(by_tag.items()):
        yield f"## {tag}"
        yield from texts
    yield "## Errors\n\n" + table(
        ("status", "meaning"),
        ((status, one["description"]) for status, one in described["components"]["responses"].items()),
    )
    yield "## Shapes"
    for name, shape in described["components"]["schemas"].items():
        about = shape.get("description", "")
        yield "\n\n".join(part for part in (f"### {name}", about, *_fields(shape)) if part)
    yield "## Not served yet\n\nMLflow serves these; here they answer 501 with a text.\n\n" + table(
        ("beginning of the path", "what"),
        (
            (f"`/api/{major}.0/mlflow/{start}`", what)
            for major, planned in ((2, PLANNED_2), (3, PLANNED_3))
            for start, what in planned.items()
        ),
    )


def _operation(method: str, path: str, operation: Json) -> Iterator[str]:
    yield f"### {method} {path}"
    yield operation["description"]
    rows: list[tuple[str, ...]] = [
        (f"`{one['name']}`", _kind(one["schema"]), _needed(one["required"], one["schema"]), one["description"])
        for one in operation.get("parameters", ())
    ]
    for kind, media in operation.get("requestBody", {}).get("content", {}).items():
        if media["schema"].get("type") == "object":
            rows += _rows(media["schema"])
        else:
            yield f"Takes `{kind}`."
    if rows:
        yield table(("field", "type", "", "meaning"), rows)
    for status, answer in operation["responses"].items():
        for kind, media in answer.get("content", {}).items():
            shown = _kind(media["schema"])
            yield f"Answers {status}: {shown if kind == 'application/json' else f'`{kind}`'}."
    refused = [status for status, answer in operation["responses"].items() if "$ref" in answer]
    if refused:
        yield f"Errors: {', '.join(refused)}."


def _rows(schema: Json, within: str = "") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, field in schema["properties"].items():
        needed = _needed(name in schema.get("required", ()), field)
        rows.append((f"`{within}{name}`", _kind(field), needed, field.get("description", "")))
        inner = field.get("items", field)
        if "properties" in inner:
            rows += _rows(inner, f"{within}{name}{'[]' if 'items' in field else ''}.")
    return rows


def _fields(shape: Json) -> Iterator[str]:
    if shape.get("properties"):
        yield table(("field", "type", "", "meaning"), _rows(shape))


def _needed(required: bool, schema: Json) -> str:
    if required:
        return "required"
    return f"default `{schema['default']}`" if "default" in schema else ""


def _kind(schema: Json) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    kind = schema["type"]
    if kind == "array":
        most = f" of at most {schema['maxItems']}" if "maxItems" in schema else ""
        return f"list{most}: {_kind(schema['items'])}"
    if kind == "object":
        names = ", ".join(f"`{name}`: {_kind(one)}" for name, one in schema.get("properties", {}).items())
        empty = "an empty object" if schema.get("additionalProperties") is False else "object"
        return f"object {{{names}}}" if names else empty
    if kind == "integer":
        return _integer(schema)
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _integer(schema: Json) -> str:
    if "format" not in schema:
        return "integer"
    limit = 2**63 if schema["format"] == "int64" else 2**31
    least, most = schema["minimum"], schema["maximum"]
    if (least, most) == (-limit, limit - 1):
        return str(schema["format"])
    if most == limit - 1:
        return f"{schema['format']}, from {least}"
    return f"{schema['format']}, {least} to {most}" if least > -limit else f"{schema['format']}, at most {most}"
