"""What forked runs inherit, summed up per key: of the points of the runs they were forked from, those that they show.

A fold never reads another run, so the tables hold summaries of what each run logged itself, and this module combines
those of several runs. Where the parent's summaries cover exactly the inherited points, they are used. Otherwise the
points are read, and the result is cached.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from runfold_projections.metrics.recompute_summaries import LAST_STEP, Limits, summed_up
from runfold_projections.metrics.summaries import Block, Latest, Summaries
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_schemas.bounded_cache import BoundedCache

from .visible_points import RunBranches, VisiblePart, read_run_branches, visible_parts

CACHE_BYTES = 64 * 1024 * 1024
"""Memory of one process for summaries that were read out of points."""
_AT_ONCE = 100
"""Forked runs that are read together."""


class InheritedSummaries(NamedTuple):
    """Summaries of what a run inherits, and the runs that it comes from."""

    summaries: Summaries
    ancestors: frozenset[str]


async def forked_among(connection: Connection, run_ids: Sequence[str]) -> list[str]:
    """Return the forked ones of these runs."""
    rows = await connection.fetch(
        "SELECT run_id FROM fork WHERE run_id = ANY ($1::text[])", list(filter(storable, run_ids))
    )
    return [row["run_id"] for row in rows]


async def descendants_of(connection: Connection, run_ids: Collection[str]) -> set[str]:
    """Return the runs that inherit from any of these, directly or not."""
    return {row["run_id"] for row in await connection.fetch(_HEIRS, list(run_ids))}


async def inherited_summaries(
    connection: Connection, run_ids: Sequence[str], keys: Sequence[str] | None = None
) -> dict[str, InheritedSummaries]:
    """Return what each forked one of these runs inherits. With `keys`, summaries of other keys may be missing.

    Must run in a snapshot: it takes several statements. Points are read at a few million a second, once per process.
    """
    found: dict[str, InheritedSummaries] = {}
    forked = await forked_among(connection, run_ids)
    for at in range(0, len(forked), _AT_ONCE):
        some = forked[at : at + _AT_ONCE]
        lines = await read_run_branches(connection, some)
        parts = {run_id: visible_parts(run_id, lines)[1:] for run_id in some}
        reader = _Reader(
            connection, lines, await _sources(connection, {part.owner for own in parts.values() for part in own}), keys
        )
        for run_id, own in parts.items():
            found[run_id] = InheritedSummaries(await reader.joined(own), frozenset(part.owner for part in own))
    return found


async def forked_in(connection: Connection, experiment_ids: Sequence[int]) -> list[str]:
    """Return the forked runs of these experiments."""
    rows = await connection.fetch(_FORKED_IN, experiment_ids)
    return [row["run_id"] for row in rows]


async def latest_of_forked(
    connection: Connection, run_ids: Sequence[str], keys: Sequence[str]
) -> dict[tuple[str, str], float]:
    """Return the latest values of these keys, by run and key, in the forked ones of these runs."""
    more = await inherited_summaries(connection, run_ids, keys)
    own: dict[str, list[Block]] = {run_id: [] for run_id in more}
    for row in await connection.fetch(_BLOCKS_OF, list(own), keys) if own else ():
        own[row["run_id"]].append(_block(row))
    found: dict[tuple[str, str], float] = {}
    for run_id, blocks in own.items():
        logged, inherits = join_summaries(blocks, None), more[run_id].summaries
        for key in keys:
            known = [one[key].latest for one in (logged, inherits) if key in one]
            if known:
                found[run_id, key] = max(known, key=Latest.order).value
    return found


def join_summaries(own: Iterable[Block], more: InheritedSummaries | None) -> Summaries:
    """Join the stored blocks of a run with the summaries that it inherits."""
    both = Summaries()
    # All but the last are full.
    both.restore(sorted(own, key=lambda block: -len(block.keys)))
    if more is not None:
        both.join(more.summaries)
    return both


class _Reader:
    def __init__(
        self,
        connection: Connection,
        lines: Mapping[str, RunBranches],
        sources: Sequence[Any],
        keys: Sequence[str] | None,
    ) -> None:
        self._connection, self._lines = connection, lines
        self._bounds = (min(keys), max(keys)) if keys else None
        self._known: dict[tuple[Any, ...], Summaries] = {}
        """Runs that were forked from the same one at the same step inherit the same."""
        self._sources: dict[str, list[Any]] = {}
        for row in sources:
            self._sources.setdefault(row["run_id"], []).append(row)

    async def joined(self, parts: Sequence[VisiblePart]) -> Summaries:
        """The summaries of all these parts."""
        found = [await self._part(part) for part in parts]
        if len(found) == 1:
            return found[0]
        both = Summaries()
        for one in found:
            both.join(one)
        return both

    async def _part(self, part: VisiblePart) -> Summaries:
        rows = self._sources.get(part.owner, [])
        now = self._lines[part.owner].view(None)
        limits: dict[tuple[int, int], int | None] = {}
        as_stored = True
        for row in rows:
            source = (row["branch"], row["rank"])
            stored = _reach(now.limit(*source), row["last_step"])
            shown = _reach(part.limit(*source), row["last_step"]) if part.shows(source[0]) else -LAST_STEP - 1
            # Both take nothing of it, or both the same.
            as_stored &= shown == stored or max(shown, stored) < row["first_step"]
            if shown >= row["first_step"]:
                limits[source] = shown
        key = (part.owner, None if as_stored else tuple(limits.items()))
        if key not in self._known:
            self._known[key] = await (self._stored(part.owner) if as_stored else self._read(part.owner, limits))
        return self._known[key]

    async def _stored(self, owner: str) -> Summaries:
        return join_summaries(await own_blocks(self._connection, owner), None)

    async def _read(self, owner: str, limits: Limits) -> Summaries:
        marks = await self._connection.fetch(
            _MARKS, owner, [branch for branch, _ in limits], [rank for _, rank in limits], list(limits.values())
        )
        key = (owner, self._bounds, tuple(limits.items()), tuple(tuple(row) for row in marks))
        summaries = _cache.get(key)
        if summaries is None:
            summaries = await summed_up(self._connection, owner, limits, self._bounds)
            _cache.put(key, summaries, summaries.size)
        return summaries


async def own_blocks(connection: Connection, run_id: str) -> list[Block]:
    """Read the summaries of what a run logged itself."""
    return [_block(row) for row in await connection.fetch(_BLOCKS, run_id)]


def _block(row: Any) -> Block:
    return Block(tuple(row["keys"]), row["numbers"], row["contexts"])


def _reach(limit: int | None, last_step: int) -> int:
    return last_step if limit is None else min(limit, last_step)


_cache: BoundedCache[tuple[Any, ...], Summaries] = BoundedCache(CACHE_BYTES)
"""By the run, what is inherited of it, and marks of the log and of its points. The summaries are never changed."""


async def _sources(connection: Connection, owners: Collection[str]) -> Sequence[Any]:
    rows: Sequence[Any] = await connection.fetch(_SOURCES, list(owners))
    return rows


_SOURCES = """
SELECT run_id, branch, rank, min(first_step) AS first_step, max(last_step) AS last_step
FROM segment WHERE run_id = ANY ($1::text[]) GROUP BY run_id, branch, rank
"""
_FORKED_IN = "SELECT f.run_id FROM fork f JOIN run r USING (run_id) WHERE r.experiment_id = ANY ($1::bigint[])"
_BLOCKS_OF = (
    "SELECT run_id, keys, numbers, contexts FROM metric_block WHERE run_id = ANY ($1::text[]) AND keys && $2::text[]"
)
_BLOCKS = "SELECT keys, numbers, contexts FROM metric_block WHERE run_id = $1 ORDER BY block"
# Compaction may change the marks, which costs another reading; a new point always changes them.
_MARKS = """
SELECT s.branch, s.rank, max(s.last_offset), sum(s.points)::bigint, min(c.genesis_id::text)
FROM segment s
JOIN unnest($2::integer[], $3::integer[], $4::bigint[]) AS shown (branch, rank, last) USING (branch, rank)
LEFT JOIN checkpoint c ON c.topic = 'metrics' AND c.partition = s.partition
WHERE s.run_id = $1 AND s.first_step <= shown.last GROUP BY s.branch, s.rank ORDER BY s.branch, s.rank
"""
_HEIRS = """
WITH RECURSIVE heir AS (
    SELECT run_id FROM fork WHERE parent_run_id = ANY ($1::text[])
    UNION
    SELECT f.run_id FROM fork f JOIN heir h ON f.parent_run_id = h.run_id
)
SELECT run_id FROM heir
"""
