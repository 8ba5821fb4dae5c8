"""One entity has one answer: every call that lists, finds, contains or changes it returns what `get` returns.

Checked for every field over generated histories of registry and tracking; webhooks get the same values.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from runfold_schemas.codec.batch import CONTENT_TYPE, encode_batch
from runfold_schemas.positions.topics import Topic
from tests.support.doubles.receiver import receiver
from tests.support.histories import logged_models as model_histories
from tests.support.histories.registry import ALIASES, NAMES, registry_event
from tests.support.installations.in_process import outgoing
from tests.support.installations.server_pair import ServerPair
from tests.support.mlflow.caller import API, Caller

NATIVE = "/api/runfold/v1"
EXAMPLES, EVENTS = (60, 120) if os.environ.get("RUNFOLD_SOAK") else (4, 120)
PROMPTS = "tags.`mlflow.prompt.is_prompt` = 'true'"
Json = dict[str, Any]
_numbers = itertools.count()
generated = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def pages(caller: Caller, path: str, name: str, *, post: bool = False, **query: Any) -> Iterator[Json]:
    """All that a search finds, three a page."""
    token: dict[str, Any] = {}
    while True:
        ask = caller.post if post else caller.get
        answer = ask(path, max_results=3, **query, **token)
        yield from answer.get(name, ())
        if not answer.get("next_page_token"):
            return
        token = {"page_token": answer["next_page_token"]}


def versions_shown(caller: Caller, client: httpx2.Client) -> Iterator[tuple[str, Json]]:
    """Each version that any answer shows, and where."""
    for filter_string in ("", PROMPTS):
        for version in pages(caller, "model-versions/search", "model_versions", filter=filter_string):
            yield f"search {filter_string}", version
        for model in pages(caller, "registered-models/search", "registered_models", filter=filter_string):
            for version in model.get("latest_versions", ()):
                yield f"registered-models/search {filter_string}", version
    for name in NAMES:
        if client.get(f"{API}registered-models/get", params={"name": name}).status_code != 200:
            continue
        for version in caller.get("registered-models/get", name=name)["registered_model"].get("latest_versions", ()):
            yield "registered-models/get", version
        for ask in (caller.get, caller.post):
            for version in ask("registered-models/get-latest-versions", name=name).get("model_versions", ()):
                yield "get-latest-versions", version
        for alias in (*ALIASES, "latest"):
            found = client.get(f"{API}registered-models/alias", params={"name": name, "alias": alias})
            if found.status_code == 200:
                yield f"alias {alias}", found.json()["model_version"]


def check_registry(caller: Caller, client: httpx2.Client) -> int:
    """How many answers were compared."""
    count = 0
    for where, shown in versions_shown(caller, client):
        got = caller.get("model-versions/get", name=shown["name"], version=shown["version"])["model_version"]
        assert shown == got, where
        count += 1
    for filter_string in ("", PROMPTS):
        for shown in pages(caller, "registered-models/search", "registered_models", filter=filter_string):
            assert shown == caller.get("registered-models/get", name=shown["name"])["registered_model"]
            native = client.get(f"{NATIVE}/models/{shown['name']}").json()
            check_native(caller, shown, native)
            count += 1
    for shown in pages(caller, "logged-models/search", "models", post=True, experiment_ids=["0", "1", "2", "3"]):
        assert shown == caller.get(f"logged-models/{shown['info']['model_id']}")["model"]
        count += 1
    return count


def check_native(caller: Caller, shown: Json, native: Json) -> None:
    """The native API says the same in words of its own."""
    model = native["model"]
    aliases = {one["alias"]: int(one["version"]) for one in shown.get("aliases", ())}
    assert (model["name"], model["aliases"]) == (shown["name"], aliases)
    assert model["tags"] == as_dict(shown.get("tags", ()))
    assert model["description"] == shown.get("description")
    for version in native["versions"]:
        got = caller.get("model-versions/get", name=shown["name"], version=version["version"])["model_version"]
        assert version["aliases"] == got.get("aliases", [])
        assert version["tags"] == as_dict(got.get("tags", ()))
        texts = {"source", "run_id", "run_link", "description"}
        assert {name: version[name] for name in texts} == {name: got.get(name) or None for name in texts}
        times = {"created_ms": "creation_timestamp", "updated_ms": "last_updated_timestamp", "stage": "current_stage"}
        assert {name: version[name] for name in times} == {name: got[theirs] for name, theirs in times.items()}


def as_dict(pairs: Any) -> dict[str, str]:
    return {one["key"]: one["value"] for one in pairs}


@pytest.mark.soak
@generated
@given(st.integers(0, 2**32))
def test_every_answer_about_an_entity_of_the_registry_is_that_of_get(servers: ServerPair, seed: int) -> None:
    rng, writer = Random(seed), f"one-{next(_numbers)}"
    events = [outgoing(Topic.REGISTRY, registry_event(rng), writer=writer, sequence=n) for n in range(EVENTS)]
    with servers.client() as client:
        headers = {"content-type": CONTENT_TYPE}
        appended = client.post(f"{NATIVE}/events?wait=outcome", content=encode_batch(events), headers=headers)
        assert appended.status_code == 200, appended.text
        count = check_registry(Caller(client), client)
        note(f"{count} answers, {appended.text[:600]}")
        assert count > 5


def test_aliases_are_shown_by_every_listing(servers: ServerPair) -> None:
    with servers.client() as client:
        caller = Caller(client)
        caller.post("registered-models/create", name="aliased")
        caller.post("model-versions/create", name="aliased", source="s3://b/m")
        caller.post("registered-models/alias", name="aliased", alias="champion", version="1")
        (found,) = caller.get("model-versions/search", filter="name = 'aliased'")["model_versions"]
        model = caller.get("registered-models/get", name="aliased")["registered_model"]
        (searched,) = caller.get("registered-models/search", filter="name = 'aliased'")["registered_models"]
        shown = [found, *model["latest_versions"], *searched["latest_versions"]]
        assert [one["aliases"] for one in shown] == [["champion"]] * 3
        assert check_registry(caller, client) >= 3


class Lenient(Caller):
    """Asks what may be refused."""

    def __init__(self, client: httpx2.Client) -> None:
        super().__init__(client)
        self._own = client

    def any(self, path: str, body: Json) -> None:
        assert self._own.post(API + path, json=body).status_code < 500


def change(rng: Random, caller: Lenient, experiments: list[str], runs: list[str]) -> None:
    """Anything a client does to an experiment or a run; what is refused changes nothing."""
    run, other, key, value = rng.choice(runs), rng.choice(runs), rng.choice("abü"), rng.choice(["", "1", "ü"])
    what = rng.randrange(10)
    refusable: dict[int, tuple[str, Json]] = {
        0: ("runs/set-tag", {"run_id": run, "key": key, "value": value}),
        1: ("runs/log-parameter", {"run_id": run, "key": key, "value": value}),
        2: ("runs/log-metric", {"run_id": run, "key": key, "value": rng.random(), "timestamp": rng.randrange(9)}),
        3: ("runs/update", {"run_id": run, "status": "FAILED", "end_time": rng.randrange(9)}),
        4: ("runs/delete", {"run_id": run}),
        5: ("runs/restore", {"run_id": other}),
        6: ("experiments/set-experiment-tag", {"experiment_id": rng.choice(experiments), "key": key, "value": value}),
        7: ("runs/outputs", {"run_id": run, "models": [{"model_id": model_histories.MODELS[0], "step": 1}]}),
        8: (
            "runs/log-inputs",
            {
                "run_id": run,
                "datasets": [{"dataset": {"name": key, "digest": "d"}, "tags": [{"key": key, "value": value}]}],
                "models": [{"model_id": "m-9"}],
            },
        ),
        9: (f"experiments/{rng.choice(['delete', 'restore'])}", {"experiment_id": rng.choice(experiments)}),
    }
    path, body = refusable[what]
    caller.any(path, body)


@pytest.mark.soak
@generated
@given(st.integers(0, 2**32))
def test_every_answer_about_an_experiment_or_a_run_is_that_of_get(servers: ServerPair, seed: int) -> None:
    rng = Random(seed)
    with servers.client() as client:
        caller = Lenient(client)
        experiments = [caller.experiment(f"one answer {seed} {next(_numbers)}") for _ in range(2)]
        runs = [caller.run(experiment_id=rng.choice(experiments)) for _ in range(4)]
        for _ in range(40):
            change(rng, caller, experiments, runs)
        seen = 0
        for post in (True, False):
            for shown in pages(caller, "experiments/search", "experiments", post=post, view_type="ALL"):
                got = caller.get("experiments/get", experiment_id=shown["experiment_id"])["experiment"]
                named = caller.get("experiments/get-by-name", experiment_name=shown["name"])["experiment"]
                assert shown == got == named
        for view in ("ALL", "ACTIVE_ONLY", "DELETED_ONLY"):
            asked = {"experiment_ids": experiments, "run_view_type": view}
            for shown in pages(caller, "runs/search", "runs", post=True, **asked):
                assert shown == caller.get("runs/get", run_id=shown["info"]["run_id"])["run"]
                seen += view == "ALL"
        assert seen == len(runs)
        for run in runs:
            answer = client.post(f"{API}runs/update", json={"run_id": run, "status": "KILLED"})
            if answer.status_code == 200:
                assert answer.json()["run_info"] == caller.get("runs/get", run_id=run)["run"]["info"]


def test_what_a_write_answers_is_what_get_says(servers: ServerPair) -> None:
    with servers.client() as client:
        caller, tags = Caller(client), [{"key": "a", "value": "1"}]

        def model(answer: Json) -> None:
            shown = answer["registered_model"]
            assert shown == caller.get("registered-models/get", name=shown["name"])["registered_model"]

        def version(answer: Json) -> None:
            shown = answer["model_version"]
            got = caller.get("model-versions/get", name=shown["name"], version=shown["version"])
            assert shown == got["model_version"]

        model(caller.post("registered-models/create", name="written", description="d", tags=tags))
        version(caller.post("model-versions/create", name="written", source="s3://b/m", tags=tags))
        caller.post("registered-models/alias", name="written", alias="prod", version="1")
        version(caller.post("model-versions/transition-stage", name="written", version="1", stage="Staging"))
        named = {"name": "written", "version": "1", "description": "e"}
        version(client.patch(f"{API}model-versions/update", json=named).json())
        model(client.patch(f"{API}registered-models/update", json={"name": "written", "description": "e"}).json())
        model(caller.post("registered-models/rename", name="written", new_name="written anew"))
        run = caller.post("runs/create", experiment_id="0", start_time=1, tags=tags)["run"]
        assert run | {"outputs": {}} == caller.get("runs/get", run_id=run["info"]["run_id"])["run"]
        logged = caller.post("logged-models", experiment_id="0", name="written", tags=tags)["model"]
        got = caller.get(f"logged-models/{logged['info']['model_id']}")["model"]
        assert logged == got
        status = {"model_id": got["info"]["model_id"], "status": "LOGGED_MODEL_READY"}
        ready = client.patch(f"{API}logged-models/{got['info']['model_id']}", json=status).json()["model"]
        assert ready == caller.get(f"logged-models/{got['info']['model_id']}")["model"]


def test_a_webhook_is_told_what_get_says(servers: ServerPair) -> None:
    kinds = [
        "registered_model.created",
        "model_version.created",
        "model_version_tag.set",
        "model_version_alias.created",
    ]
    with servers.client() as client, receiver() as heard:
        caller = Caller(client)
        events = [dict(zip(("entity", "action"), kind.upper().split("."), strict=True)) for kind in kinds]
        caller.post("webhooks", name="law", url=f"{heard.url}/law", events=events)
        run, tags = caller.run(), [{"key": "a", "value": ""}, {"key": "ü", "value": "1"}]
        answers = [caller.post("registered-models/create", name="told", tags=tags, description="")["registered_model"]]
        for more in ({}, {"run_id": run, "source": f"runs:/{run}/m", "description": "d", "tags": tags}):
            body = {"name": "told", "source": "s3://b/m"} | more
            answers.append(caller.post("model-versions/create", **body)["model_version"])
            assert (
                answers[-1]
                == caller.get("model-versions/get", name="told", version=answers[-1]["version"])["model_version"]
            )
        caller.post("registered-models/alias", name="told", alias="prod", version="2")
        caller.post("model-versions/set-tag", name="told", version="2", key="k", value="v")
        deadline = time.monotonic() + 60
        while len(heard.taken("/law")) < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        told = [post.data for post in heard.taken("/law")]
    created = [one["data"] for one in told if one["action"] == "created" and "alias" not in one["data"]]
    assert len(told) == 5
    for data, answer in zip(created, answers, strict=True):
        said = dict(answer) | {"tags": as_dict(answer.get("tags", ()))}
        assert {name: value or None for name, value in data.items()} == {name: said.get(name) or None for name in data}
    version = {one["data"].get("alias") or one["data"].get("key"): one["data"].get("version") for one in told}
    assert (version["prod"], version["k"]) == ("2", "2")
