"""Runs in the child before the service does, and sees to it that the service never outlives us.

`python -I -S launch.py PARENT DEATH_SIGNAL UID:GID|- MODE -- COMMAND...` drops to another user if asked to, ties the
process to its parent's life and becomes COMMAND. It is a program of its own rather than a `preexec_fn`, because running
Python between fork and exec is unsafe in a process that has threads, and because without one the fork does not stall
the event loop.

MODE `exec` (Linux) asks the kernel for a signal at the parent's death and costs nothing afterwards. MODE `watch`
(elsewhere) stays as a small watchdog: its standard input is a pipe that only the parent holds, so end of file means
that the parent died. Only the standard library is imported here, so that it starts quickly, and all of it first: the
user that it drops to may not be allowed to read Python's files.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1
WATCH_SECONDS = 0.2


def drop_user(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def die_with_parent(parent: int, death_signal: int) -> None:
    """Must follow `drop_user`: the kernel forgets the request when credentials change."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    # The parent may have died before the request was made; then nobody would ever send the signal.
    if os.getppid() != parent:
        sys.exit(1)


def watch(command: list[str], death_signal: int) -> int:
    """Runs `command` until it ends, or until standard input closes; returns its exit code as a shell would."""
    child = os.spawnvp(os.P_NOWAIT, command[0], command)

    def forward(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, forward)
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if select.select([0], [], [], WATCH_SECONDS)[0] and not os.read(0, 1):
            os.kill(child, death_signal)
            os.waitpid(child, 0)
            return 1


def main(arguments: list[str]) -> int:
    parent, death_signal, user, mode, _dashes, *command = arguments
    os.umask(0o077)  # what services write (segments, objects, sockets) is for their user alone
    if user != "-":
        uid, gid = user.split(":")
        drop_user(int(uid), int(gid))
    if mode == "watch":
        return watch(command, int(death_signal))
    die_with_parent(int(parent), int(death_signal))
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
