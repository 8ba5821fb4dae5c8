"""The journal: every entity's own events, in the log's order, each with its outcome. A covering index of the log.

The events of one entity in one batch are a row, so a run that is logged at once takes one row instead of fifteen. From
time to time the entity's state is kept next to them, so that its state at any moment is a short fold away. The journal
commits with the batch's other changes: it holds everything below the checkpoint. Its rows show how the log was cut into
batches, so they are not canonical; outcomes are canonical elsewhere.
"""

from dataclasses import dataclass, field

import cramjam
import msgspec

from runfold_projections.core.projector import Projector, Rereading, StateAt
from runfold_projections.core.rejection import Rejection
from runfold_projections.postgres.batch_statement import RowChange, columns
from runfold_projections.postgres.connection import Connection
from runfold_schemas.codec.envelope import Envelope, Writer
from runfold_schemas.codec.record import Record
from runfold_schemas.codec.wire import decode
from runfold_schemas.positions.position import Partition, Position

EVERY = 256
"""Accepted events between two kept states of an entity; more where the state is large (see `_BYTES_PER_EVENT`)."""
_BYTES_PER_EVENT = 400
"""Bytes of state per event: bounds the space of states by the space of events."""
_MOST_COUNTED = 50_000
_COMPRESSED_FROM = 1024
_LEVEL = 1


class JournalEntry(msgspec.Struct, array_like=True, gc=False):
    """An event of an entity.

    `code` and `message` of a rejection are empty if it was accepted. Times are ms since the epoch.
    """

    offset: int
    broker_ms: int
    value: bytes
    code: str
    message: str
    event_id: str
    time_ms: int
    writer: str
    node: str
    rank: int | None
    attempt: str
    sequence: int
    workspace: str
    actor: str
    rules: int
    correlation_id: str
    causation_id: str
    key_id: str
    traceparent: str

    @classmethod
    def of(cls, record: Record, rejection: Rejection | None) -> "JournalEntry":
        """Make the entry of a folded record."""
        envelope = record.envelope
        writer = envelope.writer
        return cls(
            record.position.offset,
            record.timestamp_ms,
            record.value,
            "" if rejection is None else rejection.code.value,
            "" if rejection is None else rejection.message,
            envelope.event_id,
            envelope.time_ms,
            writer.id,
            writer.node,
            writer.rank,
            writer.attempt,
            envelope.sequence,
            envelope.workspace,
            envelope.actor,
            envelope.rules,
            envelope.correlation_id,
            envelope.causation_id,
            envelope.key_id,
            envelope.traceparent,
        )

    def record(self, where: Partition) -> Record:
        """Return the record of the entry."""
        event = decode(self.value)
        envelope = Envelope(
            event_id=self.event_id,
            type=event.subject,
            time_ms=self.time_ms,
            writer=Writer(self.writer, self.node, self.rank, self.attempt),
            sequence=self.sequence,
            workspace=self.workspace,
            actor=self.actor,
            rules=self.rules,
            correlation_id=self.correlation_id,
            causation_id=self.causation_id,
            key_id=self.key_id,
            traceparent=self.traceparent,
        )
        return Record(Position(*where, self.offset), self.broker_ms, envelope, event, self.value)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[JournalEntry])


def compress(data: bytes) -> bytes:
    """Compress bytes for a row. The first byte tells compressed (1) from plain (0)."""
    if len(data) < _COMPRESSED_FROM:
        return b"\x00" + data
    return b"\x01" + bytes(cramjam.zstd.compress(data, level=_LEVEL))


def decompress(data: bytes) -> bytes:
    """Return the bytes that `compress` was given."""
    return bytes(cramjam.zstd.decompress(data[1:])) if data[0] else data[1:]


def decode_entries(data: bytes) -> list[JournalEntry]:
    """Decode the entries of a row, in the log's order."""
    return _decoder.decode(decompress(data))


@dataclass(slots=True)
class _Rows:
    """The rows that a batch adds to one entity."""

    entries: list[JournalEntry] = field(default_factory=list)
    accepted: bool = False
    due: list[int] = field(default_factory=list)
    """Next offsets, EVERY accepted events apart, at which a state that is not in memory may be kept."""


class Journal:
    """Writes the rows of one partition. Entities that one of the `creations` creates have no or few earlier rows."""

    def __init__(self, where: Partition, projector: Projector, creations: tuple[type, ...]) -> None:
        self._partition, self._projector, self._creations = where.partition, projector, creations
        self.forget()

    def forget(self) -> None:
        """Drop all state in memory, as after a failed transaction."""
        self._left: dict[str, int] = {}
        """Events per entity until its state is kept again."""
        self._clear()

    def _clear(self) -> None:
        self._rows: dict[str, _Rows] = {}
        self._unknown: dict[str, int] = {}
        self._states: list[tuple[str, int, bytes]] = []
        self._causes: list[tuple[str, int, str]] = []

    def add(self, record: Record, rejection: Rejection | None) -> None:
        """Add an event that the projector has just folded."""
        entities = self._projector.touched(record, rejection)
        if not entities:
            return
        entry = JournalEntry.of(record, rejection)
        for entity in entities:
            rows = self._rows.get(entity)
            if rows is None:
                rows = self._rows[entity] = _Rows()
                if entity not in self._left:
                    self._left[entity] = EVERY
                    if rejection is not None or not isinstance(record.event, self._creations):
                        self._unknown[entity] = EVERY
            rows.entries.append(entry)
            if entry.causation_id:
                self._causes.append((entity, entry.offset, entry.causation_id))
            if rejection is None:
                rows.accepted = True
                left = self._left[entity] = self._left[entity] - 1
                if left <= 0:
                    self._keep(entity, entry.offset + 1)

    def _keep(self, entity: str, next_offset: int) -> None:
        state = self._projector.state(entity)
        if state is not None:
            self._left[entity] = self._kept(entity, next_offset, state)
            self._unknown.pop(entity, None)
        elif isinstance(self._projector, Rereading):
            self._rows[entity].due.append(next_offset)
            self._left[entity] = EVERY
            self._unknown.pop(entity, None)

    def _kept(self, entity: str, next_offset: int, state: bytes) -> int:
        """Keep a state, and return the number of events until the next one."""
        self._states.append((entity, next_offset, compress(state)))
        return max(EVERY, len(state) // _BYTES_PER_EVENT)

    async def load_deferred(self, connection: Connection) -> None:
        """Load the events of touched entities since their last state, counted, and states that are not in memory."""
        if self._unknown:
            await self._count(connection)
        for entity, rows in self._rows.items():
            if rows.due and isinstance(self._projector, Rereading):
                state_at = await self._projector.reread(connection, entity)
                if state_at is not None:
                    self._reread(entity, rows.due, state_at)

    def _reread(self, entity: str, due: list[int], state_at: StateAt) -> None:
        left = 0
        for next_offset in due:
            state = state_at(next_offset) if left <= 0 else None
            if state is not None:
                left = self._kept(entity, next_offset, state)
            left -= EVERY
        # The events after the last of them were counted down from EVERY.
        self._left[entity] += left

    async def _count(self, connection: Connection) -> None:
        for entity, left in await connection.fetch(
            """
            SELECT asked.entity, found.left_over FROM unnest($1::text[]) AS asked (entity) CROSS JOIN LATERAL (
                SELECT j.left_over FROM journal j WHERE j.entity = asked.entity ORDER BY j.first_offset DESC LIMIT 1
            ) AS found
            """,
            list(self._unknown),
        ):
            rows = self._rows[entity]
            self._left[entity] -= EVERY - left
            if self._left[entity] <= 0 and rows.accepted:
                self._keep(entity, rows.entries[-1].offset + 1)

    def changes(self) -> list[RowChange]:
        """Return the changes that write what was added since the last call."""
        if not self._rows:
            return []
        rows = [
            (
                entity,
                own.entries[0].offset,
                own.entries[-1].offset,
                len(own.entries),
                max(0, self._left[entity]),
                compress(_encoder.encode(own.entries)),
            )
            for entity, own in self._rows.items()
        ]
        found = [RowChange(_SAVE, (self._partition, *columns(rows)))]
        if self._states:
            found.append(RowChange(_SAVE_STATES, columns(self._states)))
        if self._causes:
            found.append(RowChange(_SAVE_CAUSES, (self._partition, *columns(self._causes))))
        self._clear()
        if len(self._left) > _MOST_COUNTED:
            self._left = {}
        return found


_SAVE = """
INSERT INTO journal (partition, entity, first_offset, last_offset, events, left_over, data)
SELECT $1::integer, new.* FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::integer[], $6::integer[],
    $7::bytea[]) AS new
WHERE EXISTS (SELECT FROM fence)
"""
_SAVE_STATES = """
INSERT INTO journal_state (entity, next_offset, data)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[]) WHERE EXISTS (SELECT FROM fence)
"""
_SAVE_CAUSES = """
INSERT INTO journal_cause (partition, entity, log_offset, causation_id)
SELECT $1::integer, new.* FROM unnest($2::text[], $3::bigint[], $4::text[]) AS new WHERE EXISTS (SELECT FROM fence)
"""
