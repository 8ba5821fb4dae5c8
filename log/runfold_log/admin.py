"""Birth and upgrade of a log: its topics, their genesis records, the declared schemas, the feature level.

Everything here may be run again, and by several starters at once: what is there is kept, the first genesis counts.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NodeNotReadyError, TopicAlreadyExistsError, for_code

from runfold_schemas.codec.catalog import FEATURE_LEVEL, Catalog, released_catalog
from runfold_schemas.codec.system_state import SystemState
from runfold_schemas.events.runs import Event, FeatureLevelRaised, Genesis, SchemaDeclared
from runfold_schemas.ids import Ids
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic, check_namespace, full_name, partition_count

from .cluster import KafkaCluster
from .errors import LogMismatch, LogNotBorn, LogUnavailable
from .producer import MAX_MESSAGE_BYTES, RecordSender
from .reader import plain_consumer, read_system, without_genesis
from .sequencer import Sequencer

DEFAULT_PARTITIONS = 8

_MAX_MESSAGE = "max.message.bytes"

NO_BROKER_PATIENCE = 30.0
"""Seconds that a cluster which answers may go on naming no broker."""


@dataclass(frozen=True, slots=True)
class Birth:
    """How a log is to be made. Retention is for ever unless said otherwise.

    `partitions` is fixed at birth; None takes what the log has, or 8 for a new one.
    """

    partitions: int | None = None
    replication: int = 1
    min_insync_replicas: int = 1
    retention_ms: int = -1
    topic_settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogInfo:
    """What a writer knows of the log it writes."""

    namespace: str
    log_id: str
    level: int
    partitions: int

    def all_partitions(self, topic: Topic) -> list[Partition]:
        """Every partition of a topic."""
        return [Partition(topic, n) for n in range(partition_count(topic, self.partitions))]


async def create_log(
    kafka: KafkaCluster, namespace: str, birth: Birth, *, release: str, ids: Ids | None = None
) -> LogInfo:
    """Make the topics and their genesis where they are missing, declare this release's schemas, and open the log.

    LogMismatch if topics exist with another number of partitions. LogUnavailable if Kafka does not answer.
    """
    check_namespace(namespace)
    ids = ids or Ids()
    catalog = released_catalog()
    try:
        partitions = await _create_topics(kafka, namespace, birth)
        async with RecordSender(kafka, namespace) as sender:
            writing = _Births(sender, Sequencer(ids), ids)
            state = await read_system(kafka, namespace)
            if not state.log_id:
                await writing.append(Partition(Topic.SYSTEM, 0), _genesis(ids.run_id(), Partition(Topic.SYSTEM, 0), 1))
                state = await read_system(kafka, namespace)
            if state.level == 0:
                state = await _raise_level(kafka, namespace, writing, state, FEATURE_LEVEL, release, catalog)
            await _geneses(kafka, namespace, partitions, writing, state.log_id, catalog)
    except KafkaError as error:
        raise LogUnavailable(f"Kafka at {kafka}: {type(error).__name__}: {error}") from error
    return LogInfo(namespace, state.log_id, state.level, partitions)


async def upgrade_log(
    kafka: KafkaCluster, namespace: str, *, release: str, birth: Birth | None = None, ids: Ids | None = None
) -> tuple[int, int]:
    """Declare this release's schemas and raise the feature level to its own; answers the level before and after.

    To be run when every worker and server has this release. Topics that the log lacks, as it was born before them, are made as `birth` says.
    """
    ids = ids or Ids()
    system = full_name(namespace, Topic.SYSTEM)
    async with _admin(kafka) as admin:
        there = (await _partition_counts(admin, [system]))[system]
    state = await read_system(kafka, namespace) if there else SystemState()
    if not state.log_id:
        raise LogNotBorn(f"namespace {namespace!r} has no log at {kafka}; run `runfold topics create`")
    await create_log(kafka, namespace, birth or Birth(), release=release, ids=ids)
    async with RecordSender(kafka, namespace) as sender:
        writing = _Births(sender, Sequencer(ids), ids)
        after = await _raise_level(kafka, namespace, writing, state, FEATURE_LEVEL, release, released_catalog())
    return state.level, after.level


async def open_log(kafka: KafkaCluster, namespace: str) -> LogInfo:
    """Facts of a log that exists; LogNotBorn if it does not."""
    async with _admin(kafka) as admin:
        counts = await _partition_counts(admin, [full_name(namespace, topic) for topic in Topic])
    found = {topic: counts.get(full_name(namespace, topic), 0) for topic in Topic}
    absent = [topic.value for topic, count in found.items() if count == 0]
    state = SystemState() if absent else await read_system(kafka, namespace)
    if absent or not state.log_id or state.level == 0:
        what = f"topics {', '.join(absent)} are missing" if absent else "its genesis is missing"
        raise LogNotBorn(f"namespace {namespace!r} at {kafka}: {what}; run `runfold topics create`")
    if found[Topic.RUNS] != found[Topic.METRICS]:
        raise LogMismatch(
            f"namespace {namespace!r}: runs has {found[Topic.RUNS]} partitions and metrics {found[Topic.METRICS]}; "
            "they are equal at birth and never change"
        )
    return LogInfo(namespace, state.log_id, state.level, found[Topic.RUNS])


class _Births:
    """Appends the records that belong to partitions rather than to keys."""

    def __init__(self, sender: RecordSender, sequencer: Sequencer, ids: Ids) -> None:
        self._sender, self._sequencer, self._ids = sender, sequencer, ids

    async def append(self, where: Partition, event: Event) -> None:
        writer, number = self._sequencer.take(where.topic, f"{where}")
        await self._sender.send_event(where, None, event, self._ids, writer, number)


def _genesis(log_id: str, where: Partition, count: int) -> Genesis:
    return Genesis(log_id=log_id, topic=where.topic.value, partition=where.partition, partition_count=count)


async def _geneses(
    kafka: KafkaCluster, namespace: str, partitions: int, writing: _Births, log_id: str, catalog: Catalog
) -> None:
    wanted = {
        Partition(topic, n): count
        for topic, count in ((topic, partition_count(topic, partitions)) for topic in Topic)
        if topic is not Topic.SYSTEM
        for n in range(count)
    }
    async with plain_consumer(kafka, fetch_max_wait_ms=50) as consumer:
        missing = await without_genesis(consumer, namespace, wanted, catalog)
    async with asyncio.TaskGroup() as group:
        for where in missing:
            group.create_task(writing.append(where, _genesis(log_id, where, wanted[where])))


async def _raise_level(
    kafka: KafkaCluster,
    namespace: str,
    writing: _Births,
    state: SystemState,
    level: int,
    release: str,
    catalog: Catalog,
) -> SystemState:
    where = Partition(Topic.SYSTEM, 0)
    for schema in state.missing(catalog.up_to(level)):
        declared = SchemaDeclared(
            schema_id=schema.schema_id,
            subject=schema.subject,
            version=schema.version,
            level=schema.level,
            schema=schema.text,
            topics=sorted(topic.value for topic in schema.topics),
        )
        await writing.append(where, declared)
    if state.level < level:
        await writing.append(where, FeatureLevelRaised(level=level, release=release))
    return await read_system(kafka, namespace, state)


async def _create_topics(kafka: KafkaCluster, namespace: str, birth: Birth) -> int:
    """Answers how many partitions runs and metrics have."""
    settings = {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "delete",
        "retention.ms": str(birth.retention_ms),
        "retention.bytes": "-1",
        _MAX_MESSAGE: str(MAX_MESSAGE_BYTES),
        "min.insync.replicas": str(birth.min_insync_replicas),
        **birth.topic_settings,
    }
    names = {topic: full_name(namespace, topic) for topic in Topic}
    async with _admin(kafka) as admin:
        before = await _partition_counts(admin, names.values())
        found = before.get(names[Topic.RUNS]) or before.get(names[Topic.METRICS]) or DEFAULT_PARTITIONS
        partitions = found if birth.partitions is None else birth.partitions
        wanted = {name: partition_count(topic, partitions) for topic, name in names.items()}
        answer = await admin.create_topics(
            [NewTopic(name, count, birth.replication, topic_configs=settings) for name, count in wanted.items()]
        )
        for name, code, *_ in answer.topic_errors:
            if code and code != TopicAlreadyExistsError.errno:
                raise for_code(code)(f"topic {name}")
        await _take_large_records(admin, [name for name, count in before.items() if count])
        async with asyncio.timeout(30):
            while 0 in (have := await _partition_counts(admin, wanted)).values():
                await asyncio.sleep(0.02)
    for name, count in wanted.items():
        if have[name] != count:
            raise LogMismatch(
                f"topic {name} has {have[name]} partitions, the setting says {count}: "
                "the number is fixed at birth; leave RUNFOLD_PARTITIONS unset, or set it to what the log has"
            )
    return partitions


async def _take_large_records(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """Raise the message size of topics that were made by a release with smaller records.

    Kafka's request replaces all of a topic's settings, so those that were set are sent again.
    """
    if not names:
        return
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    changes = []
    for answer in await admin.describe_configs(asked):
        for code, message, _, name, entries in answer.resources:
            if code:
                raise for_code(code)(f"settings of topic {name}: {message}")
            # Source 1 is the topic's own setting; others are inherited from the broker.
            own = {entry[0]: entry[1] for entry in entries if entry[3] == 1}
            effective = next(int(entry[1]) for entry in entries if entry[0] == _MAX_MESSAGE)
            if effective < MAX_MESSAGE_BYTES:
                own[_MAX_MESSAGE] = str(MAX_MESSAGE_BYTES)
                changes.append(ConfigResource(ConfigResourceType.TOPIC, name, configs=own))
    for answer in await admin.alter_configs(changes) if changes else ():
        for code, message, _, name in answer.resources:
            if code:
                raise for_code(code)(
                    f"{_MAX_MESSAGE} of topic {name} can't be raised to {MAX_MESSAGE_BYTES}: {message}"
                )


@asynccontextmanager
async def _admin(kafka: KafkaCluster) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started client that knows a broker.

    A cluster that has just begun, or was stopped for longer than its session lasts, answers and names no broker for a moment:
    it is asked again for `NO_BROKER_PATIENCE` seconds. A cluster that does not answer at all is an error at once.
    """
    admin = AIOKafkaAdminClient(**kafka.options())
    try:
        await admin.start()
        deadline = asyncio.get_running_loop().time() + NO_BROKER_PATIENCE
        while True:
            try:
                await admin.describe_cluster()
                break
            except NodeNotReadyError as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise LogUnavailable(f"Kafka at {kafka} answers but names no broker of its cluster") from error
                await asyncio.sleep(0.25)
        yield admin
    finally:
        await admin.close()


async def _partition_counts(admin: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, int]:
    """Partitions by topic; 0 for a topic that does not exist or has no leader yet."""
    answer = await admin.describe_topics(list(names))
    return {
        topic["topic"]: len(topic["partitions"])
        if not topic["error_code"] and all(not p["error_code"] for p in topic["partitions"])
        else 0
        for topic in answer
    }
