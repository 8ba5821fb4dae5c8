"""Logged models as of a moment of the log."""

import asyncio
from collections.abc import Sequence
from typing import Any

from runfold_projections.history.cutoff import existing_runs, run_end_offset
from runfold_projections.history.timeline import state_at
from runfold_projections.model_metrics.model_metrics import ModelMetrics
from runfold_projections.postgres.connection import Connection
from runfold_projections.registry.as_of import versions_made_of
from runfold_projections.search.tokens import storable
from runfold_projections.segments.compacted import read_located, read_segment
from runfold_projections.segments.frame_groups import rows_before
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector

from .history import LoggedModelHistory
from .queries import VERSIONS_TAG, LoggedModel, MeasuredMetric, with_versions

REGISTRY = Partition(Topic.REGISTRY, 0)


async def logged_model_at(connection: Connection, workspace: str, model_id: str, vector: Vector) -> LoggedModel | None:
    """Return the model of this id, deleted or not, with the metrics that runs had measured of it.

    The tag with the versions that were created from it is as of the same moment.
    """
    found = (
        await state_at(connection, LoggedModelHistory(model_id), vector.get(REGISTRY, 0))
        if storable(model_id)
        else None
    )
    if found is None or found.head.workspace != workspace:
        return None
    head, tags = found.head, dict(sorted(found.tags.items()))
    made = await versions_made_of(connection, workspace, model_id, vector)
    if made:
        tags[VERSIONS_TAG] = with_versions(tags.get(VERSIONS_TAG), made)
    return LoggedModel(
        model_id=head.model_id,
        experiment_id=head.experiment_id,
        name=head.name,
        artifact_uri=head.artifact_uri,
        model_type=head.model_type,
        source_run_id=head.source_run_id,
        status=head.status,
        lifecycle_stage=head.lifecycle_stage,
        created_ms=head.created_ms,
        updated_ms=head.updated_ms,
        params=dict(sorted(found.params.items())),
        tags=tags,
        metrics=await _measured(connection, model_id, vector),
    )


async def _measured(connection: Connection, model_id: str, vector: Vector) -> list[MeasuredMetric]:
    rows = await connection.fetch(_RUNS, model_id)
    found = ModelMetrics()
    for run_id in sorted(await existing_runs(connection, [row["run_id"] for row in rows], vector)):
        end = run_end_offset(vector, Topic.METRICS, run_id)
        cursor = await connection.cursor(_SEGMENTS, run_id, end)
        while segments := await cursor.fetch(_AT_ONCE):
            await asyncio.to_thread(_add, found, segments, model_id, run_id, end)
    metrics = [
        MeasuredMetric(
            measured.key,
            metric.value,
            metric.step,
            metric.time_ms,
            model_id,
            measured.dataset_name or None,
            measured.dataset_digest or None,
            measured.run_id,
        )
        for measured, metric in found.drain().items()
    ]
    return sorted(metrics, key=_place)


def _place(metric: MeasuredMetric) -> tuple[Any, ...]:
    # As in the query of the present, metrics without a dataset come last.
    names = (metric.dataset_name, metric.dataset_digest)
    return (metric.key, metric.run_id, *((name is None, name or "") for name in names))


def _add(found: ModelMetrics, segments: Sequence[Any], model_id: str, run_id: str, end: int) -> None:
    for last_offset, head, data in segments:
        if last_offset < end:
            frames = list(read_segment(head, data))
        else:
            frames = [rows_before(*dated, end) for dated in read_located(head, data)]
        for frame in frames:
            if frame.model_id == model_id:
                found.add(run_id, frame)


_AT_ONCE = 32
_RUNS = """
SELECT run_id FROM model_value WHERE model_id = $1 UNION SELECT run_id FROM model_block WHERE model_id = $1
"""
_SEGMENTS = "SELECT last_offset, head, data FROM segment WHERE run_id = $1 AND first_offset < $2"
