"""The task of one leased partition: read, fold, commit, for ever; wait out what is away."""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import asyncpg
import structlog

from runfold_log.cluster import KafkaCluster
from runfold_log.errors import LogUnavailable
from runfold_projections.control.leases import Leasable
from runfold_projections.core.errors import Fenced
from runfold_projections.core.turns import Turns
from runfold_projections.folding.checkpoint import Checkpoint
from runfold_projections.folding.partition_fold import Applied, Decoded, decode_batch
from runfold_schemas.codec.record import Raw

from .errors import LogRefused, Unreadable
from .handlers import Handler
from .metrics import WorkerMetrics
from .partition_reader import PartitionReader, open_partition
from .read_hints import Wanted
from .schema_gate import Gate

AT_ONCE = 500
"""Records that are read and decoded before other tasks have a turn: few enough to lie in the processor's caches meanwhile."""
PIECE_BYTES = 64 * 1024
"""Bytes of bodies that are decoded before it is asked whose turn it is: of many small frames, these take 10 ms."""
MOST_BATCH_BYTES = 4 * 1024 * 1024
"""Bytes of bodies after which a batch takes no more. The log brings more while its records are decoded in turns, one record may hold 8 MiB,
and a batch is several times as large in memory."""
MOST_BEFORE_GENESIS = 10_000
READ_WAIT = 1.0
REFUSED_WAIT = 5.0
FETCH_WAIT = 0.005
CLOGGED_WAIT = 0.02
HELD_WAIT = 0.05
REST_FACTOR = 8.0
"""How many times as long as its last commit took a partition may rest: so commits take a bounded share of the machine."""

AWAY = (
    OSError,
    LogUnavailable,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    TimeoutError,
)
"""Errors of the services or the way to them: never poison; the partition waits and goes on. asyncpg calls it an internal error when
a connection breaks off in the middle of an answer."""


class State(StrEnum):
    """What a partition's task is doing."""

    STARTING = "starting"
    FOLDING = "folding"
    HELD = "held"
    WAITING = "waiting"
    REFUSED = "refused"
    PAUSED = "paused"
    FAILED = "failed"


@dataclass
class Status:
    """What is known of a partition's task, for health and metrics."""

    state: State = State.STARTING
    detail: str = ""
    next_offset: int = 0
    broker_ms: int = 0
    since: float = field(default_factory=time.monotonic)

    def set(self, state: State, detail: str = "") -> None:
        """Change the state; `since` moves only when it differs."""
        if state is not self.state:
            self.since = time.monotonic()
        self.state, self.detail = state, detail


class Backoff:
    """Growing pauses with jitter, in seconds."""

    def __init__(self, first: float = 0.1, most: float = 5.0) -> None:
        self._first, self._most = first, most
        self.reset()

    def reset(self) -> None:
        """Begin again with the shortest pause."""
        self._next = self._first

    async def pause(self) -> None:
        """Sleep, and sleep longer the next time."""
        await asyncio.sleep(self._next * random.uniform(0.5, 1.0))
        self._next = min(self._next * 2, self._most)


class PartitionTask:
    """Runs until cancelled, or until Unreadable says that only a newer worker can go on."""

    def __init__(
        self,
        kafka: KafkaCluster,
        namespace: str,
        item: Leasable,
        partitions: int,
        handler: Handler,
        gate: Gate,
        metrics: WorkerMetrics,
        wanted: Wanted,
    ) -> None:
        self._kafka, self._namespace, self._partitions = kafka, namespace, partitions
        self._item, self._handler, self._gate, self._metrics = item, handler, gate, metrics
        self._wanted = wanted
        self.tidy = handler.compaction()
        self.busy = False
        """More records wait than a batch takes."""
        self._log: Any = structlog.get_logger().bind(handler=item.handler, partition=str(item.where))
        self._backoff = Backoff()
        self._most = handler.most_records
        self.status = Status()

    async def run(self) -> None:
        """Fold for ever. Raises Unreadable; every other failure is waited out."""
        while True:
            try:
                await self._session()
            except Unreadable as error:
                self._handler.forget()
                self.status.set(State.PAUSED, str(error))
                raise
            except Fenced as error:
                self._failed(error, State.STARTING, "fenced: somebody else moved the checkpoint")
                await self._backoff.pause()
            except LogRefused as error:
                self._failed(error, State.REFUSED, "log refused")
                await asyncio.sleep(REFUSED_WAIT)
            except AWAY as error:
                self._failed(error, State.WAITING, "Kafka or Postgres is away, or refuses: waiting")
                await self._backoff.pause()
            except Exception as error:
                # A bug is no poison: the partition stands still, in sight, and the others go on.
                self._log.exception("partition failed", error=str(error))
                self._failed(error, State.FAILED, "partition failed")
                await asyncio.sleep(REFUSED_WAIT)

    def _failed(self, error: BaseException, state: State, event: str) -> None:
        self._handler.forget()
        # A batch that was too much for Postgres's time-out must not come again as it was.
        self._most = max(1, self._most // 2)
        text = f"{type(error).__name__}: {error}"
        if (self.status.state, self.status.detail) != (state, text):
            self._log.warning(event, error=text)
        self.status.set(state, text)
        self._metrics.failures.labels(self._item.handler, type(error).__name__).inc()

    async def _session(self) -> None:
        checkpoint = await self._handler.checkpoint()
        async with open_partition(self._kafka, self._namespace, self._item.where) as source:
            if checkpoint is not None:
                await source.check(checkpoint.genesis_id, checkpoint.next_offset, self._gate.catalog, self._partitions)
                self._note(checkpoint)
            source.seek(checkpoint.next_offset if checkpoint else 0)
            self.status.set(State.FOLDING)
            early: list[Raw] = []
            rest = 0.0
            while True:
                if self.tidy is not None and self.tidy.compaction.stalled:
                    await asyncio.sleep(CLOGGED_WAIT)
                    continue
                if self._is_held(checkpoint):
                    await asyncio.sleep(HELD_WAIT)
                    continue
                raws = early + await self._read(source, rest, checkpoint)
                bound = await self._cut_at_bound(source, checkpoint, raws)
                rest = 0.0
                position = bound
                if len(raws) > len(early):
                    began = time.perf_counter()
                    checkpoint = await self._apply(checkpoint, raws, source)
                    rest = min(self._handler.most_rest, REST_FACTOR * (time.perf_counter() - began))
                    early = raws if checkpoint is None else []
                    if len(early) > MOST_BEFORE_GENESIS:
                        raise LogRefused(f"{self._item.where}: no genesis among the first {len(early)} records")
                    self._backoff.reset()
                    self._most = min(self._handler.most_records, self._most * 2)
                else:
                    self.busy = False
                    if bound is None and checkpoint is not None:
                        position = await source.position()
                if checkpoint is not None and position is not None and checkpoint.next_offset < position:
                    # Kafka's own records, such as a transaction's markers, take offsets: who waits for the end waits for them.
                    passed = Decoded(next_offset=position, broker_ms=checkpoint.broker_ms)
                    checkpoint = (await self._handler.apply(checkpoint, passed)).checkpoint
                    assert checkpoint is not None
                    self._note(checkpoint)

    def _is_held(self, checkpoint: Checkpoint | None) -> bool:
        until = self._handler.until
        if until is None or (checkpoint.next_offset if checkpoint else 0) < until:
            self.status.set(State.FOLDING)
            return False
        self.status.set(State.HELD, f"not to be folded beyond {until}")
        return True

    async def _cut_at_bound(
        self, source: PartitionReader, checkpoint: Checkpoint | None, raws: list[Raw]
    ) -> int | None:
        """Take away what lies beyond the handler's bound, as it is now, and go back to it; answers the bound if it is reached."""
        if self._handler.until is None:
            return None
        bound = max(self._handler.until, checkpoint.next_offset if checkpoint else 0)
        if await source.position() < bound:
            return None
        while raws and raws[-1].position.offset >= bound:
            raws.pop()
        source.seek(bound)
        return bound

    async def _read(self, source: PartitionReader, rest: float, checkpoint: Checkpoint | None) -> list[Raw]:
        """The next records. After a batch, `rest` seconds are left for more of them to gather: a commit costs the same for one
        event as for a hundred. The first one after a silence does not wait, nor do those that a reader waits for.
        """
        most = min(self._most, AT_ONCE)
        if not rest or checkpoint is None:
            return await source.read(most, READ_WAIT)
        await self._wanted.rest(self._item.where, checkpoint.next_offset, rest)
        raws = await source.read(most, READ_WAIT)
        if raws and len(raws) < most:
            # What was fetched before the rest; the broker has the rest's own, and answers at once.
            raws += await source.read(most - len(raws), FETCH_WAIT)
        return raws

    async def _apply(
        self, checkpoint: Checkpoint | None, raws: list[Raw], source: PartitionReader
    ) -> Checkpoint | None:
        # Before the genesis is found all records are kept as they are, and behind a bound none may be read.
        goes_on = checkpoint is not None and self._handler.until is None
        batch = await self._decode(raws, source if goes_on else None)
        if batch.records or batch.set_aside:
            started = time.perf_counter()
            applied = await self._handler.apply(checkpoint, batch)
            self._count(applied, time.perf_counter() - started)
            checkpoint = applied.checkpoint
            if checkpoint is not None:
                self._note(checkpoint)
        if batch.stopped_by is not None:
            raw, schema_id = batch.stopped_by
            raise Unreadable(raw.position, schema_id)
        return checkpoint

    async def _decode(self, raws: list[Raw], source: PartitionReader | None) -> Decoded:
        """Decode these records, and from the source as many more as are there already and a batch takes.

        A look into `system`, after they were read, tells poison from upgrade for all ids that are not known.
        """
        batch = Decoded()
        taken = size = 0
        turns = Turns()
        while raws:
            bodies = sum([len(raw.value or b"") for raw in raws])
            for piece in _pieces(raws) if bodies > PIECE_BYTES else (raws,):
                if batch.stopped_by is not None:
                    break
                await turns.end()
                await self._decode_piece(piece, batch)
            taken += len(raws)
            size += bodies
            if source is None or batch.stopped_by is not None or taken >= self._most or size >= MOST_BATCH_BYTES:
                break
            await asyncio.sleep(0)
            raws = await source.read(min(AT_ONCE, self._most - taken), 0)
        self.busy = taken >= self._most
        return batch

    async def _decode_piece(self, raws: list[Raw], batch: Decoded) -> None:
        decode_batch(raws, self._gate.catalog, self._partitions, into=batch)
        if batch.stopped_by is not None:
            rest = raws[raws.index(batch.stopped_by[0]) :]
            batch.stopped_by = None
            decode_batch(rest, self._gate.catalog, self._partitions, await self._gate.declared(), into=batch)

    def _note(self, checkpoint: Checkpoint) -> None:
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
            metrics.set_aside.labels(name, reason.value).inc(count)
            self._log.warning("set aside", reason=reason.value, records=count, next_offset=self.status.next_offset)


def _pieces(raws: list[Raw]) -> Iterator[list[Raw]]:
    """The records in pieces of a bounded size, or of one record."""
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


__all__ = ["PartitionTask", "State", "Status"]
