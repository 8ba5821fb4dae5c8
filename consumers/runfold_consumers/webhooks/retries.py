"""When a failed delivery is attempted again."""

import random

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 3_600.0
"""Pauses between attempts double from a second, for a receiver that restarts, to an hour."""


def pause_after(attempt: int, retry_after: float = 0.0) -> float:
    """Return the seconds until the attempt after the `attempt`-th: doubling, with jitter, and at least the receiver's
    `retry_after`, up to an hour.
    """
    grown = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempt - 1, 20))
    return float(max(grown * random.uniform(0.5, 1.0), min(retry_after, MAX_PAUSE_SECONDS)))
