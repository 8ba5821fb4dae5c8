"""Shares of work: simulated rounds of workers that join, leave, die and can't read some partitions."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runfold_projections.control.leases import SPARE_AFTER, Leasable, Lease, plan_leases
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic

ENOUGH = 12
"""Rounds after which any number of workers here must have settled, if they can read everything."""


@dataclass
class Floor:
    """The lease table, and workers that renew one after the other, as the table's lock makes them."""

    items: list[Leasable]
    owner: dict[Leasable, str | None] = field(default_factory=dict)
    free_for: dict[Leasable, float] = field(default_factory=dict)
    unreadable: dict[str, set[Leasable]] = field(default_factory=dict)
    """By live worker: what it will find that it can't read."""
    known: dict[str, set[Leasable]] = field(default_factory=dict)
    """By live worker: what it has found so."""

    def __post_init__(self) -> None:
        self.owner = dict.fromkeys(self.items)

    def join(self, worker: str, unreadable: Iterable[Leasable] = ()) -> None:
        self.unreadable[worker], self.known[worker] = set(unreadable), set()

    def leave(self, worker: str) -> None:
        del self.unreadable[worker], self.known[worker]
        self.owner = {item: None if owner == worker else owner for item, owner in self.owner.items()}

    def renew(self, me: str) -> bool:
        """One worker's turn; whether it changed anything."""
        leases = {item: Lease(owner, self.free_for.get(item, 0.0)) for item, owner in self.owner.items()}
        decided = plan_leases(me, leases, self.known)
        for item in decided.take:
            assert self.owner[item] is None, "nothing is taken from anybody"
            self.owner[item] = me
        for item in decided.give:
            assert self.owner[item] == me, "nobody gives up what is another's"
            self.owner[item] = None
        assert not set(decided.take) & set(decided.give)
        assert not set(decided.take) & self.known[me], "nobody takes again what it could not read"
        lost = {item for item, owner in self.owner.items() if owner == me and item in self.unreadable[me]}
        self.known[me] |= lost
        self.owner.update(dict.fromkeys(lost))
        return bool(decided.take or decided.give or lost)

    def round(self, order: Iterable[str]) -> bool:
        changed = False
        for worker in order:
            changed |= self.renew(worker)
        self.free_for = {
            item: self.free_for.get(item, 0.0) + 1.0 for item, owner in self.owner.items() if owner is None
        }
        return changed

    def load(self, worker: str) -> int:
        return sum(owner == worker for owner in self.owner.values())


def work(runs: int, handlers: int) -> list[Leasable]:
    return [
        Leasable(f"h{handler}", Partition(topic, number))
        for handler in range(handlers)
        for topic, count in ((Topic.EXPERIMENTS, 1), (Topic.RUNS, runs), (Topic.METRICS, runs))
        for number in range(count)
    ]


@st.composite
def stories(draw: st.DrawFn, blind: bool = True) -> Floor:
    """A floor after an eventful past, in the middle of which it is left."""
    floor = Floor(work(draw(st.integers(1, 6)), draw(st.integers(1, 2))))
    blindness = st.frozensets(st.sampled_from(floor.items)) if blind else st.just(frozenset[Leasable]())
    floor.join("w0")
    for number in range(1, draw(st.integers(1, 8))):
        alive = sorted(floor.known)
        happening = draw(st.sampled_from(["join", "join", "leave", "rounds"]))
        if happening == "join":
            floor.join(f"w{number}", draw(blindness))
        elif happening == "leave" and len(alive) > 1:
            floor.leave(draw(st.sampled_from(alive)))
        floor.round(draw(st.permutations(sorted(floor.known))))
    return floor


def settle(floor: Floor, order: list[str]) -> None:
    # What a worker can't read it finds out by trying: one round to take it, one for the others to move.
    enough = ENOUGH + 2 * sum(len(unreadable) for unreadable in floor.unreadable.values())
    for _ in range(enough):
        if not floor.round(order):
            return
    raise AssertionError(f"no peace after {enough} rounds: {floor.owner}")


@settings(max_examples=200, deadline=None)
@given(stories(), st.data())
def test_workers_come_to_rest_with_even_shares_and_nothing_free_that_can_be_read(
    floor: Floor, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(sorted(floor.known)))
    settle(floor, order)
    for item, owner in floor.owner.items():
        readers = [worker for worker in floor.known if item not in floor.unreadable[worker]]
        assert (owner in readers) if readers else owner is None, f"{item} is nobody's though {readers} can read it"
    for one in floor.known:
        for item in (item for item, owner in floor.owner.items() if owner == one):
            for other in floor.known:
                if item not in floor.unreadable[other]:
                    assert floor.load(one) - floor.load(other) <= 1, f"{other} could have {item} of {one}"
    able = [floor.load(worker) for worker in floor.known if not floor.unreadable[worker]]
    assert not able or max(able) - min(able) <= 1


@settings(max_examples=100, deadline=None)
@given(stories(blind=False), st.data())
def test_once_even_nothing_moves_whoever_renews(floor: Floor, data: st.DataObject) -> None:
    settle(floor, sorted(floor.known))
    assert not floor.round(data.draw(st.lists(st.sampled_from(sorted(floor.known)), max_size=20)))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 8), st.integers(1, 5))
def test_workers_that_start_together_have_their_shares_after_one_round(runs: int, count: int) -> None:
    floor = Floor(work(runs, 1))
    for number in range(count):
        floor.join(f"w{number}")
    floor.round(sorted(floor.known))
    assert None not in floor.owner.values()
    assert not floor.round(sorted(floor.known))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 8), st.integers(2, 5))
def test_a_newcomer_moves_its_share_and_nothing_else(runs: int, count: int) -> None:
    floor = Floor(work(runs, 1))
    for number in range(count - 1):
        floor.join(f"w{number}")
    settle(floor, sorted(floor.known))
    before = dict(floor.owner)
    floor.join("new")
    settle(floor, sorted(floor.known))
    moved = [item for item in floor.items if floor.owner[item] != before[item]]
    assert {floor.owner[item] for item in moved} <= {"new"}
    assert len(moved) == len(floor.items) // count


def test_what_the_one_meant_to_take_it_leaves_lying_is_taken_by_another() -> None:
    floor = Floor(work(4, 1))
    floor.join("asleep")
    floor.join("awake")
    for _ in range(20):
        floor.round(["awake"])
        assert max(floor.free_for.values(), default=0.0) <= SPARE_AFTER + 1


@pytest.mark.parametrize("together", [True, False])
def test_a_share_is_a_mixture_of_handlers(together: bool) -> None:
    floor = Floor(
        [Leasable(topic.value, Partition(topic, n)) for topic in (Topic.RUNS, Topic.METRICS) for n in range(6)]
    )
    floor.join("w0")
    if not together:
        settle(floor, ["w0"])
    floor.join("w1")
    settle(floor, ["w0", "w1"])
    for worker in ("w0", "w1"):
        mine = [item.handler for item, owner in floor.owner.items() if owner == worker]
        assert sorted(mine) == ["metrics"] * 3 + ["runs"] * 3


def test_of_equally_idle_workers_the_one_with_less_of_a_handler_takes_it() -> None:
    def item(topic: Topic, number: int) -> Leasable:
        return Leasable(topic.value, Partition(topic, number))

    leases = {item(Topic.METRICS, n): Lease("w0", 0.0) for n in range(3)}
    leases |= {item(Topic.RUNS, n): Lease("w1", 0.0) for n in range(3)}
    leases |= {item(topic, 3): Lease(None, 0.0) for topic in (Topic.METRICS, Topic.RUNS)}
    workers: dict[str, set[Leasable]] = {"w0": set(), "w1": set()}
    assert plan_leases("w0", leases, workers).take == [item(Topic.RUNS, 3)]
    assert plan_leases("w1", leases, workers).take == [item(Topic.METRICS, 3)]
