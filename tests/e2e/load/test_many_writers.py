"""Thirty-two clients at once, on one run and on a run each: nobody waits for ever, nothing fails, nothing is lost or
there twice.
"""

import asyncio
import collections
import time
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from tests.support.installations.installation import Installation
from tests.support.load.load import soak_factor

API = "/api/2.0/mlflow/"
CLIENTS = 32
ROUNDS = 6 * soak_factor(40)
Json = dict[str, Any]
Point = tuple[str, int, int, float]
"""Key, time, step, value."""


@dataclass
class _Book:
    """What one client was acknowledged."""

    run_id: str
    points: list[Point] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@pytest.mark.soak
@pytest.mark.timeout(120 * soak_factor(40))
@pytest.mark.parametrize("runs", [1, CLIENTS])
async def test_everything_that_many_clients_were_acknowledged_is_there_once(
    installation: Installation, runs: int
) -> None:
    programs = [installation.program(name) for name in ("worker", "worker", "server", "server")]
    for program in programs:
        await asyncio.to_thread(program.wait_ready)
    urls = [program.url for program in programs[2:]]
    async with httpx2.AsyncClient(base_url=urls[0], timeout=60) as http:
        created = [await _post(http, "runs/create", {"experiment_id": "0", "start_time": 1}) for _ in range(runs)]
        ids = [str(answer["run"]["info"]["run_id"]) for answer in created]
        began = time.monotonic()
        # A request that is not answered within its client's 60 s is an error, and so is any status but 200.
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_write(urls[n % 2], ids[n % runs], n)) for n in range(CLIENTS)]
        books = [task.result() for task in tasks]
        took = time.monotonic() - began
        print(f"{CLIENTS} clients, {runs} runs: {CLIENTS * ROUNDS * 5} writes in {took:.1f} s")
        for run_id in ids:
            await _assert_there_once(http, run_id, [book for book in books if book.run_id == run_id])


async def _write(url: str, run_id: str, me: int) -> _Book:
    book = _Book(run_id)
    async with httpx2.AsyncClient(base_url=url, timeout=60) as http:
        for n in range(ROUNDS):
            # Keys of its own, and keys that all clients write: points of them add up, tags are overwritten, params
            # agree.
            points = [(f"own{me}", n, n, float(n)), ("all", me, n, float(me)), ("all", me, n, -float(me) - 1)]
            single = (f"own{me}", n, -n - 1, float(n))
            params, tags = {f"p{me}.{n}": str(n), "same": "same"}, {f"t{me}": str(n), "last": f"{me} {n}"}
            batch = {"metrics": [_metric(point) for point in points], "params": _pairs(params), "tags": _pairs(tags)}
            await _post(http, "runs/log-batch", {"run_id": run_id, **batch})
            await _post(http, "runs/log-metric", {"run_id": run_id, **_metric(single)})
            await _post(http, "runs/log-parameter", {"run_id": run_id, "key": f"q{me}.{n}", "value": "1"})
            await _post(http, "runs/set-tag", {"run_id": run_id, "key": "last", "value": f"{me} {n} again"})
            shown = (await _get(http, "runs/get", run_id=run_id))["run"]["data"]
            assert {tag["key"]: tag["value"] for tag in shown["tags"]}[f"t{me}"] == str(n)
            book.points += [*points, single]
            book.params |= params | {f"q{me}.{n}": "1"}
            book.tags |= tags | {"last": f"{me} {n} again"}
    return book


async def _assert_there_once(http: httpx2.AsyncClient, run_id: str, books: list[_Book]) -> None:
    data = (await _get(http, "runs/get", run_id=run_id))["run"]["data"]
    assert _once(data["params"]) == {key: value for book in books for key, value in book.params.items()}
    tags = {key: value for key, value in _once(data["tags"]).items() if not key.startswith("mlflow.")}
    # Of what all overwrite, only what some client wrote last may be left.
    assert tags.pop("last") in {book.tags["last"] for book in books}
    assert tags == {key: value for book in books for key, value in book.tags.items() if key != "last"}
    sent: dict[str, list[tuple[int, int, float]]] = collections.defaultdict(list)
    for book in books:
        for key, step, at, value in book.points:
            sent[key].append((step, at, value))
    latest = {key: max((step, at, value) for at, step, value in points) for key, points in sent.items()}
    shown = {one["key"]: (one["step"], one["timestamp"], one["value"]) for one in data["metrics"]}
    assert len(data["metrics"]) == len(sent)
    assert shown == latest
    for key, points in sent.items():
        found = (await _get(http, "metrics/get-history", run_id=run_id, metric_key=key))["metrics"]
        assert [(one["timestamp"], one["step"], one["value"]) for one in found] == sorted(points)


def _once(pairs: list[Json]) -> dict[str, str]:
    found = {pair["key"]: pair["value"] for pair in pairs}
    assert len(found) == len(pairs)
    return found


def _pairs(values: dict[str, str]) -> list[Json]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _metric(point: Point) -> Json:
    key, time_ms, step, value = point
    return {"key": key, "timestamp": time_ms, "step": step, "value": value}


async def _post(http: httpx2.AsyncClient, path: str, body: Json) -> Json:
    return _read(await http.post(API + path, json=body))


async def _get(http: httpx2.AsyncClient, path: str, **query: Any) -> Json:
    return _read(await http.get(API + path, params=query))


def _read(answer: httpx2.Response) -> Json:
    assert answer.status_code == 200, f"{answer.request.url}: {answer.status_code} {answer.text}"
    found: Json = answer.json()
    return found
