"""The one way to wait, by polling checkpoints, until folds have reached a point.

The server's reads wait by notices instead.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from runfold_schemas.positions.vector import Vector

LookAtFolds = Callable[[], Awaitable[tuple[Vector, bool]]]
"""Reads checkpoints, and decides whether the wait is over."""


async def wait_for_folds(
    look: LookAtFolds,
    *,
    pause: float,
    longest_pause: float | None = None,
    timeout: float | None = None,
    patience: float | None = None,
    stalled: Callable[[Vector], Exception] | None = None,
) -> Vector:
    """Look again and again until `look` ends the wait, and return the checkpoints that it read then.

    All times are in seconds.

    Pauses double from `pause` up to `longest_pause`, if that is given. TimeoutError after `timeout`, between two looks.
    With `patience`, the error that `stalled` makes of the checkpoints when they have not moved for so long.
    """
    start = moved_at = time.monotonic()
    before: Vector | None = None
    while True:
        checkpoints, is_over = await look()
        if is_over:
            return checkpoints
        now = time.monotonic()
        if checkpoints != before:
            before, moved_at = checkpoints, now
        if timeout is not None and now - start > timeout:
            raise TimeoutError
        if patience is not None and stalled is not None and now - moved_at > patience:
            raise stalled(checkpoints)
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest_pause) if longest_pause is not None else pause
