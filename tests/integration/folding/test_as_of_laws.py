"""An entity as of a vector is what a fold has that stopped there: runs, experiments and series, however the log was cut
into batches, merged, and where states were kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from runfold_projections.core.projection import Projection
from runfold_projections.core.rejection import Rejection
from runfold_projections.experiments import fold as experiments
from runfold_projections.experiments.as_of import experiment_at, experiment_named_at
from runfold_projections.folding.decoding import decode_batch
from runfold_projections.history import journal as journals
from runfold_projections.history.cutoff import existing_runs
from runfold_projections.history.journal_reader import load_events
from runfold_projections.metrics.summaries import Block
from runfold_projections.runs import fold as runs
from runfold_projections.runs.as_of import run_at, run_shown_at
from runfold_projections.series.full_history import HistoryFilter, read_histories
from runfold_projections.series.latest import history as key_history
from runfold_projections.series.points import read_series
from runfold_projections.series.summaries_as_of import blocks_at
from runfold_projections.series.visible_points import read_visible_runs
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Raw
from runfold_schemas.events.runs import RunCreated, RunFact
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector
from tests.support.histories.folded_logs import folded, told
from tests.support.histories.generator import KEYS, RUNS, WORKSPACES, Scribe, history
from tests.support.histories.visible_points import EXISTING, Point, shown, told_by
from tests.support.services.running import Services


@pytest.fixture(autouse=True)
def states_are_kept_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "EVERY", 2)


def vector(**ends: int) -> Vector:
    return {Partition(topic, 0): ends.get(topic.value, 0) for topic in (Topic.EXPERIMENTS, Topic.RUNS, Topic.METRICS)}


def runs_of(raws: Sequence[Raw]) -> dict[str, runs.RunState]:
    found: dict[str, runs.RunState] = {}
    for record in told(raws):
        if isinstance(record.event, RunFact):
            state = found.get(record.entity)
            answer = runs.fold(state, record)
            if not isinstance(answer, Rejection) and (state is not None or answer.head is not None):
                found[record.entity] = runs.evolve(state, answer)
    return found


def experiments_of(raws: Sequence[Raw]) -> experiments.Experiments:
    state = experiments.Experiments()
    for record in told(raws):
        answer = experiments.fold(state, record)
        if not isinstance(answer, Rejection):
            state.put(answer)
    return state


@pytest.mark.parametrize("seed", range(3))
async def test_a_run_as_of_an_offset_is_what_a_fold_has_that_stopped_there(services: Services, seed: int) -> None:
    rng = Random(seed)
    raws = history(Projection.RUNS, rng, 300)
    async with folded(services, {Projection.RUNS: raws}, rng) as connection:
        assert await connection.fetchval("SELECT count(*) FROM journal_state") > 3
        for end in [0, 1, *rng.sample(range(2, 300), 30), 301]:
            expected, at = runs_of(raws[:end]), vector(runs=end)
            assert {r: await run_at(connection, r, at) for r in RUNS} == {r: expected.get(r) for r in RUNS}
            assert await existing_runs(connection, RUNS, at) == set(expected)


@pytest.mark.parametrize("seed", range(3))
async def test_an_experiment_as_of_an_offset_is_what_a_fold_has_that_stopped_there(
    services: Services, seed: int
) -> None:
    rng = Random(seed)
    raws = history(Projection.EXPERIMENTS, rng, 300)
    async with folded(services, {Projection.EXPERIMENTS: raws}, rng) as connection:
        assert await connection.fetchval("SELECT count(*) FROM journal_state") > 3
        for end in [0, 1, *rng.sample(range(2, 300), 30), 301]:
            expected, at = experiments_of(raws[:end]), vector(experiments=end)
            for number in range(12):
                one, found = expected.by_id.get(number), await experiment_at(connection, number, at)
                assert (one is None) == (found is None)
                if one is not None and found is not None:
                    assert all(getattr(found, name) == getattr(one, name) for name in found.__slots__)
            for workspace, name in itertools.product(WORKSPACES, ["one", "two", "three", "four", "five", "Default"]):
                named = await experiment_named_at(connection, workspace, name, at)
                assert (named and named.experiment_id) == expected.by_name.get((workspace, name))


async def test_a_run_of_an_experiment_that_was_deleted_then_is_shown_as_deleted(services: Services) -> None:
    rng = Random(11)
    logs = {p: history(p, rng, 250) for p in (Projection.EXPERIMENTS, Projection.RUNS)}
    seen = set()
    async with folded(services, logs, rng) as connection:
        for _ in range(150):
            ends = {p.value: rng.randint(0, 251) for p in logs}
            held = experiments_of(logs[Projection.EXPERIMENTS][: ends["experiments"]]).by_id
            for run_id, run in runs_of(logs[Projection.RUNS][: ends["runs"]]).items():
                experiment = held.get(run.head.experiment_id)
                deleted = experiment is not None and experiment.lifecycle_stage == "deleted"
                found = await run_shown_at(connection, run_id, vector(**ends))
                assert found is not None
                assert found.lifecycle_stage == ("deleted" if deleted else run.head.lifecycle_stage)
                seen.add((deleted, run.head.lifecycle_stage))
    assert len(seen) == 4


def born_in_time() -> list[Raw]:
    scribe = Scribe(Partition(Topic.RUNS, 0))
    scribe.genesis()
    for run_id in EXISTING:
        scribe.append(RunCreated(run_id=run_id, experiment_id=1, name="n", user_id="u", start_ms=1, artifact_uri="a"))
    return scribe.log


@pytest.mark.parametrize("seed", range(3))
async def test_series_as_of_an_offset_are_those_of_a_fold_that_stopped_there(services: Services, seed: int) -> None:
    rng = Random(seed)
    raws = history(Projection.METRICS, rng, 250)
    logs = {Projection.RUNS: born_in_time(), Projection.METRICS: raws}
    async with folded(services, logs, rng, most=20) as connection:
        assert await connection.fetchval("SELECT count(*) FROM segment WHERE head > 0 AND first_offset < last_offset")
        for end in [0, *rng.sample(range(1, 250), 15), 251]:
            at, stopped = vector(runs=4, metrics=end), told_by(raws[:end])
            for branches in ("effective", "all"):
                lines = await read_visible_runs(connection, RUNS, branches, at)
                found = await read_series(connection, RUNS, KEYS, lines)
                expected = {run_id: shown(stopped, run_id, branches) for run_id in RUNS}
                assert {run_id: points_in(found, run_id) for run_id in RUNS} == expected
            sources = [one async for one in read_histories(connection, EXISTING, KEYS[:3], HistoryFilter(), at)]
            assert {(s.run_id, s.key) for s in sources} == {
                (run_id, point[0]) for run_id in EXISTING for point in shown(stopped, run_id, "effective")
            }
            rows = await key_history(connection, "r0", "a", at)
            points = {point[2:] for point in shown(stopped, "r0", "effective") if point[0] == "a"}
            assert {(step, time) for step, time, _ in points} == set(zip(rows.steps, rows.times, strict=True))
        not_yet = await read_visible_runs(connection, EXISTING, "effective", vector(runs=1, metrics=251))
        assert await read_series(connection, EXISTING, KEYS, not_yet) == {}


def points_in(found: Any, run_id: str) -> set[Point]:
    return {
        (key, piece.rank, step, time, value.hex())
        for (of, key), pieces in found.items()
        if of == run_id
        for piece in pieces
        for step, time, value in zip(*(column.tolist() for column in piece.columns), strict=True)
    }


@pytest.mark.parametrize("seed", range(3))
async def test_summaries_as_of_an_offset_are_those_of_a_fold_that_stopped_there(services: Services, seed: int) -> None:
    rng = Random(seed)
    raws = history(Projection.METRICS, rng, 200)
    async with folded(services, {Projection.METRICS: raws}, rng, most=20) as connection:
        for end in rng.sample(range(1, 200), 6):
            async with folded(services, {Projection.METRICS: raws[:end]}, rng, most=50) as stopped:
                for run_id in RUNS:
                    expected = summed(await blocks_at(stopped, run_id, vector(metrics=end)))
                    assert summed(await blocks_at(connection, run_id, vector(metrics=end))) == expected


def summed(blocks: Sequence[Block]) -> dict[str, str]:
    return {key: repr(summary) for block in blocks for key, summary in block.summaries()}


@pytest.mark.parametrize("projection", [Projection.RUNS, Projection.EXPERIMENTS])
async def test_the_journal_has_every_event_of_an_entity_once_with_its_outcome(
    services: Services, projection: Projection
) -> None:
    rng = Random(7)
    raws = history(projection, rng, 300)
    async with folded(services, {projection: raws}, rng) as connection:
        refused = {
            row["log_offset"]: row["code"] for row in await connection.fetch("SELECT log_offset, code FROM rejection")
        }
        assert refused
        entities = [row["entity"] for row in await connection.fetch("SELECT DISTINCT entity FROM journal")]
        found = {}
        for entity in entities:
            events = await load_events(connection, projection, entity, end_offset=1000, rows=1000, newest=False)
            offsets = [one.entry.offset for one in events]
            assert offsets == sorted(set(offsets))
            for where, entry in events:
                assert (
                    entry.record(where).event
                    == decode_batch([raws[entry.offset]], released_catalog(), 1).records[0].event
                )
                assert (
                    entry.record(where).envelope
                    == decode_batch([raws[entry.offset]], released_catalog(), 1).records[0].envelope
                )
                assert entry.code == refused.get(entry.offset, "")
                found[entry.offset] = entity
        of_nobody = {
            record.position.offset
            for record in told(raws)
            if isinstance(record.event, Genesis) and projection is Projection.RUNS
        }
        assert set(found) == {record.position.offset for record in told(raws)} - of_nobody
