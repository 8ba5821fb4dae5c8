"""Which worker works on which partition. Leases divide the work; correctness rests on checkpoints alone.

A worker is alive while its Postgres session is, and while it was seen within the time to live (a session can outlive a
machine that vanished). So the partitions of a killed worker are free at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runfold_schemas.position import Partition
from runfold_schemas.topics import Topic

from .database import Connection

TIME_TO_LIVE = 10.0
"""Seconds without a sign of life after which a worker's leases are free, although its session still stands."""
SPARE_AFTER = 3.0
"""Seconds after which a free partition is taken even by a worker that has its share: its owner may be unable to read it."""


@dataclass(frozen=True, slots=True)
class Leasable:
    """A piece of work: one partition for one handler (a generation's schema, or a reaction)."""

    handler: str
    where: Partition


@dataclass(frozen=True, slots=True)
class Lease:
    """Who has it (None: nobody), and for how many seconds that has been so."""

    owner: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker should take and give up."""

    take: list[Leasable]
    give: list[Leasable]


def plan(
    me: str, leases: Mapping[Leasable, Lease], workers: Mapping[str, int], blocked: Iterable[Leasable] = ()
) -> Plan:
    """Even shares: take free work up to my share, give up what is above it while somebody lacks work.

    `workers` maps every live worker to how many partitions it can't read; those count as if it had them, so that nobody gives
    up work for a worker that could not take it. `blocked` is what I can't read.
    """
    held: dict[str, list[Leasable]] = {worker: [] for worker in workers}
    free = []
    for item, lease in leases.items():
        if lease.owner in held:
            held[lease.owner].append(item)
        else:
            free.append(item)
    mine, cannot = held.get(me, []), set(blocked)
    count = max(1, len(workers))
    most, least = -(-len(leases) // count), len(leases) // count
    free = [item for item in sorted(free, key=_spread) if item not in cannot]
    room = max(0, most - len(mine))
    take = free[:room] + [item for item in free[room:] if leases[item].seconds > SPARE_AFTER]
    lacking = sum(max(0, least - len(items) - workers[worker]) for worker, items in held.items() if worker != me)
    surplus = min(max(0, len(mine) - most), max(lacking, 0))
    if not surplus and lacking and len(mine) > least and not free:
        surplus = min(lacking, len(mine) - least)
    give = sorted(mine, key=_spread)[len(mine) - surplus :] if surplus else []
    return Plan(take, give)


def _spread(item: Leasable) -> tuple[int, str, str]:
    """An order in which neighbours belong to different topics, so that a share is a mixture."""
    return item.where.partition, item.where.topic.value, item.handler


async def enter(connection: Connection, worker_id: str, host: str, pid: int, release: str) -> None:
    """Make this connection's session the worker's life."""
    await connection.execute(
        """
        INSERT INTO worker (worker_id, host, pid, release, backend_pid, backend_start)
        SELECT $1, $2, $3, $4, a.pid, a.backend_start FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()
        ON CONFLICT (worker_id) DO UPDATE SET
            backend_pid = excluded.backend_pid, backend_start = excluded.backend_start, seen_at = now()
        """,
        worker_id,
        host,
        pid,
        release,
    )


async def leave(connection: Connection, worker_id: str) -> None:
    """Give everything up at once."""
    await connection.execute("DELETE FROM worker WHERE worker_id = $1", worker_id)


async def renew(
    connection: Connection, me: str, work: Iterable[Leasable], blocked: Iterable[Leasable]
) -> tuple[set[Leasable], list[Leasable]]:
    """Show a sign of life, take what is due, and answer (what I hold now, what I should give up with `release`).

    `work` is everything that there is to do.
    """
    unreadable = list(blocked)
    async with connection.transaction():
        await connection.execute("LOCK TABLE lease IN EXCLUSIVE MODE")
        seen = await connection.fetchval(
            "UPDATE worker SET seen_at = now(), blocked = $2 WHERE worker_id = $1 RETURNING worker_id",
            me,
            [f"{item.handler} {item.where}" for item in unreadable],
        )
        if seen is None:
            raise ConnectionError("this worker was taken for dead; it enters again")
        await _bury(connection)
        leases = await _leases(connection, work)
        workers = {
            row["worker_id"]: row["blocked"]
            for row in await connection.fetch("SELECT worker_id, cardinality(blocked) AS blocked FROM worker")
        }
        decided = plan(me, leases, workers, unreadable)
        await connection.executemany(
            "UPDATE lease SET worker_id = $1, since = now() WHERE handler = $2 AND topic = $3 AND partition = $4",
            [(me, item.handler, item.where.topic.value, item.where.partition) for item in decided.take],
        )
    held = {item for item, lease in leases.items() if lease.owner == me} | set(decided.take)
    return held, decided.give


async def release(connection: Connection, me: str, items: Iterable[Leasable]) -> None:
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
        """
        WITH dead AS (
            DELETE FROM worker w
            WHERE w.seen_at < now() - make_interval(secs => $1)
               OR NOT EXISTS (
                   SELECT FROM pg_stat_activity a WHERE a.pid = w.backend_pid AND a.backend_start = w.backend_start)
            RETURNING worker_id
        )
        UPDATE lease SET worker_id = NULL, since = now() WHERE worker_id IN (SELECT worker_id FROM dead)
        """,
        TIME_TO_LIVE,
    )


async def _leases(connection: Connection, work: Iterable[Leasable]) -> dict[Leasable, Lease]:
    items = list(work)
    await connection.execute(
        """
        INSERT INTO lease (handler, topic, partition)
        SELECT * FROM unnest($1::text[], $2::text[], $3::integer[]) ON CONFLICT DO NOTHING
        """,
        [item.handler for item in items],
        [item.where.topic.value for item in items],
        [item.where.partition for item in items],
    )
    rows = await connection.fetch(
        "SELECT handler, topic, partition, worker_id, extract(epoch FROM now() - since)::float8 AS seconds FROM lease"
    )
    found = {
        Leasable(row["handler"], Partition(Topic(row["topic"]), row["partition"])): Lease(
            row["worker_id"], row["seconds"]
        )
        for row in rows
    }
    return {item: found[item] for item in items}
