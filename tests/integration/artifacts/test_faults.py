"""Uploads and downloads when a part dies, hangs or comes back, and what memory they take."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from runfold_schemas.ids import Ids
from runfold_stack.embedded import embedded_stack
from runfold_storage.bucket import Bucket
from runfold_storage.config import S3Config
from runfold_storage.errors import StorageUnavailable
from runfold_storage.objects import Store
from tests.support.installations.installation import Installation, Program
from tests.support.services.running import Services

OWNER = "a" * 32
ROOT = f"/api/2.0/mlflow-artifacts/artifacts/0/{OWNER}/artifacts"
MB = 1024 * 1024
FLAT_MB = 100
"""What a transfer may add to the server's memory: parts that fill and are sent, and what the HTTP stacks hold."""


def client(program: Program) -> httpx2.Client:
    return httpx2.Client(base_url=program.url, timeout=60, trust_env=False)


def half_an_upload(program: Program, announced: int, sent: int) -> socket.socket:
    """A connection on which an upload has stopped half-way."""
    connection = socket.create_connection(("127.0.0.1", program.port), timeout=30)
    head = f"PUT {ROOT}/half.bin HTTP/1.1\r\nHost: localhost\r\nContent-Length: {announced}\r\n\r\n"
    connection.sendall(head.encode() + b"x" * sent)
    return connection


async def uploads(services: Services, namespace: str) -> list[str]:
    """Keys of the namespace's uploads that are neither completed nor aborted."""
    async with Bucket(services.s3, timeout=20) as bucket:
        answer = await bucket.request("list_multipart_uploads", Prefix=f"{namespace}/")
    return [upload["Key"] for upload in answer.get("Uploads", []) if upload["Key"].startswith(f"{namespace}/")]


async def appears(services: Services, namespace: str, there: bool) -> None:
    """Return once there is such an upload, or none any more."""
    async with asyncio.timeout(60):
        while bool(await uploads(services, namespace)) is not there:
            await asyncio.sleep(0.1)


async def test_a_store_without_keys_is_told_of_with_the_settings_that_name_them(
    services: Services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert services.s3 is not None
    keyless = replace(services.s3, access_key=None, secret_key=None)
    async with Bucket(keyless, timeout=5) as bucket:
        with pytest.raises(StorageUnavailable, match="Set RUNFOLD_S3_ACCESS_KEY and RUNFOLD_S3_SECRET_KEY"):
            await bucket.exists()


async def test_a_server_that_dies_or_a_client_that_leaves_mid_upload_leaves_no_file(installation: Installation) -> None:
    server, _ = await asyncio.to_thread(lambda: (installation.server(), installation.worker()))
    before = await installation.ends()
    # A client that leaves: what it sent is thrown away.
    connection = await asyncio.to_thread(half_an_upload, server, 30 * MB, 20 * MB)
    await appears(installation.services, installation.namespace, True)
    connection.close()
    await appears(installation.services, installation.namespace, False)
    # A server that dies: its parts stay where nothing names them.
    connection = await asyncio.to_thread(half_an_upload, server, 30 * MB, 20 * MB)
    await appears(installation.services, installation.namespace, True)
    await asyncio.to_thread(server.kill, signal.SIGKILL)
    connection.close()
    server.start()
    await asyncio.to_thread(server.wait_ready)
    assert await installation.ends() == before, "no fact of either"
    with client(server) as http:
        assert http.get(f"{ROOT}/half.bin").status_code == 404
        assert http.put(f"{ROOT}/half.bin", content=b"whole").status_code == 200
        assert http.get(f"{ROOT}/half.bin").content == b"whole"


async def test_without_s3_the_server_starts_and_tracks_and_artifacts_wait_for_it(
    installation: Installation, tmp_path: Path
) -> None:
    async with embedded_stack(tmp_path / "own", kafka=False, postgres=False) as stack:
        store = stack.endpoints.s3
        assert store is not None
    keys = {"s3_access_key": store.keys.access_key, "s3_secret_key": store.keys.secret_key}

    def away() -> Program:
        server = installation.server(s3_endpoint=store.endpoint, **keys)
        installation.worker()
        with client(server) as http:
            assert http.post("/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}).status_code == 200
            refused = http.put(f"{ROOT}/a.txt", content=b"a")
            assert (refused.status_code, refused.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
            assert int(refused.headers["retry-after"]) >= 1
            assert store.endpoint in refused.json()["message"]
            assert store.keys.secret_key not in refused.text
            assert http.get(f"{ROOT}/a.txt").status_code == 404, "the log knows that it is not there"
        return server

    server = await asyncio.to_thread(away)
    async with embedded_stack(tmp_path / "own", kafka=False, postgres=False):
        with client(server) as http:
            assert (await asyncio.to_thread(lambda: http.put(f"{ROOT}/a.txt", content=b"a"))).status_code == 200
            assert (await asyncio.to_thread(http.get, f"{ROOT}/a.txt")).content == b"a"
    with client(server) as http:
        gone = await asyncio.to_thread(http.get, f"{ROOT}/a.txt")
        assert gone.status_code == 503
        listed = await asyncio.to_thread(http.get, ROOT.rpartition("/0/")[0], params={"path": f"0/{OWNER}/artifacts"})
        assert listed.json()["files"] == [{"path": "a.txt", "is_dir": False, "file_size": 1}]


async def test_a_store_that_hangs_is_given_up_in_time(services: Services) -> None:
    async with Bucket(services.s3, timeout=1) as bucket:
        store = Store(bucket, "hangs", Ids())
        kept = await store.put(chunks(b"kept"), 4)
        services.kill("s3", signal.SIGSTOP)
        try:
            with pytest.raises(StorageUnavailable, match="did not answer in time"):
                await store.put(chunks(b"lost"), 4)
        finally:
            services.kill("s3", signal.SIGCONT)
        assert b"".join([chunk async for chunk in store.get(kept.key, 0, 4)]) == b"kept"


async def test_a_download_goes_on_where_its_connection_broke(services: Services) -> None:
    content = os.urandom(20 * MB)
    async with Bucket(services.s3, timeout=20) as bucket:
        stored = await Store(bucket, "breaks", Ids()).put(chunks(content, 1 * MB), None)
        assert (stored.size, stored.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    digest = hashlib.sha256()
    async with (
        breaking_proxy(services.s3, every=7 * MB) as (config, connections),
        Bucket(config, timeout=20) as through,
    ):
        async for chunk in Store(through, "breaks", Ids()).get(stored.key, 0, stored.size):
            digest.update(chunk)
    assert digest.hexdigest() == stored.sha256
    assert len(connections) >= 3


async def chunks(content: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


class breaking_proxy:
    """Passes connections on to the store, and cuts each one after so many bytes of answers."""

    def __init__(self, config: S3Config | None, every: int) -> None:
        assert config is not None
        self._config, self._every = config, every
        self._connections: list[asyncio.Task[None] | None] = []

    async def __aenter__(self) -> tuple[S3Config, list[asyncio.Task[None] | None]]:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        c = self._config
        return S3Config(f"http://127.0.0.1:{port}", c.bucket, c.region, c.access_key, c.secret_key), self._connections

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in filter(None, self._connections):
            task.cancel()
        await asyncio.gather(*filter(None, self._connections), return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.append(asyncio.current_task())
        host, port = self._config.endpoint.removeprefix("http://").split(":")
        there, back = await asyncio.open_connection(host, int(port))
        up = asyncio.create_task(self._copy(reader, back, None))
        try:
            await self._copy(there, writer, self._every)
        finally:
            up.cancel()
            for end in (back, writer):
                end.close()
            await asyncio.gather(up, back.wait_closed(), writer.wait_closed(), return_exceptions=True)

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
                if most is not None and (most := most - len(data)) <= 0:
                    return
        except OSError:
            return


async def test_kafka_away_after_the_bytes_leaves_the_old_file_or_the_new_one(installation: Installation) -> None:
    services = installation.services

    def play() -> None:
        server = installation.server()
        installation.worker()
        with client(server) as http:
            assert http.put(f"{ROOT}/a.bin", content=b"old").status_code == 200
            services.kill("kafka", signal.SIGSTOP)
            try:
                refused = http.put(f"{ROOT}/a.bin", content=b"newer")
            finally:
                services.kill("kafka", signal.SIGCONT)
            assert refused.status_code == 503, refused.text
            for _ in range(100):
                found = http.get(f"{ROOT}/a.bin")
                if found.status_code != 503:
                    break
            assert found.content in (b"old", b"newer")
            assert http.put(f"{ROOT}/a.bin", content=b"newest").status_code == 200
            assert http.get(f"{ROOT}/a.bin").content == b"newest"

    await asyncio.to_thread(play)


def peak_mb(program: Program) -> int:
    """Most memory that the process has had so far."""
    assert program.process is not None
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) // 1024


async def test_a_transfer_takes_no_memory_of_its_size(installation: Installation) -> None:
    size = 300 * MB

    def body() -> Iterator[bytes]:
        for _ in range(size // MB):
            yield b"\1" * MB

    def play() -> tuple[int, int, int]:
        server = installation.server()
        installation.worker()
        with client(server) as http:
            assert http.put(f"{ROOT}/warm.bin", content=b"x" * MB).status_code == 200
            assert len(http.get(f"{ROOT}/warm.bin").content) == MB
            idle = peak_mb(server)
            assert http.put(f"{ROOT}/large.bin", content=body(), timeout=280).status_code == 200
            uploaded = peak_mb(server)
            with http.stream("GET", f"{ROOT}/large.bin", timeout=280) as answer:
                assert sum(len(chunk) for chunk in answer.iter_bytes()) == size
            return idle, uploaded, peak_mb(server)

    idle, uploaded, downloaded = await asyncio.to_thread(play)
    assert uploaded - idle < FLAT_MB, (idle, uploaded)
    assert downloaded - idle < FLAT_MB, (idle, uploaded, downloaded)
