"""A process of low priority that builds packs, so that merging takes no time from the folds and their event loop.

It is started with the first merge. Requests and answers are pickles with their size before them, on its standard input and
output; it ends when its input does, however its parent died.
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

from .compaction import StoredSegment, compact_segments
from .packs import NewSegment

NICE = 10
_SIZE = 8


class CompactionProcess:
    """Starts the process when it is needed, and anew if it has died. One request at a time; the others wait."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        return self._process.pid if self._process else None

    async def __aenter__(self) -> "CompactionProcess":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def build(self, segments: Sequence[StoredSegment]) -> list[NewSegment]:
        """The packs of these segments. MergeFailed if the process dies or can't read them."""
        async with self._turn:
            process = self._process or await self._start()
            try:
                answer = await _ask(process, [tuple(segment) for segment in segments])
            except (OSError, asyncio.IncompleteReadError) as error:
                await self._end()
                raise CompactionFailed("the process that merges has died; it is started anew") from error
            except BaseException:
                # Cancelled between a request and its answer: the next one would get this one's.
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
            # Shielded: a zombie would stay if the caller is cancelled once more.
            await asyncio.shield(process.wait())


async def _ask(process: Process, request: object) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    data = pickle.dumps(request, protocol=5)
    process.stdin.write(len(data).to_bytes(_SIZE) + data)
    await process.stdin.drain()
    size = int.from_bytes(await process.stdout.readexactly(_SIZE))
    return pickle.loads(await process.stdout.readexactly(size))


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until their stream ends."""
    while head := requests.read(_SIZE):
        segments = pickle.loads(requests.read(int.from_bytes(head)))
        answer: object
        try:
            answer = [(p.first_key, p.last_key, p.points, p.head, p.data) for p in compact_segments(segments)]
        except Exception as error:
            answer = f"{len(segments)} segments can't be merged: {type(error).__name__}: {error}"
        data = pickle.dumps(answer, protocol=5)
        answers.write(len(data).to_bytes(_SIZE) + data)
        answers.flush()


if __name__ == "__main__":
    # Ctrl-C in a terminal reaches the whole group; the parent ends in order and this process with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICE)
    serve(sys.stdin.buffer, sys.stdout.buffer)
