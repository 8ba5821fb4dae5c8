"""The history of one field skips most events, and equals the history read from all of them."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from runfold_projections.core.entity_history import EntityHistory, field_changes, skip_filter
from runfold_projections.core.projection import Projection
from runfold_projections.core.rejection import Rejection
from runfold_projections.experiments import fold as experiments
from runfold_projections.experiments.history import ExperimentHistory
from runfold_projections.history.journal import JournalEntry
from runfold_projections.history.journal_reader import HistoryEvent
from runfold_projections.history.why import settings_among
from runfold_projections.logged_models import fold as logged_models
from runfold_projections.logged_models.history import LoggedModelHistory
from runfold_projections.registry.history import RegisteredModelHistory
from runfold_projections.registry.projector import RegisteredModelsProjector
from runfold_projections.runs import fold as runs
from runfold_projections.runs.history import RunHistory
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Raw, Record, read_record
from runfold_schemas.events.logged_models import LoggedModelFact
from runfold_schemas.events.registered_models import RegisteredModelFact
from runfold_schemas.events.runs import ParamsLogged, RunFact, TagsDeleted, TagsSet
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.position import Partition
from tests.support.histories.generator import Scribe, history
from tests.support.histories.registry import KINDS

laws = settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
Accepted = Iterator[tuple[EntityHistory[Any], Record]]


def read(raws: Sequence[Raw]) -> list[Record]:
    return [read_record(raw, released_catalog(), 1) for raw in raws]


def log_of(projection: Projection, rng: Random, length: int) -> list[Record]:
    return read(history(projection, rng, length, repeats=False))


def log_of_models(rng: Random, length: int) -> list[Record]:
    scribe = Scribe(Partition(Projection.REGISTRY.topic, 0))
    for _ in range(length):
        # A few models, more often than in the topic's generated history.
        scribe.append(rng.choice(KINDS)(rng))
    return read(scribe.log)


def of_runs(log: Sequence[Record]) -> Accepted:
    states: dict[str, runs.RunState] = {}
    for record in log:
        if not isinstance(record.event, RunFact):
            continue
        state = states.get(record.entity)
        answer = runs.fold(state, record)
        if not isinstance(answer, Rejection):
            states[record.entity] = runs.evolve(state, answer)
            yield RunHistory(record.entity), record


def of_experiments(log: Sequence[Record]) -> Accepted:
    state = experiments.Experiments()
    for record in log:
        answer = experiments.fold(state, record)
        if not isinstance(answer, Rejection):
            state.put(answer)
            yield ExperimentHistory(answer.experiment_id), record


def of_logged_models(log: Sequence[Record]) -> Accepted:
    states: dict[str, logged_models.LoggedModelState] = {}
    for record in log:
        if not isinstance(record.event, LoggedModelFact):
            continue
        model_id = record.event.model_id
        answer = logged_models.fold(states.get(model_id), record)
        if not isinstance(answer, Rejection):
            states[model_id] = logged_models.evolve(states.get(model_id), answer)
            yield LoggedModelHistory(model_id), record


def of_registered_models(log: Sequence[Record]) -> Accepted:
    projector = RegisteredModelsProjector()
    for record in log:
        if isinstance(record.event, Genesis) or not isinstance(record.event, RegisteredModelFact):
            continue
        rejection = projector.fold(record)
        if rejection is None:
            for entity in projector.touched(record, rejection):
                yield RegisteredModelHistory(int(entity.removeprefix("model:"))), record


def histories_of(accepted: Accepted) -> list[tuple[EntityHistory[Any], list[HistoryEvent]]]:
    found: dict[str, tuple[EntityHistory[Any], list[HistoryEvent]]] = {}
    for entity, record in accepted:
        event = HistoryEvent(record.position.where, JournalEntry.of(record, None))
        found.setdefault(entity.entity, (entity, []))[1].append(event)
    return list(found.values())


def all_settings(entity: EntityHistory[Any], events: Sequence[HistoryEvent]) -> dict[str, list[tuple[int, Any, Any]]]:
    """Return the events that set each field, the newest first, by comparing all fields at every event."""
    found: dict[str, list[tuple[int, Any, Any]]] = {}
    state = entity.start()
    for event in events:
        before = entity.fields(state)
        state = entity.step(state, event.entry.record(event.where))[1]()
        for one in field_changes(before, entity.fields(state)):
            found.setdefault(one["field"], []).insert(0, (event.entry.offset, one["from"], one["to"]))
    return found


def agrees(accepted: Accepted) -> int:
    """Check every field of every entity; return how many events were skipped."""
    skipped = 0
    for entity, events in histories_of(accepted):
        for name, expected in all_settings(entity, events).items():
            assert [
                (s.event.entry.offset, s.before, s.after) for s in settings_among(entity, events, name)
            ] == expected, name
            can_skip = skip_filter(entity.skippable(name))
            skipped += sum(can_skip(event.entry.value) for event in events)
        assert settings_among(entity, events, "no.such") == []
    return skipped


@laws
@given(st.randoms(use_true_random=False), st.integers(0, 80))
def test_what_set_a_field_of_a_run_is_seen_without_the_events_that_have_nothing_to_do_with_it(
    rng: Random, length: int
) -> None:
    agrees(of_runs(log_of(Projection.RUNS, rng, length)))


@laws
@given(st.randoms(use_true_random=False), st.integers(0, 80))
def test_what_set_a_field_of_an_experiment_is_seen_without_the_events_that_have_nothing_to_do_with_it(
    rng: Random, length: int
) -> None:
    agrees(of_experiments(log_of(Projection.EXPERIMENTS, rng, length)))


@laws
@given(st.randoms(use_true_random=False), st.integers(0, 120))
def test_what_set_a_field_of_a_model_is_seen_without_the_events_that_have_nothing_to_do_with_it(
    rng: Random, length: int
) -> None:
    agrees(of_registered_models(log_of_models(rng, length)))
    agrees(of_logged_models(log_of(Projection.REGISTRY, rng, length)))


@pytest.mark.parametrize("kinds", ["runs", "experiments", "registered", "logged"])
def test_the_laws_leave_events_unread(kinds: str) -> None:
    rng = Random(5)
    match kinds:
        case "runs":
            found = agrees(of_runs(log_of(Projection.RUNS, rng, 300)))
        case "experiments":
            found = agrees(of_experiments(log_of(Projection.EXPERIMENTS, rng, 300)))
        case "registered":
            found = agrees(of_registered_models(log_of_models(rng, 400)))
        case _:
            found = agrees(of_logged_models(log_of(Projection.REGISTRY, rng, 600)))
    assert found > 20


def test_of_a_param_only_the_events_that_hold_its_name_are_read() -> None:
    can_skip = skip_filter(RunHistory("r").skippable("params.ü"))
    scribe = Scribe(Partition(Projection.RUNS.topic, 0))
    read_ones = [scribe.append(ParamsLogged(run_id="r", params={"a": "1", "ü": "2"})).value]
    others = [
        scribe.append(ParamsLogged(run_id="r", params={"u": "2"})).value,
        scribe.append(TagsSet(run_id="r", tags={"ü": "2"})).value,
        scribe.append(TagsDeleted(run_id="r", keys=["ü"])).value,
    ]
    assert not any(can_skip(value) for value in read_ones if value)
    assert all(can_skip(value) for value in others if value)
