"""Which worker works on which partition. Leases divide the work; correctness rests on checkpoints alone.

A worker is alive while its Postgres session is, and while it was seen within the time to live (a session can outlive a
machine that vanished). So the partitions of a killed worker are free at once.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from runfold_projections.postgres.connection import Connection
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic

LIVE, REPLAY = "live", "replay"
KINDS = (LIVE, REPLAY)
"""Kinds of work: what readers wait for, and what is folded beside it. A worker does one of them, or both."""
TIME_TO_LIVE = 10.0
"""Seconds without a heartbeat after which a worker's leases are free, even if its session still exists."""
DEAD = f"""
    w.seen_at < now() - make_interval(secs => {TIME_TO_LIVE:g}) OR NOT EXISTS (
        SELECT FROM pg_stat_activity a WHERE a.pid = w.backend_pid AND a.backend_start = w.backend_start)
"""
"""SQL: whether the worker `w` counts as dead."""
SPARE_AFTER = 3.0
"""Seconds after which even a worker with its full share takes a free partition: the planned one may be unable to."""


@dataclass(frozen=True, slots=True)
class Leasable:
    """A piece of work: one partition for one handler (a generation's schema, or a reaction)."""

    handler: str
    where: Partition
    kind: str = field(default=LIVE, compare=False)
    """It may change: a generation that was replayed becomes live."""

    def __str__(self) -> str:
        return f"{self.handler} {self.where}"


@dataclass(frozen=True, slots=True)
class Lease:
    """Who has it (None: nobody), and for how many seconds that has been so."""

    owner: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class LeasePlan:
    """The pieces of work that a worker should take and give up."""

    take: list[Leasable]
    give: list[Leasable]


def plan_leases(me: str, leases: Mapping[Leasable, Lease], workers: Mapping[str, Collection[Leasable]]) -> LeasePlan:
    """Even shares: each free piece goes to the worker that has least, then who has most gives to who has least.

    `workers` maps every live worker to what it can't read: nothing is meant for a worker that could not take it.
    Everybody reckons the whole division alike and does its own part, so that the moves are few and all free pieces find
    their takers.
    """
    held: dict[str, list[Leasable]] = {worker: [] for worker in sorted(workers)}
    load = dict.fromkeys(held, 0)
    kinds: Counter[tuple[str, str]] = Counter()

    def count(worker: str, item: Leasable, number: int) -> None:
        load[worker] += number
        kinds[worker, item.handler] += number

    def idlest(item: Leasable) -> str | None:
        # Ties go to the worker with the fewest pieces of the same handler, so shares are mixed.
        readers = (worker for worker in load if item not in workers[worker])
        return min(readers, key=lambda worker: (load[worker], kinds[worker, item.handler]), default=None)

    free = []
    for item in sorted(leases, key=_order):
        owner = leases[item].owner
        if owner in held:
            held[owner].append(item)
            count(owner, item, 1)
        else:
            free.append(item)
    take, give = [], []
    for item in free:
        spare = leases[item].seconds > SPARE_AFTER and item not in workers[me]
        taker = me if spare else idlest(item)
        if taker is not None:
            count(taker, item, 1)
        if taker == me:
            take.append(item)

    def move() -> tuple[str, Leasable, str] | None:
        least = min(load.values())
        for giver in sorted(held, key=lambda worker: -load[worker]):
            if load[giver] < least + 2:
                return None
            for item in sorted(held[giver], key=lambda item: -kinds[giver, item.handler]):
                taker = idlest(item)
                if taker is not None and load[giver] >= load[taker] + 2:
                    return giver, item, taker
        return None

    while (found := move()) is not None:
        giver, item, taker = found
        held[giver].remove(item)
        count(giver, item, -1)
        count(taker, item, 1)
        if giver == me:
            give.append(item)
    return LeasePlan(take, give)


def _order(item: Leasable) -> tuple[str, str, int]:
    return item.handler, item.where.topic.value, item.where.partition


async def register_worker(
    connection: Connection, worker_id: str, host: str, pid: int, release_leases: str, kinds: Iterable[str] = KINDS
) -> None:
    """Register a worker, which lives as long as this connection's session."""
    await connection.execute(
        """
        INSERT INTO worker (worker_id, host, pid, release, kinds, backend_pid, backend_start)
        SELECT $1, $2, $3, $4, $5::text[], a.pid, a.backend_start FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()
        ON CONFLICT (worker_id) DO UPDATE SET
            backend_pid = excluded.backend_pid, backend_start = excluded.backend_start, seen_at = now()
        """,
        worker_id,
        host,
        pid,
        release_leases,
        list(kinds),
    )


async def remove_worker(connection: Connection, worker_id: str) -> None:
    """Remove a worker, which frees its leases at once."""
    await connection.execute("DELETE FROM worker WHERE worker_id = $1", worker_id)


async def renew_leases(
    connection: Connection, me: str, work: Iterable[Leasable], unreadable: Iterable[Leasable]
) -> tuple[set[Leasable], list[Leasable]]:
    """Show a sign of life, take what is due, and answer (what I hold now, what I should give up with `release`).

    `work` is everything that there is to do, `unreadable` the part of it that I can't read.
    """
    by_text = {str(item): item for item in work}
    async with connection.transaction():
        await connection.execute("LOCK TABLE lease IN EXCLUSIVE MODE")
        seen = await connection.fetchval(
            "UPDATE worker SET seen_at = now(), blocked = $2 WHERE worker_id = $1 RETURNING worker_id",
            me,
            [str(item) for item in unreadable],
        )
        if seen is None:
            raise ConnectionError("this worker was taken for dead; it enters again")
        await _bury(connection)
        leases = await _leases(connection, by_text.values())
        workers = {
            row["worker_id"]: {by_text[text] for text in row["blocked"] if text in by_text}
            | {item for item in by_text.values() if item.kind not in row["kinds"]}
            for row in await connection.fetch("SELECT worker_id, blocked, kinds FROM worker")
        }
        decided = plan_leases(me, leases, workers)
        await connection.executemany(
            "UPDATE lease SET worker_id = $1, since = now() WHERE handler = $2 AND topic = $3 AND partition = $4",
            [(me, item.handler, item.where.topic.value, item.where.partition) for item in decided.take],
        )
    held = {item for item, lease in leases.items() if lease.owner == me} | set(decided.take)
    # Its kind has changed. It stays with this worker until one of the other kind takes it.
    others = [worker for worker in workers if worker != me]
    strange = [item for item in held if item in workers[me] and any(item not in workers[worker] for worker in others)]
    return held, [*decided.give, *(item for item in strange if item not in decided.give)]


async def release_leases(connection: Connection, me: str, items: Iterable[Leasable]) -> None:
    """Give leases up, after the work on them has stopped."""
    await connection.executemany(
        """
        UPDATE lease SET worker_id = NULL, since = now()
        WHERE worker_id = $1 AND handler = $2 AND topic = $3 AND partition = $4
        """,
        [(me, item.handler, item.where.topic.value, item.where.partition) for item in items],
    )


async def _bury(connection: Connection) -> None:
    await connection.execute(
        f"""
        WITH dead AS (DELETE FROM worker w WHERE {DEAD} RETURNING worker_id)
        UPDATE lease SET worker_id = NULL, since = now() WHERE worker_id IN (SELECT worker_id FROM dead)
        """  # noqa: S608
    )


async def _leases(connection: Connection, work: Iterable[Leasable]) -> dict[Leasable, Lease]:
    items = list(work)
    keys = (
        [item.handler for item in items],
        [item.where.topic.value for item in items],
        [item.where.partition for item in items],
    )
    await connection.execute(
        """
        INSERT INTO lease (handler, topic, partition)
        SELECT * FROM unnest($1::text[], $2::text[], $3::integer[]) ON CONFLICT DO NOTHING
        """,
        *keys,
    )
    # Only what was asked for: a newer release may lease topics that this one has never heard of.
    rows = await connection.fetch(
        """
        SELECT handler, topic, partition, worker_id, extract(epoch FROM now() - since)::float8 AS seconds
        FROM lease JOIN unnest($1::text[], $2::text[], $3::integer[]) AS work (handler, topic, partition)
            USING (handler, topic, partition)
        """,
        *keys,
    )
    return {
        Leasable(row["handler"], Partition(Topic(row["topic"]), row["partition"])): Lease(
            row["worker_id"], row["seconds"]
        )
        for row in rows
    }
