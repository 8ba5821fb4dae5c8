"""Bytes that were changed in the store behind the log's back are never passed off as the file, and are found though
nobody reads them.
"""

import asyncio
import hashlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx2
import pytest

from runfold_server.app.application import open_services
from runfold_server.core.config import ServerConfig
from runfold_stack.commands.status import is_well, render, status
from runfold_stack.config.services import Services
from tests.support.installations.server_pair import ServerPair
from tests.support.mlflow.caller import PROXY

SMALL, LARGE = b"trusted weights", os.urandom(9 * 1024 * 1024)
_numbers = itertools.count(1)


@pytest.fixture
def run(client: httpx2.Client) -> str:
    return str(client.post("/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]["run_id"])


@pytest.fixture
def plain(servers: ServerPair) -> Iterator[httpx2.Client]:
    """A client whose answers are not held against the document: a 500 is expected here, and a broken transfer must not
    be read whole.
    """
    with httpx2.Client(base_url=servers.uris[0], timeout=30) as made:
        yield made


@pytest.fixture(autouse=True)
def mended(servers: ServerPair) -> Iterator[None]:
    yield
    asyncio.run(_execute(servers, f'DELETE FROM "{servers.namespace}".artifact_damage'))  # noqa: S608


async def _execute(servers: ServerPair, statement: str, *arguments: object) -> Any:
    connection = await asyncpg.connect(servers.dsn)
    try:
        return await connection.fetchval(statement, *arguments)
    finally:
        await connection.close()


def key_of(servers: ServerPair, run: str, path: str) -> str:
    found = _execute(
        servers,
        f'SELECT object_key FROM "{servers.namespace}".artifact '  # noqa: S608
        "WHERE owner LIKE '%' || $1 || '%' AND path LIKE '%' || $2",
        run,
        path,
    )
    return str(asyncio.run(found))


def change(servers: ServerPair, key: str, content: bytes | None) -> None:
    """Overwrite an object, as whoever has the store's keys can; None deletes it."""

    async def act() -> None:
        from aiobotocore.session import get_session

        config = servers.services.s3
        assert config is not None
        made = get_session().create_client(
            "s3",
            region_name=config.region,
            endpoint_url=config.endpoint,
            aws_access_key_id=config.access_key,
            aws_secret_access_key=config.secret_key,
        )
        async with made as s3:
            if content is None:
                await s3.delete_object(Bucket=config.bucket, Key=key)
            else:
                await s3.put_object(Bucket=config.bucket, Key=key, Body=content)

    asyncio.run(act())


def put(servers: ServerPair, client: httpx2.Client, run: str, name: str, content: bytes) -> tuple[str, str]:
    """Store a file; returns its address and its object's key."""
    where = f"{PROXY}/0/{run}/artifacts/{name}"
    assert client.put(where, content=content).status_code == 200
    assert client.get(where).content == content
    return where, key_of(servers, run, name)


def other(content: bytes) -> bytes:
    """Bytes of the same length that differ in the last one."""
    return content[:-1] + bytes([content[-1] ^ 1])


def damaged(client: httpx2.Client, reader: str = "download") -> float:
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(f'runfold_artifacts_damaged_total{{reader="{reader}"}}'):
            return float(line.rpartition(" ")[2])
    raise AssertionError("no such metric")


def found_by_status(servers: ServerPair) -> dict[str, Any]:
    return asyncio.run(status(Services(servers.kafka, servers.dsn, s3=servers.services.s3), servers.namespace))


def damaged_files(found: dict[str, Any]) -> set[str]:
    return {file["path"].rpartition("/")[2] for file in found["parts"]["s3"]["damaged_files"]}


def test_a_small_file_that_was_overwritten_is_refused_by_every_way_of_reading(
    servers: ServerPair, client: httpx2.Client, plain: httpx2.Client, run: str
) -> None:
    where, key = put(servers, client, run, "model.pkl", SMALL)
    change(servers, key, other(SMALL))
    before = damaged(plain)
    for answer in (
        plain.get(where),
        plain.get("/get-artifact", params={"run_id": run, "path": "model.pkl"}),
        plain.get(where, headers={"range": "bytes=0-3"}),
        plain.get(where, headers={"range": "bytes=0-"}),
    ):
        assert answer.status_code == 500, answer.content
        assert hashlib.sha256(SMALL).hexdigest() in answer.json()["message"]
    assert damaged(plain) == before + 4
    signed = plain.get(where.replace("/artifacts/0/", "/presigned/0/"))
    assert signed.status_code == 500
    assert "not those that were logged" in signed.json()["message"]


def test_a_large_file_that_was_overwritten_never_arrives_complete(
    servers: ServerPair, client: httpx2.Client, plain: httpx2.Client, run: str
) -> None:
    where, key = put(servers, client, run, "model.bin", LARGE)
    change(servers, key, other(LARGE))
    arrived: list[bytes] = []
    with plain.stream("GET", where) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx2.RemoteProtocolError):
            arrived.extend(answer.iter_bytes())
    assert 0 < len(b"".join(arrived)) < len(LARGE)
    # From now on it is known, and no part of it is sent either.
    part = {"range": "bytes=0-99"}
    signed = where.replace("/artifacts/0/", "/presigned/0/")
    assert [plain.get(where, headers=part).status_code, plain.get(signed).status_code] == [500, 500]
    # The operator puts the object back, and a download shows that it is whole.
    change(servers, key, LARGE)
    assert plain.get(where).content == LARGE
    assert [plain.get(where, headers=part).status_code, plain.get(signed).status_code] == [206, 200]


def test_an_object_that_is_shorter_or_gone_is_refused(
    servers: ServerPair, client: httpx2.Client, plain: httpx2.Client, run: str
) -> None:
    where, key = put(servers, client, run, "cut.txt", SMALL)
    change(servers, key, SMALL[:5])
    before = damaged(plain)
    assert plain.get(where).status_code == 500
    change(servers, key, None)
    assert "not in the artifact store any more" in plain.get(where).json()["message"]
    assert damaged(plain) == before + 2


def test_status_names_what_is_damaged_and_is_not_well(
    servers: ServerPair, client: httpx2.Client, plain: httpx2.Client, run: str
) -> None:
    where, key = put(servers, client, run, "named.txt", SMALL)
    assert "damaged" in found_by_status(servers)["parts"]["s3"]
    assert "DAMAGED" not in render(found_by_status(servers))
    change(servers, key, other(SMALL))
    plain.get(where)
    found = found_by_status(servers)
    assert found["parts"]["s3"]["damaged"] == 1
    assert "named.txt: SHA-256" in render(found)
    assert not is_well(found)


async def test_the_check_of_all_files_finds_what_nobody_reads(
    servers: ServerPair, client: httpx2.Client, run: str
) -> None:
    _, key = await asyncio.to_thread(put, servers, client, run, "unread.bin", LARGE)
    for number in range(70):  # more than are looked up at once
        await asyncio.to_thread(client.put, f"{PROXY}/0/{run}/artifacts/many/{number}", content=b"%d" % number)
    await asyncio.to_thread(change, servers, key, other(LARGE))
    config = ServerConfig(
        servers.kafka, servers.dsn, servers.namespace, s3=servers.services.s3, artifact_check_period=0.3
    )
    async with open_services(config) as services:
        async with asyncio.timeout(60):
            while "unread.bin" not in damaged_files(found := await asyncio.to_thread(found_by_status, servers)):
                await asyncio.sleep(0.2)
            while found["parts"]["s3"]["all_checked_at"] is None:
                await asyncio.sleep(0.2)
                found = await asyncio.to_thread(found_by_status, servers)
        assert b'runfold_artifacts_damaged_total{reader="check"}' in services.metrics.text()
        # Put right, as by a restore, it is taken off the list by the next pass.
        await asyncio.to_thread(change, servers, key, LARGE)
        async with asyncio.timeout(60):
            while "unread.bin" in damaged_files(await asyncio.to_thread(found_by_status, servers)):
                await asyncio.sleep(0.2)


async def test_an_object_on_a_damaged_disk_is_found_and_does_not_stop_the_check(
    servers: ServerPair, client: httpx2.Client, run: str
) -> None:
    """SeaweedFS has checksums of its own, and gives nothing of what fails them."""
    mark = os.urandom(64)
    _, key = await asyncio.to_thread(put, servers, client, run, "rotten.bin", mark * 1000)
    place = servers.stack.endpoints.s3
    assert place is not None
    for volume in await asyncio.to_thread(lambda: list(place.data.glob("**/*.dat"))):
        content = await asyncio.to_thread(volume.read_bytes)
        if (at := content.find(mark)) >= 0:
            with volume.open("r+b") as file:
                file.seek(at + 100)
                file.write(b"rot")
            break
    else:
        pytest.fail("the object is in no volume")
    # The store tries for long before it gives up; with the usual 30 s this takes two minutes an object.
    config = ServerConfig(
        servers.kafka, servers.dsn, servers.namespace, s3=servers.services.s3, s3_timeout=2, artifact_check_period=0.3
    )
    before = await _execute(servers, f'SELECT ended_at FROM "{servers.namespace}".artifact_check')  # noqa: S608
    async with open_services(config), asyncio.timeout(90):
        while "rotten.bin" not in damaged_files(await asyncio.to_thread(found_by_status, servers)):
            await asyncio.sleep(0.2)
        while before == await _execute(servers, f'SELECT ended_at FROM "{servers.namespace}".artifact_check'):  # noqa: S608
            await asyncio.sleep(0.1)
    await asyncio.to_thread(change, servers, key, mark * 1000)


async def test_two_servers_share_one_pass(servers: ServerPair, client: httpx2.Client, run: str) -> None:
    for number in range(10):
        await asyncio.to_thread(client.put, f"{PROXY}/0/{run}/artifacts/{number}", content=b"%d" % number)
    config = ServerConfig(
        servers.kafka, servers.dsn, servers.namespace, s3=servers.services.s3, artifact_check_period=0.3
    )
    before = await _execute(servers, f'SELECT ended_at FROM "{servers.namespace}".artifact_check')  # noqa: S608
    async with open_services(config) as one, open_services(replace(config)) as two, asyncio.timeout(60):
        while before == await _execute(servers, f'SELECT ended_at FROM "{servers.namespace}".artifact_check'):  # noqa: S608
            await asyncio.sleep(0.05)
        assert one.artifacts.checks is not two.artifacts.checks
    holder = await _execute(servers, f'SELECT holder FROM "{servers.namespace}".artifact_check')  # noqa: S608
    assert holder is None or len(holder) == 36


@pytest.mark.parametrize("name", ["page", "page.html", "drawing.svg", "größe.html", 'a"b.html'])
def test_a_presigned_download_is_an_attachment_of_a_type_that_is_not_guessed(
    servers: ServerPair, client: httpx2.Client, run: str, name: str
) -> None:
    page = b"<!doctype html><script>document.title = 'mine'</script>"
    where = f"{PROXY}/0/{run}/artifacts/{quote(name)}"
    assert client.put(where, content=page).status_code == 200
    answer = client.get(where)
    signed = client.get(where.replace("/artifacts/0/", "/presigned/0/")).json()
    found = httpx2.get(signed["url"], timeout=30)
    assert (found.status_code, found.content) == (200, page)
    assert found.headers["content-disposition"] == answer.headers["content-disposition"]
    assert found.headers["content-disposition"].startswith("attachment")
    assert found.headers["content-type"].partition(";")[0] == answer.headers["content-type"].partition(";")[0]
    if name == "page":
        assert found.headers["content-type"] == "application/octet-stream"
    # Who changes what was signed gets nothing.
    assert httpx2.get(signed["url"].replace("attachment", "inline"), timeout=30).status_code == 403
