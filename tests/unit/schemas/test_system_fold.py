"""The system topic folds to one state, however its records are cut into batches."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from runfold_schemas.codec import wire
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.envelope import Envelope, Writer
from runfold_schemas.codec.record import Raw
from runfold_schemas.codec.system_state import SystemState
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.runs import RunDeleted
from runfold_schemas.events.system import FeatureLevelRaised, Genesis, SchemaDeclared
from runfold_schemas.positions.position import Position
from runfold_schemas.positions.topics import Topic

CATALOG = released_catalog()


def genesis(log_id: str) -> Genesis:
    return Genesis(log_id=log_id, topic="system", partition=0, partition_count=1)


def declared(schema_id: int) -> SchemaDeclared:
    return SchemaDeclared.model_validate(
        {"schema_id": schema_id, "subject": "s", "version": 1, "level": 1, "schema": "{}", "topics": ["runs"]}
    )


def raised(level: int) -> FeatureLevelRaised:
    return FeatureLevelRaised(level=level, release="1")


def raw(event: Event, offset: int = 0) -> Raw:
    envelope = Envelope("0197f0c2-a6b0-7d1e-8c3f-5a9b2d4e6f80", event.subject, 0, Writer("w"), 0)
    return Raw(Position(Topic.SYSTEM, 0, offset), 0, None, wire.encode(event), envelope.headers())


def garbage(value: bytes | None, offset: int = 0) -> Raw:
    return Raw(Position(Topic.SYSTEM, 0, offset), 0, None, value, [])


def fold(*raws: Raw) -> SystemState:
    return SystemState().fold(raws, CATALOG)


def test_the_first_genesis_counts() -> None:
    assert fold(raw(genesis("first")), raw(genesis("second"))).log_id == "first"


def test_duplicates_are_harmless() -> None:
    once = [raw(genesis("l")), raw(declared(4)), raw(raised(2))]
    assert fold(*once, *once) == fold(*once)


def test_the_level_never_falls() -> None:
    assert fold(raw(genesis("l")), raw(raised(3)), raw(raised(2))).level == 3


def test_what_stands_before_the_genesis_is_set_aside() -> None:
    state = fold(raw(declared(4), 0), raw(raised(2), 1), raw(genesis("l"), 2), raw(declared(5), 3))
    assert (set(state.declared), state.level, state.log_id) == ({5}, 0, "l")
    assert [note.split(": ")[0] for note in state.set_aside] == ["system:0:0", "system:0:1"]


def test_garbage_is_noted_and_changes_nothing_but_the_offset() -> None:
    good = fold(raw(genesis("l")), raw(declared(4)))
    misplaced = raw(RunDeleted(run_id="r"), 4)
    state = good.fold([garbage(None, 2), garbage(b"\x00\x00\x00\x03\xe7", 3), misplaced], CATALOG)
    assert (state.log_id, state.level, set(state.declared), state.next_offset) == ("l", 0, {4}, 5)
    assert [note.split(": ")[0] for note in state.set_aside] == ["system:0:2", "system:0:3", "system:0:4"]
    assert "999" in state.set_aside[1]


def test_what_is_missing_is_what_no_record_declared() -> None:
    state = fold(raw(genesis("l")), *(raw(declared(schema_id)) for schema_id in CATALOG.by_id if schema_id != 7))
    assert [schema.schema_id for schema in state.missing(CATALOG.up_to(1))] == [7]


events = st.one_of(
    st.sampled_from(["a", "b"]).map(genesis), st.integers(1, 30).map(declared), st.integers(1, 5).map(raised)
)
raws = st.lists(events.map(raw) | st.sampled_from([None, b"", b"\x00\x00\x00\x00\x01"]).map(garbage), max_size=12)


@settings(max_examples=80, deadline=None)
@given(raws=raws, data=st.data())
def test_the_state_does_not_depend_on_how_batches_are_cut(raws: list[Raw], data: st.DataObject) -> None:
    log = [Raw(Position(Topic.SYSTEM, 0, at), r.timestamp_ms, r.key, r.value, r.headers) for at, r in enumerate(raws)]
    cuts = sorted({0, len(log), *data.draw(st.lists(st.integers(0, len(log)), max_size=4))})
    state = SystemState()
    for start, stop in pairwise(cuts):
        state = state.fold(log[start:stop], CATALOG)
    whole = fold(*log)
    assert state == whole
    assert state.set_aside == whole.set_aside
