"""The embedded S3 store: real processes, killed and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from runfold_stack.embedded import RunningStack, embedded_stack
from runfold_stack.embedded.s3 import (
    ADMIN,
    ADMIN_DISTANCE,
    ADMIN_GRPC,
    S3Place,
    arguments,
    choose_ports,
    keys_in,
    make_keys,
    sockets,
)
from runfold_stack.errors import StackError
from runfold_stack.supervision.probe import answers_ok


@asynccontextmanager
async def client(stack: RunningStack, secret: str | None = None) -> AsyncIterator[Any]:
    store = stack.endpoints.s3
    assert store is not None
    async with client_of(store, secret) as made:
        yield made


@asynccontextmanager
async def client_of(store: S3Place, secret: str | None = None) -> AsyncIterator[Any]:
    async with get_session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=store.endpoint,
        aws_access_key_id=store.keys.access_key,
        aws_secret_access_key=secret or store.keys.secret_key,
        config=AioConfig(signature_version="s3v4", request_checksum_calculation="when_required"),
    ) as made:
        yield made


async def content(s3: Any, key: str) -> bytes:
    answer = await s3.get_object(Bucket="kept", Key=key)
    return bytes(await answer["Body"].read())


async def test_objects_keys_and_the_address_are_kept_over_kills_and_restarts(tmp_path: Path) -> None:
    async with embedded_stack(tmp_path, kafka=False, postgres=False) as stack:
        before = stack.endpoints.s3
        assert before is not None
        async with client(stack) as s3:
            await s3.create_bucket(Bucket="kept")
            for number in range(20):
                await s3.put_object(Bucket="kept", Key=f"before/{number}", Body=os.urandom(200_000) + b"before")
            former = stack.pid("s3")
            assert all(path.is_socket() for path in sockets(before))
            stack.kill("s3", signal.SIGKILL)
            await stack.wait_ready("s3")
            assert stack.pid("s3") != former
            # Ready says that it takes writes again, not only that it answers.
            await s3.put_object(Bucket="kept", Key="after", Body=b"after")
            for number in range(20):
                assert (await content(s3, f"before/{number}")).endswith(b"before")
    async with embedded_stack(tmp_path, kafka=False, postgres=False) as stack, client(stack) as s3:
        assert stack.endpoints.s3 == before
        assert await content(s3, "after") == b"after"
    assert not any(path.exists() for path in sockets(before))


async def test_only_who_has_the_keys_gets_in_and_every_port_is_local(tmp_path: Path) -> None:
    async with embedded_stack(tmp_path, kafka=False, postgres=False) as stack:
        async with client(stack, "wrong") as stranger:
            with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
                await stranger.create_bucket(Bucket="mine")
        store = stack.endpoints.s3
        assert store is not None
        async with httpx2.AsyncClient(trust_env=False) as nobody:
            assert (await nobody.put(f"{store.endpoint}/mine")).status_code == 403
        expected = {("127.0.0.1", port) for port in store.ports.values()}
        # It answers before it listens on the last of them.
        async with asyncio.timeout(30):
            while (found := listening(stack.pid("s3"))) < expected:
                await asyncio.sleep(0.05)
        assert found == expected
        secret = store.keys.secret_key
        for place in (tmp_path / "stack.json", tmp_path / "logs" / "s3.log", Path(f"/proc/{stack.pid('s3')}/cmdline")):
            assert secret.encode() not in place.read_bytes()
        assert not [log for log in (tmp_path / "logs").iterdir() if secret.encode() in log.read_bytes()]
    assert stat.S_IMODE((tmp_path / "s3" / "keys.json").stat().st_mode) == 0o600


async def test_a_directory_of_a_store_that_was_open_still_starts(tmp_path: Path) -> None:
    """Up to 0.1 the store's inner ports asked for no certificate."""
    place = S3Place(tmp_path / "s3", tmp_path / "log", make_keys(tmp_path / "s3"), choose_ports({}))
    place.data.mkdir()
    keys = {"AWS_ACCESS_KEY_ID": place.keys.access_key, "AWS_SECRET_ACCESS_KEY": place.keys.secret_key}
    with place.log.open("wb") as log:
        before = await asyncio.create_subprocess_exec(
            *arguments(place), cwd=place.directory, env=os.environ | keys, stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(60):
            while not await answers_ok("127.0.0.1", place.ports["s3"], "/healthz")():
                await asyncio.sleep(0.05)
            while not await answers_ok("127.0.0.1", place.ports["s3_master"], "/dir/assign")():
                await asyncio.sleep(0.05)
        async with client_of(place) as s3:
            await s3.create_bucket(Bucket="kept")
            await s3.put_object(Bucket="kept", Key="large", Body=b"before" * 2_000_000)
    finally:
        before.terminate()
        await before.wait()
    async with embedded_stack(tmp_path, kafka=False, postgres=False) as stack, client(stack) as s3:
        assert await content(s3, "large") == b"before" * 2_000_000
        await s3.put_object(Bucket="kept", Key="after", Body=b"after")
        assert await content(s3, "after") == b"after"


def listening(pid: int) -> set[tuple[str, int]]:
    """Local addresses on which this process accepts connections."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(os.readlink(descriptor))
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, port = fields[1].split(":")
                octets = bytes.fromhex(address)[::-1]
                found.add((".".join(map(str, octets)) if len(octets) == 4 else address, int(port, 16)))
    return found


def test_keys_are_made_once(tmp_path: Path) -> None:
    assert keys_in(tmp_path) is None
    keys = make_keys(tmp_path)
    assert make_keys(tmp_path) == keys == keys_in(tmp_path)
    assert keys.secret_key not in repr(keys)
    (tmp_path / "keys.json").write_text("{}")
    with pytest.raises(StackError, match="damaged"):
        keys_in(tmp_path)


def test_ports_are_distinct_remembered_and_none_that_others_have() -> None:
    first = choose_ports({})
    assert len(set(first.values())) == len(first) == 10
    assert first[ADMIN_GRPC] == first[ADMIN] + ADMIN_DISTANCE
    assert choose_ports(first) == first
    taken = first["s3"]
    assert taken not in choose_ports(first, avoid=[taken]).values()
