"""The feature level that an event needs.

Workers of an older release would pause before an event that they can't read.
"""

from functools import cache

from runfold_log.writer import LogWriter
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.events.all_events import Event
from runfold_server.core.errors import NotImplementedYet
from runfold_server.core.outages import kafka_outages


async def require_level(log: LogWriter, event: type[Event]) -> None:
    """Raise NotImplementedYet if the log's feature level excludes events of this type, Unavailable if Kafka is down."""
    with kafka_outages():
        level = (await log.connect()).level
    needed = _level_of(event.subject)
    if level < needed:
        raise NotImplementedYet(too_new(event.subject, needed, level))


def too_new(subject: str, needed: int, level: int) -> str:
    """Return the message for an event type that the log's feature level excludes."""
    return (
        f"{subject} needs feature level {needed}, the log is at {level}: "
        "run `runfold upgrade`, then restart the servers."
    )


@cache
def _level_of(subject: str) -> int:
    return min(schema.level for schema in released_catalog().subjects[subject])
