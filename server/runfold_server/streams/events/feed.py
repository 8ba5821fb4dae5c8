"""Streams of events: one feed as they are appended, one as the folds decide about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runfold_log.admin import LogInfo
from runfold_log.cluster import KafkaCluster
from runfold_log.reader import Stretch
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import partition_count
from runfold_server.reads.reader import Reader
from runfold_server.security.slots import Slots
from runfold_server.streams.live_feed import Audience, LiveFeed, StreamKind

from .event_json import Entry
from .outcomes import set_outcomes
from .start_positions import StartPositions
from .subscription import EventSubscription

MAX_STREAMS, MAX_STREAMS_PER_CLIENT = 200, 100
"""Streams of one server process, and those of one client, of one kind."""
_SLOW_SECONDS = 30.0
"""How long a stream that catches up waits for a client that reads nothing: it keeps others from catching up."""
_FETCH_BYTES = 256 * 1024
"""Of one partition at a time; a larger record comes alone."""
_MAX_RECORDS = 500


class EventStreams(StreamKind[EventSubscription, Entry]):
    """Events of all partitions, by one reader from the log's end on.

    With `outcomes_from`, with what the folds decided.
    """

    name = "events"
    fetch_bytes = _FETCH_BYTES
    max_records = _MAX_RECORDS
    slow_seconds = _SLOW_SECONDS
    reads_partitions_apart = False

    def __init__(self, starts: StartPositions, outcomes_from: Reader | None = None) -> None:
        self._starts, self._reader = starts, outcomes_from

    async def start_offsets(self, info: LogInfo) -> Mapping[Partition, int]:
        return await self._starts.ends(info)

    async def prepare(
        self, info: LogInfo, where: Partition, stretch: Stretch, audience: Audience[EventSubscription]
    ) -> Sequence[Entry]:
        """Entries of all records; with outcomes only of those that a stream wants, since each costs a look-up."""
        count = partition_count(where.topic, info.partitions)
        entries = [Entry(raw, count) for raw in stretch.raws]
        if self._reader is not None:
            filters = [stream.filter for stream in audience.streams]
            entries = [entry for entry in entries if any(one.wants(entry) for one in filters)]
            await set_outcomes(self._reader, where, entries)
        return entries


EventFeed = LiveFeed[EventSubscription, Entry]


@dataclass(frozen=True, slots=True)
class EventFeeds:
    """The streams of events of one server process."""

    starts: StartPositions
    plain: EventFeed
    decided: EventFeed

    def stop(self) -> None:
        """End all streams."""
        self.plain.stop()
        self.decided.stop()


def event_feeds(kafka: KafkaCluster, reader: Reader, *, timeout: float) -> EventFeeds:
    """The feeds; `timeout` bounds a request to Kafka, in seconds."""
    starts = StartPositions(kafka, timeout)

    def feed(kind: EventStreams) -> EventFeed:
        return LiveFeed(kafka, kind, Slots("streams of events", MAX_STREAMS, MAX_STREAMS_PER_CLIENT))

    return EventFeeds(starts, feed(EventStreams(starts)), feed(EventStreams(starts, outcomes_from=reader)))
