"""The end of a prefix: the texts from the prefix to its end are exactly those that begin with it."""

from hypothesis import given
from hypothesis import strategies as st

from runfold_projections.series.keys import end_of

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\x00") | st.sampled_from("\ud7ff\U0010ffffaz")
texts = st.text(characters, max_size=6)


@given(texts, texts)
def test_texts_with_a_prefix_are_those_between_it_and_its_end(prefix: str, text: str) -> None:
    end = end_of(prefix)
    for one in (text, prefix + text, prefix, prefix[:-1] + text):
        assert (prefix <= one and (end is None or one < end)) == one.startswith(prefix)
    assert end is None or not any("\ud800" <= character <= "\udfff" for character in end)
