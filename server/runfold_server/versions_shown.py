"""Versions as answers to writes show them: one statement for all writers who ask at the same time."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from runfold_projections.database import Connection
from runfold_projections.queries.model_versions import ModelVersion, versions_created_at, versions_named
from runfold_schemas.events import DEFAULT_WORKSPACE

from .database import Database
from .reads import again_if_stale
from .together import Together

K = TypeVar("K")


class VersionsShown:
    """Versions as they are at some moment after the call: to be asked for when the write is folded."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._created: Together[int, ModelVersion | None] = Together(self._of(versions_created_at))
        self._named: Together[tuple[str, int], ModelVersion | None] = Together(
            self._of(lambda connection, keys: versions_named(connection, DEFAULT_WORKSPACE, keys))
        )

    async def created_at(self, offset: int) -> ModelVersion | None:
        """The version that the event at this offset of `registry` created, if the fold accepted it and it is still there."""
        return await self._created.get(offset)

    async def named(self, name: str, number: int) -> ModelVersion | None:
        """The version of this number of the model that has this name."""
        return await self._named.get((name, number))

    def _of(
        self, query: Callable[[Connection, Sequence[K]], Awaitable[dict[K, ModelVersion]]]
    ) -> Callable[[Sequence[K]], Awaitable[Mapping[K, ModelVersion | None]]]:
        async def read(keys: Sequence[K]) -> Mapping[K, ModelVersion | None]:
            async with self._database.connection() as connection:
                found = await query(connection, keys)
            return {key: found.get(key) for key in keys}

        return lambda keys: again_if_stale(lambda: read(keys))
