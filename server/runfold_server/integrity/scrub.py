"""Reads every file once in a while, so that damage is found which nobody's download would meet in time."""

import asyncio
import contextlib
import time

import structlog

from runfold_projections.artifacts.checks import advance, claim_pass, end_pass, files_after, release_pass
from runfold_projections.artifacts.queries import Artifact
from runfold_server.core.database import Database
from runfold_server.core.errors import ApiError
from runfold_server.core.metrics import ServerMetrics
from runfold_storage.errors import StorageError, StorageUnavailable
from runfold_storage.objects import Store

from .checks import Checks

POLL_SECONDS = 30.0
"""Between two looks whether a pass is due, and after a failure."""
LEAST_RATE = 16 * 1024 * 1024
"""Bytes a second that a pass reads at most, unless it would take more than half of the period then."""
RELEASE_SECONDS = 2.0
_BATCH = 64
_log = structlog.get_logger(__name__)


class Scrub:
    """Passes over all files, one server at a time. A pass that was broken off goes on where it was.

    A file is read at the latest a period after it was read last, plus the length of a pass, which is half a period at most unless
    the store is too slow for that.
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
        """Check for ever. Returns at once if there is no store, or if the period is 0."""
        if not self._store.bucket.is_set or not self._period:
            return
        try:
            await self._pass_after_pass()
        finally:
            # Another server may go on at once. If Postgres is away it waits until the turn has run out.
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
        """Read the next files, if it is this server's turn. Returns the seconds to wait until the next step."""
        async with self._database.connection() as connection:
            turn = await claim_pass(connection, self._holder, self._period)
            if turn is None:
                return min(POLL_SECONDS, self._period)
            files = await files_after(connection, turn, _BATCH)
            if not files:
                await end_pass(connection, self._holder)
                return min(POLL_SECONDS, self._period)
        rate = max(LEAST_RATE, 2 * turn.total_bytes / self._period)
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
            # One object that the store can't read, since its disk is damaged, must not end every pass; a store that is away must.
            await self._store.bucket.exists()
            await self._checks.record_unreadable(artifact, str(error))
