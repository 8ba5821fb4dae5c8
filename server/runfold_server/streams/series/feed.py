"""Streams of series: what the fold of metrics took in, as it is in the log.

Merged segments have no offsets any more; the log has. What it repeats, or the fold set aside, is left out here as
there.
"""

from collections.abc import Sequence

from runfold_log.admin import LogInfo
from runfold_log.cluster import KafkaCluster
from runfold_log.reader import Stretch
from runfold_projections.metrics.branches import RunBranches
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_projections.series.branches_at import branches_at
from runfold_projections.series.skipped_offsets import skipped_offsets
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Record, read_record
from runfold_schemas.errors import SchemaError
from runfold_schemas.positions.position import Partition
from runfold_server.reads.reader import Reader
from runfold_server.security.slots import Slots
from runfold_server.streams.live_feed import Audience, LiveFeed, StreamKind
from runfold_server.streams.log_reader import Gone
from runfold_server.streams.patient_reads import read_when_folded

from .effective_points import effective
from .subscription import SeriesSubscription

MAX_STREAMS, MAX_STREAMS_PER_CLIENT = 500, 100
"""Streams of one server process, and those of one client."""
_FETCH_BYTES = 4 * 1024 * 1024
_MAX_RECORDS = 200
"""Records of one read: their points are decoded together, in one turn of the event loop."""


class SeriesStreams(StreamKind[SeriesSubscription, Record]):
    """Points of runs, one reader per partition: a stream is about few of them."""

    name = "series"
    fetch_bytes = _FETCH_BYTES
    max_records = _MAX_RECORDS
    slow_seconds = None
    reads_partitions_apart = True

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def start_offsets(self, info: LogInfo) -> None:
        return None

    async def prepare(
        self, info: LogInfo, where: Partition, stretch: Stretch, audience: Audience[SeriesSubscription]
    ) -> Sequence[Record]:
        """The records of these streams' runs that the fold took in, without rows that were cut off before they came."""
        is_wanted = audience.is_interested_in
        wanted = [raw for raw in stretch.raws if raw.key is not None and is_wanted(raw.key.decode(errors="replace"))]
        if not wanted:
            return []
        start, end = wanted[0].position.offset, wanted[-1].position.offset + 1
        run_ids = sorted(filter(storable, {raw.key.decode(errors="replace") for raw in wanted if raw.key is not None}))

        async def query(connection: Connection) -> tuple[frozenset[int], dict[str, RunBranches]]:
            skipped = await skipped_offsets(connection, where.partition, start, end)
            return skipped, await branches_at(connection, run_ids, start, end)

        # The branches of the runs that have cuts, as they were before `start`.
        skipped, branches = await read_when_folded(self._reader, where, end, query)
        records = []
        for raw in wanted:
            if raw.position.offset in skipped:
                continue
            try:
                records.append(read_record(raw, released_catalog(), info.partitions))
            except SchemaError as error:
                # The fold could read it, so a newer release wrote and folds it.
                raise Gone(f"this server can't read {raw.position}: {error}; it is older than its workers") from error
        return list(effective(records, branches))


SeriesFeed = LiveFeed[SeriesSubscription, Record]


def series_feed(kafka: KafkaCluster, reader: Reader) -> SeriesFeed:
    """The streams of series of one server process."""
    return LiveFeed(kafka, SeriesStreams(reader), Slots("streams of series", MAX_STREAMS, MAX_STREAMS_PER_CLIENT))
