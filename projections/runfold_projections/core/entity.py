"""What an entity's slice declares: everything that the rest of the program derives from it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from runfold_projections.postgres.connection import Connection
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from .canonical import Listing, Packed
from .entity_history import EntityHistory
from .projection import Projection
from .projector import Projector
from .rejection import RejectionCode

Histories = Sequence[EntityHistory[Any]]
"""The histories that together make up an entity's; the first one has its fields."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a generation.

    `canonical` describes its rows where they are state, the same whenever the same log was folded. It is None where
    rows show how the log was cut into batches, or repeat what another table shows.
    """

    name: str
    canonical: Listing | Packed | None = None


@dataclass(frozen=True, slots=True)
class Namesake:
    """Another entity that had the name: the offsets of the events that created it, and by which it lost the name."""

    creation_offset: int
    lost_at: int


async def _no_hint(_connection: Connection, _name: str, _vector: Vector) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class HistorySubject:
    """How callers ask for an entity's history: as `<collection>/{<parameter>}`. `about` describes the parameter.

    `topics` hold its events; the first one decides since when it exists. `find` returns None for an entity without
    events. `missing` is the message then, with the name in place of `{}`; `missing_hint` may add to it where a caller
    asked as of a moment. `holder` and `namesakes` are for entities whose names move: who had a name at a moment, and
    who else ever had the name of this one.
    """

    collection: str
    parameter: str
    about: str
    topics: tuple[Topic, ...]
    find: Callable[[Connection, str, Vector], Awaitable[Histories | None]]
    missing: str
    missing_hint: Callable[[Connection, str, Vector], Awaitable[str]] = _no_hint
    holder: Callable[[Connection, str, Vector], Awaitable[EntityHistory[Any] | None]] | None = None
    namesakes: Callable[[Connection, str, EntityHistory[Any], Vector], Awaitable[list[Namesake]]] | None = None

    @property
    def path(self) -> str:
        """URL path of one entity, with its parameter."""
        return f"{self.collection}/{{{self.parameter}}}"


@dataclass(frozen=True, slots=True)
class Entity:
    """One kind of entity. `package` is its folder, which holds `tables.sql`.

    `layout` numbers the form of its tables and of what the journal keeps of it: raise it with every change. `facts` are
    the base classes of the events that its projector folds, `creations` those that bring an entity into being.
    `rejections` gives the meaning of each of its codes. `change_table` lists the entities that each batch touched, for
    readers that keep a state of the tables.
    """

    package: str
    projection: Projection
    layout: int
    tables: tuple[Table, ...]
    projector: Callable[[Partition], Projector]
    facts: tuple[type, ...]
    creations: tuple[type, ...] = ()
    views: tuple[str, ...] = ()
    rejections: Mapping[RejectionCode, str] = field(default_factory=dict)
    change_table: str | None = None
    subject: HistorySubject | None = None

    @property
    def statements(self) -> str:
        """SQL that creates its tables."""
        return files(self.package).joinpath("tables.sql").read_text()
