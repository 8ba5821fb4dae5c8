"""The task of one leased partition: reads, folds and commits until it is cancelled, and waits out failed services."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import structlog

from runfold_log.cluster import KafkaCluster
from runfold_projections.control.leases import Leasable
from runfold_projections.core.errors import Fenced
from runfold_projections.core.turns import Turns
from runfold_projections.folding.checkpoint import Checkpoint
from runfold_projections.folding.decoding import Decoded, decode_batch
from runfold_projections.folding.partition_fold import Applied
from runfold_schemas.codec.record import Raw

from .backoff import Backoff
from .errors import SERVICE_ERRORS, LogMismatch, Unreadable
from .handlers import Handler
from .metrics import WorkerMetrics
from .partition_reader import PartitionReader, open_partition
from .partition_status import PartitionState, PartitionStatus
from .read_hints import ReadHints
from .schema_gate import SchemaGate

READ_RECORDS = 500
"""Records read and decoded before other tasks get a turn: few enough to stay in the processor's caches meanwhile."""
PIECE_BYTES = 64 * 1024
"""Bytes of record values decoded between two yields to other tasks: with many small frames, these take 10 ms."""
MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Bytes of record values after which a batch is complete.

More records arrive while a batch is decoded, one record may have 8 MiB, and a batch takes several times its size in
memory.
"""
MAX_RECORDS_BEFORE_GENESIS = 10_000
"""Foreign records in front of the genesis that are kept in memory. More mean that this is not our topic."""
READ_WAIT_SECONDS = 1.0
"""How long a read waits for the first record. A changed bound of the handler takes effect within this time."""
FAILED_WAIT_SECONDS = 5.0
"""Pause after an error that a retry alone does not repair, so that a partition does not fill the worker's log."""
FETCH_WAIT_SECONDS = 0.005
"""Wait for what arrived during a pause: the broker has it already and answers at once."""
STALLED_WAIT_SECONDS = 0.02
"""Time between checks whether compaction has caught up; one of its steps takes about as long."""
HELD_WAIT_SECONDS = 0.05
"""Time between checks whether the bound of a finished handler has moved. A rebuild's switch waits for it."""
PAUSE_FACTOR = 8.0
"""How many times as long as its last commit took a partition may pause, so that commits take a bounded share of the
machine."""


class PartitionTask:
    """Runs until cancelled, or until Unreadable: then only a newer worker can continue."""

    def __init__(
        self,
        kafka: KafkaCluster,
        namespace: str,
        item: Leasable,
        partitions: int,
        handler: Handler,
        gate: SchemaGate,
        metrics: WorkerMetrics,
        read_hints: ReadHints,
    ) -> None:
        self._kafka, self._namespace, self._partitions = kafka, namespace, partitions
        self._item, self._handler, self._gate, self._metrics = item, handler, gate, metrics
        self._read_hints = read_hints
        self.compaction_work = handler.compaction()
        self.busy = False
        """More records wait than a batch holds."""
        self._log: Any = structlog.get_logger().bind(handler=item.handler, partition=str(item.where))
        self._backoff = Backoff()
        self._max_records = handler.max_records
        self.status = PartitionStatus()

    async def run(self) -> None:
        """Fold until cancelled. Raises Unreadable; every other failure is retried after a pause."""
        while True:
            try:
                await self._session()
            except Unreadable as error:
                self._handler.forget()
                self.status.set(PartitionState.PAUSED, str(error))
                raise
            except Fenced as error:
                # Another worker moved the checkpoint. A new session starts from where that worker is.
                self._fail(error, PartitionState.STARTING)
                await self._backoff.pause()
            except LogMismatch as error:
                self._fail(error, PartitionState.LOG_MISMATCH)
                await asyncio.sleep(FAILED_WAIT_SECONDS)
            except SERVICE_ERRORS as error:
                self._fail(error, PartitionState.WAITING)
                await self._backoff.pause()
            except Exception as error:
                # A bug is not poison: the partition stops visibly, and the others continue.
                self._log.exception("unexpected_error", error=str(error))
                self._fail(error, PartitionState.FAILED)
                await asyncio.sleep(FAILED_WAIT_SECONDS)

    def _fail(self, error: BaseException, state: PartitionState) -> None:
        self._handler.forget()
        # If the batch was too much for Postgres's timeout, the same batch would fail again.
        self._max_records = max(1, self._max_records // 2)
        text = f"{type(error).__name__}: {error}"
        if (self.status.state, self.status.detail) != (state, text):
            self._log.warning("session_failed", state=state.value, error=text)
        self.status.set(state, text)
        self._metrics.failures.labels(self._item.handler, type(error).__name__).inc()

    async def _session(self) -> None:
        """Fold from the checkpoint until an error ends the session; the next one starts from the checkpoint again."""
        checkpoint = await self._handler.checkpoint()
        async with open_partition(self._kafka, self._namespace, self._item.where) as source:
            if checkpoint is not None:
                await source.check(checkpoint.genesis_id, checkpoint.next_offset, self._gate.catalog, self._partitions)
                self._report(checkpoint)
            source.seek(checkpoint.next_offset if checkpoint else 0)
            self.status.set(PartitionState.FOLDING)
            # Records read before the genesis. Without its ids there is no checkpoint to commit, so they are handed to
            # the handler again, followed by newer ones, until a batch contains the genesis.
            early: list[Raw] = []
            # How long the next read lets records gather. Only a commit sets it, so the first record after a silence is
            # folded at once.
            pause = 0.0
            while True:
                if self.compaction_work is not None and self.compaction_work.compaction.stalled:
                    await asyncio.sleep(STALLED_WAIT_SECONDS)
                    continue
                if self._is_held(checkpoint):
                    await asyncio.sleep(HELD_WAIT_SECONDS)
                    continue
                raws = early + await self._read(source, pause, checkpoint)
                # The lease keeper may have set or moved the bound while the read waited, so it applies after the read.
                bound = await self._cut_at_bound(source, checkpoint, raws)
                pause = 0.0
                position = bound
                if len(raws) > len(early):
                    started = time.perf_counter()
                    checkpoint = await self._apply(checkpoint, raws, source)
                    pause = min(self._handler.max_pause_seconds, PAUSE_FACTOR * (time.perf_counter() - started))
                    early = raws if checkpoint is None else []
                    if len(early) > MAX_RECORDS_BEFORE_GENESIS:
                        raise LogMismatch(f"{self._item.where}: no genesis among the first {len(early)} records")
                    # A commit succeeded: short pauses again, and batches grow back to their full size.
                    self._backoff.reset()
                    self._max_records = min(self._handler.max_records, self._max_records * 2)
                else:
                    self.busy = False
                    if bound is None and checkpoint is not None:
                        position = await source.position()
                if checkpoint is not None and position is not None and checkpoint.next_offset < position:
                    # Kafka's own records, such as transaction markers, take offsets but are never read. An empty batch
                    # moves the checkpoint past them, since a reader that waits for the end offset waits for them as
                    # well.
                    skipped = Decoded(next_offset=position, broker_ms=checkpoint.broker_ms)
                    checkpoint = (await self._handler.apply(checkpoint, skipped)).checkpoint
                    assert checkpoint is not None
                    self._report(checkpoint)

    def _is_held(self, checkpoint: Checkpoint | None) -> bool:
        end_offset = self._handler.end_offset
        if end_offset is None or (checkpoint.next_offset if checkpoint else 0) < end_offset:
            self.status.set(PartitionState.FOLDING)
            return False
        self.status.set(PartitionState.HELD, f"folded up to its bound, {end_offset}")
        return True

    async def _cut_at_bound(
        self, source: PartitionReader, checkpoint: Checkpoint | None, raws: list[Raw]
    ) -> int | None:
        """Remove records at or beyond the handler's bound and seek back to it.

        Return the bound if it is reached, else None.
        """
        if self._handler.end_offset is None:
            return None
        # A bound that was set behind the checkpoint takes nothing back.
        bound = max(self._handler.end_offset, checkpoint.next_offset if checkpoint else 0)
        if await source.position() < bound:
            return None
        while raws and raws[-1].position.offset >= bound:
            raws.pop()
        source.seek(bound)
        return bound

    async def _read(self, source: PartitionReader, pause: float, checkpoint: Checkpoint | None) -> list[Raw]:
        """Read the next records.

        `pause` seconds after a batch are left for more records to gather, since a commit costs the same for one event
        as for a hundred. A read hint ends the pause.
        """
        limit = min(self._max_records, READ_RECORDS)
        if not pause or checkpoint is None:
            return await source.read(limit, READ_WAIT_SECONDS)
        await self._read_hints.pause_unless_needed(self._item.where, checkpoint.next_offset, pause)
        raws = await source.read(limit, READ_WAIT_SECONDS)
        if raws and len(raws) < limit:
            # The first read returned what was fetched before the pause; this one returns what arrived during it.
            raws += await source.read(limit - len(raws), FETCH_WAIT_SECONDS)
        return raws

    async def _apply(
        self, checkpoint: Checkpoint | None, raws: list[Raw], source: PartitionReader
    ) -> Checkpoint | None:
        """Decode and handle a batch that begins with `raws`; return the checkpoint after it.

        Unreadable if it ends at a newer schema.
        """
        # Reading on is safe only after the genesis, since `early` must have all records, and without a bound to cut at.
        reads_on = checkpoint is not None and self._handler.end_offset is None
        batch = await self._decode(raws, source if reads_on else None)
        if batch.records or batch.set_aside:
            started = time.perf_counter()
            applied = await self._handler.apply(checkpoint, batch)
            self._count(applied, time.perf_counter() - started)
            checkpoint = applied.checkpoint
            if checkpoint is not None:
                self._report(checkpoint)
        if batch.stopped_by is not None:
            # What precedes the record is committed first, so the newer worker starts exactly at it.
            raw, schema_id = batch.stopped_by
            raise Unreadable(raw.position, schema_id)
        return checkpoint

    async def _decode(self, raws: list[Raw], source: PartitionReader | None) -> Decoded:
        """Decode these records and, with a source, as many more as have arrived already and fit into a batch."""
        batch = Decoded()
        count = size = 0
        turns = Turns()
        while raws:
            value_bytes = sum([len(raw.value or b"") for raw in raws])
            for piece in _pieces(raws) if value_bytes > PIECE_BYTES else (raws,):
                if batch.stopped_by is not None:
                    break
                await turns.end()
                await self._decode_piece(piece, batch)
            count += len(raws)
            size += value_bytes
            if source is None or batch.stopped_by is not None or count >= self._max_records or size >= MAX_BATCH_BYTES:
                break
            await asyncio.sleep(0)
            raws = await source.read(min(READ_RECORDS, self._max_records - count), 0)
        self.busy = count >= self._max_records
        return batch

    async def _decode_piece(self, raws: list[Raw], batch: Decoded) -> None:
        decode_batch(raws, self._gate.catalog, self._partitions, into=batch)
        if batch.stopped_by is not None:
            # An unknown schema id. The declarations are read after the record was, so they decide between poison and
            # upgrade.
            rest = raws[raws.index(batch.stopped_by[0]) :]
            batch.stopped_by = None
            decode_batch(rest, self._gate.catalog, self._partitions, await self._gate.declared(), into=batch)

    def _report(self, checkpoint: Checkpoint) -> None:
        self.status.next_offset = checkpoint.next_offset
        self.status.broker_ms = checkpoint.broker_ms

    def _count(self, applied: Applied, seconds: float) -> None:
        name, metrics = self._item.handler, self._metrics
        metrics.fold_seconds.labels(name).observe(seconds)
        metrics.batch_records.labels(name).observe(applied.folded + applied.duplicates)
        metrics.folded.labels(name).inc(applied.folded)
        metrics.duplicates.labels(name).inc(applied.duplicates)
        metrics.rejected.labels(name).inc(applied.rejected)
        for reason, count in applied.set_aside.items():
            metrics.dead_letters.labels(name, reason.value).inc(count)
            self._log.warning(
                "records_dead_lettered", reason=reason.value, records=count, next_offset=self.status.next_offset
            )


def _pieces(raws: list[Raw]) -> Iterator[list[Raw]]:
    """Split records into pieces of about PIECE_BYTES, each of at least one record."""
    piece: list[Raw] = []
    size = 0
    for raw in raws:
        piece.append(raw)
        size += len(raw.value or b"")
        if size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
