"""Topics, namespaces and the partition of a key."""

import re
from enum import StrEnum
from functools import lru_cache

from runfold_schemas.errors import BadEvent

NAMESPACE = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Topic(StrEnum):
    """A topic of the log, without its namespace."""

    SYSTEM = "system"
    EXPERIMENTS = "experiments"
    REGISTRY = "registry"
    RUNS = "runs"
    METRICS = "metrics"


PARTITIONED = frozenset({Topic.RUNS, Topic.METRICS})
"""Topics keyed by run id, with equally many partitions; all others have one, for a total order."""


def check_namespace(namespace: str) -> str:
    """Return the namespace, or raise BadEvent if it can't name topics and Postgres schemas."""
    if not NAMESPACE.fullmatch(namespace):
        raise BadEvent(
            f"namespace {namespace!r}: use 1 to 40 lower-case letters, digits and underscores, beginning with a letter"
        )
    return namespace


def full_name(namespace: str, topic: Topic) -> str:
    """The topic's name in Kafka, such as `runfold.runs`."""
    return f"{namespace}.{topic.value}"


def partition_count(topic: Topic, partitions: int) -> int:
    """How many partitions the topic has where runs and metrics have `partitions`."""
    return partitions if topic in PARTITIONED else 1


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """Partition of a key as Kafka's Java client computes it (murmur2, sign bit cleared, modulo)."""
    return 0 if partitions == 1 else (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """32-bit murmur2 with the seed of Kafka's `org.apache.kafka.common.utils.Utils.murmur2`, unsigned."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = (int.from_bytes(data[i : i + 4], "little") * m) & mask
        k = ((k ^ (k >> 24)) * m) & mask
        h = ((h * m) & mask) ^ k
    if whole < length:
        h = ((h ^ int.from_bytes(data[whole:], "little")) * m) & mask
    h = ((h ^ (h >> 13)) * m) & mask
    return h ^ (h >> 15)
