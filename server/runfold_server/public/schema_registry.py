"""The schemas by the protocol of Confluent's schema registry, read only: standard deserialisers are pointed here.

Paths, answers and error codes are those of `io.confluent.kafka.schemaregistry.rest` (resources, exceptions/Errors.java); a registry in mode
READONLY refuses changes with 42205, as this one does.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..api import Api, RawOperation
from ..dispatch import read_body
from ..errors import TooLarge, Unavailable
from ..native import PREFIX
from ..requests import Field, Kind
from ..shapes import INT64, TEXT, Schema, having, listed
from .definitions import Definition, same

BASE = f"{PREFIX}/schema-registry"
MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
LEVEL = "FULL_TRANSITIVE"
"""What `runfold_schemas.compat` holds every new version to."""
_MOST_VERSION = 2**31 - 1
_READ_ONLY = (
    "This registry is read-only: schemas come with the releases of Runfold, and `runfold upgrade` declares them."
)
Handler = Callable[[Api, Request], Awaitable[Any]]


class RegistryError(Exception):
    """An error in the protocol's form: the status of the answer is the first three digits of the code, unless said otherwise."""

    def __init__(self, code: int, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.status = status or (code if code < 1000 else code // 100)


def _no_subject(subject: str) -> RegistryError:
    return RegistryError(40401, f"Subject '{subject}' not found.")


def _no_version(version: int) -> RegistryError:
    return RegistryError(40402, f"Version {version} not found.")


def _no_schema(schema_id: int | None = None) -> RegistryError:
    return RegistryError(40403, "Schema not found" if schema_id is None else f"Schema {schema_id} not found")


def _answering(handler: Handler) -> Callable[[Api, Request], Awaitable[Response]]:
    async def answer(api: Api, request: Request) -> Response:
        try:
            return _said(await handler(api, request))
        except RegistryError as error:
            return _said({"error_code": error.code, "message": error.message}, error.status)
        except TooLarge as error:
            return _said({"error_code": 42209, "message": error.message}, 422)
        except Unavailable as error:
            response = _said({"error_code": 50001, "message": error.message}, error.status)
            response.headers.update(error.headers())
            return response

    return answer


def _said(value: Any, status: int = 200) -> Response:
    body = value.text.encode() if isinstance(value, _Text) else msgspec.json.encode(value)
    return Response(body, status, media_type=MEDIA_TYPE)


class _Text:
    """A schema by itself: it is JSON already."""

    def __init__(self, text: str) -> None:
        self.text = text


async def _root(_: Api, __: Request) -> Any:
    return {}


async def _subjects(api: Api, request: Request) -> Any:
    start = request.query_params.get("subjectPrefix", "")
    found = dict.fromkeys(one.subject for one in await api.definitions.all())
    return _paged(request, [subject for subject in found if subject.startswith(start)])


async def _schemas(api: Api, request: Request) -> Any:
    start = request.query_params.get("subjectPrefix", "")
    found = [one for one in await api.definitions.all() if one.subject.startswith(start)]
    if _is_true(request, "latestOnly"):
        found = list({one.subject: one for one in found}.values())
    return [_whole(one) for one in _paged(request, found)]


async def _versions(api: Api, request: Request) -> Any:
    return _paged(request, [one.version for one in await _of_subject(api, request)])


async def _version(api: Api, request: Request) -> Any:
    return _whole(await _asked(api, request))


async def _version_text(api: Api, request: Request) -> Any:
    return _Text((await _asked(api, request)).text)


async def _by_id(api: Api, request: Request) -> Any:
    found = await _of_id(api, request)
    answer: dict[str, Any] = {"schema": found.text, "subject": found.subject, "version": found.version}
    if _is_true(request, "fetchMaxId"):
        answer["maxId"] = max(one.schema_id for one in await api.definitions.all())
    return answer


async def _text_by_id(api: Api, request: Request) -> Any:
    return _Text((await _of_id(api, request)).text)


async def _subjects_of_id(api: Api, request: Request) -> Any:
    return [(await _of_id(api, request)).subject]


async def _versions_of_id(api: Api, request: Request) -> Any:
    found = await _of_id(api, request)
    return [{"subject": found.subject, "version": found.version}]


async def _types(_: Api, __: Request) -> Any:
    return ["AVRO"]


async def _lookup(api: Api, request: Request) -> Any:
    versions = await _of_subject(api, request)
    found = await _same(api, request, versions)
    if found is None:
        raise _no_schema()
    return _whole(found)


async def _register(api: Api, request: Request) -> Any:
    # A producer that registers what it is about to use gets the id of what is there.
    found = await _same(api, request, await api.definitions.of_subject(request.path_params["subject"]))
    if found is None:
        raise RegistryError(42205, _READ_ONLY)
    return {"id": found.schema_id}


async def _refuse(_: Api, __: Request) -> Any:
    raise RegistryError(42205, _READ_ONLY)


async def _config(api: Api, request: Request) -> Any:
    if "subject" in request.path_params:
        await _of_subject(api, request)
    return {"compatibilityLevel": LEVEL}


async def _mode(api: Api, request: Request) -> Any:
    if "subject" in request.path_params:
        await _of_subject(api, request)
    return {"mode": "READONLY"}


async def _of_subject(api: Api, request: Request) -> list[Definition]:
    subject = request.path_params["subject"]
    found = await api.definitions.of_subject(subject)
    if not found:
        raise _no_subject(subject)
    return found


async def _asked(api: Api, request: Request) -> Definition:
    text = request.path_params["version"]
    number = _MOST_VERSION if text in ("latest", "-1") else _whole_number(text)
    if not 1 <= number <= _MOST_VERSION:
        raise RegistryError(
            42202,
            f"The specified version '{text}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\"",
        )
    versions = await _of_subject(api, request)
    if text in ("latest", "-1"):
        return versions[-1]
    for one in versions:
        if one.version == number:
            return one
    raise _no_version(number)


async def _of_id(api: Api, request: Request) -> Definition:
    text = request.path_params["id"]
    schema_id = _whole_number(text)
    if not 0 <= schema_id <= _MOST_VERSION:
        raise RegistryError(404, "HTTP 404 Not Found")
    found = await api.definitions.of_id(schema_id)
    if found is None:
        raise _no_schema(schema_id)
    return found


async def _same(api: Api, request: Request, versions: Sequence[Definition]) -> Definition | None:
    try:
        body = msgspec.json.decode(await read_body(request, api.config.max_body_bytes))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RegistryError(400, f"The request body is not valid JSON: {error}") from None
    text = body.get("schema") if isinstance(body, dict) else None
    if not isinstance(text, str) or body.get("schemaType", "AVRO") != "AVRO":
        raise RegistryError(42201, "Invalid schema: the body holds `schema`, the text of an Avro schema")
    try:
        return same(versions, text)
    except ValueError as error:
        raise RegistryError(42201, f"Invalid schema: {error}") from None


def _whole(one: Definition) -> dict[str, Any]:
    return {"subject": one.subject, "version": one.version, "id": one.schema_id, "schema": one.text}


def _whole_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else -1


def _is_true(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() == "true"


def _paged(request: Request, found: list[Any]) -> list[Any]:
    offset = _whole_number(request.query_params.get("offset", "0"))
    limit = _whole_number(request.query_params.get("limit", ""))
    rest = found[max(0, offset) :]
    return rest if limit < 0 else rest[:limit]


_VERSION: Schema = having({"subject": TEXT, "version": INT64, "id": INT64, "schema": TEXT})
_ERROR: Schema = having({"error_code": INT64, "message": TEXT})
_SUBJECT = Field("subject", required=True)
_NUMBER = Field("version", required=True)
_ID = Field("id", Kind.INT32, required=True, least=0)
_PAGE = (Field("offset", Kind.INT32), Field("limit", Kind.INT32))
_SUBJECTS = (Field("subjectPrefix"), *_PAGE)
_BODY: Schema = {
    "type": "object",
    "required": ["schema"],
    "properties": {"schema": TEXT, "schemaType": {"const": "AVRO"}},
}


def _operation(
    method: str,
    path: str,
    handler: Handler,
    about: str,
    answer: Schema,
    fields: tuple[Field, ...] = (),
    refused: tuple[int, ...] = (503,),
    *,
    takes: Schema | None = None,
) -> RawOperation:
    return RawOperation(
        method,
        BASE + path,
        _answering(handler),
        about,
        {200: (MEDIA_TYPE, answer)} | dict.fromkeys(refused, (MEDIA_TYPE, _ERROR)),
        fields,
        takes=MEDIA_TYPE if takes is not None else "",
        body=takes,
        errors=(),
    )


def _refusing(method: str, path: str) -> RawOperation:
    fields = tuple(field for field in (_SUBJECT, _NUMBER) if f"{{{field.name}}}" in path)
    about = "Refused with 42205: the registry is read-only."
    return RawOperation(method, BASE + path, _answering(_refuse), about, {422: (MEDIA_TYPE, _ERROR)}, fields, errors=())


_TEXTS = listed(TEXT)
_NUMBERS = listed(INT64)
_AVRO: Schema = {"type": "object", "description": "The schema."}
OPERATIONS = (
    _operation("GET", "/", _root, "The root of the schema registry: empty.", having({}), refused=()),
    _operation("GET", "/subjects", _subjects, "Names of all subjects: the full names of events.", _TEXTS, _SUBJECTS),
    _operation(
        "GET",
        "/schemas",
        _schemas,
        "All versions of all subjects.",
        listed(_VERSION),
        (*_SUBJECTS, Field("latestOnly")),
    ),
    _operation(
        "GET",
        "/subjects/{subject}/versions",
        _versions,
        "Numbers of a subject's versions.",
        _NUMBERS,
        (_SUBJECT, *_PAGE),
        (404, 503),
    ),
    _operation(
        "GET",
        "/subjects/{subject}/versions/{version}",
        _version,
        "A version of a subject, by number or `latest`.",
        _VERSION,
        (_SUBJECT, _NUMBER),
        (404, 422, 503),
    ),
    _operation(
        "GET",
        "/subjects/{subject}/versions/{version}/schema",
        _version_text,
        "The schema alone of a version of a subject.",
        _AVRO,
        (_SUBJECT, _NUMBER),
        (404, 422, 503),
    ),
    _operation(
        "POST",
        "/subjects/{subject}",
        _lookup,
        "Which version of the subject a schema is.",
        _VERSION,
        (_SUBJECT,),
        (400, 404, 422, 503),
        takes=_BODY,
    ),
    _operation(
        "POST",
        "/subjects/{subject}/versions",
        _register,
        "The id of a schema that the subject has already; any other is refused with 42205.",
        having({"id": INT64}),
        (_SUBJECT,),
        (400, 422, 503),
        takes=_BODY,
    ),
    _operation(
        "GET",
        "/schemas/ids/{id}",
        _by_id,
        "The schema of an id, as it stands in the first bytes of a record's value.",
        having({"schema": TEXT, "subject": TEXT, "version": INT64}, {"maxId": INT64}),
        (_ID, Field("fetchMaxId")),
        (404, 503),
    ),
    _operation("GET", "/schemas/ids/{id}/schema", _text_by_id, "The schema alone of an id.", _AVRO, (_ID,), (404, 503)),
    _operation("GET", "/schemas/ids/{id}/subjects", _subjects_of_id, "Subjects of an id.", _TEXTS, (_ID,), (404, 503)),
    _operation(
        "GET",
        "/schemas/ids/{id}/versions",
        _versions_of_id,
        "Subjects and versions of an id.",
        listed(having({"subject": TEXT, "version": INT64})),
        (_ID,),
        (404, 503),
    ),
    _operation("GET", "/schemas/types", _types, "Kinds of schemas: Avro.", _TEXTS, refused=()),
    *(
        _operation(
            "GET",
            path,
            handler,
            about,
            having({name: TEXT}),
            (_SUBJECT,) if "{" in path else (),
            (404, 503) if "{" in path else (),
        )
        for start, name, handler, about in (
            ("/config", "compatibilityLevel", _config, "How compatible versions are with each other: FULL_TRANSITIVE."),
            ("/mode", "mode", _mode, "The registry's mode: READONLY."),
        )
        for path in (start, start + "/{subject}")
    ),
    *(
        _refusing(method, path)
        for method, path in (
            ("DELETE", "/subjects/{subject}"),
            ("DELETE", "/subjects/{subject}/versions/{version}"),
            ("PUT", "/config"),
            ("PUT", "/config/{subject}"),
            ("DELETE", "/config"),
            ("DELETE", "/config/{subject}"),
            ("PUT", "/mode"),
            ("PUT", "/mode/{subject}"),
            ("DELETE", "/mode/{subject}"),
        )
    ),
)
