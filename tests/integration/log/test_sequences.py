"""Sequences and arrival: late creation, repeats, holes, disorder, two API servers."""

import random

import httpx2

from runfold_schemas.codec.batch import CONTENT_TYPE, encode_batch
from runfold_schemas.events.frames import Point, from_points
from runfold_schemas.events.metrics import MetricsLogged
from runfold_schemas.events.runs import ParamsLogged, RunCreated
from runfold_schemas.positions.topics import Topic
from tests.support.installations.in_process import append, fetch, folded, outgoing, sender, working
from tests.support.installations.installation import Installation, difference


def _points(run_id: str, step: int, count: int = 1) -> MetricsLogged:
    return MetricsLogged(run_id, from_points([Point("loss", float(step + n), step + n, 1000) for n in range(count)]))


def _created(run_id: str) -> RunCreated:
    return RunCreated(run_id=run_id, experiment_id=0, name=run_id, start_ms=1, artifact_uri="u")


async def _history(client: httpx2.AsyncClient, run_id: str) -> list[float]:
    answer = await client.get("/api/2.0/mlflow/metrics/get-history", params={"run_id": run_id, "metric_key": "loss"})
    return [point["value"] for point in answer.json().get("metrics", [])]


async def test_metrics_of_a_run_are_invisible_until_its_creation_arrives(installation: Installation) -> None:
    installation.worker()
    server = installation.server()
    async with sender(installation) as raw, httpx2.AsyncClient(base_url=server.url, timeout=30) as client:
        positions = await append(installation, raw, [outgoing(Topic.METRICS, _points("late", 0, 5))])
        await folded(installation, positions)
        missing = await client.get("/api/2.0/mlflow/runs/get", params={"run_id": "late"})
        assert (missing.status_code, missing.json()["message"]) == (404, "Run with id=late not found")
        assert await _history(client, "late") == []
        await append(installation, raw, [outgoing(Topic.RUNS, _created("late"))])
        run = (await client.get("/api/2.0/mlflow/runs/get", params={"run_id": "late"})).json()["run"]
        assert [(m["key"], m["value"], m["step"]) for m in run["data"]["metrics"]] == [("loss", 4, 4)]
        assert await _history(client, "late") == [0, 1, 2, 3, 4]


async def test_disorder_repeats_and_holes_lose_nothing_and_add_nothing(installation: Installation) -> None:
    rng = random.Random(7)
    events = [outgoing(Topic.METRICS, _points("r", n), writer=f"w{n % 2}", sequence=n // 2) for n in range(60)]
    kept = [event for n, event in enumerate(events) if n not in (20, 22, 41)]
    sent = kept + rng.sample(kept, 25)
    rng.shuffle(sent)
    async with sender(installation) as raw, working(installation):
        positions = await append(installation, raw, [outgoing(Topic.RUNS, _created("r")), *sent])
        await folded(installation, positions)
        bounds = dict(await fetch(installation, "SELECT writer, bounds FROM sequence WHERE projection = 'metrics'"))
        assert bounds == {"w0": [0, 10, 12, 30], "w1": [0, 20, 21, 30]}
        late = [events[22], events[20], events[41], events[20]]
        positions += await append(installation, raw, late)
        await folded(installation, positions)
        bounds = dict(await fetch(installation, "SELECT writer, bounds FROM sequence WHERE projection = 'metrics'"))
        assert bounds == {"w0": [0, 30], "w1": [0, 30]}
        points = await fetch(installation, "SELECT sum(points) FROM segment")
        assert points == [(60,)]
        seen: set[int] = set()
        again = []
        for event, position in zip([*sent, *late], positions[1:], strict=True):
            if id(event) in seen:
                again.append(position.offset)
            seen.add(id(event))
        noted = await fetch(installation, "SELECT log_offset FROM metric_repeat ORDER BY log_offset")
        assert [offset for (offset,) in noted] == again
        rows = await installation.rows()
        assert [row[4] for table, row in rows_of(rows) if table == "point"] == list(range(60))
        assert difference(rows, await installation.replayed()) == ""


def rows_of(rows: object) -> list[tuple[str, tuple[object, ...]]]:
    """Canonical rows of metrics."""
    return next(found for projection, found in rows.items() if projection.value == "metrics")  # type: ignore[attr-defined]


async def test_a_batch_sent_again_through_another_server_adds_nothing(installation: Installation) -> None:
    installation.worker()
    servers = [installation.server(), installation.server()]
    batch = [
        outgoing(Topic.RUNS, _created("twice"), writer="sdk", sequence=0),
        outgoing(Topic.RUNS, ParamsLogged(run_id="twice", params={"a": "1"}), writer="sdk", sequence=1),
        outgoing(Topic.RUNS, ParamsLogged(run_id="twice", params={"a": "2"}), writer="sdk", sequence=2),
        *(outgoing(Topic.METRICS, _points("twice", n), writer="sdk", sequence=n) for n in range(10)),
    ]
    body = encode_batch(batch)
    outcomes = []
    async with httpx2.AsyncClient(timeout=30) as client:
        for server in servers * 2:
            answer = await client.post(
                f"{server.url}/api/runfold/v1/events?wait=outcome", content=body, headers={"content-type": CONTENT_TYPE}
            )
            assert answer.status_code == 200, answer.text
            outcomes.append([result["outcome"] for result in answer.json()["results"]])
        assert outcomes == [["accepted", "accepted", "rejected", *["accepted"] * 10]] * 4
        history = await client.get(
            f"{servers[0].url}/api/2.0/mlflow/metrics/get-history", params={"run_id": "twice", "metric_key": "loss"}
        )
        assert [point["step"] for point in history.json()["metrics"]] == list(range(10))
    assert await fetch(installation, "SELECT sum(points) FROM segment") == [(10,)]
    assert await fetch(installation, "SELECT count(*) FROM rejection") == [(1,)]
    assert difference(await installation.rows(), await installation.replayed()) == ""


async def test_two_servers_that_write_one_run_lose_nothing(installation: Installation) -> None:
    installation.worker()
    servers = [installation.server(), installation.server()]
    async with httpx2.AsyncClient(timeout=30) as client:
        created = await client.post(
            f"{servers[0].url}/api/2.0/mlflow/runs/create", json={"experiment_id": "0", "start_time": 1}
        )
        run_id = created.json()["run"]["info"]["run_id"]
        for n in range(60):
            logged = await client.post(
                f"{servers[n % 2].url}/api/2.0/mlflow/runs/log-metric",
                json={"run_id": run_id, "key": "loss", "value": n, "timestamp": n, "step": n},
            )
            assert logged.status_code == 200
        for server in servers:
            answer = await client.get(
                f"{server.url}/api/2.0/mlflow/metrics/get-history", params={"run_id": run_id, "metric_key": "loss"}
            )
            assert [point["value"] for point in answer.json()["metrics"]] == list(range(60))
