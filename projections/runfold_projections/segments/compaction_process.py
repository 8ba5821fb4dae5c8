"""A process of low priority that compacts segments, so that compaction takes no time from the folds' event loop.

The first compaction starts it. Requests and answers on its standard input and output are pickles, each after its
size. The process ends at the end of its input, however its parent dies.
"""

import asyncio
import os
import pickle
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from runfold_projections.core.errors import CompactionFailed

from .compacted_builder import NewSegment
from .compaction import StoredSegment, compact_segments

NICE = 10
_SIZE_BYTES = 8


class CompactionProcess:
    """Starts the process when it is needed, and again if it has died. Requests wait for one another."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._request = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The process's id; None while it isn't running."""
        return self._process.pid if self._process else None

    async def __aenter__(self) -> "CompactionProcess":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def build(self, segments: Sequence[StoredSegment]) -> list[NewSegment]:
        """Compact these segments. CompactionFailed if the process dies or can't read them."""
        async with self._request:
            process = self._process or await self._start()
            try:
                answer = await _request(process, [tuple(segment) for segment in segments])
            except (OSError, asyncio.IncompleteReadError) as error:
                await self._end()
                raise CompactionFailed("the compaction process has died; the next compaction restarts it") from error
            except BaseException:
                # Cancelled between a request and its answer: the next request would receive this answer.
                await self._end()
                raise
        if isinstance(answer, str):
            raise CompactionFailed(answer)
        return [NewSegment(*row) for row in answer]

    async def _start(self) -> Process:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "runfold_projections.segments.compaction_process", stdin=PIPE, stdout=PIPE
        )
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            # Shielded: if the caller is cancelled again, a zombie would remain.
            await asyncio.shield(process.wait())


async def _request(process: Process, request: object) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    data = pickle.dumps(request, protocol=5)
    process.stdin.write(len(data).to_bytes(_SIZE_BYTES) + data)
    await process.stdin.drain()
    size = int.from_bytes(await process.stdout.readexactly(_SIZE_BYTES))
    return pickle.loads(await process.stdout.readexactly(size))


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until the end of their stream."""
    while head := requests.read(_SIZE_BYTES):
        segments = pickle.loads(requests.read(int.from_bytes(head)))
        answer: object
        try:
            built = compact_segments(segments)
            answer = [(one.first_key, one.last_key, one.points, one.head, one.data) for one in built]
        except Exception as error:
            answer = f"{len(segments)} segments can't be compacted: {type(error).__name__}: {error}"
        data = pickle.dumps(answer, protocol=5)
        answers.write(len(data).to_bytes(_SIZE_BYTES) + data)
        answers.flush()


if __name__ == "__main__":
    # Ctrl-C in a terminal reaches the whole process group. The parent shuts down and ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICE)
    serve(sys.stdin.buffer, sys.stdout.buffer)
