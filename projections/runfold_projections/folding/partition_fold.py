"""Batches of one partition: decoded, folded, and written in one statement with their checkpoint."""

from dataclasses import dataclass

from runfold_projections import catalog
from runfold_projections.core.projection import Projection
from runfold_projections.core.rejection import Rejection
from runfold_projections.core.turns import Turns
from runfold_projections.history.journal import Journal
from runfold_projections.postgres.batch_statement import RowChange, columns
from runfold_projections.postgres.connection import Connection
from runfold_projections.segments.compaction_backlog import Compacting, PartitionCompaction
from runfold_schemas.codec.record import Record
from runfold_schemas.errors import Reason
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.position import Partition

from .change_log import ChangeLog
from .checkpoint import Checkpoint, commit
from .decoding import DeadLetter, Decoded, begin
from .sequences import SequenceTracker
from .topic_projector import projector_for


@dataclass(frozen=True, slots=True)
class Applied:
    """Counts of a committed batch, and its checkpoint."""

    checkpoint: Checkpoint | None
    folded: int
    duplicates: int
    rejected: int
    set_aside: dict[Reason, int]


class PartitionFold:
    """Folds one partition into one generation, batch by batch. Its connections see the generation's schema."""

    def __init__(self, namespace: str, projection: Projection, where: Partition, partitions: int) -> None:
        self._namespace, self._where, self._partitions = namespace, where, partitions
        self._projector = projector_for(catalog.entities_of(projection), where)
        self._sequences = SequenceTracker(where)
        self._change_log = ChangeLog(catalog.change_table(projection), where)
        self._journal = Journal(where, self._projector, catalog.creations(projection))
        self.announces = True
        """Whether commits notify readers: not in a generation that nobody reads."""

    @property
    def compaction(self) -> PartitionCompaction | None:
        """The compaction of the folded segments; None if the projection has none."""
        return self._projector.compaction if isinstance(self._projector, Compacting) else None

    def forget(self) -> None:
        """Drop all state in memory, as after a failed transaction."""
        self._projector.forget()
        self._sequences.forget()
        self._journal.forget()

    async def apply(self, connection: Connection, before: Checkpoint | None, batch: Decoded) -> Applied:
        """Fold and commit a batch. One without records only moves the checkpoint.

        Nothing is committed until the partition's genesis is found; the result's checkpoint is None then. Raises Fenced
        if the checkpoint was moved by another worker. After any error the caller must call `forget`.
        """
        after, records, aside = begin(self._where, self._partitions, before, batch)
        if after is None:
            return Applied(None, 0, 0, 0, {})
        await self._projector.load(connection, records)
        await self._sequences.load(connection, [r for r in records if not isinstance(r.event, Genesis)])
        rejections, repeats, touched = await self._fold(records)
        await self._projector.load_deferred(connection)
        await self._journal.load_deferred(connection)
        changes = [
            *self._projector.changes(),
            *self._journal.changes(),
            *self._sequences.changes(),
            *self._change_log.changes(before.next_offset if before else 0, after.next_offset, touched),
            *(self._projector.repeated(repeats) if repeats else ()),
            *_rejections(rejections),
            *_set_aside(aside),
        ]
        await commit(connection, self._namespace, self._where, before, after, changes, announce=self.announces)
        self._projector.committed()
        reasons: dict[Reason, int] = {}
        for item in aside:
            reasons[item.reason] = reasons.get(item.reason, 0) + 1
        return Applied(after, len(records) - len(repeats), len(repeats), len(rejections), reasons)

    async def _fold(self, records: list[Record]) -> tuple[list[tuple[Record, Rejection]], list[int], list[str]]:
        """Return the rejections, the offsets of duplicates, and the entities that may have changed, each once."""
        rejections = []
        touched: dict[str, None] = {}
        repeats = []
        turns = Turns()
        for record in records:
            if turns.is_over:
                await turns.end()
            if not isinstance(record.event, Genesis) and not self._sequences.is_new(record):
                repeats.append(record.position.offset)
                continue
            rejection = self._projector.fold(record)
            self._journal.add(record, rejection)
            if rejection is not None:
                rejections.append((record, rejection))
            elif not isinstance(record.event, Genesis):
                touched[record.entity] = None
        return rejections, repeats, list(touched)


def _rejections(found: list[tuple[Record, Rejection]]) -> list[RowChange]:
    rows = [
        (
            record.envelope.event_id,
            record.position.topic.value,
            record.position.partition,
            record.position.offset,
            record.entity,
            rejection.code.value,
            rejection.message,
            rejection.details,
            record.timestamp_ms,
        )
        for record, rejection in found
    ]
    return [RowChange(_SAVE_REJECTIONS, columns(rows))] if rows else []


def _set_aside(found: list[DeadLetter]) -> list[RowChange]:
    rows = [
        (
            item.raw.position.topic.value,
            item.raw.position.partition,
            item.raw.position.offset,
            item.reason.value,
            item.message.replace("\x00", "\\0"),
            item.raw.key,
            len(item.raw.value) if item.raw.value is not None else None,
            item.raw.timestamp_ms,
        )
        for item in found
    ]
    return [RowChange(_SAVE_SET_ASIDE, columns(rows))] if rows else []


_SAVE_REJECTIONS = """
INSERT INTO rejection (event_id, topic, partition, log_offset, entity, code, message, details, broker_ms)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::integer[], $4::bigint[], $5::text[], $6::text[], $7::text[],
    $8::jsonb[],
                     $9::bigint[])
WHERE EXISTS (SELECT FROM fence)
"""
_SAVE_SET_ASIDE = """
INSERT INTO set_aside (topic, partition, log_offset, reason, message, record_key, value_size, broker_ms)
SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::text[], $5::text[], $6::bytea[], $7::integer[],
    $8::bigint[])
WHERE EXISTS (SELECT FROM fence)
"""
