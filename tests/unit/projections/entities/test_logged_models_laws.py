"""Laws of the fold of logged models, over generated events and without a database."""

import copy
from random import Random

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from runfold_projections.core.rejection import Rejection, RejectionCode
from runfold_projections.logged_models.fold import LoggedModelState, evolve, fold
from runfold_projections.logged_models.rejections import LoggedModelRejection
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Record, read_record
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.logged_models import (
    LoggedModelCreated,
    LoggedModelDeleted,
    LoggedModelFact,
    LoggedModelFinalized,
    LoggedModelParamsLogged,
    LoggedModelTagsDeleted,
    LoggedModelTagsSet,
)
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from tests.support.histories.generator import WORKSPACES, Scribe
from tests.support.histories.logged_models import logged_model_event

randoms = st.randoms(use_true_random=False)
lengths = st.integers(0, 60)
# No shrinking: it takes minutes to make a generated log a little shorter, and its seed is printed anyway.
laws = settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
CREATED = LoggedModelCreated(
    model_id="m-1", experiment_id=1, name="n", artifact_uri="u", params={"lr": "1"}, tags={"a": "x"}
)


def records(*events: Event, workspace: str = "default") -> list[Record]:
    scribe = Scribe(Partition(Topic.REGISTRY, 0))
    return [read_record(scribe.append(event, workspace=workspace), released_catalog(), 1) for event in events]


def step(models: dict[str, LoggedModelState], record: Record) -> Rejection | None:
    assert isinstance(record.event, LoggedModelFact)
    model_id = record.event.model_id
    answer = fold(models.get(model_id), record)
    if isinstance(answer, Rejection):
        return answer
    models[model_id] = evolve(models.get(model_id), answer)
    return None


def outcomes(*events: Event) -> tuple[LoggedModelState, list[RejectionCode | None]]:
    """Return the one model after these events, and the outcome of each."""
    models: dict[str, LoggedModelState] = {}
    found = [step(models, record) for record in records(*events)]
    return models["m-1"], [None if one is None else one.code for one in found]


@laws
@given(randoms, lengths)
def test_a_fold_computes_only_and_an_event_changes_its_own_model_alone(rng: Random, length: int) -> None:
    scribe = Scribe(Partition(Topic.REGISTRY, 0))
    models: dict[str, LoggedModelState] = {}
    for _ in range(length):
        raw = scribe.append(logged_model_event(rng), workspace=rng.choice(WORKSPACES))
        record = read_record(raw, released_catalog(), 1)
        assert isinstance(record.event, LoggedModelFact)
        model_id = record.event.model_id
        before = copy.deepcopy(models)
        fold(models.get(model_id), record)
        assert models == before
        rejected = step(models, record) is not None
        others = {key: value for key, value in models.items() if rejected or key != model_id}
        assert others == {key: value for key, value in before.items() if rejected or key != model_id}


@laws
@given(randoms, lengths)
def test_what_a_model_was_born_with_never_changes(rng: Random, length: int) -> None:
    scribe = Scribe(Partition(Topic.REGISTRY, 0))
    models: dict[str, LoggedModelState] = {}
    for _ in range(length):
        record = read_record(scribe.append(logged_model_event(rng)), released_catalog(), 1)
        before = copy.deepcopy(models)
        step(models, record)
        for model_id, old in before.items():
            new = models[model_id]
            for fixed in ("model_id", "workspace", "experiment_id", "name", "artifact_uri", "model_type", "created_ms"):
                assert getattr(new.head, fixed) == getattr(old.head, fixed)
            assert new.params.items() >= old.params.items()


def test_a_model_is_pending_until_it_is_said_to_be_something_else() -> None:
    model, _ = outcomes(CREATED)
    assert (model.head.status, model.head.lifecycle_stage, model.head.created_ms) == ("PENDING", "active", 1000)
    ready, found = outcomes(CREATED, LoggedModelFinalized(model_id="m-1", status="READY"))
    assert (ready.head.status, ready.head.created_ms, ready.head.updated_ms) == ("READY", 1000, 1001)
    assert found == [None, None]


def test_an_id_is_taken_once_and_for_all() -> None:
    _, found = outcomes(CREATED, CREATED, LoggedModelDeleted(model_id="m-1"), CREATED)
    exists = LoggedModelRejection.EXISTS
    assert found == [None, exists, None, exists]


def test_a_param_may_be_repeated_and_not_changed_and_one_conflict_refuses_all() -> None:
    model, found = outcomes(
        CREATED,
        LoggedModelParamsLogged(model_id="m-1", params={"lr": "1", "depth": "3"}),
        LoggedModelParamsLogged(model_id="m-1", params={"lr": "2", "width": "4"}),
    )
    assert found == [None, None, LoggedModelRejection.PARAM_CHANGED]
    assert model.params == {"lr": "1", "depth": "3"}


def test_tags_are_set_overwritten_and_removed_and_one_that_is_missing_refuses_all() -> None:
    model, found = outcomes(
        CREATED,
        LoggedModelTagsSet(model_id="m-1", tags={"a": "y", "b": "z"}),
        LoggedModelTagsDeleted(model_id="m-1", keys=["a", "c"]),
        LoggedModelTagsDeleted(model_id="m-1", keys=["b"]),
    )
    assert found == [None, None, LoggedModelRejection.TAG_NOT_FOUND, None]
    assert model.tags == {"a": "y"}
    assert model.head.updated_ms == 1000, "tags are not news of the model itself, as in MLflow"


def test_a_deleted_model_may_be_written_to_as_in_mlflow() -> None:
    model, found = outcomes(
        CREATED, LoggedModelDeleted(model_id="m-1"), LoggedModelTagsSet(model_id="m-1", tags={"b": "z"})
    )
    assert (model.head.lifecycle_stage, model.tags, found) == ("deleted", {"a": "x", "b": "z"}, [None, None, None])


def test_another_workspaces_model_is_not_there() -> None:
    models: dict[str, LoggedModelState] = {}
    step(models, records(CREATED, workspace="other")[0])
    refused = step(models, records(LoggedModelDeleted(model_id="m-1"))[0])
    assert refused is not None
    assert refused.code is LoggedModelRejection.NOT_FOUND
    assert refused.message == "Logged model with ID 'm-1' not found."
