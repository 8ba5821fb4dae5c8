"""Eviction: a worker's memory keeps no more than the bound, except for the runs of the batch."""

from array import array
from collections import OrderedDict

from runfold_projections.metrics.keys import Layouts
from runfold_projections.metrics.run_eviction import make_room
from runfold_projections.metrics.run_metrics import RunMetrics
from runfold_projections.metrics.summaries import Summaries
from runfold_schemas.events.frames import Frame

MB = 1024 * 1024


def run(layouts: Layouts, first: int, count: int, name: str = "key") -> RunMetrics:
    """Make a run that has logged this many keys, 64 new ones a call."""
    made = RunMetrics(summaries=Summaries(layouts))
    for at in range(first, first + count, 64):
        names = tuple(f"{name}{n}" for n in range(at, min(at + 64, first + count)))
        made.summaries.add(Frame(names, array("q", [1]), array("q", [1]), array("d", [1.0] * len(names))))
    return made


def held(runs: OrderedDict[str, RunMetrics]) -> int:
    lists = {id(one.summaries.keys_held): one.summaries.keys_held for one in runs.values()}
    return sum(one.summaries.size for one in runs.values()) + sum(keys.bytes for keys in lists.values())


def test_runs_with_many_keys_of_their_own_go_when_they_are_more_than_the_bound() -> None:
    layouts = Layouts()
    runs = OrderedDict((f"r{n}", run(layouts, n * 6_400, 6_400)) for n in range(10))
    assert held(runs) > 6 * MB
    make_room(runs, {"r0"}, 3 * MB)
    assert held(runs) <= 3 * MB
    assert next(iter(runs)) == "r0", "a run of the batch stays, however old"
    assert list(runs)[1:] == [f"r{n}" for n in range(10 - len(runs) + 1, 10)], "those used last stay"


def test_runs_that_share_their_names_are_counted_with_one_list() -> None:
    layouts = Layouts()
    runs = OrderedDict((f"r{n}", run(layouts, 0, 6_400)) for n in range(10))
    most = held(runs)
    assert most < 5 * MB
    make_room(runs, (), most)
    assert len(runs) == 10


def test_names_that_only_a_run_had_which_is_gone_go_with_it() -> None:
    layouts = Layouts()
    runs = OrderedDict(large=run(layouts, 0, 64_000), small=run(layouts, 0, 64))
    assert runs["large"].summaries.keys_held is runs["small"].summaries.keys_held
    make_room(runs, {"small"}, 1 * MB)
    assert list(runs) == ["small"]
    assert held(runs) < MB
    assert list(runs["small"].summaries) == [f"key{n}" for n in range(64)]
