"""What the schema registry is asked, answered out of the definitions that this release and the log hold."""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request

from runfold_server.http.dispatch import read_body
from runfold_server.http.services import Services
from runfold_server.streams.events.schema_definitions import Definition, same

from .protocol import RegistryError, Text, no_schema, no_subject, no_version

LEVEL = "FULL_TRANSITIVE"
"""What `runfold_schemas.codec.compat` holds every new version to."""
_MOST_VERSION = 2**31 - 1
_READ_ONLY = (
    "This registry is read-only: schemas come with the releases of Runfold, and `runfold upgrade` declares them."
)


async def root(_: Services, __: Request) -> Any:
    """The root: empty."""
    return {}


async def subjects(services: Services, request: Request) -> Any:
    """Names of subjects, those with a prefix if one is given."""
    start = request.query_params.get("subjectPrefix", "")
    found = dict.fromkeys(one.subject for one in await services.streams.definitions.all())
    return _paged(request, [subject for subject in found if subject.startswith(start)])


async def schemas(services: Services, request: Request) -> Any:
    """All versions, or the latest ones, of subjects."""
    start = request.query_params.get("subjectPrefix", "")
    found = [one for one in await services.streams.definitions.all() if one.subject.startswith(start)]
    if _is_true(request, "latestOnly"):
        found = list({one.subject: one for one in found}.values())
    return [_whole(one) for one in _paged(request, found)]


async def versions(services: Services, request: Request) -> Any:
    """Numbers of a subject's versions."""
    return _paged(request, [one.version for one in await _of_subject(services, request)])


async def version(services: Services, request: Request) -> Any:
    """A version of a subject."""
    return _whole(await _asked(services, request))


async def version_text(services: Services, request: Request) -> Any:
    """The schema alone of a version."""
    return Text((await _asked(services, request)).text)


async def by_id(services: Services, request: Request) -> Any:
    """The schema of an id."""
    found = await _of_id(services, request)
    answer: dict[str, Any] = {"schema": found.text, "subject": found.subject, "version": found.version}
    if _is_true(request, "fetchMaxId"):
        answer["maxId"] = max(one.schema_id for one in await services.streams.definitions.all())
    return answer


async def text_by_id(services: Services, request: Request) -> Any:
    """The schema alone of an id."""
    return Text((await _of_id(services, request)).text)


async def subjects_of_id(services: Services, request: Request) -> Any:
    """The subjects that have the schema of an id."""
    return [(await _of_id(services, request)).subject]


async def versions_of_id(services: Services, request: Request) -> Any:
    """Subjects and versions of an id."""
    found = await _of_id(services, request)
    return [{"subject": found.subject, "version": found.version}]


async def types(_: Services, __: Request) -> Any:
    """Kinds of schemas."""
    return ["AVRO"]


async def lookup(services: Services, request: Request) -> Any:
    """Which version of a subject a schema is."""
    versions = await _of_subject(services, request)
    found = await _same(services, request, versions)
    if found is None:
        raise no_schema()
    return _whole(found)


async def register(services: Services, request: Request) -> Any:
    """The id of a schema that the subject has already; 42205 for any other."""
    # A producer that registers what it is about to use gets the id of what is there.
    found = await _same(
        services, request, await services.streams.definitions.of_subject(request.path_params["subject"])
    )
    if found is None:
        raise RegistryError(42205, _READ_ONLY)
    return {"id": found.schema_id}


async def refuse(_: Services, __: Request) -> Any:
    """42205, whatever was asked."""
    raise RegistryError(42205, _READ_ONLY)


async def config(services: Services, request: Request) -> Any:
    """How compatible versions are with each other."""
    if "subject" in request.path_params:
        await _of_subject(services, request)
    return {"compatibilityLevel": LEVEL}


async def mode(services: Services, request: Request) -> Any:
    """READONLY."""
    if "subject" in request.path_params:
        await _of_subject(services, request)
    return {"mode": "READONLY"}


async def _of_subject(services: Services, request: Request) -> list[Definition]:
    subject = request.path_params["subject"]
    found = await services.streams.definitions.of_subject(subject)
    if not found:
        raise no_subject(subject)
    return found


async def _asked(services: Services, request: Request) -> Definition:
    text = request.path_params["version"]
    number = _MOST_VERSION if text in ("latest", "-1") else _whole_number(text)
    if not 1 <= number <= _MOST_VERSION:
        raise RegistryError(
            42202,
            f"The specified version '{text}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\"",
        )
    versions = await _of_subject(services, request)
    if text in ("latest", "-1"):
        return versions[-1]
    for one in versions:
        if one.version == number:
            return one
    raise no_version(number)


async def _of_id(services: Services, request: Request) -> Definition:
    text = request.path_params["id"]
    schema_id = _whole_number(text)
    if not 0 <= schema_id <= _MOST_VERSION:
        raise RegistryError(404, "HTTP 404 Not Found")
    found = await services.streams.definitions.of_id(schema_id)
    if found is None:
        raise no_schema(schema_id)
    return found


async def _same(services: Services, request: Request, versions: Sequence[Definition]) -> Definition | None:
    try:
        body = msgspec.json.decode(await read_body(request, services.config.max_body_bytes))
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
