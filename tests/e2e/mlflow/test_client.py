"""The unmodified MLflow client (mlflow-skinny from PyPI) against servers and a worker as processes."""

from __future__ import annotations

import math
import threading
import time
import warnings
from itertools import chain, count
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.installations.shared import shared_installation, start_together
from tests.support.present import present

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow
    from mlflow import MlflowClient
    from mlflow.data.http_dataset_source import HTTPDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag, ViewType
    from mlflow.exceptions import MlflowException, RestException

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.services.running import Services

LARGEST = 1.7976931348623157e308
_numbers = count(1)

OVER_HTTP = pytest.mark.parametrize("urls", [""], ids=["http"], indirect=True)
"""For what relies on metrics being there when the call returns: the plugin's calls do not wait for the server."""


class Urls(NamedTuple):
    """Two servers of one installation."""

    one: str
    other: str


@pytest.fixture(scope="module", params=["", "runfold+"], ids=["http", "plugin"])
def urls(
    request: pytest.FixtureRequest, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Urls]:
    prefix = str(request.param)
    namespace = f"mlflow_client_{'plugin' if prefix else 'http'}"
    with shared_installation(services, namespace, tmp_path_factory.mktemp(namespace)) as installation:
        _, one, other = start_together(installation, "worker", "server", "server")
        yield Urls(prefix + one.url, prefix + other.url)


@pytest.fixture
def client(urls: Urls) -> MlflowClient:
    return MlflowClient(urls.one)


@pytest.fixture
def name() -> str:
    """Of an experiment that no other test has."""
    return f"experiment {next(_numbers)}"


@pytest.fixture
def experiment(client: MlflowClient, name: str) -> str:
    return str(client.create_experiment(name))


@pytest.fixture
def fluent(urls: Urls, name: str) -> Iterator[str]:
    """`mlflow.…` as scripts use it; gives the id of the experiment that is set."""
    mlflow.set_tracking_uri(urls.one)
    yield mlflow.set_experiment(name).experiment_id
    while mlflow.active_run():
        mlflow.end_run()


def test_the_default_experiment_is_there(client: MlflowClient) -> None:
    default = client.get_experiment("0")
    assert (default.name, default.lifecycle_stage) == ("Default", "active")


def test_an_experiment_is_created_and_found_by_id_and_name(client: MlflowClient, name: str) -> None:
    before = int(time.time() * 1000)
    made = client.create_experiment(name, tags={"team": "vision"})
    found = client.get_experiment(made)
    assert (found.name, found.tags, found.lifecycle_stage) == (name, {"team": "vision"}, "active")
    assert found.artifact_location == f"mlflow-artifacts:/{made}"
    assert before - 5000 < present(found.creation_time) < time.time() * 1000 + 5000
    assert present(client.get_experiment_by_name(name)).experiment_id == made
    assert client.get_experiment_by_name("nothing of this name") is None


def test_an_experiment_keeps_the_artifact_location_it_was_given(client: MlflowClient, name: str) -> None:
    made = client.create_experiment(name, artifact_location="s3://bucket/path")
    assert client.get_experiment(made).artifact_location == "s3://bucket/path"
    run = client.create_run(made)
    assert run.info.artifact_uri == f"s3://bucket/path/{run.info.run_id}/artifacts"


def test_experiments_are_renamed_deleted_and_restored(client: MlflowClient, name: str) -> None:
    made = client.create_experiment(name)
    client.rename_experiment(made, f"{name} renamed")
    assert client.get_experiment(made).name == f"{name} renamed"
    assert client.get_experiment_by_name(name) is None
    client.delete_experiment(made)
    assert client.get_experiment(made).lifecycle_stage == "deleted"
    client.restore_experiment(made)
    assert client.get_experiment(made).lifecycle_stage == "active"


def test_experiment_tags_are_set_changed_and_deleted(client: MlflowClient, experiment: str) -> None:
    client.set_experiment_tag(experiment, "owner", "ada")
    client.set_experiment_tag(experiment, "owner", "grace")
    client.set_experiment_tag(experiment, "number", 7)
    assert client.get_experiment(experiment).tags == {"owner": "grace", "number": "7"}
    client.delete_experiment_tag(experiment, "number")
    assert client.get_experiment(experiment).tags == {"owner": "grace"}


def test_experiments_are_searched_in_pages(client: MlflowClient, name: str) -> None:
    made = [client.create_experiment(f"{name} part {n}", tags={"part": str(n)}) for n in range(3)]
    mine = f"name LIKE '{name} part %'"
    first = client.search_experiments(filter_string=mine, order_by=["name ASC"], max_results=2)
    rest = client.search_experiments(filter_string=mine, order_by=["name ASC"], max_results=2, page_token=first.token)
    assert [e.experiment_id for e in [*first, *rest]] == made
    assert not rest.token
    client.delete_experiment(made[0])
    deleted = client.search_experiments(ViewType.DELETED_ONLY, filter_string=mine)
    assert [e.experiment_id for e in deleted] == made[:1]
    assert len(client.search_experiments(ViewType.ALL, filter_string=mine)) == 3
    tagged = client.search_experiments(filter_string=f"{mine} AND tags.part = '2'")
    assert [e.experiment_id for e in tagged] == made[2:]


# Runs


def test_a_run_from_start_to_end(fluent: str) -> None:
    with mlflow.start_run(run_name="first", tags={"kind": "smoke"}, description="what it is") as run:
        mlflow.log_param("lr", 0.1)
        mlflow.log_params({"depth": 3, "optimizer": "adam"})
        mlflow.log_metric("loss", 0.5)
        mlflow.log_metrics({"loss": 0.25, "accuracy": 0.75}, step=1)
        mlflow.set_tag("stage", "dev")
        assert mlflow.get_run(run.info.run_id).info.status == "RUNNING"
    found = mlflow.get_run(run.info.run_id)
    assert (found.info.status, found.info.run_name, found.info.experiment_id) == ("FINISHED", "first", fluent)
    assert found.info.start_time <= found.info.end_time
    assert found.data.params == {"lr": "0.1", "depth": "3", "optimizer": "adam"}
    assert found.data.metrics == {"loss": 0.25, "accuracy": 0.75}
    assert found.data.tags["kind"] == "smoke"
    assert found.data.tags["stage"] == "dev"
    assert found.data.tags["mlflow.runName"] == "first"
    assert found.data.tags["mlflow.note.content"] == "what it is"


def test_a_run_without_a_name_is_given_one(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment)
    assert len(run.info.run_name.split("-")) == 3
    assert run.data.tags["mlflow.runName"] == run.info.run_name


def test_an_exception_fails_the_run(fluent: str) -> None:
    with pytest.raises(ZeroDivisionError), mlflow.start_run() as run:
        mlflow.log_metric("x", 1 / 0)
    assert mlflow.get_run(run.info.run_id).info.status == "FAILED"


def test_nested_runs_know_their_parent(fluent: str) -> None:
    with mlflow.start_run() as parent:
        for _ in range(2):
            with mlflow.start_run(nested=True) as child:
                mlflow.log_metric("loss", 0.1)
    assert present(mlflow.get_parent_run(child.info.run_id)).info.run_id == parent.info.run_id
    children = mlflow.search_runs([fluent], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", output_format="list")
    assert len(children) == 2


def test_a_run_is_taken_up_again_by_its_id(fluent: str) -> None:
    with mlflow.start_run() as run:
        mlflow.log_param("lr", 1)
    with mlflow.start_run(run_id=run.info.run_id):
        assert mlflow.get_run(run.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("late", 2.0)
    found = mlflow.get_run(run.info.run_id)
    assert (found.info.status, found.data.metrics, found.data.params) == ("FINISHED", {"late": 2.0}, {"lr": "1"})


def test_the_latest_metric_is_that_of_the_largest_step(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    for step, value in ((10, 1.0), (-3, 2.0), (7, 3.0)):
        client.log_metric(run, "m", value, timestamp=1000 + step, step=step)
    assert client.get_run(run).data.metrics == {"m": 1.0}
    assert [p.step for p in client.get_metric_history(run, "m")] == [-3, 7, 10]


def test_values_that_are_no_numbers_come_back_as_mlflow_stores_them(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    for key, value in (("nan", math.nan), ("up", math.inf), ("down", -math.inf)):
        client.log_metric(run, key, value)
    metrics = client.get_run(run).data.metrics
    assert math.isnan(metrics["nan"])
    assert (metrics["up"], metrics["down"]) == (LARGEST, -LARGEST)
    assert math.isnan(client.get_metric_history(run, "nan")[0].value)


def test_a_point_sent_again_is_kept_once(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    for _ in range(3):
        client.log_metric(run, "m", 0.5, timestamp=1234, step=1)
    assert [(p.timestamp, p.step, p.value) for p in client.get_metric_history(run, "m")] == [(1234, 1, 0.5)]


def test_a_batch_of_everything(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    client.log_batch(
        run,
        metrics=[Metric("loss", 1 / (n + 1), 1000 + n, n) for n in range(900)],
        params=[Param(f"p{n}", str(n)) for n in range(50)],
        tags=[RunTag(f"t{n}", "x" * n) for n in range(50)],
    )
    found = client.get_run(run)
    assert found.data.params == {f"p{n}": str(n) for n in range(50)}
    assert {k: v for k, v in found.data.tags.items() if not k.startswith("mlflow.")} == {
        f"t{n}": "x" * n for n in range(50)
    }
    history = client.get_metric_history(run, "loss")
    assert [(p.step, p.timestamp, p.value) for p in history] == [(n, 1000 + n, 1 / (n + 1)) for n in range(900)]


def test_more_of_a_kind_than_a_request_may_hold(fluent: str) -> None:
    with mlflow.start_run() as run:
        mlflow.log_params({f"p{n}": n for n in range(250)})
        mlflow.set_tags({f"t{n}": n for n in range(250)})
        mlflow.log_metrics({f"m{n}": float(n) for n in range(1500)})
    data = mlflow.get_run(run.info.run_id).data
    assert data.params == {f"p{n}": str(n) for n in range(250)}
    assert data.metrics == {f"m{n}": float(n) for n in range(1500)}
    assert {f"t{n}": str(n) for n in range(250)}.items() <= data.tags.items()


def test_calls_that_do_not_wait(fluent: str) -> None:
    with mlflow.start_run() as run:
        for step in range(200):
            mlflow.log_metric("loss", float(step), step=step, synchronous=False)
        waiting = [
            mlflow.log_params({"lr": 0.1}, synchronous=False),
            mlflow.set_tag("stage", "dev", synchronous=False),
        ]
        for each in waiting:
            present(each).wait()
    mlflow.flush_async_logging()
    data = mlflow.get_run(run.info.run_id).data
    assert (data.params, data.tags["stage"], data.metrics) == ({"lr": "0.1"}, "dev", {"loss": 199.0})
    assert len(MlflowClient().get_metric_history(run.info.run_id, "loss")) == 200


def test_a_process_that_never_waits(fluent: str) -> None:
    mlflow.config.enable_async_logging()
    try:
        with mlflow.start_run() as run:
            for step in range(50):
                mlflow.log_metric("loss", float(step), step=step)
            mlflow.log_param("lr", 0.1)
        mlflow.flush_async_logging()
    finally:
        mlflow.config.enable_async_logging(False)
    data = mlflow.get_run(run.info.run_id).data
    assert (data.params, data.metrics) == ({"lr": "0.1"}, {"loss": 49.0})


def test_a_history_longer_than_a_page(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    for start in range(0, 30_000, 1000):
        client.log_batch(run, metrics=[Metric("m", float(n), n, n) for n in range(start, start + 1000)])
    history = client.get_metric_history(run, "m")
    assert [p.value for p in history] == [float(n) for n in range(30_000)]


def test_status_and_name_of_a_run_are_changed(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment, run_name="before").info.run_id
    client.update_run(run, status="SCHEDULED", name="after")
    found = client.get_run(run)
    assert (found.info.status, found.info.run_name) == ("SCHEDULED", "after")
    assert found.data.tags["mlflow.runName"] == "after"
    client.set_tag(run, "mlflow.runName", "by tag")
    assert client.get_run(run).info.run_name == "by tag"
    client.set_terminated(run, RunStatus.to_string(RunStatus.KILLED), end_time=1_900_000_000_000)
    found = client.get_run(run)
    assert (found.info.status, found.info.end_time) == ("KILLED", 1_900_000_000_000)


def test_tags_of_a_run_are_changed_and_deleted(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment, tags={"a": "1", "b": "2"}).info.run_id
    client.set_tag(run, "a", "3")
    client.delete_tag(run, "b")
    tags = client.get_run(run).data.tags
    assert tags["a"] == "3"
    assert "b" not in tags


@OVER_HTTP
def test_a_deleted_run_is_hidden_takes_nothing_and_can_be_restored(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    client.log_metric(run, "m", 1.0)
    client.delete_run(run)
    assert client.get_run(run).info.lifecycle_stage == "deleted"
    assert client.search_runs([experiment]) == []
    assert len(client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)) == 1
    with pytest.raises(MlflowException) as refused:
        client.log_metric(run, "m", 2.0)
    assert f"The run {run} must be in the 'active' state. Current state is deleted." in str(refused.value)
    client.restore_run(run)
    assert [r.data.metrics for r in client.search_runs([experiment])] == [{"m": 1.0}]


def test_runs_are_searched_sorted_and_paged(client: MlflowClient, experiment: str) -> None:
    for n in range(12):
        run = client.create_run(experiment, run_name=f"run-{n:02}", tags={"parity": "odd" if n % 2 else "even"})
        client.log_batch(
            run.info.run_id, metrics=[Metric("loss", n / 10, 1, 0)], params=[Param("model", "cnn" if n < 6 else "mlp")]
        )

    def names(text: str, order: str = "attributes.run_name ASC") -> list[str]:
        return [r.info.run_name for r in client.search_runs([experiment], text, order_by=[order])]

    assert names("metrics.loss < 0.3") == ["run-00", "run-01", "run-02"]
    assert names("metrics.loss >= 1.0 AND tags.parity = 'odd'") == ["run-11"]
    assert names("params.model = 'mlp' AND params.model != 'cnn'", "metrics.loss DESC")[:2] == ["run-11", "run-10"]
    assert names("params.model LIKE 'c%' AND tags.parity ILIKE 'EV%'") == ["run-00", "run-02", "run-04"]
    ids = {r.info.run_name: r.info.run_id for r in client.search_runs([experiment])}
    assert names(f"attributes.run_id IN ('{ids['run-03']}', '{ids['run-04']}')") == ["run-03", "run-04"]
    assert names("params.absent IS NULL AND metrics.loss = 0.5") == ["run-05"]
    assert names("params.absent = 'x'") == []
    assert names("status = 'FINISHED'") == []

    pages, token = [], None
    while True:
        page = client.search_runs([experiment], max_results=5, order_by=["metrics.loss DESC"], page_token=token)
        pages.append([r.info.run_name for r in page])
        token = page.token
        if not token:
            break
    assert [len(page) for page in pages] == [5, 5, 2]
    assert list(chain.from_iterable(pages)) == [f"run-{n:02}" for n in reversed(range(12))]


def test_runs_of_several_experiments_are_searched_at_once(client: MlflowClient, name: str) -> None:
    made = [client.create_experiment(f"{name} {n}") for n in range(3)]
    for each in made:
        client.create_run(each)
    found = client.search_runs(made[:2])
    assert {run.info.experiment_id for run in found} == set(made[:2])


def test_data_sets_are_inputs_of_a_run(fluent: str) -> None:
    source = HTTPDatasetSource("https://example.com/digits.csv")
    with mlflow.start_run() as run:
        mlflow.log_input(MetaDataset(source, name="digits"), context="train")  # type: ignore[abstract]
    (found,) = present(mlflow.get_run(run.info.run_id).inputs).dataset_inputs
    assert found.dataset.name == "digits"
    assert "digits.csv" in found.dataset.source
    assert {tag.key: tag.value for tag in found.tags} == {"mlflow.data.context": "train"}
    by_context = mlflow.search_runs([fluent], "datasets.context = 'train'", output_format="list")
    assert [r.info.run_id for r in by_context] == [run.info.run_id]
    assert mlflow.search_runs([fluent], "datasets.name = 'other'", output_format="list") == []


def test_a_data_set_logged_twice_is_one_input(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    dataset = Dataset("d", "abc", "local", "{}", "{}", "{}")
    for _ in range(2):
        client.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "eval")])])
    assert [i.dataset.digest for i in present(client.get_run(run).inputs).dataset_inputs] == ["abc"]


# Errors, as MLflow words them


def test_a_changed_param_is_refused(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    client.log_param(run, "lr", 0.1)
    client.log_param(run, "lr", 0.1)
    with pytest.raises(MlflowException) as refused:
        client.log_param(run, "lr", 0.2)
    said = str(refused.value)
    assert "Changing param values is not allowed. Param with key='lr' was already logged with value='0.1'" in said
    assert f"for run ID='{run}'. Attempted logging new value '0.2'." in said
    assert client.get_run(run).data.params == {"lr": "0.1"}


def test_a_batch_with_one_changed_param_changes_no_param(client: MlflowClient, experiment: str) -> None:
    run = client.create_run(experiment).info.run_id
    client.log_param(run, "lr", 0.1)
    with pytest.raises(RestException, match="Changing param values is not allowed"):
        client.log_batch(run, params=[Param("depth", "3"), Param("lr", "0.2")])
    assert client.get_run(run).data.params == {"lr": "0.1"}


def test_a_run_that_is_not_there(client: MlflowClient) -> None:
    with pytest.raises(RestException) as refused:
        client.get_run("0" * 32)
    assert str(refused.value) == f"RESOURCE_DOES_NOT_EXIST: Run with id={'0' * 32} not found"
    with pytest.raises(RestException, match=f"Run with id={'0' * 32} not found"):
        client.log_metric("0" * 32, "m", 1.0)


def test_an_experiment_that_is_not_there(client: MlflowClient) -> None:
    with pytest.raises(RestException) as refused:
        client.get_experiment("987654321")
    assert str(refused.value) == "RESOURCE_DOES_NOT_EXIST: No Experiment with id=987654321 exists"
    with pytest.raises(RestException, match="No Experiment with id=987654321 exists"):
        client.create_run("987654321")


def test_the_name_of_another_experiment(client: MlflowClient, name: str) -> None:
    made = client.create_experiment(name)
    with pytest.raises(RestException) as refused:
        client.create_experiment(name)
    assert str(refused.value) == f"RESOURCE_ALREADY_EXISTS: Experiment(name={name}) already exists."
    client.delete_experiment(made)
    with pytest.raises(RestException, match="RESOURCE_ALREADY_EXISTS"):
        client.create_experiment(name)
    mlflow.set_tracking_uri(client.tracking_uri)
    with pytest.raises(MlflowException, match="Cannot set a deleted experiment"):
        mlflow.set_experiment(name)


def test_a_filter_that_is_none(client: MlflowClient, experiment: str) -> None:
    with pytest.raises(RestException, match=r"INVALID_PARAMETER_VALUE: Invalid clause\(s\) in filter string"):
        client.search_runs([experiment], "metrics.a > 1 OR metrics.b > 1")


# Two servers


@OVER_HTTP
def test_what_one_server_acknowledged_the_other_shows(urls: Urls, name: str) -> None:
    """Read your writes, whichever server is asked, with no pause between."""
    one, other = MlflowClient(urls.one), MlflowClient(urls.other)
    made = one.create_experiment(name)
    assert present(other.get_experiment_by_name(name)).experiment_id == made
    run = other.create_run(made).info.run_id
    for step in range(20):
        writer, reader = (one, other) if step % 2 else (other, one)
        writer.log_metric(run, "m", float(step), step=step)
        assert reader.get_run(run).data.metrics == {"m": float(step)}
        writer.set_tag(run, "step", step)
        assert reader.search_runs([made], f"tags.step = '{step}'")[0].info.run_id == run
        writer.log_param(run, f"p{step}", step)
        assert len(reader.get_metric_history(run, "m")) == step + 1
    assert one.get_run(run).data.params == {f"p{n}": str(n) for n in range(20)}


def test_of_two_who_create_one_name_at_once_one_is_told(urls: Urls, name: str) -> None:
    made, told = [], []
    gate = threading.Barrier(2)

    def create(url: str) -> None:
        client = MlflowClient(url)
        gate.wait()
        try:
            made.append(client.create_experiment(name))
        except RestException as error:
            told.append(error.error_code)

    threads = [threading.Thread(target=create, args=(url,)) for url in urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == ["RESOURCE_ALREADY_EXISTS"]
    assert present(MlflowClient(urls.one).get_experiment_by_name(name)).experiment_id == made[0]


@OVER_HTTP
def test_two_clients_log_to_one_run_through_two_servers(urls: Urls, name: str) -> None:
    client = MlflowClient(urls.one)
    run = client.create_run(client.create_experiment(name)).info.run_id

    def log(url: str, key: str) -> None:
        mine = MlflowClient(url)
        for step in range(100):
            mine.log_metric(run, key, float(step), step=step)
            mine.log_metric(run, "shared", float(step), timestamp=step, step=step)

    threads = [threading.Thread(target=log, args=(url, f"m{n}")) for n, url in enumerate(urls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key in ("m0", "m1", "shared"):
        assert sorted(p.step for p in client.get_metric_history(run, key)) == list(range(100))
