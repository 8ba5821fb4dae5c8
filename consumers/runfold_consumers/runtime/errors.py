"""Errors of the workers.

ConsumerError
├── LogRefused    the log is not the one that was folded before: the partition stands still until somebody decides
└── Unreadable    a declared schema is newer than this release: another worker must go on
"""

from runfold_schemas.positions.position import Position


class ConsumerError(Exception):
    """Root of the workers' errors."""


class LogRefused(ConsumerError):
    """The topic was deleted and made again, or cut; the message says what was found and what to do."""


class Unreadable(ConsumerError):
    """`system` declares the schema of the record at `position`, but this release does not know it."""

    def __init__(self, position: Position, schema_id: int) -> None:
        super().__init__(
            f"{position}: schema id {schema_id} is declared, but this release does not know it; a newer worker can read it"
        )
        self.position = position
        self.schema_id = schema_id
