"""Holds real answers against the OpenAPI document: what is answered must be declared, and look as it was declared."""

import json
import re
from functools import lru_cache
from typing import Any

import httpx2
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from runfold_server.app.routes import OPENAPI, OPERATIONS, OPERATIONS_3, RAW, api_document
from runfold_server.http.prefixes import MLFLOW_3_PREFIXES, MLFLOW_PREFIXES

SOME = 30
"""Of a long list the first ones are checked: validation is slow, and a history has thousands of points."""


@lru_cache(maxsize=1)
def _described() -> dict[str, Any]:
    return api_document()


@lru_cache(maxsize=1)
def _templates() -> list[tuple[re.Pattern[str], str]]:
    """Paths with placeholders, as the document has them; one that is declared a path may stand for several segments."""
    paths = [one.path for one in (*RAW, OPENAPI)]
    for prefix, operations in ((MLFLOW_PREFIXES[0], OPERATIONS), (MLFLOW_3_PREFIXES[0], OPERATIONS_3)):
        paths += [f"{prefix}/{one.path}" for one in operations]
    return [(_pattern(path), path.replace(":path}", "}")) for path in paths if "{" in path]


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"{\w+((?::path)?)}", path)
    kinds = [".+" if kind else "[^/]+" for kind in parts[1::2]]
    texts = [re.escape(text) for text in parts[0::2]]
    return re.compile("".join(text + kind for text, kind in zip(texts, [*kinds, ""], strict=True)))


def _declared(path: str) -> str | None:
    if path in _described()["paths"]:
        return path
    return next((declared for pattern, declared in _templates() if pattern.fullmatch(path)), None)


@lru_cache(maxsize=200)
def _validator(pointer: str) -> Draft202012Validator:
    resource = Resource.from_contents(_described(), default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:openapi", resource)
    return Draft202012Validator({"$ref": f"urn:openapi#{pointer}"}, registry=registry)


def problems(method: str, path: str, status: int, content_type: str, body: bytes) -> list[str]:
    """What is answered but not declared; nothing for a path that the document has not."""
    path = "/api" + path.removeprefix("/ajax-api") if path.startswith("/ajax-api") else path
    declared = _declared(path)
    operation = _described()["paths"].get(declared, {}).get("get" if method == "HEAD" else method.lower())
    if declared is None or operation is None:
        return []
    if status == 500:
        return [f"{method} {path}: 500: {body[:500]!r}"]
    answer = operation["responses"].get(str(status))
    if answer is None:
        return [f"{method} {path}: status {status} is not declared: {body[:500]!r}"]
    pointer = f"/paths/{declared.replace('/', '~1')}/{method.lower()}/responses/{status}"
    if "$ref" in answer:
        pointer = answer["$ref"].removeprefix("#")
        answer = _described()["components"]["responses"][str(status)]
    kind = content_type.split(";")[0]
    if kind not in answer["content"] and "*/*" not in answer["content"]:
        return [f"{method} {path}: {status} with {kind}, declared are {list(answer['content'])}"]
    if kind != "application/json" or method == "HEAD":
        return []
    pointer += f"/content/{kind.replace('/', '~1')}/schema"
    found = _validator(pointer).iter_errors(_cut(json.loads(body)))
    return [f"{method} {path}: {status}: {error.json_path}: {error.message[:500]}" for error in found]


def _cut(value: Any) -> Any:
    if isinstance(value, list):
        return [_cut(item) for item in value[:SOME]]
    if isinstance(value, dict):
        return {name: _cut(item) for name, item in value.items()}
    return value


def check(response: httpx2.Response) -> None:
    """An event hook of a client: every answer conforms."""
    response.read()
    request = response.request
    content_type = response.headers.get("content-type", "")
    found = problems(request.method, request.url.path, response.status_code, content_type, response.content)
    assert not found, found
