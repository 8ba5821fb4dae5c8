"""series:query over real Kafka and Postgres: what was acknowledged is drawn, in both forms alike."""

from __future__ import annotations

import json
import struct
from typing import Any

import httpx2
import numpy as np
import pytest

from runfold_schemas.codec.batch import CONTENT_TYPE, encode_batch
from runfold_schemas.events.frames import Point, from_points
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.positions.topics import Topic
from runfold_server.native.series.routes import MEDIA_TYPE
from tests.support.installations.in_process import outgoing

QUERY = "/api/runfold/v1/series:query"
API = "/api/2.0/mlflow/"


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
        ({"runs": "r", "metrics": []}, "Expected `object | array`"),
        ({"runs": [], "metrics": [], "px": 0}, "'px' is the chart's width, 1 to 4000"),
        ({"runs": [], "metrics": [], "x": "lunar"}, "'x' is one of step, wall, relative"),
        ({"runs": [], "metrics": [], "agg": "sum"}, "'agg' is one of minmax, band, last, mean"),
        ({"runs": [], "metrics": [], "range": [2, 1]}, "the smaller one first"),
        ({"runs": [str(n) for n in range(501)], "metrics": ["m"]}, "501 runs are asked for; at most 500"),
        ({"runs": [], "metrics": [], "consistency": "maybe"}, "'consistency' is one of strong, eventual"),
        ({"runs": [], "metrics": [], "surprise": 1}, "unknown field `surprise`"),
        ({"runs": [], "metrics": [], "px": None}, "'px' may be null for aggregates only"),
        ({"runs": [], "metrics": [], "ranks": "some"}, "'ranks' is one of merged, each, aggregate"),
        ({"runs": [], "metrics": [], "quantiles": [2]}, "'quantiles' is at most 20 numbers from 0 to 1"),
        ({"runs": [], "metrics": [], "clip": [1, 0]}, "'clip' is two quantiles"),
        ({"runs": [], "metrics": [], "smooth": {"kind": "tw_ema", "v": 2}}, "'smooth.v' is from 0 to 1"),
        ({"runs": [], "metrics": [], "smooth": {"kind": "magic"}}, "'smooth.kind' is one of off, tw_ema"),
        ({"runs": {"experiment_ids": ["0"], "limit": 501}, "metrics": []}, "'runs.limit' is a number from 1 to 500"),
        ({"runs": {"experiment_ids": ["0"], "filter": "loss <"}, "metrics": []}, "loss"),
        ({"runs": [], "metrics": {"regex": "("}}, "is no regular expression"),
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


def log_ranks(client: httpx2.Client, run: str, key: str, ranks: dict[int, list[tuple[int, float]]]) -> None:
    records = [
        outgoing(
            Topic.METRICS,
            MetricsLogged(run, from_points([Point(key, value, step, 1000 + step) for step, value in points])),
            writer=f"{run} {key} {rank}",
            rank=rank,
        )
        for rank, points in ranks.items()
    ]
    answer = client.post(
        "/api/runfold/v1/events", content=encode_batch(records), headers={"content-type": CONTENT_TYPE}
    )
    assert answer.status_code == 200, answer.text


def test_ranks_are_one_line_or_a_line_each_or_an_aggregate_and_one_can_be_looked_at(client: httpx2.Client) -> None:
    run = new_run(client, [])
    log_ranks(client, run, "loss", {0: [(0, 1.0), (1, 2.0)], 1: [(0, 3.0)], 2: [(0, 5.0), (1, 4.0)]})
    query: dict[str, object] = {"runs": [run], "metrics": ["loss"]}
    assert ask(client, **query)["series"][0]["raw_points"] == 5
    each = ask(client, **query, ranks="each")
    assert [one["rank"] for one in each["series"]] == [0, 1, 2]
    assert each["columns"] == [[[1, 2]], [[3, None]], [[5, 4]]]
    one = ask(client, **query, rank=2)
    assert one["columns"] == [[[5, 4]]]
    folded = ask(client, **query, ranks="aggregate", spread="all", quantiles=[0.5], px=None)
    assert folded["series"][0]["cols"] == ["mean", "sd", "se", "min", "max", "n", "q0.5"]
    assert (folded["series"][0]["members"], folded["series"][0]["raw_points"]) == (3, 5)
    mean, sd, _, low, high, count, median = folded["columns"][0]
    assert (mean, low, high, count, median) == ([3, 3], [1, 2], [5, 4], [3, 2], [3, 3])
    assert sd == pytest.approx([np.std([1, 3, 5]), 1])
    assert folded["y"] == {"min": 1, "max": 5}


def test_runs_are_grouped_by_params_and_tags_or_by_all_params_but_some(client: httpx2.Client) -> None:
    runs = []
    for n, (lr, seed) in enumerate([("0.1", "1"), ("0.1", "2"), ("0.2", "1"), (None, "1")]):
        run = new_run(client, [("loss", 0, float(n)), ("loss", 1, n + 10.0)])
        params = [{"key": "seed", "value": seed}] + ([{"key": "lr", "value": lr}] if lr else [])
        post(client, "runs/log-batch", {"run_id": run, "params": params, "tags": [{"key": "t", "value": "x"}]})
        runs.append(run)
    by = ask(client, runs=runs, metrics=["loss"], group_by=["lr", "tags.t"], spread="minmax")
    assert [one["group"] for one in by["series"]] == [
        {"params.lr": "0.1", "tags.t": "x"},
        {"params.lr": "0.2", "tags.t": "x"},
        {"params.lr": None, "tags.t": "x"},
    ]
    assert by["columns"][0] == [[0.5, 10.5], [0, 10], [1, 11], [2, 2]]
    assert (
        ask(client, runs=runs, metrics=["loss"], group_by={"except": ["seed"]}, spread="minmax")["columns"]
        == by["columns"]
    )
    all_of_them = ask(client, runs=runs, metrics=["loss"], group_by=[])
    assert [one["members"] for one in all_of_them["series"]] == [4]


def test_runs_and_keys_are_found_by_a_search_and_a_pattern(client: httpx2.Client) -> None:
    experiment = post(client, "experiments/create", {"name": "searched"})["experiment_id"]
    runs = []
    for n in range(3):
        created = post(client, "runs/create", {"experiment_id": experiment, "start_time": n})
        runs.append(created["run"]["info"]["run_id"])
        log_ranks(client, runs[-1], "val/loss", {0: [(0, float(n))]})
        log_ranks(client, runs[-1], "train/loss", {0: [(0, float(n))]})
    found = ask(
        client,
        runs={"experiment_ids": [experiment], "filter": "metrics.`val/loss` > 0"},
        metrics={"regex": "^val/"},
    )
    assert [(one["run_id"], one["metric"]) for one in found["series"]] == [
        (runs[2], "val/loss"),
        (runs[1], "val/loss"),
    ]


def test_smoothing_is_a_column_beside_clip_limits_are_said_and_x_may_be_a_metric(client: httpx2.Client) -> None:
    run = new_run(client, [("loss", n, 100.0 if n == 5 else float(n)) for n in range(20)])
    log_ranks(client, run, "epoch", {0: [(0, 0.5), (10, 1.5)]})
    smooth = ask(client, runs=[run], metrics=["loss"], smooth={"kind": "mean", "v": 3}, clip=[0, 0.9])
    assert smooth["series"][0]["cols"] == ["y", "smooth"]
    raw, mean = smooth["columns"][0]
    assert raw[4:7] == [4, 100, 6]
    assert mean[5] == pytest.approx(110 / 3, rel=1e-6)
    assert smooth["y"] == {
        "min": 0,
        "max": 100,
        "clip": [0, pytest.approx(np.quantile([*range(5), 100, *range(6, 20)], 0.9))],
    }
    along = ask(client, runs=[run], metrics=["loss"], x="metric:epoch", px=2, agg="last")
    assert along["x"] == {"kind": "metric:epoch", "min": 0.5, "max": 1.5}
    assert along["columns"] == [[[9, 19]]]


def test_the_answer_says_where_it_ends(client: httpx2.Client) -> None:
    run = new_run(client, [("loss", 0, 1.0)])
    drawn = ask(client, runs=[run], metrics=["loss"])
    assert any(drawn["live"].endswith(f".{n}-{drawn['positions'][f'metrics:{n}']}") for n in range(3))
