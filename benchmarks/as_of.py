"""Measure point-in-time reads over HTTP on a run and a registered model with 10,000 events each.

`make bench-as-of`.
"""

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import httpx2
from machine import describe

from runfold_stack.config.settings import load_settings
from runfold_stack.programs.up import runfold_up

EVENTS = int(os.environ.get("AS_OF_EVENTS", "10000"))
ASKED = 200
MLFLOW = "/api/2.0/mlflow"
NATIVE = "/api/runfold/v1"


async def ends(client: httpx2.AsyncClient) -> str:
    """The log's ends, as a vector."""
    found = (await client.get(f"{NATIVE}/positions")).json()["partitions"]
    return ",".join(f"{one['partition']}:{one['end']}" for one in found)


async def all_of(calls: list[Any]) -> None:
    """Make the calls at once."""
    for answer in await asyncio.gather(*calls):
        answer.raise_for_status()


async def write(client: httpx2.AsyncClient) -> tuple[str, list[str]]:
    """A run with that many events of params and tags, and vectors at a hundred moments of its life."""
    body = {"experiment_id": "0", "start_time": 1}
    run = (await client.post(f"{MLFLOW}/runs/create", json=body)).json()["run"]["info"]["run_id"]
    moments = []
    for n in range(EVENTS // 100):
        calls = [
            client.post(f"{MLFLOW}/runs/log-parameter", json={"run_id": run, "key": f"p{n}_{i}", "value": "v" * 20})
            if i % 2
            else client.post(f"{MLFLOW}/runs/set-tag", json={"run_id": run, "key": f"t{i}", "value": f"{n}"})
            for i in range(100)
        ]
        await all_of(calls)
        moments.append(await ends(client))
    return run, moments


async def write_model(client: httpx2.AsyncClient) -> tuple[str, list[str]]:
    """A registered model with that many events: a quarter of them versions, else moves of aliases, tags of it and of
    its versions.
    """
    name = "popular"
    (await client.post(f"{MLFLOW}/registered-models/create", json={"name": name})).raise_for_status()
    moments = []
    for n in range(EVENTS // 100):
        version = {"name": name, "source": f"s3://bucket/models/{n}/model", "run_id": f"{n:032x}"}
        await all_of([client.post(f"{MLFLOW}/model-versions/create", json=version) for _ in range(25)])
        calls = []
        for number in range(25 * n + 1, 25 * n + 26):
            on = {"name": name, "version": str(number)}
            alias, tag = f"alias{number % 5}", {"key": f"t{number % 20}", "value": str(n)}
            calls.append(client.post(f"{MLFLOW}/registered-models/alias", json=on | {"alias": alias}))
            calls.append(client.post(f"{MLFLOW}/registered-models/set-tag", json={"name": name} | tag))
            calls.append(client.post(f"{MLFLOW}/model-versions/set-tag", json=on | tag))
        await all_of(calls)
        moments.append(await ends(client))
    return name, moments


async def timed(client: httpx2.AsyncClient, what: str, paths: list[tuple[str, dict[str, Any]]]) -> None:
    """Ask one after the other; print the median and the slowest in a hundred."""
    taken = []
    for path, query in paths:
        began = time.perf_counter()
        answer = await client.get(path, params=query)
        taken.append((time.perf_counter() - began) * 1000)
        answer.raise_for_status()
    taken.sort()
    print(f"{what:56} p50 {statistics.median(taken):7.1f} ms   p99 {taken[int(len(taken) * 0.99)]:7.1f} ms")


async def main() -> None:
    """Start everything, write the run, ask."""
    print(
        f"# {describe()}; a run with {EVENTS:,} events, half of them params; "
        "a model with as many, a quarter of them versions"
    )
    with tempfile.TemporaryDirectory(prefix="runfold-as-of-") as directory:
        settings = load_settings(data_dir=Path(directory), port=0)
        async with (
            runfold_up(settings) as up,
            httpx2.AsyncClient(base_url=up.url, timeout=60, trust_env=False) as client,
        ):
            run, moments = await write(client)
            some = Random(1).choices(moments, k=ASKED)
            get, who = f"{MLFLOW}/runs/get", {"run_id": run}
            await timed(client, "the run, now", [(get, who)] * 50)
            await timed(client, "the run as of a vector", [(get, who | {"as_of": at}) for at in some])
            ms = [int(time.time() * 1000) - Random(n).randint(0, 5000) for n in range(50)]
            await timed(client, "the run as of a time (the end of its life)", [(get, who | {"as_of": at}) for at in ms])
            events = f"{NATIVE}/runs/{run}/events"
            await timed(
                client, "a page of 100 of its timeline", [(events, {"as_of": at, "order": "newest"}) for at in some]
            )
            why = f"{NATIVE}/runs/{run}/why"
            await timed(client, "why a tag has its value (among 10,000 events)", [(why, {"field": "tags.t0"})] * 20)

            name, moments = await write_model(client)
            some = Random(2).choices(moments, k=ASKED)
            get, who = f"{MLFLOW}/registered-models/get", {"name": name}
            await timed(client, "the registered model, now", [(get, who)] * 50)
            await timed(client, "the registered model as of a vector", [(get, who | {"as_of": at}) for at in some])
            alias, which = f"{MLFLOW}/registered-models/alias", who | {"alias": "alias1"}
            await timed(client, "where an alias stood", [(alias, which | {"as_of": at}) for at in some])
            version, first = f"{MLFLOW}/model-versions/get", who | {"version": "1"}
            await timed(client, "a version as of a vector", [(version, first | {"as_of": at}) for at in some])
            events = f"{NATIVE}/models/{name}/events"
            await timed(
                client, "a page of 100 of its timeline", [(events, {"as_of": at, "order": "newest"}) for at in some]
            )
            why = f"{NATIVE}/models/{name}/why"
            await timed(client, "why an alias stands where it does", [(why, {"field": "alias.alias1"})] * 20)


if __name__ == "__main__":
    asyncio.run(main())
