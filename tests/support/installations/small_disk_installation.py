"""An installation whose Kafka or Postgres keeps its data on a small disk."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runfold_stack.embedded import embedded_stack
from tests.support.installations.installation import Installation, new_installation
from tests.support.services.running import Services, in_thread
from tests.support.services.small_disk import Ballast, small_disk


@dataclass(frozen=True)
class SmallDiskInstallation:
    """An installation beside its small disk. `told` is what the supervisor said: (part, state, detail)."""

    installation: Installation
    disk: Path
    ballast: Ballast
    told: list[tuple[str, str, str]]

    def was_named(self, part: str) -> bool:
        """Whether the supervisor said that this part's disk is full."""
        return any(who == part and f"The disk that holds {self.disk}" in text for who, _, text in self.told)


@asynccontextmanager
async def cramped_installation(directory: Path, part: str, megabytes: int) -> AsyncIterator[SmallDiskInstallation]:
    """Services of its own, with the data of `part` (kafka or postgres) on a small disk."""
    told: list[tuple[str, str, str]] = []

    async def serve(ready: Callable[[Services], Coroutine[Any, Any, None]]) -> None:
        async with embedded_stack(
            directory / "stack",
            kafka_dir=disk / "kafka" if part == "kafka" else None,
            postgres_dir=disk / "postgres" if part == "postgres" else None,
            s3=False,
            on_progress=lambda who, state, detail: told.append((who, state, detail)),
        ) as stack:
            kafka, postgres = stack.endpoints.kafka, stack.endpoints.postgres
            assert kafka is not None
            assert postgres is not None
            await ready(Services(kafka, postgres, None, stack, asyncio.get_running_loop()))

    with small_disk(directory / "disk", megabytes) as disk, in_thread(serve) as services:
        programs = directory / "programs"
        programs.mkdir()
        async with new_installation(services, "cramped", programs) as installation:
            yield SmallDiskInstallation(installation, disk, Ballast(disk), told)
