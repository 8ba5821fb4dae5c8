"""Poison stops nothing: what can't be folded becomes a dead letter, and everything around it is folded."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from runfold_log.admin import create_log
from runfold_log.topics import LogSettings
from runfold_schemas.codec import wire
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.experiments import ExperimentCreated, ExperimentTagsSet
from runfold_schemas.events.frames import Point, from_points
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.events.runs import ParamsLogged, RunCreated
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import Topic
from tests.support.installations.in_process import (
    append,
    bare_topic,
    fetch,
    folded,
    outgoing,
    place,
    sender,
    until,
    working,
)
from tests.support.installations.installation import Installation, difference

RUN = "run"
TOPICS = (Topic.EXPERIMENTS, Topic.RUNS, Topic.METRICS)


def _good(topic: Topic, n: int) -> Outgoing:
    """The n-th event of a writer that does everything right."""
    event: Event
    match topic:
        case Topic.EXPERIMENTS:
            event = ExperimentCreated(name=f"e{n}")
        case Topic.RUNS:
            created = RunCreated(run_id=RUN, experiment_id=0, name="n", start_ms=1, artifact_uri="u")
            event = created if n == 0 else ParamsLogged(run_id=RUN, params={f"p{n}": "v"})
        case _:
            event = MetricsLogged(RUN, from_points([Point("loss", float(n), n, 1000)]))
    return outgoing(topic, event, writer="good", sequence=n)


def _header(name: str, value: bytes | None) -> Callable[[Outgoing], Outgoing]:
    """Replace a header, or leave it out."""

    def change(record: Outgoing) -> Outgoing:
        kept = [(n, v) for n, v in record.headers if n != name]
        return replace(record, headers=kept if value is None else [*kept, (name, value)])

    return change


def _value(change: Callable[[bytes], bytes]) -> Callable[[Outgoing], Outgoing]:
    return lambda record: replace(record, value=change(record.value))


def _huge_array(record: Outgoing) -> Outgoing:
    # A run id or a name, then a count of two to the sixtieth where few bytes follow.
    claim = b"\x06run" + b"\xfe" * 8 + b"\x7f"
    return replace(record, value=record.value[:5] + claim)


def _foreign_type(record: Outgoing) -> Outgoing:
    """A valid event of another topic."""
    other = Topic.RUNS if record.topic is Topic.EXPERIMENTS else Topic.EXPERIMENTS
    foreign = _good(other, 0)
    return replace(foreign, topic=record.topic, key=record.key)


def _nul(record: Outgoing) -> Outgoing:
    """A string that Postgres can't hold, of the same length as a good one."""
    word = {Topic.EXPERIMENTS: b"e77", Topic.RUNS: b"p77", Topic.METRICS: b"loss"}[record.topic]
    assert word in record.value
    return replace(record, value=record.value.replace(word, word[:-1] + b"\x00"))


REQUIRED = (
    "ce_specversion",
    "ce_id",
    "ce_type",
    "ce_source",
    "ce_time",
    "ce_workspace",
    "ce_actor",
    "ce_sequence",
    "ce_rules",
)

POISON: dict[str, tuple[str, Callable[[Outgoing], Outgoing]]] = {
    "random bytes": ("framing", _value(lambda value: b"\xff" + os.urandom(100))),
    "an empty value": ("framing", _value(lambda value: b"")),
    "an undeclared schema": ("undeclared_schema", _value(lambda value: b"\x00\x00\x12\xd6\x87" + value[5:])),
    "a cut body": ("body", _value(lambda value: value[:-3])),
    "a huge array": ("*", _huge_array),
    "trailing bytes": ("trailing_bytes", _value(lambda value: value + b"\x00\x00")),
    "a NUL": ("absurd", _nul),
    "too large": ("too_large", _value(lambda value: value + bytes(wire.MAX_VALUE_BYTES))),
    "a foreign type": ("type_not_allowed", _foreign_type),
    "another type in the header": ("envelope", _header("ce_type", b"runfold.runs.RunDeleted")),
    "a bad sequence": ("envelope", _header("ce_sequence", b"-1")),
    "a bad time": ("envelope", _header("ce_time", b"yesterday")),
    "a bad id": ("envelope", _header("ce_id", b"1")),
    "unknown rules": ("rules_version", _header("ce_rules", b"99")),
    "a wrong key": ("key_mismatch", lambda record: replace(record, key=b"somebody")),
    **{f"no {name}": ("envelope", _header(name, None)) for name in REQUIRED},
}


@pytest.mark.parametrize("topic", TOPICS)
async def test_poison_is_set_aside_and_everything_around_it_is_folded(installation: Installation, topic: Topic) -> None:
    async with sender(installation) as raw, working(installation) as worker:
        sent: dict[Position, str] = {}
        good = [_good(topic, 0)]
        home = place(installation, good[0])
        await raw.send(home, good[0])
        for n, (reason, spoil) in enumerate(POISON.values(), 1):
            position = await raw.send(home, spoil(_good(topic, 77)))
            sent[position] = reason
            good.append(_good(topic, n))
            await raw.send(home, good[-1])
        if topic in (Topic.RUNS, Topic.METRICS):
            stray = Partition(topic, 1 - home.partition)
            sent[await raw.send(stray, _good(topic, 78))] = "wrong_partition"
        await installation.settled()

        rows = await fetch(installation, "SELECT topic, partition, log_offset, reason, message FROM set_aside")
        found = {Position(Topic(t), partition, offset): reason for t, partition, offset, reason, _ in rows}
        assert found.keys() == sent.keys()
        wrong = {p: (found[p], want) for p, want in sent.items() if want not in (found[p], "*")}
        assert wrong == {}
        assert all(row[4] for row in rows)
        assert await _folded(installation, topic) == len(good)
        assert not worker.problems
        counted = sum(
            sample.value
            for metric in worker.metrics.dead_letters.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        )
        assert counted == len(sent)
        assert difference(await installation.rows(), await installation.replayed()) == ""


async def _folded(installation: Installation, topic: Topic) -> int:
    query = {
        Topic.EXPERIMENTS: "SELECT count(*) FROM experiment WHERE name LIKE 'e%'",
        Topic.RUNS: "SELECT 1 + count(*) FROM run_param WHERE value = 'v'",
        Topic.METRICS: "SELECT coalesce(sum(points), 0) FROM segment",
    }[topic]
    return int((await fetch(installation, query))[0][0])


async def test_a_text_that_postgres_orders_by_but_can_not_index_is_no_poison(installation: Installation) -> None:
    """Names, keys and values of the longest allowed length are stored: the bounds fit every index."""
    wide = "\U0001f9ea"
    async with sender(installation) as raw, working(installation):
        events: list[tuple[Topic, Event]] = [
            (Topic.EXPERIMENTS, ExperimentCreated(name=wide * 500, tags={wide * 250: wide * 5000})),
            (Topic.EXPERIMENTS, ExperimentTagsSet(experiment_id=0, tags={"k": os.urandom(60_000).hex()})),
            (
                Topic.RUNS,
                RunCreated(run_id="r" * 256, experiment_id=0, name=wide * 5000, start_ms=1, artifact_uri=wide * 5000),
            ),
            (Topic.RUNS, ParamsLogged(run_id="r" * 256, params={wide * 250: os.urandom(60_000).hex()})),
            (Topic.METRICS, MetricsLogged("r" * 256, from_points([Point(wide * 250, 1.0, 0, 0)]))),
        ]
        records = [outgoing(topic, event, sequence=n) for n, (topic, event) in enumerate(events)]
        await folded(installation, await append(installation, raw, records))
        assert await fetch(installation, "SELECT reason, message FROM set_aside") == []
        assert difference(await installation.rows(), await installation.replayed()) == ""


async def test_garbage_in_system_stops_neither_workers_nor_servers(installation: Installation) -> None:
    async with sender(installation) as raw:
        system = Partition(Topic.SYSTEM, 0)
        for value in (b"", b"\xff" * 50, b"\x00\x00\x00\x00\x02garbage", b"\x00\x7f\x00\x00\x00"):
            await raw.send(system, Outgoing(Topic.SYSTEM, b"", value, []))
    installation.worker()
    server = installation.server()
    async with httpx2.AsyncClient(base_url=server.url, timeout=30) as client:
        created = await client.post("/api/2.0/mlflow/experiments/create", json={"name": "e"})
        assert created.status_code == 200, created.text


async def test_records_before_the_genesis_are_set_aside(installation: Installation) -> None:
    """A writer was faster than the birth of the partition."""
    early = await _born_late(installation)
    async with working(installation) as worker:
        await until("experiments folded", lambda: _offset(worker, Topic.EXPERIMENTS) > early + 1)
    rows = await fetch(installation, "SELECT log_offset, reason FROM set_aside ORDER BY log_offset")
    assert rows == [(n, "before_genesis" if n else "framing") for n in range(early)]
    assert await fetch(installation, "SELECT experiment_id, name FROM experiment ORDER BY 1") == [
        (0, "Default"),
        (1, "e9"),
    ]


async def _born_late(installation: Installation, count: int = 3) -> int:
    """Make the experiments topic anew, with garbage and events before its genesis; answers how many stand there."""
    await bare_topic(installation, Topic.EXPERIMENTS)
    async with sender(installation) as raw:
        await raw.send(Partition(Topic.EXPERIMENTS, 0), replace(_good(Topic.EXPERIMENTS, 0), value=b"garbage"))
        await append(installation, raw, [_good(Topic.EXPERIMENTS, n) for n in range(1, count)])
        await create_log(installation.services.kafka, installation.namespace, LogSettings(partitions=2), release="test")
        await append(installation, raw, [_good(Topic.EXPERIMENTS, 9)])
    return count


def _offset(worker: Any, topic: Topic) -> int:
    return max((status.next_offset for item, status in worker.statuses.items() if item.where.topic is topic), default=0)
