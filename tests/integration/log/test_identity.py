"""The log is what it was: topics made anew, cut, or of another shape are refused, never folded; births may race."""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import NodeNotReadyError

from runfold_consumers.runtime.partition_status import PartitionState
from runfold_log import topics
from runfold_log.admin import LogInfo, create_log, open_log, upgrade_log
from runfold_log.errors import LogMismatch, LogNotCreated, LogUnavailable
from runfold_log.reader import LogReader
from runfold_log.system import read_system
from runfold_log.topics import LogSettings
from runfold_projections.control.migrations import migrate
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.record import read_record
from runfold_schemas.events.experiments import ExperimentCreated
from runfold_schemas.events.system import Genesis
from runfold_schemas.positions.topics import Topic
from tests.support.installations.in_process import append, bare_topic, fetch, folded, outgoing, sender, until, working
from tests.support.installations.installation import Installation
from tests.support.services.running import Services


async def _make_anew(installation: Installation, topic: Topic) -> None:
    await bare_topic(installation, topic)
    await create_log(installation.services.kafka, installation.namespace, LogSettings(partitions=2), release="test")


@pytest.mark.parametrize("events", [1, 10])
async def test_a_topic_made_anew_is_refused_whether_shorter_or_longer_than_before(
    installation: Installation, events: int
) -> None:
    def created(first: int, count: int) -> list[ExperimentCreated]:
        return [ExperimentCreated(name=f"e{first + n}") for n in range(count)]

    async with sender(installation) as raw, working(installation):
        before = [outgoing(Topic.EXPERIMENTS, event, sequence=n) for n, event in enumerate(created(0, 5))]
        await folded(installation, await append(installation, raw, before))
    rows = await installation.rows()
    await _make_anew(installation, Topic.EXPERIMENTS)
    async with sender(installation) as raw:
        await append(
            installation,
            raw,
            [outgoing(Topic.EXPERIMENTS, e, writer="new", sequence=n) for n, e in enumerate(created(90, events))],
        )
    async with working(installation) as worker:
        await until("the partition refused", lambda: _state(worker, Topic.EXPERIMENTS) == [PartitionState.LOG_MISMATCH])
        (problem,) = [problem for problem in worker.problems if problem.startswith("experiments:0")]
        assert "recreated" in problem
        assert "rebuild the projection" in problem
        assert set(_state(worker, Topic.RUNS)) <= {PartitionState.STARTING, PartitionState.FOLDING}
    assert await installation.rows() == rows


def _state(worker: object, topic: Topic) -> list[PartitionState]:
    return [status.state for item, status in worker.statuses.items() if item.where.topic is topic]  # type: ignore[attr-defined]


async def test_another_number_of_partitions_is_refused(installation: Installation) -> None:
    with pytest.raises(LogMismatch, match="has 2 partitions, the setting says 3"):
        await create_log(installation.services.kafka, installation.namespace, LogSettings(partitions=3), release="test")


async def test_a_namespace_without_a_log_is_named(services: Services) -> None:
    with pytest.raises(LogNotCreated, match="run `runfold topics create`"):
        await open_log(services.kafka, "nobody")


async def test_a_namespace_without_a_log_is_not_upgraded_but_named_at_once(services: Services) -> None:
    async with asyncio.timeout(20):
        with pytest.raises(LogNotCreated, match="run `runfold topics create`"):
            await upgrade_log(services.kafka, "nobody", release="test")


async def test_several_starters_give_birth_to_one_log(services: Services) -> None:
    namespace, partitions = "race", 3
    infos = await asyncio.gather(
        *(create_log(services.kafka, namespace, LogSettings(partitions=partitions), release="test") for _ in range(4))
    )
    assert len({info.log_id for info in infos}) == 1
    state = await read_system(services.kafka, namespace)
    assert state.log_id == infos[0].log_id
    assert state.missing(released_catalog().up_to(state.level)) == []
    async with LogReader(services.kafka, namespace) as reader:
        for topic in Topic:
            for where in infos[0].all_partitions(topic):
                raws = [raw async for raw in reader.read_range(where)]
                first = read_record(raws[0], released_catalog(), partitions)
                assert isinstance(first.event, Genesis)
                if topic is not Topic.SYSTEM:
                    assert first.event.log_id == state.log_id
                assert (first.event.topic, first.event.partition) == (topic.value, where.partition)


async def test_a_log_is_born_on_a_cluster_that_names_no_broker_for_a_moment(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a stall longer than a broker's session, which a test can't produce at will."""
    describe, refusals = AIOKafkaAdminClient.describe_cluster, [NodeNotReadyError(), NodeNotReadyError()]

    async def describe_later(admin: AIOKafkaAdminClient) -> dict[str, Any]:
        if refusals:
            raise refusals.pop()
        answer: dict[str, Any] = await describe(admin)
        return answer

    monkeypatch.setattr(AIOKafkaAdminClient, "describe_cluster", describe_later)
    info = await create_log(services.kafka, "late", LogSettings(partitions=1), release="test")
    assert refusals == []
    assert info == await open_log(services.kafka, "late")


async def test_a_cluster_that_goes_on_naming_no_broker_is_an_error_that_says_so(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(admin: AIOKafkaAdminClient) -> dict[str, Any]:
        raise NodeNotReadyError

    monkeypatch.setattr(AIOKafkaAdminClient, "describe_cluster", never)
    monkeypatch.setattr(topics, "NO_BROKER_SECONDS", 0.3)
    with pytest.raises(LogUnavailable, match="names no broker"):
        await create_log(services.kafka, "never", LogSettings(partitions=1), release="test")
    with pytest.raises(LogUnavailable, match="names no broker"):
        await open_log(services.kafka, "never")


async def test_a_second_genesis_changes_nothing(installation: Installation) -> None:
    async with sender(installation) as raw, working(installation):
        await installation.settled()
        before = await fetch(installation, "SELECT genesis_id, log_id FROM checkpoint WHERE topic = 'experiments'")
        other = Genesis(log_id="another", topic="experiments", partition=0, partition_count=1)
        positions = await append(installation, raw, [outgoing(Topic.EXPERIMENTS, other)])
        await folded(installation, positions)
        assert (
            await fetch(installation, "SELECT genesis_id, log_id FROM checkpoint WHERE topic = 'experiments'") == before
        )
        assert await fetch(installation, "SELECT experiment_id, name FROM experiment") == [(0, "Default")]


async def test_who_names_no_number_of_partitions_takes_what_the_log_has(installation: Installation) -> None:
    info = await create_log(installation.services.kafka, installation.namespace, LogSettings(), release="test")
    assert info == installation.info


async def test_a_worker_waits_alive_but_not_ready_for_a_log_that_is_not_born(
    services: Services, tmp_path: Path
) -> None:
    with ExitStack() as exits:
        unborn = Installation(services, "unborn", LogInfo("unborn", "", 0, 2), tmp_path, exits)
        worker = unborn.program("worker")
        await until("the worker alive", lambda: _answers(worker.url, "/health/live"))
        missing = "topics system, experiments, registry, runs, metrics are missing; run `runfold topics create`"
        await until("it says what it waits for", lambda: missing in httpx2.get(f"{worker.url}/health/ready").text)
        await create_log(services.kafka, "unborn", LogSettings(partitions=2), release="test")
        await migrate(services.postgres, "unborn")
        await asyncio.to_thread(worker.wait_ready)


def _answers(url: str, path: str) -> bool:
    try:
        return httpx2.get(url + path, timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False
