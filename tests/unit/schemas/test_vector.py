"""A vector is the same after it was written and read; what is none is refused with the right form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import parse_vector, write_vector

PARTITIONS = st.builds(Partition, st.sampled_from(Topic), st.integers(0, 1000))


@given(st.dictionaries(PARTITIONS, st.integers(0, 2**62), min_size=1))
def test_a_vector_is_read_as_it_was_written(vector: dict[Partition, int]) -> None:
    assert parse_vector(write_vector(vector)) == vector


@pytest.mark.parametrize("text", ["", "runs:3", "runs:0:1,,runs:1:1", "moon:0:1", "runs:0:1,runs:0:2", "runs:0:-1"])
def test_what_is_no_vector_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"position vector: .*(topic:partition:offset|topic is one of|named twice)"):
        parse_vector(text)
