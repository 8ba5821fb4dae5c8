"""Damaged files, and the progress of the pass that reads all files. Both are in the control schema: no log has them."""

from dataclasses import dataclass
from typing import Any

from runfold_projections.postgres.connection import Connection

from .queries import Artifact

HOLD_SECONDS = 600
"""How long a server owns a pass after its last file.

A pass of a server that died waits that long; a file that takes longer is read twice.
"""


@dataclass(frozen=True, slots=True)
class CheckPass:
    """Progress of a pass: the last file that was read, and the bytes of all files when it began."""

    owner: str
    path: str
    total_bytes: int


async def record_damage(connection: Connection, artifact: Artifact, found: str) -> None:
    """Record that the bytes of a file are not those in the log. `found` describes them."""
    await connection.execute(
        """
        INSERT INTO artifact_damage (object_key, owner, path, expected, found) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (object_key) DO UPDATE SET found = excluded.found, seen_at = now()
        """,
        artifact.object_key,
        artifact.owner,
        artifact.path,
        artifact.sha256,
        found,
    )


async def is_damaged(connection: Connection, object_key: str) -> str | None:
    """Return what was found instead of the object's bytes; None if no damage is known."""
    found = await connection.fetchval("SELECT found FROM artifact_damage WHERE object_key = $1", object_key)
    return None if found is None else str(found)


async def clear_damage(connection: Connection, object_key: str) -> None:
    """Delete the record of a damage: the bytes are right again."""
    await connection.execute("DELETE FROM artifact_damage WHERE object_key = $1", object_key)


async def claim_pass(connection: Connection, holder: str, period: float) -> CheckPass | None:
    """Begin or continue a pass, if one is due and no other server owns it.

    A pass is due `period` seconds after the last one ended.
    """
    row = await connection.fetchrow(
        """
        UPDATE artifact_check SET holder = $1, held_until = now() + make_interval(secs => $3),
            begun_at = coalesce(begun_at, now()),
            total_bytes = CASE WHEN begun_at IS NULL THEN (SELECT coalesce(sum(size), 0)
                FROM artifact) ELSE total_bytes END
        WHERE (holder = $1 OR held_until < now())
          AND (begun_at IS NOT NULL OR ended_at IS NULL OR ended_at <= now() - make_interval(secs => $2))
        RETURNING owner, path, total_bytes
        """,
        holder,
        period,
        float(HOLD_SECONDS),
    )
    return None if row is None else CheckPass(*row)


async def files_after(connection: Connection, at: CheckPass, most: int) -> list[Artifact]:
    """Return the next files of a pass, in its order."""
    rows = await connection.fetch(
        """
        SELECT owner, path, size, sha256, object_key, stored_ms FROM artifact
        WHERE (owner, path) > ($1, $2) ORDER BY owner, path LIMIT $3
        """,
        at.owner,
        at.path,
        most,
    )
    return [Artifact(*row) for row in rows]


async def advance(connection: Connection, holder: str, last: Artifact) -> None:
    """Record that a file was read. Changes nothing if another server owns the pass by now."""
    await connection.execute(
        """
        UPDATE artifact_check
        SET owner = $2, path = $3, files = files + 1, held_until = now() + make_interval(secs => $4)
        WHERE holder = $1
        """,
        holder,
        last.owner,
        last.path,
        float(HOLD_SECONDS),
    )


async def release_pass(connection: Connection, holder: str) -> None:
    """Let another server continue the pass."""
    await connection.execute(
        "UPDATE artifact_check SET holder = NULL, held_until = '-infinity' WHERE holder = $1", holder
    )


async def end_pass(connection: Connection, holder: str) -> None:
    """End a pass after its last file, and delete the damage records of deleted files."""
    async with connection.transaction():
        await connection.execute(
            """
            UPDATE artifact_check SET owner = '', path = '', files = 0, begun_at = NULL, ended_at = now(),
                holder = NULL, held_until = '-infinity'
            WHERE holder = $1
            """,
            holder,
        )
        await connection.execute(
            """
            DELETE FROM artifact_damage d WHERE NOT EXISTS (
                SELECT FROM artifact a WHERE a.owner = d.owner AND a.path = d.path AND a.object_key = d.object_key
            )
            """
        )


async def checks_overview(connection: Connection) -> dict[str, Any]:
    """Return how many files are damaged, the names of ten, and when all files were last read."""
    rows = await connection.fetch("SELECT owner, path, found FROM artifact_damage ORDER BY seen_at DESC LIMIT 10")
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM artifact_damage) AS damaged, begun_at IS NOT NULL AS checking, files, ended_at "
        "FROM artifact_check"
    )
    return {
        "damaged": row["damaged"],
        "damaged_files": [dict(found) for found in rows],
        "checking": row["checking"],
        "checked_files": row["files"],
        "all_checked_at": row["ended_at"] and row["ended_at"].isoformat(timespec="seconds"),
    }
