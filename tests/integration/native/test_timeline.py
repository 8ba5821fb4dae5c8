"""Timelines, why and diff over HTTP: who changed what, by which event, the refused tries among them."""

from __future__ import annotations

import httpx2

from runfold_schemas.codec.batch import CONTENT_TYPE, encode_batch
from runfold_schemas.events.metrics import RunRewound
from runfold_schemas.events.runs import TagsSet
from runfold_schemas.positions.topics import Topic
from tests.support.api.moments import NATIVE, now
from tests.support.api.timelines import ask, events, kinds
from tests.support.installations.in_process import outgoing
from tests.support.mlflow.caller import Caller


def test_the_timeline_of_a_run_has_what_was_accepted_and_what_was_refused(
    client: httpx2.Client, caller: Caller
) -> None:
    run = caller.run(run_name="one")
    caller.post("runs/log-parameter", run_id=run, key="lr", value="1")
    caller.post("runs/log-parameter", 400, run_id=run, key="lr", value="2")
    caller.post("runs/set-tag", run_id=run, key="team", value="a")
    caller.post("runs/log-metric", run_id=run, key="loss", value=1, timestamp=1, step=1)
    record = outgoing(Topic.METRICS, RunRewound(run_id=run, step=0), writer="w-rewind", attempt="a")
    body = encode_batch([record])
    client.post(f"{NATIVE}/events", content=body, headers={"content-type": CONTENT_TYPE})
    caller.post("runs/set-tag", run_id=run, key="team", value="b")
    told = events(client, f"runs/{run}")
    assert kinds(told) == [
        ("RunCreated", "accepted"),
        ("ParamsLogged", "accepted"),
        ("ParamsLogged", "rejected"),
        ("TagsSet", "accepted"),
        ("RunRewound", "accepted"),
        ("TagsSet", "accepted"),
    ]
    refused = told["events"][2]
    assert refused["code"] == "param_changed"
    assert "Changing param values is not allowed" in refused["message"]
    assert refused["changes"] == []
    assert told["events"][5]["changes"] == [{"field": "tags.team", "from": "a", "to": "b"}]
    assert told["events"][5]["payload"] == {"run_id": run, "tags": {"team": "b"}}
    created = {one["field"]: one["to"] for one in told["events"][0]["changes"]}
    assert (created["name"], created["status"], created["tags.mlflow.runName"]) == ("one", "RUNNING", "one")
    assert [(one["points"], one["first_step"]) for one in told["logged"]] == [(1, 1)]
    assert "next_page_token" not in told
    times = [one["broker_ms"] for one in told["events"]]
    assert times == sorted(times)


def test_pages_of_a_timeline_go_both_ways_and_miss_nothing(client: httpx2.Client, caller: Caller) -> None:
    run = caller.run()
    for n in range(12):
        caller.post("runs/set-tag", run_id=run, key="n", value=str(n))
        record = outgoing(Topic.METRICS, RunRewound(run_id=run, step=n), writer=f"w{n}-{run}", attempt="a")
        client.post(f"{NATIVE}/events", content=encode_batch([record]), headers={"content-type": CONTENT_TYPE})
    whole = [one["position"] for one in events(client, f"runs/{run}")["events"]]
    assert len(whole) == 25
    for order, expected in (("oldest", whole), ("newest", whole[::-1])):
        found: list[str] = []
        token = ""
        while True:
            page = events(client, f"runs/{run}", limit=4, order=order, page_token=token)
            found += [one["position"] for one in page["events"]]
            token = page.get("next_page_token", "")
            if not token:
                break
        assert found == expected
    tags = events(client, f"runs/{run}", type=["TagsSet", "runfold.metrics.RunRewound"], limit=3, order="newest")
    assert kinds(tags) == [("RunRewound", "accepted"), ("TagsSet", "accepted"), ("RunRewound", "accepted")]
    assert events(client, f"runs/{run}", outcome="rejected")["events"] == []
    half = events(client, f"runs/{run}", as_of=f"{whole[0].rpartition(':')[0]}:{int(whole[0].rpartition(':')[2]) + 3}")
    assert all(one in whole for one in [event["position"] for event in half["events"]])
    assert [one["position"].partition(":")[0] for one in half["events"]] == ["runs"] * len(half["events"])
    ask(client, f"runs/{run}/events", 404, as_of="metrics:0:1")
    ask(client, f"runs/{run}/events", 400, page_token="nonsense")
    other = events(client, "experiments/0", limit=1).get("next_page_token", "eyJleHBlcmltZW50cyI6MX0=")
    ask(client, f"runs/{run}/events", 400, page_token=other)
    ask(client, "runs/nobody/events", 404)


def test_what_an_event_caused_is_told_with_it(client: httpx2.Client, caller: Caller) -> None:
    run, other = caller.run(), caller.run()
    cause = events(client, f"runs/{run}")["events"][0]
    event = TagsSet(run_id=other, tags={"k": "v"})
    record = outgoing(Topic.RUNS, event, writer=f"w-{other}", causation_id=cause["event_id"])
    url = f"{NATIVE}/events?wait=outcome"
    client.post(url, content=encode_batch([record]), headers={"content-type": CONTENT_TYPE})
    effect = events(client, f"runs/{other}", type="TagsSet")["events"][0]
    assert effect["causation_id"] == cause["event_id"]
    caused = events(client, f"runs/{run}")["events"][0]["caused"]
    assert caused == [{"entity": other, "position": effect["position"]}]


def test_a_run_that_runs_again_has_no_end_and_why_says_since_when(client: httpx2.Client, caller: Caller) -> None:
    run = caller.run()
    caller.post("runs/update", run_id=run, status="FAILED", end_time=7)
    caller.post("runs/update", run_id=run, status="RUNNING")
    found = ask(client, f"runs/{run}/why", field="end_time")
    assert (found["value"], found["set_by"]["event"]["payload"]["status"]) == (None, "RUNNING")
    assert [one["to"] for one in found["earlier"]] == [7]
    # MLflow's client says the old end again when it resumes, and gets it back.
    caller.post("runs/update", run_id=run, status="RUNNING", end_time=7)
    info = client.get("/api/2.0/mlflow/runs/get", params={"run_id": run}).json()["run"]["info"]
    assert (info["status"], info["end_time"]) == ("RUNNING", 7)


def test_why_names_the_event_that_set_a_value_and_those_before(client: httpx2.Client, caller: Caller) -> None:
    run = caller.run()
    for status in ("SCHEDULED", "RUNNING"):
        caller.post("runs/update", run_id=run, status=status)
    at = now(client)
    caller.post("runs/update", run_id=run, status="FAILED")
    caller.post("runs/set-tag", run_id=run, key="t", value="x")
    caller.post("runs/delete-tag", run_id=run, key="t")
    found = ask(client, f"runs/{run}/why", field="status")
    assert found["value"] == "FAILED"
    assert found["set_by"]["event"]["payload"]["status"] == "FAILED"
    assert [(one["from"], one["to"]) for one in [found["set_by"], *found["earlier"]]] == [
        ("RUNNING", "FAILED"),
        ("SCHEDULED", "RUNNING"),
        ("RUNNING", "SCHEDULED"),
        (None, "RUNNING"),
    ]
    assert ask(client, f"runs/{run}/why", field="status", as_of=at)["value"] == "RUNNING"
    gone = ask(client, f"runs/{run}/why", field="tags.t")
    assert (gone["value"], gone["set_by"]["event"]["type"]) == (None, "runfold.runs.TagsDeleted")
    unknown = ask(client, f"runs/{run}/why", 404, field="params.lr")
    assert "never had a value. Fields are: " in unknown["message"]
    assert "series:history" in ask(client, f"runs/{run}/why", 404, field="metrics.loss")["message"]
    ask(client, f"runs/{run}/why", 400)


def test_a_diff_says_what_changed_by_whom_and_by_which_event(client: httpx2.Client, caller: Caller) -> None:
    before = now(client)
    run = caller.run(run_name="d")
    caller.post("runs/set-tag", run_id=run, key="stays", value="1")
    caller.post("runs/set-tag", run_id=run, key="moves", value="1")
    early = now(client)
    for value in ("2", "3"):
        caller.post("runs/set-tag", run_id=run, key="moves", value=value)
    for value in ("2", "1"):
        caller.post("runs/set-tag", run_id=run, key="stays", value=value)
    caller.post("runs/log-metric", run_id=run, key="loss", value=0.5, timestamp=1, step=3)
    found = ask(client, f"runs/{run}/diff", **{"from": early})
    assert [(one["field"], one["from"], one["to"]) for one in found["changes"]] == [
        ("tags.moves", "1", "3"),
        ("metrics.loss", None, {"value": 0.5, "step": 3, "time": 1}),
    ]
    assert found["changes"][0]["event"]["payload"]["tags"] == {"moves": "3"}
    assert not {"changes", "caused"} & set(found["changes"][0]["event"]), "what is not looked up is not told as empty"
    assert found["changes"][0]["by"] == found["changes"][0]["event"]["actor"]
    creation_offset = ask(client, f"runs/{run}/diff", **{"from": before, "to": early})
    assert {one["field"]: one["to"] for one in creation_offset["changes"]}["tags.moves"] == "1"
    assert ask(client, f"runs/{run}/diff", **{"from": early, "to": early})["changes"] == []
    ask(client, f"runs/{run}/diff", 400, **{"from": early, "to": ""})
    back = ask(client, f"runs/{run}/diff", **{"from": now(client), "to": early})
    assert [(one["field"], one["to"]) for one in back["changes"]] == [("tags.moves", "1"), ("metrics.loss", None)]
    ask(client, f"runs/{run}/diff", 400)


def test_an_experiment_shows_who_wanted_its_name_too(client: httpx2.Client, caller: Caller) -> None:
    number = caller.experiment("wanted")
    caller.post("experiments/create", 400, name="wanted")
    other = caller.experiment("other")
    caller.post("experiments/update", 400, experiment_id=other, new_name="wanted")
    told = events(client, f"experiments/{number}")
    assert kinds(told) == [
        ("ExperimentCreated", "accepted"),
        ("ExperimentCreated", "rejected"),
        ("ExperimentRenamed", "rejected"),
    ]
    assert kinds(events(client, f"experiments/{other}", outcome="rejected")) == [("ExperimentRenamed", "rejected")]
    caller.post("experiments/update", experiment_id=number, new_name="free")
    assert ask(client, f"experiments/{number}/why", field="name")["set_by"]["from"] == "wanted"
    ask(client, "experiments/999999/events", 404)


def test_a_webhook_tells_who_pointed_it_where_and_when_it_went(client: httpx2.Client) -> None:
    root = "/api/2.0/mlflow/webhooks"
    given = {
        "name": "chat",
        "url": "https://chat.example/one",
        "events": [{"entity": "REGISTERED_MODEL", "action": "CREATED"}],
        "secret": "well-kept",
    }
    made = client.post(root, json=given).json()["webhook"]["webhook_id"]
    before = now(client)
    client.patch(f"{root}/{made}", json={"url": "https://chat.example/two"})
    client.delete(f"{root}/{made}")
    told = events(client, f"webhooks/{made}")
    assert kinds(told) == [
        ("WebhookCreated", "accepted"),
        ("WebhookUpdated", "accepted"),
        ("WebhookDeleted", "accepted"),
    ]
    moved = {"field": "url", "from": "https://chat.example/one", "to": "https://chat.example/two"}
    assert told["events"][1]["changes"] == [moved]
    why = ask(client, f"webhooks/{made}/why", field="url")
    assert (why["value"], why["set_by"]["event"]["position"]) == (moved["to"], told["events"][1]["position"])
    differs = ask(client, f"webhooks/{made}/diff", **{"from": before})
    assert {one["field"]: one["to"] for one in differs["changes"]} == {"url": moved["to"], "lifecycle_stage": "deleted"}
    assert [one["type"] for one in events(client, f"webhooks/{made}", field="kinds")["events"]] == [
        told["events"][0]["type"]
    ]
    assert "well-kept" not in f"{told}{why}{differs}"
    ask(client, "webhooks/nobody/events", 404)
