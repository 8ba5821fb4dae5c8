"""One partition of the log of metrics, as the fold takes it in: read from Kafka, given out once the fold has passed it.

Merged segments do not know offsets any more; the log does. What it repeats, or the fold set aside, is left out here as there.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from runfold_log.cluster import KafkaCluster
from runfold_projections.metrics.branches import RunBranches
from runfold_projections.postgres.connection import Connection
from runfold_projections.search.tokens import storable
from runfold_projections.series.branches_at import branches_at
from runfold_projections.series.skipped_offsets import passed_over
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import Raw, Record, read_record
from runfold_schemas.errors import SchemaError
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_server.core.errors import Unavailable
from runfold_server.reads.reader import Reader
from runfold_server.streams.log_reader import Gone, StreamReader, open_stream_reader

from .effective_points import effective

FETCH_BYTES = 4 * 1024 * 1024
_MOST_RECORDS = 200
_log = structlog.get_logger(__name__)
IsWanted = Callable[[str], bool]
"""Whether anybody waits for the points of this run."""


class Tail:
    """Reads on from where it is told to. One reader at a time."""

    def __init__(self, log: StreamReader, where: Partition, partitions: int, reader: Reader) -> None:
        self._log, self._reader, self._where, self._partitions = log, reader, where, partitions

    async def stretch(self, start: int) -> tuple[list[Raw], int]:
        """The next records, perhaps none yet, and the offset behind them. Unavailable while Kafka is away; Gone."""
        return (await self._log.read()).get(self._where, ([], start))

    async def taken(self, raws: list[Raw], is_wanted: IsWanted) -> list[Record]:
        """The wanted ones of these records that the fold took in, without rows that were cut off before they came. Returns when it
        has passed them, however long that takes."""
        wanted = [raw for raw in raws if raw.key is not None and is_wanted(raw.key.decode(errors="replace"))]
        if not wanted:
            return []
        start, stop = wanted[0].position.offset, wanted[-1].position.offset + 1
        run_ids = {raw.key.decode(errors="replace") for raw in wanted if raw.key is not None}
        left_out, branches = await self._known(sorted(filter(storable, run_ids)), start, stop)
        records = []
        for raw in wanted:
            if raw.position.offset in left_out:
                continue
            try:
                records.append(read_record(raw, released_catalog(), self._partitions))
            except SchemaError as error:
                # The fold could read it, so a newer release wrote and folds it.
                raise Gone(f"this server can't read {raw.position}: {error}; it is older than its workers") from error
        return list(effective(records, branches))

    async def _known(self, run_ids: list[str], start: int, stop: int) -> tuple[frozenset[int], dict[str, RunBranches]]:
        """Which offsets the fold passed over, and branches of the runs that have cuts, as of `start`."""

        async def query(connection: Connection) -> tuple[frozenset[int], dict[str, RunBranches]]:
            left_out = await passed_over(connection, self._where.partition, start, stop)
            return left_out, await branches_at(connection, run_ids, start, stop)

        while True:
            try:
                return (await self._reader.at({self._where: stop}, query)).value
            except Unavailable as error:
                _log.warning("live_waits_for_the_fold", partition=str(self._where), error=error.message)
                await asyncio.sleep(min(1.0, error.retry_after))


@asynccontextmanager
async def open_tail(
    kafka: KafkaCluster, namespace: str, partition: int, partitions: int, reader: Reader, start: int
) -> AsyncIterator[Tail]:
    """A consumer of its own on the partition, at `start`. Unavailable while Kafka is away, Gone if the log does not hold `start`."""
    where = Partition(Topic.METRICS, partition)
    async with open_stream_reader(kafka, namespace, {where: start}, fetch_bytes=FETCH_BYTES, most=_MOST_RECORDS) as log:
        yield Tail(log, where, partitions, reader)
