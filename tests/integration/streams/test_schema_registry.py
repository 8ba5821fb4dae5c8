"""The schema registry's protocol: what is there, what is not, and what a newer release declared."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import fastavro
import httpx2
import pytest

from runfold_log.producer import RecordSender
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.envelope import Writer
from runfold_schemas.events.system import SchemaDeclared
from runfold_schemas.ids import Ids
from runfold_schemas.positions.position import Partition
from runfold_schemas.positions.topics import Topic
from runfold_server.schema_registry.protocol import MEDIA_TYPE
from runfold_server.schema_registry.routes import BASE
from tests.support.installations.server_pair import ServerPair
from tests.support.installations.stopping import stop_process

CREATED = "runfold.runs.RunCreated"
FUTURE = {
    "type": "record",
    "name": "RunCrowned",
    "namespace": "runfold.runs",
    "fields": [{"name": "run_id", "type": "string"}],
}


@pytest.fixture
def registry(servers: ServerPair) -> Iterator[httpx2.Client]:
    with servers.client() as client:
        client.base_url = client.base_url.join(BASE.lstrip("/") + "/")
        yield client


def get(registry: httpx2.Client, path: str) -> Any:
    answer = registry.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, MEDIA_TYPE), answer.text
    return answer.json()


def refused(answer: httpx2.Response) -> tuple[int, int]:
    assert answer.headers["content-type"] == MEDIA_TYPE
    said = answer.json()
    assert set(said) == {"error_code", "message"}
    assert said["message"]
    return answer.status_code, said["error_code"]


def declare(servers: ServerPair, *declared: SchemaDeclared) -> None:
    """As a newer release does when it raises the level."""

    async def send() -> None:
        ids = Ids()
        async with RecordSender(servers.kafka, servers.namespace) as sender:
            for number, one in enumerate(declared):
                await sender.send_event(Partition(Topic.SYSTEM, 0), None, one, ids, Writer(ids.run_id()), number)

    asyncio.run(send())


def declaration(schema_id: int, version: int = 1, text: str | None = None) -> SchemaDeclared:
    return SchemaDeclared(
        schema_id=schema_id,
        subject="runfold.runs.RunCrowned",
        version=version,
        level=99,
        schema=json.dumps(FUTURE) if text is None else text,
        topics=["runs"],
    )


def test_every_released_schema_is_served_as_it_was_written(registry: httpx2.Client) -> None:
    for one in released_catalog().by_id.values():
        assert get(registry, f"schemas/ids/{one.schema_id}")["schema"] == one.text
        assert registry.get(f"schemas/ids/{one.schema_id}/schema").text == one.text
        assert get(registry, f"schemas/ids/{one.schema_id}/subjects") == [one.subject]
        assert get(registry, f"schemas/ids/{one.schema_id}/versions") == [
            {"subject": one.subject, "version": one.version}
        ]
        whole = {"subject": one.subject, "version": one.version, "id": one.schema_id, "schema": one.text}
        assert get(registry, f"subjects/{one.subject}/versions/{one.version}") == whole
        assert registry.get(f"subjects/{one.subject}/versions/{one.version}/schema").text == one.text
        assert whole in get(registry, "schemas")


def test_subjects_are_listed_with_their_versions(registry: httpx2.Client) -> None:
    subjects = get(registry, "subjects")
    assert set(released_catalog().subjects) <= set(subjects)
    assert get(registry, "subjects?subjectPrefix=runfold.log.") == ["runfold.log.Genesis"]
    assert get(registry, "subjects?offset=1&limit=2") == subjects[1:3]
    assert get(registry, f"subjects/{CREATED}/versions") == [1]
    newest = get(registry, f"subjects/{CREATED}/versions/latest")
    assert newest == get(registry, f"subjects/{CREATED}/versions/-1") == get(registry, f"subjects/{CREATED}/versions/1")
    assert get(registry, "schemas/types") == ["AVRO"]


def test_a_schema_is_found_however_it_is_written(registry: httpx2.Client) -> None:
    text = released_catalog().newest(CREATED).text
    for written in (text, json.dumps(json.loads(text)), json.dumps(json.loads(text), sort_keys=True)):
        answer = registry.post(f"subjects/{CREATED}", json={"schema": written})
        assert answer.json() == get(registry, f"subjects/{CREATED}/versions/1")
        assert registry.post(f"subjects/{CREATED}/versions", json={"schema": written}).json() == {
            "id": released_catalog().newest(CREATED).schema_id
        }


def test_what_is_not_there_has_the_protocols_codes(registry: httpx2.Client) -> None:
    other = json.dumps({"type": "record", "name": "Other", "fields": []})
    assert refused(registry.get("subjects/none/versions")) == (404, 40401)
    assert refused(registry.get("subjects/none/versions/1")) == (404, 40401)
    assert refused(registry.get("config/none")) == (404, 40401)
    assert refused(registry.get(f"subjects/{CREATED}/versions/9")) == (404, 40402)
    assert refused(registry.get("schemas/ids/987654")) == (404, 40403)
    assert refused(registry.get("schemas/ids/987654/versions")) == (404, 40403)
    assert refused(registry.post(f"subjects/{CREATED}", json={"schema": other})) == (404, 40403)
    assert refused(registry.post("subjects/none", json={"schema": other})) == (404, 40401)
    for version in ("0", "-2", "one", "2147483648", "\uff19"):
        assert refused(registry.get(f"subjects/{CREATED}/versions/{version}")) == (422, 42202)
    for schema in ("{}", "[", '{"type": "nonsense"}', "[" * 100_000):
        assert refused(registry.post(f"subjects/{CREATED}", json={"schema": schema})) == (422, 42201)
    assert refused(registry.post(f"subjects/{CREATED}", json=[])) == (422, 42201)
    assert refused(registry.post(f"subjects/{CREATED}", content=b"{")) == (400, 400)
    assert refused(registry.get("schemas/ids/x")) == (404, 404)


def test_nothing_can_be_changed(registry: httpx2.Client) -> None:
    other = json.dumps({"type": "record", "name": "Other", "fields": []})
    assert get(registry, "mode") == get(registry, f"mode/{CREATED}") == {"mode": "READONLY"}
    level = {"compatibilityLevel": "FULL_TRANSITIVE"}
    assert get(registry, "config") == get(registry, f"config/{CREATED}") == level
    for method, path in (
        ("POST", f"subjects/{CREATED}/versions"),
        ("POST", "subjects/mine-value/versions"),
        ("DELETE", f"subjects/{CREATED}"),
        ("DELETE", f"subjects/{CREATED}/versions/1"),
        ("PUT", "config"),
        ("PUT", f"config/{CREATED}"),
        ("PUT", "mode"),
    ):
        assert refused(registry.request(method, path, json={"schema": other})) == (422, 42205), (method, path)
    assert get(registry, f"subjects/{CREATED}/versions") == [1]


def test_a_schema_of_a_newer_release_is_served_as_soon_as_it_is_declared(
    servers: ServerPair, registry: httpx2.Client
) -> None:
    assert refused(registry.get("schemas/ids/7001")) == (404, 40403)
    # An id means one schema for ever: a second declaration of it, or one of an id of this release, changes nothing.
    genuine = released_catalog().newest(CREATED)
    declare(
        servers, declaration(7001), declaration(7001, text='"string"'), declaration(genuine.schema_id, text='"int"')
    )
    found = get(registry, "schemas/ids/7001")
    assert fastavro.parse_schema(json.loads(found["schema"])) == fastavro.parse_schema(FUTURE)
    assert get(registry, "subjects/runfold.runs.RunCrowned/versions") == [1]
    assert get(registry, f"schemas/ids/{genuine.schema_id}")["schema"] == genuine.text
    declare(servers, declaration(7002, version=2, text="no schema at all"))
    assert get(registry, "subjects/runfold.runs.RunCrowned/versions/latest")["id"] == 7002
    assert get(registry, "schemas/ids/1?fetchMaxId=true")["maxId"] == 7002
    again = registry.post("subjects/runfold.runs.RunCrowned", json={"schema": json.dumps(FUTURE)})
    assert again.json()["id"] == 7001


def test_without_kafka_this_releases_schemas_are_served_and_all_else_is_put_off(
    servers: ServerPair, registry: httpx2.Client
) -> None:
    kafka = servers.stack.pid("kafka")
    stop_process(kafka)
    try:
        assert get(registry, "schemas/ids/1")["subject"] == "runfold.log.Genesis"
        assert refused(registry.get("schemas/ids/987654")) == (503, 50001)
        assert refused(registry.get("subjects")) == (503, 50001)
    finally:
        os.kill(kafka, signal.SIGCONT)
    deadline = time.monotonic() + 30
    while registry.get("subjects").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
