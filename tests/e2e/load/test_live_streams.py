"""Live streams: history and stream together hold every point exactly once, whatever breaks meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import httpx2
import pytest

from runfold_log.producer import RecordSender
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.events.frames import Point as Logged
from runfold_schemas.events.frames import from_points
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.events.runs import RunCreated
from runfold_schemas.positions.topics import Topic
from tests.support.api.sse import Point, events, points_of
from tests.support.installations.in_process import outgoing, place
from tests.support.installations.installation import Installation, Program
from tests.support.load.load import seed_of_this_run, soak_factor

RUNS = ("one", "two", "three")
KEYS = ("loss", "acc")
API = "/api/runfold/v1/"


def created(run_id: str) -> Outgoing:
    event = RunCreated(run_id=run_id, experiment_id=0, name=run_id, start_ms=1, artifact_uri="u")
    return outgoing(Topic.RUNS, event, writer=f"creator of {run_id}")


class Writer:
    """Appends records of many writers straight to Kafka, some of them again, late, or twice; remembers every point."""

    def __init__(self, installation: Installation, chance: random.Random) -> None:
        self._installation, self._chance = installation, chance
        self._sequences: dict[tuple[str, int], int] = {}
        self._sent: list[Outgoing] = []
        self.points: list[Point] = []

    def record(self, step: int) -> Outgoing:
        """The next record of some writer: every point that there is is another one."""
        run, rank = self._chance.choice(RUNS), self._chance.randrange(3)
        sequence = self._sequences.get((run, rank), 0)
        self._sequences[run, rank] = sequence + 1
        some = [Logged(key, self._chance.random(), step, 10 * step + n) for n in range(3) for key in (*KEYS, "other")]
        self.points += [(run, p.key, "a", rank, p.step, p.time_ms, p.value) for p in some if p.key in KEYS]
        event = MetricsLogged(run, from_points(some))
        return outgoing(Topic.METRICS, event, writer=f"{run} {rank}", sequence=sequence, rank=rank, attempt="a")

    async def run(self, records: int) -> None:
        """Write so many, with short pauses."""
        async with RecordSender(self._installation.services.kafka, self._installation.namespace) as raw:
            for step in range(records):
                one = self.record(step)
                self._sent.append(one)
                again = [self._chance.choice(self._sent)] if self._chance.random() < 0.2 else []
                for record in (one, *again):
                    await raw.send(place(self._installation, record), record)
                if step % 5 == 0:
                    await asyncio.sleep(self._chance.random() * 0.02)


async def listen(servers: Sequence[Program], since: str, chance: random.Random, until: int) -> tuple[list[Point], int]:
    """Points told from `since` on until there are so many; breaks off and connects again, to any server, at random."""
    told: list[Point] = []
    place, connections = since, 0
    while len(told) < until:
        breaks_after = chance.randrange(1, 4)
        connections += 1
        url = f"{chance.choice(servers).url}{API}series:live"
        query: list[tuple[str, str | int | float | bool | None]] = [
            *(("run_id", run) for run in RUNS),
            *(("key", key) for key in KEYS),
            ("since", since),
        ]
        # Only the first time is the place that of the answer: a browser keeps its address and adds the header.
        headers = {"last-event-id": place} if place != since else {}
        try:
            async with (
                httpx2.AsyncClient(timeout=30) as client,
                client.stream("GET", url, params=query, headers=headers) as answer,
            ):
                assert answer.status_code == 200, await answer.aread()
                async for event in events(answer.aiter_lines()):
                    place = event.id
                    if event.kind == "points":
                        told += points_of(event.data)
                        breaks_after -= 1
                    if breaks_after == 0 or len(told) >= until:
                        break
        except httpx2.TransportError:
            await asyncio.sleep(0.05)
    return told, connections


@pytest.mark.soak
async def test_history_and_stream_hold_every_point_once_over_broken_connections_and_killed_workers(
    installation: Installation,
) -> None:
    chance = random.Random(seed_of_this_run())
    records = 600 * soak_factor(20)
    workers = [installation.worker() for _ in range(2)]
    servers = [installation.server() for _ in range(2)]
    async with RecordSender(installation.services.kafka, installation.namespace) as raw:
        for run in RUNS:
            record = created(run)
            await raw.send(place(installation, record), record)
    writer = Writer(installation, chance)

    async def kill() -> None:
        for _ in range(3 * soak_factor(20)):
            await asyncio.sleep(chance.uniform(0.3, 1.0))
            victim = chance.choice(workers)
            await asyncio.to_thread(victim.kill)
            victim.start()

    async def follow(after: int) -> list[Point]:
        while len(writer.points) < after:
            await asyncio.sleep(0.01)
        async with httpx2.AsyncClient(timeout=60) as client:
            body = {"runs": list(RUNS), "metrics": list(KEYS)}
            answer = await client.post(f"{servers[0].url}{API}series:history", json=body)
        assert answer.status_code == 200, answer.text
        history = points_of(answer.json())
        told, connections = await listen(servers, answer.json()["live"], chance, records * 6 - len(history))
        # Who comes late finds most of it in the history, or in one event.
        assert after or connections > 3
        return history + told

    async with asyncio.timeout(250 * soak_factor(10)), asyncio.TaskGroup() as group:
        followers = [group.create_task(follow(after)) for after in (0, records, 3 * records)]
        killing = group.create_task(kill())
        await writer.run(records)
        await killing
    for worker in workers:
        worker.wait_ready()
    expected = sorted(writer.points)
    assert len(set(expected)) == len(expected)
    for follower in followers:
        assert sorted(follower.result()) == expected


async def test_a_server_that_stops_ends_its_streams_at_once(installation: Installation) -> None:
    installation.worker()
    server = installation.server()
    async with RecordSender(installation.services.kafka, installation.namespace) as raw:
        record = created("stops")
        await raw.send(place(installation, record), record)
    kinds = []
    async with (
        asyncio.timeout(60),
        httpx2.AsyncClient(timeout=60) as client,
        client.stream("GET", f"{server.url}{API}series:live", params={"run_id": "stops", "key": "m"}) as answer,
    ):
        async for event in events(answer.aiter_lines()):
            kinds.append(event.kind if event.kind != "end" else f"end: {event.data['reason']}")
            if event.kind == "open":
                assert server.process is not None
                server.process.terminate()
    assert kinds == ["open", "end: stopped"]
    assert server.process is not None
    assert await asyncio.to_thread(server.process.wait, 30) == 0
