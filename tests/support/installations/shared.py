"""An installation with a worker and servers that the tests of one module share: they differ by experiment, not by
namespace.
"""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.installations.installation import Installation, Program, new_installation
from tests.support.services.running import Services, in_thread


@contextmanager
def shared_installation(services: Services, namespace: str, directory: Path) -> Iterator[Installation]:
    """A namespace for as long as the block lasts, made in a thread: fixtures of a module have no event loop."""

    async def serve(ready: Callable[[Installation], Coroutine[Any, Any, None]]) -> None:
        async with new_installation(services, namespace, directory) as made:
            await ready(made)

    with in_thread(serve) as made:
        yield made


def start_together(installation: Installation, *names: str) -> list[Program]:
    """Programs that start at the same time, ready."""
    programs = [installation.program(name) for name in names]
    for program in programs:
        program.wait_ready()
    return programs
