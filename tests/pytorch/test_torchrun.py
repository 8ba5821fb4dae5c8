"""The example under the real torchrun: a rank is killed, the job goes on from its checkpoint.

`make test-torch` installs what it needs.
"""

import asyncio
import os
import random
import re
import signal
import subprocess
import threading
from collections import defaultdict
from pathlib import Path

import pytest
from mlflow import MlflowClient

from runfold_projections.postgres.connection import open_pool
from runfold_projections.postgres.read_transaction import read_transaction
from runfold_projections.series.points import read_series
from runfold_projections.transfer.runs import branch_records, point_pieces
from tests.support.installations.installation import Installation, Program
from tests.support.installations.sdk_fixtures import command, kafka_uri_of
from tests.support.load.load import seed_of_this_run

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".bench" / "torch" / "bin" / "python"
RANKS, STEPS, EVERY = 4, 600, 100


class Job:
    """torchrun on this machine, with the ranks as its children."""

    def __init__(self, uri: str, folder: Path) -> None:
        assert PYTHON.exists(), "run this with `make test-torch`"
        job = f"job-{os.getpid()}-{random.random()}"
        arguments = ["--nproc_per_node", str(RANKS), "--rdzv_id", job, "--max_restarts", "1"]
        # PyTorch 1.13 under Python 3.11 can't read its own default of these: members of value 0 are not found any more.
        arguments += ["--redirects", "1", "--tee", "1", "--log_dir", str(folder / "logs")]
        script = [
            str(ROOT / "examples" / "train_torch.py"),
            "--steps",
            str(STEPS),
            "--every",
            str(EVERY),
            "--checkpoint",
            str(folder / "job.pt"),
        ]
        self.output: list[str] = []
        self.process = subprocess.Popen(
            [PYTHON, "-m", "torch.distributed.run", *arguments, *script],
            env={**os.environ, "RUNFOLD_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._came = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._came:
                self.output.append(line)
                self._came.notify_all()
        with self._came:
            self.output.append("")
            self._came.notify_all()

    def wait_for(self, text: str) -> None:
        """Until it has said so."""
        with self._came:
            self._came.wait_for(lambda: self._has_said(text) or "" in self.output, 120)
            assert self._has_said(text), "".join(self.output)[-3000:]

    def _has_said(self, text: str) -> bool:
        return any(text in line for line in self.output)

    def pid_of(self, rank: int) -> int:
        """The process of a rank now."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in map(int, children):
            if f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                return pid
        raise AssertionError(f"no process of rank {rank} among {children}")

    def end(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["http", "kafka"])
async def test_a_job_that_lost_a_rank_goes_on_from_its_checkpoint_in_one_run_without_a_lost_point(
    installation: Installation, way: str, tmp_path: Path, spool_dir: Path
) -> None:
    chance = random.Random(seed_of_this_run())
    installation.worker()
    server = installation.server()
    job = Job(server.url if way == "http" else kafka_uri_of(installation, server), tmp_path)
    try:
        await asyncio.to_thread(job.wait_for, f"checkpoint at step {2 * EVERY - 1} ")
        await asyncio.sleep(chance.random() * 0.2)
        killed = chance.randrange(RANKS)
        os.kill(job.pid_of(killed), signal.SIGKILL)
        assert await asyncio.to_thread(job.process.wait, 200) == 0, "".join(job.output)[-3000:]
    finally:
        await asyncio.to_thread(job.end)
    done = await asyncio.to_thread(command, "sync", str(spool_dir))
    assert done.returncode == 0, done.stderr
    await installation.settled()

    run_id = await asyncio.to_thread(_the_run, server)
    logged: dict[tuple[str, int | None], list[int]] = defaultdict(list)
    async with (
        open_pool(installation.services.postgres, installation.namespace, application="test") as pool,
        read_transaction(pool) as connection,
    ):
        story = await branch_records(connection, [run_id])
        async for piece in point_pieces(connection, [run_id]):
            logged[piece.attempt, piece.rank] += piece.frame.steps
        effective = (await read_series(connection, [run_id], ["loss"]))[run_id, "loss"]
    first, second = [line.attempt for line in story if line.attempt_branch is not None]
    ((of_attempt, resumed),) = {(line.attempt, line.step) for line in story if line.cut is not None}
    assert of_attempt == second
    assert resumed is not None
    assert resumed >= 2 * EVERY - 1
    assert resumed in _checkpoints(job)
    for rank in range(RANKS):
        # All of both attempts is kept, but for the last moment of processes that were killed.
        before = sorted(logged[first, rank])
        assert before == [*range(len(before))]
        assert len(before) > resumed
        assert sorted(logged[second, rank]) == [*range(resumed + 1, STEPS)]
        # What is shown is one series per rank, each step once.
        shown = sorted(step for one in effective if one.rank == rank for step in one.columns[0].tolist())
        assert shown == [*range(STEPS)]
    assert len(logged) == 2 * RANKS


def _the_run(server: Program) -> str:
    """The id of the experiment's only run, which has ended well."""
    client = MlflowClient(server.url)
    experiment = client.get_experiment_by_name("torch")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.params["world_size"]) == ("FINISHED", str(RANKS))
    assert len(client.get_metric_history(run.info.run_id, "loss")) == RANKS * STEPS
    return str(run.info.run_id)


def _checkpoints(job: Job) -> list[int]:
    return [int(match[1]) for line in job.output if (match := re.search(r"checkpoint at step (\d+) ", line))]
