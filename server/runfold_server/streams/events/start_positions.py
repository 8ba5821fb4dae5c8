"""Where a stream of events begins: at the log's beginning or end, at a place in it, or at a time."""

import re
from collections.abc import Mapping, Sequence

from runfold_log.admin import LogInfo
from runfold_log.cluster import KafkaCluster
from runfold_log.reader import LogReader
from runfold_schemas.codec.headers import parse_time
from runfold_schemas.errors import BadRecord
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import parse_vector, write_vector
from runfold_server.core.errors import InvalidParameter
from runfold_server.core.outages import kafka_outages
from runfold_server.streams.log_reader import Gone

BEGINNING, NOW = "beginning", "now"
_ID = re.compile(r"([0-9a-zA-Z-]{1,64})@(.*)", re.DOTALL)
_RETRY_MS = 50
_MS = re.compile(r"[0-9]{9,14}")


def write_id(log_id: str, sent: Mapping[Partition, int]) -> str:
    """Return the id of an event: the log, and the offsets sent with it."""
    return f"{log_id}@{write_vector(sent)}"


class StartPositions:
    """Places in one log. Every method raises Unavailable while Kafka is away."""

    def __init__(self, kafka: KafkaCluster, timeout: float) -> None:
        """`timeout` bounds a request to Kafka, in seconds."""
        self._kafka, self._timeout = kafka, timeout

    async def place(self, text: str, info: LogInfo, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The offsets at which a stream of these partitions begins. InvalidParameter says what forms there are; Gone
        if the log does not hold what comes next.
        """
        if text in (BEGINNING, NOW):
            return await self._bounds(info, partitions, first=text == BEGINNING)
        vector = _vector(text, info)
        if vector is not None:
            # A partition that a vector does not name does not count: nothing of it was sent.
            return await self._held({where: vector.get(where, 0) for where in partitions}, info)
        return await self._at(_time(text), info, partitions)

    async def ends(self, info: LogInfo) -> dict[Partition, int]:
        """Where every partition of the log ends now."""
        return await self._bounds(info, [where for topic in Topic for where in info.all_partitions(topic)], first=False)

    async def _held(self, offsets: dict[Partition, int], info: LogInfo) -> dict[Partition, int]:
        ends = await self._bounds(info, list(offsets), first=False)
        for where, offset in offsets.items():
            if offset > ends[where]:
                raise Gone(f"the log of {where} ends at offset {ends[where]}, not at {offset} or later")
        return offsets

    async def _bounds(self, info: LogInfo, partitions: Sequence[Partition], *, first: bool) -> dict[Partition, int]:
        with kafka_outages():
            async with self._reader(info) as reader:
                return await (reader.first_offsets if first else reader.end_offsets)(partitions)

    async def _at(self, time_ms: int, info: LogInfo, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """The first records from then on, by the broker's clock; in a partition without one, its end."""
        with kafka_outages():
            async with self._reader(info) as reader:
                return await reader.offsets_at(time_ms, partitions)

    def _reader(self, info: LogInfo) -> LogReader:
        return LogReader(self._kafka, info.namespace, request_timeout=self._timeout, retry_ms=_RETRY_MS)


def _vector(text: str, info: LogInfo) -> dict[Partition, int] | None:
    named = _ID.fullmatch(text)
    if named is None and not (":" in text and text[:1].isalpha()):
        return None
    if named is not None and named[1] != info.log_id:
        raise InvalidParameter("Parameter 'from' is the id of an event of another log than this server's.")
    try:
        vector = parse_vector(text if named is None else named[2])
    except ValueError as error:
        raise InvalidParameter(f"Invalid value for parameter 'from' supplied: {error}.") from None
    known = {where for topic in Topic for where in info.all_partitions(topic)}
    for where, offset in vector.items():
        if where not in known or offset >= 2**63:
            raise InvalidParameter(f"Invalid value for parameter 'from' supplied: the log has no {where}:{offset}.")
    return vector


def _time(text: str) -> int:
    if _MS.fullmatch(text):
        return int(text)
    try:
        time_ms = parse_time(text)
    except BadRecord:
        time_ms = -1
    if not 0 <= time_ms < 2**62:
        raise InvalidParameter(
            f"Invalid value {text[:80]!r} for parameter 'from' supplied: beginning, now, the id of an event, a "
            "position vector "
            "(runs:3:18240,metrics:3:99), a time with its zone (2026-03-01T12:30:00Z), or milliseconds since the epoch."
        )
    return time_ms
