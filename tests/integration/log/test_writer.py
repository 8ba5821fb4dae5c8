"""The sender over a real Kafka."""

import asyncio
import os
import signal
import uuid

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from runfold_log.admin import create_log
from runfold_log.errors import Backpressure, LogMismatch, LogUnavailable
from runfold_log.producer import MAX_MESSAGE_BYTES, RecordSender
from runfold_log.topics import LogSettings
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic, full_name
from tests.support.installations.installation import Installation
from tests.support.services.running import Services

WHERE = Partition(Topic.RUNS, 0)


async def test_only_what_kafka_has_not_acknowledged_counts_against_the_bound(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runfold_log.producer.MOST_WAITING_BYTES", 50_000)
    record = Outgoing(Topic.RUNS, b"k", bytes(10_000), ())
    kafka = installation.services
    async with RecordSender(installation.services.kafka, installation.namespace, timeout=3) as sender:
        for _ in range(20):
            await sender.send(WHERE, record)
        kafka.kill("kafka", signal.SIGSTOP)
        try:
            answers = await asyncio.gather(*(sender.send(WHERE, record) for _ in range(8)), return_exceptions=True)
        finally:
            kafka.kill("kafka", signal.SIGCONT)
        refused = [answer for answer in answers if isinstance(answer, Backpressure)]
        late = [answer for answer in answers if type(answer) is LogUnavailable]
        assert (len(late), len(refused)) == (4, 4)
        assert all("may still take effect" in str(answer) for answer in late)
        async with asyncio.timeout(60):
            while True:
                try:
                    await sender.send(WHERE, record)
                    break
                except LogUnavailable:
                    await asyncio.sleep(0.1)
        for _ in range(20):
            await sender.send(WHERE, record)


async def test_many_records_are_appended_in_order_across_batches_beside_single_ones(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runfold_log.producer.MAX_BATCH_BYTES", 20_000)
    where = Partition(Topic.METRICS, 0)
    records = [
        Outgoing(where.topic, b"k", b"%d " % n * (1 if n % 7 else 9_000), (("n", b"%d" % n),)) for n in range(60)
    ]
    async with RecordSender(installation.services.kafka, installation.namespace, linger_ms=20) as sender:
        first = await sender.send(where, Outgoing(where.topic, b"k", b"first", ()))
        await asyncio.gather(
            sender.send_all(where, records), sender.send(where, Outgoing(where.topic, b"k", b"one", ()))
        )
        last = await sender.send(where, Outgoing(where.topic, b"k", b"last", ()))
        await sender.send_all(where, [])
    target = TopicPartition(full_name(installation.namespace, where.topic), where.partition)
    consumer = AIOKafkaConsumer(**installation.services.kafka.options(), enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([target])
        consumer.seek(target, first.offset)
        found = [await consumer.getone() for _ in range(last.offset - first.offset + 1)]
    finally:
        await consumer.stop()
    many = [(one.value, one.headers) for one in found if one.headers]
    assert many == [(record.value, record.headers) for record in records]
    assert len(found) == len(records) + 3


async def test_many_records_that_no_broker_takes_are_not_acknowledged(installation: Installation) -> None:
    kafka = installation.services
    record = Outgoing(WHERE.topic, b"k", b"v", ())
    async with RecordSender(installation.services.kafka, installation.namespace, timeout=1) as sender:
        await sender.send_all(WHERE, [record])
        kafka.kill("kafka", signal.SIGSTOP)
        try:
            with pytest.raises(LogUnavailable, match="may still take effect"):
                await sender.send_all(WHERE, [record] * 3)
        finally:
            kafka.kill("kafka", signal.SIGCONT)


async def test_topics_of_a_release_with_smaller_records_take_larger_ones_after_an_update(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = f"smaller_{uuid.uuid4().hex[:8]}"
    before = LogSettings(partitions=1, topic_settings={"max.message.bytes": "2097152", "segment.bytes": "33554432"})
    large = Outgoing(Topic.RUNS, b"k", os.urandom(4 * 1024 * 1024), ())
    # A release whose records were smaller asked for less; this one's creation would raise it at once.
    monkeypatch.setattr("runfold_log.topics.MAX_MESSAGE_BYTES", 2_097_152)
    await create_log(services.kafka, namespace, before, release="test")
    monkeypatch.undo()
    async with RecordSender(services.kafka, namespace) as sender:
        with pytest.raises(LogMismatch, match="run `runfold topics create`"):
            await sender.send(WHERE, large)
        await create_log(services.kafka, namespace, LogSettings(), release="test")
        assert (await sender.send(WHERE, large)).where == WHERE
    admin = AIOKafkaAdminClient(**services.kafka.options())
    await admin.start()
    try:
        (answer,) = await admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, full_name(namespace, WHERE.topic))]
        )
    finally:
        await admin.close()
    shown = {entry[0]: entry[1] for entry in answer.resources[0][4]}
    kept = (shown["max.message.bytes"], shown["segment.bytes"], shown["message.timestamp.type"])
    assert kept == (str(MAX_MESSAGE_BYTES), "33554432", "LogAppendTime")
