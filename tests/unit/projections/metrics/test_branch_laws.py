"""Effective points: the fold's branches and cuts against a model that compares every point with every event."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runfold_projections.metrics.branches import EffectiveView, RunBranches
from tests.support.histories.branch_model import Model, Said

laws = settings(max_examples=400, deadline=None)
STEPS = (1, 2, 3, 4)


@st.composite
def stories(draw: st.DrawFn) -> list[Said]:
    """Generate events of writers, in the log's order: few attempts, ranks and writers; some sequences arrive late."""
    told = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["point", "point", "point", "start", "rewind"]),
                st.sampled_from(["", "a", "a", "b", "c"]),
                st.sampled_from([-1, 0, 1]),
                st.sampled_from(["x", "y"]),
                st.sampled_from(STEPS),
                st.booleans(),
            ),
            max_size=14,
        )
    )
    sequences = draw(st.permutations(range(len(told)))) if draw(st.booleans()) else range(len(told))
    return [
        Said(kind, attempt, rank, f"{writer}{attempt}{rank}", number, step, everyone)
        for (kind, attempt, rank, writer, step, everyone), number in zip(told, sequences, strict=True)
    ]


def folded(story: Sequence[Said]) -> tuple[RunBranches, list[tuple[Said, int]]]:
    """Fold the events: return the branches, and every point with its branch."""
    lineage, points = RunBranches(), []
    for said in story:
        lineage.appear(said.attempt)
        scope = None if said.everyone else said.rank
        if said.kind == "point":
            points.append((said, lineage.branch(said.attempt, said.rank, said.writer, said.sequence)))
        elif said.kind == "start":
            lineage.start(said.attempt, scope, said.step)
        else:
            lineage.rewind(said.attempt, scope, said.step, said.writer, said.sequence)
    return lineage, points


def shown(lineage: RunBranches, points: Sequence[tuple[Said, int]], as_of: int | None = None) -> list[bool]:
    view = EffectiveView(lineage.attempts.values(), lineage.cuts, as_of)
    limits = [view.limit(branch, said.rank) if view.shows(branch) else -1 for said, branch in points]
    return [limit is None or said.step <= limit for (said, _), limit in zip(points, limits, strict=True)]


@laws
@given(stories())
def test_what_is_effective_is_what_no_later_event_took(story: list[Said]) -> None:
    model = Model()
    for place, said in enumerate(story):
        model.tell(place, said)
        lineage, points = folded(story[: place + 1])
        assert shown(lineage, points) == model.effective()


@laws
@given(stories())
def test_a_lineage_out_of_the_tables_goes_on_as_the_one_in_memory(story: list[Said]) -> None:
    half = len(story) // 2
    first, _ = folded(story[:half])
    kept = RunBranches()
    kept.restore(first.attempts.items(), first.cuts)
    whole, _ = folded(story)
    for said in story[half:]:
        kept.appear(said.attempt)
        scope = None if said.everyone else said.rank
        if said.kind == "start":
            kept.start(said.attempt, scope, said.step)
        elif said.kind == "rewind":
            kept.rewind(said.attempt, scope, said.step, said.writer, said.sequence)
        else:
            kept.branch(said.attempt, said.rank, said.writer, said.sequence)
    assert (kept.attempts, kept.cuts, kept.last) == (whole.attempts, whole.cuts, whole.last)


@laws
@given(stories(), st.data())
def test_a_branch_shows_for_ever_what_it_showed_when_it_was_the_newest(story: list[Said], data: st.DataObject) -> None:
    """Except for late points of its attempts, which join it."""
    half = data.draw(st.integers(0, len(story)))
    then, points = folded(story[:half])
    now, all_points = folded(story)
    pinned = shown(now, all_points, then.last)
    assert pinned[: len(points)] == shown(then, points)
    assert all(branch <= then.last for (_, branch), seen in zip(all_points, pinned, strict=True) if seen)


@laws
@given(stories())
def test_a_cut_never_brings_a_point_back(story: list[Said]) -> None:
    before: list[bool] = []
    for place in range(len(story)):
        now = shown(*folded(story[: place + 1]))
        assert not any(seen and not was for seen, was in zip(now, before, strict=False))
        before = now


@laws
@given(stories(), st.lists(st.integers(0, 13), max_size=4))
def test_a_start_may_be_declared_again_at_any_time(story: list[Said], places: list[int]) -> None:
    starts = [said for said in story if said.kind == "start" and said.attempt]
    again = list(story)
    for place in places:
        for said in starts:
            if said in again[:place]:
                again.insert(place, said)
    lineage, points = folded(again)
    plain, plain_points = folded(story)
    assert shown(lineage, points) == shown(plain, plain_points)
    assert lineage.cuts == plain.cuts


def test_the_second_rank_that_rewinds_cuts_nothing_of_the_first() -> None:
    lineage = RunBranches()
    lineage.appear("a")
    for rank in (0, 1):
        lineage.rewind("a", rank, 8000, f"w{rank}", 5)
    first = lineage.branch("a", 0, "w0", 6)
    lineage.rewind("a", 2, 8000, "w2", 5)
    assert lineage.view().limit(first, 0) is None
    assert [lineage.view().limit(1, rank) for rank in (0, 1, 2, 3)] == [8000, 8000, 8000, None]


@pytest.mark.parametrize("late", [False, True])
def test_a_declared_start_cuts_earlier_attempts_only(late: bool) -> None:
    lineage = RunBranches()
    lineage.appear("a")
    lineage.appear("b")
    if late:
        lineage.appear("c")
    lineage.start("b", None, 8000)
    view = lineage.view()
    assert [view.limit(lineage.attempts[name].branch, 7) for name in lineage.attempts] == [8000, None, None][: 2 + late]


def test_who_names_no_attempt_writes_for_the_newest_one() -> None:
    """An evaluation logged through MLflow after a restart is not a late point of the time before."""
    lineage = RunBranches()
    lineage.appear("a")
    lineage.appear("")
    before = lineage.branch("", -1, "api", 0)
    lineage.appear("b")
    lineage.start("b", None, 8000)
    after = lineage.branch("", -1, "api", 1)
    assert [lineage.view().limit(branch, -1) for branch in (before, after)] == [8000, None]
