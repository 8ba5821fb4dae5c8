"""Histories that were just read, for the next page of them: a client asks for a long one page by page."""

from collections import OrderedDict

from runfold_projections.database import Connection
from runfold_projections.queries.metrics import History, history, history_mark

MOST_BYTES = 64 * 1024 * 1024


class Histories:
    """Reads histories, and remembers the last ones as long as the run's segments stay the same. Bounded by bytes."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str], tuple[tuple[int, ...], History]] = OrderedDict()

    async def read(self, connection: Connection, run_id: str, key: str) -> History:
        """All points of a key, as `history` reads them, in the connection's snapshot."""
        mark = await history_mark(connection, run_id)
        kept = self._kept.get((run_id, key))
        if kept is not None and kept[0] == mark:
            self._kept.move_to_end((run_id, key))
            return kept[1]
        found = await history(connection, run_id, key)
        self._keep((run_id, key), mark, found)
        return found

    def _keep(self, name: tuple[str, str], mark: tuple[int, ...], found: History) -> None:
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
