"""The native API over real Kafka and Postgres; the unmodified MLflow client; parts that go away and come back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runfold_schemas.codec import wire
from runfold_schemas.codec.batch import CONTENT_TYPE, Outgoing, encode_batch
from runfold_schemas.codec.envelope import Envelope, Writer
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.experiments import ExperimentCreated, ExperimentDeleted
from runfold_schemas.events.frames import Point, from_points
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.events.runs import ParamsLogged, RunCreated
from runfold_schemas.events.system import Genesis, SchemaDeclared
from runfold_schemas.ids import Ids
from runfold_schemas.positions.topics import Topic
from tests.support.installations.server_pair import PARTITIONS, ServerPair
from tests.support.installations.stopping import stop_process

API = "/api/2.0/mlflow/"
NATIVE = "/api/runfold/v1/"
IDS = Ids()


class Job:
    """A native writer: one process of a training job."""

    def __init__(self) -> None:
        self._writer = Writer(IDS.event_id(), "node", 0, "attempt-1")
        self._sequence = dict.fromkeys(Topic, -1)

    def record(self, topic: Topic, event: Event, key: str | None = None) -> Outgoing:
        self._sequence[topic] += 1
        envelope = Envelope(IDS.event_id(), event.subject, IDS.now_ms(), self._writer, self._sequence[topic])
        return Outgoing(topic, (key or event.entity or "default").encode(), wire.encode(event), envelope.headers())


def created(run_id: str) -> RunCreated:
    return RunCreated(run_id=run_id, experiment_id=0, name="n", start_ms=1, artifact_uri="mlflow-artifacts:/0/x")


def param(run_id: str, value: str) -> ParamsLogged:
    return ParamsLogged(run_id=run_id, params={"p": value})


def points(run_id: str, *values: float) -> MetricsLogged:
    return MetricsLogged(run_id, from_points(Point("m", value, n, n) for n, value in enumerate(values)))


def post(client: httpx2.Client, records: list[Outgoing], status: int = 200, wait: str = "outcome") -> Any:
    headers = {"Content-Type": CONTENT_TYPE}
    answer = client.post(NATIVE + "events", params={"wait": wait}, content=encode_batch(records), headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_events_and_their_outcomes(client: httpx2.Client) -> None:
    run_id, job = IDS.run_id(), Job()
    records = [
        job.record(Topic.RUNS, created(run_id)),
        job.record(Topic.RUNS, ParamsLogged(run_id=run_id, params={"a": "1"})),
        job.record(Topic.RUNS, ParamsLogged(run_id=run_id, params={"a": "2"})),
        job.record(Topic.METRICS, points(run_id, 1.0, 2.0)),
        job.record(Topic.EXPERIMENTS, ExperimentCreated(name="Default")),
    ]
    results = post(client, records)["results"]
    assert [r["outcome"] for r in results] == ["accepted", "accepted", "rejected", "accepted", "rejected"]
    assert [r.get("code") for r in results] == [None, None, "param_changed", None, "experiment_exists"]
    assert results[3]["position"].startswith("metrics:")
    # The same bytes again: duplicates, whose outcomes are the first ones'; nothing is there twice.
    again = post(client, records)["results"]
    assert [r["outcome"] for r in again] == [r["outcome"] for r in results]
    assert [r["outcome"] for r in post(client, records, wait="append")["results"]] == ["appended"] * 5
    history = client.get(API + "metrics/get-history", params={"run_id": run_id, "metric_key": "m"}).json()
    assert [m["value"] for m in history["metrics"]] == [1.0, 2.0]
    rejections = client.get(NATIVE + "rejections", params={"limit": 1}).json()
    assert rejections["rejections"][0]["code"] in ("param_changed", "experiment_exists")
    assert rejections["next_offset"] == 1


def test_a_strong_listing_shows_what_was_just_appended_and_says_its_positions(client: httpx2.Client) -> None:
    run_id, job = IDS.run_id(), Job()
    post(client, [job.record(Topic.RUNS, created(run_id)), job.record(Topic.RUNS, param(run_id, "0"))])
    for n in range(1, 20):
        # Only appended: nobody has waited for the fold to refuse it.
        record = job.record(Topic.RUNS, param(run_id, str(n)))
        [appended] = post(client, [record], wait="append")["results"]
        shown = client.get(NATIVE + "rejections", params={"limit": 1, "consistency": "strong"}).json()
        assert [one["position"] for one in shown["rejections"]] == [appended["position"]]
        where, _, offset = appended["position"].rpartition(":")
        assert shown["positions"][where] > int(offset)


@pytest.mark.parametrize("listing", ["rejections", "set-aside"])
def test_a_listing_says_its_positions_and_takes_no_third_consistency(client: httpx2.Client, listing: str) -> None:
    for words in ({}, {"consistency": "eventual"}, {"consistency": "strong"}):
        positions = client.get(NATIVE + listing, params=words).json()["positions"]
        assert {name.partition(":")[0] for name in positions} == {"experiments", "registry", "runs", "metrics"}
    refused = client.get(NATIVE + listing, params={"consistency": "maybe"})
    assert refused.status_code == 400
    assert "It is one of strong, eventual." in refused.json()["message"]


@pytest.mark.parametrize("listing", ["rejections", "webhooks/deliveries", "runs/{run}/branches", "models/m"])
def test_a_list_of_which_nothing_is_asked_for_names_no_next_page(client: httpx2.Client, listing: str) -> None:
    run_id, job = IDS.run_id(), Job()
    post(client, [job.record(Topic.RUNS, created(run_id)), job.record(Topic.RUNS, param(run_id, "0"))])
    post(client, [job.record(Topic.RUNS, param(run_id, "1"))])
    client.post("/api/2.0/mlflow/registered-models/create", json={"name": "m"})
    client.post("/api/2.0/mlflow/model-versions/create", json={"name": "m", "source": "s3://b/m"})
    answer = client.get(NATIVE + listing.format(run=run_id), params={"limit": 0})
    assert (answer.status_code, "next_offset" in answer.json()) == (200, False)


def test_a_long_batch_keeps_its_order(client: httpx2.Client) -> None:
    run_id, job = IDS.run_id(), Job()
    params = [job.record(Topic.RUNS, ParamsLogged(run_id=run_id, params={f"p{n}": "x" * 200})) for n in range(3000)]
    results = post(client, [job.record(Topic.RUNS, created(run_id)), *params])["results"]
    offsets = [int(r["position"].split(":")[2]) for r in results]
    assert offsets == sorted(offsets)
    assert {r["outcome"] for r in results} == {"accepted"}


def bad_records() -> list[tuple[str, Outgoing]]:
    job, run_id = Job(), IDS.run_id()
    good = job.record(Topic.RUNS, created(run_id))
    deleted = ExperimentDeleted(experiment_id=1)
    declared = SchemaDeclared.model_validate(
        {"schema_id": 99, "subject": "x", "version": 1, "level": 1, "schema": "{}", "topics": []}
    )
    genesis = Genesis(log_id="x", topic="runs", partition=0, partition_count=PARTITIONS)
    return [
        ("framing", Outgoing(good.topic, good.key, b"junk", good.headers)),
        ("trailing_bytes", Outgoing(good.topic, good.key, good.value + b"x", good.headers)),
        ("undeclared_schema", Outgoing(good.topic, good.key, b"\x00\x00\x01\x00\x00" + good.value[5:], good.headers)),
        ("envelope", Outgoing(good.topic, good.key, good.value, [])),
        ("key_mismatch", Outgoing(good.topic, b"other", good.value, good.headers)),
        ("type_not_allowed", job.record(Topic.RUNS, deleted)),
        ("clients append to", job.record(Topic.SYSTEM, declared)),
        ("clients append to", job.record(Topic.RUNS, genesis)),
    ]


def test_one_bad_record_refuses_its_batch(client: httpx2.Client) -> None:
    job = Job()
    before = client.get(NATIVE + "positions").json()
    for reason, bad in bad_records():
        good = [job.record(Topic.RUNS, created(IDS.run_id())) for _ in range(2)]
        message = post(client, [*good, bad], 400)["message"]
        assert message.startswith("records[2]: ")
        assert reason in message
    headers = {"Content-Type": CONTENT_TYPE}
    assert client.post(NATIVE + "events", content=b"\xff\xff\xff\xff\xff", headers=headers).status_code == 400
    assert client.post(NATIVE + "events", content=encode_batch([])).status_code == 400
    assert post(client, []) == {"results": []}
    assert client.get(NATIVE + "positions").json() == before


def test_mlflows_client_unmodified(servers: ServerPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow = import_module("mlflow")
    mlflow.set_tracking_uri(servers.uris[0])
    experiment = mlflow.set_experiment("by the client")
    with mlflow.start_run(run_name="outer") as outer:
        mlflow.log_params({"a": 1, "b": "x"})
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.set_tags({"t": "v"})
        with mlflow.start_run(nested=True) as inner:
            mlflow.log_metrics({"x": 1.0, "y": float("nan")})
    client = mlflow.MlflowClient(servers.uris[1])
    run = client.get_run(outer.info.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "outer")
    assert run.data.params == {"a": "1", "b": "x"}
    assert run.data.metrics == {"loss": 0.2}
    assert len(client.get_metric_history(outer.info.run_id, "loss")) == 5
    nested = f"tags.mlflow.parentRunId = '{outer.info.run_id}'"
    found = client.search_runs([experiment.experiment_id], nested)
    assert [r.info.run_id for r in found] == [inner.info.run_id]
    client.log_text(outer.info.run_id, "text", "a.txt")
    assert mlflow.artifacts.load_text(f"runs:/{outer.info.run_id}/a.txt") == "text"


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """Stop processes, so that they answer nothing, and let them go on."""
    for pid in pids:
        stop_process(pid)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def await_ready(client: httpx2.Client) -> None:
    deadline = time.monotonic() + 30
    while client.get("/health/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def bounded(answer: httpx2.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert "retry-after" in answer.headers
    assert answer.elapsed.total_seconds() < 8


def run_of(client: httpx2.Client) -> str:
    answer = client.post(API + "runs/create", json={"experiment_id": "0"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["run"]["info"]["run_id"])


def test_kafka_away(servers: ServerPair, client: httpx2.Client) -> None:
    run_id = run_of(client)
    metric = {"run_id": run_id, "key": "m", "value": 1, "timestamp": 1}
    series = {"runs": [run_id], "metrics": ["m"]}
    assert client.post(API + "runs/log-metric", json=metric).status_code == 200
    assert client.post(NATIVE + "series:query", json=series).status_code == 200
    with frozen([servers.stack.pid("kafka")]):
        # What promises every acknowledged write can't keep the promise, whatever it reads.
        bounded(client.get(API + "runs/get", params={"run_id": run_id}))
        bounded(client.get(API + "metrics/get-history", params={"run_id": run_id, "metric_key": "m"}))
        bounded(client.post(API + "runs/search", json={"experiment_ids": ["0"]}))
        bounded(client.get(API + "experiments/get", params={"experiment_id": "0"}))
        bounded(client.get(NATIVE + "rejections", params={"consistency": "strong"}))
        bounded(client.post(NATIVE + "series:query", json=series | {"consistency": "strong"}))
        # What promises nothing goes on.
        for listing in ("set-aside", "rejections"):
            assert client.get(NATIVE + listing).status_code == 200
            assert client.get(NATIVE + listing, params={"consistency": "eventual"}).status_code == 200
        drawn = client.post(NATIVE + "series:query", json=series | {"consistency": "eventual"}).json()
        assert drawn["series"][0]["last"] == [0, 1]
        bounded(client.post(API + "runs/log-metric", json=metric))
        bounded(client.post(API + "runs/set-tag", json={"run_id": run_id, "key": "t", "value": "1"}))
        bounded(client.post(API + "runs/create", json={"experiment_id": "0"}))
        assert client.get("/health/live").status_code == 200
        assert not client.get("/health/ready").json()["parts"]["kafka"]["ok"]
    await_ready(client)
    assert client.post(API + "runs/log-metric", json=metric).status_code == 200
    data = client.get(API + "runs/get", params={"run_id": run_id}).json()["run"]["data"]
    assert data["metrics"][0]["value"] == 1
    assert_points(client, run_id, 1)


def test_postgres_away(servers: ServerPair, client: httpx2.Client) -> None:
    run_id = run_of(client)
    metric = {"run_id": run_id, "key": "m", "value": 0, "timestamp": 1}
    assert client.post(API + "runs/log-metric", json=metric).status_code == 200
    with frozen(family(servers.stack.pid("postgres"))):
        # Needs no outcome either: the experiment was seen a moment ago.
        newer = run_of(client)
        assert client.post(API + "runs/log-metric", json=metric | {"run_id": newer}).status_code == 200
        bounded(client.get(API + "runs/get", params={"run_id": run_id}))
        bounded(client.post(API + "runs/search", json={"experiment_ids": ["0"]}))
        bounded(client.get(NATIVE + "set-aside"))
        # What a fold decides waits for it in vain.
        bounded(client.post(API + "runs/log-parameter", json={"run_id": run_id, "key": "p", "value": "1"}))
        bounded(client.post(API + "runs/set-tag", json={"run_id": run_id, "key": "t", "value": "1"}))
        bounded(client.post(API + "experiments/create", json={"name": f"while away {run_id}"}))
        # Metrics of a run that was seen before go on; of others nobody can say whether they are there.
        for n in range(1, 4):
            assert client.post(API + "runs/log-metric", json=metric | {"value": n, "step": n}).status_code == 200
        more = [{"key": "m", "value": n, "timestamp": 1, "step": n} for n in range(4, 8)]
        assert client.post(API + "runs/log-batch", json={"run_id": run_id, "metrics": more}).status_code == 200
        bounded(client.post(API + "runs/log-metric", json=metric | {"run_id": IDS.run_id()}))
    await_ready(client)
    shown = client.get(API + "runs/get", params={"run_id": run_id}).json()["run"]["data"]["metrics"]
    assert [(m["value"], m["step"]) for m in shown] == [(7, 7)]
    assert_points(client, run_id, 8)
    assert_points(client, newer, 1)


def assert_points(client: httpx2.Client, run_id: str, count: int) -> None:
    """Each acknowledged point is there once: as many as were logged, one a step."""
    found = client.get(API + "metrics/get-history", params={"run_id": run_id, "metric_key": "m"}).json()["metrics"]
    assert [m["step"] for m in found] == list(range(count))


@pytest.mark.parametrize("part", ["kafka", "postgres"])
def test_a_part_that_dies_is_found_again(servers: ServerPair, client: httpx2.Client, part: str) -> None:
    run_id = run_of(client)
    servers.stack.kill(part, signal.SIGKILL)
    time.sleep(0.5)
    await_ready(client)
    deadline = time.monotonic() + 90
    while True:
        answer = client.post(API + "runs/log-parameter", json={"run_id": run_id, "key": "p", "value": "1"})
        if answer.status_code == 200:
            break
        assert answer.status_code == 503, answer.text
        assert time.monotonic() < deadline
    shown = client.get(API + "runs/get", params={"run_id": run_id}).json()["run"]["data"]["params"]
    assert shown == [{"key": "p", "value": "1"}]
