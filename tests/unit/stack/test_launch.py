"""The launcher ties a child to its parent's life. Run as the program that it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from runfold_stack.supervision.process import LAUNCHER, launch_command

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


def launch(mode: str, parent: int, command: list[str]) -> subprocess.Popen[str]:
    arguments = [
        sys.executable,
        "-I",
        "-S",
        str(LAUNCHER),
        str(parent),
        str(int(signal.SIGKILL)),
        "-",
        mode,
        "--",
        *command,
    ]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_the_launcher_becomes_the_command() -> None:
    with launch("exec", os.getpid(), [sys.executable, "-c", "import os; print(os.getpid())"]) as process:
        output, _ = process.communicate()
        assert int(output) == process.pid


def test_the_command_is_not_run_when_the_parent_is_already_dead() -> None:
    with launch("exec", os.getpid() + 1, [sys.executable, "-c", "print('ran')"]) as process:
        output, _ = process.communicate()
    assert output == ""
    assert process.returncode == 1


def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    command = launch_command([str(tmp_path / "absent")], parent=os.getpid(), death_signal=9, account=None)
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "absent" in result.stderr
    assert result.returncode != 0


def test_the_watchdog_ends_its_child_when_the_parent_goes() -> None:
    with launch("watch", os.getpid(), SLEEP) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "up\n"
        process.stdin.close()
        assert process.wait(timeout=20) == 1
        assert process.stdout.read() == "", "the pipe is closed only when the child is gone as well"


def test_the_watchdog_passes_signals_on_and_gives_the_childs_ending() -> None:
    with launch("watch", os.getpid(), SLEEP) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM
