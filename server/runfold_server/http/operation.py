"""How a route is declared. Routing, parsing and the OpenAPI document read the same declarations."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from runfold_schemas.positions.vector import Vector
from runfold_server.openapi_schemas.common import NOTHING, Schema
from runfold_server.writes.writes import WriteOrigin

from .fields import Field
from .messages import Message, fields_of
from .services import Services

R = TypeVar("R", bound=Message)


class TimeTravel(Enum):
    """Whether an operation answers about a past moment that the request names."""

    NONE = "none"
    """It rejects such a request."""
    AS_OF = "as of"
    """It reads the live tables up to the moment. Its handler does that by the call's vector."""
    SNAPSHOT = "snapshot"
    """It needs a snapshot of the moment. Its handler gets services that read the snapshot's tables."""


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """One parsed request, the origin of its writes, and the moment it asks about; None is the present."""

    request: R
    origin: WriteOrigin
    as_of: Vector | None = None


Handler = Callable[[Services, Call[R]], Awaitable[dict[str, Any]]]
"""Returns the answer, to be encoded as JSON, or raises ApiError."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[R]):
    """One method of one path below a prefix of MLflow's. `about` describes it in the OpenAPI document."""

    method: str
    path: str
    request: type[R]
    handler: Handler[R]
    about: str = ""
    answer: Schema = field(default_factory=lambda: NOTHING)
    errors: tuple[int, ...] = ()
    """Statuses beyond those that every call with fields may have."""
    time_travel: TimeTravel = TimeTravel.NONE

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of the request."""
        return fields_of(self.request)


@dataclass(frozen=True, slots=True)
class RawCall(Generic[R]):
    """One HTTP request, and the parameters that its path and query hold."""

    http: Request
    request: R

    @property
    def origin(self) -> WriteOrigin:
        """The origin of the request's writes, from its headers."""
        return WriteOrigin.from_headers(self.http.headers.get)


RawHandler = Callable[[Services, RawCall[R]], Awaitable[Response]]
"""Answers a request whose body, or whose answer, is not a JSON call of MLflow's."""


@dataclass(frozen=True, slots=True)
class RawOperation(Generic[R]):
    """One method of one whole path, served by a handler that reads the body and makes the response itself.

    `path` is Starlette's, with its placeholders; `request` declares what the path and the query hold. `body_type` is
    the media type of the body, if there is one. `answers` has the media type and, for JSON, the schema of each status.
    Errors have MLflow's shape.
    """

    method: str
    path: str
    request: type[R]
    handler: RawHandler[R]
    about: str
    answers: Mapping[int, tuple[str, Schema]]
    body_type: str = ""
    body: type[Message] | Schema | None = None
    """A JSON body: its message, or its schema where the handler reads it in another way."""
    also: str = ""
    """Another media type of the 200, for clients that accept it."""
    errors: tuple[int, ...] = (400, 404, 413, 503)
    time_travel: TimeTravel = TimeTravel.NONE
    """With AS_OF, the handler resolves the moment itself."""
    guarded: bool = True
    """Errors become MLflow's JSON and the request is counted; health answers do without."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """The parameters of the path and the query."""
        return fields_of(self.request)
