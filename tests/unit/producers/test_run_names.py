"""Names of runs that nobody named."""

from __future__ import annotations

import random
import re

from runfold.names import ADJECTIVES, ANIMALS, run_name


def test_names_are_readable_and_follow_their_source_of_chance() -> None:
    rng = random.Random(1)
    names = [run_name(rng) for _ in range(2000)]
    assert all(re.fullmatch(r"[a-z]+-[a-z]+-\d{1,3}", name) for name in names)
    assert len(set(names)) > 1990
    assert names[:5] == [run_name(r) for r in [random.Random(1)] for _ in range(5)]
    for words in (ADJECTIVES, ANIMALS):
        assert len(set(words)) == len(words) > 120
    assert max(map(len, ADJECTIVES)) + max(map(len, ANIMALS)) + len("--999") <= 20
