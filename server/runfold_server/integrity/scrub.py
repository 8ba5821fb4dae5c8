"""A background check that reads every file once per period, to find damage that no download would find in time."""

import asyncio
import contextlib
import time

import structlog

from runfold_projections.artifacts.damage import advance, claim_pass, end_pass, files_after, release_pass
from runfold_projections.artifacts.queries import Artifact
from runfold_server.core.database import Database
from runfold_server.core.errors import ApiError
from runfold_server.core.metrics import ServerMetrics
from runfold_storage.errors import StorageError, StorageUnavailable
from runfold_storage.objects import Store

from .verified_reads import Checks

POLL_SECONDS = 30.0
"""Pause between checks whether a pass is due, and after a failure."""
LEAST_BYTES_PER_SECOND = 16 * 1024 * 1024
"""A pass reads no faster, unless it would then take more than half of the period."""
RELEASE_SECONDS = 2.0
"""Most time that a stopping server spends on passing its turn on."""
_BATCH_FILES = 64
"""Files fetched by one query."""
_log = structlog.get_logger(__name__)


class Scrub:
    """Passes over all files, one server at a time. An interrupted pass resumes where it stopped.

    A file is read at the latest one period after its last read, plus the length of a pass: half a period, unless the
    store is too slow.
    """

    def __init__(
        self, store: Store, checks: Checks, database: Database, observed: ServerMetrics, holder: str, period: float
    ):
        self._store = store
        self._checks = checks
        self._database = database
        self._observed = observed
        self._holder = holder
        self._period = period

    async def serve(self) -> None:
        """Check until cancelled. Return at once if there is no store, or if the period is 0."""
        if not self._store.bucket.is_set or not self._period:
            return
        try:
            await self._pass_after_pass()
        finally:
            # Another server may continue at once. While Postgres is down, it waits until the turn expires.
            with contextlib.suppress(ApiError, TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS), self._database.connection() as connection:
                    await release_pass(connection, self._holder)

    async def _pass_after_pass(self) -> None:
        pause = min(POLL_SECONDS, self._period)
        while True:
            await asyncio.sleep(pause)
            try:
                pause = await self.step()
            except (ApiError, StorageError) as error:
                pause = POLL_SECONDS
                _log.warning("artifact_check_postponed", error=str(error))

    async def step(self) -> float:
        """Read the next files if it is this server's turn. Return the seconds until the next step."""
        async with self._database.connection() as connection:
            turn = await claim_pass(connection, self._holder, self._period)
            if turn is None:
                return min(POLL_SECONDS, self._period)
            files = await files_after(connection, turn, _BATCH_FILES)
            if not files:
                await end_pass(connection, self._holder)
                return min(POLL_SECONDS, self._period)
        rate = max(LEAST_BYTES_PER_SECOND, 2 * turn.total_bytes / self._period)
        for artifact in files:
            began = time.monotonic()
            await self._read(artifact)
            self._observed.checked_artifact(artifact.size)
            async with self._database.connection() as connection:
                await advance(connection, self._holder, artifact)
            await asyncio.sleep(max(0.0, artifact.size / rate - (time.monotonic() - began)))
        return 0.0

    async def _read(self, artifact: Artifact) -> None:
        try:
            await self._checks.is_whole(artifact)
        except StorageUnavailable as error:
            # An object on a damaged disk must not end every pass; a store that is down must.
            await self._store.bucket.exists()
            await self._checks.record_unreadable(artifact, str(error))
