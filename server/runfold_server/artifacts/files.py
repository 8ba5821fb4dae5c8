"""What can be done with files: facts first when reading, bytes first when writing."""

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
from runfold_server.reads.reader import of_run
from runfold_server.writes.levels import require_level
from runfold_server.writes.writes import Origin
from runfold_storage.objects import Stored

from .paths import ArtifactPath
from .serving import file_response


async def store(
    services: Services, place: ArtifactPath, body: AsyncIterator[bytes], announced: int | None, origin: Origin
) -> None:
    """Put a file's bytes into the store, then the fact into the log. Returns when the fact is acknowledged.

    Whatever fails before, there is no file; the one that was there before stays.
    """
    services.artifacts.store.bucket.require()
    await require_level(services.log, ArtifactStored)
    await record(services, place, await services.artifacts.store.put(body, announced), origin)


async def record(services: Services, place: ArtifactPath, stored: Stored, origin: Origin) -> None:
    """Append that a file is whole."""
    event = ArtifactStored(
        owner=place.owner, path=place.path, size=stored.size, sha256=stored.sha256, object_key=stored.key
    )
    await services.writes.append(event, origin)


async def delete(services: Services, place: ArtifactPath, origin: Origin) -> None:
    """Take a file, or all below a folder, away. Not an error if there is nothing."""
    await require_level(services.log, ArtifactsDeleted)
    await services.writes.append(ArtifactsDeleted(owner=place.owner, path=place.path), origin)


async def list_folder(services: Services, place: ArtifactPath, as_of: Vector | None = None) -> list[FolderEntry]:
    """What a folder holds directly, or held then; nothing for a file, and for what is not there."""

    async def query(connection: Connection) -> list[FolderEntry]:
        if as_of is not None:
            return entries_of(await artifacts_at(connection, place.owner, as_of), place.path)
        return await list_artifacts(connection, place.owner, place.path)

    return (await services.reads.reader.asked(as_of, of_run(place.owner, Topic.RUNS), query)).value


async def find(services: Services, place: ArtifactPath, as_of: Vector | None = None) -> Artifact:
    """The file, or the one that was there then. NotFound, or InvalidParameter for a folder, in MLflow's words."""

    async def query(connection: Connection) -> tuple[Artifact | None, bool]:
        if as_of is not None:
            files = await artifacts_at(connection, place.owner, as_of)
            one = next((file for file in files if file.path == place.path), None)
            return one, one is None and bool(entries_of(files, place.path))
        found = await find_artifact(connection, place.owner, place.path)
        return found, found is None and bool(await list_artifacts(connection, place.owner, place.path))

    artifact, is_folder = (await services.reads.reader.asked(as_of, of_run(place.owner, Topic.RUNS), query)).value
    if artifact is not None:
        if not services.artifacts.store.holds(artifact.object_key):
            raise NotFound(
                f"No such artifact: '{place.shown}'. The log names an object outside of this server's store for it."
            )
        return artifact
    if is_folder:
        raise InvalidParameter(f"Artifact path refers to a directory, not a file: '{place.shown}'")
    raise NotFound(f"No such artifact: '{place.shown}'{as_of_suffix(as_of, Topic.RUNS, place.owner)}")


async def send(services: Services, request: Request, place: ArtifactPath, as_of: Vector | None = None) -> Response:
    """The file as an answer."""
    return with_moment(
        await file_response(
            services.artifacts.store, services.artifacts.checks, request, await find(services, place, as_of)
        ),
        as_of,
    )
