"""Comparison of stored files with their digests in the log, whenever a whole file is read."""

import hashlib
from collections.abc import AsyncIterator

import structlog

from runfold_projections.artifacts.damage import clear_damage, is_damaged, record_damage
from runfold_projections.artifacts.queries import Artifact
from runfold_server.core.database import Database
from runfold_server.core.errors import DamagedBytes, Unavailable
from runfold_server.core.metrics import ServerMetrics
from runfold_storage.errors import ObjectMissing, ObjectTruncated
from runfold_storage.objects import Store, hash_part

MISSING = "no object"
MOST_SUSPECTS = 10_000
"""Damaged objects that a process remembers."""
_log = structlog.get_logger(__name__)


class Checks:
    """Compares objects with the log. Damage is recorded in the control schema, where `runfold status` reads it."""

    def __init__(self, store: Store, database: Database, observed: ServerMetrics) -> None:
        self._store = store
        self._database = database
        self._observed = observed
        self._suspects: set[str] = set()

    async def read_whole(self, artifact: Artifact, reader: str = "download") -> AsyncIterator[bytes]:
        """Yield all bytes of a file. The last piece waits for the digest, so a damaged file never arrives complete.

        DamagedBytes if the digest differs, or if the object is too short or missing. `reader` is for the metrics.
        """
        digest, held = hashlib.sha256(), b""
        try:
            async for chunk in self._store.get(artifact.object_key, 0, artifact.size):
                await hash_part(digest, chunk)
                if held:
                    yield held
                held = chunk
        except ObjectMissing:
            raise await self._damaged(artifact, MISSING, reader) from None
        except ObjectTruncated as error:
            raise await self._damaged(artifact, str(error), reader) from None
        if digest.hexdigest() != artifact.sha256:
            raise await self._damaged(artifact, f"SHA-256 {digest.hexdigest()}", reader)
        if artifact.object_key in self._suspects:
            await self._clear(artifact.object_key)
        yield held

    async def is_whole(self, artifact: Artifact, reader: str = "check") -> bool:
        """Read a file for its digest alone; return whether it matches.

        A file restored since leaves the list of damaged files.
        """
        try:
            async for _ in self.read_whole(artifact, reader):
                pass
        except DamagedBytes:
            return False
        await self._clear(artifact.object_key)
        return True

    async def _clear(self, object_key: str) -> None:
        async with self._database.connection() as connection:
            await clear_damage(connection, object_key)
        self._suspects.discard(object_key)

    async def record_unreadable(self, artifact: Artifact, why: str) -> None:
        """Record an object that the store can't read although it answers."""
        await self._damaged(artifact, f"unreadable: {why}", "check")

    async def reject_damaged(self, artifact: Artifact) -> None:
        """Raise DamagedBytes if the file is known to be damaged. For answers whose bytes nobody compares."""
        async with self._database.connection() as connection:
            found = await is_damaged(connection, artifact.object_key)
        if found is not None:
            self._suspect(artifact.object_key)
            raise _error(artifact, found)

    def _suspect(self, object_key: str) -> None:
        # A later download that matches clears the damage in Postgres; downloads of other files need no such statement.

        if len(self._suspects) < MOST_SUSPECTS:
            self._suspects.add(object_key)

    async def _damaged(self, artifact: Artifact, found: str, reader: str) -> DamagedBytes:
        self._suspect(artifact.object_key)
        self._observed.damaged_artifact(reader)
        _log.error(
            "artifact_damaged",
            owner=artifact.owner,
            path=artifact.path,
            object_key=artifact.object_key,
            expected=artifact.sha256,
            found=found,
            reader=reader,
        )
        try:
            async with self._database.connection() as connection:
                await record_damage(connection, artifact, found)
        except Unavailable as error:
            _log.warning("artifact_damage_not_saved", object_key=artifact.object_key, error=error.message)
        return _error(artifact, found)


def _error(artifact: Artifact, found: str) -> DamagedBytes:
    if found == MISSING:
        return DamagedBytes(
            f"The bytes of '{artifact.path}' are not in the artifact store any more: there is no object "
            f"{artifact.object_key}."
        )
    return DamagedBytes(
        f"The bytes of '{artifact.path}' in the artifact store are not those that were logged (SHA-256 "
        f"{artifact.sha256}; found: {found}). Restore the object {artifact.object_key} from a backup, or log the "
        "file again."
    )
