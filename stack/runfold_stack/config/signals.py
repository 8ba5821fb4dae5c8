"""Work that a signal ends in order."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def until_signalled(work: Coroutine[Any, Any, T]) -> T | None:
    """What a coroutine answers; SIGTERM, SIGINT or SIGHUP cancel it, it ends in order, and the answer is None."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    signalled = False

    def stop() -> None:
        nonlocal signalled
        signalled = True
        task.cancel()

    for number in STOPS:
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if not signalled:
            raise
        return None
    finally:
        for number in STOPS:
            loop.remove_signal_handler(number)
