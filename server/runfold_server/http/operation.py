"""What a handler works with, and how a route is declared: routing, parsing and the OpenAPI document read the same tables."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runfold_log.writer import LogWriter
from runfold_schemas.ids import Ids
from runfold_schemas.positions.vector import Vector
from runfold_server.artifacts.checks import Checks
from runfold_server.caches.history_cache import Histories
from runfold_server.caches.run_cache import ExperimentHeads, RunHeads
from runfold_server.caches.run_search_cache import RunSearches
from runfold_server.core.config import ServerConfig
from runfold_server.core.metrics import Observed
from runfold_server.freshness.log_ends import Ends
from runfold_server.openapi_schemas.common import NOTHING, Schema
from runfold_server.reads.database import Database
from runfold_server.reads.exports import Exports
from runfold_server.reads.moments import Moments
from runfold_server.reads.reader import Reader
from runfold_server.reads.snapshots import Past, Pasts
from runfold_server.streams.events.feeds import Events
from runfold_server.streams.events.schema_definitions import Definitions
from runfold_server.streams.series.hub import Hub
from runfold_server.writes.writes import Origin, Writes
from runfold_storage.objects import Store

from .request_fields import Args, Field


@dataclass(frozen=True)
class Api:
    """The server's parts, for one process."""

    config: ServerConfig
    log: LogWriter
    database: Database
    ends: Ends
    moments: Moments
    reader: Reader
    writes: Writes
    runs: RunHeads
    experiments: ExperimentHeads
    histories: Histories
    searches: RunSearches
    observed: Observed
    ids: Ids
    store: Store
    checks: Checks
    exports: Exports
    patterns: Reader
    """For what may take Postgres long, so that nothing else waits for it."""
    live: Hub
    definitions: Definitions
    events: Events
    pasts: Pasts

    def then(self, past: Past) -> "Api":
        """The parts as they stand in a past."""
        return replace(self, database=past.database, reader=past.reader, patterns=past.reader, searches=past.searches)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, parsed: its arguments, where it comes from, and the moment that it asks about; None: the present."""

    args: Args
    origin: Origin
    as_of: Vector | None = None


Handler = Callable[[Api, Call], Awaitable[dict[str, Any]]]
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


RawHandler = Callable[[Api, Request], Awaitable[Response]]
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
