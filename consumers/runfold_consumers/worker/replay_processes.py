"""Processes of low priority that fold what is replayed, so that it takes no time from the folds that readers wait for.

Each is a worker as any other, of the kind `replay`. They are there while there is something beside the live generations, and end when their
standard input does, however their parent died.
"""

import asyncio
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog

LOOK = 0.2
IDLE = 15.0
"""Seconds without anything to replay after which the process is ended."""
AGAIN = 2.0
"""Seconds until a process that died is started anew."""
GRACE = 10.0

_log: Any = structlog.get_logger(__name__)


class Replayer:
    """Keeps `count` processes, if there is a command for them."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None, count: int = 1) -> None:
        self._command, self._environment = tuple(command), environment
        self._count = count if command else 0
        self._wanted_until = 0.0

    def want(self, wanted: bool) -> None:
        """Whether there is something to replay."""
        if wanted:
            self._wanted_until = time.monotonic() + IDLE

    async def run(self) -> None:
        """Start and end them as wanted, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._keep_one())

    async def _keep_one(self) -> None:
        process: Process | None = None
        try:
            while True:
                wanted = time.monotonic() < self._wanted_until
                if process is not None and process.returncode is not None:
                    _log.error("a replaying process ended by itself", code=process.returncode)
                    process = None
                    await asyncio.sleep(AGAIN)
                elif wanted and process is None:
                    process = await asyncio.create_subprocess_exec(
                        *self._command, stdin=PIPE, stdout=DEVNULL, env=self._environment
                    )
                elif not wanted and process is not None:
                    ending, process = process, None
                    await _end(ending)
                await asyncio.sleep(LOOK)
        finally:
            if process is not None:
                # Shielded: a process must not outlive its parent because that is in a hurry.
                await asyncio.shield(_end(process))


async def _end(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(GRACE):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
