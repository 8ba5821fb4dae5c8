"""One client of the S3 store for the process, opened at its first use, and what its errors mean to a caller."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar

from .config import S3Config
from .errors import NoStore, ObjectMissing, StorageUnavailable, UploadRejected

T = TypeVar("T")
CONNECT_SECONDS = 3.0
_CONNECTIONS = 64
SENDING = 8
"""Requests with bytes that run at once.

More share the same line: each would take longer, until all of them are too late.
"""
_MISSING = frozenset({"NoSuchKey", "NoSuchUpload", "404", "NotFound"})


class Bucket:
    """Requests to the bucket.

    Raises StorageUnavailable where the store is away, slow or refuses us, and NoStore where there is none.

    `timeout` bounds a request, in seconds.
    """

    def __init__(self, config: S3Config | None, *, timeout: float) -> None:
        self._config = config
        self._timeout = timeout
        self._exits = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._sending = asyncio.Semaphore(SENDING)
        self._client: Any = None

    async def __aenter__(self) -> "Bucket":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def request(self, operation: str, **given: Any) -> Any:
        """One request, answered whole.

        A missing bucket is made, once. Raises ObjectMissing or UploadRejected where the store says so.
        """
        config = self.require()
        client = await self._connected(config)
        call = getattr(client, operation)
        with outages(config):
            async with asyncio.timeout(self._timeout):
                try:
                    return await call(Bucket=config.bucket, **given)
                except client.exceptions.ClientError as error:
                    if _code(error) != "NoSuchBucket":
                        raise
                await _make_bucket(client, config)
                return await call(Bucket=config.bucket, **given)

    async def send(self, operation: str, body: bytes, **given: Any) -> Any:
        """A request that carries bytes; waits its turn."""
        async with self._sending:
            return await self.request(operation, Body=body, **given)

    async def presigned(self, operation: str, seconds: int, **given: Any) -> str:
        """A URL with which its holder may do one thing for some seconds, without our keys."""
        config = self.require()
        client = await self._connected(config)
        with outages(config):
            url = await client.generate_presigned_url(
                operation, Params={"Bucket": config.bucket, **given}, ExpiresIn=seconds
            )
        return str(url)

    async def exists(self) -> bool:
        """Whether the store, which answers and knows our keys, has the bucket already."""
        config = self.require()
        client = await self._connected(config)
        with outages(config):
            async with asyncio.timeout(self._timeout):
                try:
                    await client.list_objects_v2(Bucket=config.bucket, MaxKeys=1)
                except client.exceptions.NoSuchBucket:
                    return False
        return True

    @asynccontextmanager
    async def reading(self, key: str, start: int, end: int) -> AsyncIterator[Any]:
        """A stream of the object's bytes from `start` up to `end` (exclusive). Nothing bounds how long it is read."""
        answer = await self.request("get_object", Key=key, Range=f"bytes={start}-{end - 1}")
        async with answer["Body"] as body:
            yield body

    @property
    def is_set(self) -> bool:
        """Whether a store is set."""
        return self._config is not None

    def require(self) -> S3Config:
        """Return how the store is reached; NoStore if none is set."""
        if self._config is None:
            raise NoStore
        return self._config

    async def _connected(self, config: S3Config) -> Any:
        async with self._opening:
            if self._client is None:
                self._client = await self._exits.enter_async_context(
                    await asyncio.to_thread(_client, config, self._timeout)
                )
            return self._client


def _client(config: S3Config, timeout: float) -> Any:
    """A client that is not opened yet.

    Imports and reads files for a second, so it belongs in a thread (libraries.md, S1).
    """
    # Imported on first use: botocore takes most of a second to import.
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    session = get_session()
    loader = session.get_component("data_loader")
    for kind in ("service-2", "endpoint-rule-set-1", "paginators-1", "waiters-2"):
        loader.load_service_model("s3", kind)
    loader.load_data("endpoints")
    return session.create_client(
        "s3",
        region_name=config.region,
        endpoint_url=config.endpoint,
        aws_access_key_id=config.access_key,
        aws_secret_access_key=config.secret_key,
        config=AioConfig(
            # Version 2, the default for an endpoint of one's own, signs no ranges (S3); other stores refuse checksums
            # (S2).
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=timeout,
            retries={"max_attempts": 2, "mode": "standard"},
            max_pool_connections=_CONNECTIONS,
        ),
    )


async def _make_bucket(client: Any, config: S3Config) -> None:
    where = {} if config.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": config.region}}
    try:
        await client.create_bucket(Bucket=config.bucket, **where)
    except client.exceptions.ClientError as error:
        if _code(error) not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise


@contextmanager
def outages(config: S3Config) -> Iterator[None]:
    """Turn what the client raises while the store is away, slow or refuses us into StorageUnavailable."""
    from aiohttp import ClientError as ConnectionFault
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    where = f"The artifact store at {config.endpoint}"
    try:
        yield
    except TimeoutError:
        raise StorageUnavailable(f"{where} did not answer in time") from None
    except ClientError as error:
        code = _code(error)
        if code in _MISSING:
            raise ObjectMissing(code) from error
        if code in ("InvalidPart", "InvalidPartOrder", "EntityTooSmall", "MalformedXML"):
            raise UploadRejected(str(error)) from error
        raise StorageUnavailable(f"{where} refuses, bucket {config.bucket}: {error}", 2.0) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise StorageUnavailable(
            f"{where}: no keys are known. Set RUNFOLD_S3_ACCESS_KEY and RUNFOLD_S3_SECRET_KEY, "
            f"or what Amazon's tools look at ({error})"
        ) from error
    except (BotoCoreError, ConnectionFault, OSError) as error:
        raise StorageUnavailable(f"{where} is away: {type(error).__name__}: {error}") from error


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
