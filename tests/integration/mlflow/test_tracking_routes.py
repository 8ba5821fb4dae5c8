"""MLflow's REST API over real Kafka and Postgres, with two servers and one worker.

The expected answers were recorded from MLflow 3.17's server.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import threading

import httpx2

from tests.support.installations.server_pair import ServerPair
from tests.support.mlflow.caller import API, Caller

_names = itertools.count()


def test_experiments(call: Caller) -> None:
    name = f"life {next(_names)}"
    number = call.experiment(name)
    shown = call.get("experiments/get", experiment_id=number)["experiment"]
    assert shown | {"creation_time": 0, "last_update_time": 0} == {
        "experiment_id": number,
        "name": name,
        "artifact_location": f"mlflow-artifacts:/{number}",
        "lifecycle_stage": "active",
        "creation_time": 0,
        "last_update_time": 0,
        "workspace": "default",
    }
    taken = call.post("experiments/create", 400, name=name)
    assert (taken["error_code"], taken["message"]) == (
        "RESOURCE_ALREADY_EXISTS",
        f"Experiment(name={name}) already exists.",
    )
    call.post("experiments/update", experiment_id=number, new_name=name + "!")
    assert call.get("experiments/get-by-name", experiment_name=name + "!")["experiment"]["experiment_id"] == number
    assert call.get("experiments/get-by-name", 404, experiment_name=name)["message"] == (
        f"Could not find experiment with name '{name}'"
    )
    call.post("experiments/set-experiment-tag", experiment_id=number, key="k", value="v")
    assert call.get("experiments/get", experiment_id=number)["experiment"]["tags"] == [{"key": "k", "value": "v"}]
    call.post("experiments/delete-experiment-tag", experiment_id=number, key="k")
    assert call.post("experiments/delete-experiment-tag", 404, experiment_id=number, key="k")["message"] == (
        f"No tag with name: k in experiment with id {number}"
    )


def test_a_deleted_experiment_and_its_runs(call: Caller) -> None:
    name = f"deleted {next(_names)}"
    number = call.experiment(name)
    run_id = call.run(experiment_id=number)
    call.post("experiments/delete", experiment_id=number)
    assert (
        call.post("experiments/delete", 404, experiment_id=number)["message"]
        == f"No Experiment with id={number} exists"
    )
    call.post("experiments/create", 400, name=name)
    assert call.post("runs/create", 400, experiment_id=number)["message"] == (
        f"The experiment {number} must be in the 'active' state. Current state is deleted."
    )
    refused = call.post("runs/log-metric", 400, run_id=run_id, key="m", value=1, timestamp=1)
    assert refused["message"] == f"The run {run_id} must be in the 'active' state. Current state is deleted."
    call.post("runs/log-parameter", 400, run_id=run_id, key="p", value="1")
    renamed = call.post("experiments/update", 400, experiment_id=number, new_name="x")
    assert renamed["message"] == "Cannot rename a non-active experiment."
    assert call.post("runs/search", experiment_ids=[number]) == {}
    call.post("experiments/restore", experiment_id=number)
    call.post("runs/log-metric", run_id=run_id, key="m", value=1, timestamp=1)
    assert len(call.post("runs/search", experiment_ids=[number])["runs"]) == 1


def test_searching_experiments(call: Caller) -> None:
    numbers = [call.experiment(f"page {next(_names)}") for _ in range(3)]
    found, token = [], None
    while True:
        page = call.get("experiments/search", max_results=2, **({"page_token": token} if token else {}))
        found += [e["experiment_id"] for e in page["experiments"]]
        token = page.get("next_page_token")
        if not token:
            break
    assert found[:3] == numbers[::-1]
    assert len(set(found)) == len(found)
    assert call.post("experiments/search", 400)["message"] == (
        "Invalid value 0 for parameter 'max_results' supplied. It must be a positive integer"
    )


def test_a_run_as_created(call: Caller) -> None:
    created = call.post("runs/create", experiment_id="0", start_time=1, tags=[{"key": "mlflow.runName", "value": "me"}])
    run_id = created["run"]["info"]["run_id"]
    assert created["run"]["info"] == {
        "run_uuid": run_id,
        "run_id": run_id,
        "experiment_id": "0",
        "run_name": "me",
        "user_id": "",
        "status": "RUNNING",
        "start_time": 1,
        "artifact_uri": f"mlflow-artifacts:/0/{run_id}/artifacts",
        "lifecycle_stage": "active",
    }
    assert call.get("runs/get", run_uuid=run_id)["run"] == created["run"] | {"outputs": {}}
    both = {"run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]}
    assert "with different values" in call.post("runs/create", 400, experiment_id="0", **both)["message"]
    assert call.post("runs/create", 404, experiment_id="99999")["message"] == "No Experiment with id=99999 exists"
    assert call.get("runs/get", 404, run_id="zzz")["message"] == "Run with id=zzz not found"


def test_names_and_tags_mirror_each_other(call: Caller) -> None:
    run_id = call.run()

    def names() -> set[str]:
        run = call.get("runs/get", run_id=run_id)["run"]
        tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
        return {run["info"]["run_name"], tags["mlflow.runName"]}

    updated = call.post("runs/update", run_id=run_id, status="FINISHED", end_time=5, run_name="nn")["run_info"]
    assert (updated["status"], updated["end_time"], updated["run_name"]) == ("FINISHED", 5, "nn")
    assert names() == {"nn"}
    call.post("runs/set-tag", run_id=run_id, key="mlflow.runName", value="zz")
    assert names() == {"zz"}
    call.post("runs/set-tag", run_id=run_id, key="mlflow.runName", value="")
    call.post("runs/update", run_id=run_id, run_name="")
    assert names() == {"zz"}
    call.post("runs/log-batch", run_id=run_id, tags=[{"key": "mlflow.runName", "value": "bb"}])
    assert names() == {"bb"}
    missing = call.post("runs/delete-tag", 404, run_id=run_id, key="nope")
    assert missing["message"] == f"No tag with name: nope in run with id {run_id}"


def test_params_never_change(call: Caller) -> None:
    run_id = call.run()
    call.post("runs/log-parameter", run_id=run_id, key="a", value="1")
    call.post("runs/log-parameter", run_id=run_id, key="a", value="1")
    assert call.post("runs/log-parameter", 400, run_id=run_id, key="a", value="2")["message"] == (
        "Changing param values is not allowed. "
        f"Param with key='a' was already logged with value='1' for run ID='{run_id}'. "
        "Attempted logging new value '2'."
    )
    batch = {"params": [{"key": "a", "value": "3"}, {"key": "b", "value": "1"}], "tags": [{"key": "t", "value": "1"}]}
    metrics = [{"key": "q", "value": 1, "timestamp": 1, "step": 0}]
    assert call.post("runs/log-batch", 400, run_id=run_id, metrics=metrics, **batch)["message"] == (
        "Changing param values is not allowed. Params were already "
        f"logged='[{{'key': 'a', 'old_value': '1', 'new_value': '3'}}]' for run ID='{run_id}'."
    )
    data = call.get("runs/get", run_id=run_id)["run"]["data"]
    assert data["params"] == [{"key": "a", "value": "1"}]
    assert "metrics" not in data
    assert [tag["key"] for tag in data["tags"]] == ["mlflow.runName"]


def test_the_points_of_a_metric(call: Caller) -> None:
    run_id = call.run()
    for value, timestamp, step in ((1.5, 5, None), (1.5, 5, None), (9.5, 1, None), (7, 1, "4"), (7, 0, -4)):
        more = {} if step is None else {"step": step}
        call.post("runs/log-metric", run_id=run_id, key="m", value=value, timestamp=timestamp, **more)
    points = [
        {"key": "m", "value": 7.0, "timestamp": 0, "step": -4},
        {"key": "m", "value": 9.5, "timestamp": 1, "step": 0},
        {"key": "m", "value": 7.0, "timestamp": 1, "step": 4},
        {"key": "m", "value": 1.5, "timestamp": 5, "step": 0},
    ]
    assert call.get("metrics/get-history", run_id=run_id, metric_key="m") == {"metrics": points}
    first = call.get("metrics/get-history", run_id=run_id, metric_key="m", max_results=3)
    assert first == {"metrics": points[:3], "next_page_token": "eyJvZmZzZXQiOiAzfQ=="}
    rest = {"max_results": 3, "page_token": first["next_page_token"]}
    assert call.get("metrics/get-history", run_id=run_id, metric_key="m", **rest) == {"metrics": points[3:]}
    assert call.get("metrics/get-history", run_id=run_id, metric_key="none") == {}
    none = call.get("metrics/get-history", 400, run_id=run_id, metric_key="m", max_results=0)
    assert none["message"].startswith("Invalid value 0 for parameter 'max_results' supplied.")
    assert call.get("runs/get", run_id=run_id)["run"]["data"]["metrics"] == [points[2]]


def test_numbers_that_json_lacks(call: Caller) -> None:
    run_id = call.run()
    values = {"a": "NaN", "b": "Infinity", "c": "-Infinity"}
    metrics = [{"key": key, "value": value, "timestamp": 1} for key, value in values.items()]
    call.post("runs/log-batch", run_id=run_id, metrics=metrics)
    shown = {m["key"]: m["value"] for m in call.get("runs/get", run_id=run_id)["run"]["data"]["metrics"]}
    assert shown == {"a": "NaN", "b": 1.7976931348623157e308, "c": -1.7976931348623157e308}


def test_a_deleted_run(call: Caller) -> None:
    run_id = call.run()
    call.post("runs/delete", run_id=run_id)
    call.post("runs/delete", run_id=run_id)
    for path, body in (
        ("log-metric", {"key": "m", "value": 1, "timestamp": 1}),
        ("log-parameter", {"key": "p", "value": "1"}),
        ("set-tag", {"key": "t", "value": "1"}),
        ("update", {"run_name": "x"}),
        ("log-batch", {"metrics": [{"key": "m", "value": 1, "timestamp": 1}]}),
    ):
        assert call.post(f"runs/{path}", 400, run_id=run_id, **body)["message"] == (
            f"The run {run_id} must be in the 'active' state. Current state is deleted."
        )
    call.post("runs/restore", run_id=run_id)
    call.post("runs/log-metric", run_id=run_id, key="m", value=1, timestamp=1)
    assert call.post("runs/delete", 404, run_id="nope")["message"] == "Run with id=nope not found"


def test_the_tag_of_an_input_has_a_key_as_long_as_mlflows(call: Caller) -> None:
    run_id, dataset = call.run(), {"name": "d", "digest": "abc", "source_type": "local", "source": "{}"}
    one = {"tags": [{"key": "k" * 255, "value": "train"}], "dataset": dataset}
    call.post("runs/log-inputs", run_id=run_id, datasets=[one])
    assert call.get("runs/get", run_id=run_id)["run"]["inputs"]["dataset_inputs"] == [one]
    for key in ("", "k" * 256):
        call.post("runs/log-inputs", 400, run_id=run_id, datasets=[one | {"tags": [{"key": key, "value": "v"}]}])


def test_inputs(call: Caller) -> None:
    run_id = call.run()
    dataset = {"name": "d", "digest": "abc", "source_type": "local", "source": "{}", "schema": "{}"}
    one = {"tags": [{"key": "mlflow.data.context", "value": "train"}], "dataset": dataset}
    call.post("runs/log-inputs", run_id=run_id, datasets=[one, one], models=[{"model_id": "m-1"}])
    call.post("runs/log-inputs", run_id=run_id, datasets=[one])
    assert call.get("runs/get", run_id=run_id)["run"]["inputs"] == {
        "dataset_inputs": [one],
        "model_inputs": [{"model_id": "m-1"}],
    }


def test_searching_runs(call: Caller) -> None:
    number = call.experiment()
    runs = [call.run(experiment_id=number, start_time=i, run_name=f"n{i}") for i in range(5)]
    for i, run_id in enumerate(runs):
        call.post("runs/log-batch", run_id=run_id, metrics=[{"key": "loss", "value": i, "timestamp": 1}])
    found = call.post("runs/search", experiment_ids=[number], filter="metrics.loss >= 2", order_by=["metrics.loss ASC"])
    assert [run["info"]["run_id"] for run in found["runs"]] == runs[2:]
    page = call.post("runs/search", experiment_ids=[number], max_results=2)
    assert [run["info"]["run_id"] for run in page["runs"]] == runs[:2:-1]
    page = call.post("runs/search", experiment_ids=[number], max_results=4, page_token=page["next_page_token"])
    assert [run["info"]["run_id"] for run in page["runs"]] == runs[2::-1]
    assert "next_page_token" not in page
    for wrong, message in (
        ("metrics.x = foo", "Expected numeric value type for metric. Found foo"),
        ("params.x > 1", "Expected a quoted string value for parameter (e.g. 'my-value'). Got value 1"),
        ("a = 1 OR b = 2", "Invalid clause(s) in filter string: 'OR'"),
    ):
        assert call.post("runs/search", 400, experiment_ids=[number], filter=wrong)["message"] == message


def test_one_of_many_creators_wins_and_the_others_get_mlflows_error(servers: ServerPair) -> None:
    names = [f"wanted {next(_names)}" for _ in range(5)]
    gate = threading.Barrier(8)

    def create(server: int) -> list[httpx2.Response]:
        with servers.client(server) as client:
            client.get("/health/live")
            answers = []
            for name in names:
                gate.wait()
                answers.append(client.post(API + "experiments/create", json={"name": name}))
            return answers

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        by_name = zip(*pool.map(create, [0, 1] * 4), strict=True)
    for name, answers in zip(names, by_name, strict=True):
        [winner] = [answer for answer in answers if answer.status_code == 200]
        losers = [answer for answer in answers if answer is not winner]
        assert [answer.status_code for answer in losers] == [400] * 7
        assert {answer.json()["error_code"] for answer in losers} == {"RESOURCE_ALREADY_EXISTS"}
        assert all(answer.json()["message"].startswith(f"Experiment(name={name}) already exists.") for answer in losers)
        for server in (0, 1):
            with servers.client(server) as client:
                shown = client.get(API + "experiments/get-by-name", params={"experiment_name": name}).json()
                assert shown["experiment"]["experiment_id"] == winner.json()["experiment_id"]


def test_what_one_server_acknowledged_the_other_shows(servers: ServerPair) -> None:
    """Writers on one server, readers on the other: no read is older than the write that came before it."""
    stale: list[str] = []

    def interleave(me: int) -> None:
        with servers.client(me % 2) as write, servers.client(1 - me % 2) as read:
            writer, reader = Caller(write), Caller(read)
            run_id = writer.run()
            for n in range(15):
                writer.post("runs/log-metric", run_id=run_id, key="m", value=n, timestamp=n, step=n)
                latest = reader.get("runs/get", run_id=run_id)["run"]["data"]["metrics"][0]["value"]
                writer.post("runs/set-tag", run_id=run_id, key="n", value=str(n))
                tags = {t["key"]: t["value"] for t in reader.get("runs/get", run_id=run_id)["run"]["data"]["tags"]}
                if (latest, tags["n"]) != (n, str(n)):
                    stale.append(f"{run_id}: {latest}, {tags} after {n}")

    threads = [threading.Thread(target=interleave, args=(me,)) for me in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stale == []


def test_many_clients_write_one_run(servers: ServerPair, call: Caller) -> None:
    run_id = call.run()

    def write(me: int) -> None:
        with servers.client(me % 2) as client:
            own = Caller(client)
            for n in range(5):
                own.post(
                    "runs/log-batch",
                    run_id=run_id,
                    params=[{"key": f"p{me}.{n}", "value": "1"}, {"key": "shared", "value": "same"}],
                    metrics=[{"key": f"m{me}", "value": n, "timestamp": n, "step": n}],
                    tags=[{"key": f"t{me}", "value": str(n)}],
                )

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    data = call.get("runs/get", run_id=run_id)["run"]["data"]
    assert len(data["params"]) == 8 * 5 + 1
    assert {m["key"]: m["value"] for m in data["metrics"]} == {f"m{me}": 4.0 for me in range(8)}
    assert {t["key"]: t["value"] for t in data["tags"] if t["key"].startswith("t")} == {
        f"t{me}": "4" for me in range(8)
    }


def test_bad_input_appends_nothing(servers: ServerPair, call: Caller) -> None:
    run_id = call.run()
    with servers.client() as client:
        before = client.get("/api/runfold/v1/positions").json()["partitions"]
        for body in (
            {"run_id": run_id, "key": "../x", "value": 1, "timestamp": 1},
            {"run_id": run_id, "key": "k", "value": "abc", "timestamp": 1},
            {"run_id": run_id, "key": "k\x00", "value": 1, "timestamp": 1},
            {"run_id": run_id, "key": "k", "value": 1, "timestamp": -1},
            {"run_id": run_id, "key": "k", "value": 1, "timestamp": 2**70},
        ):
            assert client.post(API + "runs/log-metric", json=body).status_code == 400
        for path in ("log-parameter", "set-tag", "log-batch"):
            body = {"run_id": run_id, "key": "/k", "value": "1", "params": [{"key": "/k"}]}
            assert client.post(f"{API}runs/{path}", json=body).status_code == 400
        assert (
            client.post(API + "runs/log-parameter", json={"run_id": "no", "key": "k", "value": "1"}).status_code == 404
        )
        after = client.get("/api/runfold/v1/positions").json()["partitions"]
    assert [row["end"] for row in before] == [row["end"] for row in after]


def test_both_prefixes_answer(servers: ServerPair) -> None:
    with servers.client() as client:
        paths = ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow")
        answers = [client.get(f"{path}/experiments/get?experiment_id=0").json() for path in paths]
    assert answers[0] == answers[1]
    assert json.dumps(answers[0])
