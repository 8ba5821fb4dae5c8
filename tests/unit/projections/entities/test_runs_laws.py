"""Laws of the fold of runs, over generated logs and without a database."""

import copy
import json
from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from runfold_projections.core.projection import Projection
from runfold_projections.core.rejection import Rejection
from runfold_projections.runs.fold import DELETED, MAX_MODELS_CHARS, MODELS_TAG, RUN_NAME_TAG, RunState, evolve, fold
from runfold_projections.runs.rejections import RunRejection
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Record, read_record
from runfold_schemas.events.runs import ModelLogged, ParamsLogged, RunCreated, RunFact, RunRestored, RunUpdated, TagsSet
from runfold_schemas.positions.position import Partition
from tests.support.histories.generator import RUNS, Scribe, cut, history

randoms = st.randoms(use_true_random=False)
lengths = st.integers(0, 60)
# No shrinking: it takes minutes to make a generated log a little shorter, and its seed is printed anyway.
laws = settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def log_of(rng: Random, length: int, repeats: bool = True) -> list[Record]:
    raws = history(Projection.RUNS, rng, length, repeats)
    read = [read_record(raw, released_catalog(), 1) for raw in raws]
    return [record for record in read if isinstance(record.event, RunFact)]


def step(runs: dict[str, RunState], record: Record) -> Rejection | None:
    answer = fold(runs.get(record.entity), record)
    if isinstance(answer, Rejection):
        return answer
    if record.entity in runs or answer.head is not None:
        runs[record.entity] = evolve(runs.get(record.entity), answer)
    return None


def folded(log: Sequence[Record]) -> dict[str, RunState]:
    runs: dict[str, RunState] = {}
    for record in log:
        step(runs, record)
    return runs


@laws
@given(randoms, lengths)
def test_a_rejected_event_changes_nothing_and_a_fold_computes_only(rng: Random, length: int) -> None:
    runs: dict[str, RunState] = {}
    for record in log_of(rng, length):
        before = copy.deepcopy(runs)
        answer = fold(runs.get(record.entity), record)
        assert runs == before
        if step(runs, record) is not None:
            assert isinstance(answer, Rejection)
            assert runs == before
        assert {k: v for k, v in runs.items() if k != record.entity} == {
            k: v for k, v in before.items() if k != record.entity
        }, "other runs stay as they are"


@laws
@given(randoms, lengths)
def test_params_never_change_and_a_batch_with_one_conflict_adds_none(rng: Random, length: int) -> None:
    runs: dict[str, RunState] = {}
    for record in log_of(rng, length):
        before = dict(runs[record.entity].params) if record.entity in runs else {}
        rejection = step(runs, record)
        after = runs[record.entity].params if record.entity in runs else {}
        assert {key: after[key] for key in before} == before
        if rejection is not None and rejection.code is RunRejection.PARAM_CHANGED:
            assert isinstance(record.event, ParamsLogged)
            assert any(before.get(key, value) != value for key, value in record.event.params.items())
            assert after == before
        elif isinstance(record.event, ParamsLogged) and rejection is None:
            assert after == {**before, **record.event.params}


@laws
@given(randoms, lengths)
def test_the_name_and_its_tag_mirror_each_other(rng: Random, length: int) -> None:
    runs: dict[str, RunState] = {}
    for record in log_of(rng, length):
        name_before = runs[record.entity].head.name if record.entity in runs else None
        rejection = step(runs, record)
        run = runs.get(record.entity)
        if run is None:
            continue
        # An empty name counts as not given, and a removed tag leaves the name unchanged.
        assert run.tags.get(RUN_NAME_TAG) in (None, "", run.head.name)
        if rejection is None and isinstance(record.event, RunUpdated) and record.event.name:
            assert run.tags[RUN_NAME_TAG] == run.head.name == record.event.name
        if rejection is None and isinstance(record.event, TagsSet) and record.event.tags.get(RUN_NAME_TAG):
            assert run.head.name == record.event.tags[RUN_NAME_TAG]
        if rejection is not None:
            assert run.head.name == name_before


@laws
@given(randoms, lengths)
def test_a_deleted_run_takes_only_its_restoration_and_joins(rng: Random, length: int) -> None:
    runs: dict[str, RunState] = {}
    for record in log_of(rng, length):
        before = copy.deepcopy(runs.get(record.entity))
        rejection = step(runs, record)
        if before is None:
            assert (rejection is None) == isinstance(record.event, RunCreated)
        elif before.head.lifecycle_stage == DELETED and not isinstance(record.event, RunRestored):
            assert runs[record.entity] == before
        if before is not None and isinstance(record.event, RunCreated):
            assert runs[record.entity] == before
            assert (rejection is None) == (before.head.experiment_id == record.event.experiment_id)


@laws
@given(randoms, lengths)
def test_the_changes_that_are_written_add_up_to_the_state(rng: Random, length: int) -> None:
    """The rows that a projector writes for each change add up to the state that a later batch loads."""
    runs: dict[str, RunState] = {}
    tables: dict[str, dict[str, Any]] = {}
    for record in log_of(rng, length):
        answer = fold(runs.get(record.entity), record)
        if not isinstance(answer, Rejection) and (record.entity in runs or answer.head is not None):
            row = tables.setdefault(
                record.entity, {"params": {}, "tags": {}, "datasets": [], "models": [], "outputs": []}
            )
            row["head"] = answer.head or row["head"]
            assert not answer.params.keys() & row["params"].keys(), "a param is written once"
            row["params"].update(answer.params)
            row["tags"].update(answer.tags)
            row["tags"] = {key: value for key, value in row["tags"].items() if value is not None}
            row["datasets"] += answer.datasets
            row["models"] += answer.models
            row["outputs"] += answer.outputs
            assert len({(d.name, d.digest) for d in row["datasets"]}) == len(row["datasets"])
            assert len(set(row["models"])) == len(row["models"])
            assert len(set(row["outputs"])) == len(row["outputs"])
        step(runs, record)
    loaded = {
        run_id: RunState(
            row["head"], dict(row["params"]), dict(row["tags"]), row["datasets"], row["models"], row["outputs"]
        )
        for run_id, row in tables.items()
    }
    assert loaded == runs


@laws
@given(randoms, lengths)
def test_batches_cut_anywhere_and_reloaded_fold_to_the_same(rng: Random, length: int) -> None:
    raws = history(Projection.RUNS, rng, length)
    log = [read_record(raw, released_catalog(), 1) for raw in raws]
    stored: dict[str, RunState] = {}
    for batch in cut(rng, raws):
        touched = {read_record(raw, released_catalog(), 1).entity for raw in batch}
        memory = {run_id: copy.deepcopy(stored[run_id]) for run_id in touched & stored.keys()}
        for raw in batch:
            record = read_record(raw, released_catalog(), 1)
            if isinstance(record.event, RunFact):
                step(memory, record)
        stored.update(memory)
    assert stored == folded([record for record in log if isinstance(record.event, RunFact)])


@laws
@given(randoms, lengths)
def test_runs_are_folded_alone_so_that_partitions_may_interleave(rng: Random, length: int) -> None:
    log = log_of(rng, length)
    apart: dict[str, RunState] = {}
    for run_id in RUNS:
        apart.update(folded([record for record in log if record.entity == run_id]))
    assert apart == folded(log)


def _logged(models: Sequence[str], tag: str | None = None) -> list[Any] | None:
    """Return the history of models of a run that logged these after the tag was set."""
    scribe = Scribe(Partition(Projection.RUNS.topic, 0))
    scribe.append(RunCreated(run_id="r", experiment_id=0, name="n", start_ms=1, artifact_uri="u"))
    if tag is not None:
        scribe.append(TagsSet(run_id="r", tags={MODELS_TAG: tag}))
    for model in models:
        scribe.append(ModelLogged(run_id="r", model=model))
    state = folded([read_record(raw, released_catalog(), 1) for raw in scribe.log])["r"]
    return json.loads(state.tags[MODELS_TAG]) if MODELS_TAG in state.tags else None


def test_models_are_appended_to_the_history_and_the_same_one_once() -> None:
    one, two = '{"run_id": "r", "flavors": {}}', '{"flavors": {"a": {"n": 1}}}'
    assert _logged([]) is None
    assert _logged([one, two, one, '{"flavors":{"a":{"n":1}}}']) == [json.loads(one), json.loads(two)]
    assert _logged([two], tag=f"[{one}]") == [json.loads(one), json.loads(two)]
    assert _logged(['{"n": 1}', '{"n": true}', '{"n": 1.0}']) == [{"n": 1}, {"n": True}, {"n": 1.0}]


def test_a_history_that_is_no_list_begins_anew() -> None:
    for text in ("", "{}", "[", "[" * 5000 + "]" * 5000, '[{"cut": "of'):
        assert _logged(["{}"], tag=text) == [{}]


def test_the_oldest_models_go_when_the_history_gets_too_long() -> None:
    models = [json.dumps({"n": n, "x": "x" * 200_000}) for n in range(4)]
    history = _logged(models)
    assert history is not None
    assert [model["n"] for model in history] == [2, 3]
    assert len(json.dumps(history)) <= MAX_MODELS_CHARS
