"""Canonical rows: what must be equal whenever the same log was folded, whatever the batches, workers and crashes."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import astuple
from typing import Any

from runfold_projections.metrics.summaries import Block
from runfold_projections.postgres.connection import Connection, sql
from runfold_projections.segments.packs import read_segment

from .generations import Projection, canonical_names

Row = tuple[Any, ...]


async def canonical_rows(connection: Connection, projection: Projection) -> AsyncIterator[tuple[str, Row]]:
    """(table, row) in a fixed order. The connection sees the generation's schema, in a snapshot.

    Metric points stand for the segments that pack them, each point once, with NaN and -0.0 as their bits; of a run that something was cut
    off from, each with its branch.
    """
    for table in canonical_names(projection):
        if table == "segment":
            async for row in _points(connection):
                yield "point", row
        elif table == "metric_block":
            async for row in _summaries(connection):
                yield "metric", row
        else:
            for row in await connection.fetch(sql(f"canonical/{table}.sql")):
                yield table, tuple(repr(value) if isinstance(value, float) else value for value in row)


async def _points(connection: Connection) -> AsyncIterator[Row]:
    run_ids = [row["run_id"] for row in await connection.fetch("SELECT DISTINCT run_id FROM segment ORDER BY run_id")]
    cut = {row["run_id"] for row in await connection.fetch("SELECT DISTINCT run_id FROM cut")}
    for run_id in run_ids:
        points = set()
        for row in await connection.fetch(
            "SELECT attempt, rank, branch, head, data FROM segment WHERE run_id = $1", run_id
        ):
            branch = (row["branch"],) if run_id in cut else ()
            for frame in read_segment(row["head"], row["data"]):
                context = (frame.model_id or "", frame.dataset_name or "", frame.dataset_digest or "")
                width = len(frame.keys)
                for at, value in enumerate(frame.values):
                    place, column = divmod(at, width)
                    points.add(
                        (
                            row["attempt"],
                            row["rank"],
                            frame.keys[column],
                            frame.steps[place],
                            frame.times[place],
                            value.hex(),
                            *context,
                            *branch,
                        )
                    )
        for point in sorted(points):
            yield (run_id, *point)


async def _summaries(connection: Connection) -> AsyncIterator[Row]:
    run_ids = [
        row["run_id"] for row in await connection.fetch("SELECT DISTINCT run_id FROM metric_block ORDER BY run_id")
    ]
    for run_id in run_ids:
        rows = await connection.fetch("SELECT keys, numbers, contexts FROM metric_block WHERE run_id = $1", run_id)
        blocks = [Block(tuple(row["keys"]), row["numbers"], row["contexts"]) for row in rows]
        for key, (latest, least, most) in sorted((key, astuple(s)) for block in blocks for key, s in block.summaries()):
            value, step, time_ms, *context = latest
            extremes = (None if bound is None else repr(bound) for bound in (least, most))
            yield (run_id, key, repr(value), step, time_ms, *extremes, *context)


async def state_hash(connection: Connection, projection: Projection) -> str:
    """SHA-256 over the canonical rows, in hexadecimal."""
    digest = hashlib.sha256()
    async for table, row in canonical_rows(connection, projection):
        digest.update(repr((table, row)).encode())
    return digest.hexdigest()
