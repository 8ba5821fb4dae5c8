"""The timeline of an entity, why a field has its value, and what differs between two moments: all out of its journal."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from runfold_projections.generations.generations import Projection
from runfold_projections.postgres.connection import Connection
from runfold_projections.registry.history import ModelStory
from runfold_projections.search.tokens import storable
from runfold_schemas.positions.position import Position

from .entity_history import Fields, Story, changed, passed_over
from .field_matching import asks_about, changes_about
from .journal import Entry
from .journal_reader import Told, caused_by, events_of, past_of

S = TypeVar("S")
Json = dict[str, Any]
ROWS_AT_ONCE = 256
MOST_NAMESAKES = 20
MOST_LOOKED_AT = 5_000
"""Events that one page looks at, at most: where few fit what is asked for, a page may hold less than asked, and there is another."""


@dataclass(frozen=True, slots=True)
class Happened:
    """An event in the story of an entity, and what it changed about it."""

    told: Told
    changes: list[Json] = field(default_factory=list)
    caused: list[Json] = field(default_factory=list)

    @property
    def entry(self) -> Entry:
        return self.told.entry

    @property
    def position(self) -> Position:
        """Where it lies in the log."""
        return Position(*self.told.where, self.told.entry.offset)


@dataclass(frozen=True, slots=True)
class Page:
    """Some events, and the offset that the next page begins at (newest first: ends below); None: there are no more."""

    events: list[Happened]
    next_offset: int | None


async def timeline(
    connection: Connection,
    story: Story[S],
    *,
    first: int,
    below: int,
    limit: int,
    newest: bool,
    fits: Callable[[Entry], bool] = lambda _: True,
    about: str | None = None,
) -> Page:
    """Events of an entity at offsets from `first` on and below `below`, in the log's order or the newest first, with what each changed;
    `about` a field: those that changed it, or were refused when they asked to."""
    at_once = limit if about is None else MOST_LOOKED_AT
    seen, found, more = await _looked_for(
        connection, story.projection, story.entity, first, below, at_once, newest, fits
    )
    if not found:
        return Page([], more)
    changes: dict[int, list[Json]] = {}
    at = sorted(told.entry.offset for told in found)
    past = await past_of(connection, story.projection, story.entity, at[0])
    between = sorted((t for t in seen if at[0] <= t.entry.offset <= at[-1] and not t.entry.code), key=_offset)
    changes = await asyncio.to_thread(_changes, story, past.state, past.events, between)
    if about is not None:
        found = [told for told in found if _is_about(about, told, changes.get(told.entry.offset, []))]
        if len(found) > limit:
            more = found[limit - 1].entry.offset + (0 if newest else 1)
            found = found[:limit]
    caused = await caused_by(connection, [told.entry.event_id for told in found])
    events = [Happened(t, changes.get(t.entry.offset, []), caused.get(t.entry.event_id, [])) for t in found]
    return Page(events, more)


async def _looked_for(
    connection: Connection,
    projection: Projection,
    entity: str,
    first: int,
    below: int,
    limit: int,
    newest: bool,
    fits: Callable[[Entry], bool],
) -> tuple[list[Told], list[Told], int | None]:
    """All events looked at, those that fit, and where to go on."""
    seen: list[Told] = []
    found: list[Told] = []
    while len(seen) < MOST_LOOKED_AT:
        some = await events_of(
            connection, projection, entity, first=first, below=below, rows=ROWS_AT_ONCE, newest=newest
        )
        if not some:
            return seen, found, None
        for told in some:
            if len(found) == limit:
                return seen, found, told.entry.offset + 1 if newest else told.entry.offset
            seen.append(told)
            if fits(told.entry):
                found.append(told)
        last = some[-1].entry.offset
        first, below = (first, last) if newest else (last + 1, below)
    return seen, found, below if newest else first


def _is_about(field: str, told: Told, changes: Sequence[Json]) -> bool:
    if told.entry.code:
        return asks_about(field, told.entry.record(told.where).event)
    return changes_about(field, changes)


def _offset(told: Told) -> int:
    return told.entry.offset


def _changes(
    story: Story[S], kept: bytes | None, before: Sequence[Told], events: Sequence[Told]
) -> dict[int, list[Json]]:
    state = _folded(story, kept, before)
    return {told.entry.offset: changes for told, changes in _walked(story, state, events)}


def _walked(story: Story[S], state: S, events: Sequence[Told]) -> Iterator[tuple[Told, list[Json]]]:
    """The events, each with what it changes."""
    for told in events:
        names, change = story.step(state, told.entry.record(told.where))
        before = {name: story.value(state, name) for name in names}
        state = change()
        yield told, list(changed(before, {name: story.value(state, name) for name in before}))


def _folded(story: Story[S], kept: bytes | None, events: Sequence[Told]) -> S:
    state = story.start() if kept is None else story.read(kept)
    for where, entry in events:
        state = story.step(state, entry.record(where))[1]()
    return state


async def state_of(connection: Connection, story: Story[S], below: int) -> S:
    """The entity as of an offset of its partition."""
    past = await past_of(connection, story.projection, story.entity, below)
    return await asyncio.to_thread(_folded, story, past.state, past.events)


@dataclass(frozen=True, slots=True)
class Set:
    """An event that gave a field its value."""

    told: Told
    before: Any
    after: Any


async def why(connection: Connection, story: Story[S], name: str, below: int) -> list[Set]:
    """The events that set a field, the newest first, which set the value that it had at the offset."""
    events = await _accepted(connection, story, 0, below)
    return await asyncio.to_thread(sets, story, events, name)


def sets(story: Story[S], events: Sequence[Told], name: str) -> list[Set]:
    """Those of all accepted events of a story that set a field, the newest first. Reads only those that may have to do with it."""
    found, state, passes = [], story.start(), passed_over(story.unread(name))
    for told in events:
        if passes(told.entry.value):
            continue
        record = story.alone(told.entry.record(told.where), name)
        _, change = story.step(state, record)
        before = story.value(state, name)
        state = change()
        after = story.value(state, name)
        if before != after:
            found.append(Set(told, before, after))
    return found[::-1]


async def _accepted(connection: Connection, story: Story[S], first: int, below: int) -> list[Told]:
    found: list[Told] = []
    while some := await events_of(
        connection, story.projection, story.entity, first=first, below=below, rows=ROWS_AT_ONCE, newest=False
    ):
        found += [told for told in some if not told.entry.code]
        first = some[-1].entry.offset + 1
    return found


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that differs between two moments, and the event that gave it its later value."""

    field: str
    before: Any
    after: Any
    told: Told | None


async def difference(connection: Connection, story: Story[S], first: int, below: int) -> list[Difference]:
    """What differs between the entity as of two offsets of its partition, field by field; `first` may be the later one."""
    early, late = sorted((first, below))
    past = await past_of(connection, story.projection, story.entity, early)
    events = await _accepted(connection, story, early, late)
    found = await asyncio.to_thread(_differences, story, past.state, past.events, events)
    if first > below:
        # Back in time: no event did it, the same events undone did.
        return [Difference(one.field, one.after, one.before, one.told) for one in found]
    return found


async def replacement(connection: Connection, old: Story[S], first: int, new: Story[S], below: int) -> list[Difference]:
    """What differs between an entity as of one offset and another as of a later one, which has taken its place: a field's later value is
    told with the event that set it; one that is gone, with the event by which the old entity lost its name."""
    before = old.fields(await state_of(connection, old, first))
    history = await _accepted(connection, new, 0, below)
    lost = await _lost(connection, old, before["name"], first, below)
    return await asyncio.to_thread(_replaced, before, lost, new, history)


def _replaced(before: Fields, lost: Told | None, new: Story[S], history: Sequence[Told]) -> list[Difference]:
    after: dict[str, tuple[Any, Told | None]] = {}
    for told, changes in _walked(new, new.start(), history):
        after |= {one["field"]: (one["to"], told) for one in changes}
    found: list[Difference] = []
    for name in sorted({*before, *after}):
        value, by = after.get(name, (None, lost))
        if before.get(name) != value:
            found.append(Difference(name, before.get(name), value, lost if value is None else by))
    return found


async def _lost(connection: Connection, story: Story[S], name: str, first: int, below: int) -> Told | None:
    """The first event from an offset on by which an entity no longer has this name."""
    past = await past_of(connection, story.projection, story.entity, first)
    events = await _accepted(connection, story, first, below)

    def look() -> Told | None:
        state = _folded(story, past.state, past.events)
        return next(
            (told for told, changes in _walked(story, state, events) if any(c["field"] == "name" for c in changes)),
            None,
        )

    return await asyncio.to_thread(look)


def _differences(
    story: Story[S], kept: bytes | None, before: Sequence[Told], events: Sequence[Told]
) -> list[Difference]:
    state = _folded(story, kept, before)
    first: dict[str, Any] = {}
    last: dict[str, tuple[Any, Told]] = {}
    for told, changes in _walked(story, state, events):
        for one in changes:
            first.setdefault(one["field"], one["from"])
            last[one["field"]] = (one["to"], told)
    return [
        Difference(name, first[name], value, told)
        for name, (value, told) in sorted(last.items())
        if first[name] != value
    ]


async def has_story(connection: Connection, story: Story[Any], below: int) -> bool:
    """Whether anything has happened to the entity, if only a refusal."""
    if not storable(story.entity):
        return False
    return bool(await events_of(connection, story.projection, story.entity, below=below, rows=1, newest=False))


async def logged(connection: Connection, run_id: str, below: int) -> list[Json]:
    """What a run logged to `metrics` below an offset: per attempt, branch and rank the offsets, steps and points. The last two count what
    was written together with what came later, too."""
    return [
        {**row, "rank": None if row["rank"] < 0 else row["rank"]}
        for row in map(dict, await connection.fetch(_LOGGED, run_id, below))
    ]


async def holders(connection: Connection, workspace: str, name: str, below: int) -> list[int]:
    """Identities of the registered models that ever got this name below an offset of `registry`, the last one first."""
    return [row["born"] for row in await connection.fetch(_NAMED, workspace, name, below)]


async def model_named(connection: Connection, workspace: str, name: str, below: int) -> int | None:
    """Identity of the registered model that has, or had last, this name below an offset of `registry`."""
    if not storable(workspace) or not storable(name):
        return None
    found = await holders(connection, workspace, name, below)
    for born in found:
        model = (await state_of(connection, ModelStory(born), below)).state.by_born.get(born)
        if model is not None and model.name == name:
            return born
    return found[0] if found else None


async def model_holding(connection: Connection, workspace: str, name: str, below: int) -> int | None:
    """Identity of the registered model that has this name at an offset of `registry`; None if none has."""
    born = await model_named(connection, workspace, name, below)
    model = None if born is None else (await state_of(connection, ModelStory(born), below)).state.by_born.get(born)
    return born if model is not None and model.name == name else None


@dataclass(frozen=True, slots=True)
class Namesake:
    """Another registered model that had the name: its identity, and the offset of the event by which it lost it."""

    born: int
    until: int


async def namesakes(connection: Connection, workspace: str, name: str, born: int, below: int) -> list[Namesake]:
    """Other models than `born` that had its name below an offset of `registry`, the last one first; the latest of them, if there are many."""
    found: list[Namesake] = []
    for other in [one for one in await holders(connection, workspace, name, below) if one != born][:MOST_NAMESAKES]:
        story = ModelStory(other)
        history = await _accepted(connection, story, 0, below)
        lost = await asyncio.to_thread(_last_loss, story, history, name)
        if lost is not None:
            found.append(Namesake(other, lost))
    return found


def _last_loss(story: ModelStory, history: Sequence[Told], name: str) -> int | None:
    lost = None
    for told, changes in _walked(story, story.start(), history):
        if any(change["field"] == "name" and change["from"] == name for change in changes):
            lost = told.entry.offset
    return lost


async def named_before(connection: Connection, workspace: str, name: str, below: int) -> str | None:
    """The name that a registered model had at an offset of `registry` which got the given one later; None if there was none."""
    if not storable(workspace) or not storable(name):
        return None
    born = await connection.fetchval(_NAMED_LATER, workspace, name, below)
    model = None if born is None else (await state_of(connection, ModelStory(born), below)).state.by_born.get(born)
    return None if model is None else model.name


_LOGGED = """
SELECT attempt, branch, rank, min(first_offset) AS first_offset, least(max(last_offset), $2 - 1) AS last_offset,
       min(first_step) AS first_step, max(last_step) AS last_step, sum(points)::bigint AS points
FROM segment WHERE run_id = $1 AND first_offset < $2 GROUP BY attempt, branch, rank ORDER BY branch, attempt, rank LIMIT 1000
"""
_NAMED = """
SELECT born FROM model_naming WHERE workspace = $1 AND name = $2 AND log_offset < $3 GROUP BY born ORDER BY max(log_offset) DESC
"""
_NAMED_LATER = """
SELECT born FROM model_naming WHERE workspace = $1 AND name = $2 AND log_offset >= $3 AND born < $3 ORDER BY log_offset LIMIT 1
"""
