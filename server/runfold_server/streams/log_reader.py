"""The log as streams read it: from exact offsets, with the server's errors."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from runfold_log.cluster import KafkaCluster
from runfold_log.errors import OffsetNotHeld
from runfold_log.reader import FETCH_WAIT_SECONDS, LogReader, Stretch
from runfold_schemas.positions.position import Partition
from runfold_server.core.outages import kafka_outages

_REQUEST_SECONDS = 10.0
_RETRY_MS = 50


class Gone(Exception):
    """The stream can't continue: the log does not hold the offset, or holds what this release can't read. The client
    must read again.
    """


class StreamReader:
    """Reads on from where it is. One caller at a time."""

    def __init__(self, reader: LogReader, most: int) -> None:
        self._reader, self._most = reader, most

    async def read(
        self, among: Collection[Partition] | None = None, wait: float = FETCH_WAIT_SECONDS
    ) -> dict[Partition, Stretch]:
        """The next records of these partitions; only those that moved within `wait` seconds. Unavailable while Kafka
        is away; Gone.
        """
        try:
            with kafka_outages():
                return await self._reader.read(among, wait=wait, most=self._most)
        except OffsetNotHeld as error:
            raise Gone(str(error)) from error


@asynccontextmanager
async def open_stream_reader(
    kafka: KafkaCluster, namespace: str, offsets: Mapping[Partition, int], *, fetch_bytes: int, most: int
) -> AsyncIterator[StreamReader]:
    """A reader at these offsets that returns up to `most` records at a time. Unavailable while Kafka is away; Gone."""
    reader = LogReader(kafka, namespace, fetch_bytes=fetch_bytes, request_timeout=_REQUEST_SECONDS, retry_ms=_RETRY_MS)
    with kafka_outages():
        await reader.start()
    try:
        try:
            with kafka_outages():
                await reader.assign_held(offsets)
        except OffsetNotHeld as error:
            raise Gone(str(error)) from error
        yield StreamReader(reader, most)
    finally:
        await reader.stop()
