"""Transfers between a client and the S3 store itself, by addresses that this server signs.

An upload's id holds the key of its object, so that any server can complete it, and a nonce, whose hash the object
carries, so that no client can name another's object. The fact is appended once the object is complete and has been read
for its digest.
"""

import asyncio
import hashlib
import re
import secrets
from pathlib import PureWindowsPath
from typing import Annotated, TypeVar

from starlette.responses import Response

from runfold_schemas.events.artifacts import ArtifactStored
from runfold_server.core.errors import InvalidParameter, NotFound
from runfold_server.http.large_json import BODY_BYTES, beside
from runfold_server.http.messages import Message, Rule, parse_message
from runfold_server.http.operation import RawCall, RawHandler, RawOperation, TimeTravel
from runfold_server.http.request_body import read_body, read_json
from runfold_server.http.responses import json_answer, json_response, with_moment
from runfold_server.http.services import Services
from runfold_server.openapi_schemas.common import INT64, JSON, NOTHING, TEXT, Schema, having, listed
from runfold_server.writes.feature_levels import require_level
from runfold_storage.errors import ObjectMissing, UploadRejected
from runfold_storage.objects import MARK, MOST_PARTS, abort

from . import files
from .paths import ArtifactPath, parse_file_path
from .proxy import PREFIXES, StorePath
from .serving import disposition, media_type

UPLOAD_SECONDS = 3600
"""How long parts may be sent; boto's default, which MLflow uses."""
DOWNLOAD_SECONDS = 900
"""How long the address of a download is valid."""
_SIGNED_AT_ONCE = 10
"""Addresses signed before other requests get a turn; each takes more than half a millisecond."""
_UPLOAD = re.compile(r"([0-9a-f-]{36})\.([0-9a-f]{32})\.(.{1,1024})")
M = TypeVar("M", bound=Message)


class UploadBody(Message, frozen=True):
    """A body about an upload. `path` is that of the client's own file."""

    path: Annotated[str, Rule(storable=False, about="Path of the client's own file; its last part names the file.")]


class CreateUpload(UploadBody, frozen=True):
    """The body of mpu/create."""

    num_parts: Annotated[int, Rule(least=1, most=MOST_PARTS, about="Number of parts.")] = 1


class AbortUpload(UploadBody, frozen=True):
    """The body of mpu/abort."""

    upload_id: Annotated[str, Rule(about="`upload_id` of the answer to mpu/create.")]


class Part(Message, frozen=True):
    """A part that the client has sent to the store."""

    part_number: Annotated[int, Rule(about="Number of the part, from 1.")]
    etag: Annotated[str, Rule(about="ETag that the store returned for it.")]
    url: Annotated[str, Rule(about="Address that it was sent to.")] = ""


class CompleteUpload(AbortUpload, frozen=True):
    """The body of mpu/complete."""

    parts: Annotated[
        tuple[Part, ...],
        Rule(about="The parts that were sent.", missing="Missing value for required parameter 'parts'."),
    ]


async def _create(services: Services, call: RawCall[StorePath]) -> Response:
    body = await _body(services, call, CreateUpload)
    target = _target(call, body)
    services.artifacts.store.bucket.require()
    await require_level(services.log, ArtifactStored)
    bucket, key = services.artifacts.store.bucket, services.artifacts.store.new_key()
    nonce = secrets.token_hex(16)
    begun = await bucket.request("create_multipart_upload", Key=key, Metadata={MARK: _mark(nonce, target)})
    upload_id = begun["UploadId"]
    credentials = []
    async with services.artifacts.store.signing:
        for number in range(1, body.num_parts + 1):
            url = await bucket.presigned("upload_part", UPLOAD_SECONDS, Key=key, UploadId=upload_id, PartNumber=number)
            credentials.append({"url": url, "part_number": number})
            if number % _SIGNED_AT_ONCE == 0:
                await asyncio.sleep(0.001)  # let other requests run
    return await json_answer({"upload_id": f"{key.rpartition('/')[2]}.{nonce}.{upload_id}", "credentials": credentials})


async def _complete(services: Services, call: RawCall[StorePath]) -> Response:
    body = await _body(services, call, CompleteUpload)
    target = _target(call, body)
    key, nonce, upload_id = _upload(services, body)
    if not body.parts:
        raise InvalidParameter("Missing value for required parameter 'parts'.")
    await require_level(services.log, ArtifactStored)
    parts = sorted(body.parts, key=lambda part: part.part_number)
    try:
        await services.artifacts.store.bucket.request(
            "complete_multipart_upload",
            Key=key,
            UploadId=upload_id,
            MultipartUpload={"Parts": [{"PartNumber": p.part_number, "ETag": p.etag} for p in parts]},
        )
    except UploadRejected as error:
        raise InvalidParameter(f"The parts do not make a file: {error}") from None
    except ObjectMissing:
        pass  # an earlier request may have completed it, whose answer was lost
    try:
        stored = await services.artifacts.store.described(key, _mark(nonce, target))
    except ObjectMissing:
        raise NotFound(f"No such upload: '{body.upload_id}'") from None
    await files.record(services, target, stored, call.origin)
    return json_response({})


async def _abort(services: Services, call: RawCall[StorePath]) -> Response:
    body = await _body(services, call, AbortUpload)
    _target(call, body)
    key, _, upload_id = _upload(services, body)
    services.artifacts.store.bucket.require()
    await abort(services.artifacts.store.bucket, key, upload_id)
    return json_response({})


async def _presigned(services: Services, call: RawCall[StorePath]) -> Response:
    target, as_of = parse_file_path(call.request.path), await services.reads.moments.of_request(call.http)
    found = await files.find(services, target, as_of)
    await services.artifacts.checks.reject_damaged(found)
    name = found.path.rpartition("/")[2]
    url = await services.artifacts.store.bucket.presigned(
        "get_object",
        DOWNLOAD_SECONDS,
        Key=found.object_key,
        # Signed too, because the store would show a page that this server sends as a download.
        ResponseContentDisposition=disposition(name),
        ResponseContentType=media_type(name),
    )
    return with_moment(json_response({"url": url, "headers": {}, "file_size": found.size}), as_of)


async def _body(services: Services, call: RawCall[StorePath], message: type[M]) -> M:
    body = await read_body(call.http, services.config.max_body_bytes)
    content_type = call.http.headers.get("content-type")
    if len(body) > BODY_BYTES:
        return await beside(_parse, message, body, content_type)
    return _parse(message, body, content_type)


def _parse(message: type[M], body: bytes, content_type: str | None) -> M:
    return parse_message(message, read_json(body, content_type))


def _target(call: RawCall[StorePath], body: UploadBody) -> ArtifactPath:
    """Return the path of the file: the address names its folder, the path of the client's own file its name."""
    name = _file_name(body.path)
    return parse_file_path("/".join(part for part in (call.request.path.rstrip("/"), name) if part))


def _mark(nonce: str, target: ArtifactPath) -> str:
    """Return the mark of an upload's object, with which only its client can complete it, and only as this file."""
    return hashlib.sha256("\0".join((nonce, target.owner, target.path)).encode()).hexdigest()


def _file_name(path: str) -> str:
    """Return the last part of a client's own path. A path with backslashes between its parts has no slash."""
    windows = "/" not in path and PureWindowsPath(path).is_absolute()
    return path.rpartition("\\" if windows else "/")[2]


def _upload(services: Services, body: AbortUpload) -> tuple[str, str, str]:
    match = _UPLOAD.fullmatch(body.upload_id)
    if match is None:
        raise InvalidParameter("Invalid value for parameter 'upload_id' supplied: this server created no such upload.")
    return services.artifacts.store.key_of(match[1]), match[2], match[3]


_CREDENTIAL = having({"url": TEXT, "part_number": INT64}, {"headers": having({})})
_CREATED = having({"upload_id": TEXT, "credentials": listed(_CREDENTIAL)})
_SIGNED = having({"url": TEXT, "headers": having({}), "file_size": INT64})


def _operations(prefix: str) -> list[RawOperation[StorePath]]:
    def post(
        name: str, handler: RawHandler[StorePath], about: str, body: type[UploadBody], answer: Schema, *errors: int
    ) -> RawOperation[StorePath]:
        path = f"{prefix}/mpu/{name}/{{path:path}}"
        failures = (400, *errors, 413, 501, 503)
        return RawOperation("POST", path, StorePath, handler, about, {200: (JSON, answer)}, JSON, body, errors=failures)

    return [
        post("create", _create, "Begin an upload whose parts go directly to the S3 store.", CreateUpload, _CREATED),
        post(
            "complete",
            _complete,
            "Make a file of the parts. It is read once, for its digest.",
            CompleteUpload,
            NOTHING,
            404,
        ),
        post("abort", _abort, "Delete the parts.", AbortUpload, NOTHING),
        RawOperation(
            "GET",
            f"{prefix}/presigned/{{path:path}}",
            StorePath,
            _presigned,
            "An address of the file in the S3 store, valid for 15 minutes.",
            {200: (JSON, _SIGNED)},
            errors=(400, 404, 501, 503),
            time_travel=TimeTravel.AS_OF,
        ),
    ]


OPERATIONS = tuple(operation for prefix in PREFIXES for operation in _operations(prefix))
