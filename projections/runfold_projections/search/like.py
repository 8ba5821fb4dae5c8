"""LIKE in Python, as in Postgres: `%` is any text, `_` any one character, and a backslash escapes the next one."""

import re
from collections.abc import Callable, Sequence

Test = Callable[[str], bool]


class Pattern:
    """A pattern that does not end with a single backslash, cut at its `%`."""

    def __init__(self, pattern: str) -> None:
        self.pieces: list[list[str | None]] = [[]]
        """Between two `%`, character by character; None is any one."""
        characters = iter(pattern)
        for character in characters:
            if character == "%":
                self.pieces.append([])
            elif character == "_":
                self.pieces[-1].append(None)
            else:
                self.pieces[-1].append(next(characters) if character == "\\" else character)

    @property
    def parts(self) -> list[bytes] | None:
        """The pieces in UTF-8; None if there is a `_` in one."""
        if any(None in piece for piece in self.pieces):
            return None
        return ["".join(character or "" for character in piece).encode() for piece in self.pieces]


def like(pattern: str, *, ignore_case: bool = False) -> Test:
    """Return a test of whether a whole text matches.

    `ignore_case` needs a pattern and texts of ASCII: Postgres folds other letters by its locale. Each piece is searched
    once, from the left, so no pattern makes the test backtrack.
    """
    test = _test(Pattern(pattern.lower() if ignore_case else pattern).pieces)
    return (lambda text: test(text.lower())) if ignore_case else test


def _test(pieces: Sequence[Sequence[str | None]]) -> Test:
    found = [re.compile("".join("." if c is None else re.escape(c) for c in piece), re.DOTALL) for piece in pieces]
    if len(pieces) == 1:
        return lambda text: found[0].fullmatch(text) is not None
    before, behind = len(pieces[0]), len(pieces[-1])

    def test(text: str) -> bool:
        end = len(text) - behind
        if end < before or not found[0].match(text) or not found[-1].match(text, end):
            return False
        at = before
        for piece in found[1:-1]:
            match = piece.search(text, at, end)
            if match is None:
                return False
            at = match.end()
        return True

    return test
