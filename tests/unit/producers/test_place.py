"""Which run, rank and attempt a process has, by what its launcher put into the environment."""

from __future__ import annotations

import pytest

from runfold import SdkError
from runfold.place import Place, where_we_run
from runfold.starting import _turns
from runfold_schemas.events import AttemptStarted

TORCHRUN = {"TORCHELASTIC_RUN_ID": "job7", "RANK": "3", "WORLD_SIZE": "8", "TORCHELASTIC_RESTART_COUNT": "2"}
SLURM = {"SLURM_JOB_ID": "991", "SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_NTASKS": "16"}
INDEXED = {"JOB_COMPLETION_INDEX": "4", "HOSTNAME": "train-x-4"}


def place(environ: dict[str, str], run_id: str | None = None, experiment: str = "one of this test") -> Place:
    return where_we_run(experiment, run_id, environ)


def test_without_a_launcher_a_process_is_alone() -> None:
    found = place({})
    assert (found.run_id, found.rank, found.world_size, found.attempt) == (None, None, None, "")
    assert found.node


@pytest.mark.parametrize(
    ("environ", "rank", "world", "attempt"),
    [
        (TORCHRUN, 3, 8, "torchelastic-job7-2"),
        ({**TORCHRUN, **SLURM}, 3, 8, "slurm-991-0-torchelastic-job7-2"),
        (SLURM, 5, 16, "slurm-991-0"),
        ({**SLURM, "SLURM_RESTART_COUNT": "1"}, 5, 16, "slurm-991-1"),
        (INDEXED, 4, None, ""),
        ({**INDEXED, "POD_UID": "u"}, 4, None, "u"),
        ({"RUNFOLD_RUN_ID": "a-run", "RANK": "1", "WORLD_SIZE": "2"}, 1, 2, ""),
        ({"RUNFOLD_RUN_ID": "a-run", "RUNFOLD_RANK": "1", "RUNFOLD_WORLD_SIZE": "2", "RUNFOLD_ATTEMPT": "x"}, 1, 2, "x"),
    ],
)  # fmt: skip
def test_launchers_name_rank_world_and_attempt(
    environ: dict[str, str], rank: int, world: int | None, attempt: str
) -> None:
    found = place(environ)
    assert (found.rank, found.world_size, found.attempt) == (rank, world, attempt)
    assert found.run_id


@pytest.mark.parametrize("environ", [TORCHRUN, SLURM, INDEXED])
def test_all_processes_of_a_job_and_its_restarts_have_one_run_and_other_jobs_others(environ: dict[str, str]) -> None:
    def run_id(experiment: str, **changes: str) -> str | None:
        return place({**environ, **changes}, experiment=experiment).run_id

    # As processes of their own would: each asks for the first time of this experiment.
    first = run_id(f"a {environ}")
    assert first is not None
    assert run_id(f"a {environ}") != first, "the second run of a process is another one"
    assert run_id(f"b {environ}") != first

    import runfold.place

    def fresh(**changes: str) -> str | None:
        runfold.place._runs.clear()
        return run_id(f"a {environ}", **changes)

    assert fresh() == first
    assert fresh(RANK="0", SLURM_PROCID="0", TORCHELASTIC_RESTART_COUNT="9", SLURM_RESTART_COUNT="3") == first
    assert fresh(TORCHELASTIC_RUN_ID="job8", SLURM_JOB_ID="992", HOSTNAME="train-y-4") != first or environ is INDEXED


@pytest.mark.parametrize("nothing", ["none", "None", "null", "", "0", " ", "undefined"])
def test_an_id_that_says_nothing_is_an_error_that_names_the_way_out(nothing: str) -> None:
    for environ, name in (
        ({"RUNFOLD_RUN_ID": nothing}, "RUNFOLD_RUN_ID="),
        ({**TORCHRUN, "TORCHELASTIC_RUN_ID": nothing}, "TORCHELASTIC_RUN_ID="),
        ({**SLURM, "SLURM_JOB_ID": nothing}, "SLURM_JOB_ID="),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "RANK and WORLD_SIZE"),
        ({"JOB_COMPLETION_INDEX": "4", "HOSTNAME": "somewhere"}, "JOB_COMPLETION_INDEX="),
    ):
        with pytest.raises(SdkError, match=f"{name}.*set RUNFOLD_RUN_ID to one id"):
            place(environ)
    with pytest.raises(SdkError, match="run_id="):
        place({}, run_id=nothing)


def test_one_process_without_an_id_is_a_run_of_its_own() -> None:
    assert place({**TORCHRUN, "TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "1"}).run_id is None
    assert place({**SLURM, "SLURM_NTASKS": "1"}).run_id is None


def test_what_is_given_wins_and_the_launcher_can_be_switched_off() -> None:
    assert place(TORCHRUN, run_id="mine").run_id == "mine"
    assert place({**TORCHRUN, "RUNFOLD_RUN_ID": "ours"}).run_id == "ours"
    off = place({"RANK": "0", "WORLD_SIZE": "2", "RUNFOLD_LAUNCHER": "off"})
    assert (off.run_id, off.rank) == (None, None)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"RUNFOLD_RUN_ID": "a b"}, "RUNFOLD_RUN_ID='a b' must match"),
        ({**TORCHRUN, "RANK": "-1"}, "RANK='-1' must be a whole number"),
        ({"RUNFOLD_LAUNCHER": "maybe"}, "must be auto or off"),
    ],
)
def test_what_can_not_be_meant_is_an_error(environ: dict[str, str], says: str) -> None:
    with pytest.raises(SdkError, match=says):
        place(environ)


@pytest.mark.parametrize(
    ("environ", "everyone"),
    [
        ({}, True),
        (TORCHRUN, True),
        ({"RUNFOLD_RUN_ID": "ours", "RUNFOLD_RANK": "1", "RUNFOLD_ATTEMPT": "x"}, True),
        # Each rank is an attempt of its own: it can't speak for others, which may be ahead of it.
        ({"RUNFOLD_RUN_ID": "ours", "RUNFOLD_RANK": "1"}, False),
        ({"JOB_COMPLETION_INDEX": "1", "HOSTNAME": "job-1", "POD_UID": "pod"}, False),
        ({"JOB_COMPLETION_INDEX": "1", "HOSTNAME": "job-1", "POD_UID": "pod", "RUNFOLD_ATTEMPT": "x"}, True),
    ],
)
def test_a_declared_start_holds_for_all_ranks_where_they_share_the_attempt(
    environ: dict[str, str], everyone: bool
) -> None:
    (turn,) = _turns(place(environ), "r", 8000, None)
    assert isinstance(turn, AttemptStarted)
    assert (turn.start_step, turn.all_ranks) == (8000, everyone)


def test_a_process_beside_the_job_has_no_attempt_and_declares_no_start() -> None:
    found = place({**TORCHRUN, "RUNFOLD_ATTEMPT": ""})
    assert (found.attempt, found.beside) == ("", True)
    with pytest.raises(SdkError, match="RUNFOLD_ATTEMPT"):
        _turns(found, "r", 8000, None)
