"""When a row that was read is trusted: as long as notices say that nothing came since, and not for long."""

from typing import Any

import pytest

from runfold_projections.runs.queries import RunInfo
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_server.caches import run_cache
from runfold_server.caches.run_cache import RunCache, _Remembered
from runfold_server.core.errors import InvalidParameter
from runfold_server.freshness.fold_progress import FoldProgress

RUNS_0, EXPERIMENTS_0 = Partition(Topic.RUNS, 0), Partition(Topic.EXPERIMENTS, 0)
BOTH = (RUNS_0, EXPERIMENTS_0)


def test_a_row_is_trusted_until_a_notice_of_its_partitions_or_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = FoldProgress()
    remembered: _Remembered[str, str] = _Remembered(progress)
    remembered.keep("run", "row", remembered.marks(BOTH))
    assert remembered.current("run", remembered.marks(BOTH)) is None, "nobody listens"

    progress.listening = True
    progress.record(RUNS_0, 7)
    remembered.keep("run", "row", remembered.marks(BOTH))
    assert remembered.current("run", remembered.marks(BOTH)) == "row"
    progress.record(Partition(Topic.RUNS, 1), 9)
    assert remembered.current("run", remembered.marks(BOTH)) == "row", "another partition's commits are no matter"
    for where in BOTH:
        progress.record(where, progress.known.get(where, 0) + 1)
        assert remembered.current("run", remembered.marks(BOTH)) is None
        remembered.keep("run", "row", remembered.marks(BOTH))
        assert remembered.current("run", remembered.marks(BOTH)) == "row"

    monkeypatch.setattr(run_cache, "TRUSTED", -1.0)
    assert remembered.current("run", remembered.marks(BOTH)) is None, "a listener that hears nothing may be deaf"
    known = remembered.any("run")
    assert known is not None
    assert known.value == "row"


def test_a_row_read_before_a_notice_is_not_trusted_after_it() -> None:
    progress = FoldProgress()
    progress.listening = True
    remembered: _Remembered[str, str] = _Remembered(progress)
    before = remembered.marks(BOTH)
    progress.record(RUNS_0, 1)
    remembered.keep("run", "what the row was when the query was sent", before)
    assert remembered.current("run", remembered.marks(BOTH)) is None


async def test_only_a_row_of_now_rejects_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another server may have restored the run, and its notice may be on its way."""
    rows = [RunInfo("r", 0, stage, "RUNNING", "", "s3://b") for stage in ("deleted", "active")]
    asked: list[RunInfo] = []

    async def committed(*_: object) -> RunInfo:
        asked.append(rows[len(asked)])
        return asked[-1]

    monkeypatch.setattr(run_cache, "_committed", committed)
    log, progress = LogDouble(), FoldProgress()
    progress.listening = True
    runs: Any = RunCache(None, None, progress, log)  # type: ignore[arg-type]
    with pytest.raises(InvalidParameter, match="Current state is deleted"):
        await runs.active("r")
    assert (await runs.active("r")).lifecycle_stage == "active", "the row was read again"
    assert (await runs.active("r")).lifecycle_stage == "active"
    assert len(asked) == 2, "an active run is remembered"


class LogDouble:
    """As much of the log's writer as the cache asks."""

    class info:
        partitions = 3
