"""The wheel as users install it: plain, and with each extra. Every command runs or names what to install."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.installations.plain_install import build_wheel, install

COMMANDS = (
    "up", "server", "worker", "migrate", "upgrade", "topics create", "status", "sync", "events tail", "version",
    "export", "promote", "import runfold", "rebuild", "rollback", "state-hash", "generations", "snapshot create",
    "webhooks list",
    "timeline", "why", "diff",
)  # fmt: skip
OFFLINE_RUN = """
import runfold
with runfold.run(experiment="plain", mode="offline", params={"lr": 0.1}) as run:
    run.log({"loss": 0.5}, step=1)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module", params=["", "server", "export", "embedded"])
def installed(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    extra = str(request.param)
    return extra, install(wheel, extra, tmp_path_factory.mktemp(f"install-{extra or 'plain'}") / "venv")


def run(programs: Path, *words: str, directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `runfold` or another program of an environment, with nothing of this one's."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "RUNFOLD_SPOOL_DIR": str(directory / "spool"),
        **variables,
    }
    return subprocess.run(
        [str(programs / words[0]), *words[1:]],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_command_explains_itself(installed: tuple[str, Path], tmp_path: Path) -> None:
    _, programs = installed
    shown = run(programs, "runfold", "--help", directory=tmp_path)
    assert shown.returncode == 0, shown.stderr
    for command in COMMANDS:
        assert command.split()[0] in shown.stdout
        answer = run(programs, "runfold", *command.split(), "--help", directory=tmp_path)
        assert (answer.returncode, "Usage" in answer.stdout) == (0, True), f"{command}: {answer.stderr[-1000:]}"


def test_a_client_syncs_what_its_trainings_left(installed: tuple[str, Path], tmp_path: Path) -> None:
    _, programs = installed
    assert run(programs, "runfold", "version", directory=tmp_path).stdout.strip()
    assert run(programs, "runfold", "sync", directory=tmp_path).stdout.strip() == "nothing to send"
    trained = run(programs, "python", "-c", OFFLINE_RUN, directory=tmp_path)
    assert trained.returncode == 0, trained.stderr
    synced = run(programs, "runfold", "sync", "--to", "http://127.0.0.1:1", "--patience", "0.1", directory=tmp_path)
    assert (synced.returncode, "not sent:" in synced.stderr, "Traceback" in synced.stderr) == (1, True, False), (
        synced.stderr
    )


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("server",), "server"),
        (("worker",), "server"),
        (("migrate",), "server"),
        (("status",), "server"),
        (("rebuild",), "server"),
        (("up",), "embedded"),
    ],
)
def test_a_command_of_the_server_names_the_extra_that_it_needs(
    wheel: Path, words: tuple[str, ...], extra: str, tmp_path: Path
) -> None:
    programs = install(wheel, "", tmp_path / "venv")
    services = {"RUNFOLD_KAFKA": "127.0.0.1:1", "RUNFOLD_POSTGRES": "postgresql://nobody@127.0.0.1:1/none"}
    answer = run(programs, "runfold", *words, directory=tmp_path, **({} if words == ("up",) else services))
    assert answer.returncode == 1
    assert f"pip install 'runfold[{extra}]'" in answer.stderr, answer.stderr[-2000:]
    assert "Traceback" not in answer.stderr
