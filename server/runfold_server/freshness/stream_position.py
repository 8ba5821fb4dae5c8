"""How far an answer about runs is in the log of metrics, as a token: a live stream begins exactly there."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runfold_log.admin import LogInfo
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic, partition_of
from runfold_server.core.errors import InvalidParameter

_TOKEN = re.compile(r"([0-9a-zA-Z-]{1,64})((?:\.\d{1,6}-\d{1,18}){0,4096})")


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """End offsets of partitions of `metrics`, in the log of this id: the client has everything before them."""

    log_id: str
    offsets: Mapping[int, int]

    def __str__(self) -> str:
        return self.log_id + "".join(f".{partition}-{offset}" for partition, offset in sorted(self.offsets.items()))

    @classmethod
    def parse(cls, text: str) -> "StreamPosition":
        """Read a token. InvalidParameter for any other text."""
        found = _TOKEN.fullmatch(text)
        if not found:
            raise InvalidParameter(
                "Parameter 'since' is the `live` of an answer or the id of an event, as it was given."
            )
        pairs = [part.split("-") for part in found[2].split(".")[1:]]
        return cls(found[1], {int(partition): int(offset) for partition, offset in pairs})


def stream_position(
    info: LogInfo | None, run_ids: Iterable[str], positions: Mapping[Partition, int]
) -> StreamPosition | None:
    """The position of an answer about these runs, whose snapshot has these checkpoints; None before the server has
    opened the log.
    """
    if info is None:
        return None
    partitions = partitions_of(info, run_ids)
    return StreamPosition(info.log_id, {n: positions.get(Partition(Topic.METRICS, n), 0) for n in partitions})


def partitions_of(info: LogInfo, run_ids: Iterable[str]) -> set[int]:
    """The partitions of `metrics` that hold these runs."""
    return {partition_of(run_id.encode(errors="replace"), info.partitions) for run_id in run_ids}
