"""Encoding of a run's facts and metrics as records for the log."""

import time
from collections.abc import Iterable
from typing import TypeVar

from pydantic import ValidationError

from runfold_log.sequencer import Sequencer
from runfold_schemas.codec import wire
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.codec.envelope import Envelope, Writer
from runfold_schemas.errors import BadEvent
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.base import Fact
from runfold_schemas.events.frames import MAX_FRAME_BYTES, Frame, most_key_bytes, split
from runfold_schemas.events.metrics import BranchFact, MetricsLogged
from runfold_schemas.ids import Ids
from runfold_schemas.positions.topics import Topic

F = TypeVar("F", bound=Fact)


class RunEncoder:
    """Gives a run's events their ids, envelopes and sequence numbers, which repeated deliveries keep.

    There is one encoder per run and process, and it is one writer. Facts and metrics have separate sequences, so one
    thread may encode facts while another encodes metrics.
    """

    def __init__(self, run_id: str, ids: Ids, *, node: str = "", rank: int | None = None, attempt: str = "") -> None:
        self.run_id, self._key, self._ids = run_id, run_id.encode(), ids
        self._sequencer = Sequencer(ids, node=node, rank=rank, attempt=attempt)

    @property
    def writer(self) -> Writer:
        """The writer in the envelopes of all records."""
        return self._sequencer.writer

    def fact(self, event: Fact) -> Outgoing:
        """Encode a fact about the run. ValueError if the record would be too large."""
        return self._record(Topic.RUNS, event)

    def branch_event(self, event: BranchFact) -> Outgoing:
        """Encode an attempt's start, a rewind or a fork.

        Call it in the order of the points, from the thread that calls `metrics`.
        """
        return self._record(Topic.METRICS, event)

    def creation(self) -> tuple[str, int]:
        """Reserve the event id and sequence number of the run's creation, which is encoded later."""
        _, sequence = self._sequencer.next_number(Topic.RUNS, self.run_id)
        return self._ids.event_id(), sequence

    def metrics(self, frames: Iterable[Frame]) -> list[tuple[Outgoing, int]]:
        """Encode frames as records within the size limit, in order. Each comes with its number of points."""
        records: list[tuple[Outgoing, int]] = []
        batch: list[Frame] = []
        size = 0
        for frame in frames:
            for part in split(frame):
                cost = _max_bytes(part)
                if batch and size + cost > MAX_FRAME_BYTES:
                    records.append(self._metrics(batch))
                    batch, size = [], 0
                batch.append(part)
                size += cost
        if batch:
            records.append(self._metrics(batch))
        return records

    def _metrics(self, frames: list[Frame]) -> tuple[Outgoing, int]:
        event = MetricsLogged(self.run_id, tuple(frames))
        return self._record(Topic.METRICS, event), event.points

    def _record(self, topic: Topic, event: Event) -> Outgoing:
        try:
            value = wire.encode(event)
        except BadEvent as error:
            raise ValueError(str(error)) from None
        # After the encoding, whose failure must not leave a gap in the sequence.
        writer, sequence = self._sequencer.next_number(topic, self.run_id)
        now = time.time_ns() // 1_000_000
        envelope = Envelope(self._ids.event_id(), event.subject, now, writer, sequence)
        return Outgoing(topic, self._key, value, envelope.headers())


def _max_bytes(frame: Frame) -> int:
    """Return an upper bound of the encoded size."""
    return most_key_bytes(frame.keys) + frame.rows * (8 * len(frame.keys) + 20) + 64


def checked(event_class: type[F], **fields: object) -> F:
    """Build a fact. ValueError names the invalid field and its problem."""
    try:
        return event_class(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
