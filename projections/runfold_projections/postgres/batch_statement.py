"""The changes of a batch and its checkpoint as one SQL statement: one round trip, all or nothing."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_PARAMETER = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True)
class RowChange:
    """A data-modifying statement with its own parameters, `$1` first.

    It must change nothing unless the CTE `fence` has a row: `… WHERE EXISTS (SELECT FROM fence)`. Rows are arrays for
    `unnest`, so the text does not depend on their number. All changes of a batch are parts of one statement: they see
    the tables as they were before it, and no two may touch the same row.
    """

    text: str
    values: tuple[Any, ...]


def columns(rows: Sequence[Sequence[Any]]) -> tuple[list[Any], ...]:
    """Transpose rows (at least one) into arrays for `unnest`."""
    return tuple(list(column) for column in zip(*rows, strict=True))


def combined(fence: RowChange, changes: Sequence[RowChange], final: RowChange) -> tuple[str, list[Any]]:
    """Return the statement and its values: `fence`, then the changes, then `final`, a query that may read `fence`."""
    values: list[Any] = []
    texts = []
    for change in (fence, *changes, final):
        texts.append(_renumbered(change.text, len(values)))
        values += change.values
    parts = [f"fence AS ({texts[0]})", *(f"change_{n} AS ({text})" for n, text in enumerate(texts[1:-1]))]
    return "WITH " + ",\n".join(parts) + "\n" + texts[-1], values


@lru_cache(maxsize=256)
def _renumbered(text: str, before: int) -> str:
    return _PARAMETER.sub(lambda found: f"${int(found[1]) + before}", text)
