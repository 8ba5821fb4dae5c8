"""Which points an event logs anew, out of segments: as a look at every event before it has it, however they were cut
into batches and merged.
"""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

from runfold_projections.core.projection import Projection
from runfold_projections.metrics.branches import NO_RANK
from runfold_projections.series.duplicates import LoggedPoints, find_duplicates, last_steps
from runfold_schemas.codec.record import Record
from runfold_schemas.events.metrics import MetricsLogged
from tests.support.histories.folded_logs import folded, told
from tests.support.histories.generator import history
from tests.support.histories.visible_points import Told
from tests.support.services.running import Services


def asked_of(record: Record) -> list[LoggedPoints]:
    event, writer = record.event, record.envelope.writer
    if not isinstance(event, MetricsLogged):
        return []
    rank = NO_RANK if writer.rank is None else writer.rank
    found = []
    for frame in event.frames:
        table: Any = np.array(frame.values).reshape(frame.rows, len(frame.keys))
        steps, times = np.array(frame.steps, np.int64), np.array(frame.times, np.int64)
        found += [
            LoggedPoints(
                event.run_id, key, writer.attempt, rank, record.position.offset, steps, times, table[:, column]
            )
            for column, key in enumerate(frame.keys)
            if frame.rows
        ]
    return found


@pytest.mark.parametrize("seed", range(4))
async def test_a_point_was_logged_before_if_an_event_before_had_it_on_the_same_branch(
    services: Services, seed: int
) -> None:
    rng = Random(seed)
    raws = history(Projection.METRICS, rng, 300)
    runs: dict[str, Told] = {}
    asked: list[LoggedPoints] = []
    expected: list[list[bool]] = []
    known: set[Any] = set()
    steps: dict[Any, int] = {}
    bounds: list[int | None] = []
    async with folded(services, {Projection.METRICS: raws}, rng) as connection:
        for record in told(raws):
            run = runs.setdefault(record.entity, Told())
            before = len(run.points)
            run.tell(record)
            branch = run.points[before][0] if len(run.points) > before else None
            own = asked_of(record)
            for one in own:
                source = (one.run_id, one.attempt, one.rank, branch, one.key)
                rows = [
                    (*source, *row, value.hex())
                    for *row, value in zip(one.steps.tolist(), one.times.tolist(), one.values.tolist(), strict=True)
                ]
                expected.append([row in known for row in rows])
                bounds.append(steps.get((one.run_id, one.key, one.attempt, one.rank)))
                asked.append(one)
            for one in own:
                source = (one.run_id, one.attempt, one.rank, branch, one.key)
                known |= {
                    (*source, *row, value.hex())
                    for *row, value in zip(one.steps.tolist(), one.times.tolist(), one.values.tolist(), strict=True)
                }
                series = (one.run_id, one.key, one.attempt, one.rank)
                steps[series] = max(steps.get(series, -(2**63)), int(one.steps.max()))
        found = await find_duplicates(connection, asked)
        assert [one.mask.tolist() for one in found] == expected
        assert sum(map(sum, expected)) > 10
        assert sum(not all(mask) for mask in expected) > 10
        for one, before_it in zip(asked, found, strict=True):
            assert before_it.latest_ms >= int(one.times.max())
        for bound, there in zip(await last_steps(connection, asked), bounds, strict=True):
            assert there is None or (bound is not None and bound >= there)
