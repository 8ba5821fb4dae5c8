"""The `runfold` command as a real process: starting, looking inside, stopping, and what it says when it can't."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import runfold
from tests.support.installations.installation import free_port, s3_variables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.installations.installation import Installation
    from tests.support.services.running import Services

BOUND_SECONDS = 60.0
"""How long anything may take before a test calls it hanging. Nothing here measures speed."""


def environment(**variables: str) -> dict[str, str]:
    """Ours without any RUNFOLD_ variable, and with these."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RUNFOLD_")} | variables


def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "runfold_stack", *arguments],
        env=environment(COLUMNS="80", **variables),
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
    )


def refused(*arguments: str, **variables: str) -> str:
    """What the command says when it can't: exit code 1 or 2, and no traceback."""
    done = call(*arguments, **variables)
    assert done.returncode in (1, 2), (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr


def eventually(condition: Any, what: str) -> None:
    deadline = time.monotonic() + BOUND_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {BOUND_SECONDS:g} s: {what}"
        time.sleep(0.05)


@dataclass
class Up:
    """A `runfold up` that runs, what it said so far, and every process that it ever had."""

    data_dir: Path
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)
    family: set[psutil.Process] = field(default_factory=set)

    @property
    def text(self) -> str:
        return "".join(self.said)

    @property
    def url(self) -> str:
        line = next(line for line in self.said if "Runfold is up at" in line)
        return line.rpartition(" at ")[2].strip()

    def wait_ready(self) -> None:
        eventually(lambda: "Ctrl-C" in self.text or self.process.poll() is not None, "runfold up is ready")
        assert self.process.poll() is None, self.text
        self.look_around()

    def look_around(self) -> None:
        """Remember the processes that are there now."""
        me = psutil.Process(self.process.pid)
        self.family |= {me, *me.children(recursive=True)}

    def part(self, name: str) -> psutil.Process:
        """The process of the server or the worker."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if child.cmdline()[-1:] == [name])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it, wait for its end, check that it left no process behind; answers its exit code."""
        self.look_around()
        self.process.send_signal(number)
        code = self.process.wait(BOUND_SECONDS)
        self.assert_gone()
        return code

    def assert_gone(self) -> None:
        _, alive = psutil.wait_procs(self.family, timeout=BOUND_SECONDS)
        assert not alive, "left behind"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Starts `runfold up`s; whatever a test leaves of them is killed."""
    started = []

    def up(*arguments: str, data_dir: Path | None = None, ready: bool = True, **variables: str) -> Up:
        directory = data_dir or tmp_path / "data"
        process = subprocess.Popen(
            [sys.executable, "-m", "runfold_stack", "up", "--data-dir", str(directory), *arguments],
            env=environment(RUNFOLD_PARTITIONS="2", COLUMNS="80", **variables),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        one = Up(directory, process)
        reader = threading.Thread(target=lambda: one.said.extend(process.stdout or ()))
        reader.start()
        started.append((one, reader))
        if ready:
            one.wait_ready()
        return one

    yield up
    for one, reader in started:
        if one.process.poll() is None:
            one.look_around()
            one.process.kill()
            one.process.wait()
        one.assert_gone()
        reader.join()
        if one.process.stdout:
            one.process.stdout.close()


# A whole life


def test_a_life_of_an_installation(start: Any, tmp_path: Path) -> None:
    """One start for all that can be looked at, since a start costs seconds."""
    up: Up = start("--port", "0")
    here = ("--data-dir", str(up.data_dir))
    with urllib.request.urlopen(f"{up.url}/health/ready") as answer:
        assert answer.status == 200
    with runfold.run(experiment="kept", params={"lr": 0.1}, tracking_uri=up.url) as run:
        run.log({"loss": 0.5}, step=3)

    status = json.loads(call("status", "--json", *here).stdout)
    assert {name: part["state"] for name, part in status["parts"].items()} == dict.fromkeys(
        ("kafka", "postgres", "s3", "server", "worker"), "ready"
    )
    assert status["parts"]["server"]["address"] == up.url
    assert {row["partition"] for row in status["partitions"]} == {
        "experiments:0", "registry:0", "runs:0", "runs:1", "metrics:0", "metrics:1",
    }  # fmt: skip
    assert sum(row["end"] for row in status["partitions"]) >= 10
    shown = call("status", *here)
    assert shown.returncode == 0
    assert up.url in shown.stdout
    assert status["parts"]["kafka"]["log_id"] in shown.stdout
    assert all(len(line) <= 80 for line in shown.stdout.splitlines()), "fits a terminal"
    assert "…" not in shown.stdout

    check_tail(here, run.id)

    assert call("topics", "create", *here, RUNFOLD_PARTITIONS="2").stdout.count("log ") == 1
    assert "nothing to do" in call("migrate", *here).stderr
    assert "nothing to do" in call("upgrade", *here).stdout
    said = refused("topics", "create", *here, RUNFOLD_PARTITIONS="3")
    assert "RUNFOLD_PARTITIONS" in said

    again = refused("up", *here)
    assert f"process {up.process.pid}" in again
    assert str(up.data_dir) in again

    for part in ("worker", "server"):
        before = up.part(part)
        before.kill()
        address = status["parts"][part]["address"]
        eventually(
            lambda at=address, before=before: not before.is_running() and answers(f"{at}/health/ready"),
            f"the {part} is back",
        )
        assert up.part(part).pid != before.pid
        up.look_around()
    assert up.text.count("restarting") == 2

    assert up.stop(signal.SIGINT) == 0
    assert refused("status", *here).count("runfold up") == 1

    assert "RUNFOLD_PARTITIONS" in refused("up", *here, "--port", "0", RUNFOLD_PARTITIONS="3")

    second: Up = start("--port", "0")
    found = runs_get(second.url, run.id)
    assert found["info"]["status"] == "FINISHED"
    assert [(m["key"], m["value"], m["step"]) for m in found["data"]["metrics"]] == [("loss", 0.5, 3)]
    assert second.stop(signal.SIGTERM) == 0


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def runs_get(url: str, run: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/2.0/mlflow/runs/get?run_id={run}") as answer:
        return json.load(answer)["run"]


def check_tail(here: tuple[str, str], run: str) -> None:
    def events(*arguments: str) -> list[dict[str, Any]]:
        done = call("events", "tail", *here, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line) for line in done.stdout.splitlines()]

    everything = events()
    mine = [event for event in everything if event["data"].get("run_id") == run]
    assert [event["type"].rpartition(".")[2] for event in mine if event["position"].startswith("runs:")] == [
        "RunCreated", "ParamsLogged", "RunUpdated",
    ]  # fmt: skip
    assert {event["type"] for event in everything} >= {"runfold.log.Genesis", "runfold.system.SchemaDeclared"}
    for partition in {event["position"].rpartition(":")[0] for event in everything}:
        offsets = [
            int(e["position"].rpartition(":")[2]) for e in everything if e["position"].startswith(f"{partition}:")
        ]
        assert offsets == list(range(len(offsets)))

    created = next(event for event in mine if event["type"] == "runfold.runs.RunCreated")
    assert events("--from", created["position"]) == [
        event for event in everything if event["position"] >= created["position"]
        and event["position"].rpartition(":")[0] == created["position"].rpartition(":")[0]
    ]  # fmt: skip
    assert {event["position"].partition(":")[0] for event in events("--topic", "metrics")} == {"metrics"}
    assert (
        events("--follow", "--limit", "2", "--topic", "experiments")
        == [event for event in everything if event["position"].startswith("experiments:")][:2]
    )
    for wrong, why in (("runs:1", "topic:partition:offset"), ("runs:99:0", "partitions"), ("runs:0:100000", "ends")):
        assert why in refused("events", "tail", *here, "--from", wrong)

    reader = subprocess.Popen(
        [sys.executable, "-m", "runfold_stack", "events", "tail", *here],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert reader.stdout
    assert reader.stderr
    reader.stdout.close()  # as `| head` does
    assert (reader.wait(BOUND_SECONDS), reader.stderr.read()) == (1, b"")
    reader.stderr.close()


# Ends


def test_the_death_of_the_parent_takes_everything_along(start: Any) -> None:
    up: Up = start("--port", "0", RUNFOLD_SERVER_WORKERS="2")
    assert len(up.family) > 5
    up.stop(signal.SIGKILL)
    assert not call("status", "--data-dir", str(up.data_dir)).stdout, "a file of a dead stack does not count"
    # And what it left on disk is no obstacle; nor is a signal that comes in the middle of the start.
    second: Up = start("--port", "0", ready=False)
    eventually(lambda: "kafka     starting" in second.text, "the start has begun")
    assert second.stop(signal.SIGHUP) == 0


def test_the_processes_of_a_server_end_with_the_first_one() -> None:
    variables = {
        "RUNFOLD_SERVER_WORKERS": "2",
        "RUNFOLD_KAFKA": "127.0.0.1:1",
        "RUNFOLD_POSTGRES": "postgresql://a@127.0.0.1:1/b",
    }
    port = str(free_port())
    server = subprocess.Popen(
        [sys.executable, "-m", "runfold_stack", "server", "--port", port],
        env=environment(**variables),
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: answers(f"http://127.0.0.1:{port}/health/live"), "the server answers")
        others = psutil.Process(server.pid).children(recursive=True)
        assert len(others) >= 2
    finally:
        server.kill()
        server.wait()
    _, alive = psutil.wait_procs(others, timeout=BOUND_SECONDS)
    assert not alive


def test_own_services_are_used_and_not_started(start: Any, installation: Installation, services: Services) -> None:
    namespace = {"RUNFOLD_NAMESPACE": f"{installation.namespace}_up"}
    own = {
        **services.kafka_variables,
        "RUNFOLD_POSTGRES": services.postgres,
        **s3_variables(services),
        **namespace,
    }
    up: Up = start("--port", "0", **own)
    commands = [" ".join(process.cmdline()) for process in up.family]
    assert not [c for c in commands if "java" in c or "weed" in c or "postgres" in Path(c.split(" ")[0]).name]
    assert "kafka" not in up.text
    with runfold.run(experiment="own", tracking_uri=up.url) as run:
        run.log({"m": 1.0})
    assert runs_get(up.url, run.id)["info"]["status"] == "FINISHED"
    status = json.loads(call("status", "--json", "--data-dir", str(up.data_dir), **own).stdout)
    assert status["namespace"] == namespace["RUNFOLD_NAMESPACE"]
    assert {part["state"] for part in status["parts"].values()} == {"ready"}
    assert up.stop() == 0


def test_programs_in_a_new_namespace_become_ready(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    programs = [installation.program("worker"), installation.program("server")]
    for program in programs:
        program.wait_ready()
    # Told, never judged: what else runs on this machine decides.
    with capsys.disabled():
        print(f"\n  server and worker in a new namespace: ready after {time.monotonic() - began:.1f} s")
    assert [program.kill(signal.SIGTERM) for program in programs] == [0, 0]


# What it says when it can't


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        for arguments in (["up", "--port", port], ["server", "--port", port]):
            said = refused(
                *arguments, "--data-dir", str(tmp_path), RUNFOLD_KAFKA="a:1", RUNFOLD_POSTGRES="postgresql://a"
            )
            assert f"Port {port}" in said
        said = refused("worker", RUNFOLD_WORKER_PORT=port, RUNFOLD_KAFKA="a:1", RUNFOLD_POSTGRES="postgresql://a")
        assert f"Port {port}" in said
    assert not (tmp_path / "kafka" / "meta.properties").exists()


@pytest.mark.parametrize("command", [["up"], ["server"], ["worker"], ["status"], ["topics", "create"], ["migrate"]])
def test_wrong_settings_are_named(tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "runfold.toml"
    file.write_text("server_wrokers = 2\n")
    said = refused(
        *command,
        "--data-dir",
        str(tmp_path / "data"),
        RUNFOLD_PARTITIONS="0",
        RUNFOLD_NAMESPACE="Bad-Name",
        RUNFOLD_KAFKA="nonsense",
        RUNFOLD_POSTGRES="mysql://user:hunter2@host/db",
        RUNFOLD_CONFIG=str(file),
    )
    for name in ("RUNFOLD_PARTITIONS", "RUNFOLD_NAMESPACE", "RUNFOLD_KAFKA", "RUNFOLD_POSTGRES", "server_wrokers"):
        assert name in said
    assert "hunter2" not in said
    assert not (tmp_path / "data").exists()


def test_services_that_are_not_there_are_named(tmp_path: Path, services: Services) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    here = ("--data-dir", str(tmp_path / "data"))
    dsn = f"postgresql://user:secret@{nowhere}/db"
    for command in (["up", "--port", "0"], ["topics", "create"], ["events", "tail"], ["upgrade"]):
        said = refused(*command, *here, RUNFOLD_KAFKA=nowhere, RUNFOLD_POSTGRES=dsn)
        assert "RUNFOLD_KAFKA" in said
        assert nowhere in said
    for command in (["up", "--port", "0"], ["migrate"]):
        there = {**services.kafka_variables, "RUNFOLD_POSTGRES": dsn, "RUNFOLD_NAMESPACE": "nowhere"}
        said = refused(*command, *here, **there)
        assert "RUNFOLD_POSTGRES" in said
        assert nowhere in said
        assert "secret" not in said
    status = call("status", *here, RUNFOLD_KAFKA=nowhere, RUNFOLD_POSTGRES=dsn)
    assert status.returncode == 1
    assert status.stdout.count("away") == 2
    assert "secret" not in status.stdout


def test_a_directory_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refused("up", "--port", "0", "--data-dir", str(tmp_path / "file" / "data"))


def test_a_host_that_is_not_ours_is_named(tmp_path: Path) -> None:
    said = refused("up", "--host", "192.0.2.1", "--data-dir", str(tmp_path / "data"))
    assert "--host" in said
    assert "192.0.2.1" in said


def test_a_misspelt_variable_is_told(tmp_path: Path) -> None:
    said = refused("status", "--data-dir", str(tmp_path), RUNFOLD_NAMESPCE="x")
    assert "RUNFOLD_NAMESPCE" in said
    assert "RUNFOLD_NAMESPACE" in said
