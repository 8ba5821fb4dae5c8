"""Partitions as Kafka's clients compute them, names that Kafka and Postgres take, positions as text."""

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as kafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from runfold_schemas.errors import BadEvent
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import Topic, check_namespace, full_name, murmur2, partition_count, partition_of
from tests.support.histories.schema_strategies import quick


@quick
@given(st.binary(max_size=40))
def test_murmur2_is_kafkas(key: bytes) -> None:
    assert murmur2(key) == kafka_murmur2(key) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("key", "java"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_gives_the_numbers_of_kafkas_own_java_test(key: bytes, java: int) -> None:
    assert murmur2(key) == java % 2**32


@quick
@given(st.binary(max_size=40), st.integers(1, 200))
def test_a_key_goes_where_kafkas_clients_send_it(key: bytes, partitions: int) -> None:
    numbers = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, numbers, numbers)


@pytest.mark.parametrize("namespace", ["a", "runfold", "test_1", "a" * 40])
def test_a_namespace_that_kafka_and_postgres_take_is_returned(namespace: str) -> None:
    assert check_namespace(namespace) == namespace


@pytest.mark.parametrize("namespace", ["", "A", "1a", "_a", "a-b", "a.b", "a b", "a\n", "ä", "a" * 41, "a;drop"])
def test_another_namespace_is_refused_with_the_rule(namespace: str) -> None:
    with pytest.raises(BadEvent, match="lower-case letters"):
        check_namespace(namespace)


def test_runs_and_metrics_have_many_partitions_all_others_one() -> None:
    assert {topic: partition_count(topic, 8) for topic in Topic} == {
        Topic.SYSTEM: 1,
        Topic.EXPERIMENTS: 1,
        Topic.REGISTRY: 1,
        Topic.RUNS: 8,
        Topic.METRICS: 8,
    }
    assert full_name("team_a", Topic.RUNS) == "team_a.runs"


@quick
@given(st.sampled_from(Topic), st.integers(0, 2**31), st.integers(0, 2**63))
def test_a_position_survives_its_text(topic: Topic, partition: int, offset: int) -> None:
    position = Position(topic, partition, offset)
    assert Position.parse(str(position)) == position
    assert position.where == Partition(topic, partition)
    assert str(position).startswith(f"{position.where}:")


@pytest.mark.parametrize(
    "text",
    ["", "runs", "runs:1", "runs:1:2:3", "runs:-1:2", "runs:1:-2", "runs:x:2", "runs::2", "runs:1:٣", "runs:²:1"],
)
def test_what_is_no_position_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(ValueError, match="runs:3:18240"):
        Position.parse(text)


def test_a_position_of_an_unknown_topic_is_refused_with_the_topics() -> None:
    with pytest.raises(ValueError, match="system, experiments, registry, runs, metrics"):
        Position.parse("walks:1:2")
