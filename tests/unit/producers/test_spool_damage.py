"""Spools with deleted or truncated files, or unreadable for a while: later events are kept, and sending continues."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import runfold
from runfold.pipeline.spool_sync import sync
from runfold.spool import layout
from runfold.transports.http import HttpTransport
from runfold_schemas.events.runs import ParamsLogged, RunCreated
from runfold_schemas.positions.topics import Topic
from tests.support.doubles.event_server import EventServer


def delete_segments(spool: Path) -> None:
    for path in spool.glob("*.seg"):
        path.unlink()


def cut_segments(spool: Path) -> None:
    for path in spool.glob("*.seg"):
        os.truncate(path, 40)


@pytest.mark.parametrize(
    "damage",
    [
        shutil.rmtree,
        lambda spool: shutil.rmtree(spool.parents[2]),
        delete_segments,
        cut_segments,
        lambda spool: (spool / "about.json").unlink(),
        lambda spool: (spool / "lock").unlink(),
    ],
    ids=["spool", "all spools", "segments", "tails", "name tag", "lock"],
)
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_what_is_logged_after_somebody_deleted_files_of_the_spool_is_kept_and_arrives(
    server: EventServer, spool_dir: Path, caplog: pytest.LogCaptureFixture, damage: Any, mode: Any
) -> None:
    run = runfold.run(mode=mode)
    run.log({"x": 0}, step=0)
    run.flush()
    damage(run.spool)
    run.log({"x": 1}, step=1)
    assert run.save()
    run.log({"x": 2}, step=2)
    run.finish()
    if mode == "offline":
        assert sync(spool_dir, server.uri).sent == [run.id]
    assert server.rows()[-2:] == [(("x",), 1, [1.0]), (("x",), 2, [2.0])]
    assert [created.run_id for created in server.of(RunCreated)] == [run.id]
    assert not run.spool.exists() or mode == "offline"


def test_what_somebody_deleted_before_it_was_sent_is_told_and_holds_nothing_up(
    server: EventServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.blocked.clear()
    run = runfold.run()
    run.log({"x": 0})
    run.save()
    run._writer._sender.wake()  # type: ignore[union-attr]
    for step in range(1, 10):
        run.log({"x": step}, step=step)
    run.save()
    delete_segments(run.spool)
    server.blocked.set()
    run.flush()
    run.log({"x": 10}, step=10)
    run.finish()
    assert server.rows()[-1] == (("x",), 10, [10.0])
    assert "files of its spool are missing or damaged" in caplog.text
    assert re.search(r"lost \d+ points and \d facts with files of its spool", caplog.text)


@pytest.mark.parametrize("others", [0, 5], ids=["in the same file", "in later files too"])
def test_a_creation_that_somebody_deleted_before_it_was_sent_is_sent_before_all_else(
    server: EventServer, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    monkeypatch.setattr("runfold.pipeline.run_writer.SEGMENT_BYTES", 4096)
    server.blocked.clear()
    before = runfold.run()
    before.save()
    before._writer._sender.wake()  # type: ignore[union-attr]
    while not server.requests:
        time.sleep(0.01)
    run = runfold.run(params={"lr": 1})
    run.save()
    for number in range(others):
        run.set_tags({f"long {number}": "x" * 4000})
        run.save()
    layout.segment_path(run.spool, 0).unlink()
    server.blocked.set()
    run.log_params({"late": 2})
    run.finish()
    before.finish()
    mine = [got for got in server.folded() if got.key == run.id.encode() and got.topic is Topic.RUNS]
    assert isinstance(mine[0].event, RunCreated)
    assert [type(got.event) for got in mine].count(RunCreated) == 1
    assert [got.event.params for got in mine if isinstance(got.event, ParamsLogged)][-1] == {"late": "2"}


def test_a_spool_that_can_not_be_read_for_a_while_is_sent_after_that(
    server: EventServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [3]

    def segments(directory: Path) -> list[int]:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.EMFILE, "Too many open files")
        return layout.segments(directory)

    monkeypatch.setattr("runfold.pipeline.sender._BLOCKED_SPOOL_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("runfold.spool.reader.segments", segments)
    with runfold.run() as run:
        run.log({"x": 0})
    assert server.rows() == [(("x",), 0, [0.0])]
    assert left[0] < 0


def test_an_error_that_passes_ends_no_run_s_sending(
    server: EventServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, left = HttpTransport.append, [2]

    def append(self: HttpTransport, items: Any, *, outcome: bool) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise MemoryError
        return real(self, items, outcome=outcome)

    monkeypatch.setattr("runfold.pipeline.sender._UNEXPECTED_ERROR_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(HttpTransport, "append", append)
    with runfold.run() as run:
        run.log({"x": 0})
    assert server.rows() == [(("x",), 0, [0.0])]
    assert caplog.text.count("unexpected error while sending") == 1
