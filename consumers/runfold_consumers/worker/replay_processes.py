"""Low-priority processes that fold what is replayed, so that a rebuild takes no time from the folds that readers wait
for.

Each is an ordinary worker of kind `replay`. They run while a generation beside the live ones is folded, and end when
their standard input closes, however their parent died.
"""

import asyncio
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog

POLL_SECONDS = 0.2
"""Time between checks of a process and of whether it is needed; a rebuild's start waits for it."""
IDLE_SECONDS = 15.0
"""Time without anything to replay after which a process ends. A start takes about a second of CPU."""
RESTART_SECONDS = 2.0
"""Pause before a process that died is replaced, so that one that fails at once does not use up the machine."""
GRACE_SECONDS = 10.0
"""Time to finish a batch and release leases before a process is killed."""

_log: Any = structlog.get_logger(__name__)


class ReplayProcesses:
    """Keeps `count` processes while they are needed; none without a command."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None, count: int = 1) -> None:
        self._command, self._environment = tuple(command), environment
        self._count = count if command else 0
        self._needed_until = 0.0

    def set_needed(self, needed: bool) -> None:
        """Report whether there is something to replay now."""
        if needed:
            self._needed_until = time.monotonic() + IDLE_SECONDS

    async def run(self) -> None:
        """Start and stop the processes as needed, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._keep_one())

    async def _keep_one(self) -> None:
        process: Process | None = None
        try:
            while True:
                needed = time.monotonic() < self._needed_until
                if process is not None and process.returncode is not None:
                    _log.error("replay_process_died", exit_code=process.returncode)
                    process = None
                    await asyncio.sleep(RESTART_SECONDS)
                elif needed and process is None:
                    process = await asyncio.create_subprocess_exec(
                        *self._command, stdin=PIPE, stdout=DEVNULL, env=self._environment
                    )
                elif not needed and process is not None:
                    ending, process = process, None
                    await _end(ending)
                await asyncio.sleep(POLL_SECONDS)
        finally:
            if process is not None:
                # Shielded, so that a second cancellation does not leave the process behind.
                await asyncio.shield(_end(process))


async def _end(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
