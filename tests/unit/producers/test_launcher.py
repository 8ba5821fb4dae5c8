"""Run, rank and attempt of a process, from the environment that its launcher sets."""

from __future__ import annotations

import pytest

from runfold import SdkError
from runfold.launcher import process_context
from runfold.launcher.job_id import _runs_launcher
from runfold.launcher.process_context import ProcessContext, read_process_context
from runfold.run_setup import _branch_events
from runfold_schemas.events.metrics import AttemptStarted

TORCHRUN = {"TORCHELASTIC_RUN_ID": "job7", "RANK": "3", "WORLD_SIZE": "8", "TORCHELASTIC_RESTART_COUNT": "2"}
SLURM = {"SLURM_JOB_ID": "991", "SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_NTASKS": "16"}
INDEXED = {"JOB_COMPLETION_INDEX": "4", "HOSTNAME": "train-x-4"}


def context(environ: dict[str, str], run_id: str | None = None, experiment: str = "one of this test") -> ProcessContext:
    return read_process_context(experiment, run_id, environ)


def test_without_a_launcher_a_process_is_alone() -> None:
    found = context({})
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
        ({"RUNFOLD_RUN_ID": "a", "RUNFOLD_RANK": "1", "RUNFOLD_WORLD_SIZE": "2", "RUNFOLD_ATTEMPT": "x"}, 1, 2, "x"),
    ],
)  # fmt: skip
def test_launchers_name_rank_world_and_attempt(
    environ: dict[str, str], rank: int, world: int | None, attempt: str
) -> None:
    found = context(environ)
    assert (found.rank, found.world_size, found.attempt) == (rank, world, attempt)
    assert found.run_id


@pytest.mark.parametrize("environ", [TORCHRUN, SLURM, INDEXED])
def test_all_processes_of_a_job_and_its_restarts_have_one_run_and_other_jobs_others(environ: dict[str, str]) -> None:
    def run_id(experiment: str, **changes: str) -> str | None:
        return context({**environ, **changes}, experiment=experiment).run_id

    # Simulates separate processes, each of which asks for this experiment for the first time.
    first = run_id(f"a {environ}")
    assert first is not None
    assert run_id(f"a {environ}") != first, "the second run of a process is another one"
    assert run_id(f"b {environ}") != first

    def fresh(**changes: str) -> str | None:
        process_context._runs.clear()
        return run_id(f"a {environ}", **changes)

    assert fresh() == first
    assert fresh(RANK="0", SLURM_PROCID="0", TORCHELASTIC_RESTART_COUNT="9", SLURM_RESTART_COUNT="3") == first
    assert fresh(TORCHELASTIC_RUN_ID="job8", SLURM_JOB_ID="992", HOSTNAME="train-y-4") != first or environ is INDEXED


@pytest.mark.parametrize("nothing", ["none", "None", "null", "", "0", " ", "undefined"])
def test_an_id_of_the_user_s_that_says_nothing_is_an_error_that_names_the_way_out(nothing: str) -> None:
    with pytest.raises(SdkError, match=r"RUNFOLD_RUN_ID=.*set RUNFOLD_RUN_ID to one id"):
        context({"RUNFOLD_RUN_ID": nothing})
    with pytest.raises(SdkError, match="run_id="):
        context({}, run_id=nothing)


@pytest.mark.parametrize(
    "environ",
    [
        {**TORCHRUN, "TORCHELASTIC_RUN_ID": "none"},
        {**SLURM, "SLURM_JOB_ID": "0"},
        {"RANK": "0", "WORLD_SIZE": "2"},
        # A port is not an id, because the next training on this machine has the same one.
        {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
        {"PMI_RANK": "1", "PMI_SIZE": "2"},
        {"JOB_COMPLETION_INDEX": "4", "HOSTNAME": "somewhere"},
    ],
)
def test_where_nothing_names_the_job_each_process_has_its_own_run_and_one_warning_says_so(
    environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    process_context._warned.clear()
    for _ in range(2):
        found = context(environ)
        assert (found.run_id, found.rank, found.world_size, found.attempt) == (None, None, None, "")
    (said,) = [record.getMessage() for record in caplog.records]
    assert "its job can't be identified" in said
    assert "set RUNFOLD_RUN_ID to one id" in said


KUBEFLOW = {"MASTER_ADDR": "train-x-master-0", "MASTER_PORT": "23456", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
OPEN_MPI = {"PMIX_NAMESPACE": "1863778305", "OMPI_MCA_orte_hnp_uri": "1863778305.0;tcp://10.0.0.5:44321"}


@pytest.mark.parametrize(
    ("shared", "rank", "size"),
    [
        (KUBEFLOW, "RANK", "WORLD_SIZE"),
        ({"TRAINING_JOB_NAME": "sm-1"}, "RANK", "WORLD_SIZE"),
        ({"TRAINING_JOB_NAME": "sm-1", "TORCHELASTIC_RUN_ID": "none"}, "RANK", "WORLD_SIZE"),
        ({"RAY_JOB_ID": "01000000", "MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "41233"}, "RANK", "WORLD_SIZE"),
        ({"PBS_JOBID": "17.head", "MASTER_ADDR": "n1", "MASTER_PORT": "29500"}, "RANK", "WORLD_SIZE"),
        ({"LSB_JOBID": "88"}, "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE"),
        ({"LSB_JOBID": "88"}, "PMI_RANK", "PMI_SIZE"),
        ({"LSB_JOBID": "88"}, "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
        (OPEN_MPI, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ({"SLURM_JOB_ID": "991", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, "RANK", "WORLD_SIZE"),
    ],
)
def test_processes_on_several_nodes_agree_on_one_run(shared: dict[str, str], rank: str, size: str) -> None:
    found = []
    for number in range(2):
        process_context._runs.clear()
        found.append(context({**shared, rank: str(number), size: "2"}))
    assert found[0].run_id == found[1].run_id is not None
    assert [one.rank for one in found] == [0, 1]
    assert found[0].attempt == found[1].attempt != ""
    process_context._runs.clear()
    other = {name: value + "9" for name, value in shared.items() if name != "TORCHELASTIC_RUN_ID"}
    if "TORCHELASTIC_RUN_ID" in shared:
        other["TORCHELASTIC_RUN_ID"] = "none"
    assert context({**other, rank: "0", size: "2"}).run_id != found[0].run_id


def test_a_host_and_a_process_id_are_no_job_since_they_come_again(caplog: pytest.LogCaptureFixture) -> None:
    process_context._warned.clear()
    open_mpi_5 = {"PMIX_NAMESPACE": "prterun-node1-2071@1", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
    assert context(open_mpi_5).run_id is None
    assert "its job can't be identified" in caplog.text
    assert context({**open_mpi_5, "PBS_JOBID": "17.head"}).run_id is not None


def test_ranks_that_a_notebook_started_by_torchelastic_agree_on_one_run() -> None:
    def found(folder: str, rank: int, attempt: int = 0) -> ProcessContext:
        process_context._runs.clear()
        path = f"/tmp/torchelastic_x/{folder}/attempt_{attempt}/{rank}/error.json"
        sizes = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": "29500"}
        return context({"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_ERROR_FILE": path, **sizes})

    first = found("none_a", 0)
    assert first.run_id is not None
    assert {found("none_a", 1).run_id, found("none_a", 1, attempt=1).run_id} == {first.run_id}
    assert found("none_b", 0).run_id != first.run_id
    assert "/" not in first.attempt


@pytest.mark.parametrize(
    ("words", "is_launcher"),
    [
        ("-u /env/bin/torchrun --nproc-per-node=2 train.py", True),
        ("-X dev -W error /env/bin/accelerate launch train.py", True),
        ("-u -m torch.distributed.run train.py", True),
        ("/env/bin/fabric run train.py", True),
        ("-m sweep torchrun", False),
        ("sweep.py -m torch.distributed.run", False),
        ("-c pass", False),
        ("", False),
    ],
)
def test_a_launcher_is_known_by_what_an_interpreter_runs(words: str, is_launcher: bool) -> None:
    assert _runs_launcher(iter(words.split())) == is_launcher


def test_one_process_without_an_id_is_a_run_of_its_own() -> None:
    assert context({**TORCHRUN, "TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "1"}).run_id is None
    assert context({**SLURM, "SLURM_NTASKS": "1"}).run_id is None


def test_what_is_given_wins_and_the_launcher_can_be_switched_off() -> None:
    assert context(TORCHRUN, run_id="mine").run_id == "mine"
    assert context({**TORCHRUN, "RUNFOLD_RUN_ID": "ours"}).run_id == "ours"
    off = context({"RANK": "0", "WORLD_SIZE": "2", "RUNFOLD_LAUNCHER": "off"})
    assert (off.run_id, off.rank) == (None, None)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"RUNFOLD_RUN_ID": "a b"}, "RUNFOLD_RUN_ID='a b' must match"),
        ({**TORCHRUN, "RUNFOLD_RANK": "-1"}, "RUNFOLD_RANK='-1' must be a whole number"),
        ({"RUNFOLD_LAUNCHER": "maybe"}, "must be auto or off"),
    ],
)
def test_what_can_not_be_meant_is_an_error(environ: dict[str, str], says: str) -> None:
    with pytest.raises(SdkError, match=says):
        context(environ)


@pytest.mark.parametrize(
    ("environ", "everyone"),
    [
        ({}, True),
        (TORCHRUN, True),
        ({"RUNFOLD_RUN_ID": "ours", "RUNFOLD_RANK": "1", "RUNFOLD_ATTEMPT": "x"}, True),
        # Each rank is its own attempt and must not cut off the others, which may be ahead of it.
        ({"RUNFOLD_RUN_ID": "ours", "RUNFOLD_RANK": "1"}, False),
        ({"JOB_COMPLETION_INDEX": "1", "HOSTNAME": "job-1", "POD_UID": "pod"}, False),
        ({"JOB_COMPLETION_INDEX": "1", "HOSTNAME": "job-1", "POD_UID": "pod", "RUNFOLD_ATTEMPT": "x"}, True),
    ],
)
def test_a_declared_start_holds_for_all_ranks_where_they_share_the_attempt(
    environ: dict[str, str], everyone: bool
) -> None:
    (event,) = _branch_events(context(environ), "r", 8000, None)
    assert isinstance(event, AttemptStarted)
    assert (event.start_step, event.all_ranks) == (8000, everyone)


def test_a_process_beside_the_job_has_no_attempt_and_declares_no_start() -> None:
    found = context({**TORCHRUN, "RUNFOLD_ATTEMPT": ""})
    assert (found.attempt, found.beside) == ("", True)
    with pytest.raises(SdkError, match="RUNFOLD_ATTEMPT"):
        _branch_events(found, "r", 8000, None)
