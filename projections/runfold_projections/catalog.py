"""All entities. This tuple is the only list of them: every other one is derived from it.

An entity's tables belong to the generations of its projection, in the order of this tuple.
"""

from collections.abc import Iterable, Iterator

from .artifacts.entity import ARTIFACTS
from .core.canonical import Listing, Packed
from .core.entity import Entity, HistorySubject, Table
from .core.projection import Projection
from .core.rejection import RejectionCode
from .experiments.entity import EXPERIMENTS
from .logged_models.entity import LOGGED_MODELS
from .metrics.entity import METRICS
from .postgres.connection import sql
from .registry.entity import REGISTERED_MODELS
from .runs.entity import RUNS
from .webhooks.entity import WEBHOOKS

ENTITIES: tuple[Entity, ...] = (
    EXPERIMENTS,
    REGISTERED_MODELS,
    LOGGED_MODELS,
    WEBHOOKS,
    RUNS,
    ARTIFACTS,
    METRICS,
)

COMMON_TABLES: tuple[Table, ...] = (
    Table(
        "checkpoint",
        Listing(
            """
            SELECT topic, partition, log_id, genesis_id::text, next_offset
            FROM checkpoint ORDER BY topic, partition
            """
        ),
    ),
    Table(
        "sequence",
        Listing('SELECT partition, entity, writer, bounds FROM sequence ORDER BY entity, writer COLLATE "C"'),
    ),
    Table(
        "rejection",
        Listing(
            """
            SELECT topic, partition, log_offset, event_id::text, entity, code, message, details::text
            FROM rejection ORDER BY topic, partition, log_offset
            """
        ),
    ),
    Table(
        "set_aside",
        Listing(
            """
            SELECT topic, partition, log_offset, reason, message, record_key, value_size
            FROM set_aside ORDER BY topic, partition, log_offset
            """,
            explanations=frozenset({"message"}),
        ),
    ),
    Table("journal"),
    Table("journal_state"),
    Table("journal_cause"),
)
"""Tables that every generation has, whatever its projection."""


def entities_of(projection: Projection) -> tuple[Entity, ...]:
    """Return the entities whose tables make up a projection."""
    return tuple(entity for entity in ENTITIES if entity.projection is projection)


def layout_of(projection: Projection) -> int:
    """Return the layout number of a projection: the sum of its entities', so that raising any of them raises it."""
    return sum(entity.layout for entity in entities_of(projection))


def layouts() -> dict[Projection, int]:
    """Return the layout number of each projection."""
    return {projection: layout_of(projection) for projection in Projection}


def shown_tables(projection: Projection) -> list[str]:
    """Return the names of a projection's own tables, and of the views that show them in another form."""
    entities = entities_of(projection)
    tables = [table.name for entity in entities for table in entity.tables]
    return tables + [view for entity in entities for view in entity.views]


def canonical_tables(projection: Projection) -> Iterator[tuple[str, Listing | Packed]]:
    """Yield the tables that hold a projection's state, in a fixed order, each with its canonical rows.

    A table that a view shows in another form has the view's name.
    """
    own = (table for entity in entities_of(projection) for table in entity.tables)
    for table in (*COMMON_TABLES, *own):
        if isinstance(table.canonical, Listing):
            yield table.canonical.table, table.canonical
        elif table.canonical is not None:
            yield table.name, table.canonical


def table_statements(projection: Projection) -> list[str]:
    """Return the SQL scripts that create the tables of a generation."""
    return [sql("tables/common.sql"), *(entity.statements for entity in entities_of(projection))]


def change_table(projection: Projection) -> str | None:
    """Return the table that lists which entities each batch touched; None if the projection has none."""
    return _only(entity.change_table for entity in entities_of(projection) if entity.change_table)


def creations(projection: Projection) -> tuple[type, ...]:
    """Return the types of the events that create entities of a projection."""
    return tuple(event for entity in entities_of(projection) for event in entity.creations)


def history_subjects() -> tuple[HistorySubject, ...]:
    """Return the entities whose history callers can ask for."""
    return tuple(entity.subject for entity in ENTITIES if entity.subject is not None)


def rejection_meanings() -> dict[RejectionCode, str]:
    """Return what each rejection code means."""
    return {code: meaning for entity in ENTITIES for code, meaning in entity.rejections.items()}


def _only(found: Iterable[str]) -> str | None:
    names = list(found)
    assert len(names) <= 1, names
    return names[0] if names else None
