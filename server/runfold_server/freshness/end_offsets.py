"""End offsets of the log's partitions: one look-up at a time, shared by all reads that began before it was sent."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol

import structlog

from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_server.core.coalescing import Coalescer
from runfold_server.core.errors import ApiError, Unavailable
from runfold_server.core.outages import kafka_outages

FOLDED = (Topic.EXPERIMENTS, Topic.REGISTRY, Topic.RUNS, Topic.METRICS)
"""Topics that have read models."""

_log = structlog.get_logger(__name__)


class EndOffsetSource(Protocol):
    """Where end offsets come from: `runfold_log.log_ends.LogEnds`."""

    def now(self) -> Awaitable[Mapping[Partition, int]]:
        """The end offset of each partition."""
        ...

    def at(self, time_ms: int) -> Awaitable[Mapping[Partition, int]]:
        """The end offset that each partition had at a time by the broker's clock."""
        ...


class EndOffsets:
    """End offsets of all partitions that have read models."""

    def __init__(self, source: EndOffsetSource) -> None:
        self._source = source
        self._coalescer: Coalescer[None, Mapping[Partition, int]] = Coalescer(self._look_up)

    async def now(self) -> Mapping[Partition, int]:
        """End offsets as of a moment after this call. Unavailable if Kafka does not answer in time."""
        return await self._coalescer.get(None)

    async def at(self, time_ms: int) -> Mapping[Partition, int]:
        """End offsets as of a time by the broker's clock. Unavailable if Kafka does not answer in time."""
        with kafka_outages():
            return await self._source.at(time_ms)

    async def _look_up(self, keys: Sequence[None]) -> Mapping[None, Mapping[Partition, int]]:
        try:
            with kafka_outages():
                return {None: await self._source.now()}
        except ApiError:
            raise
        except Exception as error:
            _log.exception("end_offsets_not_read", error=repr(error))
            raise Unavailable(f"the log's end offsets can't be read: {type(error).__name__}: {error}") from error
