"""Laws of the fold of registered models, over generated logs and without a database: it agrees with a simple model."""

import copy
import os
from collections.abc import Mapping
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runfold_projections.core.projection import Projection
from runfold_projections.core.rejection import Rejection
from runfold_projections.registry.fold import Models, RegisteredModelChange, fold
from runfold_projections.registry.rejections import RegisteredModelRejection
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Record, read_record
from runfold_schemas.events.registered_models import (
    ModelAliasSet,
    ModelsPromoted,
    ModelVersionCreated,
    ModelVersionDeleted,
    PromotionCondition,
    PromotionMove,
    RegisteredModelCreated,
    RegisteredModelDeleted,
    RegisteredModelFact,
    RegisteredModelRenamed,
)
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from tests.support.histories.generator import Scribe, history
from tests.support.histories.registry import KINDS
from tests.support.histories.registry_model import SimpleRegistry

laws = settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
TagKey = TypeVar("TagKey")
SOAK = bool(os.environ.get("RUNFOLD_SOAK"))
WHERE = Partition(Topic.REGISTRY, 0)


class Tags:
    """Tags by the fold's changes: the fold keeps no state of them."""

    def __init__(self) -> None:
        self.of_models: dict[tuple[int, str], str] = {}
        self.of_versions: dict[tuple[int, int, str], str] = {}

    def apply(self, change: RegisteredModelChange) -> None:
        self._set(self.of_models, change.model_tags)
        self._set(self.of_versions, change.version_tags)
        self.of_models = {key: value for key, value in self.of_models.items() if key[0] not in change.models_gone}
        self.of_versions = {
            key: value
            for key, value in self.of_versions.items()
            if key[0] not in change.models_gone and key[:2] not in change.versions_gone
        }

    @staticmethod
    def _set(tags: dict[TagKey, str], changes: Mapping[TagKey, str | None]) -> None:
        for key, value in changes.items():
            tags.pop(key, None)
            if value is not None:
                tags[key] = value


def seen(state: Models, tags: Tags) -> dict[tuple[str, str], Any]:
    """Return the fold's state in the form of the simple model."""
    return {
        (model.workspace, model.name): (
            model.description,
            {key: value for (of, key), value in tags.of_models.items() if of == creation_offset},
            model.last_version,
            {
                number: (
                    version.source,
                    version.description,
                    {
                        key: value
                        for (of, n, key), value in tags.of_versions.items()
                        if (of, n) == (creation_offset, number)
                    },
                    version.stage,
                )
                for number, version in state.versions.get(creation_offset, {}).items()
            },
            state.aliases.get(creation_offset, {}),
        )
        for creation_offset, model in state.by_offset.items()
    }


def expected(simple: SimpleRegistry) -> dict[tuple[str, str], Any]:
    return {
        name: (
            model.description,
            model.tags,
            model.given,
            {number: (v.source, v.description, v.tags, v.stage) for number, v in model.versions.items()},
            model.aliases,
        )
        for name, model in simple.models.items()
    }


class RegistryMachine(RuleBasedStateMachine):
    """Events in any order: the fold and the simple model accept the same ones and reach the same state."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.tags, self.simple = Models(), Tags(), SimpleRegistry()
        self.scribe = Scribe(WHERE)

    @initialize()
    def begin(self) -> None:
        self.scribe.genesis()

    @rule(rng=st.randoms(use_true_random=False), kind=st.sampled_from(KINDS), workspace=st.sampled_from(("a", "b")))
    def happens(self, rng: Random, kind: Any, workspace: str) -> None:
        event = kind(rng)
        if not isinstance(event, RegisteredModelFact):
            return
        record = read_record(self.scribe.append(event, workspace=workspace), released_catalog(), 1)
        before = copy.deepcopy(self.state)
        answer = fold(self.state, record)
        assert self.state == before, "a fold computes only"
        accepted = not isinstance(answer, Rejection)
        assert self.simple.tell(record) == accepted
        if isinstance(answer, RegisteredModelChange):
            self.state.apply(answer)
            self.tags.apply(answer)

    @invariant()
    def both_hold_the_same(self) -> None:
        assert seen(self.state, self.tags) == expected(self.simple)

    @invariant()
    def names_lead_to_their_models_and_aliases_to_versions_that_are_there(self) -> None:
        assert self.state.by_name == {
            (m.workspace, m.name): creation_offset for creation_offset, m in self.state.by_offset.items()
        }
        for creation_offset, aliases in self.state.aliases.items():
            assert set(aliases.values()) <= set(self.state.versions.get(creation_offset, {}))


TestRegistry = pytest.mark.soak(RegistryMachine.TestCase)
TestRegistry.settings = settings(max_examples=10_000 if SOAK else 300, stateful_step_count=40, deadline=None)


def records(*events: RegisteredModelFact) -> list[Record]:
    scribe = Scribe(WHERE)
    scribe.genesis()
    return [read_record(scribe.append(event), released_catalog(), 1) for event in events]


def folded(*events: RegisteredModelFact) -> tuple[Models, list[RegisteredModelChange | Rejection]]:
    state, answers = Models(), []
    for record in records(*events):
        answer = fold(state, record)
        answers.append(answer)
        if isinstance(answer, RegisteredModelChange):
            state.apply(answer)
    return state, answers


NEW = RegisteredModelCreated(name="m")
VERSION = ModelVersionCreated(name="m", source="s3://b/m")


def test_a_number_is_not_given_again_after_its_version_was_deleted_the_last_one_included() -> None:
    state, _ = folded(NEW, VERSION, VERSION, ModelVersionDeleted(name="m", version=2), VERSION)
    (creation_offset,) = state.by_offset
    assert sorted(state.versions[creation_offset]) == [1, 3]


def test_a_model_that_gets_a_deleted_ones_name_is_another_and_begins_at_one() -> None:
    state, _ = folded(
        NEW,
        VERSION,
        VERSION,
        ModelAliasSet(name="m", alias="prod", version=2),
        RegisteredModelDeleted(name="m"),
        NEW,
        VERSION,
    )
    (creation_offset,) = state.by_offset
    assert (creation_offset, sorted(state.versions[creation_offset]), state.aliases.get(creation_offset, {})) == (
        6,
        [1],
        {},
    )


def test_versions_and_aliases_go_with_their_model_through_a_swap_of_names() -> None:
    other = RegisteredModelCreated(name="n")
    state, answers = folded(
        NEW,
        other,
        VERSION,
        ModelAliasSet(name="m", alias="prod", version=1),
        RegisteredModelRenamed(name="m", new_name="x"),
        RegisteredModelRenamed(name="n", new_name="m"),
        RegisteredModelRenamed(name="x", new_name="n"),
        ModelAliasSet(name="m", alias="prod", version=1),
    )
    assert {name: creation_offset for (_, name), creation_offset in state.by_name.items()} == {"n": 1, "m": 2}
    assert state.aliases[1] == {"prod": 1}
    assert isinstance(answers[-1], Rejection)
    assert answers[-1].code is RegisteredModelRejection.VERSION_NOT_FOUND


def _promotion(*conditions: PromotionCondition) -> ModelsPromoted:
    move = PromotionMove(name="m", alias="prod", version=2, stage="Production", archive_existing=True)
    gone = PromotionMove(name="m", alias="shadow", version=None)
    return ModelsPromoted(conditions=list(conditions), moves=[move, gone])


READY = (NEW, VERSION, VERSION, ModelAliasSet(name="m", alias="prod", version=1))


def test_a_promotion_whose_conditions_hold_moves_all() -> None:
    state, answers = folded(
        *READY,
        _promotion(
            PromotionCondition(name="m", alias="prod", version=1),
            PromotionCondition(name="m", alias="shadow"),
            PromotionCondition(name="m", version=2, stage="None"),
            PromotionCondition(name="m"),
        ),
    )
    assert isinstance(answers[-1], RegisteredModelChange)
    assert state.aliases[1] == {"prod": 2}
    assert {n: v.stage for n, v in state.versions[1].items()} == {1: "None", 2: "Production"}


def test_a_promotion_that_fails_says_every_condition_that_does_not_hold_and_what_holds() -> None:
    _, answers = folded(
        *READY,
        _promotion(
            PromotionCondition(name="m", alias="prod", version=1),
            PromotionCondition(name="m", alias="prod", version=2),
            PromotionCondition(name="m", alias="shadow", version=7),
            PromotionCondition(name="m", alias="prod"),
            PromotionCondition(name="m", version=2, stage="Staging"),
            PromotionCondition(name="m", version=9),
            PromotionCondition(name="n"),
        ),
    )
    answer = answers[-1]
    assert isinstance(answer, Rejection)
    assert answer.code is RegisteredModelRejection.PROMOTION_CONDITION_FAILED
    assert answer.message == (
        "Nothing was promoted: condition 1 failed: @prod of 'm' was to stand on version 2, but it stands on version 1; "
        "condition 2 failed: @shadow of 'm' was to stand on version 7, but it is not set; "
        "condition 3 failed: @prod of 'm' was not to be set, but it stands on version 1; "
        "condition 4 failed: version 2 of 'm' was to be in stage Staging, but it is in None; "
        "condition 5 failed: 'm' has no version 9; "
        "condition 6 failed: there is no registered model 'n'"
    )
    assert [(one["condition"], one["found"]) for one in answer.details["failed"]] == [
        (1, 1),
        (2, None),
        (3, 1),
        (4, "None"),
        (5, None),
        (6, None),
    ]


def test_a_promotion_with_one_move_that_can_not_be_made_moves_nothing() -> None:
    moves = [PromotionMove(name="m", alias="prod", version=2), PromotionMove(name="m", alias="x", version=9)]
    state, answers = folded(*READY, ModelsPromoted(moves=moves))
    assert isinstance(answers[-1], Rejection)
    assert state.aliases[1] == {"prod": 1}


@laws
@given(st.randoms(use_true_random=False), st.integers(0, 60))
def test_numbers_count_up_per_model_in_log_order(rng: Random, length: int) -> None:
    state = Models()
    given_numbers: dict[int, int] = {}
    for raw in history(Projection.REGISTRY, rng, length, repeats=False)[1:]:
        record = read_record(raw, released_catalog(), 1)
        if not isinstance(record.event, RegisteredModelFact):
            continue
        answer = fold(state, record)
        if isinstance(answer, Rejection):
            continue
        state.apply(answer)
        if isinstance(record.event, ModelVersionCreated):
            ((creation_offset, number),) = answer.versions
            assert number == given_numbers.get(creation_offset, 0) + 1
            given_numbers[creation_offset] = number
