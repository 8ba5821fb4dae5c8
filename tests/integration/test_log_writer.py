"""The sender over a real Kafka."""

import asyncio
import signal

import pytest
from installation import Installation

from runfold.errors import Backpressure, LogUnavailable
from runfold.kafka import RecordSender
from runfold_schemas.batch import Outgoing
from runfold_schemas.position import Partition
from runfold_schemas.topics import Topic

WHERE = Partition(Topic.RUNS, 0)


async def test_only_what_kafka_has_not_acknowledged_counts_against_the_bound(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runfold.kafka.MOST_WAITING_BYTES", 50_000)
    record = Outgoing(Topic.RUNS, b"k", bytes(10_000), ())
    kafka = installation.services.stack
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
