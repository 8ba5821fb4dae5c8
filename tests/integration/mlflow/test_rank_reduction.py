"""Runs of several ranks in MLflow's API with the tag `runfold.rankReduction`, with two servers and one worker."""

from __future__ import annotations

import base64
import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from runfold_schemas.codec.batch import CONTENT_TYPE, encode_batch
from runfold_schemas.events.frames import Point, from_points
from runfold_schemas.events.metrics import MetricsLogged, RunForked, RunRewound
from runfold_schemas.events.rank_reduction import REDUCTION_TAG, Reduction
from runfold_schemas.events.runs import TagsSet
from runfold_schemas.positions.topics import Topic
from tests.support.installations.in_process import outgoing
from tests.support.installations.server_pair import ServerPair
from tests.support.mlflow.caller import Caller

Logged = tuple[int, int, float]
"""Step, time and value."""
Ranks = dict[int | None, list[Logged]]
NAMES = "It is one of mean, min, max, median, sum, first, all."
_writers = itertools.count()

MODELS: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": statistics.fmean,
    "min": min,
    "max": max,
    "median": statistics.median,
    "sum": math.fsum,
    "first": lambda values: values[0],
}
RANKS: Ranks = {
    0: [(0, 100, 4.0), (1, 110, 3.0), (2, 120, 2.0), (2, 121, 2.5)],
    1: [(0, 105, 8.0), (1, 108, 5.0), (3, 130, 7.0)],
    2: [(0, 103, 1.0), (2, 119, 9.0), (3, 131, 0.5)],
}


def naive(ranks: Ranks, reduction: str) -> list[Logged]:
    last: dict[int, dict[int | None, Logged]] = {}
    for rank, points in ranks.items():
        for point in sorted(points):
            last.setdefault(point[0], {})[rank] = point
    found = []
    for step, own in sorted(last.items()):
        points = [own[rank] for rank in sorted(own, key=lambda rank: -1 if rank is None else rank)]
        time = points[0][1] if reduction == "first" else max(time for _, time, _ in points)
        found.append((step, time, MODELS[reduction]([value for _, _, value in points])))
    return found


def zigzag(ranks: Ranks) -> list[Logged]:
    """As MLflow shows it: every point, by time, step and value."""
    every = {point for points in ranks.values() for point in points}
    return sorted(every, key=lambda point: (point[1], point[0], point[2]))


def log(client: httpx2.Client, run_id: str, ranks: Ranks, key: str = "loss") -> None:
    records = [
        outgoing(
            Topic.METRICS,
            MetricsLogged(run_id, from_points([Point(key, value, step, time) for step, time, value in points])),
            writer=f"writer {next(_writers)}",
            rank=rank,
        )
        for rank, points in ranks.items()
    ]
    append(client, records)


def append(client: httpx2.Client, records: list[Any]) -> None:
    answer = client.post(
        "/api/runfold/v1/events", content=encode_batch(records), headers={"content-type": CONTENT_TYPE}
    )
    assert answer.status_code == 200, answer.text


def points_of(metrics: Sequence[Metric]) -> list[Logged]:
    return [(metric.step, metric.timestamp, metric.value) for metric in metrics]


def rows(answer: list[dict[str, Any]]) -> list[Logged]:
    return [(one["step"], one["timestamp"], one["value"]) for one in answer]


@pytest.fixture
def mlflow(servers: ServerPair) -> MlflowClient:
    """The unmodified client."""
    return MlflowClient(servers.uris[0])


def test_a_tag_shows_one_point_a_step_in_every_history(
    client: httpx2.Client, call: Caller, mlflow: MlflowClient
) -> None:
    run_id, other = call.run(), call.run()
    log(client, run_id, RANKS)
    log(client, other, RANKS)
    assert points_of(mlflow.get_metric_history(run_id, "loss")) == zigzag(RANKS)
    for reduction in MODELS:
        mlflow.set_tag(run_id, REDUCTION_TAG, reduction)
        expected = naive(RANKS, reduction)
        assert points_of(mlflow.get_metric_history(run_id, "loss")) == expected, reduction
        bulk = call.get("metrics/get-history-bulk", run_id=[run_id, other], metric_key="loss")["metrics"]
        assert rows([one for one in bulk if one["run_id"] == run_id]) == expected
        assert rows([one for one in bulk if one["run_id"] == other]) == zigzag(RANKS), "the other run has no such tag"
        spread = call.get("metrics/get-history-bulk-interval", run_ids=[run_id], metric_key="loss")["metrics"]
        assert rows(spread) == expected
        some = call.get(
            "metrics/get-history-bulk-interval", run_ids=[run_id], metric_key="loss", start_step=1, end_step=2
        )
        assert rows(some["metrics"]) == expected[1:3]
    # The latest value stays what it is: that of the point with the largest step, then time and value.
    assert mlflow.get_run(run_id).data.metrics["loss"] == 0.5
    mlflow.set_tag(run_id, REDUCTION_TAG, "all")
    assert points_of(mlflow.get_metric_history(run_id, "loss")) == zigzag(RANKS)
    mlflow.set_tag(run_id, REDUCTION_TAG, "max")
    mlflow.delete_tag(run_id, REDUCTION_TAG)
    assert points_of(mlflow.get_metric_history(run_id, "loss")) == zigzag(RANKS)


def test_an_experiment_says_it_for_its_runs_unless_they_say_otherwise(
    client: httpx2.Client, call: Caller, mlflow: MlflowClient
) -> None:
    experiment = call.experiment()
    run_id = call.run(experiment_id=experiment)
    log(client, run_id, RANKS)

    def history() -> list[Logged]:
        found = rows(call.get("metrics/get-history", run_id=run_id, metric_key="loss")["metrics"])
        for path, name in (("metrics/get-history-bulk", "run_id"), ("metrics/get-history-bulk-interval", "run_ids")):
            bulk = rows(call.get(path, metric_key="loss", **{name: run_id})["metrics"])
            assert sorted(bulk) == sorted(found)
        return found

    for reduction in ("mean", "sum"):
        # At once, though it is another topic's fold that tells of it.
        mlflow.set_experiment_tag(experiment, REDUCTION_TAG, reduction)
        assert history() == naive(RANKS, reduction)
    mlflow.set_tag(run_id, REDUCTION_TAG, "min")
    assert history() == naive(RANKS, "min")
    mlflow.set_tag(run_id, REDUCTION_TAG, "all")
    assert history() == zigzag(RANKS)
    mlflow.delete_tag(run_id, REDUCTION_TAG)
    assert history() == naive(RANKS, "sum")

    made = str(mlflow.create_experiment("reduced", tags={REDUCTION_TAG: "median"}))
    run_id = call.run(experiment_id=made)
    log(client, run_id, RANKS)
    assert history() == naive(RANKS, "median")


def test_a_writer_without_a_rank_is_the_lowest_one(client: httpx2.Client, call: Caller) -> None:
    """The MLflow client's points are such."""
    run_id = call.run(tags=[{"key": REDUCTION_TAG, "value": "first"}])
    call.post("runs/log-metric", run_id=run_id, key="loss", value=50.0, timestamp=107, step=1)
    log(client, run_id, RANKS)
    ranks: Ranks = {**RANKS, None: [(1, 107, 50.0)]}
    assert rows(call.get("metrics/get-history", run_id=run_id, metric_key="loss")["metrics"]) == naive(ranks, "first")
    call.post("runs/set-tag", run_id=run_id, key=REDUCTION_TAG, value="mean")
    assert rows(call.get("metrics/get-history", run_id=run_id, metric_key="loss")["metrics"]) == naive(ranks, "mean")


def test_values_that_are_no_numbers_count_only_where_no_rank_has_another(client: httpx2.Client, call: Caller) -> None:
    run_id = call.run()
    log(client, run_id, {0: [(0, 1, math.nan), (1, 1, math.nan), (2, 1, math.inf)], 1: [(0, 2, 3.0), (1, 2, math.inf)]})
    call.post("runs/set-tag", run_id=run_id, key=REDUCTION_TAG, value="mean")
    found = call.get("metrics/get-history", run_id=run_id, metric_key="loss")["metrics"]
    assert rows(found) == [(0, 2, 3.0), (1, 2, "NaN"), (2, 1, 1.7976931348623157e308)]


def test_a_rewind_of_a_rank_takes_its_points_out_of_the_reduction(servers: ServerPair, call: Caller) -> None:
    """What is reduced are the effective points, of a forked run with those it inherited."""
    parent, child = call.run(), call.run(tags=[{"key": REDUCTION_TAG, "value": "sum"}])
    with servers.client() as client:
        log(client, parent, {0: [(0, 1, 1.0), (1, 2, 1.0), (2, 3, 1.0)], 1: [(0, 1, 10.0), (1, 2, 10.0), (2, 3, 10.0)]})
        rewind = outgoing(Topic.METRICS, RunRewound(run_id=parent, step=1, all_ranks=False), writer="r1", rank=1)
        append(client, [rewind])
        fork = RunForked(run_id=child, parent_run_id=parent, parent_branch=1, step=1)
        append(client, [outgoing(Topic.METRICS, fork, writer="forks")])
        log(client, child, {1: [(2, 9, 100.0)]})
    call.post("runs/set-tag", run_id=parent, key=REDUCTION_TAG, value="sum")
    assert rows(call.get("metrics/get-history", run_id=parent, metric_key="loss")["metrics"]) == [
        (0, 1, 11.0),
        (1, 2, 11.0),
        (2, 3, 1.0),
    ]
    assert rows(call.get("metrics/get-history", run_id=child, metric_key="loss")["metrics"]) == [
        (0, 1, 11.0),
        (1, 2, 11.0),
        (2, 9, 100.0),
    ]


def joined(found: list[list[Logged]]) -> list[Logged]:
    return [point for page in found for point in page]


def pages(call: Caller, run_id: str, size: int, between: Callable[[int], object]) -> list[list[Logged]]:
    """All pages of the history; after each, something happens."""
    found: list[list[Logged]] = []
    query: dict[str, Any] = {}
    while True:
        answer = call.get("metrics/get-history", run_id=run_id, metric_key="loss", max_results=size, **query)
        found.append(rows(answer.get("metrics", [])))
        if "next_page_token" not in answer:
            return found
        query["page_token"] = answer["next_page_token"]
        between(len(found))


@pytest.mark.parametrize("reduction", [*MODELS, "all"])
@pytest.mark.parametrize("size", [1, 3, 20])
def test_pages_are_the_whole(client: httpx2.Client, call: Caller, reduction: str, size: int) -> None:
    ranks: Ranks = {rank: [(step, 1000 - step, float(step + rank)) for step in range(10)] for rank in range(3)}
    run_id = call.run(tags=[{"key": REDUCTION_TAG, "value": reduction}])
    log(client, run_id, ranks)
    whole = rows(call.get("metrics/get-history", run_id=run_id, metric_key="loss")["metrics"])
    assert whole == (zigzag(ranks) if reduction == "all" else naive(ranks, reduction))
    found = pages(call, run_id, size, lambda _: None)
    assert [len(page) for page in found[:-1]] == [size] * (len(found) - 1)
    assert joined(found) == whole


def test_pages_miss_no_step_and_repeat_none_while_ranks_log_and_the_tag_changes(
    client: httpx2.Client, call: Caller
) -> None:
    run_id = call.run(tags=[{"key": REDUCTION_TAG, "value": "max"}])
    log(client, run_id, {0: [(step, step, float(step)) for step in range(0, 20, 2)]})

    def between(page: int) -> None:
        # A rank that is late has other steps, before those that were read and after.
        log(client, run_id, {page: [(1, 900 + page, 99.0), (17, 900 + page, 99.0), (4, 900 + page, 1.0)]})
        call.post("runs/set-tag", run_id=run_id, key=REDUCTION_TAG, value=("all", "sum")[page % 2])

    found = joined(pages(call, run_id, 3, between))
    assert [step for step, _, _ in found] == [0, 2, 4, 6, 8, 10, 12, 14, 16, 17, 18]
    assert [value for _, _, value in found] == [0, 2, 4, 6, 8, 10, 12, 14, 16, 99, 18]


def test_pages_that_began_with_all_points_go_on_so(client: httpx2.Client, call: Caller) -> None:
    run_id = call.run()
    log(client, run_id, RANKS)

    def between(_: int) -> None:
        call.post("runs/set-tag", run_id=run_id, key=REDUCTION_TAG, value="mean")

    assert joined(pages(call, run_id, 4, between)) == zigzag(RANKS)


def test_the_past_shows_the_reduction_of_then(client: httpx2.Client, call: Caller) -> None:
    experiment = call.experiment()
    run_id = call.run(experiment_id=experiment)
    log(client, run_id, RANKS)
    moments: list[tuple[str, list[Logged]]] = []

    def note(expected: list[Logged]) -> None:
        ends = client.get("/api/runfold/v1/positions").json()["partitions"]
        moments.append((",".join(f"{one['partition']}:{one['end']}" for one in ends), expected))

    note(zigzag(RANKS))
    call.post("experiments/set-experiment-tag", experiment_id=experiment, key=REDUCTION_TAG, value="sum")
    note(naive(RANKS, "sum"))
    call.post("runs/set-tag", run_id=run_id, key=REDUCTION_TAG, value="min")
    note(naive(RANKS, "min"))
    call.post("runs/delete-tag", run_id=run_id, key=REDUCTION_TAG)
    note(naive(RANKS, "sum"))
    for as_of, expected in moments:
        query = {"metric_key": "loss", "as_of": as_of}
        assert rows(call.get("metrics/get-history", run_id=run_id, **query)["metrics"]) == expected
        bulk = call.get("metrics/get-history-bulk", run_id=[run_id, "nobody"], **query)["metrics"]
        assert rows(bulk) == expected
        spread = call.get("metrics/get-history-bulk-interval", run_ids=[run_id], **query)["metrics"]
        assert sorted(rows(spread)) == sorted(expected)


@pytest.mark.parametrize("value", ["avg", "", "MEAN", "mean ", "none", "ü" * 3000])
def test_an_unknown_reduction_is_refused_wherever_a_tag_is_set(
    servers: ServerPair, call: Caller, mlflow: MlflowClient, value: str
) -> None:
    experiment = call.experiment()
    run_id = call.run(experiment_id=experiment)
    tag = {"key": REDUCTION_TAG, "value": value}
    before = servers.log_size()
    for path, body in (
        ("runs/set-tag", {"run_id": run_id, **tag}),
        ("runs/log-batch", {"run_id": run_id, "tags": [tag], "params": [{"key": "p", "value": "1"}]}),
        ("runs/create", {"experiment_id": experiment, "tags": [tag]}),
        ("experiments/set-experiment-tag", {"experiment_id": experiment, **tag}),
        ("experiments/create", {"name": f"refused {value[:10]!r}", "tags": [tag]}),
    ):
        refused = call.post(path, 400, **body)
        assert refused["error_code"] == "INVALID_PARAMETER_VALUE"
        assert f"for parameter '{REDUCTION_TAG}' supplied: {NAMES}" in refused["message"], path
    assert servers.log_size() == before, "nothing was appended"
    with pytest.raises(MlflowException, match="It is one of mean, min"):
        mlflow.set_tag(run_id, REDUCTION_TAG, value)
    with pytest.raises(MlflowException, match="It is one of mean, min"):
        mlflow.log_batch(run_id, params=[Param("p", "1")], tags=[RunTag(REDUCTION_TAG, value)])
    with pytest.raises(MlflowException, match="It is one of mean, min"):
        mlflow.set_experiment_tag(experiment, REDUCTION_TAG, value)


def test_the_refusal_names_every_reduction() -> None:
    assert f"It is one of {', '.join(Reduction)}." == NAMES


def test_an_unknown_reduction_that_came_past_the_api_hides_nothing(client: httpx2.Client, call: Caller) -> None:
    experiment = call.experiment()
    call.post("experiments/set-experiment-tag", experiment_id=experiment, key=REDUCTION_TAG, value="mean")
    run_id = call.run(experiment_id=experiment)
    log(client, run_id, RANKS)
    append(client, [outgoing(Topic.RUNS, TagsSet(run_id=run_id, tags={REDUCTION_TAG: "avg"}), writer="native")])
    assert rows(call.get("metrics/get-history", run_id=run_id, metric_key="loss")["metrics"]) == zigzag(RANKS)


@pytest.mark.parametrize(
    "token",
    [
        '{"after": 1}',
        '{"after": 1, "reduction": "all"}',
        '{"after": 1, "reduction": "avg"}',
        '{"after": 1, "reduction": ["mean"]}',
        '{"after": true, "reduction": "mean"}',
        '{"after": 1.5, "reduction": "mean"}',
        '{"after": 9223372036854775808, "reduction": "mean"}',
        '{"after": null, "reduction": "mean"}',
    ],
)
def test_a_token_that_no_page_gave_is_refused(call: Caller, token: str) -> None:
    run_id = call.run()
    query = {"run_id": run_id, "metric_key": "m", "page_token": base64.b64encode(token.encode()).decode()}
    assert "Invalid page token" in call.get("metrics/get-history", 400, **query)["message"]
