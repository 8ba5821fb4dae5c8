"""Ranges are a set of whole numbers whose size grows with its holes only."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runfold_schemas.positions.sequences import Ranges
from tests.support.histories.schema_strategies import quick

numbers = st.lists(st.integers(0, 25) | st.integers(2**62 - 5, 2**62), max_size=60)


@quick
@given(numbers)
def test_ranges_behave_as_a_set(added: list[int]) -> None:
    ranges, model = Ranges(), set[int]()
    for number in added:
        assert ranges.add(number) is (number not in model)
        model.add(number)
        for probe in (number - 1, number, number + 1, 0, 13):
            assert (probe in ranges) is (probe in model)
    assert all(a < b for a, b in pairwise(ranges.bounds))
    assert len(ranges.bounds) % 2 == 0
    missing_runs = sum(1 for number in model if number > 0 and number - 1 not in model)
    assert len(ranges.bounds) == 2 * (missing_runs + (0 in model))
    assert ranges.holes == (max(model) + 1 - len(model) if model else 0)


@quick
@given(numbers, st.data())
def test_bounds_are_canonical_whatever_the_order(added: list[int], data: st.DataObject) -> None:
    one, other = Ranges(), Ranges()
    for number in added:
        one.add(number)
    for number in data.draw(st.permutations(added)):
        other.add(number)
    assert one == other


@quick
@given(numbers)
def test_bounds_carry_the_whole_state(added: list[int]) -> None:
    ranges = Ranges()
    for number in added:
        ranges.add(number)
    again = Ranges(ranges.bounds)
    assert again == ranges
    again.add(30)
    assert 30 not in ranges


def test_a_million_events_in_order_are_one_range() -> None:
    ranges = Ranges()
    for number in range(1_000_000):
        ranges.add(number)
    assert ranges.bounds == [0, 1_000_000]
    assert ranges.holes == 0


def test_a_late_arrival_fills_its_hole() -> None:
    ranges = Ranges([0, 5, 7, 9])
    assert ranges.holes == 2
    assert (ranges.add(6), ranges.add(5)) == (True, True)
    assert ranges.bounds == [0, 9]
    assert ranges.add(5) is False


def test_ranges_equal_by_value_only() -> None:
    assert Ranges([0, 1]) == Ranges([0, 1])
    assert Ranges([0, 1]) != Ranges([0, 2])
    assert Ranges([0, 1]) != [0, 1]
    assert repr(Ranges([0, 1])) == "Ranges([0, 1])"
