"""The services behind the routes of one server process, in groups.

A helper takes the group it needs, a handler gets all.
"""

from dataclasses import dataclass, replace

from runfold_log.writer import LogWriter
from runfold_schemas.ids import Ids
from runfold_server.caches.history_cache import Histories
from runfold_server.caches.run_cache import ExperimentCache, RunCache
from runfold_server.caches.run_search_cache import RunSearches
from runfold_server.caches.snapshots import OpenSnapshot, Snapshots
from runfold_server.core.config import ServerConfig
from runfold_server.core.database import Database
from runfold_server.core.metrics import ServerMetrics
from runfold_server.freshness.end_offsets import EndOffsets
from runfold_server.integrity.verified_reads import Checks
from runfold_server.reads.exports import Exports
from runfold_server.reads.moments import Moments
from runfold_server.reads.reader import Reader
from runfold_server.streams.events.feed import EventFeeds
from runfold_server.streams.events.schema_definitions import Definitions
from runfold_server.streams.series.feed import SeriesFeed
from runfold_server.writes.writes import Writes
from runfold_storage.objects import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadServices:
    """The read models, and the moments and log ends that reads refer to."""

    database: Database
    reader: Reader
    pattern_reader: Reader
    """For queries that may take Postgres long. Its own connections keep them from holding up other reads."""
    moments: Moments
    snapshots: Snapshots
    log_ends: EndOffsets
    exports: Exports


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheServices:
    """What the process keeps between requests."""

    runs: RunCache
    experiments: ExperimentCache
    histories: Histories
    searches: RunSearches


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamServices:
    """Live streams of the log, and the schemas that its events are written in."""

    series: SeriesFeed
    events: EventFeeds
    definitions: Definitions


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactServices:
    """The object store, and the check of its bytes against the log."""

    store: Store
    checks: Checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """All services of one server process."""

    config: ServerConfig
    metrics: ServerMetrics
    ids: Ids
    log: LogWriter
    writes: Writes
    reads: ReadServices
    caches: CacheServices
    streams: StreamServices
    artifacts: ArtifactServices

    def in_snapshot(self, snapshot: OpenSnapshot) -> "Services":
        """The same services, reading from the tables of a snapshot."""
        reads = replace(self.reads, database=snapshot.database, reader=snapshot.reader, pattern_reader=snapshot.reader)
        return replace(self, reads=reads, caches=replace(self.caches, searches=snapshot.searches))
