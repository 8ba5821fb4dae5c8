"""Reads columns of runs from the tables: a whole one as one row of packed bytes, or the values of some runs."""

import asyncio
from collections.abc import Mapping, Sequence
from struct import unpack
from typing import Any
from uuid import UUID

import numpy as np

from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tree import Key, KeyKind
from runfold_projections.series.fork_summaries import forked_in, latest_of_forked

from .columns import Column, DatasetColumn, DatasetRow, NumberColumn, TextColumn
from .filtering import DATASETS
from .table import RunRow, RunTable, id_width

_ORDER = "ORDER BY r.start_ms DESC, r.run_id"
# Texts hold no zero byte, and UTF-8 no byte 255.
_TEXT = f"string_agg(coalesce(convert_to({{value}}, 'UTF8'), '\\xff'::bytea), '\\x00'::bytea {_ORDER})"
# NULL if there is more text than the caller wants, or than a value of Postgres can hold. Postgres knows sizes without
# reading the texts.
_TEXTS = f"""
WITH r AS MATERIALIZED (SELECT r.start_ms, r.run_id, {{value}} AS value {{rows}})
SELECT CASE WHEN (SELECT sum(octet_length(r.value)) FROM r) > least({{most}}::bigint, 500000000) THEN NULL
            ELSE (SELECT {_TEXT.format(value="r.value")} FROM r) END
"""  # noqa: S608 - constants of this module
_PRESENT = f"string_agg(CASE WHEN {{value}} IS NULL THEN '\\x00'::bytea ELSE '\\x01'::bytea END, ''::bytea {_ORDER})"

_BASE = f"""
SELECT {_TEXT.format(value="r.run_id")},
       string_agg(int8send(r.start_ms), ''::bytea {_ORDER}),
       string_agg(int8send(r.experiment_id), ''::bytea {_ORDER}),
       string_agg(
           CASE WHEN r.lifecycle_stage = 'deleted' THEN '\\x01'::bytea ELSE '\\x00'::bytea END, ''::bytea {_ORDER}
       )
FROM run r WHERE r.experiment_id = ANY ($1::bigint[])
"""  # noqa: S608 - constants of this module
# Two ways to read a key of each run. A look-up takes 5 us per run, however large the table is; a join reads all of the
# table. The planner, which takes pages in memory for pages on disk, prefers the join far too early.
_JOINED = "LEFT JOIN {table} t ON t.run_id = r.run_id AND t.key = $2::text"
_LOOKED_UP = (
    "LEFT JOIN LATERAL (SELECT value FROM {table} WHERE run_id = r.run_id AND key = $2::text OFFSET 0) t ON true"
)
MOST_LOOK_UPS = 200_000
_IN_EXPERIMENTS = "WHERE r.experiment_id = ANY ($1::bigint[])"
# The places of these keys in wide rows. Only one row of each layout is read: reading the keys of all rows would double
# the time.
_PLACES = """
SELECT one.layout, wanted.key, place
FROM (SELECT DISTINCT ON (layout) layout, run_id, block FROM metric_block WHERE layout IS NOT NULL) AS one
JOIN metric_block b USING (run_id, block)
CROSS JOIN unnest($1::text[]) AS wanted (key) CROSS JOIN LATERAL array_position(b.keys, wanted.key) AS place
WHERE place IS NOT NULL
"""
# The same for the rows of some runs: other runs, which may have a million keys of their own, are not read.
_PLACES_OF = _PLACES.replace("WHERE layout IS NOT NULL", "WHERE layout IS NOT NULL AND run_id = ANY ($2::text[])")
# A metric's latest value lies at its key's place in a row of `metric_block`, as 8 bytes.
_LATEST = """
SELECT b.run_id, substr(b.numbers, 8 * at.place - 7, 8) AS value
FROM metric_block b LEFT JOIN unnest($3::uuid[], $4::integer[]) AS known (layout, place) ON known.layout = b.layout
CROSS JOIN LATERAL (
    SELECT CASE WHEN b.layout IS NULL THEN array_position(b.keys, $2::text) ELSE known.place END
) AS at (place)
WHERE at.place IS NOT NULL
"""
_NOTHING = "'\\x0000000000000000'::bytea"
_METRIC_COLUMNS = f"""
SELECT string_agg(coalesce(t.value, {_NOTHING}), ''::bytea {_ORDER}), {_PRESENT.format(value="t.value")}
"""
_TABLES = {KeyKind.PARAM: "run_param", KeyKind.TAG: "run_tag"}


def _texts_by(way: str, table: str) -> str:
    return _TEXTS.format(value="t.value", rows=f"FROM run r {way.format(table=table)} {_IN_EXPERIMENTS}", most="$3")


_LOOK_UPS = {kind: _texts_by(_LOOKED_UP, table) for kind, table in _TABLES.items()} | {
    KeyKind.METRIC: f"""
    {_METRIC_COLUMNS}
    FROM run r LEFT JOIN LATERAL ({_LATEST} AND b.run_id = r.run_id OFFSET 0) t ON true {_IN_EXPERIMENTS}
    """
}
_JOINS = {kind: _texts_by(_JOINED, table) for kind, table in _TABLES.items()} | {
    KeyKind.METRIC: f"{_METRIC_COLUMNS} FROM run r LEFT JOIN ({_LATEST}) t ON t.run_id = r.run_id {_IN_EXPERIMENTS}"
}
_END_TIME = f"""
SELECT string_agg(int8send(coalesce(r.end_ms, 0)), ''::bytea {_ORDER}), {_PRESENT.format(value="r.end_ms")}
FROM run r WHERE r.experiment_id = ANY ($1::bigint[])
"""  # noqa: S608 - constants of this module
_END_TIME_KEY = Key(KeyKind.ATTRIBUTE, "end_time")
_TEXT_ATTRIBUTES = {"run_name": "name", "status": "status", "artifact_uri": "artifact_uri", "user_id": "user_id"}
_ATTRIBUTES = {
    name: _TEXTS.format(value=f"r.{column}", rows=f"FROM run r {_IN_EXPERIMENTS}", most="$2")
    for name, column in _TEXT_ATTRIBUTES.items()
}
_DATASETS = """
SELECT (r.at - 1)::bigint AS at, d.name, d.digest, d.tags ->> 'mlflow.data.context' AS context
FROM (
    SELECT run_id, row_number() OVER (ORDER BY start_ms DESC, run_id) AS at
    FROM run
    WHERE experiment_id = ANY ($1::bigint[])
) r
JOIN run_dataset d USING (run_id)
ORDER BY r.at
"""
_CHANGED = """
SELECT run_id, start_ms, experiment_id, lifecycle_stage, name, status, artifact_uri, user_id, end_ms FROM run
WHERE run_id = ANY ($1::text[]) AND experiment_id = ANY ($2::bigint[])
"""
_CHANGED_VALUES = {
    KeyKind.METRIC: """
    SELECT b.run_id, known.key, substr(b.numbers, 8 * known.place - 7, 8)
    FROM metric_block b
    JOIN unnest($3::uuid[], $4::text[], $5::integer[]) AS known (layout, key, place) ON known.layout = b.layout
    WHERE b.run_id = ANY ($1::text[])
    UNION ALL
    SELECT b.run_id, wanted.key, substr(b.numbers, 8 * place - 7, 8)
    FROM metric_block b CROSS JOIN unnest($2::text[]) AS wanted (key)
    CROSS JOIN LATERAL array_position(b.keys, wanted.key) AS place
    WHERE b.run_id = ANY ($1::text[]) AND b.layout IS NULL AND place IS NOT NULL
    """,
    KeyKind.PARAM: "SELECT run_id, key, value FROM run_param WHERE run_id = ANY ($1::text[]) AND key = ANY "
    "($2::text[])",
    KeyKind.TAG: "SELECT run_id, key, value FROM run_tag WHERE run_id = ANY ($1::text[]) AND key = ANY ($2::text[])",
}
_CHANGED_DATASETS = """
SELECT run_id, name, digest, tags ->> 'mlflow.data.context' AS context FROM run_dataset WHERE run_id = ANY ($1::text[])
"""
_ILIKE = (
    "SELECT array_agg(value ILIKE $2::text ORDER BY place) FROM unnest($1::text[]) WITH ORDINALITY AS t (value, place)"
)


async def load_table(connection: Connection, experiment_ids: Sequence[int]) -> RunTable:
    """Load the experiments' runs, without columns."""
    ids, starts, experiments, deleted = await connection.fetchrow(_BASE, experiment_ids)
    split = ids.split(b"\0") if ids is not None else []
    run_ids = await asyncio.to_thread(np.array, split, f"S{id_width(split)}")
    return RunTable(run_ids, _int64(starts), _int64(experiments), np.frombuffer(deleted or b"", bool))


async def with_inherited(
    connection: Connection, experiment_ids: Sequence[int], table: RunTable, key: Key, column: Column
) -> Column:
    """Add inherited values to a metric's column of `load_column`. Needs the same read transaction."""
    forked = await forked_in(connection, experiment_ids)
    if not forked:
        return column
    alone = table.only(()).with_columns({key: column})
    return (await refresh_table(connection, experiment_ids, alone, forked)).columns[key]


async def load_column(
    connection: Connection, experiment_ids: Sequence[int], key: Key, runs: int, most_bytes: int
) -> Column | None:
    """Load a column of the same `runs` runs, in the table's order; None if its texts take more than `most_bytes`.

    Needs the read transaction of the table.
    """
    if key == DATASETS:
        rows = await connection.fetch(_DATASETS, experiment_ids)
        return DatasetColumn.of([row[0] for row in rows], [(row[1], row[2], row[3]) for row in rows])
    ways = _LOOK_UPS if runs <= MOST_LOOK_UPS else _JOINS
    if key.kind is KeyKind.METRIC:
        layouts, _, places = await _places(connection, [key.name])
        values, present = await connection.fetchrow(ways[key.kind], experiment_ids, key.name, layouts, places)
        return NumberColumn(np.frombuffer(values or b"", ">f8").astype(np.float64), np.frombuffer(present or b"", bool))
    if key == _END_TIME_KEY:
        values, present = await connection.fetchrow(_END_TIME, experiment_ids)
        return NumberColumn(_int64(values), np.frombuffer(present or b"", bool))
    if key.kind is KeyKind.ATTRIBUTE:
        packed = await connection.fetchval(_ATTRIBUTES[key.name], experiment_ids, most_bytes)
    else:
        packed = await connection.fetchval(ways[key.kind], experiment_ids, key.name, most_bytes)
    return None if packed is None and runs else await asyncio.to_thread(_texts, packed)


async def refresh_table(
    connection: Connection, experiment_ids: Sequence[int], table: RunTable, run_ids: Sequence[str]
) -> RunTable:
    """Update the table to the connection's snapshot, if no other runs than these have changed since."""
    rows = await connection.fetch(_CHANGED, run_ids, experiment_ids)
    if not rows:
        return table
    runs = [
        RunRow(row["run_id"], row["start_ms"], row["experiment_id"], row["lifecycle_stage"] == "deleted")
        for row in rows
    ]
    found = [run.run_id for run in runs]
    values: dict[Key, Sequence[Any]] = {}
    for kind in (KeyKind.METRIC, KeyKind.PARAM, KeyKind.TAG):
        values |= await _changed_values(
            connection, kind, [key.name for key in table.columns if key.kind is kind], found
        )
    for key in table.columns:
        if key.kind is KeyKind.ATTRIBUTE:
            name = _TEXT_ATTRIBUTES.get(key.name, "end_ms")
            values[key] = [row[name] for row in rows]
        elif key == DATASETS:
            values[key] = await _changed_datasets(connection, found)
    return await asyncio.to_thread(table.refreshed, runs, values)


async def ilike(connection: Connection, values: Sequence[str], pattern: str) -> Any:
    """Let Postgres match each value, into a bool array of shape (values,)."""
    return np.array(await connection.fetchval(_ILIKE, values, pattern) or [], bool)


async def _changed_values(
    connection: Connection, kind: KeyKind, names: Sequence[str], run_ids: Sequence[str]
) -> Mapping[Key, Sequence[Any]]:
    if not names:
        return {}
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    places = await _places(connection, names, run_ids) if kind is KeyKind.METRIC else ()
    for run_id, name, value in await connection.fetch(_CHANGED_VALUES[kind], run_ids, names, *places):
        found[name][run_id] = unpack(">d", value)[0] if kind is KeyKind.METRIC else value
    if kind is KeyKind.METRIC:
        for (run_id, name), value in (await latest_of_forked(connection, run_ids, names)).items():
            found[name][run_id] = value
    return {Key(kind, name): [found[name].get(run_id) for run_id in run_ids] for name in names}


async def _places(
    connection: Connection, names: Sequence[str], run_ids: Sequence[str] | None = None
) -> tuple[list[UUID], list[str], list[int]]:
    """Return the layouts of all runs, or of these, with the places of these keys: three parallel lists."""
    rows = await (connection.fetch(_PLACES, names) if run_ids is None else connection.fetch(_PLACES_OF, names, run_ids))
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


async def _changed_datasets(connection: Connection, run_ids: Sequence[str]) -> list[list[DatasetRow]]:
    found: dict[str, list[DatasetRow]] = {run_id: [] for run_id in run_ids}
    for run_id, name, digest, context in await connection.fetch(_CHANGED_DATASETS, run_ids):
        found[run_id].append((name, digest, context))
    return [found[run_id] for run_id in run_ids]


def _int64(packed: bytes | None) -> Any:
    return np.frombuffer(packed or b"", ">i8").astype(np.int64)


def _texts(packed: bytes | None) -> TextColumn:
    if packed is None:
        return TextColumn.of([])
    return TextColumn.of(None if value == b"\xff" else value for value in packed.split(b"\0"))
