"""series:live tells a point once, however many events log it: what the history shows and what the stream tells are the
same points.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any

import httpx2
import pytest

from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.events.frames import Frame, Point, from_points
from runfold_schemas.events.metrics import MetricsLogged, RunRewound
from runfold_schemas.positions.topics import Topic
from tests.support.api.appending import send
from tests.support.api.series_streams import Stream, history, listen, metrics, run
from tests.support.api.sse import Point as Told
from tests.support.api.sse import points_of
from tests.support.installations.in_process import outgoing
from tests.support.installations.server_pair import ServerPair

__all__ = ["run"]
SEEDS = range(40) if os.environ.get("RUNFOLD_SOAK") else range(3)


def test_what_a_client_logs_anew_is_told_once(servers: ServerPair, client: httpx2.Client, run: str) -> None:
    send(client, metrics(run, 1), metrics(run, 2))
    shown = history(client, run)
    # As a client that asked again after a lost answer: other events, the same points.
    send(client, metrics(run, 1), metrics(run, 3), metrics(run, 2), metrics(run, 3), metrics(run, 4))
    with listen(servers, run, since=shown["live"]) as answer:
        stream = Stream(answer)
        last = stream.until(3, 4)[-1]
        send(client, metrics(run, 4), metrics(run, 5), metrics(run, 1))
        stream.until(5)
    with listen(servers, run, server=1, last=last.id) as answer:
        Stream(answer).until(5)


def test_points_that_differ_in_anything_are_all_told(servers: ServerPair, client: httpx2.Client, run: str) -> None:
    shown = history(client, run)
    points = [
        Point("m", 0.0, 0, 1),
        Point("m", -0.0, 0, 1),
        Point("m", 0.0, 0, 2),
        Point("m", 0.0, -1, 1),
        Point("m", 0.0, 0, 1),
        Point("m", 7.0, 0, 3),
    ]
    for number, point in enumerate(points):
        send(client, outgoing(Topic.METRICS, MetricsLogged(run, from_points([point])), writer=f"{run}-{number}"))
    with listen(servers, run, since=shown["live"]) as answer:
        told = Stream(answer).until(0.0, -0.0, 0.0, 0.0, 7.0)
    assert [str(point[-1]) for event in told for point in points_of(event.data or {"series": []})][:2] == [
        "0.0",
        "-0.0",
    ]


def test_what_was_rewound_is_told_when_it_is_logged_again(servers: ServerPair, client: httpx2.Client, run: str) -> None:
    send(client, metrics(run, 1, attempt="a"), metrics(run, 2, attempt="a"))
    shown = history(client, run)
    send(client, outgoing(Topic.METRICS, RunRewound(run_id=run, step=1), writer=f"{run}-rewind", attempt="a"))
    send(client, metrics(run, 2, attempt="a"), metrics(run, 2, attempt="a"), metrics(run, 3, attempt="a"))
    with listen(servers, run, since=shown["live"]) as answer:
        assert [event.kind for event in Stream(answer).until(2, 3)][:2] == ["open", "cut"]


def some(rng: Random, run: str, number: int) -> Outgoing:
    """An event about one of few points, so that most were logged before, or a rewind."""
    attempt, rank, writer = rng.choice("ab"), rng.choice([None, 0, 1]), f"{run}-{number}"
    if number and rng.random() < 0.05:
        event: Any = RunRewound(run_id=run, step=rng.randint(0, 4), all_ranks=True)
        return outgoing(Topic.METRICS, event, writer=writer, attempt="b")
    rows = sorted(rng.randint(0, 6) for _ in range(rng.randint(1, 4)))
    frame = from_points(
        [Point(key, float(rng.randint(0, 1)), step, rng.randint(1, 2)) for step in rows for key in ("m", "n")]
    )
    return outgoing(Topic.METRICS, MetricsLogged(run, frame), writer=writer, attempt=attempt, rank=rank)


def effective(told: list[tuple[str, Any]], run: str) -> list[Told]:
    """What a client has that takes away what a cut says."""
    kept: list[Told] = []
    for kind, data in told:
        if kind == "points":
            kept += points_of(data)
        elif kind == "cut":
            assert data["rank"] is None
            kept = [point for point in kept if point[4] <= data["step"]]
    return sorted(kept)


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
def test_a_stream_and_a_history_have_the_same_points_each_once(
    servers: ServerPair, client: httpx2.Client, run: str, seed: int
) -> None:
    rng = Random(seed)
    start = history(client, run)["live"]
    # Attempt "b" is the later one, whose rewinds take points of both.
    send(client, metrics(run, 0, "other", attempt="a"), metrics(run, 0, "other", attempt="b"))
    with listen(servers, run, since=start) as first:
        early = Stream(first)
        for number in range(60):
            send(client, some(rng, run, number))
        send(client, metrics(run, 100, attempt="b"))
        live = until_last(early)
    with listen(servers, run, server=1, since=start) as second:
        late = until_last(Stream(second))
    shown = sorted(points_of(history(client, run)))
    assert effective(late, run) == shown
    assert effective(live, run) == shown


def until_last(stream: Stream) -> list[tuple[str, Any]]:
    """Events up to the one that has the last point."""
    found = []
    for event in stream.events:
        found.append((event.kind, event.data))
        if event.kind == "points" and any(point[4] == 100 for point in points_of(event.data)):
            break
    return found


def test_a_frame_that_says_the_same_twice_is_told_once(servers: ServerPair, client: httpx2.Client, run: str) -> None:
    shown = history(client, run)
    point, other = Point("m", 1.0, 1, 1), Point("m", 2.0, 2, 1)
    frames: tuple[Frame, ...] = (*from_points([point, point, other]), *from_points([point]))
    send(client, outgoing(Topic.METRICS, MetricsLogged(run, frames), writer=run))
    with listen(servers, run, since=shown["live"]) as answer:
        Stream(answer).until(1, 2)
