"""Pages of runs as JSON: found over columns in memory; each run is encoded once until it changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from runfold_projections.postgres.connection import Connection
from runfold_projections.run_search.change_feed import ChangeFeed
from runfold_projections.run_search.column_search import RunSearch
from runfold_projections.run_search.run_finder import ColumnsLoading, RunFinder, SnapshotTooOld
from runfold_projections.runs.queries import Run, ViewType, parse_search, read_search, runs_by_id
from runfold_schemas.bounded_cache import BoundedCache
from runfold_server.reads.reader import Reader
from runfold_server.reads.scopes import Scope

_TRIES = 5
_AT_ONCE = 250
_ENTRY_BYTES = 400
"""Memory of an encoded run without its JSON."""
EncodeRun = Callable[[Run], bytes]
"""Encodes a run as JSON."""


@dataclass(frozen=True, slots=True)
class Question:
    """A search as it was asked; `limit` and `offset` in runs."""

    experiment_ids: Sequence[int]
    filter_string: str
    view: ViewType
    order_by: Sequence[str]
    limit: int
    offset: int


class RunSearches:
    """Answers searches for one server process, with at most `most_bytes` of memory for columns and written runs."""

    def __init__(self, reader: Reader, encode: EncodeRun, most_bytes: int) -> None:
        self._reader = reader
        self._feed = ChangeFeed()
        self._encoded = EncodedRuns(self._feed, encode, most_bytes // 4)
        self._finder = RunFinder(self._feed, most_bytes - most_bytes // 4)

    @property
    def nbytes(self) -> int:
        """About how much is kept now."""
        return self._finder.nbytes + self._encoded.nbytes

    async def strong(self, scope: Scope, question: Question) -> list[msgspec.Raw]:
        """A page of runs in MLflow's JSON, by a strong read. Its words are checked in it: a bad one is
        InvalidParameter.
        """
        overtaken = 0
        while overtaken < _TRIES:
            page = (await self._reader.read(scope, lambda connection: self._page(connection, question))).value
            if isinstance(page, list):
                return page
            if page is None:
                overtaken += 1
            else:
                await self._finder.free(page)
        # Other searches keep overtaking this one: SQL needs no state of theirs.
        return (await self._reader.read(scope, lambda connection: self._page_by_sql(connection, question))).value

    async def _page(self, connection: Connection, question: Question) -> list[msgspec.Raw] | RunSearch | None:
        """The page in the connection's snapshot; None if what is kept is newer, the search if it has to wait for
        others.
        """
        search = read_search(question.experiment_ids, question.filter_string, question.view, question.order_by)
        epoch, deleted = await self._feed.snapshot_epoch(connection, search.scope.experiments)
        if epoch is None:
            return None
        search = search.where_deleted(deleted)
        try:
            run_ids = await self._finder.run_ids(connection, epoch, search, question.limit, question.offset)
        except SnapshotTooOld:
            return None
        except ColumnsLoading:
            return search
        return await self._encoded.of(connection, epoch, run_ids, deleted)

    async def _page_by_sql(self, connection: Connection, question: Question) -> list[msgspec.Raw]:
        search = await parse_search(
            connection, question.experiment_ids, question.filter_string, question.view, question.order_by
        )
        run_ids = await self._finder.run_ids(connection, None, search, question.limit, question.offset)
        return await self._encoded.of(connection, None, run_ids, search.scope.deleted)


@dataclass(frozen=True, slots=True)
class _EncodedRun:
    epoch: int
    experiment_id: int
    is_deleted: bool
    """Whether the experiment was deleted, which its runs show."""
    body: bytes


class EncodedRuns:
    """Runs as JSON, each valid from the epoch of its read until the feed names it; at most `max_bytes` of them."""

    def __init__(self, feed: ChangeFeed, encode: EncodeRun, max_bytes: int) -> None:
        self._feed = feed
        self._encode = encode
        self._cache: BoundedCache[str, _EncodedRun] = BoundedCache(max_bytes)
        feed.subscribe(self._forget)

    @property
    def nbytes(self) -> int:
        """Memory of all encoded runs, approximately."""
        return self._cache.cost

    async def of(
        self, connection: Connection, epoch: int | None, run_ids: Sequence[str], deleted: frozenset[int]
    ) -> list[msgspec.Raw]:
        """These runs as they are in the connection's snapshot. `epoch` is the snapshot's, None if it has none."""
        found: dict[str, bytes] = {}
        newest = -1 if epoch is None else epoch
        for run_id in run_ids:
            cached = self._cache.get(run_id)
            # One that a later snapshot showed may be newer than this snapshot.
            if cached is not None and cached.epoch <= newest and cached.is_deleted == (cached.experiment_id in deleted):
                found[run_id] = cached.body
        missing = [run_id for run_id in run_ids if run_id not in found]
        # In chunks, so that other requests get their turn during each query.
        for start in range(0, len(missing), _AT_ONCE):
            rows = await runs_by_id(connection, missing[start : start + _AT_ONCE], deleted)
            is_newest = epoch == self._feed.epoch
            for row in rows:
                found[row.run_id] = body = self._encode(row)
                if epoch is not None and is_newest:
                    encoded = _EncodedRun(epoch, row.experiment_id, row.experiment_id in deleted, body)
                    self._cache.put(row.run_id, encoded, len(body) + _ENTRY_BYTES)
        return [msgspec.Raw(found[run_id]) for run_id in run_ids]

    def _forget(self, changed: frozenset[str] | None) -> None:
        if changed is None:
            self._cache.clear()
            return
        for run_id in changed:
            self._cache.pop(run_id)
