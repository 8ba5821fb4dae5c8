"""A file as a response: MLflow's headers, ranges, and its bytes as a stream from the store."""

import mimetypes
import re
import unicodedata
from collections.abc import AsyncIterator
from contextlib import aclosing
from email.utils import formatdate
from os.path import splitext
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from runfold_projections.artifacts.queries import Artifact
from runfold_server.core.errors import Internal
from runfold_server.integrity.verified_reads import Checks
from runfold_storage.errors import ObjectMissing
from runfold_storage.objects import Store

_TEXTS = frozenset(
    [
        "txt",
        "log",
        "err",
        "cfg",
        "conf",
        "cnf",
        "cf",
        "ini",
        "properties",
        "prop",
        "hocon",
        "toml",
        "yaml",
        "yml",
        "xml",
        "json",
        "js",
        "py",
        "py3",
        "csv",
        "tsv",
        "md",
        "rst",
        "ipynb",
        "MLmodel",
        "MLproject",
        "mlproject",
    ]
)
"""Extensions and whole names that MLflow shows as text (`mlflow.utils.mime_type_utils` 3.17.2)."""
FILE_STATUSES = (200, 206, 304, 416)
"""Statuses of `file_response`, with the file's bytes or an empty body."""
CHECKED_BEFORE_RANGE = 8 * 1024 * 1024
"""Files up to this many bytes are compared with their digest before a range of them is sent."""
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def file_response(store: Store, checks: Checks, request: Request, artifact: Artifact) -> Response:
    """Return the response with a file or the requested range.

    The first bytes are read here: a store that is down is a 503.

    A whole file is compared with its digest while it is sent, a small one before a range of it is. A range of a large
    file is sent unless the file is known to be damaged.
    """
    name = artifact.path.rpartition("/")[2]
    headers = {
        "content-disposition": disposition(name),
        "x-content-type-options": "nosniff",
        "accept-ranges": "bytes",
        "cache-control": "no-cache",
        "etag": f'"{artifact.sha256}"',
        "last-modified": formatdate(artifact.stored_ms / 1000, usegmt=True),
    }
    if artifact.sha256 in request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    start, end, status = wanted_range(request, artifact)
    if status == 416:
        return Response(None, 416, headers | {"content-range": f"bytes */{artifact.size}"})
    if status == 206:
        headers["content-range"] = f"bytes {start}-{end - 1}/{artifact.size}"
    headers |= {"content-length": str(end - start), "content-type": media_type(name)}
    if request.method == "HEAD" or start == end:
        return Response(None, status, headers)
    if (start, end) == (0, artifact.size):
        stream = checks.read_whole(artifact)
    else:
        await _check_before_range(checks, artifact)
        stream = store.get(artifact.object_key, start, end)
    try:
        first = await anext(stream)
    except ObjectMissing:
        raise Internal(f"The bytes of '{artifact.path}' are not in the artifact store any more.") from None
    return StreamingResponse(_all(first, stream), status, headers)


async def _check_before_range(checks: Checks, artifact: Artifact) -> None:
    if artifact.size <= CHECKED_BEFORE_RANGE:
        async for _ in checks.read_whole(artifact):
            pass
    else:
        await checks.reject_damaged(artifact)


async def _all(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with aclosing(rest):  # type: ignore[type-var]
        yield first
        async for chunk in rest:
            yield chunk


def wanted_range(request: Request, artifact: Artifact) -> tuple[int, int, int]:
    """Return start, end (exclusive) and status of the response.

    Several ranges, or a malformed one, get the whole file.
    """
    whole = (0, artifact.size, 200)
    held = request.headers.get("if-range")
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or match[0] == "bytes=-" or (held is not None and held != f'"{artifact.sha256}"'):
        return whole
    first, last = match[1], match[2]
    if not first:
        start, end = max(0, artifact.size - int(last)), artifact.size
    else:
        start, end = int(first), min(artifact.size, int(last) + 1 if last else artifact.size)
        if last and int(last) < start:
            return whole
    return (start, end, 206) if start < end else (0, 0, 416)


def media_type(name: str) -> str:
    """Return the media type of a file's name."""
    extension = splitext(name)[1].removeprefix(".") or name
    if extension in _TEXTS:
        return "text/plain"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def disposition(name: str) -> str:
    """Return Content-Disposition (RFC 6266): always an attachment, so that no uploaded page runs as this server's."""
    plain = name if name.isascii() else unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    plain = plain or "download"
    escaped = plain.replace("\\", r"\\").replace('"', r"\"")
    quoted = plain if _TOKEN.fullmatch(plain) else f'"{escaped}"'
    extended = "" if name.isascii() else f"; filename*=UTF-8''{quote(name, safe='!#$&+-.^_`|~')}"
    return f"attachment; filename={quoted}{extended}"
