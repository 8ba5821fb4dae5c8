"""The schemas by the protocol of Confluent's schema registry, read only: standard deserialisers are pointed here.

Paths are those of `io.confluent.kafka.schemaregistry.rest` (resources).
"""

from typing import Any

from runfold_server.http.messages import Message, NoFields
from runfold_server.http.operation import RawOperation
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.openapi_schemas.common import INT64, TEXT, Schema, having, listed

from . import handlers
from .handlers import (
    GetSchema,
    ListSchemas,
    ListSubjects,
    ListVersions,
    SchemaRequest,
    SubjectRequest,
    VersionOfSubject,
)
from .protocol import MEDIA_TYPE, Handler, answering

BASE = f"{NATIVE_PREFIX}/schema-registry"
_VERSION: Schema = having({"subject": TEXT, "version": INT64, "id": INT64, "schema": TEXT})
_ERROR: Schema = having({"error_code": INT64, "message": TEXT})
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
    request: type[Message] = NoFields,
    refused: tuple[int, ...] = (503,),
    *,
    body: Schema | None = None,
) -> RawOperation[Any]:
    return RawOperation(
        method,
        BASE + path,
        request,
        answering(handler),
        about,
        {200: (MEDIA_TYPE, answer)} | dict.fromkeys(refused, (MEDIA_TYPE, _ERROR)),
        body_type=MEDIA_TYPE if body is not None else "",
        body=body,
        errors=(),
    )


def _rejecting(method: str, path: str) -> RawOperation[Any]:
    request = VersionOfSubject if "{version}" in path else SubjectRequest if "{subject}" in path else NoFields
    about = "Rejected with 42205: the registry is read-only."
    answers = {422: (MEDIA_TYPE, _ERROR)}
    return RawOperation(method, BASE + path, request, answering(handlers.reject), about, answers, errors=())


_TEXTS = listed(TEXT)
_NUMBERS = listed(INT64)
_AVRO: Schema = {"type": "object", "description": "The schema."}
OPERATIONS = (
    _operation("GET", "/", handlers.root, "The root of the schema registry: empty.", having({}), refused=()),
    _operation(
        "GET", "/subjects", handlers.subjects, "Names of all subjects: the full names of events.", _TEXTS, ListSubjects
    ),
    _operation(
        "GET",
        "/schemas",
        handlers.schemas,
        "All versions of all subjects.",
        listed(_VERSION),
        ListSchemas,
    ),
    _operation(
        "GET",
        "/subjects/{subject}/versions",
        handlers.versions,
        "Numbers of a subject's versions.",
        _NUMBERS,
        ListVersions,
        (404, 503),
    ),
    _operation(
        "GET",
        "/subjects/{subject}/versions/{version}",
        handlers.version,
        "A version of a subject, by number or `latest`.",
        _VERSION,
        VersionOfSubject,
        (404, 422, 503),
    ),
    _operation(
        "GET",
        "/subjects/{subject}/versions/{version}/schema",
        handlers.version_text,
        "The schema alone of a version of a subject.",
        _AVRO,
        VersionOfSubject,
        (404, 422, 503),
    ),
    _operation(
        "POST",
        "/subjects/{subject}",
        handlers.lookup,
        "Which version of the subject a schema is.",
        _VERSION,
        SubjectRequest,
        (400, 404, 422, 503),
        body=_BODY,
    ),
    _operation(
        "POST",
        "/subjects/{subject}/versions",
        handlers.register,
        "The id of a schema that the subject has already; any other is refused with 42205.",
        having({"id": INT64}),
        SubjectRequest,
        (400, 422, 503),
        body=_BODY,
    ),
    _operation(
        "GET",
        "/schemas/ids/{id}",
        handlers.by_id,
        "The schema of an id, as it stands in the first bytes of a record's value.",
        having({"schema": TEXT, "subject": TEXT, "version": INT64}, {"maxId": INT64}),
        GetSchema,
        (404, 503),
    ),
    _operation(
        "GET",
        "/schemas/ids/{id}/schema",
        handlers.text_by_id,
        "The schema alone of an id.",
        _AVRO,
        SchemaRequest,
        (404, 503),
    ),
    _operation(
        "GET",
        "/schemas/ids/{id}/subjects",
        handlers.subjects_of_id,
        "Subjects of an id.",
        _TEXTS,
        SchemaRequest,
        (404, 503),
    ),
    _operation(
        "GET",
        "/schemas/ids/{id}/versions",
        handlers.versions_of_id,
        "Subjects and versions of an id.",
        listed(having({"subject": TEXT, "version": INT64})),
        SchemaRequest,
        (404, 503),
    ),
    _operation("GET", "/schemas/types", handlers.types, "Kinds of schemas: Avro.", _TEXTS, refused=()),
    *(
        _operation(
            "GET",
            path,
            handler,
            about,
            having({name: TEXT}),
            SubjectRequest if "{" in path else NoFields,
            (404, 503) if "{" in path else (),
        )
        for start, name, handler, about in (
            (
                "/config",
                "compatibilityLevel",
                handlers.config,
                "How compatible versions are with each other: FULL_TRANSITIVE.",
            ),
            ("/mode", "mode", handlers.mode, "The registry's mode: READONLY."),
        )
        for path in (start, start + "/{subject}")
    ),
    *(
        _rejecting(method, path)
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
