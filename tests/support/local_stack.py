"""An embedded stack of a test's own, on a directory that it chooses."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services import in_thread

from runfold_stack.embedded import RunningStack, embedded_stack


@dataclass(frozen=True)
class LocalStack:
    """A stack that runs in a thread."""

    data: Path
    stack: RunningStack

    @property
    def kafka(self) -> str:
        assert self.stack.endpoints.kafka is not None
        return self.stack.endpoints.kafka

    @property
    def postgres(self) -> str:
        assert self.stack.endpoints.postgres is not None
        return self.stack.endpoints.postgres

    def secrets(self) -> list[str]:
        """What nobody else may see."""
        assert self.stack.endpoints.s3 is not None
        return [self.stack.endpoints.s3.keys.secret_key]


@contextmanager
def local_stack(data: Path) -> Iterator[LocalStack]:
    """Run a stack for as long as the block lasts."""

    async def serve(ready: Callable[[LocalStack], Coroutine[Any, Any, None]]) -> None:
        async with embedded_stack(data) as stack:
            await ready(LocalStack(data, stack))
            await asyncio.sleep(0)

    with in_thread(serve) as running:
        yield running
