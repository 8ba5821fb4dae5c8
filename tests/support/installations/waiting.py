"""What a running worker or server says of itself; and waiting for it."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

from tests.support.installations.installation import Program

PATIENCE = 90.0


async def until(true: Callable[[], Awaitable[bool] | bool], what: str, timeout: float = PATIENCE) -> None:
    """Return once it is true; AssertionError with `what` if it does not become so."""
    deadline = time.monotonic() + timeout
    while True:
        answer = true()
        if answer if isinstance(answer, bool) else await answer:
            return
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        await asyncio.sleep(0.05)


def assert_runs(program: Program) -> None:
    """AssertionError with its last words if it has ended by itself."""
    assert program.process is not None
    assert program.process.poll() is None, f"{program.name} ended:\n{program.log.read_text()[-3000:]}"


async def answer_of(program: Program, path: str) -> tuple[int, str]:
    """Status and body; (0, "") if nobody answers."""
    return await asyncio.to_thread(_get, program.url + path)


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


async def status_of(worker: Program) -> dict[str, Any]:
    """A worker's /status; empty if it does not answer."""
    code, text = await answer_of(worker, "/status")
    found: dict[str, Any] = json.loads(text) if code == 200 else {}
    return found


async def partitions_of(worker: Program) -> set[tuple[str, str]]:
    """(handler, partition) that the worker holds."""
    return {(one["handler"], one["partition"]) for one in (await status_of(worker)).get("partitions", [])}


async def folded_by(worker: Program) -> int:
    """Records that this life of the worker has folded; 0 if it does not answer.

    AssertionError if it has ended by itself.
    """
    assert_runs(worker)
    _, text = await answer_of(worker, "/metrics")
    lines = [line for line in text.splitlines() if line.startswith("runfold_folded_total")]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))
