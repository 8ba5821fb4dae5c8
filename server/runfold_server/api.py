"""What a handler works with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from runfold.log import LogWriter
from runfold_schemas.ids import Ids

from .config import ServerConfig
from .database import Database
from .ends import Ends
from .heads import ExperimentHeads, RunHeads
from .histories import Histories
from .observe import Observed
from .reads import Reader
from .requests import Args, Field
from .searches import RunSearches
from .writes import Origin, Writes


@dataclass(frozen=True)
class Api:
    """The server's parts, for one process."""

    config: ServerConfig
    log: LogWriter
    database: Database
    ends: Ends
    reader: Reader
    writes: Writes
    runs: RunHeads
    experiments: ExperimentHeads
    histories: Histories
    searches: RunSearches
    observed: Observed
    ids: Ids


@dataclass(frozen=True, slots=True)
class Call:
    """One request, parsed: its arguments and where it comes from."""

    args: Args
    origin: Origin


Handler = Callable[[Api, Call], Awaitable[dict[str, Any]]]
"""Answers a call with what is to be encoded as JSON, or raises ApiError."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: the fields it takes and who answers."""

    method: str
    path: str
    handler: Handler
    fields: tuple[Field, ...] = ()
    quick: Callable[[bytes], Args | None] | None = None
    """Reads a body of the form that clients send; for any other it answers None, and the fields decide."""
