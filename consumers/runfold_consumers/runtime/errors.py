"""Errors of the workers, and those of the services that a worker waits out.

ConsumerError
├── LogMismatch   the log is not the one that was folded before: the partition stops until an operator acts
└── Unreadable    a declared schema is newer than this release: a newer worker must continue
"""

import asyncpg

from runfold_log.errors import LogUnavailable
from runfold_schemas.positions.position import Position

SERVICE_ERRORS = (
    OSError,
    LogUnavailable,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    TimeoutError,
)
"""Failures of Kafka, Postgres or the network. They are retried and never count as poison.

asyncpg raises InternalClientError when a connection breaks in the middle of an answer.
"""


class ConsumerError(Exception):
    """Root of the workers' errors."""


class LogMismatch(ConsumerError):
    """The topic was truncated, or deleted and recreated. The message names the evidence and the remedy."""


class Unreadable(ConsumerError):
    """`system` declares the schema of the record at `position`, but this release does not include it."""

    def __init__(self, position: Position, schema_id: int) -> None:
        super().__init__(
            f"{position}: schema id {schema_id} is declared, but this release does not know it; a newer worker can "
            "read it"
        )
        self.position = position
        self.schema_id = schema_id
