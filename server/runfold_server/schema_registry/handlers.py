"""What the schema registry is asked, answered out of the definitions that this release and the log hold."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from starlette.requests import Request

from runfold_server.http.large_json import refuse_many
from runfold_server.http.messages import AnyText, Message, NoFields, Rule
from runfold_server.http.operation import RawCall
from runfold_server.http.request_body import read_body
from runfold_server.http.services import Services
from runfold_server.streams.events.schema_definitions import Definition, same

from .protocol import RegistryError, Text, no_schema, no_subject, no_version

LEVEL = "FULL_TRANSITIVE"
"""What `runfold_schemas.codec.compat` holds every new version to."""
_MOST_VERSION = 2**31 - 1
_READ_ONLY = (
    "This registry is read-only: schemas come with the releases of Runfold, and `runfold upgrade` declares them."
)


Offset = Annotated[int, Rule(bits=32, fallback=0)]
Limit = Annotated[int, Rule(bits=32, fallback=-1)]
"""The protocol has no error for a page: a wrong number counts as absent, and a limit below 0 as none."""


class PageOfList(Message, frozen=True):
    """A page of a list."""

    offset: Offset | None = None
    limit: Limit | None = None


class ListSubjects(PageOfList, frozen=True):
    """Subjects whose names begin with a prefix."""

    prefix: Annotated[str, Rule(name="subjectPrefix", storable=False)] = ""


class ListSchemas(ListSubjects, frozen=True):
    """Versions of those subjects."""

    latest_only: Annotated[str, Rule(name="latestOnly", storable=False)] = ""


class SubjectRequest(Message, frozen=True):
    """A request about one subject."""

    subject: AnyText


class ListVersions(SubjectRequest, frozen=True):
    """Versions of one subject, a page of them."""

    offset: Offset | None = None
    limit: Limit | None = None


class VersionOfSubject(SubjectRequest, frozen=True):
    """A request about one version of a subject."""

    version: AnyText


class SchemaRequest(Message, frozen=True):
    """A request about the schema of one id. The protocol answers 404 for an id that is no number."""

    id: Annotated[int, Rule(bits=32, least=0, fallback=-1)]


class GetSchema(SchemaRequest, frozen=True):
    """schemas/ids/{id}."""

    fetch_max_id: Annotated[str, Rule(name="fetchMaxId", storable=False)] = ""


async def root(_: Services, __: RawCall[NoFields]) -> Any:
    """The root: empty."""
    return {}


async def subjects(services: Services, call: RawCall[ListSubjects]) -> Any:
    """Names of subjects, those with a prefix if one is given."""
    start = call.request.prefix
    found = dict.fromkeys(one.subject for one in await services.streams.definitions.all())
    return _paged(call.request, [subject for subject in found if subject.startswith(start)])


async def schemas(services: Services, call: RawCall[ListSchemas]) -> Any:
    """All versions, or the latest ones, of subjects."""
    start = call.request.prefix
    found = [one for one in await services.streams.definitions.all() if one.subject.startswith(start)]
    if _is_true(call.request.latest_only):
        found = list({one.subject: one for one in found}.values())
    return [_whole(one) for one in _paged(call.request, found)]


async def versions(services: Services, call: RawCall[ListVersions]) -> Any:
    """Numbers of a subject's versions."""
    return _paged(call.request, [one.version for one in await _of_subject(services, call.request.subject)])


async def version(services: Services, call: RawCall[VersionOfSubject]) -> Any:
    """A version of a subject."""
    return _whole(await _find_version(services, call.request))


async def version_text(services: Services, call: RawCall[VersionOfSubject]) -> Any:
    """The schema alone of a version."""
    return Text((await _find_version(services, call.request)).text)


async def by_id(services: Services, call: RawCall[GetSchema]) -> Any:
    """The schema of an id."""
    found = await _of_id(services, call.request.id)
    answer: dict[str, Any] = {"schema": found.text, "subject": found.subject, "version": found.version}
    if _is_true(call.request.fetch_max_id):
        answer["maxId"] = max(one.schema_id for one in await services.streams.definitions.all())
    return answer


async def text_by_id(services: Services, call: RawCall[SchemaRequest]) -> Any:
    """The schema alone of an id."""
    return Text((await _of_id(services, call.request.id)).text)


async def subjects_of_id(services: Services, call: RawCall[SchemaRequest]) -> Any:
    """The subjects that have the schema of an id."""
    return [(await _of_id(services, call.request.id)).subject]


async def versions_of_id(services: Services, call: RawCall[SchemaRequest]) -> Any:
    """Subjects and versions of an id."""
    found = await _of_id(services, call.request.id)
    return [{"subject": found.subject, "version": found.version}]


async def types(_: Services, __: RawCall[NoFields]) -> Any:
    """Kinds of schemas."""
    return ["AVRO"]


async def lookup(services: Services, call: RawCall[SubjectRequest]) -> Any:
    """Which version of a subject a schema is."""
    versions = await _of_subject(services, call.request.subject)
    found = await _same(services, call.http, versions)
    if found is None:
        raise no_schema()
    return _whole(found)


async def register(services: Services, call: RawCall[SubjectRequest]) -> Any:
    """The id of a schema that the subject has already; 42205 for any other."""
    # A producer that registers what it is about to use gets the id of what is there.
    found = await _same(services, call.http, await services.streams.definitions.of_subject(call.request.subject))
    if found is None:
        raise RegistryError(42205, _READ_ONLY)
    return {"id": found.schema_id}


async def reject(_: Services, __: RawCall[Any]) -> Any:
    """42205, whatever was asked."""
    raise RegistryError(42205, _READ_ONLY)


async def config(services: Services, call: RawCall[Any]) -> Any:
    """How compatible versions are with each other."""
    await _check_subject(services, call)
    return {"compatibilityLevel": LEVEL}


async def mode(services: Services, call: RawCall[Any]) -> Any:
    """READONLY."""
    await _check_subject(services, call)
    return {"mode": "READONLY"}


async def _check_subject(services: Services, call: RawCall[Any]) -> None:
    if isinstance(call.request, SubjectRequest):
        await _of_subject(services, call.request.subject)


async def _of_subject(services: Services, subject: str) -> list[Definition]:
    found = await services.streams.definitions.of_subject(subject)
    if not found:
        raise no_subject(subject)
    return found


async def _find_version(services: Services, request: VersionOfSubject) -> Definition:
    text = request.version
    number = _MOST_VERSION if text in ("latest", "-1") else _whole_number(text)
    if not 1 <= number <= _MOST_VERSION:
        raise RegistryError(
            42202,
            f"The specified version '{text}' is not a valid version id. Allowed values are between [1, 2^31-1] and "
            'the string "latest"',
        )
    versions = await _of_subject(services, request.subject)
    if text in ("latest", "-1"):
        return versions[-1]
    for one in versions:
        if one.version == number:
            return one
    raise no_version(number)


async def _of_id(services: Services, schema_id: int) -> Definition:
    if schema_id < 0:
        raise RegistryError(404, "HTTP 404 Not Found")
    found = await services.streams.definitions.of_id(schema_id)
    if found is None:
        raise no_schema(schema_id)
    return found


async def _same(services: Services, http: Request, versions: Sequence[Definition]) -> Definition | None:
    sent = await read_body(http, services.config.max_body_bytes)
    refuse_many(sent)
    try:
        body = msgspec.json.decode(sent)
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


def _is_true(text: str) -> bool:
    return text.lower() == "true"


def _paged(page: PageOfList | ListVersions, found: list[Any]) -> list[Any]:
    rest = found[max(0, page.offset or 0) :]
    return rest if page.limit is None or page.limit < 0 else rest[: page.limit]
