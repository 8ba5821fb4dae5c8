"""Keeps a set of child processes running, and leaves none behind.

Parts start in the order in which they are added and stop in the reverse order. A part that dies is started again after
a pause that doubles with each failure and is forgotten once the part stayed up. A part that does not come up the first
time is an error for its starter: then the reason is a wrong setting or a full disk, and trying for ever would
only hide it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from runfold_stack.errors import PartFailed, StackError

from .process import end, kill_group, spawn, tail

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
    from pathlib import Path

    from .process import Account

PartState = Literal["preparing", "starting", "ready", "restarting", "stopping", "stopped"]

READY_POLL_SECONDS = 0.03
LOW_DISK_BYTES = 64 * 1024 * 1024


class Progress(Protocol):
    """Told of every change of a part's state; `detail` is for people."""

    def __call__(self, part: str, state: PartState, detail: str) -> None: ...


def no_progress(part: str, state: PartState, detail: str) -> None:
    """The progress callback of those who do not want to know."""


@dataclass(frozen=True)
class Backoff:
    """How long to pause before the n-th restart in a row, in seconds.

    The row ends, and the pause is `first` again, once the part was ready for `forget_after` seconds.
    """

    first: float = 0.2
    cap: float = 5.0
    forget_after: float = 30.0

    def delay(self, failures: int) -> float:
        """The pause after `failures` deaths in a row (one or more)."""
        return min(self.cap, self.first * 2.0 ** min(failures - 1, 30))


@dataclass(frozen=True)
class ChildSpec:
    """One supervised process.

    `command` is awaited before every start and gives the argument list; it is the place for work that must precede a
    start. `ready` is asked again and again until it says yes; it should ask the service a real question. `death_signal`
    is what the child gets when this process dies without a word; `stop_signal` asks it to stop cleanly and `grace`
    (seconds) is how long it may take. `data` lets an error say that the disk below it is full.
    """

    name: str
    command: Callable[[], Awaitable[Sequence[str]]]
    ready: Callable[[], Awaitable[bool]]
    log: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    account: Account | None = None
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL
    grace: float = 10.0
    ready_timeout: float = 60.0
    backoff: Backoff = field(default_factory=Backoff)
    data: Path | None = None


class Part:
    """A supervised process over all its lives."""

    def __init__(self, spec: ChildSpec, on_progress: Progress) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        self.process: Process | None = None
        self.failures = 0
        self._stopping = False
        self._on_progress = on_progress
        self._task: asyncio.Task[None] | None = None

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Starts the process, waits until it is ready and hands it to a task of `group` that keeps it up.

        Raises PartFailed if it does not get ready; then nothing of it is left running.
        """
        await self._come_up()
        self._task = group.create_task(self._keep_up(), name=f"keep {self.spec.name} up")

    async def stop(self) -> None:
        """Ends the process and the task that would restart it."""
        self._stopping = True
        self.ready.clear()
        self._on_progress(self.spec.name, "stopping", "")
        if self._task is not None:
            self._task.cancel()
        if self.process is not None:
            await end(self.process, self.spec.stop_signal, self.spec.grace)
        self._on_progress(self.spec.name, "stopped", "")

    def kill(self) -> None:
        if self.process is not None:
            kill_group(self.process)

    async def _come_up(self) -> None:
        self._on_progress(self.spec.name, "starting", "")
        command = await self.spec.command()
        log = self.spec.log
        log_start = log.stat().st_size if log.exists() else 0
        process = await spawn(
            command,
            log=log,
            env=self.spec.env,
            cwd=self.spec.cwd,
            account=self.spec.account,
            death_signal=self.spec.death_signal,
        )
        self.process = process
        try:
            async with asyncio.timeout(self.spec.ready_timeout):
                while not await self.spec.ready():
                    if process.returncode is not None:
                        raise self._failure(f"the process {ending(process.returncode)}", log_start)
                    await asyncio.sleep(READY_POLL_SECONDS)
        except TimeoutError:
            await end(process, self.spec.stop_signal, self.spec.grace)
            raise self._failure(f"no answer within {self.spec.ready_timeout:g} seconds", log_start) from None
        except BaseException:
            # The service could not be asked, or we are stopping: either way it must not stay behind.
            kill_group(process)
            await process.wait()
            raise
        self.ready.set()
        self._on_progress(self.spec.name, "ready", f"pid {process.pid}")

    async def _keep_up(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            since = loop.time()
            reason = await self._until_death()
            if self._stopping:
                return
            if loop.time() - since >= self.spec.backoff.forget_after:
                self.failures = 0
            while not self.ready.is_set():
                self.failures += 1
                pause = self.spec.backoff.delay(self.failures)
                disk = self._disk()
                detail = f"{reason}; again in {pause:.1f} s" + (f". {disk}" if disk else "")
                self._on_progress(self.spec.name, "restarting", detail)
                await asyncio.sleep(pause)
                try:
                    await self._come_up()
                except PartFailed as error:
                    reason = error.reason
                except (StackError, OSError) as error:
                    reason = str(error)

    async def _until_death(self) -> str:
        assert self.process is not None
        code = await self.process.wait()
        self.ready.clear()
        # Whatever it had started would hold its locks and ports and keep its successor from starting.
        kill_group(self.process)
        return f"the process {ending(code)}"

    def _failure(self, reason: str, log_start: int) -> PartFailed:
        last_words = tail(self.spec.log, log_start)
        return PartFailed(self.spec.name, reason, log=self.spec.log, tail=last_words, disk=self._disk())

    def _disk(self) -> str | None:
        return None if self.spec.data is None else low_disk(self.spec.data)


class Supervisor:
    """The parts that run, in the order in which they were added. Made by `supervise`."""

    def __init__(self, group: asyncio.TaskGroup, on_progress: Progress = no_progress) -> None:
        self._group = group
        self._on_progress = on_progress
        self._parts: dict[str, Part] = {}
        self._background: list[asyncio.Task[None]] = []

    async def add(self, spec: ChildSpec) -> None:
        """Starts a process, waits until it is ready, and keeps it running from then on.

        Raises PartFailed if it does not get ready, ValueError if the name is in use.
        """
        if spec.name in self._parts:
            raise ValueError(f"a part named {spec.name!r} is already supervised")
        part = self._parts[spec.name] = Part(spec, self._on_progress)
        try:
            await part.start(self._group)
        except BaseException:
            del self._parts[spec.name]
            raise

    def in_background(self, work: Coroutine[None, None, None]) -> None:
        """Runs something beside the parts; it is cancelled when they stop."""
        self._background.append(self._group.create_task(work))

    async def wait_ready(self, name: str) -> None:
        """Returns once the part answers; at once if it does so now."""
        await self._parts[name].ready.wait()

    def is_ready(self, name: str) -> bool:
        """Whether the part answered when it was last asked, and has not died since."""
        return self._parts[name].ready.is_set()

    def pid(self, name: str) -> int:
        """The process id of the part's present life. Raises ProcessLookupError while it has none."""
        process = self._parts[name].process
        if process is None or process.returncode is not None:
            raise ProcessLookupError(f"{name} is not running")
        return process.pid

    def kill(self, name: str, signal_number: int) -> None:
        """Sends a signal to the part's process: for tests of what happens when it dies.

        The part counts as not ready at once.
        """
        pid = self.pid(name)
        if signal_number == signal.SIGKILL:
            self._parts[name].ready.clear()
        os.kill(pid, signal_number)

    async def stop_all(self) -> None:
        """Stops every part, the last one added first. Cancelled meanwhile, it kills what is left."""
        for task in self._background:
            task.cancel()
        try:
            while self._parts:
                name = next(reversed(self._parts))
                await self._parts[name].stop()
                del self._parts[name]
        finally:
            for part in self._parts.values():
                part.kill()


@asynccontextmanager
async def supervise(on_progress: Progress = no_progress) -> AsyncIterator[Supervisor]:
    """A supervisor whose parts run no longer than the block."""
    try:
        async with asyncio.TaskGroup() as group:
            supervisor = Supervisor(group, on_progress)
            try:
                yield supervisor
            finally:
                await supervisor.stop_all()
    except BaseExceptionGroup as errors:
        # TaskGroup wraps even what the block itself raised; callers want to catch StackError by name.
        only = sole_error(errors)
        raise only from only.__cause__


def sole_error(error: BaseException) -> BaseException:
    """What is inside groups of one; the error itself if it is no such group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def low_disk(directory: Path) -> str | None:
    """A sentence about the disk below `directory` if it is all but full."""
    stat = os.statvfs(directory)
    free = stat.f_bavail * stat.f_frsize
    if free >= LOW_DISK_BYTES:
        return None
    return f"The disk that holds {directory} has only {free // (1024 * 1024)} MB left: free some space."
