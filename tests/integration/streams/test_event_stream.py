"""events:stream over real Kafka and Postgres: everything that the log holds, from any place in it on, and nothing
twice.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx2
import pytest
from aiokafka import AIOKafkaProducer

from runfold_log.producer import RecordSender
from runfold_log.reader import LogReader
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.events.frames import Point, from_points
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.events.runs import ParamsLogged, TagsSet
from runfold_schemas.ids import Ids
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import Topic, full_name, partition_count, partition_of
from runfold_schemas.positions.vector import parse_vector, write_vector
from runfold_server.native.log import event_stream
from runfold_server.streams import send_queue
from tests.support.api import appending
from tests.support.api.appending import run_created
from tests.support.api.sse import Event, events_of
from tests.support.installations.in_process import break_headers, outgoing
from tests.support.installations.server_pair import PARTITIONS, ServerPair

API = "/api/runfold/v1/"
_numbers = iter(range(10**6))
_ids = Ids()
CLOUD_EVENT = {"specversion", "id", "type", "source"}

send = partial(appending.send, wait="outcome")


def tag(run_id: str, value: str) -> Outgoing:
    return outgoing(Topic.RUNS, TagsSet(run_id=run_id, tags={"t": value}), writer=f"w{next(_numbers)}")


def param(run_id: str, value: str) -> Outgoing:
    return outgoing(Topic.RUNS, ParamsLogged(run_id=run_id, params={"p": value}), writer=f"w{next(_numbers)}")


def metric(run_id: str, value: float) -> Outgoing:
    event = MetricsLogged(run_id, from_points([Point("m", value, int(value), 1)]))
    return outgoing(Topic.METRICS, event, writer=f"w{next(_numbers)}")


@pytest.fixture
def run(client: httpx2.Client) -> str:
    run_id = f"streamed-{next(_numbers)}"
    send(client, run_created(run_id))
    return run_id


def log_of(servers: ServerPair) -> dict[Partition, list[tuple[int, str]]]:
    """Offset and event id of every record, as Kafka has them."""

    async def read() -> dict[Partition, list[tuple[int, str]]]:
        found = {}
        async with LogReader(servers.kafka, servers.namespace) as reader:
            for topic in Topic:
                for number in range(partition_count(topic, PARTITIONS)):
                    where = Partition(topic, number)
                    raws = [raw async for raw in reader.read_range(where)]
                    found[where] = [(raw.position.offset, dict(raw.headers)["ce_id"].decode()) for raw in raws]
        return found

    return asyncio.run(read())


@contextmanager
def listen(
    servers: ServerPair, *, server: int = 0, last: str = "", begin: str = "", **query: Any
) -> Iterator[Iterator[Event]]:
    """A stream for as long as the block lasts."""
    headers = {"last-event-id": last} if last else {}
    params = ({"from": begin} if begin else {}) | query
    with (
        httpx2.Client(base_url=servers.uris[server], timeout=30) as client,
        client.stream("GET", f"{API}events:stream", params=params, headers=headers) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events_of(answer.iter_lines())


def told(stream: Iterator[Event], count: int) -> list[Event]:
    """The next so many events of the log."""
    found = []
    for event in stream:
        if event.kind == "end":
            raise AssertionError(event)
        if event.kind not in ("open", "heartbeat"):
            found.append(event)
            if len(found) == count:
                break
    return found


def places(events: list[Event]) -> dict[Partition, list[tuple[int, str]]]:
    found: dict[Partition, list[tuple[int, str]]] = {}
    for event in events:
        position = Position.parse(event.data["position"])
        found.setdefault(position.where, []).append((position.offset, event.data["id"]))
    return found


def size(log: dict[Partition, list[tuple[int, str]]]) -> int:
    return sum(map(len, log.values()))


def test_from_the_beginning_every_record_is_told_once_and_in_order(
    servers: ServerPair, client: httpx2.Client, run: str
) -> None:
    send(client, tag(run, "1"), metric(run, 1), param(run, "1"))
    log = log_of(servers)
    with listen(servers, begin="beginning") as stream:
        events = told(stream, size(log))
        assert places(events) == log
        send(client, tag(run, "2"))
        (last,) = told(stream, 1)
    assert last.data["data"] == {"run_id": run, "tags": {"t": "2"}}
    for event in events:
        assert set(event.data) >= CLOUD_EVENT | {"position", "brokertime", "data"}
        assert event.kind == event.data["type"]
        assert all(name.isalnum() and name.islower() for name in event.data)
    assert events[0].data["type"] == "runfold.log.Genesis"


def test_a_stream_goes_on_behind_any_event_wherever_it_broke_off(
    servers: ServerPair, client: httpx2.Client, run: str
) -> None:
    for n in range(10):
        send(client, tag(run, str(n)), metric(run, n), wait="append")
    log = log_of(servers)
    chance = random.Random(7)
    events: list[Event] = []
    last, server = "", 0
    while size(places(events)) < size(log):
        with listen(servers, server=server, last=last, begin="beginning") as stream:
            events += told(stream, min(chance.randrange(1, 20), size(log) - len(events)))
        last, server = events[-1].id, 1 - server
    assert places(events) == log
    # The id is a vector that says of each partition how far the client was told.
    log_id, _, vector = last.partition("@")
    assert parse_vector(vector) == {where: len(own) for where, own in log.items()}
    with listen(servers, begin=write_vector(parse_vector(vector))) as stream:
        send(client, tag(run, "last"))
        assert told(stream, 1)[0].data["data"]["tags"] == {"t": "last"}
    assert log_id == client.get(f"{API}positions").json()["log_id"]


def test_without_a_place_it_begins_now(servers: ServerPair, client: httpx2.Client, run: str) -> None:
    with listen(servers) as stream:
        assert next(stream).kind == "open"
        send(client, tag(run, "now"))
        assert told(stream, 1)[0].data["data"]["tags"] == {"t": "now"}


def test_a_time_is_the_brokers(servers: ServerPair, client: httpx2.Client, run: str) -> None:
    with listen(servers, topic="runs", entity=run, begin="beginning") as stream:
        (first,) = told(stream, 1)
    time.sleep(0.05)
    send(client, tag(run, "later"))
    with listen(servers, topic="runs", entity=run, begin="beginning") as stream:
        _, second = told(stream, 2)
    for moment in (second.data["brokertime"], second.data["brokertime"].replace("Z", "+00:00")):
        with listen(servers, entity=run, begin=moment) as stream:
            assert told(stream, 1)[0].data["id"] == second.data["id"]
    with listen(servers, entity=run, begin=first.data["brokertime"]) as stream:
        assert [event.data["id"] for event in told(stream, 2)] == [first.data["id"], second.data["id"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"topic": "metrics"}, ["MetricsLogged"]),
        ({"topic": ["metrics", "runs"]}, ["RunCreated", "TagsSet", "ParamsLogged", "MetricsLogged"]),
        ({"type": "TagsSet"}, ["TagsSet"]),
        ({"type": "runfold.runs.*", "topic": "runs"}, ["RunCreated", "TagsSet", "ParamsLogged"]),
        ({"type": ["*Logged", "nothing"]}, ["ParamsLogged", "MetricsLogged"]),
        ({"experiment_id": "0"}, ["RunCreated"]),
        ({"actor": "anonymous", "workspace": "default", "type": "TagsSet"}, ["TagsSet"]),
        ({"actor": "somebody"}, []),
        ({"workspace": "other"}, []),
    ],
)
def test_filters(
    servers: ServerPair, client: httpx2.Client, run: str, query: dict[str, Any], expected: list[str]
) -> None:
    send(client, tag(run, "1"), param(run, "1"), metric(run, 1))
    with listen(servers, entity=run, begin="beginning") as stream:
        everything = told(stream, 4)
    assert {event.data["type"].rpartition(".")[2] for event in everything} == {
        "RunCreated",
        "TagsSet",
        "ParamsLogged",
        "MetricsLogged",
    }
    last = write_vector({where: len(own) for where, own in log_of(servers).items()})
    # Behind all that is there: one more that every filter takes would hide what it took before it.
    with listen(servers, **({"entity": run, "begin": "beginning"} | query)) as stream:
        events = told(stream, len(expected)) if expected else []
        assert sorted(event.kind.rpartition(".")[2] for event in events) == sorted(expected)
    assert last


def test_a_models_promotions_and_what_gave_it_its_name_are_about_it(servers: ServerPair, client: httpx2.Client) -> None:
    mlflow, name, other = "/api/2.0/mlflow/", f"streamed-{next(_numbers)}", f"other-{next(_numbers)}"
    for one in ("before", other):
        assert client.post(f"{mlflow}registered-models/create", json={"name": one}).status_code == 200
        client.post(f"{mlflow}model-versions/create", json={"name": one, "source": "s3://b/m"})
    client.post(f"{mlflow}registered-models/rename", json={"name": "before", "new_name": name})
    moves = [{"name": one, "alias": "prod", "version": 1} for one in (other, name)]
    assert client.post(f"{API}models:promote", json={"moves": moves}).status_code == 200
    client.post(f"{API}models:promote", json={"moves": moves[:1], "conditions": [{"name": name}]})
    client.request("DELETE", f"{mlflow}registered-models/delete", json={"name": name})
    with listen(servers, entity=name, begin="beginning") as stream:
        kinds = [event.kind.rpartition(".")[2] for event in told(stream, 3)]
    assert kinds == ["RegisteredModelRenamed", "ModelsPromoted", "RegisteredModelDeleted"]


def test_outcomes_are_told_behind_the_fold(servers: ServerPair, client: httpx2.Client, run: str) -> None:
    first, refused = param(run, "1"), param(run, "2")
    once = metric(run, 3)
    send(client, first, refused, once, once, metric(run, 4))
    broken = Outgoing(Topic.RUNS, run.encode(), b"no event at all", [])
    asyncio.run(_append(servers, broken))
    send(client, tag(run, "last"))
    with listen(servers, entity=run, outcome="true", begin="beginning") as stream:
        events = told(stream, 7)
    runs = [(e.data.get("outcome"), e.data.get("outcomecode")) for e in events if e.data["position"].startswith("runs")]
    assert runs == [
        ("accepted", None),
        ("accepted", None),
        ("rejected", "param_changed"),
        ("set_aside", "set_aside"),
        ("accepted", None),
    ]
    metrics = [e.data["data"]["frames"][0]["values"] for e in events if e.data["position"].startswith("metrics")]
    assert metrics == [[3.0], [4.0]]
    unreadable = next(e for e in events if e.kind == "unreadable")
    assert unreadable.data["data"]["reason"] == "framing"
    with listen(servers, topic="system", outcome="true", begin="beginning") as stream:
        assert "outcome" not in told(stream, 1)[0].data


async def _append(servers: ServerPair, record: Outgoing) -> None:
    where = Partition(record.topic, partition_of(record.key, PARTITIONS))
    async with RecordSender(servers.kafka, servers.namespace) as sender:
        await sender.send(where, record)


def test_what_aiokafka_can_not_hand_out_hides_nothing(servers: ServerPair, client: httpx2.Client, run: str) -> None:
    others = [f"{run}-{n}" for n in range(6)]
    with listen(servers, entity=[run, *others]) as stream:
        assert next(stream).kind == "open"
        # It raises, and drops what it had read of other partitions with it.
        asyncio.run(_append_broken_header(servers, run))
        send(client, *(metric(other, 1) for other in others), tag(run, "behind"), wait="append")
        events = told(stream, 7)
    assert sorted(event.kind.rpartition(".")[2] for event in events) == ["MetricsLogged"] * 6 + ["TagsSet"]
    with listen(servers, topic="runs", begin="beginning") as stream:
        unreadable = next(event for event in stream if event.kind == "unreadable" and "UTF-8" in str(event.data))
    assert unreadable.data["data"]["reason"] == "envelope"


async def _append_broken_header(servers: ServerPair, run: str) -> None:
    async with AIOKafkaProducer(**servers.kafka.options()) as producer:
        batch = producer.create_batch()
        batch.append(timestamp=None, key=run.encode(), value=b"garbage", headers=[("LATIN1", b"")])
        break_headers(batch)
        partition = partition_of(run.encode(), PARTITIONS)
        await (await producer.send_batch(batch, full_name(servers.namespace, Topic.RUNS), partition=partition))


def test_without_points_only_their_outline_is_told(servers: ServerPair, client: httpx2.Client, run: str) -> None:
    points = [Point(key, step, step, 1) for step in (3, 4, 9) for key in ("a", "b")]
    record = outgoing(Topic.METRICS, MetricsLogged(run, from_points(points)), writer=run)
    send(client, record)
    with listen(servers, entity=run, topic="metrics", points="false", begin="beginning") as stream:
        (outline,) = told(stream, 1)
    assert outline.data["data"] == {
        "run_id": run,
        "frames": [{"keys": ["a", "b"], "rows": 3, "first_step": 3, "last_step": 9}],
    }
    with listen(servers, entity=run, topic="metrics", begin="beginning") as stream:
        (whole,) = told(stream, 1)
    assert whole.data["data"]["frames"][0]["values"] == [3, 3, 4, 4, 9, 9]


def test_streams_far_behind_and_up_to_date_are_told_the_same(
    servers: ServerPair, client: httpx2.Client, run: str
) -> None:
    with listen(servers, entity=run) as live:
        next(live)
        for n in range(20):
            send(client, tag(run, str(n)), wait="append")
        first = told(live, 20)
        with listen(servers, entity=run, begin="beginning") as late:
            assert [event.data for event in told(late, 21)][1:] == [event.data for event in first]
            send(client, tag(run, "20"))
            assert told(late, 1)[0].data == told(live, 1)[0].data


def test_a_silent_stream_beats_and_says_how_far_it_is(
    servers: ServerPair, client: httpx2.Client, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT", 0.05)
    with listen(servers, actor="nobody") as stream:
        opened = next(stream)
        send(client, tag(run, "1"))
        beats = (event for event in stream if event.kind == "heartbeat")
        assert next(beat for beat in beats if beat.id != opened.id).data == {}


def test_a_client_that_takes_nothing_is_told_so_and_loses_nothing(
    servers: ServerPair, client: httpx2.Client, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send_queue, "MAX_PENDING_BYTES", 200_000)
    count = 80
    host, _, port = servers.uris[0].removeprefix("http://").partition(":")
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((host, int(port)))
        deaf.sendall(f"GET {API}events:stream?entity={run} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        deaf.settimeout(30)
        received = deaf.recv(4096)
        while b"event: open" not in received:
            received += deaf.recv(4096)
        time.sleep(0.3)
        for n in range(count):
            points = [Point("m", step, step, n) for step in range(10_000)]
            record = outgoing(Topic.METRICS, MetricsLogged(run, from_points(points)), writer=run, sequence=n)
            send(client, record, wait="append")
        time.sleep(0.5)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        while b"event: end" not in received or not received.endswith(b"0\r\n\r\n"):
            part = deaf.recv(1 << 20)
            assert part
            received += part
    heard = list(events_of(_dechunked(received[received.index(b"\r\n\r\n") + 4 :]).decode().split("\n")))
    assert heard[-1].data["reason"] == "slow"
    events = [event for event in heard if event.kind == MetricsLogged.subject]
    assert len(events) < count
    with listen(servers, entity=run, last=heard[-1].id) as stream:
        events += told(stream, count - len(events))
    assert [event.data["sequence"] for event in events] == [str(n) for n in range(count)]


def _dechunked(data: bytes) -> bytes:
    parts = []
    while data:
        length, _, data = data.partition(b"\r\n")
        parts.append(data[: int(length, 16)])
        data = data[int(length, 16) + 2 :]
    return b"".join(parts)


def test_a_place_that_the_log_does_not_hold_ends_the_stream(servers: ServerPair) -> None:
    with listen(servers, topic="experiments", begin="experiments:0:1000000") as stream:
        assert [(event.kind, event.data.get("reason")) for event in stream] == [("open", None), ("end", "gone")]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"from": "yesterday"}, "'from'"),
        ({"from": "2026-03-01T12:00:00"}, "'from'"),
        ({"from": "another-log@runs:0:1"}, "another log"),
        ({"from": "runs:99:1"}, "runs:99:1"),
        ({"from": "runs:0"}, "position"),
        ({"topic": "nothing"}, "'topic'"),
        ({"experiment_id": "x"}, "'experiment_id'"),
        ({"outcome": "maybe"}, "outcome"),
        ({"type": "x" * 201}, "'type'"),
    ],
)
def test_what_can_not_be_told_is_refused(client: httpx2.Client, query: dict[str, Any], said: str) -> None:
    answer = client.get(f"{API}events:stream", params=query)
    assert answer.status_code == 400
    assert said in answer.json()["message"]


def test_events_as_large_as_they_may_be_are_streamed_and_so_is_what_follows(
    servers: ServerPair, client: httpx2.Client, run: str
) -> None:
    values = [str(n) * (8 * 1024 * 1024) for n in range(3)]
    with listen(servers, topic="runs", entity=run) as stream:
        assert next(stream).kind == "open"
        for value in values:
            send(client, tag(run, value))
            assert [event.data["data"]["tags"]["t"] == value for event in told(stream, 1)] == [True]
    with listen(servers, topic="runs", entity=run, begin="beginning") as stream:
        assert [len(event.data["data"].get("tags", {}).get("t", "")) for event in told(stream, 4)] == [0] + [2**23] * 3
