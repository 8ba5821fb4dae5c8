"""`runfold webhooks` as somebody types it; and that `runfold rebuild` and `rollback` tell no webhook anything."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mlflow
import pytest
from mlflow.entities.webhook import WebhookEvent, WebhookEventStr

from runfold_projections.core.projection import Projection
from tests.support.doubles.receiver import Receiver, receiver
from tests.support.installations.in_process import fetch
from tests.support.installations.installation import Installation, Program
from tests.support.installations.shared import shared_installation
from tests.support.services.running import Services

LOCAL = {"webhook_schemes": "http", "webhook_private": "true", "webhook_timeout": 2, "webhook_attempts": 2}


@dataclass
class Place:
    """An installation whose webhooks may be told on this machine, and tried twice."""

    installation: Installation
    server: Program

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.server.url, self.server.url)

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "runfold_stack", *arguments],
            env=self.server.env | {"RUNFOLD_TRACKING_URI": self.server.url} | variables,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return asyncio.run(fetch(self.installation, query))


@pytest.fixture(scope="module")
def place(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with shared_installation(services, "hooked", tmp_path_factory.mktemp("hooked")) as installation:
        worker, server = installation.program("worker", **LOCAL), installation.program("server", **LOCAL)
        for program in (worker, server):
            program.wait_ready()
        yield Place(installation, server)


@pytest.fixture
def heard() -> Iterator[Receiver]:
    with receiver() as own:
        yield own


def until(what: str, ask: Callable[[], Any], timeout: float = 60.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := ask()):
        assert time.monotonic() < deadline, f"did not happen: {what}"
        time.sleep(0.05)
    return found


def test_what_there_is_what_failed_and_telling_it_again(place: Place, heard: Receiver) -> None:
    assert place.run("webhooks", "list") == (0, "", "")
    assert place.run("webhooks", "failed") == (0, "", "")
    hook = place.client.create_webhook("deploy", f"{heard.url}/deploy", ["registered_model.created"], secret="geheim")
    other = place.client.create_webhook("other", f"{heard.url}/other", ["model_version_alias.created"])
    place.client.update_webhook(other.webhook_id, status="DISABLED")
    code, output, _ = place.run("webhooks", "list")
    assert (code, sorted(output.splitlines())) == (
        0,
        sorted(
            [
                f"{hook.webhook_id}  ACTIVE  deploy  {heard.url}/deploy  registered_model.created",
                f"{other.webhook_id}  DISABLED  other  {heard.url}/other  model_version_alias.created",
            ]
        ),
    )
    assert "geheim" not in place.run("webhooks", "list", "--json")[1]
    assert {one["name"] for one in json.loads(place.run("webhooks", "list", "--json")[1])["webhooks"]} == {
        "deploy",
        "other",
    }

    heard.statuses += [500, 503]
    place.client.create_registered_model("churn")
    until("given up", lambda: place.rows("SELECT FROM delivery WHERE state = 'failed'"))
    (post,) = {post.id for post in heard.at("/deploy")}
    code, output, _ = place.run("webhooks", "failed")
    assert code == 0
    (line,) = output.splitlines()
    assert f"registered_model.created  to {hook.webhook_id}  {post}  2 tries: the receiver answered 503" in line
    answer = json.loads(place.run("webhooks", "failed", "--webhook", "deploy", "--json")[1])
    (failed,) = answer["deliveries"]
    assert (failed["delivery_id"], failed["state"], failed["attempts"]) == (post, "failed", 2)
    assert failed["position"] in line
    assert place.run("webhooks", "failed", "--webhook", "other") == (0, "", "")

    code, output, _ = place.run("webhooks", "redeliver", "deploy", "--from", failed["position"])
    assert code == 0
    assert output.startswith(f"{hook.webhook_id}: redelivers {failed['position']} to registry:0:")
    until("told", lambda: heard.taken("/deploy"))
    assert {one.id for one in heard.at("/deploy")} == {post}
    until("no longer among the failed", lambda: place.run("webhooks", "failed") == (0, "", ""))
    end = json.loads(place.run("webhooks", "redeliver", "deploy", "--from", "registry:0:0", "--json")[1])["until"]
    code, output, _ = place.run("webhooks", "redeliver", hook.webhook_id, "--from", f"registry:0:{end}")
    assert (code, "no events from" in output) == (0, True)

    for arguments, says in (
        (("redeliver", "deploy", "--from", "yesterday"), "'from'"),
        (("redeliver", "deploy", "--from", "runs:0:1"), "registry:0:120"),
        (("redeliver", "deploy", "--from", "registry:0:1000000"), "ends at"),
        (("redeliver", "nobody", "--from", "registry:0:0"), "There is no webhook 'nobody'"),
        (("failed", "--webhook", "nobody"), "There is no webhook 'nobody'"),
        (("list", "--server", "http://127.0.0.1:1"), "name it by --server"),
    ):
        code, output, talk = place.run("webhooks", *arguments)
        assert (code, output) == (1, ""), arguments
        assert says in talk
    for one in (hook, other):
        place.client.delete_webhook(one.webhook_id)


def test_a_rebuild_and_a_rollback_of_every_projection_tell_nothing_and_what_comes_after_is_told_once(
    place: Place, heard: Receiver
) -> None:
    client = place.client
    kinds: list[WebhookEventStr | WebhookEvent] = [
        "registered_model.created",
        "model_version.created",
        "model_version_alias.created",
    ]
    hook = client.create_webhook("quiet", f"{heard.url}/quiet", kinds)
    client.create_registered_model("quiet")
    client.create_model_version("quiet", "s3://bucket/m")
    client.set_registered_model_alias("quiet", "prod", "1")
    until("told", lambda: len(heard.taken("/quiet")) == 3)
    until("noted", lambda: not place.rows("SELECT FROM delivery WHERE state = 'waiting'"))
    before = place.rows("SELECT delivery_id::text, state, attempts FROM delivery ORDER BY 1")
    live = "SELECT projection, number FROM generation WHERE state = 'live' ORDER BY 1"
    first = place.rows(live)

    for projection in Projection:
        code, output, talk = place.run("rebuild", projection.value)
        assert code == 0, talk
        assert output.splitlines()[-1].endswith("is live")
    rebuilt = place.rows(live)
    assert [name for name, _ in rebuilt] == [name for name, _ in first]
    assert not set(rebuilt) & set(first)
    assert len(heard.posts) == 3

    client.create_registered_model("between")
    until("told of what came after the rebuild", lambda: len(heard.posts) == 4)
    until("noted", lambda: not place.rows("SELECT FROM delivery WHERE state = 'waiting'"))
    code, output, talk = place.run("rollback")
    assert code == 0, talk
    assert len(output.splitlines()) == len(Projection)
    assert place.rows(live) == first

    client.create_registered_model("after")
    until("told of what came after the rollback", lambda: len(heard.posts) == 5)
    # The reaction is behind "after": whatever it would have told of what was before lies in the queue by now.
    until("noted", lambda: not place.rows("SELECT FROM delivery WHERE state = 'waiting'"))
    names = [post.data["data"]["name"] for post in heard.posts]
    assert names == ["quiet", "quiet", "quiet", "between", "after"]
    assert len({post.id for post in heard.posts}) == 5
    after = place.rows("SELECT delivery_id::text, state, attempts FROM delivery ORDER BY 1")
    assert set(before) <= set(after)
    assert len(after) == len(before) + 2
    client.delete_webhook(hook.webhook_id)
