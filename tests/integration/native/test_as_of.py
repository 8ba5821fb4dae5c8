"""Reads of the past over HTTP: every read of one entity takes `as_of`, by parameter or header, and answers with the
vector.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import httpx2
import pytest

from tests.support.api.moments import HEADER, NATIVE, moment, now
from tests.support.mlflow.caller import API, Caller


def test_a_run_is_told_as_it_was_by_time_and_by_vector(client: httpx2.Client, caller: Caller) -> None:
    before = moment()
    run = caller.run(run_name="first")
    caller.post("runs/log-parameter", run_id=run, key="lr", value="1")
    caller.post("runs/set-tag", run_id=run, key="team", value="a")
    caller.post("runs/log-metric", run_id=run, key="loss", value=3.0, timestamp=1, step=1)
    at, vector = moment(), now(client)
    caller.post("runs/set-tag", run_id=run, key="team", value="b")
    caller.post("runs/log-metric", run_id=run, key="loss", value=1.0, timestamp=2, step=2)
    caller.post("runs/update", run_id=run, status="FINISHED", run_name="last")
    caller.post("runs/delete", run_id=run)

    present = caller.get("runs/get", run_id=run)["run"]
    assert (present["info"]["status"], present["info"]["lifecycle_stage"]) == ("FINISHED", "deleted")
    by_time = client.get(f"{API}runs/get", params={"run_id": run, "as_of": at})
    by_vector = client.get(f"{API}runs/get", params={"run_id": run, "as_of": vector})
    by_header = client.get(f"{API}runs/get", params={"run_id": run}, headers={HEADER: vector})
    assert by_time.headers[HEADER] == by_vector.headers[HEADER] == by_header.headers[HEADER]
    assert by_time.json() == by_vector.json() == by_header.json()
    again = client.get(f"{API}runs/get", params={"run_id": run, "as_of": by_time.headers[HEADER]})
    assert again.json() == by_time.json()

    then = by_time.json()["run"]
    assert (then["info"]["run_name"], then["info"]["status"], then["info"]["lifecycle_stage"]) == (
        "first",
        "RUNNING",
        "active",
    )
    assert {tag["key"]: tag["value"] for tag in then["data"]["tags"]}["team"] == "a"
    assert [(m["key"], m["value"], m["step"]) for m in then["data"]["metrics"]] == [("loss", 3.0, 1)]
    points = caller.get("metrics/get-history", run_id=run, metric_key="loss", as_of=at)["metrics"]
    assert [point["value"] for point in points] == [3.0]
    assert len(caller.get("metrics/get-history", run_id=run, metric_key="loss")["metrics"]) == 2

    assert HEADER not in client.get(f"{API}runs/get", params={"run_id": run}).headers
    missing = caller.get("runs/get", 404, run_id=run, as_of=before)
    assert missing["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    assert f"Run with id={run} not found as of runs:" in missing["message"]


def test_an_experiment_is_told_as_it_was_by_id_and_by_the_name_it_had(client: httpx2.Client, caller: Caller) -> None:
    before = now(client)
    number = caller.experiment("old name")
    at = now(client)
    caller.post("experiments/update", experiment_id=number, new_name="new name")
    caller.post("experiments/delete", experiment_id=number)
    then = caller.get("experiments/get", experiment_id=number, as_of=at)["experiment"]
    assert (then["name"], then["lifecycle_stage"]) == ("old name", "active")
    assert caller.get("experiments/get-by-name", experiment_name="old name", as_of=at)["experiment"] == then
    assert (
        "as of experiments:0:"
        in caller.get("experiments/get-by-name", 404, experiment_name="new name", as_of=at)["message"]
    )
    assert "as of experiments:0:" in caller.get("experiments/get", 404, experiment_id=number, as_of=before)["message"]
    caller.get("experiments/get-by-name", 404, experiment_name="old name")


def test_a_run_was_active_before_its_experiment_was_deleted(client: httpx2.Client, caller: Caller) -> None:
    number = caller.experiment()
    run = caller.run(experiment_id=number)
    at = now(client)
    caller.post("experiments/delete", experiment_id=number)

    def stage(**query: str) -> Any:
        return caller.get("runs/get", run_id=run, **query)["run"]["info"]["lifecycle_stage"]

    assert (stage(), stage(as_of=at), stage(as_of=now(client))) == ("deleted", "active", "deleted")


def test_native_reads_of_series_take_the_same_moments(client: httpx2.Client, caller: Caller) -> None:
    run = caller.run()
    for step in range(3):
        caller.post("runs/log-metric", run_id=run, key="m", value=step, timestamp=step, step=step)
    at = now(client)
    caller.post("runs/log-metric", run_id=run, key="m", value=-5, timestamp=9, step=9)
    caller.post("runs/log-metric", run_id=run, key="n", value=1, timestamp=9, step=9)

    keys = client.get(f"{NATIVE}/runs/{run}/metrics", params={"as_of": at})
    assert [(one["key"], one["last"], one["min"]) for one in keys.json()["metrics"]] == [("m", 2, 0)]
    assert [one["key"] for one in client.get(f"{NATIVE}/runs/{run}/metrics").json()["metrics"]] == ["m", "n"]
    fitting = client.get(f"{NATIVE}/runs/{run}/metrics", params={"as_of": at, "regex": "^n"})
    assert fitting.json()["metrics"] == []
    asked = {"runs": [run], "metrics": ["m"]}
    history = client.post(f"{NATIVE}/series:history", json=asked, params={"as_of": at})
    assert history.json()["series"][0]["steps"] == [0, 1, 2]
    assert len(client.post(f"{NATIVE}/series:history", json=asked).json()["series"][0]["steps"]) == 4
    drawn = client.post(f"{NATIVE}/series:query", json=asked, headers={HEADER: at})
    assert drawn.json()["x_values"] == [0, 1, 2]
    branches = client.get(f"{NATIVE}/runs/{run}/branches", params={"as_of": at})
    assert branches.json()["branches"][0]["points"] == 3
    assert {answer.headers[HEADER] for answer in (keys, history, drawn, branches)} == {keys.headers[HEADER]}
    for path in (f"{NATIVE}/runs/{run}/metrics", f"{NATIVE}/runs/{run}/branches"):
        assert client.get(path, params={"as_of": "experiments:0:1"}).status_code == 404
    empty = client.post(f"{NATIVE}/series:history", json=asked, params={"as_of": "experiments:0:1"})
    assert empty.status_code == 404


def test_bulk_histories_take_a_moment(client: httpx2.Client, caller: Caller) -> None:
    runs = [caller.run(), caller.run()]
    for run in runs:
        caller.post("runs/log-metric", run_id=run, key="m", value=1, timestamp=1, step=1)
    at = now(client)
    caller.post("runs/log-metric", run_id=runs[0], key="m", value=2, timestamp=2, step=2)
    found = caller.get("metrics/get-history-bulk", run_id=runs, metric_key="m", as_of=at)["metrics"]
    assert [point["value"] for point in found] == [1, 1]
    found = caller.get("metrics/get-history-bulk-interval", run_ids=runs, metric_key="m", as_of=at)["metrics"]
    assert [point["value"] for point in found] == [1, 1]


@pytest.mark.parametrize(
    ("as_of", "why"),
    [
        ("yesterday", "give a date or time"),
        ("2999-01-01", "the future can't be asked about"),
        ("runs:0:999999999", "is ahead of the log, which ends at runs:0:"),
        ("runs:77:0", "the log has no partition runs:77"),
        ("runs:0:x", "topic:partition:offset"),
    ],
)
def test_what_is_no_moment_of_the_log_is_a_clear_400(caller: Caller, as_of: str, why: str) -> None:
    answer = caller.get("experiments/get", 400, experiment_id="0", as_of=as_of)
    assert answer["error_code"] == "INVALID_PARAMETER_VALUE"
    assert why in answer["message"]


def test_what_can_not_be_asked_about_the_past_says_so_and_writes_nothing(client: httpx2.Client, caller: Caller) -> None:
    run, at = caller.run(), now(client)
    body = {"run_id": run, "key": "k", "value": "v"}
    answer = client.post(f"{API}runs/set-tag", json=body, headers={HEADER: at})
    assert answer.status_code == 400
    assert "it changes the present" in answer.json()["message"]
    tags = caller.get("runs/get", run_id=run)["run"]["data"]["tags"]
    assert "k" not in {tag["key"] for tag in tags}
    both = client.get(f"{API}runs/get", params={"run_id": run, "as_of": at}, headers={HEADER: "2026-01-01"})
    assert both.status_code == 400


def test_a_logged_model_is_told_as_it_was_with_what_had_been_measured_of_it(
    client: httpx2.Client, caller: Caller
) -> None:
    before = moment()
    run = caller.run()
    made = caller.post("logged-models", experiment_id="0", name="m", params=[{"key": "lr", "value": "1"}])
    model_id = made["model"]["info"]["model_id"]
    point = {"run_id": run, "key": "acc", "timestamp": 1, "model_id": model_id}
    caller.post("runs/log-metric", **point, value=0.5, step=1)
    caller.post("runs/log-metric", **point, value=0.1, step=1, dataset_name="iris", dataset_digest="d")
    moments: list[int | str] = [moment(), now(client)]
    was = caller.get(f"logged-models/{model_id}")
    caller.post("runs/log-metric", **point, value=0.9, step=2)
    assert client.patch(f"{API}logged-models/{model_id}", json={"status": "LOGGED_MODEL_READY"}).status_code == 200
    assert client.patch(f"{API}logged-models/{model_id}/tags", json={"tags": [{"key": "a", "value": "b"}]}).is_success
    then = now(client)
    ready = caller.get(f"logged-models/{model_id}")
    assert client.delete(f"{API}logged-models/{model_id}").is_success
    for at in moments:
        answer = client.get(f"{API}logged-models/{model_id}", params={"as_of": at})
        assert answer.json() == was
        assert "registry:0:" in answer.headers[HEADER]
    assert caller.get(f"logged-models/{model_id}", as_of=then) == ready
    assert [m["value"] for m in ready["model"]["data"]["metrics"]] == [0.1, 0.9]
    refused = caller.get(f"logged-models/{model_id}", 404, as_of=before)["message"]
    assert refused.startswith(f"Logged model with ID '{model_id}' not found")
    assert caller.get(f"logged-models/{model_id}", 404)["message"] == f"Logged model with ID '{model_id}' not found."
    assert caller.get(f"logged-models/{model_id}", as_of=then, allow_deleted="true") == ready


def test_the_native_read_of_a_run_tells_all_of_it_now_and_as_it_was(client: httpx2.Client, caller: Caller) -> None:
    before = now(client)
    number = caller.experiment()
    run = caller.run(experiment_id=number, run_name="native", start_time=5)
    caller.post("runs/log-parameter", run_id=run, key="lr", value="1")
    for key, value in (("loss", 0.5), ("nan", "NaN"), ("most", "Infinity")):
        caller.post("runs/log-metric", run_id=run, key=key, value=value, timestamp=3, step=1)
    dataset = {"name": "iris", "digest": "d", "source_type": "local", "source": "there"}
    caller.post("runs/log-inputs", run_id=run, datasets=[{"dataset": dataset}])
    made = caller.post("logged-models", experiment_id=number, name="lm", source_run_id=run)["model"]["info"]["model_id"]
    caller.post("runs/outputs", run_id=run, models=[{"model_id": made, "step": 2}])

    def told(status: int = 200, **query: str) -> Any:
        answer = client.get(f"{NATIVE}/runs/{run}", params=query)
        assert answer.status_code == status, answer.text
        return answer.json()

    at, was = now(client), told()
    caller.post("runs/set-tag", run_id=run, key="team", value="a")
    caller.post("runs/log-metric", run_id=run, key="loss", value=0.1, timestamp=4, step=2)
    caller.post("runs/update", run_id=run, status="FINISHED", end_time=9)
    caller.post("experiments/delete", experiment_id=number)
    assert was["run"] == {
        "run_id": run,
        "experiment_id": number,
        "name": "native",
        "user_id": "",
        "status": "RUNNING",
        "lifecycle_stage": "active",
        "start_ms": 5,
        "end_ms": None,
        "artifact_uri": f"mlflow-artifacts:/{number}/{run}/artifacts",
        "params": {"lr": "1"},
        "tags": {"mlflow.runName": "native"},
        "metrics": {
            "loss": {"last": 0.5, "step": 1, "time": 3},
            "most": {"last": "Infinity", "step": 1, "time": 3},
            "nan": {"last": "NaN", "step": 1, "time": 3},
        },
        "datasets": [{**dataset, "tags": {}}],
        "models": [],
        "outputs": [{"model_id": made, "step": 2}],
    }
    then = told(as_of=at)
    assert then["run"] == was["run"]
    assert ",".join(f"{where}:{end}" for where, end in sorted(then["positions"].items())) == ",".join(
        sorted(at.split(","))
    )
    present = told()["run"]
    assert (present["status"], present["end_ms"], present["lifecycle_stage"]) == ("FINISHED", 9, "deleted")
    assert present["metrics"]["loss"] == {"last": 0.1, "step": 2, "time": 4}
    assert told(consistency="eventual")["run"] == present
    assert " not found as of runs:" in told(404, as_of=before)["message"]
    assert client.get(f"{NATIVE}/runs/nobody").status_code == 404
    assert told(400, consistency="weak")["error_code"] == "INVALID_PARAMETER_VALUE"


def test_what_names_no_moment_or_two_is_never_told_of_the_present(client: httpx2.Client, caller: Caller) -> None:
    run = caller.run()
    at = now(client)
    path = f"{API}runs/get?run_id={run}"
    for query, says in (("&as_of=", "names no moment"), ("&as_of=%20", "names no moment")):
        refused = client.get(path + query)
        assert (refused.status_code, says in refused.json()["message"]) == (400, True)
    assert client.get(path, headers={HEADER: ""}).status_code == 400
    assert client.get(f"{NATIVE}/runs/{run}?as_of=").status_code == 400
    two = client.get(f"{path}&as_of={at}&as_of=experiments:0:1")
    assert (two.status_code, "two moments" in two.json()["message"]) == (400, True)
    assert client.get(f"{path}&as_of={at}&as_of={at}").status_code == 200
    body = caller.post("runs/search", 400, experiment_ids=["0"], as_of=at)
    assert "not into the body" in body["message"]


def test_a_plus_sign_that_a_query_makes_a_blank_of_is_still_a_zone(client: httpx2.Client, caller: Caller) -> None:
    run = caller.run()
    later = moment()
    here = datetime.fromtimestamp(later / 1000, timezone(timedelta(hours=1))).isoformat(timespec="milliseconds")
    assert here.endswith("+01:00")
    answer = client.get(f"{API}runs/get?run_id={run}&as_of={here}")
    assert (answer.status_code, HEADER in answer.headers) == (200, True), answer.text
