"""Runs with metric points, and listeners to `series:live`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.events.frames import Point, from_points
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.positions.topics import Topic
from tests.support.api.appending import create_runs
from tests.support.api.sse import Event, events_of, points_of
from tests.support.installations.in_process import outgoing
from tests.support.installations.server_pair import ServerPair

API = "/api/runfold/v1/"


PATIENCE = 90.0


_numbers = iter(range(10**6))


@pytest.fixture
def run(client: httpx2.Client) -> str:
    run_id = f"live-{next(_numbers)}"
    create_runs(client, run_id)
    return run_id


def metrics(run: str, value: float, key: str = "m", *, sequence: int | None = None, **named: Any) -> Outgoing:
    event = MetricsLogged(run, from_points([Point(key, value, int(value), 1)]))
    number = next(_numbers) if sequence is None else sequence
    return outgoing(
        Topic.METRICS, event, writer="w" if sequence is not None else f"w{number}", sequence=number, **named
    )


class Stream:
    """A stream that is being listened to, for as long as a test may take: heartbeats would go on for ever."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.events = self._bounded(events_of(answer.iter_lines()))

    def _bounded(self, events: Iterator[Event]) -> Iterator[Event]:
        deadline, last = time.monotonic() + PATIENCE, ""
        for event in events:
            assert time.monotonic() < deadline, (
                f"waited {PATIENCE:g} s in vain; the last event but heartbeats was {last}"
            )
            last = last if event.kind == "heartbeat" else f"{event.kind} {event.data}"[:300]
            yield event

    def until(self, *values: float) -> list[Event]:
        """Events up to the one with which all these values have come; no other ones may."""
        found, told = [], []
        for event in self.events:
            found.append(event)
            if event.kind == "points":
                told += [point[-1] for point in points_of(event.data)]
            if len(told) >= len(values):
                break
        assert told == list(values)
        return found


@contextmanager
def listen(
    servers: ServerPair, run: str | Sequence[str], *, server: int = 0, last: str = "", **query: Any
) -> Iterator[httpx2.Response]:
    """Open a stream for as long as the block lasts."""
    headers = {"last-event-id": last} if last else {}
    with (
        httpx2.Client(base_url=servers.uris[server], timeout=30) as client,
        client.stream(
            "GET", f"{API}series:live", params={"run_id": run, "key": "m", **query}, headers=headers
        ) as answer,
    ):
        yield answer


def history(client: httpx2.Client, run: str) -> Any:
    answer = client.post(f"{API}series:history", json={"runs": [run], "metrics": ["m"]})
    return answer.json()
