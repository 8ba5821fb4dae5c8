"""Webhooks over real Kafka, Postgres and sockets: the unmodified MLflow client's calls, and what a receiver hears
whatever breaks.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import httpx2
import mlflow
import pytest
from mlflow.entities.webhook import WebhookEvent, WebhookEventStr
from mlflow.exceptions import MlflowException
from mlflow.webhooks.delivery import _generate_hmac_signature

from runfold_projections.core.projection import Projection
from runfold_projections.generations.generations import create_generation
from runfold_projections.postgres.connection import open_connection
from tests.support.doubles.receiver import Post, Receiver, receiver
from tests.support.installations.installation import Installation
from tests.support.installations.server_pair import ServerPair

API = "/api/runfold/v1/"
_numbers = itertools.count(1)


@pytest.fixture
def client(servers: ServerPair) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(servers.uris[0], servers.uris[0])


@pytest.fixture
def native(servers: ServerPair) -> Iterator[httpx2.Client]:
    with servers.client(1) as client:
        yield client


@pytest.fixture
def heard() -> Iterator[Receiver]:
    with receiver() as own:
        yield own


def name() -> str:
    return f"model-{next(_numbers)}"


def until(what: str, ask: Callable[[], Any], timeout: float = 40.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := ask()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def verify(post: Post, secret: str) -> None:
    timestamp = post.headers["x-mlflow-timestamp"]
    assert post.headers["x-mlflow-signature"] == _generate_hmac_signature(secret, post.id, timestamp, post.body)
    assert abs(int(timestamp) - time.time()) < 300


def rows(servers: ServerPair, query: str, *args: Any) -> list[Any]:
    async def ask() -> list[Any]:
        connection = await asyncpg.connect(servers.dsn, server_settings={"search_path": servers.namespace})
        try:
            return list(await connection.fetch(query, *args))
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_the_clients_calls(client: mlflow.MlflowClient, heard: Receiver) -> None:
    made = client.create_webhook(
        "notify", f"{heard.url}/a", ["model_version.created", "registered_model.created"], description="d", secret="s"
    )
    assert (made.name, made.url, made.description, str(made.status)) == ("notify", f"{heard.url}/a", "d", "ACTIVE")
    assert [str(event) for event in made.events] == ["model_version.created", "registered_model.created"]
    assert client.get_webhook(made.webhook_id).webhook_id == made.webhook_id
    assert made.webhook_id in [one.webhook_id for one in client.list_webhooks(max_results=1000)]
    changed = client.update_webhook(
        made.webhook_id, name="other", events=["model_version_tag.set"], status="DISABLED", description="e"
    )
    assert (changed.name, str(changed.status), changed.description) == ("other", "DISABLED", "e")
    assert [str(event) for event in changed.events] == ["model_version_tag.set"]
    result = client.test_webhook(made.webhook_id)
    assert (result.success, result.response_status, result.response_body) == (True, 200, "ok")
    (trial,) = heard.at("/a")
    verify(trial, "s")
    assert (trial.data["entity"], trial.data["action"]) == ("model_version_tag", "set")
    client.delete_webhook(made.webhook_id)
    with pytest.raises(MlflowException, match="not found"):
        client.get_webhook(made.webhook_id)
    pages = [client.create_webhook(f"p{n}", f"{heard.url}/p", ["model_version.created"]) for n in range(3)]
    first = client.list_webhooks(max_results=2)
    assert len(first) == 2
    assert len({one.webhook_id for one in [*first, *client.list_webhooks(max_results=2, page_token=first.token)]}) >= 3
    for page in pages:
        client.delete_webhook(page.webhook_id)


@pytest.mark.parametrize("url", ["ftp://example.org/", "http://", "   ", "http://user:word@example.org/"])
def test_addresses_that_are_refused(client: mlflow.MlflowClient, url: str) -> None:
    with pytest.raises(MlflowException, match="ebhook URL"):
        client.create_webhook("w", url, ["model_version.created"])


def test_every_change_is_told_once_with_mlflows_payload_and_signature(
    client: mlflow.MlflowClient, heard: Receiver
) -> None:
    kinds: list[WebhookEventStr | WebhookEvent] = [
        "registered_model.created",
        "model_version.created",
        "model_version_tag.set",
        "model_version_tag.deleted",
        "model_version_alias.created",
        "model_version_alias.deleted",
    ]
    hook = client.create_webhook("all", f"{heard.url}/all", kinds, secret="geheim")
    model = name()
    client.create_registered_model(model, tags={"a": "1"}, description="what")
    client.create_model_version(model, "s3://bucket/m", tags={"b": "2"}, description="new")
    client.set_model_version_tag(model, "1", "k", "v")
    client.set_registered_model_alias(model, "prod", "1")
    with pytest.raises(MlflowException):
        client.set_registered_model_alias(model, "prod", "99")
    client.delete_model_version_tag(model, "1", "k")
    client.delete_registered_model_alias(model, "prod")
    posts = until("six deliveries", lambda: len(heard.at("/all")) >= 6 and heard.at("/all"))
    told = {f"{post.data['entity']}.{post.data['action']}": post.data["data"] for post in posts}
    assert told == {
        "registered_model.created": {"name": model, "tags": {"a": "1"}, "description": "what"},
        "model_version.created": {
            "name": model,
            "version": "1",
            "source": "s3://bucket/m",
            "run_id": None,
            "tags": {"b": "2"},
            "description": "new",
        },
        "model_version_tag.set": {"name": model, "version": "1", "key": "k", "value": "v"},
        "model_version_tag.deleted": {"name": model, "version": "1", "key": "k"},
        "model_version_alias.created": {"name": model, "alias": "prod", "version": "1"},
        "model_version_alias.deleted": {"name": model, "alias": "prod"},
    }
    for post in posts:
        verify(post, "geheim")
    assert len({post.id for post in posts}) == len(posts) == 6
    client.delete_webhook(hook.webhook_id)


def test_the_secret_is_in_no_event_and_no_answer(
    servers: ServerPair, client: mlflow.MlflowClient, native: httpx2.Client
) -> None:
    hook = client.create_webhook("secret", "http://127.0.0.1:9/x", ["model_version.created"], secret="fz8Kq0secret")
    client.update_webhook(hook.webhook_id, secret="fz8Kq1secret")
    text = ""
    with httpx2.Client(base_url=servers.uris[0], timeout=30) as plain:
        ends = plain.get(f"{API}positions").json()["partitions"]
        end = next(one["end"] for one in ends if one["partition"] == "registry:0")
        query = {"topic": "registry", "from": "beginning"}
        with plain.stream("GET", f"{API}events:stream", params=query) as answer:
            for line in answer.iter_lines():
                text += line
                if f"registry:0:{end - 1}" in line and line.startswith("data:"):
                    break
        text += plain.get(f"/api/2.0/mlflow/webhooks/{hook.webhook_id}").text
    assert hook.webhook_id in text
    assert "fz8Kq" not in text
    assert (
        rows(servers, "SELECT secret FROM webhook_secret WHERE webhook_id = $1", hook.webhook_id)[0][0]
        == "fz8Kq1secret"
    )
    client.delete_webhook(hook.webhook_id)
    until(
        "the secret forgotten",
        lambda: not rows(servers, "SELECT FROM webhook_secret WHERE webhook_id = $1", hook.webhook_id),
    )


def test_a_receiver_that_is_down_is_tried_again_under_the_same_id(
    client: mlflow.MlflowClient, native: httpx2.Client, heard: Receiver
) -> None:
    hook = client.create_webhook("down", f"{heard.url}/down", ["registered_model.created"])
    heard.statuses += [500, 503]
    client.create_registered_model(name())
    until("taken at the third try", lambda: heard.taken("/down"))
    posts = heard.at("/down")
    assert [post.status for post in posts] == [500, 503, 200]
    assert len({(post.id, post.body) for post in posts}) == 1

    def listed() -> Any:
        return native.get(f"{API}webhooks/deliveries", params={"webhook": "down"}).json()["deliveries"]

    (row,) = until("noted", lambda: listed()[0]["state"] == "delivered" and listed())
    assert (row["attempts"], row["status"], row["delivery_id"]) == (3, 200, posts[0].id)
    client.delete_webhook(hook.webhook_id)


def test_a_dead_receiver_holds_up_nobody_and_ends_among_the_failed(
    client: mlflow.MlflowClient, native: httpx2.Client, heard: Receiver
) -> None:
    heard.answers.clear()
    dead = client.create_webhook("dead", f"{heard.url}/dead", ["registered_model.created"])
    gone = client.create_webhook("gone", f"{heard.url}/gone", ["registered_model.created"])
    quick = client.create_webhook("quick", f"{heard.url}/quick", ["model_version.created"])
    heard.statuses.append(410)
    model = name()
    client.create_registered_model(model)
    until("refused for ever", lambda: heard.at("/gone"))
    began = time.monotonic()
    client.create_model_version(model, "s3://bucket/s")
    until("told beside it", lambda: heard.at("/quick"), timeout=10)
    assert time.monotonic() - began < 10

    def failed() -> Any:
        return native.get(f"{API}webhooks/deliveries", params={"state": "failed", "webhook": "gone"}).json()[
            "deliveries"
        ]

    (row,) = until("listed", failed)
    assert (row["status"], row["attempts"], "410" in row["error"]) == (410, 1, True)
    for hook in (dead, gone, quick):
        client.delete_webhook(hook.webhook_id)


def test_redelivery_from_a_position_tells_again_under_the_same_ids_and_a_replay_tells_nothing(
    servers: ServerPair, client: mlflow.MlflowClient, native: httpx2.Client, heard: Receiver
) -> None:
    before, between, after = name(), name(), name()
    client.create_registered_model(before)
    hook = client.create_webhook("again", f"{heard.url}/again", ["registered_model.created"])
    for model in (between, after):
        client.create_registered_model(model)
    until("told", lambda: len(heard.at("/again")) == 2)
    assert [post.data["data"]["name"] for post in heard.at("/again")] == [between, after]

    async def replay() -> None:
        async with open_connection(servers.dsn, servers.namespace, application="test") as connection:
            ends = await connection.fetchval("SELECT next_offset FROM checkpoint WHERE topic = 'registry'")
            async with connection.transaction():
                generation = await create_generation(connection, servers.namespace, Projection.REGISTRY)
            query = f'SELECT next_offset FROM "{generation.schema_name}".checkpoint'  # noqa: S608
            async with asyncio.timeout(60):
                while (await connection.fetchval(query) or 0) < ends:
                    await asyncio.sleep(0.1)

    asyncio.run(replay())
    last = name()
    client.create_registered_model(last)
    until("the next one told", lambda: len(heard.at("/again")) >= 3)
    assert [post.data["data"]["name"] for post in heard.at("/again")] == [between, after, last]
    ids = [post.id for post in heard.at("/again")]
    positions = {
        row["delivery_id"]: row["position"]
        for row in native.get(f"{API}webhooks/deliveries", params={"webhook": "again"}).json()["deliveries"]
    }
    answer = native.post(f"{API}webhooks/again/redeliver", params={"from": positions[ids[1]]})
    assert answer.status_code == 200, answer.text
    until("told again", lambda: len(heard.at("/again")) >= 5)
    assert sorted(post.id for post in heard.at("/again")[3:]) == sorted(ids[1:])
    answer = native.post(f"{API}webhooks/again/redeliver", params={"from": "registry:0:0"})
    names = lambda: {post.data["data"]["name"] for post in heard.at("/again")}  # noqa: E731
    until("even what came before it", lambda: before in names())
    client.delete_webhook(hook.webhook_id)


async def test_a_worker_killed_before_it_could_note_a_delivery_tells_it_again_under_the_same_id(
    installation: Installation,
) -> None:
    settings = {"webhook_schemes": "http", "webhook_private": "true", "webhook_timeout": 2}
    worker = installation.worker(**settings)
    server = installation.server(webhook_schemes="http")
    client = mlflow.MlflowClient(server.url, server.url)
    with receiver() as heard:
        hook = await asyncio.to_thread(
            client.create_webhook, "killed", f"{heard.url}/dead", ["registered_model.created"], secret="s"
        )
        heard.answers.clear()
        await asyncio.to_thread(client.create_registered_model, "model")
        assert await asyncio.to_thread(heard.hung.wait, 30)
        await asyncio.to_thread(worker.kill)
        heard.answers.set()
        async with asyncio.timeout(60):
            while not heard.posts:
                await asyncio.sleep(0.05)
            worker.start()
            while len(heard.posts) < 2:
                await asyncio.sleep(0.05)
        first, second = heard.posts[:2]
        assert (first.id, first.body) == (second.id, second.body)
        verify(second, "s")
        assert hook.webhook_id
