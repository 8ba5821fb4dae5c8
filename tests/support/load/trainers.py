"""Training processes that a test may kill, what each of them must have left, and the comparison of that with what is
stored.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from runfold.spool import layout
from runfold.spool.frames import MAGIC, FrameKind, scan
from runfold_projections.postgres.connection import open_pool
from runfold_projections.segments.compacted import read_segment
from runfold_schemas.codec import wire
from runfold_schemas.codec.batch import decode_item
from runfold_schemas.events.metrics import MetricsLogged
from tests.support.installations.installation import Installation
from tests.support.load import trainer

SECOND_MS = 1000


@dataclass(frozen=True, slots=True)
class Told:
    """What a trainer says of a row: times in ms around its log call; points on disk and arrived by then."""

    step: int
    before: int
    after: int
    saved: int
    arrived: int


@dataclass
class Life:
    """One process of a rank of a run. `last` is known once it has ended: the last step that it had on disk."""

    run_id: str
    rank: int
    attempt: str
    first: int
    keys: int
    process: subprocess.Popen[str]
    told: list[Told] = field(default_factory=list)
    spool: Path | None = None
    last: int | None = None
    refused: int = 0
    _reader: threading.Thread | None = None

    @classmethod
    def start(
        cls, uri: str, experiment: str, run_id: str, rank: int, attempt: str, first: int, keys: int, pause: float
    ) -> "Life":
        """A trainer of its own process, which logs until it is ended."""
        env = {
            **os.environ, "RUNFOLD_TRACKING_URI": uri, "RUNFOLD_RUN_ID": run_id, "RUNFOLD_RANK": str(rank),
            "RUNFOLD_ATTEMPT": attempt, "RUNFOLD_FINISH_TIMEOUT": "120",
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", trainer.__name__, experiment, str(first), str(keys), str(pause)],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        life = cls(run_id, rank, attempt, first, keys, process)
        life._reader = threading.Thread(target=life._read, daemon=True)
        life._reader.start()
        return life

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            # The last line of one that was killed may be cut.
            if not line.endswith("\n"):
                break
            words = line.split()
            if self.spool is None:
                self.spool = Path(line[:-1])
            elif words[0] == "ended":
                self.last, self.refused = int(words[1]) - 1, int(words[2])
            else:
                self.told.append(Told(*map(int, words)))

    @property
    def arrived(self) -> int:
        """Points that it knows to have arrived."""
        return self.told[-1].arrived if self.told else 0

    @property
    def unsent(self) -> bool:
        """Whether points lie on its disk that have not arrived."""
        return bool(self.told) and self.told[-1].saved > self.told[-1].arrived

    def kill(self) -> None:
        """SIGKILL, and see what it leaves."""
        self.process.kill()
        self._wait(30)
        self.last = self.first - 1 if self.spool is None else max(self.first - 1, last_step(self.spool))

    def end(self) -> None:
        """Let it finish; what it can't send stays in its spool."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._wait(180)
        assert self.process.returncode == 0
        assert self.last is not None

    def _wait(self, timeout: float) -> None:
        self.process.wait(timeout)
        assert self._reader is not None
        self._reader.join(timeout)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def broken_promises(self) -> list[str]:
        """What it lost beyond what a killed trainer may: of the rows that it had logged, those of its last second."""
        assert self.last is not None
        who = f"run {self.run_id} rank {self.rank} attempt {self.attempt}"
        broken = [f"{who}: {self.refused} points were refused"] if self.refused else []
        if not self.told:
            return broken
        on_disk = self.first - 1 + self.told[-1].saved // self.keys
        if self.last < on_disk:
            broken.append(f"{who}: step {on_disk} was on disk, the last one there is {self.last}")
        # A log call saw to it that all of a second before it was on disk when it returned.
        sure = [told.step for told in self.told if told.after + SECOND_MS <= self.told[-1].before]
        if sure and self.last < sure[-1]:
            broken.append(
                f"{who}: step {sure[-1]} was logged a second before the last call, the last one there is {self.last}"
            )
        return broken


def last_step(spool: Path) -> int:
    """The last step of the points that lie whole in a spool, sent or not; -1: none."""
    for number in reversed(layout.segments(spool)):
        frames = list(scan(layout.segment_path(spool, number).read_bytes(), len(MAGIC)))
        for frame in reversed(frames):
            if frame.kind is FrameKind.METRICS:
                event = wire.decode(decode_item(frame.payload).value)
                assert isinstance(event, MetricsLogged)
                return event.frames[-1].steps[-1]
    return -1


async def wrong_points(installation: Installation, lives: Sequence[Life]) -> list[str]:
    """Where the stored points differ from those of these lives: what is lost, there twice, strange, or of another
    value.
    """
    wrong: list[str] = []
    async with open_pool(
        installation.services.postgres, installation.namespace, application="test", timeout=60
    ) as pool:
        for run_id in dict.fromkeys(life.run_id for life in lives):
            of_run = {(life.attempt, life.rank): _Series(life) for life in lives if life.run_id == run_id}
            async with pool.acquire() as connection, connection.transaction():
                query = "SELECT attempt, rank, head, data FROM segment WHERE run_id = $1"
                async for row in connection.cursor(query, run_id, prefetch=20):
                    series = of_run.get((row["attempt"], row["rank"]))
                    if series is None:
                        wrong.append(f"run {run_id}: points of {row['attempt']!r} {row['rank']}, which nobody sent")
                        continue
                    for frame in read_segment(row["head"], row["data"]):
                        series.add(frame)
            wrong += [text for series in of_run.values() for text in series.wrongs()]
            for row in await pool.fetch("SELECT writer, bounds FROM sequence WHERE entity = $1", run_id):
                if len(row["bounds"]) != 2 or row["bounds"][0] != 0:
                    wrong.append(f"run {run_id}: a hole in the sequence of writer {row['writer']}: {row['bounds']}")
    return wrong


class _Series:
    """How often each point of a life is there."""

    def __init__(self, life: Life) -> None:
        assert life.last is not None
        self._life, self._rows = life, life.last - life.first + 1
        keys = trainer.keys_of(life.keys)
        self._columns = {key: n for n, key in enumerate(keys)}
        self._bases = np.array([trainer.base_of(life.run_id, life.rank, key) for key in keys])
        self._times = np.zeros(max(self._rows, 0) * len(keys), np.uint8)
        self._strange = self._other = 0

    def add(self, frame: Any) -> None:
        columns = np.array([self._columns.get(key, -1) for key in frame.keys])
        steps = np.frombuffer(frame.steps, np.int64)
        values = np.frombuffer(frame.values).reshape(len(steps), len(columns))
        rows = steps - self._life.first
        fits = ((rows >= 0) & (rows < self._rows))[:, None] & (columns >= 0)[None, :]
        self._strange += int((~fits).sum())
        self._other += int((values != self._bases[columns][None, :] + steps[:, None])[fits].sum())
        places = rows[:, None] * len(self._columns) + columns[None, :]
        np.add.at(self._times, places[fits], 1)

    def wrongs(self) -> list[str]:
        who = f"run {self._life.run_id} rank {self._life.rank} attempt {self._life.attempt} of {self._rows} rows"
        counts = {
            "points are lost": int((self._times == 0).sum()),
            "points are there twice": int((self._times > 1).sum()),
            "points nobody logged": self._strange,
            "points have another value": self._other,
        }
        return [f"{who}: {count} {what}" for what, count in counts.items() if count]
