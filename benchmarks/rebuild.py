"""How fast projections are rebuilt: events of runs and of the registry, metric points, and the hash of the result.

`make bench-rebuild`.

The log is written straight into the embedded Kafka; then `runfold rebuild` does its work, with the worker of `runfold
up` beside it. The rate is that of the replay: from the first commit into the new generation until it has caught up.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
import uuid
from array import array
from collections.abc import Iterator
from pathlib import Path

from machine import describe
from rich.console import Console
from rich.table import Table
from volume import Spent

from runfold_log.admin import open_log
from runfold_log.producer import RecordSender
from runfold_projections.core.projection import Projection
from runfold_projections.generations.rebuild import Phase, RebuildProgress, rebuilding
from runfold_projections.generations.state_hash import state_hash
from runfold_projections.postgres.connection import LONG_READ_SECONDS, open_connection, open_pool
from runfold_projections.postgres.read_transaction import checkpoints, has_reached, read_transaction
from runfold_schemas.codec import wire
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.codec.envelope import Envelope, Writer
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.frames import Frame
from runfold_schemas.events.logged_models import LoggedModelCreated, LoggedModelFinalized
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.events.registered_models import (
    ModelAliasSet,
    ModelVersionCreated,
    ModelVersionStaged,
    ModelVersionTagsSet,
    RegisteredModelCreated,
)
from runfold_schemas.events.runs import ParamsLogged, RunCreated, RunUpdated, TagsSet
from runfold_schemas.ids import Ids
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic, partition_count, partition_of
from runfold_stack.config.fold_progress import log_ends, until_folded
from runfold_stack.config.settings import load_settings
from runfold_stack.programs.up import Up, runfold_up

AT_ONCE = 500
table = Table(box=None, pad_edge=False)
for title in ("measure", "amount", "seconds", "per second"):
    table.add_column(title, justify="left" if title == "measure" else "right")
_ids = Ids()


def record(topic: Topic, event: Event, writer: Writer, sequence: int) -> Outgoing:
    """An event as a writer sends it."""
    envelope = Envelope(_ids.event_id(), event.subject, _ids.now_ms(), writer, sequence)
    return Outgoing(topic, (event.entity or "default").encode(), wire.encode(event), envelope.headers())


def run_events(count: int) -> Iterator[Outgoing]:
    """Runs as MLflow's client writes them through a server: created, six params, two tags, ended."""
    writer = Writer("server", "node")
    for number in range(count // 4):
        run_id = uuid.uuid4().hex
        events: list[Event] = [
            RunCreated(
                run_id=run_id,
                experiment_id=0,
                name=f"run-{number}",
                user_id="user",
                start_ms=1_700_000_000_000 + number,
                artifact_uri=f"runfold-artifacts:/0/{run_id}/artifacts",
                tags={"mlflow.user": "user", "mlflow.source.name": "train.py"},
            ),
            ParamsLogged(run_id=run_id, params={f"p{key}": str(key * number) for key in range(6)}),
            TagsSet(run_id=run_id, tags={"stage": "trained", "number": str(number)}),
            RunUpdated(run_id=run_id, status="FINISHED", end_ms=1_700_000_001_000 + number),
        ]
        for sequence, event in enumerate(events):
            yield record(Topic.RUNS, event, writer, sequence)


def registry_events(count: int) -> Iterator[Outgoing]:
    """Models as a team registers them: each with ten versions of logged models that came to be, were tagged, got the
    alias, and went through the stages.
    """
    writer, sequence = Writer("server", "node"), 0
    models = max(1, count // (1 + 10 * len(version_events("any", 1))))
    for number in range(models):
        name = f"team-{number % 20}.model-{number}"
        events: list[Event] = [RegisteredModelCreated(name=name, description="a model", tags={"team": "vision"})]
        for version in range(1, 11):
            events += version_events(name, version)
        for event in events:
            yield record(Topic.REGISTRY, event, writer, sequence)
            sequence += 1


def version_events(name: str, version: int) -> list[Event]:
    """A logged model that becomes a version and goes into production."""
    model_id, run_id = f"m-{uuid.uuid4().hex}", uuid.uuid4().hex
    uri = f"runfold-artifacts:/0/models/{model_id}/artifacts"
    return [
        LoggedModelCreated(
            model_id=model_id,
            experiment_id=0,
            name="model",
            artifact_uri=uri,
            source_run_id=run_id,
            params={"depth": str(version), "rate": "0.1"},
            tags={"mlflow.user": "user"},
        ),
        LoggedModelFinalized(model_id=model_id, status="READY"),
        ModelVersionCreated(name=name, source=uri, run_id=run_id, model_id=model_id, tags={"data": "2026-11"}),
        ModelVersionTagsSet(name=name, version=version, tags={"checked": "yes"}),
        ModelVersionStaged(name=name, version=version, stage="Staging"),
        ModelVersionStaged(name=name, version=version, stage="Production", archive_existing=True),
        ModelAliasSet(name=name, alias="prod", version=version),
    ]


def metric_events(points: int) -> Iterator[Outgoing]:
    """Frames of 100 keys x 10 rows, of 40 runs in turn."""
    keys = tuple(f"layer{number}/norm" for number in range(100))
    runs = [uuid.uuid4().hex for _ in range(40)]
    noise = [array("d", (random.gauss(0, 1) for _ in range(1000))) for _ in range(50)]
    for number in range(points // 1000):
        turn, which = divmod(number, len(runs))
        steps = array("q", range(turn * 10, turn * 10 + 10))
        times = array("q", (1_700_000_000_000 + step * 100 for step in steps))
        event = MetricsLogged(runs[which], (Frame(keys, steps, times, noise[number % len(noise)]),))
        yield record(Topic.METRICS, event, Writer(f"w{which}", "node"), turn)


async def write(up: Up, namespace: str, partitions: int, records: Iterator[Outgoing]) -> None:
    """Append all, some at a time."""
    async with RecordSender(up.kafka, namespace, linger_ms=20, timeout=60) as sender:
        waiting: set[asyncio.Task[object]] = set()
        for item in records:
            where = Partition(item.topic, partition_of(item.key, partition_count(item.topic, partitions)))
            waiting.add(asyncio.ensure_future(sender.send(where, item)))
            if len(waiting) >= AT_ONCE:
                done, waiting = await asyncio.wait(waiting)
                for task in done:
                    task.result()
        await asyncio.gather(*waiting)


async def rebuild(up: Up, namespace: str, projection: Projection, amount: int, what: str) -> None:
    """One rebuild, as the command does it."""
    seen: list[tuple[float, RebuildProgress]] = []
    began = time.perf_counter()
    async with rebuilding(
        up.postgres, namespace, projection, lambda told: seen.append((time.perf_counter(), told))
    ) as work:
        generation = await work.begin()
        spent = Spent(up)
        await work.build(generation)
        built = time.perf_counter()
        cpu = {name: seconds for name, seconds in spent.seconds().items() if name in ("worker", "postgres", "kafka")}
        compared = await work.compare(generation, lambda difference: print(difference, file=sys.stderr))
        looked = time.perf_counter()
        await work.switch(generation)
    assert not compared.differences
    parts = ", ".join(f"{name} {seconds / amount * 1e6:.3g}" for name, seconds in cpu.items())
    print(
        f"# replay of {projection}: CPU per {what[:-1]}, us: {sum(cpu.values()) / amount * 1e6:.3g} = {parts}; "
        "two cores of their own "
        f"would take {2 * amount / sum(cpu.values()):,.0f} {what}/s",
        file=sys.stderr,
    )
    replaying = [(at, told) for at, told in seen if told.phase is Phase.REPLAY and told.folded]
    first = replaying[0]
    share = (replaying[-1][1].folded - first[1].folded) / replaying[-1][1].total
    seconds = built - first[0]
    table.add_row(
        f"rebuild of {projection}: replay, {what}",
        f"{amount * share:,.0f}",
        f"{seconds:.1f}",
        f"{amount * share / seconds:,.0f}",
    )
    table.add_row(
        f"rebuild of {projection}: comparison, {what}",
        f"{amount:,}",
        f"{looked - built:.1f}",
        f"{amount / (looked - built):,.0f}",
    )
    table.add_row(
        f"rebuild of {projection}: whole command, {what}", f"{amount:,}", f"{time.perf_counter() - began:.1f}", ""
    )
    async with (
        open_connection(
            up.postgres, generation.schema_name, application="benchmark", timeout=LONG_READ_SECONDS
        ) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        began = time.perf_counter()
        await state_hash(connection, projection)
    seconds = time.perf_counter() - began
    table.add_row(f"state-hash of {projection}, {what}", f"{amount:,}", f"{seconds:.1f}", f"{amount / seconds:,.0f}")


async def main(events: int, registry: int, points: int) -> None:
    """Write, wait for the live folds, rebuild, and print one table."""
    print(f"# {describe()}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="runfold-bench-") as directory:
        settings = load_settings(data_dir=Path(directory), port=0)
        async with runfold_up(settings) as up:
            info = await open_log(up.kafka, settings.namespace)
            for projection, amount, what, records in (
                (Projection.RUNS, events, "events", run_events(events)),
                (Projection.REGISTRY, registry, "events", registry_events(registry)),
                (Projection.METRICS, points, "points", metric_events(points)),
            ):
                if not amount:
                    continue
                began = time.perf_counter()
                await write(up, settings.namespace, info.partitions, records)
                print(f"# {amount:,} {what} appended in {time.perf_counter() - began:.1f} s", file=sys.stderr)
                async with open_pool(up.postgres, settings.namespace, application="benchmark") as pool:
                    want = await log_ends(up.kafka, info)
                    await until_folded(pool, want, 120.0)
                    async with read_transaction(pool) as connection:
                        assert has_reached(await checkpoints(connection), want)
                print(f"# folded live {time.perf_counter() - began:.1f} s after the first append", file=sys.stderr)
                await rebuild(up, settings.namespace, projection, amount, what)
    Console(width=150).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--registry", type=int, default=200_000, help="events")
    parser.add_argument("--points", type=int, default=20_000_000)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.events, arguments.registry, arguments.points))
