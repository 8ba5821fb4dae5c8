"""LIKE in Python, as Postgres understands it: `%` is any text, `_` any one character, a backslash takes the next as it is."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Test = Callable[[str], bool]
Find = Callable[[str, int, int], int]
"""Where a part begins in text[start:end], as an index of the text; -1 if nowhere."""


class _Part:
    """What stands between two `%`: it has one length, so the leftmost place is as good as any."""

    def __init__(self, characters: Sequence[str | None]) -> None:
        self.length = len(characters)
        self.is_text = None not in characters
        self.text = "".join(character or "" for character in characters)
        if self.is_text:
            text = self.text
            self.find: Find = lambda value, start, end: value.find(text, start, end)
        else:
            found = re.compile("".join("." if c is None else re.escape(c) for c in characters), re.DOTALL)

            def find(value: str, start: int, end: int) -> int:
                match = found.search(value, start, end)
                return match.start() if match else -1

            self.find = find


def like(pattern: str, *, ignore_case: bool = False) -> Test:
    """Tells of a text whether the whole of it matches. The pattern must not end with a single backslash.

    `ignore_case` is for ASCII alone, pattern and texts: how Postgres folds other letters is its locale's business.
    Each part between two `%` is looked for once, from the left: no pattern makes it go back.
    """
    parts = _parts(pattern.lower() if ignore_case else pattern)
    test = _test(parts)
    return (lambda text: test(text.lower())) if ignore_case else test


def verdicts(values: Sequence[str], pattern: str, *, ignore_case: bool = False) -> Any:
    """Of each text whether it matches, as a NumPy array."""
    test = like(pattern, ignore_case=ignore_case)
    return np.fromiter(map(test, values), bool, len(values))


def _parts(pattern: str) -> list[_Part]:
    parts: list[list[str | None]] = [[]]
    characters = iter(pattern)
    for character in characters:
        if character == "%":
            parts.append([])
        elif character == "_":
            parts[-1].append(None)
        else:
            parts[-1].append(next(characters) if character == "\\" else character)
    return [_Part(part) for part in parts]


def _test(parts: list[_Part]) -> Test:
    first, *middle, last = parts if len(parts) > 1 else (parts[0], parts[0])
    if len(parts) == 1:
        return lambda text: len(text) == first.length and first.find(text, 0, len(text)) == 0
    if first.length == last.length == 0 and len(middle) == 1 and middle[0].is_text:
        inside = middle[0].text
        return lambda text: inside in text

    def test(text: str) -> bool:
        end = len(text) - last.length
        if end < first.length or first.find(text, 0, first.length) or last.find(text, end, len(text)) != end:
            return False
        at = first.length
        for part in middle:
            found = part.find(text, at, end)
            if found < 0:
                return False
            at = found + part.length
        return True

    return test
