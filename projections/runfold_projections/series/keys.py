"""Which keys a run has, each with its latest value and extremes: by prefix, by pattern, page by page.

All reads of a run's summaries key by key go through this module, so their storage can change without their readers.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import asyncpg

from runfold_projections.core.errors import BadQuery
from runfold_projections.metrics.summaries import Block
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable

from .fork_summaries import InheritedSummaries, inherited_summaries, join_summaries, own_blocks

MOST_PATTERN = 1_000
"""Characters of a pattern."""
PATTERN_SECONDS = 2.0
"""How long a pattern may take: Postgres matches most in linear time, but not those with back references."""


class KeySummary(NamedTuple):
    """A key of a run: its value with the largest (step, time, value), and extremes, None if all values are NaN."""

    key: str
    value: float
    step: int
    time_ms: int
    least: float | None
    most: float | None


class RunKeys(NamedTuple):
    """Keys of a run, and the runs that some of them may be inherited from."""

    keys: list[KeySummary]
    ancestors: frozenset[str] = frozenset()


class KeyFilter(NamedTuple):
    """Which keys: those that begin with `prefix` and match `pattern`, behind `after`, at most `limit`."""

    prefix: str
    pattern: str | None
    after: str
    limit: int


async def keys_of_run(connection: Connection, run_id: str, wanted: KeyFilter) -> RunKeys | None:
    """The keys that are wanted, in the order of their code points, inherited ones too; None for an unknown run.

    A key fits that begins with `prefix` and in which `pattern` (Postgres's regular expressions) is found anywhere.
    BadQuery for a pattern that is none or takes too long. A pattern bounds the statements of the rest of the
    transaction.
    """
    prefix, pattern, after, limit = wanted
    if not all(map(storable, (run_id, prefix, after))):
        return RunKeys([]) if storable(run_id) and await _known(connection, run_id) else None
    inherits = (await inherited_summaries(connection, [run_id])).get(run_id)
    if inherits is not None:
        return await _of_forked(connection, run_id, inherits, wanted)
    places = await matching(connection, pattern, _PAGE, run_id, prefix, end_of(prefix), after, limit)
    if not places:
        return RunKeys([]) if await _known(connection, run_id) else None
    rows = await connection.fetch(_BLOCKS, run_id, list({row["block"] for row in places}))
    columns = {row["block"]: [c.tolist() for c in Block([""] * row["size"], row["numbers"]).columns()] for row in rows}
    return RunKeys([_summary(row["key"], columns[row["block"]], row["place"] - 1) for row in places])


async def _of_forked(
    connection: Connection, run_id: str, inherits: InheritedSummaries, wanted: KeyFilter
) -> RunKeys | None:
    if not await _known(connection, run_id):
        return None
    both = join_summaries(await own_blocks(connection, run_id), inherits)
    prefix, pattern, after, limit = wanted
    rows = await matching(connection, pattern, _AMONG, list(both), prefix, end_of(prefix), after, limit)
    found = [(row["key"], both[row["key"]]) for row in rows]
    return RunKeys(
        [
            KeySummary(key, one.latest.value, one.latest.step, one.latest.time_ms, one.least, one.most)
            for key, one in found
        ],
        inherits.ancestors,
    )


def _summary(key: str, columns: Sequence[Sequence[Any]], place: int) -> KeySummary:
    value, least, most, step, time_ms = (column[place] for column in columns)
    return KeySummary(key, value, step, time_ms, None if least != least else least, None if most != most else most)


async def keys_of_runs(connection: Connection, run_ids: Sequence[str], pattern: str, limit: int) -> list[str]:
    """Return at most `limit` keys of these runs, in order, that match the pattern. BadQuery as in `keys_of_run`."""
    known = [run_id for run_id in run_ids if storable(run_id)]
    more = {key for one in (await inherited_summaries(connection, known)).values() for key in one.summaries}
    rows = await matching(connection, pattern, _OF_RUNS, known, list(more), limit)
    return [row["key"] for row in rows]


async def matching(connection: Connection, pattern: str | None, statement: str, *args: object) -> list[asyncpg.Record]:
    """Rows of a statement whose last parameter is a pattern. BadQuery as `keys_of_run`."""
    if pattern is not None:
        if len(pattern) > MOST_PATTERN:
            raise BadQuery(f"The pattern has {len(pattern)} characters; at most {MOST_PATTERN} are taken.")
        if not storable(pattern):
            raise BadQuery("The pattern holds a character that no key can hold.")
    try:
        if pattern is not None:
            # Where there is nothing to match, Postgres would not look at the pattern.
            try:
                await connection.fetchval(_BOUND, str(int(PATTERN_SECONDS * 1000)), pattern)
            except (asyncpg.InternalServerError, asyncpg.OutOfMemoryError) as error:
                # Of a pattern that repeats repetitions.
                raise BadQuery(f"The pattern {pattern!r} is too large: {error}.") from None
        return list(await connection.fetch(statement, *args, pattern))
    except asyncpg.InvalidRegularExpressionError as error:
        raise BadQuery(f"The pattern {pattern!r} is no regular expression: {error}.") from None
    except asyncpg.QueryCanceledError:
        raise BadQuery(
            f"The pattern {pattern!r} took longer than {PATTERN_SECONDS:g} s; give a simpler one, or a prefix "
            "beside it."
        ) from None


async def _known(connection: Connection, run_id: str) -> bool:
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM run WHERE run_id = $1)", run_id))


def end_of(prefix: str) -> str | None:
    """The least text that is greater than all texts with this prefix; None if there is none."""
    for at in reversed(range(len(prefix))):
        code = ord(prefix[at])
        if code < 0x10FFFF:
            return prefix[:at] + chr(0xE000 if code == 0xD7FF else code + 1)
    return None


_BOUND = "SELECT set_config('statement_timeout', $1, true), '' ~ $2::text"
_PAGE = """
SELECT b.block, k.place, k.key
FROM metric_block b CROSS JOIN LATERAL unnest(b.keys) WITH ORDINALITY AS k (key, place)
WHERE b.run_id = $1 AND k.key >= $2 AND ($3::text IS NULL OR k.key < $3) AND k.key > $4
  AND ($6::text IS NULL OR k.key ~ $6) AND EXISTS (SELECT FROM run r WHERE r.run_id = b.run_id)
ORDER BY k.key LIMIT $5
"""
_BLOCKS = """
SELECT block, cardinality(keys) AS size, numbers FROM metric_block WHERE run_id = $1 AND block = ANY ($2::integer[])
"""
_OF_RUNS = """
SELECT k.key FROM metric_block b CROSS JOIN LATERAL unnest(b.keys) AS k (key)
WHERE b.run_id = ANY ($1::text[]) AND k.key ~ $4 AND EXISTS (SELECT FROM run r WHERE r.run_id = b.run_id)
UNION
SELECT k.key FROM (SELECT unnest($2::text[]) COLLATE "C" AS key) k WHERE k.key ~ $4
ORDER BY key LIMIT $3
"""
_AMONG = """
SELECT k.key FROM (SELECT unnest($1::text[]) COLLATE "C" AS key) k
WHERE k.key >= $2 AND ($3::text IS NULL OR k.key < $3) AND k.key > $4 AND ($6::text IS NULL OR k.key ~ $6)
ORDER BY k.key LIMIT $5
"""
