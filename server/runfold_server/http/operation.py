"""What a handler works with, and how a route is declared: routing, parsing and the OpenAPI document read the same tables."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runfold_schemas.positions.vector import Vector
from runfold_server.openapi_schemas.common import NOTHING, Schema
from runfold_server.writes.writes import Origin

from .request_fields import Args, Field
from .services import Services


@dataclass(frozen=True, slots=True)
class Call:
    """One request, parsed: its arguments, where it comes from, and the moment that it asks about; None: the present."""

    args: Args
    origin: Origin
    as_of: Vector | None = None


Handler = Callable[[Services, Call], Awaitable[dict[str, Any]]]
"""Answers a call with what is to be encoded as JSON, or raises ApiError."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: the fields it takes and who answers what. `about` says it in the document."""

    method: str
    path: str
    handler: Handler
    fields: tuple[Field, ...] = ()
    quick: Callable[[bytes], Args | None] | None = None
    """Reads a body of the form that clients send; for any other it answers None, and the fields decide."""
    about: str = ""
    answer: Schema = field(default_factory=lambda: NOTHING)
    errors: tuple[int, ...] = ()
    """Statuses beyond those that every call with fields may have."""
    past: bool = False
    """Whether it can be asked about the past. One that can't refuses to be."""
    from_past: bool = False
    """Whether it can be asked about moments of which there is a past: see pasts.py. Its handler need not know."""


RawHandler = Callable[[Services, Request], Awaitable[Response]]
"""Answers a request that is not JSON in MLflow's sense, or whose answer is not."""


@dataclass(frozen=True, slots=True)
class RawOperation:
    """One method of one whole path, served by a handler that reads the request and makes the response itself.

    `path` is Starlette's, with its placeholders; `fields` are what the query and the path hold. `takes` is the media type of the
    body, if there is one. `answers` has what each status brings: a media type and, for JSON, a schema. Errors are MLflow's.
    """

    method: str
    path: str
    handler: RawHandler
    about: str
    answers: Mapping[int, tuple[str, Schema]]
    fields: tuple[Field, ...] = ()
    takes: str = ""
    body: Schema | None = None
    """The body's shape, where it is JSON."""
    also: str = ""
    """Another media type of the 200, for those who accept it."""
    errors: tuple[int, ...] = (400, 404, 413, 503)
    past: bool = False
    """Whether it can be asked about the past: its handler resolves what `as_of.given` says. One that can't refuses to be."""
    from_past: bool = False
    """As that of `Operation`."""
    guarded: bool = True
    """Errors become MLflow's JSON and the request is counted; health answers do without."""
