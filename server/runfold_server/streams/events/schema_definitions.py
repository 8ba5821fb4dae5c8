"""Every schema that the log may hold: those of this release, and those that a newer one declared in `system`."""

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fastavro

from runfold_log.admin import LogInfo
from runfold_log.cluster import KafkaCluster
from runfold_log.system import read_system
from runfold_schemas.codec.catalog import released_catalog
from runfold_schemas.codec.system_state import SystemState
from runfold_server.core.coalescing import Coalescer
from runfold_server.core.outages import kafka_outages


@dataclass(frozen=True, slots=True)
class Definition:
    """A version of a subject, as it was written down."""

    schema_id: int
    subject: str
    version: int
    text: str


class Definitions:
    """Answers what a schema id or a subject means.

    An id of this release is answered from its catalog, whatever is away. For all else the rest of `system` is read: a
    declaration is acknowledged before its first use, so a reader that asks for an id of the log gets an
    answer.
    """

    def __init__(self, kafka: KafkaCluster, connect: Callable[[], Awaitable[LogInfo]], *, timeout: float) -> None:
        """`timeout` bounds a look at the log, in seconds."""
        self._kafka, self._connect, self._timeout = kafka, connect, timeout
        self._state: SystemState | None = None
        self._coalescer: Coalescer[None, SystemState] = Coalescer(self._read)

    async def of_id(self, schema_id: int) -> Definition | None:
        """The schema of an id, None if nobody declared it. Unavailable if Kafka is away and this release does not
        know it.
        """
        return _released().get(schema_id) or {one.schema_id: one for one in await self.all()}.get(schema_id)

    async def of_subject(self, subject: str) -> list[Definition]:
        """All versions of a subject, oldest first; none if there is no such. Unavailable if Kafka is away."""
        return [one for one in await self.all() if one.subject == subject]

    async def all(self) -> list[Definition]:
        """All schemas, by subject and version, of this moment or a later one. Unavailable if Kafka is away."""
        state = await self._coalescer.get(None)
        known = dict(_released())
        for schema_id, declared in sorted(state.definitions.items()):
            one = Definition(schema_id, declared.declared_subject, declared.version, declared.definition)
            known.setdefault(schema_id, one)
        return sorted(known.values(), key=lambda one: (one.subject, one.version, one.schema_id))

    async def _read(self, keys: Sequence[None]) -> Mapping[None, SystemState]:
        with kafka_outages():
            async with asyncio.timeout(self._timeout):
                info = await self._connect()
                self._state = await read_system(self._kafka, info.namespace, self._state)
        return {None: self._state}


@functools.lru_cache(maxsize=1)
def _released() -> dict[int, Definition]:
    return {
        one.schema_id: Definition(one.schema_id, one.subject, one.version, one.text)
        for one in released_catalog().by_id.values()
    }


def same(definitions: Iterable[Definition], text: str) -> Definition | None:
    """The first of the definitions that says what `text` says, however it is spaced, ordered or qualified. ValueError
    if `text` is no Avro schema.
    """
    wanted = _plain(text)
    for one in definitions:
        try:
            if _plain(one.text) == wanted:
                return one
        except ValueError:
            continue
    return None


def _plain(text: str) -> Any:
    try:
        return _without_marks(fastavro.parse_schema(json.loads(text), named_schemas={}))
    # fastavro raises whatever a text that is no schema leads it to.
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _without_marks(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: _without_marks(value) for name, value in schema.items() if not name.startswith("__")}
    if isinstance(schema, list):
        return [_without_marks(one) for one in schema]
    return schema
