"""The parts of a server that tell events: one feed as they are appended, one as they are decided."""

from dataclasses import dataclass

from runfold_log.cluster import KafkaCluster
from runfold_server.reads.reader import Reader

from .feed import Feed
from .outcomes import Judge
from .start_positions import Starts


@dataclass(frozen=True)
class Events:
    """For one server process."""

    starts: Starts
    plain: Feed
    decided: Feed

    def stop(self) -> None:
        """End all streams."""
        self.plain.stop()
        self.decided.stop()


def events(kafka: KafkaCluster, reader: Reader, *, timeout: float) -> Events:
    """The parts; `timeout` bounds a request to Kafka, in seconds."""
    starts = Starts(kafka, timeout)
    return Events(starts, Feed(kafka, starts.ends), Feed(kafka, starts.ends, Judge(reader).judge))
