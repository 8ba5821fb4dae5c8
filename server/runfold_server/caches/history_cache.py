"""Histories that were just read, for the next page of them: a client asks for a long one page by page."""

from collections import OrderedDict

from runfold_projections.postgres.connection import Connection
from runfold_projections.series.latest import History, history, history_mark
from runfold_schemas.positions.vector import Vector, write_vector

MOST_BYTES = 64 * 1024 * 1024
_Name = tuple[str, str, str]
"""Run, key, and the moment; empty: now."""


class Histories:
    """Reads histories, and remembers the last ones as long as the run's segments stay the same. Bounded by bytes."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[_Name, tuple[tuple[int, ...], History]] = OrderedDict()

    async def read(self, connection: Connection, run_id: str, key: str, as_of: Vector | None = None) -> History:
        """All points of a key, as `history` reads them, in the connection's snapshot."""
        mark = await history_mark(connection, run_id)
        name = (run_id, key, "" if as_of is None else write_vector(as_of))
        kept = self._kept.get(name)
        if kept is not None and kept[0] == mark:
            self._kept.move_to_end(name)
            return kept[1]
        found = await history(connection, run_id, key, as_of)
        self._keep(name, mark, found)
        return found

    def _keep(self, name: _Name, mark: tuple[int, ...], found: History) -> None:
        before = self._kept.pop(name, None)
        if before is not None:
            self._bytes -= _size(before[1])
        self._kept[name] = (mark, found)
        self._bytes += _size(found)
        while self._bytes > self._most and self._kept:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)


def _size(found: History) -> int:
    return 24 * len(found) + 1024
