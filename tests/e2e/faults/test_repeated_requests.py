"""A client repeats what was not answered: the server died in the middle, or only its answer was lost.

All is there once.
"""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from runfold_schemas.positions.topics import Topic
from tests.support.installations.installation import Installation, Program
from tests.support.installations.stopping import stop_process
from tests.support.installations.waiting import until

API = "/api/2.0/mlflow/"
Json = dict[str, Any]
METRICS = [{"key": "m", "value": n / 4, "timestamp": 10 + n, "step": n} for n in range(50)]
PARAMS = [{"key": f"p{n}", "value": str(n)} for n in range(5)]
TAGS = [{"key": f"t{n}", "value": str(n)} for n in range(5)]


@pytest.mark.parametrize(
    ("first", "batch"),
    [
        # Params are appended and their outcome is waited for: no point is in the log yet.
        ({Topic.RUNS: 1, Topic.METRICS: 0}, {"params": PARAMS, "metrics": METRICS, "tags": TAGS}),
        # Points and tags are in the log, the tags' outcome is waited for.
        ({Topic.RUNS: 1, Topic.METRICS: 1}, {"metrics": METRICS, "tags": TAGS}),
    ],
    ids=["between params and metrics", "between metrics and the answer"],
)
async def test_a_server_that_dies_in_a_batch_acknowledges_nothing_and_a_repetition_makes_it_whole_once(
    installation: Installation, first: dict[Topic, int], batch: dict[str, list[Json]]
) -> None:
    worker, server, other = (installation.program(name) for name in ("worker", "server", "server"))
    for program in (worker, server, other):
        await asyncio.to_thread(program.wait_ready)
    run_id = await _new_run(server)
    await installation.settled()
    before = await _ends(installation)
    body = {"run_id": run_id, **batch}
    # A worker that stands still folds nothing, so that the server can get no further than its wait for an outcome.
    with _stopped(worker):
        request = asyncio.create_task(_post(server, "runs/log-batch", body))
        want = {topic: before[topic] + more for topic, more in first.items()}
        await until(lambda: _are_ends(installation, want), f"the log has {first}")
        await asyncio.to_thread(server.kill)
        [answer] = await asyncio.gather(request, return_exceptions=True)
        assert isinstance(answer, httpx2.TransportError), f"it was answered: {answer}"
        assert await _ends(installation) == before | want
    server.start()
    await asyncio.to_thread(server.wait_ready)
    for again in (other, server):
        assert (await _post(again, "runs/log-batch", body)).status_code == 200
        for reader in (server, other):
            await _assert_whole(reader, run_id, batch)
    assert (await _ends(installation))[Topic.METRICS] >= before[Topic.METRICS] + 2, "the points were not repeated"


@pytest.mark.parametrize("path", ["runs/log-metric", "runs/log-batch"])
async def test_points_whose_acknowledgement_was_lost_count_once_when_they_are_repeated(
    installation: Installation, path: str
) -> None:
    worker, *servers = (installation.program(name) for name in ("worker", "server", "server"))
    for program in (worker, *servers):
        await asyncio.to_thread(program.wait_ready)
    run_id = await _new_run(servers[0])
    batch: dict[str, list[Json]] = {"metrics": METRICS, "params": PARAMS, "tags": TAGS}
    bodies = [batch] if path.endswith("batch") else METRICS[:5]
    if path.endswith("metric"):
        batch = {"metrics": METRICS[:5]}
    before = (await _ends(installation))[Topic.METRICS]
    for body in bodies:
        await asyncio.to_thread(_send_and_hang_up, servers[0], path, {"run_id": run_id, **body})
    await until(lambda: _are_ends(installation, {Topic.METRICS: before + len(bodies)}), "they are in the log")
    # By one server and the other, one after the other and at once.
    for body in bodies:
        assert (await _post(servers[1], path, {"run_id": run_id, **body})).status_code == 200
    answers = await asyncio.gather(
        *(_post(server, path, {"run_id": run_id, **body}) for body in bodies for server in servers * 2)
    )
    assert {answer.status_code for answer in answers} == {200}
    assert (await _ends(installation))[Topic.METRICS] >= before + 6 * len(bodies), "nothing was repeated"
    for server in servers:
        await _assert_whole(server, run_id, batch)


async def _assert_whole(server: Program, run_id: str, batch: dict[str, list[Json]]) -> None:
    """The run has what the batch holds, each of it once, by every way of reading."""
    async with httpx2.AsyncClient(base_url=server.url + API, timeout=30) as http:
        run = (await http.get("runs/get", params={"run_id": run_id})).json()["run"]
        assert run["data"].get("params", []) == batch.get("params", [])
        tags = [tag for tag in run["data"]["tags"] if not tag["key"].startswith("mlflow.")]
        assert tags == batch.get("tags", [])
        [latest] = run["data"]["metrics"]
        assert {key: latest[key] for key in METRICS[0]} == batch["metrics"][-1]
        for path, names in (
            ("metrics/get-history", {"run_id": run_id}),
            ("metrics/get-history-bulk", {"run_id": run_id}),
            ("metrics/get-history-bulk-interval", {"run_ids": run_id, "max_results": "2500"}),
        ):
            found = (await http.get(path, params={**names, "metric_key": "m"})).json()["metrics"]
            assert [{key: one[key] for key in METRICS[0]} for one in found] == batch["metrics"], path


async def _new_run(server: Program) -> str:
    answer = await _post(server, "runs/create", {"experiment_id": "0", "start_time": 1})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["run"]["info"]["run_id"])


async def _post(server: Program, path: str, body: Json) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=server.url, timeout=30) as http:
        return await http.post(API + path, json=body)


async def _ends(installation: Installation) -> dict[Topic, int]:
    """Records in each topic."""
    found: dict[Topic, int] = {}
    for where, end in (await installation.ends()).items():
        found[where.topic] = found.get(where.topic, 0) + end
    return found


async def _are_ends(installation: Installation, want: dict[Topic, int]) -> bool:
    found = await _ends(installation)
    return {topic: found[topic] for topic in want} == want


def _send_and_hang_up(server: Program, path: str, body: Json) -> None:
    """A whole request from a client that hears no answer: its connection is reset as soon as all is sent."""
    data, place = json.dumps(body).encode(), urlsplit(server.url)
    head = (
        f"POST {API}{path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    with socket.create_connection((str(place.hostname), place.port or 0)) as connection:
        connection.sendall(head.encode() + data)


@contextmanager
def _stopped(program: Program) -> Iterator[None]:
    assert program.process is not None
    stop_process(program.process.pid)
    try:
        yield
    finally:
        os.kill(program.process.pid, signal.SIGCONT)
