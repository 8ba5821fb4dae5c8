"""Laws of the fold of experiments, over generated logs and without a database."""

import copy
from collections.abc import Sequence
from random import Random

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from runfold_projections.core.projection import Projection
from runfold_projections.core.rejection import Rejection
from runfold_projections.experiments.fold import DELETED, Experiments, ExperimentState, fold
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Raw, Record, read_record
from runfold_schemas.events.experiments import ExperimentCreated, ExperimentFact, ExperimentRenamed
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.sequences import Ranges
from tests.support.histories.generator import cut, history

Outcome = tuple[str, str]
randoms = st.randoms(use_true_random=False)
lengths = st.integers(0, 40)
# No shrinking: it takes minutes to make a generated log a little shorter, and its seed is printed anyway.
laws = settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def records(raws: Sequence[Raw]) -> list[Record]:
    return [read_record(raw, released_catalog(), 1) for raw in raws]


def folded(log: Sequence[Record]) -> tuple[Experiments, list[Outcome]]:
    """Return the state after a whole log, the folded records, and the rejections."""
    state, outcomes = Experiments(), []
    for record in log:
        answer = fold(state, record)
        if isinstance(answer, Rejection):
            outcomes.append((record.envelope.event_id, answer.code.value))
        else:
            state.put(answer)
    return state, outcomes


def counted(log: Sequence[Record]) -> list[Record]:
    """Return the records that are not duplicates by sequence, and only the first genesis."""
    ranges: dict[tuple[str, str], Ranges] = {}
    kept: list[Record] = []
    for record in log:
        if isinstance(record.event, Genesis):
            if not kept:
                kept.append(record)
        elif ranges.setdefault((record.entity, record.envelope.writer.id), Ranges()).add(record.envelope.sequence):
            kept.append(record)
    return kept


@laws
@given(randoms, lengths)
def test_a_fold_that_knows_only_what_a_batch_touches_decides_as_one_that_knows_all(rng: Random, length: int) -> None:
    raws = history(Projection.EXPERIMENTS, rng, length)
    whole, outcomes = folded(counted(records(raws)))
    stored: dict[int, ExperimentState] = {}
    kept = {record.position for record in counted(records(raws))}
    found: list[Outcome] = []
    for batch in cut(rng, raws):
        log = [record for record in records(batch) if record.position in kept]
        ids = {r.event.experiment_id for r in log if isinstance(r.event, ExperimentFact)}
        names = {
            (r.envelope.workspace, r.event.name)
            for r in log
            if isinstance(r.event, (ExperimentCreated, ExperimentRenamed))
        } | {("default", "Default")}
        state = Experiments(next_id=len(stored))
        for one in stored.values():
            if one.experiment_id in ids or (one.workspace, one.name) in names:
                state.put(one)
        for record in log:
            answer = fold(state, record)
            if isinstance(answer, Rejection):
                found.append((record.envelope.event_id, answer.code.value))
            else:
                state.put(answer)
                stored[answer.experiment_id] = answer
    assert (stored, found) == (whole.by_id, outcomes)


@laws
@given(randoms, lengths)
def test_names_are_unique_and_ids_count_up_in_log_order(rng: Random, length: int) -> None:
    state = Experiments()
    created: list[int] = []
    for record in records(history(Projection.EXPERIMENTS, rng, length)):
        before = copy.deepcopy(state)
        answer = fold(state, record)
        assert state == before, "a fold computes only"
        if isinstance(answer, Rejection):
            continue
        if answer.experiment_id not in state.by_id:
            created.append(answer.experiment_id)
        state.put(answer)
        assert state.by_name == {(e.workspace, e.name): number for number, e in state.by_id.items()}
        assert len(state.by_name) == len(state.by_id)
        assert created == list(range(len(created)))
        assert state.next_id == len(created)


@laws
@given(randoms, lengths)
def test_an_accepted_event_changes_its_experiment_alone_and_never_its_origin(rng: Random, length: int) -> None:
    state = Experiments()
    for record in records(history(Projection.EXPERIMENTS, rng, length)):
        answer = fold(state, record)
        if isinstance(answer, Rejection):
            continue
        before = state.by_id.get(answer.experiment_id)
        state.put(answer)
        if before is None:
            assert answer.created_by == record.envelope.event_id
            continue
        assert isinstance(record.event, ExperimentFact)
        assert answer.experiment_id == record.event.experiment_id
        for fixed in ("workspace", "artifact_location", "created_ms", "created_by"):
            assert getattr(answer, fixed) == getattr(before, fixed)
        if before.lifecycle_stage == DELETED:
            assert record.event.subject == "runfold.experiments.ExperimentRestored"


@laws
@given(randoms, lengths)
def test_a_log_without_repeats_folds_to_the_same_as_one_with_them(rng: Random, length: int) -> None:
    raws = history(Projection.EXPERIMENTS, rng, length, repeats=False)
    noisy = list(raws)
    for _ in range(rng.randint(0, 10)):
        source = rng.randrange(len(raws))
        # A copy may follow its original anywhere, never precede it.
        at = rng.randint(noisy.index(raws[source]) + 1, len(noisy))
        noisy.insert(at, raws[source])
    assert folded(counted(records(noisy))) == folded(records(raws))
