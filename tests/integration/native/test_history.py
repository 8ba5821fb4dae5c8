"""series:history over real Kafka and Postgres: every point once, per attempt and rank, as JSON and as Arrow alike."""

from __future__ import annotations

import asyncio
import random
from array import array
from typing import Any

import httpx2
import pyarrow as pa
import pytest

from runfold_log.producer import RecordSender
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.events.frames import Frame, Point, from_points
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.positions.topics import Topic
from runfold_server.native.series.arrow import MEDIA_TYPE
from tests.support.api.appending import create_runs, send
from tests.support.installations.in_process import outgoing
from tests.support.installations.server_pair import ServerPair

HISTORY = "/api/runfold/v1/series:history"
_writers = iter(range(10**6))
Points = list[tuple[str, str, str, int, int, int, float]]


def metrics(run_id: str, points: list[Point], *, attempt: str = "", rank: int | None = None) -> Outgoing:
    event = MetricsLogged(run_id, from_points(points))
    return outgoing(Topic.METRICS, event, writer=f"w{next(_writers)}", attempt=attempt, rank=rank)


def history(client: httpx2.Client, **query: object) -> Any:
    answer = client.post(HISTORY, json=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def table(client: httpx2.Client, **query: object) -> Any:
    answer = client.post(HISTORY, json=query, headers={"accept": MEDIA_TYPE})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    return pa.ipc.open_stream(answer.content).read_all()


def points_of(answer: Any) -> Points:
    return [
        (one["run_id"], one["metric"], one["attempt"], one["rank"], step, time, value)
        for one in answer["series"]
        for step, time, value in zip(one["steps"], one["times"], one["values"], strict=True)
    ]


def points_in(found: Any) -> Points:
    names = ("run_id", "key", "attempt", "rank", "step")
    times = found["time"].cast(pa.int64()).to_pylist()
    return list(zip(*(found[n].to_pylist() for n in names), times, found["value"].to_pylist(), strict=True))


def test_every_point_of_every_attempt_and_rank_is_there_once_in_both_forms(client: httpx2.Client) -> None:
    rng = random.Random(3)
    create_runs(client, "h1", "h2")
    expected = set()
    for n in range(60):
        run, attempt, rank = rng.choice(["h1", "h2"]), f"a{n // 20}", rng.choice([0, 1, 5])
        some = [
            Point(rng.choice(["loss", "acc"]), float(rng.randint(0, 3)), rng.randint(0, 30), rng.randint(0, 2))
            for _ in range(rng.randint(1, 9))
        ]
        # Sent again by another writer: the same point twice is one point.
        send(client, *[metrics(run, some, attempt=attempt, rank=rank)] * rng.choice([1, 2]))
        if n % 7 == 0:
            send(client, metrics(run, some, attempt=attempt, rank=rank))
        expected |= {(run, p.key, attempt, rank, p.step, p.time_ms, p.value) for p in some}
    query = {"runs": ["h2", "h1"], "metrics": ["loss", "acc", "absent"]}
    answer = history(client, **query)
    found = points_of(answer)
    assert set(found) == expected
    assert len(found) == len(expected)
    order = {"h2": 0, "h1": 1, "loss": 0, "acc": 1}
    assert found == sorted(found, key=lambda p: (order[p[0]], order[p[1]], *p[2:]))
    assert points_in(table(client, **query)) == found

    some = history(client, **query, steps=[5, 9], rank=1)
    assert points_of(some) == [p for p in found if 5 <= p[4] <= 9 and p[3] == 1]
    assert points_of(history(client, **query, steps=[None, 3], attempt="a1")) == [
        p for p in found if p[4] <= 3 and p[2] == "a1"
    ]
    assert points_of(history(client, **query, steps=[31, None])) == []


def test_the_answer_says_where_it_ends(client: httpx2.Client) -> None:
    create_runs(client, "ends")
    send(client, metrics("ends", [Point("m", 1.0, 1, 1)]))
    answer = history(client, runs=["ends"], metrics=["m"])
    assert any(answer["live"].endswith(f".{n}-{answer['positions'][f'metrics:{n}']}") for n in range(3))
    said = table(client, runs=["ends"], metrics=["m"]).schema.metadata
    assert said[b"runfold.live"].decode() == answer["live"]


async def test_a_million_points_come_as_one_stream(servers: ServerPair) -> None:
    run, rows = "million", 20_000
    with servers.client() as client:
        create_runs(client, run)
        async with RecordSender(servers.kafka, servers.namespace) as raw:
            info_partitions = 3
            for start in range(0, 1_000_000, rows):
                steps = array("q", range(start, start + rows))
                frame = Frame(("loss",), steps, steps, array("d", map(float, steps)))
                record = outgoing(Topic.METRICS, MetricsLogged(run, (frame,)), sequence=start // rows, writer="million")
                from runfold_schemas.positions.position import Partition
                from runfold_schemas.positions.topics import partition_of

                await raw.send(Partition(Topic.METRICS, partition_of(record.key, info_partitions)), record)
        found = await asyncio.to_thread(lambda: table(client, runs=[run], metrics=["loss"]))
    assert found["step"].to_pylist() == list(range(1_000_000))
    assert found["value"].to_pylist() == list(map(float, range(1_000_000)))


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ({"runs": ["h1"]}, 400, "missing required field `metrics`"),
        ({"runs": ["nobody"], "metrics": []}, 404, "Run with id=nobody not found"),
        ({"runs": ["nul\u0000"], "metrics": []}, 404, "not found"),
        ({"runs": [], "metrics": [], "steps": [2**63, None]}, 400, "64-bit"),
        ({"runs": [], "metrics": [], "steps": [1.5, None]}, 400, "Expected `int | null`"),
        ({"runs": [str(n) for n in range(501)], "metrics": []}, 400, "501 runs are asked for; at most 500"),
        ({"runs": [], "metrics": [], "consistency": "maybe"}, 400, "'consistency' is strong or eventual"),
    ],
)
def test_a_question_that_can_not_be_answered_says_why(
    client: httpx2.Client, query: object, status: int, said: str
) -> None:
    answer = client.post(HISTORY, json=query)
    assert answer.status_code == status
    assert said in answer.json()["message"]


def test_nothing_asked_for_is_an_empty_answer(client: httpx2.Client) -> None:
    assert history(client, runs=[], metrics=["m"], consistency="eventual")["series"] == []
