"""A small batch in Kafka that inflates to a very large one costs no reader its memory, and is one record that is set
aside.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from aiokafka import AIOKafkaProducer

from runfold_log.admin import open_log
from runfold_log.cluster import KafkaCluster
from runfold_log.reader import LogReader
from runfold_log.system import read_system
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.events.experiments import ExperimentCreated
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import Topic, full_name
from runfold_stack.commands.tail import tail
from tests.support.api.sse import events_of
from tests.support.doubles import bombs
from tests.support.installations.in_process import append, fetch, folded, outgoing, sender, working
from tests.support.installations.installation import Installation, difference
from tests.support.installations.server_pair import ServerPair

EXPERIMENTS = Partition(Topic.EXPERIMENTS, 0)
MEGABYTES = {"gzip": 512, "snappy": 16, "lz4": 200, "zstd": 800}
ALLOWED = 150 * 1024 * 1024
"""Bytes that reading them may take; one was measured to take 877 MB."""


@dataclass
class Peak:
    bytes: int = 0


@contextmanager
def memory() -> Iterator[Peak]:
    """By how much this process grows meanwhile, at most."""

    def resident(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    Path("/proc/self/clear_refs").write_text("5")
    before, peak = resident("VmRSS:"), Peak()
    yield peak
    peak.bytes = resident("VmHWM:") - before


@pytest.fixture(scope="module")
def hostile() -> dict[str, bytes]:
    return {codec: bombs.bomb(codec, megabytes) for codec, megabytes in MEGABYTES.items()}


@asynccontextmanager
async def producing(kafka: KafkaCluster) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**kafka.options(), max_request_size=1_000_000)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def created(n: int) -> Outgoing:
    return outgoing(Topic.EXPERIMENTS, ExperimentCreated(name=f"e{n}"), sequence=n)


async def test_a_worker_sets_them_aside_and_goes_on(installation: Installation, hostile: dict[str, bytes]) -> None:
    topic = full_name(installation.namespace, Topic.EXPERIMENTS)
    at = []
    async with sender(installation) as raw, producing(installation.services.kafka) as producer:
        await append(installation, raw, [created(0)])
        for n, data in enumerate(hostile.values(), 1):
            assert len(data) < 1_000_000
            at.append(await bombs.send(producer, topic, 0, data))
            last = await append(installation, raw, [created(n)])
        records = bombs.empty_records(110_000)
        packed = bombs.batch(bombs.ZSTD, bombs.compressed("zstd", iter([records])), 110_000)
        first = await bombs.send(producer, topic, 0, packed)
        at.append(first + 109_999)
        last = await append(installation, raw, [created(5)])
        with memory() as peak:
            async with working(installation) as worker:
                await folded(installation, last)
                assert worker.problems == []
                assert difference(await installation.rows(), await installation.replayed()) == ""
    assert peak.bytes < ALLOWED
    names = await fetch(installation, "SELECT name FROM experiment ORDER BY experiment_id")
    assert [row[0] for row in names] == ["Default", *(f"e{n}" for n in range(6))]
    rows = await fetch(installation, "SELECT log_offset, reason, message FROM set_aside ORDER BY 1")
    assert [row[:2] for row in rows] == [(offset, "too_large") for offset in at]
    for codec, row in zip(hostile, rows, strict=False):
        assert row[2].startswith(f"offsets {row[0]} to {row[0]}: {codec} that does not inflate to ")
    assert rows[-1][2].startswith(f"offsets {first} to {first + 109_999}: 110000 records in ")


async def test_writers_and_the_command_line_read_past_them(
    installation: Installation, hostile: dict[str, bytes]
) -> None:
    kafka, namespace = installation.services.kafka, installation.namespace
    async with sender(installation) as raw, producing(kafka) as producer:
        for topic in (Topic.EXPERIMENTS, Topic.SYSTEM):
            for data in hostile.values():
                await bombs.send(producer, full_name(namespace, topic), 0, data)
        (last,) = await append(installation, raw, [created(1)])
    with memory() as peak:
        assert await open_log(kafka, namespace) == installation.info
        await read_system(kafka, namespace)
        async with LogReader(kafka, namespace) as reader:
            found = [raw async for raw in reader.read_range(EXPERIMENTS)]
        async with aclosing(
            tail(kafka, installation.info, [Topic.EXPERIMENTS], start=Position(*EXPERIMENTS, 0))
        ) as all_of:
            lines = [json.loads(line) async for line in all_of]
    assert peak.bytes < ALLOWED
    assert found[-1].position == last
    assert [line.get("unreadable") for line in lines].count("too_large") == len(hostile)


@pytest.mark.parametrize("topic", [Topic.EXPERIMENTS, Topic.METRICS])
async def test_the_servers_streams_tell_of_them(
    servers: ServerPair, client: httpx2.Client, hostile: dict[str, bytes], topic: Topic
) -> None:
    made = client.post("/api/2.0/mlflow/experiments/create", json={"name": f"streamed {topic.value}"}).json()
    run = client.post("/api/2.0/mlflow/runs/create", json={"experiment_id": made["experiment_id"]}).json()["run"]
    async with producing(servers.kafka) as producer:
        for partition in range(3 if topic is Topic.METRICS else 1):
            for data in hostile.values():
                await bombs.send(producer, full_name(servers.namespace, topic), partition, data)
    with memory() as peak:
        run_id = run["info"]["run_id"]
        logged = client.post(
            "/api/2.0/mlflow/runs/log-metric", json={"run_id": run_id, "key": "k", "value": 1, "timestamp": 1}
        )
        assert logged.status_code == 200
        renamed = client.post(
            "/api/2.0/mlflow/experiments/update",
            json={"experiment_id": made["experiment_id"], "new_name": f"read past {topic.value}"},
        )
        assert renamed.status_code == 200
        # With a client that does not wait for the answer's end.
        with (
            httpx2.Client(base_url=servers.uris[0], timeout=30) as listener,
            listener.stream("GET", f"/api/runfold/v1/events:stream?topic={topic.value}&from=beginning") as answer,
        ):
            assert answer.status_code == 200, answer.read()
            told = (event for event in events_of(answer.iter_lines()) if event.kind == "unreadable")
            reasons = [next(told).data["data"]["reason"] for _ in hostile]
        assert reasons == ["too_large"] * len(hostile)
        history = client.get(f"/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key=k").json()
        assert [point["value"] for point in history["metrics"]] == [1]
    assert peak.bytes < ALLOWED
