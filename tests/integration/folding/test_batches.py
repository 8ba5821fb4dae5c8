"""The same log gives the same rows in real tables, whatever the batches, the crashes and the repeated deliveries."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from runfold_projections.catalog import COMMON_TABLES, canonical_tables, entities_of
from runfold_projections.control.migrations import migrate
from runfold_projections.core.canonical import Row
from runfold_projections.core.errors import Fenced
from runfold_projections.core.projection import Projection
from runfold_projections.core.projector import Projector
from runfold_projections.core.rejection import Rejection
from runfold_projections.folding import partition_fold as batches
from runfold_projections.folding.checkpoint import Checkpoint, load
from runfold_projections.folding.decoding import Decoded, decode_batch
from runfold_projections.folding.partition_fold import PartitionFold
from runfold_projections.folding.topic_projector import projector_for
from runfold_projections.generations.canonical_rows import canonical_rows
from runfold_projections.metrics.branches import NO_RANK
from runfold_projections.metrics.summaries import Latest, Summary
from runfold_projections.model_metrics import model_blocks
from runfold_projections.postgres.batch_statement import RowChange
from runfold_projections.postgres.connection import Connection, open_connection
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.envelope import Writer
from runfold_schemas.codec.record import Raw, Record
from runfold_schemas.events.artifacts import ArtifactStored
from runfold_schemas.events.experiments import ExperimentCreated
from runfold_schemas.events.frames import Point, from_points
from runfold_schemas.events.logged_models import LoggedModelCreated
from runfold_schemas.events.metrics import AttemptStarted, MetricsLogged, RunForked, RunRewound
from runfold_schemas.events.registered_models import ModelAliasSet, ModelVersionCreated, RegisteredModelCreated
from runfold_schemas.events.runs import (
    DatasetInput,
    InputsLogged,
    ModelOutput,
    OutputsLogged,
    ParamsLogged,
    RunCreated,
    TagsSet,
)
from runfold_schemas.events.system import Genesis
from runfold_schemas.events.webhooks import WebhookCreated
from runfold_schemas.positions.position import Partition
from tests.support.histories.branch_model import Model, Said
from tests.support.histories.generator import WRITERS, Scribe, cut, history
from tests.support.services.running import Services

NAMESPACE = "batches"
Rows = list[tuple[str, Row]]


class Crash(Exception):
    """What a killed worker or a lost connection is to a transaction."""


class Breaking:
    """A projector that fails when told to."""

    at = ""

    def __init__(self, inner: Projector) -> None:
        self._inner = inner

    def forget(self) -> None:
        self._inner.forget()

    async def load(self, connection: Connection, records: Sequence[Record]) -> None:
        await self._inner.load(connection, records)
        self._maybe("load")

    def fold(self, record: Record) -> object:
        answer = self._inner.fold(record)
        self._maybe("fold")
        return answer

    def touched(self, record: Record, rejection: Rejection | None) -> Sequence[str]:
        return self._inner.touched(record, rejection)

    def state(self, entity: str) -> bytes | None:
        return self._inner.state(entity)

    async def load_deferred(self, connection: Connection) -> None:
        await self._inner.load_deferred(connection)
        self._maybe("load_deferred")

    def repeated(self, offsets: Sequence[int]) -> list[RowChange]:
        return self._inner.repeated(offsets)

    def committed(self) -> None:
        self._inner.committed()

    def changes(self) -> list[RowChange]:
        changes = self._inner.changes()
        self._maybe("changes")
        return changes

    def _maybe(self, what: str) -> None:
        if Breaking.at == what:
            raise Crash(what)


@asynccontextmanager
async def emptied(services: Services, projection: Projection) -> AsyncIterator[Connection]:
    """A connection to a generation without rows."""
    await migrate(services.postgres, NAMESPACE)
    schema = f"{NAMESPACE}_{projection.value}_1"
    async with open_connection(services.postgres, schema, application="test") as connection:
        await clear(connection, projection)
        yield connection


async def clear(connection: Connection, projection: Projection) -> None:
    await connection.execute(f"TRUNCATE {', '.join(tables_of(projection))}")


def tables_of(projection: Projection) -> list[str]:
    own = [table for entity in entities_of(projection) for table in entity.tables]
    return [table.name for table in (*COMMON_TABLES, *own)]


async def rows_of(connection: Connection, projection: Projection) -> Rows:
    async with connection.transaction(isolation="repeatable_read"):
        return [row async for row in canonical_rows(connection, projection)]


def new_fold(projection: Projection) -> PartitionFold:
    return PartitionFold(NAMESPACE, projection, Partition(projection.topic, 0), 1)


async def apply(
    connection: Connection, fold: PartitionFold, before: Checkpoint | None, raws: Sequence[Raw]
) -> Checkpoint | None:
    applied = await fold.apply(connection, before, decode_batch(raws, released_catalog(), 1, declared=()))
    return applied.checkpoint


async def whole(connection: Connection, projection: Projection, raws: Sequence[Raw]) -> Rows:
    """Folded as one batch."""
    await apply(connection, new_fold(projection), None, raws)
    return await rows_of(connection, projection)


def spoilt(rng: Random, raws: Sequence[Raw]) -> list[Raw]:
    """The log with some poison in it, but for its genesis."""
    poison = (b"", b"\xff\x00", b"\x00\x7f\xff\xff\xff1", None)
    return [
        replace(raw, value=rng.choice(poison)) if raw.position.offset and rng.random() < 0.1 else raw for raw in raws
    ]


@pytest.mark.parametrize("projection", list(Projection))
@pytest.mark.parametrize("seed", range(9))
async def test_cuts_crashes_and_repeated_deliveries_change_no_row(
    services: Services, monkeypatch: pytest.MonkeyPatch, projection: Projection, seed: int
) -> None:
    rng = Random(seed)
    raws = spoilt(rng, history(projection, rng, 20 + 15 * seed))
    monkeypatch.setattr(batches, "projector_for", lambda *of: Breaking(projector_for(*of)))
    Breaking.at = ""
    where = Partition(projection.topic, 0)
    crashes = 0
    async with emptied(services, projection) as connection:
        expected = await whole(connection, projection, raws)
        await clear(connection, projection)
        fold, checkpoint = new_fold(projection), None
        while (at := checkpoint.next_offset if checkpoint else 0) < len(raws):
            batch = raws[at : at + rng.randint(1, 9)]
            before = checkpoint
            Breaking.at = rng.choice(["", "", "load", "fold", "load_deferred", "changes"])
            try:
                checkpoint = await apply(connection, fold, before, batch)
            except Crash:
                crashes += 1
                assert await load(connection, where) == before, "nothing of a broken batch stays"
                fold.forget()
            Breaking.at = ""
            happening = rng.randint(0, 5)
            if happening == 0:
                # The answer to COMMIT was lost, or a new worker starts.
                fold = new_fold(projection)
                checkpoint = await load(connection, where)
            elif happening == 1 and checkpoint != before:
                # A worker that was taken for dead delivers the same batch once more.
                with pytest.raises(Fenced):
                    await apply(connection, new_fold(projection), before, batch)
        assert await rows_of(connection, projection) == expected
    assert crashes or seed == 0


@pytest.mark.parametrize("projection", list(Projection))
async def test_a_batch_of_a_worker_that_lost_its_partition_changes_nothing(
    services: Services, projection: Projection
) -> None:
    raws = history(projection, Random(1), 40)
    async with emptied(services, projection) as connection:
        stale, fresh = new_fold(projection), new_fold(projection)
        start = await apply(connection, stale, None, raws[:10])
        await apply(connection, fresh, start, raws[10:30])
        before = await rows_of(connection, projection)
        for moved in (start, None, Checkpoint("log", "00000000-0000-0000-0000-0000000000ff", 30, 0)):
            with pytest.raises(Fenced):
                await apply(connection, stale, moved, raws[10:] if moved else raws)
            assert await rows_of(connection, projection) == before
            stale.forget()
        await apply(connection, stale, await load(connection, Partition(projection.topic, 0)), raws[30:])
        after = await rows_of(connection, projection)
        await clear(connection, projection)
        assert after == await whole(connection, projection, raws)


async def test_points_in_the_tables_are_the_points_of_the_log(services: Services) -> None:
    """Against a model that reads the log record by record."""
    raws = history(Projection.METRICS, Random(5), 120)
    points, seen = set(), set()
    for record in decode_batch(raws, released_catalog(), 1).records:
        writer = record.envelope.writer
        identity = (record.entity, writer.id, record.envelope.sequence)
        again = identity in seen
        seen.add(identity)
        if not isinstance(record.event, MetricsLogged) or again:
            continue
        for frame in record.event.frames:
            context = tuple(text or "" for text in (frame.model_id, frame.dataset_name, frame.dataset_digest))
            for place, value in enumerate(frame.values):
                row, column = divmod(place, len(frame.keys))
                source = (record.entity, writer.attempt, -1 if writer.rank is None else writer.rank)
                points.add((*source, frame.keys[column], frame.steps[row], frame.times[row], value.hex(), *context))
    async with emptied(services, Projection.METRICS) as connection:
        rows = await whole(connection, Projection.METRICS, raws)
    fields = len(next(iter(points)))
    assert {row[:fields] for table, row in rows if table == "point"} == points


@pytest.mark.parametrize("seed", range(6))
async def test_summaries_are_of_the_points_that_nothing_cut_off(services: Services, seed: int) -> None:
    """Against a model that compares every point with every event; batch by batch, so that cuts meet points at rest."""
    rng = Random(seed)
    raws = history(Projection.METRICS, rng, 150)
    models: dict[str, Model] = {}
    points: dict[str, list[tuple[str, Latest]]] = {}
    seen = set()
    for record in decode_batch(raws, released_catalog(), 1).records:
        writer, event = record.envelope.writer, record.event
        identity = (record.entity, writer.id, record.envelope.sequence)
        if isinstance(event, Genesis) or identity in seen:
            continue
        seen.add(identity)
        told = Said("else", writer.attempt, NO_RANK if writer.rank is None else writer.rank, *identity[1:], 0, False)
        model = models.setdefault(record.entity, Model())
        if isinstance(event, RunRewound):
            model.tell(record.position.offset, told._replace(kind="rewind", step=event.step, everyone=event.all_ranks))
        elif isinstance(event, AttemptStarted) and event.start_step is not None:
            start = told._replace(kind="start", step=event.start_step, everyone=event.all_ranks)
            model.tell(record.position.offset, start)
        elif isinstance(event, MetricsLogged):
            model.tell(record.position.offset, told)
            for key, latest in _points(event):
                model.tell(record.position.offset, told._replace(kind="point", step=latest.step))
                points.setdefault(record.entity, []).append((key, latest))
        else:
            model.tell(record.position.offset, told)
    shown: dict[tuple[str, str], list[Latest]] = {}
    for run_id, own in points.items():
        for (key, latest), effective in zip(own, models[run_id].effective(), strict=True):
            if effective:
                shown.setdefault((run_id, key), []).append(latest)
    expected = {name: _summary(own) for name, own in shown.items()}
    async with emptied(services, Projection.METRICS) as connection:
        fold, checkpoint = new_fold(Projection.METRICS), None
        for batch in cut(rng, raws, 5):
            checkpoint = await apply(connection, fold, checkpoint, batch)
            if rng.random() < 0.2:
                fold.forget()
        rows = [row for table, row in await rows_of(connection, Projection.METRICS) if table == "metric"]
    assert rows == [
        (
            run_id,
            key,
            repr(of.latest.value),
            of.latest.step,
            of.latest.time_ms,
            None if of.least is None else repr(of.least),
            None if of.most is None else repr(of.most),
            of.latest.model_id,
            of.latest.dataset_name,
            of.latest.dataset_digest,
        )
        for (run_id, key), of in sorted(expected.items())
    ]
    assert sum(not effective for model in models.values() for effective in model.effective())


def _summary(points: Sequence[Latest]) -> Summary:
    numbers = [point.value + 0.0 for point in points if point.value == point.value]
    return Summary(max(points, key=Latest.order), min(numbers, default=None), max(numbers, default=None))


def _points(event: MetricsLogged) -> Iterator[tuple[str, Latest]]:
    for frame in event.frames:
        context = (frame.model_id or None, frame.dataset_name or None, frame.dataset_digest or None)
        for place, value in enumerate(frame.values):
            row, column = divmod(place, len(frame.keys))
            yield frame.keys[column], Latest(value, frame.steps[row], frame.times[row], *context)


@pytest.mark.parametrize(("seed", "wide"), [(0, 64), (1, 64), (2, 1), (3, 1), (4, 2), (5, 3)])
async def test_what_was_measured_of_models_is_of_all_points_that_name_them_cut_off_or_not(
    services: Services, seed: int, wide: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_blocks, "WIDE", wide)
    rng = Random(seed)
    raws = history(Projection.METRICS, rng, 120)
    points: dict[tuple[str, ...], list[tuple[int, int, float]]] = {}
    seen = set()
    for record in decode_batch(raws, released_catalog(), 1).records:
        identity = (record.entity, record.envelope.writer.id, record.envelope.sequence)
        if isinstance(record.event, Genesis) or identity in seen:
            continue
        seen.add(identity)
        for frame in record.event.frames if isinstance(record.event, MetricsLogged) else ():
            for place, value in enumerate(frame.values):
                row, column = divmod(place, len(frame.keys))
                name = (frame.model_id or "", record.entity, frame.keys[column])
                measured: tuple[str, ...] = (*name, frame.dataset_name or "", frame.dataset_digest or "")
                points.setdefault(measured, []).append((frame.times[row], frame.steps[row], value + 0.0))
    expected = []
    for measured, own in points.items():
        if not measured[0]:
            continue
        time_ms, step, value = max(own, key=lambda p: (p[0], p[1], p[2] != p[2], 0.0 if p[2] != p[2] else p[2]))
        numbers = [value for *_, value in own if value == value]
        extremes = [repr(bound(numbers)) if numbers else None for bound in (min, max)]
        expected.append((*measured, time_ms, step, repr(value), *extremes))
    async with emptied(services, Projection.METRICS) as connection:
        fold, checkpoint = new_fold(Projection.METRICS), None
        for batch in cut(rng, raws, 5):
            checkpoint = await apply(connection, fold, checkpoint, batch)
        rows = [row for table, row in await rows_of(connection, Projection.METRICS) if table == "model_metric"]
        assert bool(await connection.fetchval("SELECT count(*) FROM model_block")) == (wide < 64)
    assert sorted(rows, key=repr) == sorted(expected, key=repr)
    assert expected


async def test_a_batch_without_records_moves_the_checkpoint_alone(services: Services) -> None:
    """Offsets that Kafka took for itself are passed."""
    async with emptied(services, Projection.RUNS) as connection:
        fold = new_fold(Projection.RUNS)
        start = await apply(connection, fold, None, history(Projection.RUNS, Random(2), 10))
        assert start is not None
        before = await rows_of(connection, Projection.RUNS)
        applied = await fold.apply(connection, start, Decoded(next_offset=99, broker_ms=7))
        assert applied.checkpoint == replace(start, next_offset=99, broker_ms=7)
        after = await rows_of(connection, Projection.RUNS)
        assert [row for row in after if row[0] != "checkpoint"] == [row for row in before if row[0] != "checkpoint"]


def _wide(rng: Random, chars: int) -> str:
    """Four bytes a character, and nothing for Postgres to compress."""
    return "".join(chr(rng.randrange(0x20000, 0x2A000)) for _ in range(chars))


async def _takes(services: Services, projection: Projection, fill: Any) -> Rows:
    scribe = Scribe(Partition(projection.topic, 0))
    scribe.genesis()
    fill(scribe)
    async with emptied(services, projection) as connection:
        return await whole(connection, projection, scribe.log)


async def test_the_longest_texts_of_the_contract_fit_into_every_index(services: Services) -> None:
    rng = Random(3)
    widest = Writer(_wide(rng, 250), _wide(rng, 256), 0, _wide(rng, 256))
    workspace = _wide(rng, 256)

    def experiments(scribe: Scribe) -> None:
        event = ExperimentCreated(name=_wide(rng, 500), tags={_wide(rng, 250): _wide(rng, 5000)})
        scribe.append(event, writer=widest, workspace=_wide(rng, 256))

    def registry(scribe: Scribe) -> None:
        name, text, tags = _wide(rng, 256), _wide(rng, 5000), {_wide(rng, 250): _wide(rng, 5000)}
        for event in (
            RegisteredModelCreated(name=name, description=text, tags=tags),
            ModelVersionCreated(
                name=name, source=text, storage_location=text, run_id=text, run_link=text, model_id=text, tags=tags
            ),
            ModelAliasSet(name=name, alias=_wide(rng, 255), version=1),
            LoggedModelCreated(
                model_id="m" * 256,
                experiment_id=1,
                name=_wide(rng, 500),
                artifact_uri=text,
                model_type=text,
                source_run_id="r" * 256,
                params=tags,
                tags=tags,
            ),
            WebhookCreated(
                webhook_id="w" * 36,
                name=_wide(rng, 500),
                url="https://x/" + "y" * 1990,
                kinds=["runfold.registry.ModelVersionCreated"],
                description=text,
            ),
        ):
            scribe.append(event, writer=widest, workspace=workspace)

    def runs(scribe: Scribe) -> None:
        run_id = "r" * 256
        data = DatasetInput(name=_wide(rng, 500), digest=_wide(rng, 250), source_type="x", source=_wide(rng, 5000))
        scribe.append(
            RunCreated(run_id=run_id, experiment_id=0, name=_wide(rng, 5000), start_ms=1, artifact_uri="u"),
            writer=widest,
        )
        scribe.append(InputsLogged(run_id=run_id, datasets=[data], models=[_wide(rng, 250)]), writer=widest)
        made = ModelOutput(model_id=_wide(rng, 250), step=1)
        scribe.append(OutputsLogged(run_id=run_id, models=[made]), writer=widest)
        scribe.append(ParamsLogged(run_id=run_id, params={_wide(rng, 250): _wide(rng, 5000)}), writer=widest)
        scribe.append(TagsSet(run_id=run_id, tags={_wide(rng, 250): _wide(rng, 5000)}), writer=widest)
        stored = ArtifactStored(
            owner=_wide(rng, 125), path=_wide(rng, 450), size=1, sha256="0" * 64, object_key=_wide(rng, 250)
        )
        scribe.append(stored, writer=widest)

    def metrics(scribe: Scribe) -> None:
        points = [Point(_wide(rng, 250), 1.0, 0, 0, _wide(rng, 250), _wide(rng, 500), _wide(rng, 250))]
        run_id = "r" * 256
        scribe.append(MetricsLogged(run_id, from_points(points)), writer=widest)
        for event in (
            AttemptStarted(run_id=run_id, start_step=0),
            RunRewound(run_id=run_id, step=0),
            RunForked(run_id=run_id, parent_run_id="p" * 256, parent_branch=0, step=0),
        ):
            scribe.append(event, writer=widest)

    for projection, fill in zip(Projection, (experiments, registry, runs, metrics), strict=True):
        rows = await _takes(services, projection, fill)
        assert not [row for row in rows if row[0] in ("set_aside", "rejection")]
        common = {table.name for table in COMMON_TABLES}
        own = {name for name, _ in canonical_tables(projection)} - {*common, "segment", "metric_block"}
        assert {table for table, _ in rows} >= own | {"sequence"}


async def test_an_event_id_used_twice_stops_nothing(services: Services) -> None:
    def fill(scribe: Scribe) -> None:
        same = "01890000-0000-7000-8000-000000000001"
        scribe.append(ExperimentCreated(name="one"), writer=WRITERS[0], event_id=same)
        scribe.append(ExperimentCreated(name="two"), writer=WRITERS[1], event_id=same)

    rows = await _takes(services, Projection.EXPERIMENTS, fill)
    assert [row[2] for table, row in rows if table == "experiment"] == ["Default", "one", "two"]
