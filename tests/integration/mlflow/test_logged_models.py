"""MLflow's logged models over real Kafka and Postgres: every call of its client, and bare HTTP for the rest."""

from __future__ import annotations

import math
import warnings
from itertools import count
from typing import Any

import pytest
from mlflow.entities import (
    LoggedModel,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelParameter,
    LoggedModelStatus,
    LoggedModelTag,
    Metric,
)
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.rest_utils import MlflowHostCreds

from runfold_projections.model_metrics import model_blocks
from tests.support.installations.server_pair import ServerPair
from tests.support.mlflow.caller import API, Caller

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

_names = count(1)


@pytest.fixture
def stores(servers: ServerPair) -> tuple[RestStore, RestStore]:
    """MLflow's own client of either server."""
    one, two = (RestStore(lambda uri=uri: MlflowHostCreds(uri)) for uri in servers.uris)
    return one, two


@pytest.fixture
def store(stores: tuple[RestStore, RestStore]) -> RestStore:
    return stores[0]


@pytest.fixture
def experiment(call: Caller) -> str:
    return call.experiment()


def made(store: RestStore, experiment: str, **fields: Any) -> LoggedModel:
    model: LoggedModel = store.create_logged_model(experiment, **fields)
    return model


def message_of(error: pytest.ExceptionInfo[MlflowException]) -> tuple[str, str]:
    return error.value.error_code, error.value.message


def test_a_model_is_made_with_params_and_tags_and_another_server_shows_it(
    stores: tuple[RestStore, RestStore], experiment: str
) -> None:
    model = stores[0].create_logged_model(
        experiment,
        name="forest",
        source_run_id="r" * 32,
        tags=[LoggedModelTag("team", "red")],
        # More than fit into the client's first request: the rest comes by logged-models/{id}/params.
        params=[LoggedModelParameter(f"p{n:03}", str(n)) for n in range(250)],
        model_type="Agent",
    )
    assert model.model_id.startswith("m-")
    assert len(model.model_id) == 34
    assert model.artifact_location == f"mlflow-artifacts:/{experiment}/models/{model.model_id}/artifacts"
    assert (model.name, model.status, model.model_type) == ("forest", LoggedModelStatus.PENDING, "Agent")
    assert model.creation_timestamp == model.last_updated_timestamp > 0
    found = stores[1].get_logged_model(model.model_id)
    assert dict(found) == dict(model)
    assert found.params == {f"p{n:03}": str(n) for n in range(250)}
    assert (found.tags, found.source_run_id, found.metrics) == ({"team": "red"}, "r" * 32, [])


def test_a_model_without_a_name_gets_one(store: RestStore, experiment: str) -> None:
    assert made(store, experiment).name


def test_its_status_is_set_and_with_it_the_time(stores: tuple[RestStore, RestStore], experiment: str) -> None:
    model = made(stores[0], experiment)
    ready = stores[1].finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    assert (ready.status, ready.creation_timestamp) == (LoggedModelStatus.READY, model.creation_timestamp)
    assert ready.last_updated_timestamp >= model.last_updated_timestamp
    failed = stores[0].finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
    assert dict(stores[1].get_logged_model(model.model_id)) == dict(failed)
    assert failed.status is LoggedModelStatus.FAILED


def test_tags_are_set_overwritten_and_removed(stores: tuple[RestStore, RestStore], experiment: str) -> None:
    model_id = made(stores[0], experiment).model_id
    stores[0].set_logged_model_tags(model_id, [LoggedModelTag("a", "1"), LoggedModelTag("x/y z", "2")])
    stores[1].set_logged_model_tags(model_id, [LoggedModelTag("a", "3")])
    assert stores[0].get_logged_model(model_id).tags == {"a": "3", "x/y z": "2"}
    stores[1].delete_logged_model_tag(model_id, "a")
    stores[1].delete_logged_model_tag(model_id, "x/y z")
    assert stores[0].get_logged_model(model_id).tags == {}
    with pytest.raises(MlflowException) as missing:
        stores[0].delete_logged_model_tag(model_id, "a")
    assert message_of(missing) == (
        "RESOURCE_DOES_NOT_EXIST",
        f"RESOURCE_DOES_NOT_EXIST: No tag with key 'a' found for model with ID '{model_id}'.",
    )


def test_a_param_is_repeated_but_not_changed(store: RestStore, experiment: str) -> None:
    model_id = made(store, experiment, params=[LoggedModelParameter("lr", "1")]).model_id
    store.log_logged_model_params(model_id, [LoggedModelParameter("lr", "1"), LoggedModelParameter("b", "")])
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        store.log_logged_model_params(model_id, [LoggedModelParameter("lr", "2"), LoggedModelParameter("c", "3")])
    assert store.get_logged_model(model_id).params == {"lr": "1", "b": ""}


def test_a_deleted_model_is_shown_to_those_alone_who_ask_for_it(
    stores: tuple[RestStore, RestStore], experiment: str
) -> None:
    model_id = made(stores[0], experiment).model_id
    stores[0].delete_logged_model(model_id)
    with pytest.raises(MlflowException) as gone:
        stores[1].get_logged_model(model_id)
    assert message_of(gone)[1] == f"RESOURCE_DOES_NOT_EXIST: Logged model with ID '{model_id}' not found."
    assert stores[1].get_logged_model(model_id, allow_deleted=True).model_id == model_id
    assert stores[0].search_logged_models([experiment]) == []
    # As in MLflow, it may still be written to.
    stores[0].set_logged_model_tags(model_id, [LoggedModelTag("a", "1")])
    assert stores[1].get_logged_model(model_id, allow_deleted=True).tags == {"a": "1"}


@pytest.mark.parametrize("model_id", ["m-0", "no such id", "ü", "x" * 300])
def test_a_model_that_is_not_there_is_said_to_be_so_by_every_call(store: RestStore, model_id: str) -> None:
    says = f"Logged model with ID '{model_id}' not found."
    calls = (
        lambda: store.get_logged_model(model_id),
        lambda: store.finalize_logged_model(model_id, LoggedModelStatus.READY),
        lambda: store.delete_logged_model(model_id),
        lambda: store.log_logged_model_params(model_id, [LoggedModelParameter("a", "1")]),
        lambda: store.set_logged_model_tags(model_id, [LoggedModelTag("a", "1")]),
        lambda: store.delete_logged_model_tag(model_id, "a"),
    )
    for ask in calls:
        with pytest.raises(MlflowException) as missing:
            ask()
        assert message_of(missing) == ("RESOURCE_DOES_NOT_EXIST", f"RESOURCE_DOES_NOT_EXIST: {says}")


def test_what_can_not_be_made_is_refused_in_mlflows_words(call: Caller, experiment: str) -> None:
    for body, message in (
        ({}, "Missing value for required parameter 'experiment_id'."),
        ({"experiment_id": "999999"}, "No Experiment with id=999999 exists"),
        (
            {"experiment_id": experiment, "name": "a/b"},
            "Invalid model name ('a/b') provided. Model name must be a non-empty string and cannot contain the "
            "following "
            "characters: ('/', ':', '.', '%', '\"', \"'\")",
        ),
        (
            {"experiment_id": experiment, "params": [{"key": "a", "value": "1"}] * 2},
            "Duplicate parameter keys have been submitted: ['a'].",
        ),
        ({"experiment_id": experiment, "tags": [{"key": "k" * 251}]}, "'key' exceeds the maximum length of 250"),
        ({"experiment_id": experiment, "name": "n" * 501}, "'name' exceeds the maximum length of 500"),
    ):
        status = 404 if "No Experiment" in message else 400
        assert call.post("logged-models", status, **body)["message"].startswith(message)
    call.post("experiments/delete", experiment_id=experiment)
    refused = call.post("logged-models", 400, experiment_id=experiment)["message"]
    assert refused == f"The experiment {experiment} must be in the 'active' state. Current state is deleted."


def test_what_a_body_lacks_or_has_wrong_is_said(servers: ServerPair, store: RestStore, experiment: str) -> None:
    model_id = made(store, experiment).model_id
    with servers.client() as client:
        for body in ({}, {"status": "READY"}, {"status": 9}):
            answer = client.patch(f"{API}logged-models/{model_id}", json=body)
            assert answer.status_code == 400, answer.text
            assert "'status'" in answer.json()["message"]
        assert client.put(f"{API}logged-models/{model_id}", json={}).status_code == 405
        assert client.get(f"{API}logged-models/{model_id}/nothing").status_code == 404
        assert client.patch(f"{API}logged-models/{model_id}", json={"status": 2}).json()["model"]["info"]["status"] == (
            "LOGGED_MODEL_READY"
        )


def test_what_was_measured_of_a_model_is_there_per_run_and_data_set(
    servers: ServerPair, stores: tuple[RestStore, RestStore], call: Caller, experiment: str
) -> None:
    model_id, other = (made(stores[0], experiment).model_id for _ in range(2))
    one, two = call.run(experiment_id=experiment), call.run(experiment_id=experiment)
    client = MlflowClient(servers.uris[0])
    for step, value in ((1, 0.5), (3, 0.9), (2, 0.1)):
        client.log_metric(one, "acc", value, timestamp=step, step=step, model_id=model_id)
    points = [
        Metric("acc", 0.7, 5, 5, model_id=model_id, dataset_name="iris", dataset_digest="d1"),
        Metric("acc", 0.8, 6, 6, model_id=model_id, dataset_name="iris", dataset_digest="d2"),
        Metric("loss", math.nan, 1, 1, model_id=model_id),
        Metric("acc", 0.3, 9, 9, model_id=other),
        Metric("acc", 0.2, 9, 9),
    ]
    stores[1].log_batch(two, points, [], [])
    stores[0].log_batch(two, points, [], [])
    found = {
        (m.key, m.run_id, m.dataset_name, m.dataset_digest): (repr(m.value), m.step, m.timestamp, m.model_id)
        for m in stores[1].get_logged_model(model_id).metrics or ()
    }
    assert found == {
        ("acc", one, None, None): ("0.9", 3, 3, model_id),
        ("acc", two, "iris", "d1"): ("0.7", 5, 5, model_id),
        ("acc", two, "iris", "d2"): ("0.8", 6, 6, model_id),
        ("loss", two, None, None): ("nan", 1, 1, model_id),
    }
    # A finalized model is answered with what was acknowledged before.
    client.log_metric(one, "late", 1.0, timestamp=1, step=1, model_id=model_id)
    final = stores[1].finalize_logged_model(model_id, LoggedModelStatus.READY)
    assert "late" in {metric.key for metric in final.metrics or ()}


def test_inputs_and_outputs_of_a_run_are_models(
    stores: tuple[RestStore, RestStore], call: Caller, experiment: str
) -> None:
    run_id = call.run(experiment_id=experiment)
    stores[0].log_inputs(run_id, models=[LoggedModelInput("m-in")])
    stores[0].log_outputs(run_id, [LoggedModelOutput("m-1", 0), LoggedModelOutput("m-1", 5)])
    stores[1].log_outputs(run_id, [LoggedModelOutput("m-2", -1), LoggedModelOutput("m-1", 5)])
    for run in (stores[0].get_run(run_id), stores[1].search_runs([experiment], "", 1)[0]):
        made_of = [(output.model_id, output.step) for output in run.outputs.model_outputs]
        assert made_of == [("m-1", 0), ("m-1", 5), ("m-2", -1)]
        assert [model.model_id for model in run.inputs.model_inputs] == ["m-in"]
    for body, status, message in (
        ({"run_id": run_id}, 400, "Missing value for required parameter 'models'."),
        ({"run_id": "nobody", "models": [{"model_id": "m"}]}, 404, "Run with id=nobody not found"),
    ):
        assert call.post("runs/outputs", status, **body)["message"].startswith(message)
    assert call.post("runs/outputs", run_id=run_id, models=[]) == {}
    call.post("runs/delete", run_id=run_id)
    refused = call.post("runs/outputs", 400, run_id=run_id, models=[{"model_id": "m"}])["message"]
    assert refused == f"The run {run_id} must be in the 'active' state. Current state is deleted."


def _zoo(store: RestStore, call: Caller, experiment: str) -> dict[str, str]:
    """Models a to d: ids by name. Metrics: see the tests."""
    ids = {}
    for number, name in enumerate("abcd"):
        params = [LoggedModelParameter("depth", str(number))] if name != "d" else []
        tags = [LoggedModelTag("team", "Red" if number % 2 else "blue")]
        ids[name] = made(store, experiment, name=name, params=params, tags=tags, source_run_id=f"r{number}").model_id
    store.finalize_logged_model(ids["a"], LoggedModelStatus.READY)
    run_id = call.run(experiment_id=experiment)
    points = [
        # a rises, b falls: any of its points may match a filter, the latest one orders.
        *(Metric("acc", step / 10, step, step, model_id=ids["a"]) for step in (1, 5, 9)),
        *(Metric("acc", step / 10, 10 - step, step, model_id=ids["b"]) for step in (2, 5, 8)),
        Metric("acc", 0.4, 1, 1, model_id=ids["c"], dataset_name="iris", dataset_digest="d1"),
        Metric("f1", 0.1, 1, 1, model_id=ids["c"], dataset_name="digits", dataset_digest="d2"),
        Metric("f1", math.nan, 1, 1, model_id=ids["d"]),
    ]
    store.log_batch(run_id, points, [], [])
    return ids


FILTERS = [
    ("", "dcba"),
    ("name = 'a'", "a"),
    ("name != 'a' AND name != \"b\"", "dc"),
    ("attributes.name IN ('a', 'c')", "ca"),
    ("name NOT IN ('a')", "dcb"),
    ("name LIKE 'A'", ""),
    ("name ILIKE 'A'", "a"),
    ("status = 'READY'", "a"),
    ("lifecycle_stage = 'active' AND source_run_id = 'r1'", "b"),
    ("model_type != 'agent'", "dcba"),
    ("model_type = ''", "dcba"),
    ("model_type NOT IN ('agent')", "dcba"),
    ("creation_timestamp > 0 AND creation_time < 5", ""),
    ("params.depth = '1'", "b"),
    ("params.depth = 1", "b"),
    ("params.depth != '1'", "ca"),
    ("params.`depth` IN ('1', '2')", "cb"),
    ("tags.team ilike 'r%'", "db"),
    ("metrics.acc > 0.85", "a"),
    ("metrics.acc >= 0.8", "ba"),
    ("metrics.acc < 0.15", "a"),
    ("metrics.acc <= 0.4", "cba"),
    ("metrics.acc = 0.9", "a"),
    ("metrics.acc = 0.2", "b"),
    ("metrics.acc != 0.4", "ba"),
    ("metrics.acc > 0.3 AND params.depth = '2'", "c"),
    ("metrics.f1 != 0.1", "d"),
    ("metrics.f1 > 0", "c"),
    ("metrics.nothing > 0", ""),
]


@pytest.fixture(scope="module", params=[model_blocks.WIDE, 1], ids=["rows", "blocks"])
def zoo(servers: ServerPair, request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    """An experiment with four models, whose metrics lie in rows, or in blocks as those of wide rows do."""
    store = RestStore(lambda: MlflowHostCreds(servers.uris[0]))
    with pytest.MonkeyPatch.context() as patch, servers.client(0) as one:
        patch.setattr(model_blocks, "WIDE", request.param)
        call = Caller(one)
        experiment = call.experiment()
        ids = _zoo(store, call, experiment)
        assert store.get_logged_model(ids["c"]).metrics, "folded"
        return experiment, ids


@pytest.mark.parametrize(("text", "names"), FILTERS)
def test_a_filter_finds_what_it_says_newest_first(
    store: RestStore, zoo: tuple[str, dict[str, str]], text: str, names: str
) -> None:
    found = store.search_logged_models([zoo[0]], filter_string=text)
    assert sorted(model.name for model in found) == sorted(names)
    times = [model.creation_timestamp for model in found]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("datasets", "text", "names"),
    [
        ([{"dataset_name": "iris"}], "", "c"),
        ([{"dataset_name": "iris", "dataset_digest": "d2"}], "", ""),
        ([{"dataset_name": "iris", "dataset_digest": "d2"}, {"dataset_name": "digits"}], "", "c"),
        ([{"dataset_name": "iris", "dataset_digest": "d1"}], "metrics.acc > 0.1", "c"),
        ([{"dataset_name": "digits"}], "metrics.acc > 0.1", ""),
        ([{"dataset_name": "digits"}], "metrics.acc > 0.1 AND metrics.f1 > 0", ""),
    ],
)
def test_data_sets_say_which_metrics_count(
    store: RestStore, zoo: tuple[str, dict[str, str]], datasets: list[dict[str, str]], text: str, names: str
) -> None:
    found = store.search_logged_models([zoo[0]], filter_string=text, datasets=datasets)
    assert [model.name for model in found] == list(names)


@pytest.mark.parametrize(
    ("order_by", "names"),
    [
        ([{"field_name": "name", "ascending": True}], "abcd"),
        ([{"field_name": "name", "ascending": False}], "dcba"),
        ([{"field_name": "creation_timestamp"}, {"field_name": "model_id"}], "abcd"),
        # The latest by time: 0.9 of a, 0.2 of b, 0.4 of c; d has none.
        ([{"field_name": "metrics.acc"}], "bcad"),
        ([{"field_name": "metrics.acc", "ascending": False}], "acbd"),
        # Only c was measured on iris.
        ([{"field_name": "metrics.acc", "dataset_name": "iris"}, {"field_name": "name"}], "cabd"),
        (
            [
                {"field_name": "metrics.acc", "dataset_name": "iris", "dataset_digest": "other"},
                {"field_name": "name", "ascending": False},
            ],
            "dcba",
        ),
        # NaN comes just before nothing.
        ([{"field_name": "metrics.f1"}, {"field_name": "name"}], "cdab"),
        ([{"field_name": "metrics.f1", "ascending": False}, {"field_name": "name"}], "cdab"),
    ],
)
def test_an_order_is_by_attributes_or_latest_metrics_and_what_has_none_is_last(
    store: RestStore, zoo: tuple[str, dict[str, str]], order_by: list[dict[str, Any]], names: str
) -> None:
    assert [model.name for model in store.search_logged_models([zoo[0]], order_by=order_by)] == list(names)


def test_pages_have_every_model_once_and_tokens_belong_to_their_search(
    stores: tuple[RestStore, RestStore], zoo: tuple[str, dict[str, str]]
) -> None:
    order = [{"field_name": "metrics.acc", "ascending": False}]
    page = stores[0].search_logged_models([zoo[0]], max_results=3, order_by=order)
    rest = stores[1].search_logged_models([zoo[0]], max_results=3, order_by=order, page_token=page.token)
    assert ([model.name for model in (*page, *rest)], rest.token) == (list("acbd"), None)
    with pytest.raises(MlflowException, match="Filter string in the page token does not match"):
        stores[0].search_logged_models([zoo[0]], "name = 'a'", order_by=order, page_token=page.token)


def test_a_found_model_is_the_whole_model(store: RestStore, zoo: tuple[str, dict[str, str]]) -> None:
    for model in store.search_logged_models([zoo[0]]):
        assert repr(sorted(dict(store.get_logged_model(model.model_id)).items(), key=str)) == repr(
            sorted(dict(model).items(), key=str)
        )


def test_a_search_that_can_not_be_read_is_refused_in_mlflows_words(
    call: Caller, zoo: tuple[str, dict[str, str]]
) -> None:
    for body, message in (
        ({}, "Missing value for required parameter 'experiment_ids'."),
        ({"experiment_ids": ["x"]}, "Invalid experiment ID 'x'. Experiment ID must be a valid integer."),
        ({"experiment_ids": [zoo[0]], "filter": "run.x = 'a'"}, "Invalid entity type: 'run'. Expected one of"),
        (
            {"experiment_ids": [zoo[0]], "order_by": [{"field_name": "tags.a"}]},
            "Invalid order by field name: tags.a. Only metrics are supported.",
        ),
        (
            {"experiment_ids": [zoo[0]], "datasets": [{"dataset_digest": "d"}]},
            "`dataset_name` in the `datasets` clause must be specified.",
        ),
        ({"experiment_ids": [zoo[0]], "page_token": "zz"}, "Invalid page token: zz."),
        ({"experiment_ids": [zoo[0]], "max_results": -1}, "Invalid value -1 for parameter 'max_results' supplied."),
    ):
        assert call.post("logged-models/search", 400, **body)["message"].startswith(message)
    assert call.post("logged-models/search", experiment_ids=[]) == {}
    assert call.post("logged-models/search", experiment_ids=["123456789012345678901234567890"]) == {}


def test_files_of_a_model_are_listed_and_got_by_its_id(servers: ServerPair, store: RestStore, experiment: str) -> None:
    model = made(store, experiment)
    root = f"{experiment}/models/{model.model_id}/artifacts"
    with servers.client() as client:
        for path in ("MLmodel", "data/model.pkl"):
            assert client.put(f"/api/2.0/mlflow-artifacts/artifacts/{root}/{path}", content=b"x").status_code == 200
        at = f"{API}logged-models/{model.model_id}/artifacts/directories"
        whole = client.get(at).json()
        assert whole == {
            "root_uri": model.artifact_location,
            "files": [{"path": "MLmodel", "is_dir": False, "file_size": 1}, {"path": "data", "is_dir": True}],
        }
        deeper = client.get(at, params={"artifact_directory_path": "data"}).json()
        assert deeper["files"] == [{"path": "data/model.pkl", "is_dir": False, "file_size": 1}]
        assert client.get(at, params={"artifact_directory_path": "../x"}).json()["message"] == "Invalid path"
        file = f"/ajax-api/2.0/mlflow/logged-models/{model.model_id}/artifacts/files"
        assert client.get(file, params={"artifact_file_path": "data/model.pkl"}).content == b"x"
        refused = client.get(file)
        assert (refused.status_code, refused.json()["error_code"]) == (400, "BAD_REQUEST")
        assert refused.json()["message"] == 'Request must include the "artifact_file_path" query parameter.'
        assert client.get(f"{API}logged-models/nothing/artifacts/directories").status_code == 404
