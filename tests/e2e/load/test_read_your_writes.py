"""Two API servers and two workers, as processes: what one server acknowledged, the other shows, whatever it was."""

import asyncio
import collections
import itertools
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.support.installations.installation import Installation
from tests.support.installations.waiting import folded_by
from tests.support.load.load import seed_of_this_run, soak_factor

API = "/api/2.0/mlflow/"
INTERLEAVINGS = 1000 * soak_factor(10)
CLIENTS = 6
Json = dict[str, Any]


@pytest.mark.soak
@pytest.mark.timeout(120 * soak_factor(10))
async def test_no_read_through_one_server_is_older_than_the_write_through_the_other_before_it(
    installation: Installation,
) -> None:
    workers = [installation.program("worker") for _ in range(2)]
    servers = [installation.program("server") for _ in range(2)]
    for program in workers + servers:
        await asyncio.to_thread(program.wait_ready)
    seed, left = seed_of_this_run(), _Countdown(INTERLEAVINGS)
    urls = [server.url for server in servers]
    began = time.monotonic()
    tallies = await asyncio.gather(
        *(asyncio.to_thread(_interleave, urls, f"{seed} {n}", left) for n in range(CLIENTS)), return_exceptions=True
    )
    assert [tally for tally in tallies if isinstance(tally, BaseException)][:3] == []
    done = sum((tally for tally in tallies if isinstance(tally, collections.Counter)), collections.Counter())
    print(f"{done.total()} interleavings in {time.monotonic() - began:.1f} s: {dict(sorted(done.items()))}")
    assert done.total() >= INTERLEAVINGS
    assert {kind for kind, _ in done} == {kind for kind, _, _ in WRITES}
    assert {read for _, read in done} == {"get", "history", "search", "experiment", "by name", "experiments"}
    for worker in workers:
        assert await folded_by(worker) > 0, "a worker that folds nothing shows nothing"


class _Countdown:
    """Shared by the clients: how many interleavings are still to do. A client that fails ends the others."""

    def __init__(self, count: int) -> None:
        self._left, self._lock = count, threading.Lock()

    def take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def end(self) -> None:
        with self._lock:
            self._left = 0


class _Run:
    """What a run must look like, from the answers to its writes alone."""

    def __init__(self, info: Json) -> None:
        self.run_id, self.name = info["run_id"], info["run_name"]
        self.status, self.end, self.stage = "RUNNING", 0, "active"
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.points: dict[str, set[tuple[int, int, float]]] = {}
        """Of each metric: (step, time, value)."""

    def shown(self) -> Json:
        latest = {key: max(points) for key, points in self.points.items()}
        return {
            "head": (self.name, self.status, self.end, self.stage),
            "params": self.params,
            "tags": self.tags,
            "metrics": {key: (step, time_ms, value) for key, (step, time_ms, value) in latest.items()},
        }


class _Client:
    """Each write goes to one server and the read after it to the other; which is which is drawn every time."""

    def __init__(self, urls: list[str], seed: str) -> None:
        self.chance = random.Random(seed)
        self._servers = [httpx2.Client(base_url=url, timeout=30) for url in urls]
        self._writer, self._numbers, self._seed = 0, itertools.count(1), seed
        self.runs: list[_Run] = []
        self.experiment_id, self.experiment_name, self.experiment_tags = "", "", dict[str, str]()
        self.experiment_stage = "active"

    def close(self) -> None:
        for server in self._servers:
            server.close()

    def draw_sides(self) -> None:
        self._writer = self.chance.randrange(len(self._servers))

    def number(self) -> int:
        return next(self._numbers)

    def new_name(self) -> str:
        return f"by {self._seed} {self.number()}"

    def write(self, path: str, body: Json) -> Json:
        return self._read(self._servers[self._writer].post(API + path, json=body))

    def get(self, path: str, **query: Any) -> Json:
        return self._read(self._servers[self._writer - 1].get(API + path, params=query))

    def search(self, path: str, body: Json) -> Json:
        return self._read(self._servers[self._writer - 1].post(API + path, json=body))

    @staticmethod
    def _read(answer: httpx2.Response) -> Json:
        assert answer.status_code == 200, f"{answer.request.url}: {answer.status_code} {answer.text}"
        found: Json = answer.json()
        return found


def _interleave(urls: list[str], seed: str, left: _Countdown) -> collections.Counter[tuple[str, str]]:
    client, done = _Client(urls, seed), collections.Counter[tuple[str, str]]()
    try:
        _create_experiment(client)
        _create_run(client)
        while left.take():
            kind, write, reads = client.chance.choice(WRITES)
            client.draw_sides()
            run, found_by = write(client)
            read = client.chance.choice(reads)
            READS[read](client, run, found_by)
            done[kind, read] += 1
    except BaseException:
        left.end()
        raise
    finally:
        client.close()
    return done


Written = tuple[_Run, str]
"""The run that was written (of an experiment's write: any), and a filter that only this run satisfies since then."""


def _create_experiment(client: _Client) -> Written:
    client.experiment_name = client.new_name()
    answer = client.write("experiments/create", {"name": client.experiment_name})
    client.experiment_id, client.experiment_tags, client.runs = str(answer["experiment_id"]), {}, []
    return _create_run(client)


def _create_run(client: _Client) -> Written:
    name = client.new_name()
    body = {"experiment_id": client.experiment_id, "run_name": name, "start_time": 1}
    run = _Run(client.write("runs/create", body)["run"]["info"])
    assert run.name == name
    client.runs.append(run)
    return run, f"attributes.run_name = '{name}'"


def _log_param(client: _Client) -> Written:
    run, key = client.chance.choice(client.runs), f"p{client.number()}"
    client.write("runs/log-parameter", {"run_id": run.run_id, "key": key, "value": "v"})
    run.params[key] = "v"
    return run, f"params.{key} = 'v'"


def _set_tag(client: _Client) -> Written:
    run, key, value = client.chance.choice(client.runs), client.chance.choice("abc"), f"v{client.number()}"
    client.write("runs/set-tag", {"run_id": run.run_id, "key": key, "value": value})
    run.tags[key] = value
    return run, f"tags.{key} = '{value}'"


def _delete_tag(client: _Client) -> Written:
    run, found_by = _set_tag(client)
    key = client.chance.choice(sorted(run.tags))
    client.write("runs/delete-tag", {"run_id": run.run_id, "key": key})
    del run.tags[key]
    return run, found_by if key != found_by[5] else f"attributes.run_id = '{run.run_id}' AND tags.{key} IS NULL"


def _points(client: _Client, run: _Run, count: int) -> tuple[list[Json], float]:
    """Points of which the last one is the latest of its key, for no step is drawn twice and steps only grow."""
    sent, value = [], 0.0
    for _ in range(count):
        key, step = client.chance.choice("mno"), client.number()
        value, time_ms = float(step), client.chance.randrange(10)
        sent.append({"key": key, "value": value, "timestamp": time_ms, "step": step})
        run.points.setdefault(key, set()).add((step, time_ms, value))
    return sent, value


def _log_metric(client: _Client) -> Written:
    run = client.chance.choice(client.runs)
    [point], value = _points(client, run, 1)
    client.write("runs/log-metric", {"run_id": run.run_id, **point})
    return run, f"metrics.{point['key']} = {value}"


def _log_batch(client: _Client) -> Written:
    run, key, value = client.chance.choice(client.runs), f"p{client.number()}", f"v{client.number()}"
    metrics, last = _points(client, run, client.chance.choice((0, 1, 20)))
    body = {
        "run_id": run.run_id,
        "metrics": metrics,
        "params": [{"key": key, "value": "v"}],
        "tags": [{"key": "a", "value": value}],
    }
    client.write("runs/log-batch", body)
    run.params[key], run.tags["a"] = "v", value
    by_metric = [f"metrics.{metrics[-1]['key']} = {last}"] if metrics else []
    return run, " AND ".join([*by_metric, f"params.{key} = 'v'", f"tags.a = '{value}'"])


def _update_run(client: _Client) -> Written:
    run, name, end = client.chance.choice(client.runs), client.new_name(), client.number()
    status = client.chance.choice(("RUNNING", "FINISHED", "FAILED"))
    client.write("runs/update", {"run_id": run.run_id, "run_name": name, "status": status, "end_time": end})
    run.name, run.status, run.end = name, status, end
    return run, f"attributes.end_time = {end} AND attributes.status = '{status}'"


def _delete_and_restore_run(client: _Client) -> Written:
    run = client.chance.choice(client.runs)
    client.write("runs/delete", {"run_id": run.run_id})
    run.stage = "deleted"
    READS[client.chance.choice(("get", "search"))](client, run, f"attributes.run_id = '{run.run_id}'")
    client.draw_sides()
    client.write("runs/restore", {"run_id": run.run_id})
    run.stage = "active"
    return run, f"attributes.run_id = '{run.run_id}'"


def _tag_experiment(client: _Client) -> Written:
    key, value = client.chance.choice("xyz"), client.new_name()
    client.write("experiments/set-experiment-tag", {"experiment_id": client.experiment_id, "key": key, "value": value})
    client.experiment_tags[key] = value
    return _any(client)


def _rename_experiment(client: _Client) -> Written:
    name = client.new_name()
    client.write("experiments/update", {"experiment_id": client.experiment_id, "new_name": name})
    client.experiment_name = name
    return _any(client)


def _delete_and_restore_experiment(client: _Client) -> Written:
    run, _ = _any(client)
    client.write("experiments/delete", {"experiment_id": client.experiment_id})
    client.experiment_stage = "deleted"
    READS[client.chance.choice(("experiment", "by name", "experiments"))](client, run, "")
    client.draw_sides()
    client.write("experiments/restore", {"experiment_id": client.experiment_id})
    client.experiment_stage = "active"
    return _any(client)


def _any(client: _Client) -> Written:
    run = client.chance.choice(client.runs)
    return run, f"attributes.run_id = '{run.run_id}'"


def _get(client: _Client, run: _Run, _: str) -> None:
    assert _seen(client.get("runs/get", run_id=run.run_id)["run"]) == run.shown()


def _history(client: _Client, run: _Run, _: str) -> None:
    for key in run.points or ("m",):
        found = client.get("metrics/get-history", run_id=run.run_id, metric_key=key).get("metrics", [])
        seen = [(one["timestamp"], one["step"], one["value"]) for one in found]
        assert seen == sorted((at, step, value) for step, at, value in run.points.get(key, ()))


def _search(client: _Client, run: _Run, found_by: str) -> None:
    ordered = client.chance.choice(([], ["metrics.m DESC"], ["tags.a"], ["attributes.end_time DESC"]))
    body = {"experiment_ids": [client.experiment_id], "filter": found_by, "run_view_type": "ALL", "order_by": ordered}
    found = client.search("runs/search", body).get("runs", [])
    assert [_seen(one) for one in found] == [run.shown()], found_by


def _experiment(client: _Client, _: _Run, __: str) -> None:
    _assert_experiment(client, client.get("experiments/get", experiment_id=client.experiment_id)["experiment"])


def _experiment_by_name(client: _Client, _: _Run, __: str) -> None:
    found = client.get("experiments/get-by-name", experiment_name=client.experiment_name)
    _assert_experiment(client, found["experiment"])


def _experiments(client: _Client, _: _Run, __: str) -> None:
    body = {"max_results": 5, "filter": f"name = '{client.experiment_name}'", "view_type": "ALL"}
    [found] = client.search("experiments/search", body)["experiments"]
    _assert_experiment(client, found)


def _assert_experiment(client: _Client, found: Json) -> None:
    assert (found["experiment_id"], found["name"]) == (client.experiment_id, client.experiment_name)
    assert found["lifecycle_stage"] == client.experiment_stage
    assert _own_pairs(found.get("tags", [])) == client.experiment_tags


def _seen(run: Json) -> Json:
    """An answer's run in the words of `_Run.shown`."""
    info, data = run["info"], run["data"]
    return {
        "head": (info["run_name"], info["status"], info.get("end_time", 0), info["lifecycle_stage"]),
        "params": _own_pairs(data.get("params", [])),
        "tags": _own_pairs(data.get("tags", [])),
        "metrics": {one["key"]: (one["step"], one["timestamp"], one["value"]) for one in data.get("metrics", [])},
    }


def _own_pairs(pairs: list[Json]) -> dict[str, str]:
    return {pair["key"]: pair["value"] for pair in pairs if not pair["key"].startswith("mlflow.")}


READS: dict[str, Callable[[_Client, _Run, str], None]] = {
    "get": _get,
    "history": _history,
    "search": _search,
    "experiment": _experiment,
    "by name": _experiment_by_name,
    "experiments": _experiments,
}
_OF_RUNS = ("get", "search")
_OF_POINTS = ("get", "history", "search")
_OF_EXPERIMENTS = ("experiment", "by name", "experiments")
WRITES: tuple[tuple[str, Callable[[_Client], Written], tuple[str, ...]], ...] = (
    ("create experiment", _create_experiment, _OF_EXPERIMENTS),
    ("create run", _create_run, _OF_RUNS),
    ("param", _log_param, _OF_RUNS),
    ("tag", _set_tag, _OF_RUNS),
    ("delete tag", _delete_tag, _OF_RUNS),
    ("metric", _log_metric, _OF_POINTS),
    ("batch", _log_batch, _OF_POINTS),
    ("update run", _update_run, _OF_RUNS),
    ("delete, restore run", _delete_and_restore_run, _OF_RUNS),
    ("tag experiment", _tag_experiment, _OF_EXPERIMENTS),
    ("rename experiment", _rename_experiment, _OF_EXPERIMENTS),
    ("delete, restore experiment", _delete_and_restore_experiment, _OF_EXPERIMENTS),
)
