"""The supervisor of the embedded programs: restarts, full disks, endings."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from runfold_stack.embedded.stack import full_disk_told
from runfold_stack.errors import DiskFull
from runfold_stack.supervision import supervisor
from runfold_stack.supervision.process import tail
from runfold_stack.supervision.supervisor import Backoff, ending


def test_pauses_between_restarts_double_up_to_the_cap() -> None:
    backoff = Backoff(first=0.2, cap=5.0)
    assert [backoff.delay(n) for n in (1, 2, 3, 5, 6, 1000)] == pytest.approx([0.2, 0.4, 0.8, 3.2, 5.0, 5.0])


def test_a_nearly_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOW_DISK_BYTES", 0)
    assert supervisor.low_disk(tmp_path) is None
    monkeypatch.setattr(supervisor, "LOW_DISK_BYTES", 1 << 62)
    assert str(tmp_path) in (supervisor.low_disk(tmp_path) or "")


def test_no_space_left_is_told_with_the_place() -> None:
    with pytest.raises(DiskFull, match="where it lies"), full_disk_told("kafka", Path("where it lies")):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_an_ending_is_told_in_words() -> None:
    assert ending(1) == "ended with exit code 1"
    assert ending(-9) == "was killed by SIGKILL"


def test_the_tail_of_a_log_begins_with_this_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("former start\nthis start\n")
    assert tail(log, len("former start\n")) == "this start"
    assert tail(tmp_path / "absent") == ""
