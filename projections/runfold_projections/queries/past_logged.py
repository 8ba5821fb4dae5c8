"""Logged models as they were at a moment of the log."""

import asyncio
from collections.abc import Iterable
from typing import Any

from runfold_schemas.position import Partition
from runfold_schemas.topics import Topic
from runfold_schemas.vector import Vector

from ..database import Connection
from ..folds.summaries import Latest
from ..fresh import until_offset
from ..packs import read_segment_dated
from ..search.tokens import storable
from .born import below, born
from .logged_models import LoggedModel, MeasuredMetric
from .stories import LoggedModelStory
from .timelines import state_of

REGISTRY = Partition(Topic.REGISTRY, 0)


async def logged_model_at(conn: Connection, workspace: str, model_id: str, vector: Vector) -> LoggedModel | None:
    """The model of this id, deleted or not, with what runs had measured of it. The versions made of it are not among its tags."""
    found = await state_of(conn, LoggedModelStory(model_id), vector.get(REGISTRY, 0)) if storable(model_id) else None
    if found is None or found.head.workspace != workspace:
        return None
    head = found.head
    return LoggedModel(
        model_id=head.model_id,
        experiment_id=head.experiment_id,
        name=head.name,
        artifact_uri=head.artifact_uri,
        model_type=head.model_type,
        source_run_id=head.source_run_id,
        status=head.status,  # type: ignore[arg-type]
        lifecycle_stage=head.lifecycle_stage,
        created_ms=head.created_ms,
        updated_ms=head.updated_ms,
        params=dict(sorted(found.params.items())),
        tags=dict(sorted(found.tags.items())),
        metrics=await _measured(conn, model_id, vector),
    )


async def _measured(conn: Connection, model_id: str, vector: Vector) -> list[MeasuredMetric]:
    rows = await conn.fetch("SELECT DISTINCT run_id FROM model_metric WHERE model_id = $1", model_id)
    there = await born(conn, [row["run_id"] for row in rows], vector)
    found: list[MeasuredMetric] = []
    for run_id in sorted(there):
        end = below(vector, Topic.METRICS, run_id)
        segments = await conn.fetch(
            "SELECT head, data FROM segment WHERE run_id = $1 AND first_offset < $2", run_id, end
        )
        found += await asyncio.to_thread(_latest, segments, model_id, run_id, end)
    return sorted(found, key=lambda m: (m.key, m.run_id, m.dataset_name or "", m.dataset_digest or ""))


def _latest(segments: Iterable[Any], model_id: str, run_id: str, end: int) -> list[MeasuredMetric]:
    best: dict[tuple[str, str | None, str | None], tuple[Any, MeasuredMetric]] = {}
    for row in segments:
        for whole, offsets in read_segment_dated(row["head"], row["data"]):
            if whole.model_id != model_id:
                continue
            frame = until_offset(whole, offsets, end)
            dataset = (frame.dataset_name or None, frame.dataset_digest or None)
            for at, value in enumerate(frame.values):
                place, column = divmod(at, len(frame.keys))
                key, step, time_ms = frame.keys[column], frame.steps[place], frame.times[place]
                rank = (time_ms, step, Latest(value, step, time_ms).order()[2:5])
                name = (key, *dataset)
                if name not in best or best[name][0] < rank:
                    best[name] = (rank, MeasuredMetric(key, value, step, time_ms, model_id, *dataset, run_id))
    return [metric for _, metric in best.values()]
