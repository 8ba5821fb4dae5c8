"""The OpenAPI document, served as it is kept in the package's tables."""

from functools import lru_cache

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .api import Api, RawOperation
from .shapes import JSON


@lru_cache(maxsize=1)
def _document() -> bytes:
    # The document is made from the routes, of which this one is one.
    from .openapi import document

    return msgspec.json.encode(document())


async def _describe(_: Api, __: Request) -> Response:
    return Response(_document(), media_type=JSON)


OPERATION = RawOperation(
    "GET",
    "/openapi.json",
    _describe,
    "This document.",
    {200: (JSON, {"type": "object"})},
    errors=(),
    guarded=False,
)
