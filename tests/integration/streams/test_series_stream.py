"""series:live over real Kafka and Postgres: where it begins, what it leaves out, and how it ends."""

from __future__ import annotations

import socket
import threading
from array import array
from typing import Any

import httpx2
import pytest

from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.events.frames import Frame, Point, from_points
from runfold_schemas.events.metrics import AttemptStarted, MetricsLogged, RunRewound
from runfold_schemas.positions.topics import Topic
from runfold_server.native.series import stream
from runfold_server.streams import send_queue
from tests.support.api.appending import send
from tests.support.api.series_streams import API, Stream, history, listen, metrics, run
from tests.support.api.sse import events_of, points_of
from tests.support.installations.in_process import outgoing
from tests.support.installations.server_pair import ServerPair

__all__ = ["run"]


def test_a_stream_begins_where_the_answer_ended_and_goes_on_behind_its_last_event(
    servers: ServerPair, client: httpx2.Client, run: str
) -> None:
    send(client, metrics(run, 1))
    shown = history(client, run)
    send(client, metrics(run, 2), metrics(run, 99, "other"))
    with listen(servers, run, since=shown["live"]) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = Stream(answer).until(2)
    assert [event.kind for event in told] == ["open", "points"]
    assert told[0].id == shown["live"]
    send(client, metrics(run, 3))
    with listen(servers, run, server=1, since=shown["live"], last=told[-1].id) as answer:
        stream = Stream(answer)
        stream.until(3)
        send(client, metrics(run, 4))
        stream.until(4)


def test_a_chart_says_where_a_stream_may_go_on_too(servers: ServerPair, client: httpx2.Client, run: str) -> None:
    send(client, metrics(run, 1))
    drawn = client.post(f"{API}series:query", json={"runs": [run], "metrics": ["m"]}).json()
    send(client, metrics(run, 2))
    with listen(servers, run, since=drawn["live"]) as answer:
        Stream(answer).until(2)


def test_what_the_log_repeats_is_told_once(servers: ServerPair, client: httpx2.Client, run: str) -> None:
    send(client, metrics(run, 1, sequence=0), metrics(run, 2, sequence=1))
    shown = history(client, run)
    for _ in range(3):
        send(client, metrics(run, 1, sequence=0), metrics(run, 3, sequence=2), metrics(run, 2, sequence=1))
    send(client, metrics(run, 4, sequence=3))
    with listen(servers, run, since=shown["live"]) as answer:
        Stream(answer).until(3, 4)


def test_without_a_place_it_begins_now_and_one_rank_alone_may_be_listened_to(
    servers: ServerPair, client: httpx2.Client, run: str
) -> None:
    send(client, metrics(run, 1, rank=0))
    with listen(servers, run, rank=1) as answer:
        stream = Stream(answer)
        assert next(stream.events).kind == "open"
        send(client, metrics(run, 2, rank=0), metrics(run, 3, rank=1, attempt="a"), metrics(run, 4))
        (told,) = stream.until(3)
    assert points_of(told.data) == [(run, "m", "a", 1, 3, 1, 3)]


def test_streams_far_behind_and_up_to_date_are_told_the_same(
    servers: ServerPair, client: httpx2.Client, run: str
) -> None:
    start = history(client, run)["live"]
    with listen(servers, run) as first:
        live = Stream(first)
        next(live.events)
        for n in range(30):
            send(client, metrics(run, n))
        live.until(*range(30))
        with listen(servers, run, since=start) as second:
            late = Stream(second)
            late.until(*range(30))
            send(client, metrics(run, 30))
            late.until(30)
        live.until(30)


def test_values_that_are_not_finite_are_texts(servers: ServerPair, client: httpx2.Client, run: str) -> None:
    shown = history(client, run)
    frame = Frame(("m",), array("q", [1, 2]), array("q", [1, 2]), array("d", [float("nan"), float("-inf")]))
    send(client, outgoing(Topic.METRICS, MetricsLogged(run, (frame,)), writer=run))
    with listen(servers, run, since=shown["live"]) as answer:
        Stream(answer).until("NaN", "-Infinity")  # type: ignore[arg-type]


def test_a_rewind_and_a_declared_start_are_told_where_they_stand_among_the_points(
    servers: ServerPair, client: httpx2.Client, run: str
) -> None:
    shown = history(client, run)

    def line_fact(event: Any, sequence: int, attempt: str = "a") -> Outgoing:
        return outgoing(Topic.METRICS, event, writer=f"{run} {attempt}", sequence=sequence, attempt=attempt, rank=0)

    def point(value: float, sequence: int, attempt: str = "a") -> Outgoing:
        return line_fact(MetricsLogged(run, from_points([Point("m", value, int(value), 1)])), sequence, attempt)

    send(client, point(1, 0), point(2, 1), line_fact(RunRewound(run_id=run, step=1), 2), point(2, 3))
    send(client, line_fact(AttemptStarted(run_id=run, start_step=0), 0, "b"), point(1, 1, "b"))
    with listen(servers, run, since=shown["live"]) as answer:
        told: list[Any] = []
        for event in Stream(answer).events:
            if event.kind == "points":
                told += [point[-1] for point in points_of(event.data)]
            elif event.kind == "cut":
                told.append(event.data)
            if len(told) == 6:
                break
    cut = {"run_id": run, "attempt": "a", "rank": 0, "step": 1, "why": "rewind"}
    start = {"run_id": run, "attempt": "b", "rank": None, "step": 0, "why": "start"}
    assert told == [1, 2, cut, 2, start, 1]
    effective = [point[4] for point in points_of(history(client, run))]
    assert effective == [1]


def test_late_points_that_a_cut_has_taken_are_not_told_wherever_the_stream_begins(
    servers: ServerPair, client: httpx2.Client, run: str
) -> None:
    def of(attempt: str, event: Any, sequence: int) -> Outgoing:
        return outgoing(Topic.METRICS, event, writer=f"{run} {attempt}", sequence=sequence, attempt=attempt)

    def point(attempt: str, step: int, value: float, sequence: int) -> Outgoing:
        return of(attempt, MetricsLogged(run, from_points([Point("m", value, step, 1)])), sequence)

    places = [history(client, run)["live"]]
    send(client, point("a", 1, 1, 0), point("a", 5, 5, 1))
    send(client, of("b", AttemptStarted(run_id=run, start_step=2), 0))
    places.append(history(client, run)["live"])
    with listen(servers, run) as answer:
        stream = Stream(answer)
        next(stream.events)
        # Out of a's spool, late: step 2 joins what counts, step 4 was cut off before it came.
        send(client, point("a", 2, 2, 2), point("a", 4, 4, 3), point("b", 3, 30, 1))
        stream.until(2, 30)
        send(
            client,
            of("b", RunRewound(run_id=run, step=2), 2),
            point("b", 3, 31, 3),
            point("a", 3, 3, 4),
            point("b", 4, 41, 4),
        )
        stream.until(31, 41)
    for place, expected in zip(places, ([1, 5, 2, 30, 31, 41], [2, 30, 31, 41]), strict=True):
        with listen(servers, run, since=place) as answer:
            Stream(answer).until(*expected)
    assert [point[6] for point in points_of(history(client, run))] == [1, 2, 31, 41]


def test_a_silent_stream_beats_and_says_how_far_it_is(
    servers: ServerPair, client: httpx2.Client, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT", 0.05)
    with listen(servers, run) as answer:
        own = Stream(answer)
        opened = next(own.events)
        send(client, metrics(run, 1, "other"))
        beats = (event for event in own.events if event.kind == "heartbeat")
        assert next(beat for beat in beats if beat.id != opened.id).data == {}


def test_a_client_that_takes_nothing_is_told_so_and_loses_nothing(
    servers: ServerPair, client: httpx2.Client, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send_queue, "MAX_PENDING_BYTES", 100_000)
    ended, finish = threading.Event(), send_queue.SendQueue.finish

    def finished(own: send_queue.SendQueue[Any, Any], end: send_queue.End, reason: str) -> None:
        finish(own, end, reason)
        ended.set()

    monkeypatch.setattr(send_queue.SendQueue, "finish", finished)
    rows, count = 5_000, 0
    start = history(client, run)["live"]
    host, _, port = servers.uris[0].removeprefix("http://").partition(":")
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((host, int(port)))
        deaf.sendall(f"GET {API}series:live?run_id={run}&key=m HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        deaf.settimeout(30)
        assert b"200" in deaf.recv(100)
        # One after the other, however they come together in the log's readers: a stream that has too much is ended by
        # what comes then.
        while not ended.wait(0.05) or count < 20:
            steps = array("q", range(count * rows, (count + 1) * rows))
            frame = Frame(("m",), steps, steps, array("d", map(float, steps)))
            send(client, outgoing(Topic.METRICS, MetricsLogged(run, (frame,)), writer=run, sequence=count))
            count += 1
            assert count < 1_000
        received = b""
        while b"event: end" not in received or not received.endswith(b"0\r\n\r\n"):
            part = deaf.recv(1 << 20)
            assert part
            received += part
    heard = list(events_of(_dechunked(received[received.index(b"\r\n\r\n") + 4 :]).decode().split("\n")))
    assert heard[-1].kind == "end"
    assert heard[-1].data["reason"] == "slow"
    told = [point[4] for event in heard if event.kind == "points" for point in points_of(event.data)]
    assert len(told) < rows * count
    with listen(servers, run, since=start, last=heard[-1].id) as answer:
        for event in Stream(answer).events:
            if event.kind == "points":
                told += [point[4] for point in points_of(event.data)]
            if len(told) >= rows * count:
                break
    assert told == list(range(rows * count))


def _dechunked(data: bytes) -> bytes:
    parts = []
    while data:
        size, _, data = data.partition(b"\r\n")
        parts.append(data[: int(size, 16)])
        data = data[int(size, 16) + 2 :]
    return b"".join(parts)


def test_a_place_that_the_log_does_not_hold_ends_the_stream_with_the_advice_to_read_anew(
    servers: ServerPair, client: httpx2.Client, run: str
) -> None:
    place = history(client, run)["live"]
    beyond = place.rpartition("-")[0] + "-1000000"
    with listen(servers, run, since=beyond) as answer:
        kinds = [(event.kind, event.data.get("reason")) for event in Stream(answer).events]
    assert kinds == [("open", None), ("end", "gone")]


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ({"key": []}, 400, "'key'"),
        ({"run_id": "nobody"}, 404, "Run with id=nobody not found"),
        ({"run_id": "nul\x00"}, 400, "NUL"),
        ({"since": "no token"}, 400, "'since' is the `live` of an answer"),
        ({"since": "another-log.0-1"}, 400, "of another log"),
        ({"rank": -2}, 400, "rank"),
    ],
)
def test_what_can_not_be_listened_to_is_refused(
    client: httpx2.Client, run: str, query: dict[str, Any], status: int, said: str
) -> None:
    answer = client.get(f"{API}series:live", params={"run_id": run, "key": "m", **query})
    assert answer.status_code == status
    assert said in answer.json()["message"]


def test_a_place_of_an_answer_about_other_runs_is_refused(client: httpx2.Client, run: str) -> None:
    log = history(client, run)["live"].partition(".")[0]
    answer = client.get(f"{API}series:live", params={"run_id": run, "key": "m", "since": log})
    assert answer.status_code == 400
    assert "about other runs" in answer.json()["message"]
