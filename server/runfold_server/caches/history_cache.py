"""Histories that were just read, for their next page: a client reads a long one page by page."""

from runfold_projections.postgres.connection import Connection
from runfold_projections.runs.rank_reduction_as_of import reduction_at
from runfold_projections.series.latest import MetricHistory, history, history_mark
from runfold_schemas.bounded_cache import BoundedCache
from runfold_schemas.events.rank_reduction import Reduction
from runfold_schemas.positions.vector import Vector, write_vector

MAX_BYTES = 64 * 1024 * 1024
"""Memory of all histories: 2.8 million points."""
_POINT_BYTES = 24
_ENTRY_BYTES = 1024
_Name = tuple[str, str, str, Reduction]
"""Run, key, the moment as a position vector (empty for the present), and the reduction over ranks."""


class Histories:
    """Reads histories, and keeps the last ones as long as the run's segments stay the same."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._cache: BoundedCache[_Name, tuple[tuple[int, ...], MetricHistory]] = BoundedCache(max_bytes)

    async def read(
        self,
        connection: Connection,
        run_id: str,
        key: str,
        as_of: Vector | None = None,
        reduction: Reduction | None = None,
    ) -> MetricHistory:
        """Read all points of a key, as `history` does, in the connection's snapshot; by default with the reduction of
        the tags.
        """
        mark, tagged = await history_mark(connection, run_id)
        if reduction is None:
            reduction = tagged if as_of is None else await reduction_at(connection, run_id, as_of)
        name = (run_id, key, "" if as_of is None else write_vector(as_of), reduction)
        cached = self._cache.get(name)
        if cached is not None and cached[0] == mark:
            return cached[1]
        found = await history(connection, run_id, key, as_of, reduction)
        self._cache.put(name, (mark, found), _POINT_BYTES * len(found) + _ENTRY_BYTES)
        return found
