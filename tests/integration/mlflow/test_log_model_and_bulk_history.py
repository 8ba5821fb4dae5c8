"""Models, a metric of many runs, and datasets through MLflow's REST API, with two servers and one worker."""

from __future__ import annotations

import concurrent.futures
import json
from typing import Any

from mlflow.models import Model
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.rest_utils import MlflowHostCreds

from tests.support.installations.server_pair import ServerPair
from tests.support.mlflow.caller import API, Caller


def test_a_logged_model_joins_the_runs_history(servers: ServerPair, call: Caller) -> None:
    run_id = call.run()
    with servers.client() as client:
        store = RestStore(lambda: MlflowHostCreds(str(client.base_url)))
        models = [
            Model(artifact_path=f"model-{n}", run_id=run_id, flavors={"f": {"config": 1, "n": n}}) for n in (1, 2)
        ]
        for model in models:
            store.record_logged_model(run_id, model)
    tags = {tag["key"]: tag["value"] for tag in call.get("runs/get", run_id=run_id)["run"]["data"]["tags"]}
    assert json.loads(tags["mlflow.log-model.history"]) == [model.get_tags_dict() for model in models]
    told = json.dumps(models[0].get_tags_dict())
    assert "not found" in call.post("runs/log-model", 404, run_id="nobody", model_json=told)["message"]
    call.post("runs/delete", run_id=run_id)
    assert "'active' state" in call.post("runs/log-model", 400, run_id=run_id, model_json=told)["message"]


def test_models_logged_at_once_are_all_in_the_history(servers: ServerPair, call: Caller) -> None:
    run_id = call.run()

    def log(number: int) -> None:
        model = Model(artifact_path=f"model-{number}", run_id=run_id)
        with servers.client(number % 2) as client:
            body = {"run_id": run_id, "model_json": json.dumps(model.get_tags_dict())}
            assert client.post(API + "runs/log-model", json=body).status_code == 200

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(log, range(16)))
    tags = {tag["key"]: tag["value"] for tag in call.get("runs/get", run_id=run_id)["run"]["data"]["tags"]}
    paths = {model["artifact_path"] for model in json.loads(tags["mlflow.log-model.history"])}
    assert paths == {f"model-{number}" for number in range(16)}


def test_one_metric_of_many_runs(call: Caller) -> None:
    one, two = sorted(call.run() for _ in range(2))
    for run_id, count in ((two, 5), (one, 3)):
        points = [{"key": "m", "value": n, "timestamp": 9 - n, "step": n} for n in range(count)]
        call.post("runs/log-batch", run_id=run_id, metrics=points)
    bulk = call.get("metrics/get-history-bulk", run_id=[two, one, two, "nobody"], metric_key="m")["metrics"]
    assert [(p["run_id"], p["step"]) for p in bulk] == [
        (run_id, step) for run_id, steps in ((one, (2, 1, 0)), (two, (4, 3, 2, 1, 0))) for step in steps
    ]
    assert bulk[0] == {"key": "m", "value": 2.0, "timestamp": 7, "step": 2, "run_id": one}
    cut = call.get("metrics/get-history-bulk", run_id=[one, two], metric_key="m", max_results=4)["metrics"]
    assert cut == bulk[:4]
    assert call.get("metrics/get-history-bulk", run_id=one, metric_key="none") == {"metrics": []}
    for query, message in (
        ({"metric_key": "m"}, "GetMetricHistoryBulk request must specify at least one run_id."),
        ({"run_id": one}, "GetMetricHistoryBulk request must specify a metric_key."),
        (
            {"run_id": [one] * 101, "metric_key": "m"},
            "GetMetricHistoryBulk request cannot specify more than 100 run_ids. Received 101 run_ids.",
        ),
    ):
        assert call.get("metrics/get-history-bulk", 400, **query)["message"] == message


def test_a_sample_of_one_metric_of_many_runs(call: Caller) -> None:
    one, two = call.run(), call.run()
    for run_id, count in ((two, 7), (one, 3)):
        points = [{"key": "m", "value": n, "timestamp": 1, "step": n} for n in range(count)]
        call.post("runs/log-batch", run_id=run_id, metrics=points)

    def steps(**query: Any) -> list[tuple[str, int]]:
        answer = call.get("metrics/get-history-bulk-interval", run_ids=[two, one], metric_key="m", **query)
        return [(p["run_id"], p["step"]) for p in answer.get("metrics", [])]

    assert steps(max_results=4) == [(two, n) for n in (0, 2, 4, 6)] + [(one, n) for n in (0, 1, 2)]
    assert steps(max_results=1) == [(two, 6), (one, 2)]
    assert steps(start_step=2, end_step=3) == [(two, 2), (two, 3), (one, 2)]
    assert steps(start_step=50, end_step=60) == []
    docs = " See the API docs for more information about request parameters."
    for query, message in (
        ({"max_results": 2501}, "max_results must be between 1 and 2500." + docs),
        ({"max_results": 0}, "max_results must be between 1 and 2500." + docs),
        ({"start_step": 1}, "If either start step or end step are specified, both must be specified."),
        (
            {"start_step": 2, "end_step": 1},
            "end_step must be greater than start_step. Found start_step=2 and end_step=1.",
        ),
        (
            {"run_ids": ["r"] * 101},
            "GetMetricHistoryBulkInterval request must specify at most 100 run_ids. Received 101 run_ids." + docs,
        ),
        ({"metric_key": ""}, "Missing value for required parameter 'metric_key'." + docs),
    ):
        full = {"run_ids": [one], "metric_key": "m"} | query
        assert call.get("metrics/get-history-bulk-interval", 400, **full)["message"] == message


def test_searching_data_sets(servers: ServerPair, call: Caller) -> None:
    number, other = call.experiment(), call.experiment()
    for experiment, digest, context in (
        (number, "x", "train"),
        (number, "x", "train"),
        (number, "a", None),
        (other, "x", "eval"),
    ):
        tags = [{"key": "mlflow.data.context", "value": context}] if context else []
        dataset = {"name": "d", "digest": digest, "source_type": "local", "source": "{}"}
        call.post(
            "runs/log-inputs", run_id=call.run(experiment_id=experiment), datasets=[{"tags": tags, "dataset": dataset}]
        )
    found = call.post("experiments/search-datasets", experiment_ids=[other, number])["dataset_summaries"]
    assert found == [
        {"experiment_id": number, "name": "d", "digest": "a"},
        {"experiment_id": number, "name": "d", "digest": "x", "context": "train"},
        {"experiment_id": other, "name": "d", "digest": "x", "context": "eval"},
    ]
    with servers.client() as client:
        ajax = client.post("/ajax-api/2.0/mlflow/experiments/search-datasets", json={"experiment_ids": [other]})
    assert ajax.json()["dataset_summaries"] == found[2:]
    assert call.post("experiments/search-datasets", experiment_ids=["987654"]) == {}
    assert call.post("experiments/search-datasets", 400)["message"] == (
        "SearchDatasets request must specify at least one experiment_id."
    )
    assert call.post("experiments/search-datasets", 400, experiment_ids=["1"] * 21)["message"] == (
        "SearchDatasets request cannot specify more than 20 experiment_ids. Received 21 experiment_ids."
    )
