"""Operations on files. Reads find the fact before the bytes; writes store the bytes before the fact."""

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response

from runfold_projections.artifacts.as_of import artifacts_at, entries_of
from runfold_projections.artifacts.queries import Artifact, FolderEntry, find_artifact, list_artifacts
from runfold_projections.postgres.connection import Connection
from runfold_schemas.events.artifacts import ArtifactsDeleted, ArtifactStored
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector
from runfold_server.core.entity_errors import as_of_suffix
from runfold_server.core.errors import InvalidParameter, NotFound
from runfold_server.http.responses import with_moment
from runfold_server.http.services import Services
from runfold_server.reads.scopes import of_run
from runfold_server.writes.feature_levels import require_level
from runfold_server.writes.writes import WriteOrigin
from runfold_storage.objects import Stored

from .paths import ArtifactPath
from .serving import file_response


async def store(
    services: Services, target: ArtifactPath, body: AsyncIterator[bytes], announced: int | None, origin: WriteOrigin
) -> None:
    """Put a file's bytes into the store, then its fact into the log; return when the fact is acknowledged.

    After a failure the previous file, or none, is still there. `announced` is the size in bytes, if known.
    """
    services.artifacts.store.bucket.require()
    await require_level(services.log, ArtifactStored)
    await record(services, target, await services.artifacts.store.put(body, announced), origin)


async def record(services: Services, target: ArtifactPath, stored: Stored, origin: WriteOrigin) -> None:
    """Append the fact that a file is complete."""
    event = ArtifactStored(
        owner=target.owner, path=target.path, size=stored.size, sha256=stored.sha256, object_key=stored.key
    )
    await services.writes.append(event, origin)


async def delete(services: Services, target: ArtifactPath, origin: WriteOrigin) -> None:
    """Delete a file, or all files below a folder. It is no error if there are none."""
    await require_level(services.log, ArtifactsDeleted)
    await services.writes.append(ArtifactsDeleted(owner=target.owner, path=target.path), origin)


async def list_folder(services: Services, target: ArtifactPath, as_of: Vector | None = None) -> list[FolderEntry]:
    """Return the direct entries of a folder, now or at `as_of`; none for a file or a missing folder."""

    async def query(connection: Connection) -> list[FolderEntry]:
        if as_of is not None:
            return entries_of(await artifacts_at(connection, target.owner, as_of), target.path)
        return await list_artifacts(connection, target.owner, target.path)

    return (await services.reads.reader.read(of_run(target.owner, Topic.RUNS), query, as_of=as_of)).value


async def find(services: Services, target: ArtifactPath, as_of: Vector | None = None) -> Artifact:
    """Return the file, now or at `as_of`. NotFound, or InvalidParameter for a folder, in MLflow's words."""

    async def query(connection: Connection) -> tuple[Artifact | None, bool]:
        if as_of is not None:
            files = await artifacts_at(connection, target.owner, as_of)
            one = next((file for file in files if file.path == target.path), None)
            return one, one is None and bool(entries_of(files, target.path))
        found = await find_artifact(connection, target.owner, target.path)
        return found, found is None and bool(await list_artifacts(connection, target.owner, target.path))

    artifact, is_folder = (await services.reads.reader.read(of_run(target.owner, Topic.RUNS), query, as_of=as_of)).value
    if artifact is not None:
        if not services.artifacts.store.holds(artifact.object_key):
            raise NotFound(
                f"No such artifact: '{target.shown}'. The log names an object outside of this server's store for it."
            )
        return artifact
    if is_folder:
        raise InvalidParameter(f"Artifact path refers to a directory, not a file: '{target.shown}'")
    raise NotFound(f"No such artifact: '{target.shown}'{as_of_suffix(as_of, Topic.RUNS, target.owner)}")


async def send(services: Services, request: Request, target: ArtifactPath, as_of: Vector | None = None) -> Response:
    """Return the response with the file."""
    return with_moment(
        await file_response(
            services.artifacts.store, services.artifacts.checks, request, await find(services, target, as_of)
        ),
        as_of,
    )
