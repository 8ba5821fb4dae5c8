"""Searches about the past: answered from pasts, which are folded up to exactly their vectors and change no more."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import asyncpg
import httpx2
import pytest

from runfold_projections.core.errors import BadSnapshot, NoSuchSnapshot
from runfold_projections.generations.snapshots import Snapshot
from runfold_server.caches import run_cache
from runfold_stack.commands import snapshots_run
from runfold_stack.errors import BadSetting
from tests.support.api.moments import HEADER, NATIVE, moment, now
from tests.support.installations.server_pair import ServerPair
from tests.support.mlflow.caller import API, Caller


def create(servers: ServerPair, at: object, name: str | None = None) -> str:
    wanted = snapshots_run.SnapshotRequest(name, str(at), wait=True, patience=30)
    return asyncio.run(snapshots_run.create(servers.kafka, servers.dsn, servers.namespace, wanted))


def drop(servers: ServerPair, name: str) -> None:
    asyncio.run(snapshots_run.drop(servers.dsn, servers.namespace, name))


def listed(servers: ServerPair) -> list[Snapshot]:
    return asyncio.run(snapshots_run.listed(servers.dsn, servers.namespace))


def search(client: httpx2.Client, at: object = None, **body: Any) -> httpx2.Response:
    asked = {} if at is None else {"as_of": str(at)}
    return client.post(
        f"{API}runs/search", json={"experiment_ids": ["0"], "order_by": ["start_time"], **body}, params=asked
    )


def test_searches_answer_from_the_past_of_a_time_a_vector_or_a_name(
    servers: ServerPair, client: httpx2.Client, caller: Caller, capsys: pytest.CaptureFixture[str]
) -> None:
    one = caller.run(run_name="one")
    caller.post("runs/log-parameter", run_id=one, key="lr", value="1")
    caller.post("runs/log-metric", run_id=one, key="loss", value=3.0, timestamp=1, step=1)
    experiment = caller.post("experiments/create", name="then")["experiment_id"]
    at, vector = moment(), now(client)
    two = caller.run(run_name="two")
    caller.post("runs/log-metric", run_id=one, key="loss", value=1.0, timestamp=2, step=2)
    caller.post("runs/set-tag", run_id=one, key="mlflow.runName", value="renamed")
    caller.post("experiments/update", experiment_id=experiment, new_name="now")

    for moment_said in (at, vector):
        refused = search(client, moment_said)
        assert refused.status_code == 409
        option = "--at" if moment_said == at else "--vector"
        assert f"`runfold snapshot create {option} {moment_said}`" in refused.json()["message"]
        assert refused.json()["error_code"] == "RESOURCE_CONFLICT"
    assert search(client, "nothing").status_code == 400
    assert search(client, "2999-01-01").status_code == 400

    said = create(servers, at, "early")
    assert said.startswith("snapshot early at ")
    assert "snapshot early: replaying" in capsys.readouterr().err
    assert listed(servers)[0].ready
    answers = [search(client, moment_said) for moment_said in (at, vector, "early")]
    answers.append(
        client.post(
            f"{API}runs/search", json={"experiment_ids": ["0"], "order_by": ["start_time"]}, headers={HEADER: vector}
        )
    )
    for answer in answers:
        assert answer.status_code == 200, answer.text
        (run,) = answer.json()["runs"]
        assert run["info"]["run_name"] == "one"
        assert run["data"]["metrics"][0]["value"] == 3.0
        assert answer.headers[HEADER] == answers[0].headers[HEADER]
    assert search(client, "early", filter="metrics.loss < 2").json().get("runs", []) == []
    assert [run["info"]["run_id"] for run in search(client, filter="metrics.loss < 2").json()["runs"]] == [one]
    assert {run["info"]["run_id"] for run in search(client).json()["runs"]} == {one, two}

    def names(**asked: Any) -> list[str]:
        found = client.get(f"{API}experiments/search", params={"max_results": 10, **asked})
        return sorted(experiment["name"] for experiment in found.json()["experiments"])

    assert names(as_of=at) == ["Default", "then"]
    assert names() == ["Default", "now"]
    rejections = client.get(f"{NATIVE}/rejections", params={"as_of": "early"})
    assert rejections.headers[HEADER] == answers[0].headers[HEADER]
    assert sum(rejections.json()["positions"].values()) == sum(listed(servers)[0].vector.values())

    # The name says the moment to reads that need no past, too.
    then = client.get(f"{API}runs/get", params={"run_id": one, "as_of": "early"})
    assert then.json() == client.get(f"{API}runs/get", params={"run_id": one, "as_of": vector}).json()
    assert then.headers[HEADER] == client.get(f"{API}runs/get", params={"run_id": one, "as_of": vector}).headers[HEADER]
    differs = client.get(f"{NATIVE}/runs/{one}/diff", params={"from": "early"}).json()["changes"]
    assert [change["field"] for change in differs] == ["name", "tags.mlflow.runName", "metrics.loss"]

    # A past is left alone by what comes after, and gone when it is dropped.
    three = caller.run(run_name="three")
    assert three
    assert len(search(client, "early").json()["runs"]) == 1
    drop(servers, "early")
    assert search(client, vector).status_code == 409
    with pytest.raises(NoSuchSnapshot, match="there is no snapshot `early`"):
        drop(servers, "early")


def test_pasts_are_listed_and_one_moment_has_one(servers: ServerPair, client: httpx2.Client, caller: Caller) -> None:
    caller.run(run_name="listed")
    vector = now(client)
    create(servers, vector, "first")
    caller.run(run_name="later")
    create(servers, moment())
    names = [past.name for past in listed(servers)]
    assert names[0] == "first"
    assert len(names) == 2
    with pytest.raises(BadSnapshot, match="is snapshot `first` already"):
        create(servers, vector, "again")
    with pytest.raises(BadSnapshot, match="has a name that is taken"):
        create(servers, now(client), "first")
    with pytest.raises(BadSnapshot, match="1 to 17 lower-case letters"):
        create(servers, now(client), "Upper")
    with pytest.raises(BadSetting, match="'--at' supplied: it is ahead"):
        create(servers, "2999-01-01")
    with pytest.raises(BadSetting, match="reads as a moment, and as another one"):
        create(servers, now(client), "20260301")
    shown = json.loads(json.dumps(listed(servers)[0].as_json()))
    assert (shown["name"], shown["ready"], shown["folded"]) == ("first", True, shown["total"])
    generations = client.get(f"{NATIVE}/generations").json()["generations"]
    of_past = [one for one in generations if one["snapshot"] == "first"]
    assert {one["projection"] for one in of_past} == {
        one["projection"] for one in generations if one["state"] == "live"
    }
    assert all(one["folded"] == one["total"] and one["state"] == "snapshot" for one in of_past)
    for name in names:
        drop(servers, name)
    assert {one["state"] for one in client.get(f"{NATIVE}/generations").json()["generations"]} == {"live"}


def test_what_is_written_needs_no_past_and_is_refused(client: httpx2.Client, caller: Caller) -> None:
    run = caller.run()
    answer = client.post(
        f"{API}runs/set-tag", json={"run_id": run, "key": "a", "value": "b"}, params={"as_of": "2026-03-01"}
    )
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("moment_said", "name"),
    [
        ("2026-03-01", "2026_03_01"),
        ("2026-03-01T12:30:00+01:00", "v"),
        ("runs:0:12,metrics:0:4", "v"),
        ("1772366400000", "1772366400000"),
    ],
)
def test_a_past_without_a_name_is_named_after_its_moment(moment_said: str, name: str) -> None:
    made = snapshots_run.named_after(moment_said)
    assert made == name or (name == "v" and made.startswith("v") and len(made) == 13)


def test_what_a_server_remembers_of_runs_is_read_anew_after_a_switch(
    servers: ServerPair, client: httpx2.Client, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_cache, "TRUSTED", 3600.0)
    run = caller.run()
    # Folded, or there would be no row to change.
    assert client.get(f"{API}runs/get", params={"run_id": run}).status_code == 200
    caller.post("runs/log-metric", run_id=run, key="m", value=1, timestamp=1, step=1)

    async def change(statement: str, *values: str) -> None:
        connection = await asyncpg.connect(servers.dsn)
        try:
            await connection.execute(f'SET search_path = "{servers.namespace}"')
            await connection.execute(statement, *values)
        finally:
            await connection.close()

    # As if the tables switched to held another outcome: no commit of a fold tells of it, only the generations' change.
    asyncio.run(change("UPDATE run SET lifecycle_stage = 'deleted' WHERE run_id = $1", run))
    asyncio.run(change("UPDATE generation SET switched_at = now() WHERE state = 'live'"))
    body = {"run_id": run, "key": "m", "value": 2, "timestamp": 2, "step": 2}
    until = time.monotonic() + 30
    while client.post(f"{API}runs/log-metric", json=body).status_code == 200:
        assert time.monotonic() < until, "still trusts the row that it remembers"


def test_series_of_runs_that_a_filter_finds_are_those_of_the_past(
    servers: ServerPair, client: httpx2.Client, caller: Caller
) -> None:
    number = caller.experiment("drawn of the past")
    one, two, deleted = (caller.run(experiment_id=number, run_name=name) for name in ("one", "two", "deleted"))
    for run, loss in ((one, 1.0), (two, 5.0), (deleted, 0.5)):
        for step in range(3):
            caller.post("runs/log-metric", run_id=run, key="loss", value=loss + step / 10, timestamp=step, step=step)
    at = now(client)
    caller.post("runs/delete", run_id=deleted)
    caller.post("runs/log-metric", run_id=one, key="loss", value=9.0, timestamp=9, step=9)
    caller.post("runs/log-metric", run_id=two, key="loss", value=0.1, timestamp=9, step=9)

    found = {"filter": "metrics.loss < 2", "experiment_ids": [number]}
    asked = {"runs": found, "metrics": {"regex": "^lo"}, "group_by": None}

    def drawn(**query: str) -> tuple[dict[str, float], list[float]]:
        answer = client.post(f"{NATIVE}/series:query", json=asked, params=query)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return {one["run_id"]: one["last"][-1] for one in body["series"]}, body["x_values"]

    refused = client.post(f"{NATIVE}/series:query", json=asked, params={"as_of": at})
    assert refused.status_code == 409
    assert f"`runfold snapshot create --vector {at}`" in refused.json()["message"]
    create(servers, at, "drawn")
    then = ({one: 1.2, deleted: 0.7}, [0, 1, 2])
    assert drawn(as_of=at) == then == drawn(as_of="drawn")
    assert drawn() == ({two: 0.1}, [0, 1, 2, 9])
    answer = client.post(f"{NATIVE}/series:query", json=asked, headers={HEADER: at})
    by_ids = asked | {"runs": [one, deleted]}
    named = client.post(f"{NATIVE}/series:query", json=by_ids, params={"as_of": at})
    assert answer.headers[HEADER] == named.headers[HEADER]
    by_run = [sorted(one.json()["series"], key=lambda line: str(line["run_id"])) for one in (answer, named)]
    assert by_run[0] == by_run[1]
    assert answer.json()["positions"] == named.json()["positions"]
    drop(servers, "drawn")
    assert client.post(f"{NATIVE}/series:query", json=asked, params={"as_of": at}).status_code == 409
