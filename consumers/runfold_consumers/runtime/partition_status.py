"""State of a partition's task, as health checks and metrics report it."""

import time
from dataclasses import dataclass, field
from enum import StrEnum


class PartitionState(StrEnum):
    """What a partition's task is doing."""

    STARTING = "starting"
    FOLDING = "folding"
    HELD = "held"
    """The handler's end offset is reached: a snapshot is complete, or a rebuild compares rows."""
    WAITING = "waiting"
    """Kafka or Postgres is unavailable."""
    LOG_MISMATCH = "log_mismatch"
    """The log is not the one that was folded before."""
    PAUSED = "paused"
    """The next record needs a newer release."""
    FAILED = "failed"
    """An unexpected error; the task retries."""


@dataclass
class PartitionStatus:
    """State and progress of a partition's task.

    `broker_ms`: broker time of the last folded record, ms since the epoch.
    """

    state: PartitionState = PartitionState.STARTING
    detail: str = ""
    next_offset: int = 0
    broker_ms: int = 0
    since: float = field(default_factory=time.monotonic)
    """Monotonic time of the last change of state, in seconds."""

    def set(self, state: PartitionState, detail: str = "") -> None:
        """Change the state and its detail; `since` moves only when the state differs."""
        if state is not self.state:
            self.since = time.monotonic()
        self.state, self.detail = state, detail
