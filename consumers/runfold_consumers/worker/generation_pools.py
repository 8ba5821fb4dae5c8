"""Connection pools of a worker: one per schema, for as long as something is folded there."""

from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

from runfold_projections.postgres.connection import Pool, open_pool

_TIMEOUT_SECONDS = 30.0
"""Bounds a statement, such as a batch's commit.

Most take some ms; a batch that takes longer comes back at half its size.
"""


@dataclass(frozen=True, slots=True)
class _OpenPool:
    pool: Pool
    stack: AsyncExitStack


class GenerationPools:
    """Pools by schema name, opened on first use. An async context manager that closes all of them."""

    def __init__(self, dsn: str, size: int) -> None:
        self._dsn, self._size = dsn, size
        self._pools: dict[str, _OpenPool] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def get(self, schema_name: str) -> Pool:
        """Return the pool whose `search_path` is this schema."""
        if schema_name not in self._pools:
            stack = await self._stack.enter_async_context(AsyncExitStack())
            pool = await stack.enter_async_context(
                open_pool(
                    self._dsn,
                    schema_name,
                    application="runfold worker",
                    min_size=0,
                    max_size=self._size,
                    timeout=_TIMEOUT_SECONDS,
                )
            )
            self._pools[schema_name] = _OpenPool(pool, stack)
        return self._pools[schema_name].pool

    async def close_unused(self, used: Collection[str]) -> None:
        """Close the pools of all other schemas: their generations were dropped or moved to another worker."""
        for name in self._pools.keys() - used:
            await self._pools.pop(name).stack.aclose()
