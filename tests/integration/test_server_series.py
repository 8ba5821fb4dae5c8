"""series:query over real Kafka and Postgres: what was acknowledged is drawn, in both forms alike."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from server_world import World, world
from services import Services

from runfold_server.series import MEDIA_TYPE

QUERY = "/api/runfold/v1/series:query"
API = "/api/2.0/mlflow/"


@pytest.fixture(scope="module")
def here(services: Services) -> Iterator[World]:
    with world(services) as made:
        yield made


@pytest.fixture
def client(here: World) -> Iterator[httpx2.Client]:
    with here.client() as client:
        yield client


def post(client: httpx2.Client, path: str, body: object) -> Any:
    answer = client.post(API + path, json=body)
    answer.raise_for_status()
    return answer.json()


def new_run(client: httpx2.Client, points: list[tuple[str, int, float]], start_ms: int = 1000) -> str:
    run = post(client, "runs/create", {"experiment_id": "0", "start_time": start_ms})["run"]["info"]["run_id"]
    metrics = [{"key": k, "step": s, "timestamp": 1000 + 500 * s, "value": v} for k, s, v in points]
    for at in range(0, len(metrics), 1000):
        post(client, "runs/log-batch", {"run_id": run, "metrics": metrics[at : at + 1000]})
    return str(run)


def ask(client: httpx2.Client, **query: object) -> Any:
    answer = client.post(QUERY, json=query)
    answer.raise_for_status()
    return answer.json()


def test_few_points_of_several_runs_lie_on_one_grid_with_gaps(client: httpx2.Client) -> None:
    one = new_run(client, [("loss", 0, 1.0), ("loss", 2, 3.0), ("acc", 1, 0.5)])
    two = new_run(client, [("loss", 1, 7.0)])
    drawn = ask(client, runs=[one, two, "unknown"], metrics=["loss", "acc", "absent"])
    assert drawn["exact"]
    assert drawn["x_values"] == [0, 1, 2]
    assert [(s["run_id"], s["metric"], s["raw_points"], s["last"]) for s in drawn["series"]] == [
        (one, "loss", 2, [2, 3]),
        (one, "acc", 1, [1, 0.5]),
        (two, "loss", 1, [1, 7]),
    ]
    assert drawn["columns"] == [[[1, None, 3]], [[None, 0.5, None]], [[None, 7, None]]]
    assert (drawn["x"], drawn["y"]) == ({"kind": "step", "min": 0, "max": 2}, {"min": 0.5, "max": 7})
    relative = ask(client, runs=[one], metrics=["loss"], x="relative")
    assert relative["x_values"] == [0, 1]


def test_a_spike_among_many_points_is_in_its_bucket_and_both_forms_say_the_same(client: httpx2.Client) -> None:
    run = new_run(client, [("loss", n, 99.0 if n == 1234 else n / 10_000) for n in range(3000)])
    query = {"runs": [run], "metrics": ["loss"], "px": 50, "agg": "band", "range": [0, 3000]}
    drawn = ask(client, **query)
    low, high, last = drawn["columns"][0]
    assert (drawn["exact"], drawn["n"], drawn["series"][0]["raw_points"]) == (False, 50, 3000)
    assert [n for n, value in enumerate(high) if value == 99] == [1234 // 60]
    assert max(low) < 1
    assert last[-1] == pytest.approx(0.2999)

    answer = client.post(QUERY, json=query, headers={"accept": MEDIA_TYPE})
    assert answer.headers["content-type"] == MEDIA_TYPE
    (size,) = struct.unpack_from("<I", answer.content)
    head = json.loads(answer.content[4 : 4 + size])
    at = 4 + size
    assert at % 8 == 0
    x = np.frombuffer(answer.content, "<f8", head["n"], at)
    columns = np.frombuffer(answer.content, "<f4", -1, at + 8 * head["n"]).reshape(-1, head["n"])
    assert x.tolist() == drawn["x_values"]
    assert columns.tolist() == [low, high, last]
    assert head["series"] == drawn["series"]


def test_a_strong_answer_shows_what_was_just_acknowledged_and_says_its_positions(client: httpx2.Client) -> None:
    run = new_run(client, [])
    for n in range(20):
        body = {"run_id": run, "key": "m", "value": n, "timestamp": n, "step": n}
        post(client, "runs/log-metric", body)
        drawn = ask(client, runs=[run], metrics=["m"])
        assert drawn["series"][0]["last"] == [n, n]
        assert any(name.startswith("metrics:") for name in drawn["positions"])


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"runs": ["r"]}, "missing required field `metrics`"),
        ({"runs": "r", "metrics": []}, "Expected `array`"),
        ({"runs": [], "metrics": [], "px": 0}, "'px' is the chart's width, 1 to 4000"),
        ({"runs": [], "metrics": [], "x": "lunar"}, "'x' is one of step, wall, relative"),
        ({"runs": [], "metrics": [], "agg": "sum"}, "'agg' one of minmax, band, last, mean"),
        ({"runs": [], "metrics": [], "range": [2, 1]}, "the smaller one first"),
        ({"runs": [str(n) for n in range(501)], "metrics": ["m"]}, "501 runs are asked for; at most 500"),
        ({"runs": [], "metrics": [], "consistency": "maybe"}, "'consistency' is strong or eventual"),
        ({"runs": [], "metrics": [], "surprise": 1}, "unknown field `surprise`"),
    ],
)
def test_a_query_that_can_not_be_answered_says_why(client: httpx2.Client, query: object, said: str) -> None:
    answer = client.post(QUERY, json=query)
    assert answer.status_code == 400
    assert said in answer.json()["message"]


def test_nothing_asked_for_is_an_empty_chart(client: httpx2.Client) -> None:
    drawn = ask(client, runs=[], metrics=["m"])
    assert (drawn["n"], drawn["series"], drawn["columns"]) == (0, [], [])
    assert ask(client, runs=["nul\u0000"], metrics=["nul\u0000"], consistency="eventual")["series"] == []
