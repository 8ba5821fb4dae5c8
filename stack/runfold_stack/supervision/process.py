"""Child processes that end with us: spawn one, end one, run one to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Mapping, Sequence

LAUNCHER = Path(__file__).with_name("launch.py")
LAUNCH_MODE = "exec" if sys.platform == "linux" else "watch"

LOG_ROTATE_BYTES = 16 * 1024 * 1024
TAIL_BYTES = 8 * 1024
TAIL_LINES = 25


@dataclass(frozen=True)
class Account:
    """The user a child drops to."""

    name: str
    uid: int
    gid: int


def launch_command(command: Sequence[str], *, parent: int, death_signal: int, account: Account | None) -> list[str]:
    """The command line that runs `command` tied to the life of the process `parent`."""
    user = "-" if account is None else f"{account.uid}:{account.gid}"
    return [
        *(sys.executable, "-I", "-S", str(LAUNCHER)),
        *(str(parent), str(int(death_signal)), user, LAUNCH_MODE, "--"),
        *command,
    ]


async def spawn(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    account: Account | None = None,
    death_signal: int = signal.SIGKILL,
) -> Process:
    """Starts `command` in a session of its own, its output appended to `log`.

    The kernel ties a parent-death signal to the *thread* that forked, which is the one running this event loop: it must
    live as long as the child may.
    """
    rotate(log)
    # A pipe that is held and never written to: the watchdog of `watch` mode ends when it closes.
    stdin = asyncio.subprocess.PIPE if LAUNCH_MODE == "watch" else asyncio.subprocess.DEVNULL
    with _appending(log) as output:
        return await asyncio.create_subprocess_exec(
            *launch_command(command, parent=os.getpid(), death_signal=death_signal, account=account),
            stdin=stdin,
            stdout=output,
            stderr=output,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )


private_opener = partial(os.open, mode=0o600)
"""For `open`: a file that it makes is for this user alone, whatever the umask."""


def _appending(log: Path) -> BinaryIO:
    descriptor = private_opener(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.fchmod(descriptor, 0o600)  # an older release left it to the umask
    return os.fdopen(descriptor, "ab")


def kill_group(process: Process) -> None:
    """SIGKILL to the child and to whatever it started in its session's first group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # everybody is gone, or (macOS) only zombies are left


async def end(process: Process, stop_signal: int, grace: float) -> None:
    """Asks the child to stop, waits `grace` seconds, then kills its group. A cancellation kills at once."""
    try:
        if process.returncode is None:
            process.send_signal(stop_signal)
            async with asyncio.timeout(grace):
                await process.wait()
    except (TimeoutError, ProcessLookupError):
        pass
    finally:
        kill_group(process)
        await process.wait()


async def run_once(
    command: Sequence[str],
    *,
    log: Path,
    cwd: Path | None = None,
    account: Account | None = None,
    timeout: float = 120.0,
) -> int:
    """Runs a short command to its end and returns its exit code; raises TimeoutError after `timeout` seconds."""
    process = await spawn(command, log=log, cwd=cwd, account=account)
    try:
        async with asyncio.timeout(timeout):
            return await process.wait()
    finally:
        kill_group(process)
        await process.wait()


def rotate(log: Path) -> None:
    """Puts a log that has grown large aside, keeping one predecessor."""
    if log.exists() and log.stat().st_size > LOG_ROTATE_BYTES:
        log.replace(log.with_name(log.name + ".1"))


def tail(log: Path, since: int = 0) -> str:
    """The last lines of `log`, none of them from before byte `since`."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= size else 0, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-TAIL_LINES:])
