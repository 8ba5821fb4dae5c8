"""Moments of the log, as vectors and as times, for reads with `as_of`."""

from __future__ import annotations

import time

import httpx2

NATIVE = "/api/runfold/v1"


HEADER = "x-runfold-as-of"


def now(client: httpx2.Client) -> str:
    """The log's ends, as a vector."""
    ends = client.get(f"{NATIVE}/positions").json()["partitions"]
    return ",".join(f"{one['partition']}:{one['end']}" for one in ends)


def moment() -> int:
    """A millisecond in which nothing happens, by the clock that the broker has, too."""
    time.sleep(0.002)
    ms = time.time_ns() // 1_000_000
    time.sleep(0.002)
    return ms
