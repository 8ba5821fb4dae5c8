"""Registered and logged models as they were, and how they came to be as they are, over HTTP."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.support.api.moments import NATIVE, now
from tests.support.api.timelines import ask, events, kinds
from tests.support.mlflow.caller import API, Caller


def made(caller: Caller, name: str, versions: int) -> None:
    caller.post("registered-models/create", name=name)
    for _ in range(versions):
        caller.post("model-versions/create", name=name, source="s3://b/m")


def test_which_version_was_prod_then(client: httpx2.Client, caller: Caller) -> None:
    made(caller, "m1", 3)
    none = now(client)
    caller.post("registered-models/alias", name="m1", alias="prod", version="1")
    first = now(client)
    caller.post("registered-models/alias", name="m1", alias="prod", version="3")
    caller.post("registered-models/rename", name="m1", new_name="m2")
    made(caller, "m1", 1)

    def prod(name: str, **query: str) -> Any:
        return caller.get("registered-models/alias", name=name, alias="prod", **query)["model_version"]["version"]

    assert prod("m2") == "3"
    assert prod("m1", as_of=first) == "1"
    caller.get("registered-models/alias", 404, name="m2", alias="prod", as_of=first)
    unset = caller.get("registered-models/alias", 400, name="m1", alias="prod", as_of=none)
    assert "Registered model alias prod not found as of registry:0:" in unset["message"]
    then = caller.get("registered-models/get", name="m1", as_of=first)["registered_model"]
    assert (then["aliases"], [v["version"] for v in then["latest_versions"]]) == (
        [{"alias": "prod", "version": "1"}],
        ["3"],
    )
    assert caller.get("registered-models/get", name="m1")["registered_model"].get("aliases") is None
    native = client.get(f"{NATIVE}/models/m1", params={"as_of": first}).json()
    assert [version["version"] for version in native["versions"]] == [3, 2, 1]


def test_versions_and_stages_as_they_were(client: httpx2.Client, caller: Caller) -> None:
    made(caller, "s1", 2)
    staged = {"name": "s1", "stage": "Production", "archive_existing_versions": True}
    caller.post("model-versions/transition-stage", version="1", **staged)
    at = now(client)
    caller.post("model-versions/transition-stage", version="2", **staged)
    client.request("DELETE", f"{API}model-versions/delete", json={"name": "s1", "version": "1"})

    def stage(version: str, **query: str) -> Any:
        return caller.get("model-versions/get", name="s1", version=version, **query)["model_version"]["current_stage"]

    assert (stage("1", as_of=at), stage("2", as_of=at), stage("2")) == ("Production", "None", "Production")
    caller.get("model-versions/get", 404, name="s1", version="1")
    latest = caller.get("registered-models/get-latest-versions", name="s1", as_of=at)["model_versions"]
    assert {version["current_stage"]: version["version"] for version in latest} == {"Production": "1", "None": "2"}
    uri = caller.get("model-versions/get-download-uri", name="s1", version="1", as_of=at)["artifact_uri"]
    assert uri == "s3://b/m"


def test_the_story_of_a_model_has_its_aliases_stages_and_refused_tries(client: httpx2.Client, caller: Caller) -> None:
    made(caller, "t1", 2)
    caller.post("registered-models/create", 400, name="t1")
    for version in ("1", "2"):
        caller.post("registered-models/alias", name="t1", alias="prod", version=version)
    caller.post("registered-models/alias", 404, name="t1", alias="prod", version="9")
    client.request("DELETE", f"{API}model-versions/delete", json={"name": "t1", "version": "2"})
    told = events(client, "models/t1")
    assert kinds(told) == [
        ("RegisteredModelCreated", "accepted"),
        ("ModelVersionCreated", "accepted"),
        ("ModelVersionCreated", "accepted"),
        ("RegisteredModelCreated", "rejected"),
        ("ModelAliasSet", "accepted"),
        ("ModelAliasSet", "accepted"),
        ("ModelAliasSet", "rejected"),
        ("ModelVersionDeleted", "accepted"),
    ]
    assert told["events"][5]["changes"] == [{"field": "alias.prod", "from": 1, "to": 2}]
    assert {"field": "alias.prod", "from": 2, "to": None} in told["events"][7]["changes"]
    why = ask(client, "models/t1/why", field="alias.prod")
    assert [(one["from"], one["to"]) for one in [why["set_by"], *why["earlier"]]] == [(2, None), (1, 2), (None, 1)]
    assert ask(client, "models/t1/why", field="versions.1.stage")["value"] == "None"
    client.request("DELETE", f"{API}registered-models/delete", json={"name": "t1"})
    assert kinds(events(client, "models/t1"))[-1] == ("RegisteredModelDeleted", "accepted")
    ask(client, "models/never/events", 404)


def test_an_alias_and_a_version_have_a_history_of_their_own_refused_tries_in_it(
    client: httpx2.Client, caller: Caller
) -> None:
    made(caller, "h1", 3)
    made(caller, "h2", 1)

    def promote(status: int, *moves: Any, conditions: Any = ()) -> None:
        answer = client.post(f"{NATIVE}/models:promote", json={"moves": moves, "conditions": conditions})
        assert answer.status_code == status, answer.text

    prod = {"name": "h1", "alias": "prod"}
    promote(200, prod | {"version": 1})
    caller.post("registered-models/alias", name="h1", alias="shadow", version="2")
    caller.post("registered-models/alias", 404, name="h1", alias="prod", version="9")
    promote(409, prod | {"version": 2}, conditions=[prod | {"version": 3}])
    promote(200, {"name": "h2", "alias": "prod", "version": 1}, conditions=[prod | {"version": 1}])
    caller.post("registered-models/set-tag", name="h1", key="alias", value="prod")
    promote(200, prod | {"version": 3, "stage": "Staging"})
    caller.post("model-versions/set-tag", name="h1", version="3", key="k", value="v")
    caller.post("model-versions/transition-stage", 404, name="h1", version="4", stage="Staging")
    client.request("DELETE", f"{API}model-versions/delete", json={"name": "h1", "version": "3"})
    client.request("DELETE", f"{API}registered-models/alias", json={"name": "h1", "alias": "prod"})

    def of(field: str, **query: Any) -> Any:
        return kinds(events(client, "models/h1", field=field, **query))

    alias = [
        ("ModelsPromoted", "accepted"),
        ("ModelAliasSet", "rejected"),
        ("ModelsPromoted", "rejected"),
        ("ModelsPromoted", "accepted"),
        ("ModelVersionDeleted", "accepted"),
    ]
    assert of("alias.prod") == alias
    assert of("alias.prod", outcome="rejected") == alias[1:3]
    assert of("alias.prod", order="newest") == alias[::-1]
    assert of("versions.3") == [
        ("ModelVersionCreated", "accepted"),
        ("ModelsPromoted", "rejected"),
        ("ModelsPromoted", "accepted"),
        ("ModelVersionTagsSet", "accepted"),
        ("ModelVersionDeleted", "accepted"),
    ]
    assert of("versions.4") == [("ModelVersionStaged", "rejected")]
    assert of("alias.none") == []
    for order in ("oldest", "newest"):
        found: list[Any] = []
        token = ""
        while True:
            page = events(client, "models/h1", field="alias.prod", limit=2, order=order, page_token=token)
            found += kinds(page)
            token = page.get("next_page_token", "")
            if not token:
                break
        assert found == (alias if order == "oldest" else alias[::-1])
    run = caller.run()
    for value, status in (("1", 200), ("2", 400)):
        caller.post("runs/log-parameter", status, run_id=run, key="lr", value=value)
    caller.post("runs/log-parameter", run_id=run, key="lr2", value="1")
    assert kinds(events(client, f"runs/{run}", field="params.lr")) == [
        ("ParamsLogged", "accepted"),
        ("ParamsLogged", "rejected"),
    ]


def test_a_diff_of_a_name_tells_what_it_named_then_and_names_now(client: httpx2.Client, caller: Caller) -> None:
    made(caller, "d1", 1)
    caller.post("registered-models/alias", name="d1", alias="prod", version="1")
    first = now(client)
    client.request("DELETE", f"{API}registered-models/delete", json={"name": "d1"})
    gone = now(client)
    caller.post("registered-models/create", name="d1", tags=[{"key": "k", "value": "v"}])
    for _ in range(2):
        caller.post("model-versions/create", name="d1", source="s3://b/other")
    caller.post("registered-models/alias", name="d1", alias="prod", version="2")
    second = now(client)
    caller.post("registered-models/rename", name="d1", new_name="d2")
    renamed = now(client)
    caller.post("registered-models/create", name="d1")
    third = now(client)

    def diff(name: str, early: str, late: str) -> dict[str, tuple[Any, Any, str]]:
        found = ask(client, f"models/{name}/diff", **{"from": early, "to": late})["changes"]
        return {one["field"]: (one["from"], one["to"], one["event"]["type"].rpartition(".")[2]) for one in found}

    anew = diff("d1", first, second)
    assert anew["alias.prod"] == (1, 2, "ModelAliasSet")
    assert anew["versions.1.source"] == ("s3://b/m", "s3://b/other", "ModelVersionCreated")
    assert anew["tags.k"] == (None, "v", "RegisteredModelCreated")
    assert anew["versions.2.stage"] == (None, "None", "ModelVersionCreated")
    assert "name" not in anew
    back = diff("d1", second, first)
    assert {name: (to, since, kind) for name, (since, to, kind) in back.items()} == anew
    assert diff("d1", second, third)["alias.prod"] == (2, None, "RegisteredModelRenamed")
    # Where nobody had the name at one of the moments, it is the story of who had it at the other.
    assert diff("d1", first, gone)["alias.prod"] == (1, None, "RegisteredModelDeleted")
    assert diff("d1", gone, second)["alias.prod"] == (None, 2, "ModelAliasSet")
    assert diff("d1", second, renamed) == diff("d2", second, renamed)
    assert diff("d2", second, renamed) == {"name": ("d1", "d2", "RegisteredModelRenamed")}


def test_who_had_the_name_before_is_told_and_asked_about_by_its_last_moment(
    client: httpx2.Client, caller: Caller
) -> None:
    for life in ("first", "second", "third"):
        made(caller, "n1", 1)
        caller.post("registered-models/alias", name="n1", alias="prod", version="1")
        caller.post("registered-models/set-tag", name="n1", key="life", value=life)
        client.request("DELETE", f"{API}registered-models/delete", json={"name": "n1"})
    caller.post("registered-models/create", name="n1")
    told = events(client, "models/n1")
    assert kinds(told) == [("RegisteredModelCreated", "accepted")]
    assert len(told["namesakes"]) == 3
    for other in told["namesakes"]:
        native = client.get(f"{NATIVE}/models/n1", params={"as_of": other["as_of"]}).json()["model"]
        assert (native["id"], native["aliases"]) == (other["id"], {"prod": 1})
        why = ask(client, "models/n1/why", field="alias.prod", as_of=other["as_of"])
        assert why["value"] == 1
        assert len(kinds(events(client, "models/n1", as_of=other["as_of"]))) == 4
    never = ask(client, "models/n1/why", 404, field="alias.prod")
    assert f"Another model had this name before: ask as of {told['namesakes'][0]['as_of']}." in never["message"]
    assert ask(client, "models/n1/why", field="name")["namesakes"] == told["namesakes"]
    assert told["namesakes"] == sorted(told["namesakes"], key=lambda one: int(one["as_of"].rpartition(":")[2]))[::-1]


def test_a_logged_model_as_it_was(client: httpx2.Client, caller: Caller) -> None:
    run = caller.run()
    created = caller.post("logged-models", experiment_id="0", name="lm", source_run_id=run)["model"]
    model_id = created["info"]["model_id"]
    caller.post("runs/log-metric", run_id=run, key="acc", value=0.5, timestamp=1, step=1, model_id=model_id)
    at = now(client)
    caller.post("runs/log-metric", run_id=run, key="acc", value=0.9, timestamp=2, step=2, model_id=model_id)
    client.request("PATCH", f"{API}logged-models/{model_id}", json={"status": "LOGGED_MODEL_READY"})

    def told(**query: str) -> Any:
        model = caller.get(f"logged-models/{model_id}", **query)["model"]
        return model["info"]["status"], [metric["value"] for metric in model["data"]["metrics"]]

    assert told() == ("LOGGED_MODEL_READY", [0.9])
    assert told(as_of=at) == ("LOGGED_MODEL_PENDING", [0.5])
    missing = caller.get(f"logged-models/{model_id}", 404, as_of="experiments:0:1")
    assert "as of registry:0:0" in missing["message"]
    assert ask(client, f"logged-models/{model_id}/why", field="status")["set_by"]["from"] == "PENDING"
