"""From a run's facts and rows to records that are ready to be appended."""

import time
from collections.abc import Iterable
from typing import TypeVar

from pydantic import ValidationError

from runfold_log.sequencer import Sequencer
from runfold_schemas.codec import wire
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.codec.envelope import Envelope, Writer
from runfold_schemas.errors import BadEvent
from runfold_schemas.events.frames import MAX_FRAME_BYTES, Frame, most_key_bytes, split
from runfold_schemas.events.runs import Event, Fact, LineFact, MetricsLogged
from runfold_schemas.ids import Ids
from runfold_schemas.positions.topics import Topic

F = TypeVar("F", bound=Fact)


class RunEncoder:
    """Gives a run's events their ids, envelopes and sequences, which a repeated delivery then keeps.

    One per run and process: it is one writer. Facts and metrics count apart, so two threads may use it, one for each.
    """

    def __init__(self, run_id: str, ids: Ids, *, node: str = "", rank: int | None = None, attempt: str = "") -> None:
        self.run_id, self._key, self._ids = run_id, run_id.encode(), ids
        self._sequencer = Sequencer(ids, node=node, rank=rank, attempt=attempt)

    @property
    def writer(self) -> Writer:
        """The writer that all records of this encoder name."""
        return self._sequencer.writer

    def fact(self, event: Fact) -> Outgoing:
        """A fact about the run as a record; ValueError if it is larger than a record may be."""
        return self._record(Topic.RUNS, event)

    def turn(self, event: LineFact) -> Outgoing:
        """An attempt's start, a rewind or a fork as a record. To be called in the order of the points, by the thread that calls `metrics`."""
        return self._record(Topic.METRICS, event)

    def creation(self) -> tuple[str, int]:
        """Event id and sequence for the run's creation, which is completed later."""
        _, sequence = self._sequencer.take(Topic.RUNS, self.run_id)
        return self._ids.event_id(), sequence

    def metrics(self, frames: Iterable[Frame]) -> list[tuple[Outgoing, int]]:
        """Frames as records below the contract's bounds, in order, each with its number of points."""
        records: list[tuple[Outgoing, int]] = []
        pack: list[Frame] = []
        size = 0
        for frame in frames:
            for part in split(frame):
                cost = _most_bytes(part)
                if pack and size + cost > MAX_FRAME_BYTES:
                    records.append(self._metrics(pack))
                    pack, size = [], 0
                pack.append(part)
                size += cost
        if pack:
            records.append(self._metrics(pack))
        return records

    def _metrics(self, frames: list[Frame]) -> tuple[Outgoing, int]:
        event = MetricsLogged(self.run_id, tuple(frames))
        return self._record(Topic.METRICS, event), event.points

    def _record(self, topic: Topic, event: Event) -> Outgoing:
        try:
            value = wire.encode(event)
        except BadEvent as error:
            raise ValueError(str(error)) from None
        # After the encoding: what fails there must not leave a hole in the sequence.
        writer, sequence = self._sequencer.take(topic, self.run_id)
        now = time.time_ns() // 1_000_000
        envelope = Envelope(self._ids.event_id(), event.subject, now, writer, sequence)
        return Outgoing(topic, self._key, value, envelope.headers())


def _most_bytes(frame: Frame) -> int:
    return most_key_bytes(frame.keys) + frame.rows * (8 * len(frame.keys) + 20) + 64


def checked(event_class: type[F], **fields: object) -> F:
    """Build a fact; ValueError names the field that breaks the contract, and how."""
    try:
        return event_class(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
