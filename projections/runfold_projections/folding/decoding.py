"""Decodes a partition's records. One that can never be decoded becomes a dead letter, and the batch continues."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from runfold_schemas.codec.catalog import Catalog
from runfold_schemas.codec.record import Raw, Record, read_record
from runfold_schemas.errors import BadRecord, Reason, UndeclaredSchema
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.position import Partition

from .checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that this code can never fold, and why."""

    raw: Raw
    reason: Reason
    message: str


@dataclass(slots=True)
class Decoded:
    """The decoded part of a batch.

    `stopped_by` is the first record of an unknown schema id; nothing after it is decoded.
    """

    records: list[Record] = field(default_factory=list)
    set_aside: list[DeadLetter] = field(default_factory=list)
    next_offset: int = 0
    broker_ms: int = 0
    stopped_by: tuple[Raw, int] | None = None


def decode_batch(
    raws: Sequence[Raw],
    catalog: Catalog,
    partitions: int,
    declared: Collection[int] | None = None,
    into: Decoded | None = None,
) -> Decoded:
    """Decode records up to the first whose schema id is not in the catalog, and add them to `into`.

    With `declared`, the ids that the log declares, only those stop it: records of other unknown ids are dead letters.
    """
    out = Decoded() if into is None else into
    for raw in raws:
        try:
            out.records.append(read_record(raw, catalog, partitions))
        except UndeclaredSchema as error:
            if declared is None or error.schema_id in declared:
                out.stopped_by = (raw, error.schema_id)
                return out
            message = f"schema id {error.schema_id} is not declared in the system topic"
            out.set_aside.append(DeadLetter(raw, Reason.UNDECLARED_SCHEMA, message))
        except BadRecord as error:
            out.set_aside.append(DeadLetter(raw, error.reason, str(error)))
        out.next_offset, out.broker_ms = raw.position.offset + 1, raw.timestamp_ms
    return out


def begin(
    where: Partition, partitions: int, before: Checkpoint | None, batch: Decoded
) -> tuple[Checkpoint | None, list[Record], list[DeadLetter]]:
    """Return the checkpoint after a batch, the records to fold, and the dead letters.

    The checkpoint is None until a genesis was found. Later genesis records, and those of other partitions, are ignored.
    """
    genesis: Record | None = None
    records: list[Record] = []
    aside = list(batch.set_aside)
    for record in batch.records:
        if isinstance(record.event, Genesis):
            if before is None and genesis is None and record.event.is_of(where, partitions):
                genesis = record
                records.append(record)
        elif before is None and genesis is None:
            aside.append(_early(record))
        else:
            records.append(record)
    if before is not None:
        log_id, genesis_id = before.log_id, before.genesis_id
    elif genesis is not None:
        assert isinstance(genesis.event, Genesis)
        log_id, genesis_id = genesis.event.log_id, genesis.envelope.event_id
    else:
        return None, [], []
    return Checkpoint(log_id, genesis_id, batch.next_offset, batch.broker_ms), records, aside


def _early(record: Record) -> DeadLetter:
    raw = Raw(record.position, record.timestamp_ms, record.entity.encode(), None, ())
    return DeadLetter(raw, Reason.BEFORE_GENESIS, "the record stands before the partition's genesis")
