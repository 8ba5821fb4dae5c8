"""An embedded stack of a test's own, on a directory that it chooses."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runfold_log.cluster import KafkaCluster
from runfold_stack.embedded import RunningStack, embedded_stack
from tests.support.services.running import in_thread


@dataclass(frozen=True)
class LocalStack:
    """A stack that runs in a thread."""

    data: Path
    stack: RunningStack

    @property
    def kafka(self) -> KafkaCluster:
        assert self.stack.endpoints.kafka is not None
        return self.stack.endpoints.kafka

    @property
    def postgres(self) -> str:
        assert self.stack.endpoints.postgres is not None
        return self.stack.endpoints.postgres

    def port(self, name: str) -> int:
        """A port of a service, by its name in ports.json."""
        return int(json.loads((self.data / "ports.json").read_text())[name])

    def secrets(self) -> list[str]:
        """What nobody else may see."""
        assert self.stack.endpoints.s3 is not None
        password = self.kafka.security.password
        assert password is not None
        return [self.stack.endpoints.s3.keys.secret_key, password]


@contextmanager
def local_stack(data: Path) -> Iterator[LocalStack]:
    """Run a stack for as long as the block lasts."""

    async def serve(ready: Callable[[LocalStack], Coroutine[Any, Any, None]]) -> None:
        async with embedded_stack(data) as stack:
            await ready(LocalStack(data, stack))
            await asyncio.sleep(0)

    with in_thread(serve) as running:
        yield running
