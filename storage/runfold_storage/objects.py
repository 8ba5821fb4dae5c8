"""Objects in and out as streams, a part at a time in memory.

Every upload has a key of its own, which is never written again.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from runfold_schemas.ids import Ids

from .bucket import Bucket
from .errors import ObjectMissing, ObjectTooLarge, ObjectTruncated, StorageUnavailable, UploadRejected

PART_BYTES = 8 * 1024 * 1024
"""Bytes of a part, and the most that go in one request.

Two parts are in memory for each upload that runs: one fills, one is sent.
"""
LARGE_PART_BYTES = 64 * 1024 * 1024
"""Part of an upload that says beforehand that it has more than MOST_PARTS of the small ones."""
MOST_PARTS = 10_000
"""S3's own limit."""
MARK = "runfold-upload"
"""Name of an object's metadata that says which upload of a client made it."""
INLINE_HASH_BYTES = 256 * 1024
"""Hashing more takes longer than handing it to a thread."""
READ_BYTES = 256 * 1024
READ_ATTEMPTS = 4
ABORT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that is complete: its key, its size in bytes and the SHA-256 of its bytes."""

    key: str
    size: int
    sha256: str


class Store:
    """Objects of one namespace. Raises what `Bucket` raises."""

    def __init__(self, bucket: Bucket, namespace: str, ids: Ids) -> None:
        self.bucket = bucket
        self._prefix = f"{namespace}/artifacts/"
        self._ids = ids
        self.signing = asyncio.Semaphore(1)
        """Who signs thousands of addresses does it alone: it computes."""

    def new_key(self) -> str:
        """A key that no object has."""
        return self._prefix + self._ids.event_id()

    def key_of(self, name: str) -> str:
        """The key of an object by its last part."""
        return self._prefix + name

    def holds(self, key: str) -> bool:
        """Whether a key is one of this namespace's objects.

        The log is written by others too, and the bucket may be shared.
        """
        return key.startswith(self._prefix) and "/" not in key.removeprefix(self._prefix)

    async def put(self, body: AsyncIterator[bytes], announced: int | None) -> Stored:
        """Store a stream; `announced` is its length, if it said one. Whatever ends this early, nothing of it stays.

        ObjectTooLarge beyond 10,000 parts.
        """
        size_of_part = PART_BYTES if (announced or 0) <= PART_BYTES * MOST_PARTS else LARGE_PART_BYTES
        if (announced or 0) > size_of_part * MOST_PARTS:
            raise ObjectTooLarge(f"A file may have {size_of_part * MOST_PARTS} bytes; this one has {announced}.")
        key = self.new_key()
        digest, size = hashlib.sha256(), 0
        parts = _parts(body, size_of_part)
        first = await anext(parts, b"")
        size += len(first)
        await hash_part(digest, first)
        if len(first) < size_of_part:
            await self.bucket.send("put_object", first, Key=key)
            return Stored(key, size, digest.hexdigest())
        async with Multipart(self.bucket, key) as upload:
            await upload.send(first)
            del first
            async for part in parts:
                if upload.count == MOST_PARTS:
                    raise ObjectTooLarge(f"A file may have {size_of_part * MOST_PARTS} bytes; this one has more.")
                size += len(part)
                await hash_part(digest, part)
                await upload.send(part)
            await upload.complete()
        return Stored(key, size, digest.hexdigest())

    async def get(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The object's bytes from `start` up to `end` (exclusive).

        A connection that breaks half-way is opened again where it broke (libraries.md, S5). ObjectMissing if there is
        no such object.
        """
        # Imported on first use, as the client is.
        from aiohttp import ClientError

        failures = 0
        while start < end:
            try:
                async with self.bucket.reading(key, start, end) as body:
                    while chunk := await body.read(READ_BYTES):
                        start += len(chunk)
                        failures = 0
                        yield chunk
            except (ClientError, TimeoutError, OSError, StorageUnavailable) as error:
                failures += 1
                if failures == READ_ATTEMPTS:
                    raise StorageUnavailable(
                        f"The artifact store broke off: {type(error).__name__}: {error}"
                    ) from error
                await asyncio.sleep(0.2 * failures)
            else:
                if start < end:
                    raise ObjectTruncated(f"The object {key} is {end - start} bytes shorter than the log says.")

    async def described(self, key: str, mark: str) -> Stored:
        """Read an object that a client uploaded by itself, for its size and digest.

        ObjectMissing if there is none with this mark.
        """
        head = await self.bucket.request("head_object", Key=key)
        if head.get("Metadata", {}).get(MARK) != mark:
            raise ObjectMissing(key)
        size = int(head["ContentLength"])
        digest = hashlib.sha256()
        async for part in _parts(self.get(key, 0, size), PART_BYTES):
            await hash_part(digest, part)
        return Stored(key, size, digest.hexdigest())


class Multipart:
    """An upload in parts: the next one may fill while one is sent. Left without `complete`, it is aborted."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket, self._key = bucket, key
        self._id = ""
        self._done: list[dict[str, Any]] = []
        self._sending: asyncio.Task[Any] | None = None
        self.count = 0

    async def __aenter__(self) -> "Multipart":
        self._id = (await self._bucket.request("create_multipart_upload", Key=self._key))["UploadId"]
        return self

    async def send(self, part: bytes) -> None:
        """Send a part, once the one before it has arrived."""
        await self._arrived()
        self.count += 1
        self._sending = asyncio.create_task(self._send(self.count, part))

    async def complete(self) -> None:
        """Make an object of the parts."""
        await self._arrived()
        await self._bucket.request(
            "complete_multipart_upload", Key=self._key, UploadId=self._id, MultipartUpload={"Parts": self._done}
        )
        self._id = ""

    async def __aexit__(self, *_: object) -> None:
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
        if self._id:
            # Shielded: who cancels an upload (a client that went away) must not leave its parts behind.
            await asyncio.shield(asyncio.create_task(abort(self._bucket, self._key, self._id)))

    async def _arrived(self) -> None:
        if self._sending is not None:
            await self._sending
            self._sending = None

    async def _send(self, number: int, part: bytes) -> None:
        answer = await self._bucket.send("upload_part", part, Key=self._key, UploadId=self._id, PartNumber=number)
        self._done.append({"PartNumber": number, "ETag": answer["ETag"]})


async def abort(bucket: Bucket, key: str, upload_id: str) -> None:
    """Throw an upload's parts away; what is not there, or can't be reached now, is left to the store's own cleaning."""
    try:
        async with asyncio.timeout(ABORT_SECONDS):
            await bucket.request("abort_multipart_upload", Key=key, UploadId=upload_id)
    except (ObjectMissing, UploadRejected, StorageUnavailable, TimeoutError):
        pass


async def _parts(body: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The stream cut into parts of exactly `size` bytes, but for the last one. A stream without bytes has no parts."""
    held, length = [], 0
    async for chunk in body:
        while length + len(chunk) >= size:
            cut = size - length
            held.append(chunk[:cut])
            chunk = chunk[cut:]
            part = b"".join(held)
            held, length = [], 0
            yield part
            del part
        if chunk:
            held.append(chunk)
            length += len(chunk)
    if length:
        yield b"".join(held)


async def hash_part(digest: Any, part: bytes) -> None:
    """Add to a digest without holding up the loop."""
    if len(part) <= INLINE_HASH_BYTES:
        digest.update(part)
    else:
        await asyncio.to_thread(digest.update, part)
