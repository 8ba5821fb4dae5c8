"""Work that a signal ends in order."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def until_signalled(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine; SIGTERM, SIGINT or SIGHUP cancel it, and it ends in order. A second signal hurries it."""
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
        await task
    except asyncio.CancelledError:
        if not signalled:
            raise
    finally:
        for number in STOPS:
            loop.remove_signal_handler(number)
