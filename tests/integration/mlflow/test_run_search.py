"""Searches through two servers that cache columns and encoded runs are never stale, whichever server writes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import httpx2
import pytest

from tests.support.installations.server_pair import ServerPair, server_pair
from tests.support.services.running import Services

API = "/api/2.0/mlflow"


@pytest.fixture(scope="module")
def two(services: Services) -> Iterator[ServerPair]:
    with server_pair(services) as made:
        yield made


def call(client: httpx2.Client, path: str, **body: Any) -> Any:
    answer = client.post(f"{API}/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def search(client: httpx2.Client, experiments: list[str], **words: Any) -> list[Any]:
    body = {"experiment_ids": experiments, "run_view_type": "ALL", **words}
    found: list[Any] = call(client, "runs/search", **body).get("runs", [])
    return found


def new_experiment(client: httpx2.Client, name: str) -> str:
    return str(call(client, "experiments/create", name=name)["experiment_id"])


def new_run(client: httpx2.Client, experiment: str, start: int) -> str:
    run_id: str = call(client, "runs/create", experiment_id=experiment, start_time=start)["run"]["info"]["run_id"]
    return run_id


def write(client: httpx2.Client, run_id: str, rng: Random, number: int) -> tuple[str, str]:
    """One acknowledged write, and a filter that finds the run by it."""
    kind = rng.randint(0, 4)
    if kind == 0:
        call(client, "runs/log-metric", run_id=run_id, key="m", value=number, timestamp=number, step=number)
        return run_id, f"metrics.m = {number}"
    if kind == 1:
        call(client, "runs/log-parameter", run_id=run_id, key=f"p{number % 5}{run_id[-4:]}", value="v")
        return run_id, f"params.p{number % 5}{run_id[-4:]} = 'v'"
    if kind == 2:
        call(client, "runs/set-tag", run_id=run_id, key="t", value=f"v{number}")
        return run_id, f"tags.t LIKE 'v{number}'"
    if kind == 3:
        call(client, "runs/update", run_id=run_id, status="FINISHED", end_time=number)
        return run_id, f"attributes.end_time = {number}"
    data = {"name": f"d{number}", "digest": "x", "source_type": "s", "source": "s"}
    call(client, "runs/log-inputs", run_id=run_id, datasets=[{"tags": [], "dataset": data}])
    return run_id, f"datasets.name = 'd{number}'"


def test_a_search_sees_every_acknowledged_write_whichever_server_took_it(two: ServerPair) -> None:
    rng = Random(1)
    with two.client(0) as one, two.client(1) as other:
        experiment = new_experiment(one, "interleaved")
        runs = [new_run(one, experiment, n) for n in range(4)]
        for number in range(1, 150):
            if number % 20 == 0:
                runs.append(new_run(rng.choice([one, other]), experiment, rng.randint(0, 5)))
            writer, reader = rng.choice([(one, other), (other, one), (one, one)])
            run_id, found_by = write(writer, rng.choice(runs), rng, number)
            found = search(reader, [experiment], filter=found_by, order_by=["metrics.m DESC"])
            assert [run["info"]["run_id"] for run in found] == [run_id], found_by
            whole = reader.get(f"{API}/runs/get", params={"run_id": run_id}).json()["run"]
            assert found == [whole]


def test_a_run_that_was_written_before_shows_its_stage_and_its_experiments(two: ServerPair) -> None:
    with two.client(0) as one, two.client(1) as other:
        experiment = new_experiment(one, "stages")
        run_id = new_run(one, experiment, 1)

        def stages() -> list[str]:
            return [run["info"]["lifecycle_stage"] for run in search(one, [experiment], filter="status != 'x'")]

        assert stages() == ["active"]
        call(other, "runs/delete", run_id=run_id)
        assert stages() == ["deleted"]
        call(other, "runs/restore", run_id=run_id)
        assert stages() == ["active"]
        call(other, "experiments/delete", experiment_id=experiment)
        assert stages() == ["deleted"]
        call(other, "experiments/restore", experiment_id=experiment)
        assert stages() == ["active"]


def test_pages_hold_each_run_once(two: ServerPair) -> None:
    with two.client(0) as one, two.client(1) as other:
        experiment = new_experiment(one, "pages")
        runs = [new_run(one, experiment, n % 3) for n in range(23)]
        for n, run_id in enumerate(runs):
            call(one, "runs/log-metric", run_id=run_id, key="m", value=n % 4, timestamp=1, step=1)
        seen: list[str] = []
        token = None
        while True:
            words = {"experiment_ids": [experiment], "max_results": 5, "order_by": ["metrics.m"], "page_token": token}
            page = call(other if len(seen) % 2 else one, "runs/search", **words)
            seen += [run["info"]["run_id"] for run in page["runs"]]
            token = page.get("next_page_token")
            if token is None:
                break
        assert len(seen) == len(runs)
        assert set(seen) == set(runs)


def test_many_searches_at_once_while_runs_are_written_are_all_right(two: ServerPair) -> None:
    """Each search must see what was acknowledged before it began: the counter of its own writer."""
    with two.client(0) as one:
        experiment = new_experiment(one, "crowd")

        def work(number: int) -> int:
            mine = 0
            with two.client(number % 2) as client, two.client((number + 1) % 2) as reader:
                run_id = new_run(client, experiment, number)
                for step in range(1, 16):
                    call(client, "runs/set-tag", run_id=run_id, key="n", value=f"{number}-{step}")
                    words = {"filter": f"tags.n = '{number}-{step}'", "order_by": ["tags.n"]}
                    found = search(reader, [experiment], **words)
                    assert [run["info"]["run_id"] for run in found] == [run_id]
                    assert {"key": "n", "value": f"{number}-{step}"} in found[0]["data"]["tags"]
                    mine += 1
            return mine

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(work, range(8))) == 8 * 15


@pytest.mark.parametrize("bad", ["metrics.a >", "nonsense", "params.a = 1"])
def test_a_bad_filter_is_a_400_also_where_columns_are_kept(two: ServerPair, bad: str) -> None:
    with two.client(0) as one:
        for experiments in (["0"], []):
            answer = one.post(f"{API}/runs/search", json={"experiment_ids": experiments, "filter": bad})
            assert answer.status_code == 400
            assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"
