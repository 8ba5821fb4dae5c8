"""Creation and upgrade of a log: its topics, their genesis records, the declared schemas, the feature level.

Everything here may run again, and in several processes at once: what exists is kept, and of several genesis records the
first counts.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from runfold_schemas.codec.catalog import FEATURE_LEVEL, Catalog, released_catalog
from runfold_schemas.codec.record import read_record
from runfold_schemas.codec.system_state import SystemState
from runfold_schemas.errors import SchemaError
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.system import FeatureLevelRaised, Genesis, SchemaDeclared
from runfold_schemas.ids import Ids
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic, check_namespace, full_name, partition_count

from .cluster import KafkaCluster
from .errors import LogMismatch, LogNotCreated
from .producer import RecordSender
from .reader import LogReader
from .sequencer import Sequencer
from .system import SYSTEM, read_system
from .topics import LogSettings, admin_client, create_topics, partition_counts

_FETCH_WAIT_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class LogInfo:
    """Facts of an open log."""

    namespace: str
    log_id: str
    level: int
    partitions: int

    def all_partitions(self, topic: Topic) -> list[Partition]:
        """All partitions of a topic, in order."""
        return [Partition(topic, n) for n in range(partition_count(topic, self.partitions))]


async def create_log(
    kafka: KafkaCluster, namespace: str, settings: LogSettings, *, release: str, ids: Ids | None = None
) -> LogInfo:
    """Create the topics and genesis records that are missing, declare this release's schemas, and open the log.

    LogMismatch if topics exist with another number of partitions, LogUnavailable if Kafka does not answer.
    """
    check_namespace(namespace)
    ids = ids or Ids()
    catalog = released_catalog()
    partitions = await create_topics(kafka, namespace, settings)
    async with RecordSender(kafka, namespace) as sender:
        writer = _PartitionWriter(sender, Sequencer(ids), ids)
        state = await read_system(kafka, namespace)
        if not state.log_id:
            await writer.append(SYSTEM, _genesis(ids.run_id(), SYSTEM, 1))
            state = await read_system(kafka, namespace)
        if state.level == 0:
            state = await _raise_level(kafka, namespace, writer, state, FEATURE_LEVEL, release, catalog)
        await _append_geneses(kafka, namespace, partitions, writer, state.log_id, catalog)
    return LogInfo(namespace, state.log_id, state.level, partitions)


async def upgrade_log(
    kafka: KafkaCluster, namespace: str, *, release: str, settings: LogSettings | None = None, ids: Ids | None = None
) -> tuple[int, int]:
    """Declare this release's schemas and raise the feature level to its own. Returns the level before and after.

    Run it once every worker and server has this release. Topics that are newer than the log are created as `settings`
    say.
    """
    ids = ids or Ids()
    system = full_name(namespace, Topic.SYSTEM)
    async with admin_client(kafka) as admin:
        exists = (await partition_counts(admin, [system]))[system]
    state = await read_system(kafka, namespace) if exists else SystemState()
    if not state.log_id:
        raise LogNotCreated(f"namespace {namespace!r} has no log at {kafka}; run `runfold topics create`")
    await create_log(kafka, namespace, settings or LogSettings(), release=release, ids=ids)
    async with RecordSender(kafka, namespace) as sender:
        writer = _PartitionWriter(sender, Sequencer(ids), ids)
        after = await _raise_level(kafka, namespace, writer, state, FEATURE_LEVEL, release, released_catalog())
    return state.level, after.level


async def open_log(kafka: KafkaCluster, namespace: str) -> LogInfo:
    """Read the facts of a log. LogNotCreated if it does not exist, LogUnavailable if Kafka does not answer."""
    async with admin_client(kafka) as admin:
        counts = await partition_counts(admin, [full_name(namespace, topic) for topic in Topic])
    found = {topic: counts.get(full_name(namespace, topic), 0) for topic in Topic}
    absent = [topic.value for topic, count in found.items() if count == 0]
    state = SystemState() if absent else await read_system(kafka, namespace)
    if absent or not state.log_id or state.level == 0:
        what = f"topics {', '.join(absent)} are missing" if absent else "its genesis is missing"
        raise LogNotCreated(f"namespace {namespace!r} at {kafka}: {what}; run `runfold topics create`")
    if found[Topic.RUNS] != found[Topic.METRICS]:
        raise LogMismatch(
            f"namespace {namespace!r}: runs has {found[Topic.RUNS]} partitions and metrics {found[Topic.METRICS]}; "
            "both get the same number when the log is created, and it never changes"
        )
    return LogInfo(namespace, state.log_id, state.level, found[Topic.RUNS])


class _PartitionWriter:
    """Appends the records that belong to partitions rather than to keys."""

    def __init__(self, sender: RecordSender, sequencer: Sequencer, ids: Ids) -> None:
        self._sender, self._sequencer, self._ids = sender, sequencer, ids

    async def append(self, where: Partition, event: Event) -> None:
        writer, number = self._sequencer.next_number(where.topic, f"{where}")
        await self._sender.send_event(where, None, event, self._ids, writer, number)


def _genesis(log_id: str, where: Partition, count: int) -> Genesis:
    return Genesis(log_id=log_id, topic=where.topic.value, partition=where.partition, partition_count=count)


async def _append_geneses(
    kafka: KafkaCluster, namespace: str, partitions: int, writer: _PartitionWriter, log_id: str, catalog: Catalog
) -> None:
    counts = {
        Partition(topic, n): count
        for topic, count in ((topic, partition_count(topic, partitions)) for topic in Topic)
        if topic is not Topic.SYSTEM
        for n in range(count)
    }
    async with LogReader(kafka, namespace, fetch_wait=_FETCH_WAIT_SECONDS) as reader:
        missing = await _without_genesis(reader, counts, catalog)
    async with asyncio.TaskGroup() as group:
        for where in missing:
            group.create_task(writer.append(where, _genesis(log_id, where, counts[where])))


async def _without_genesis(reader: LogReader, counts: Mapping[Partition, int], catalog: Catalog) -> list[Partition]:
    """The partitions, given with their topics' partition counts, that lack a genesis.

    Reads each only up to its genesis.
    """
    missing = []
    for where, count in counts.items():
        async for raw in reader.read_range(where):
            try:
                event = read_record(raw, catalog, count).event
            except SchemaError:
                continue
            if isinstance(event, Genesis) and event.is_of(where, count):
                break
        else:
            missing.append(where)
    return missing


async def _raise_level(
    kafka: KafkaCluster,
    namespace: str,
    writer: _PartitionWriter,
    state: SystemState,
    level: int,
    release: str,
    catalog: Catalog,
) -> SystemState:
    for schema in state.missing(catalog.up_to(level)):
        declared = SchemaDeclared(
            schema_id=schema.schema_id,
            subject=schema.subject,
            version=schema.version,
            level=schema.level,
            schema=schema.text,
            topics=sorted(topic.value for topic in schema.topics),
        )
        await writer.append(SYSTEM, declared)
    if state.level < level:
        await writer.append(SYSTEM, FeatureLevelRaised(level=level, release=release))
    return await read_system(kafka, namespace, state)
