"""The topics of a log: created, counted, and adapted to larger records."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NodeNotReadyError, TopicAlreadyExistsError, for_code

from runfold_schemas.positions.topics import Topic, full_name, partition_count

from .cluster import KafkaCluster
from .errors import LogMismatch, LogUnavailable
from .kafka_errors import kafka_errors
from .producer import MAX_MESSAGE_BYTES

DEFAULT_PARTITIONS = 8
"""Partitions of `runs` and of `metrics`: enough for eight workers, and few enough for a laptop."""
NO_BROKER_SECONDS = 30.0
"""How long a cluster that answers may name no broker."""
_MAX_MESSAGE = "max.message.bytes"
_LEADER_SECONDS = 30.0
"""How long the partitions of new topics may be without a leader."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Settings of a log's topics. By default records are kept for ever.

    `partitions` never changes once the log is created; None means what the log has, or 8 for a new one.
    """

    partitions: int | None = None
    replication: int = 1
    min_insync_replicas: int = 1
    retention_ms: int = -1
    topic_settings: Mapping[str, str] = field(default_factory=dict)


async def create_topics(kafka: KafkaCluster, namespace: str, settings: LogSettings) -> int:
    """Create the topics that are missing. Returns the number of partitions of `runs`, which `metrics` has too."""
    configs = {
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "delete",
        "retention.ms": str(settings.retention_ms),
        "retention.bytes": "-1",
        _MAX_MESSAGE: str(MAX_MESSAGE_BYTES),
        "min.insync.replicas": str(settings.min_insync_replicas),
        **settings.topic_settings,
    }
    names = {topic: full_name(namespace, topic) for topic in Topic}
    async with admin_client(kafka) as admin:
        before = await partition_counts(admin, names.values())
        found = before.get(names[Topic.RUNS]) or before.get(names[Topic.METRICS]) or DEFAULT_PARTITIONS
        partitions = found if settings.partitions is None else settings.partitions
        wanted = {name: partition_count(topic, partitions) for topic, name in names.items()}
        answer = await admin.create_topics(
            [NewTopic(name, count, settings.replication, topic_configs=configs) for name, count in wanted.items()]
        )
        for name, code, *_ in answer.topic_errors:
            if code and code != TopicAlreadyExistsError.errno:
                raise for_code(code)(f"topic {name}")
        await _allow_large_records(admin, [name for name, count in before.items() if count])
        async with asyncio.timeout(_LEADER_SECONDS):
            while 0 in (have := await partition_counts(admin, wanted)).values():
                await asyncio.sleep(0.02)
    for name, count in wanted.items():
        if have[name] != count:
            raise LogMismatch(
                f"topic {name} has {have[name]} partitions, the setting says {count}: "
                "it never changes once the log is created; leave RUNFOLD_PARTITIONS unset, "
                "or set it to what the log has"
            )
    return partitions


async def _allow_large_records(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """Raise the message size of topics that a release with smaller records created.

    Kafka's request replaces all settings of a topic, so its other own settings are sent again.
    """
    if not names:
        return
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    changes = []
    for answer in await admin.describe_configs(resources):
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
async def admin_client(kafka: KafkaCluster) -> AsyncIterator[AIOKafkaAdminClient]:
    """Start an admin client that has found a broker. Errors of Kafka within the block become LogUnavailable.

    A cluster that has just started, or was stopped for longer than its session lasts, answers but names no broker for a
    moment, so it gets `NO_BROKER_SECONDS`. A cluster that does not answer at all is an error at once.
    """
    with kafka_errors(kafka):
        admin = AIOKafkaAdminClient(**kafka.options())
        try:
            await admin.start()
            await _find_broker(admin, kafka)
            yield admin
        finally:
            await admin.close()


async def _find_broker(admin: AIOKafkaAdminClient, kafka: KafkaCluster) -> None:
    deadline = asyncio.get_running_loop().time() + NO_BROKER_SECONDS
    while True:
        try:
            await admin.describe_cluster()
            return
        except NodeNotReadyError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise LogUnavailable(f"Kafka at {kafka} answers but names no broker of its cluster") from error
            await asyncio.sleep(0.25)


async def partition_counts(admin: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, int]:
    """Partitions by topic; 0 for a topic that does not exist or has no leader yet."""
    answer = await admin.describe_topics(list(names))
    return {
        topic["topic"]: len(topic["partitions"])
        if not topic["error_code"] and all(not p["error_code"] for p in topic["partitions"])
        else 0
        for topic in answer
    }
