"""Real processes: Kafka and Postgres started, killed and started again."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from runfold_stack.embedded import embedded_stack, postgres, read_running
from runfold_stack.errors import DataDirInUse, PartFailed, PortTaken, StackError
from runfold_stack.supervision.process import Account
from runfold_stack.supervision.supervisor import Backoff, ChildSpec

if TYPE_CHECKING:
    from runfold_log.cluster import KafkaCluster
    from runfold_stack.embedded import RunningStack

PATIENCE_SECONDS = 60.0

STACK_IN_A_PROCESS = """
import asyncio, pathlib, sys
from runfold_stack.embedded import embedded_stack

async def main() -> None:
    async with embedded_stack(pathlib.Path(sys.argv[1])) as stack:
        print(stack.pid("kafka"), stack.pid("postgres"), stack.pid("s3"), flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


async def gone(pids: list[int]) -> None:
    """Waits until none of these processes is alive."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        for pid in pids:
            while True:
                if not alive(pid):
                    break
                await asyncio.sleep(0.05)


def owner(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def create_topic(cluster: KafkaCluster, topic: str) -> None:
    admin = AIOKafkaAdminClient(**cluster.options())
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def append(cluster: KafkaCluster, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(**cluster.options(), acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def read(cluster: KafkaCluster, topic: str, count: int) -> list[tuple[bytes, int]]:
    """The first records of the topic, as (value, timestamp type)."""
    consumer = AIOKafkaConsumer(topic, **cluster.options(), auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            records = [await consumer.getone() for _ in range(count)]
        return [(record.value, record.timestamp_type) for record in records]
    finally:
        await consumer.stop()


async def execute(dsn: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


def addresses(stack: RunningStack) -> tuple[KafkaCluster, str]:
    assert stack.endpoints.kafka is not None
    assert stack.endpoints.postgres is not None
    return stack.endpoints.kafka, stack.endpoints.postgres


async def test_data_and_addresses_are_kept_from_one_start_to_the_next(tmp_path: Path) -> None:
    async with embedded_stack(tmp_path) as stack:
        kafka, postgres = addresses(stack)
        await create_topic(kafka, "kept")
        await append(kafka, "kept", b"first")
        await execute(postgres, "CREATE TABLE kept AS SELECT 1 AS n")
        running = read_running(tmp_path)
        assert running is not None
        assert (running.pid, running.kafka, running.postgres) == (os.getpid(), kafka.brokers, postgres)

        with pytest.raises(DataDirInUse, match=f"{tmp_path} is in use by process {os.getpid()}"):
            async with embedded_stack(tmp_path):
                pass

    assert read_running(tmp_path) is None
    assert not (tmp_path / "stack.json").exists()

    async with embedded_stack(tmp_path) as stack:
        assert addresses(stack) == (kafka, postgres)
        assert [value for value, _ in await read(kafka, "kept", 1)] == [b"first"]
        assert [row["n"] for row in await execute(postgres, "SELECT n FROM kept")] == [1]
        broker_stamped = 1
        assert (await read(kafka, "kept", 1))[0][1] == broker_stamped


async def test_a_killed_part_comes_back_with_all_that_was_acknowledged(tmp_path: Path) -> None:
    async with embedded_stack(tmp_path) as stack:
        kafka, postgres = addresses(stack)
        await create_topic(kafka, "acknowledged")
        await append(kafka, "acknowledged", b"before the kill")
        await execute(postgres, "CREATE TABLE acknowledged AS SELECT generate_series(1, 1000) AS n")
        former = stack.pid("kafka"), stack.pid("postgres")

        stack.kill("kafka", signal.SIGKILL)
        stack.kill("postgres", signal.SIGKILL)
        await stack.wait_ready("postgres")
        await stack.wait_ready("kafka")

        assert stack.pid("kafka") != former[0]
        assert stack.pid("postgres") != former[1]
        await append(kafka, "acknowledged", b"after the kill")
        assert [value for value, _ in await read(kafka, "acknowledged", 2)] == [b"before the kill", b"after the kill"]
        assert (await execute(postgres, "SELECT sum(n) FROM acknowledged"))[0][0] == 500_500


async def test_no_process_is_left_when_the_parent_is_killed_and_a_restart_recovers(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STACK_IN_A_PROCESS, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pids = [int(word) for word in (await parent.stdout.readline()).split()]
    running = read_running(tmp_path)
    assert running is not None
    assert running.pid == parent.pid
    assert running.postgres is not None
    backends = [row["pid"] for row in await execute(running.postgres, "SELECT pid FROM pg_stat_activity")]

    parent.kill()
    await parent.wait()
    await gone([*pids, *backends])
    assert read_running(tmp_path) is None, "an address file left behind by a killed stack must not count"
    async with embedded_stack(tmp_path, kafka=False, s3=False) as stack:
        assert stack.endpoints.kafka is None
        assert stack.endpoints.postgres == running.postgres


async def test_a_taken_port_is_replaced_and_the_broker_advertises_the_new_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        (tmp_path / "ports.json").write_text(json.dumps({"kafka": taken}))
        async with embedded_stack(tmp_path, postgres=False, s3=False, durability="fsync") as stack:
            assert stack.endpoints.kafka is not None
            assert str(stack.endpoints.kafka) != f"127.0.0.1:{taken}"
            await create_topic(stack.endpoints.kafka, "t")
            await append(stack.endpoints.kafka, "t", b"through the advertised listener")
        with pytest.raises(PortTaken, match=str(taken)):
            async with embedded_stack(tmp_path, postgres=False, s3=False, kafka_port=taken):
                pass


@pytest.mark.parametrize("where", ["readable by everybody", "readable by its owner only"])
async def test_postgres_starts_whoever_may_read_the_directories_above_its_data(tmp_path: Path, where: str) -> None:
    outer = tmp_path / "outer"
    outer.mkdir(mode=0o755 if where == "readable by everybody" else 0o700)
    mode = outer.stat().st_mode
    async with embedded_stack(outer / "data", kafka=False, s3=False, postgres_dir=outer / "elsewhere") as stack:
        assert stack.endpoints.postgres is not None
        await execute(stack.endpoints.postgres, "SELECT 1")
        assert owner(stack.pid("postgres")) != 0
        assert (outer / "elsewhere" / "data" / "PG_VERSION").exists()
    assert outer.stat().st_mode == mode


async def test_a_database_of_another_owner_is_refused_with_what_gives_it_back(tmp_path: Path) -> None:
    async with embedded_stack(tmp_path, kafka=False, s3=False):
        pass
    place = postgres.locate(tmp_path / "postgres", tmp_path / "log")
    stranger = replace(place, account=Account("nobody", 65534, 65534))
    with pytest.raises(StackError, match=r"belongs to user \d+, and Postgres runs as nobody here.*chown -R nobody"):
        await postgres.prepare(stranger, lambda _: None)
    await postgres.prepare(place, lambda _: None)


async def test_a_further_process_joins_stops_first_and_is_restarted(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []

    async def command() -> list[str]:
        return [sys.executable, "-c", "import time; time.sleep(3600)"]

    async def ready() -> bool:
        return True

    sleeper = ChildSpec("sleeper", command, ready, tmp_path / "sleeper.log", backoff=Backoff(first=0.05))
    async with embedded_stack(
        tmp_path, kafka=False, s3=False, on_progress=lambda part, state, detail: told.append((part, state))
    ) as stack:
        await stack.add(sleeper)
        first = stack.pid("sleeper")
        stack.kill("sleeper", signal.SIGKILL)
        await stack.wait_ready("sleeper")
        second = stack.pid("sleeper")
        assert second != first
    assert not alive(second)
    assert told.count(("sleeper", "restarting")) == 1
    assert told[-4:] == [
        ("sleeper", "stopping"),
        ("sleeper", "stopped"),
        ("postgres", "stopping"),
        ("postgres", "stopped"),
    ]


async def test_a_failed_first_start_names_the_reason_and_stops_the_rest(tmp_path: Path) -> None:
    async with embedded_stack(tmp_path, kafka=False, s3=False):
        pass
    (tmp_path / "postgres" / "data" / "postgresql.conf").write_text("shared_buffers_misspelt = 1\n")
    with pytest.raises(PartFailed, match="shared_buffers_misspelt") as failure:
        async with embedded_stack(tmp_path, kafka=False, s3=False):
            pass
    assert failure.value.part == "postgres"
    assert not (tmp_path / "postgres" / "data" / "postmaster.pid").exists()


async def test_a_pid_file_whose_number_is_somebody_elses_by_now_stops_no_start(tmp_path: Path) -> None:
    async with embedded_stack(tmp_path, kafka=False, s3=False):
        pass
    (tmp_path / "postgres" / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n")
    async with embedded_stack(tmp_path, kafka=False, s3=False) as stack:
        assert alive(stack.pid("postgres"))


async def test_as_root_the_programs_are_copied_only_if_the_account_cannot_run_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = postgres.installed_package()
    private = tmp_path / "private"
    for part in (postgres.PROGRAMS.parent, postgres.LIBRARIES):
        await asyncio.to_thread(shutil.copytree, installed / part, private / part, symlinks=True)
    private.chmod(0o700)
    monkeypatch.setattr(postgres, "installed_package", lambda: private)
    async with embedded_stack(tmp_path / "data", kafka=False, s3=False) as stack:
        program = os.readlink(f"/proc/{stack.pid('postgres')}/exe")
    assert program.startswith(str(private)) == (os.geteuid() != 0)
    assert private.stat().st_mode & 0o777 == 0o700
