"""How far a rebuild is, on standard error: a bar on a terminal, else a line now and then."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from runfold_projections.generations.rebuild import OnProgress, Phase, RebuildProgress

WINDOW = 10.0
"""Seconds over which the speed is measured."""
EVERY = 5.0
"""Seconds between two lines of one phase."""


class Speed:
    """Records per second over the last seconds, and how long the rest takes at that."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def text(self, state: RebuildProgress) -> str:
        """Return speed and remaining time; empty before they are known, and while nothing is folded."""
        now = self._clock()
        if state.phase not in (Phase.REPLAY, Phase.CATCH_UP):
            self._seen.clear()
            return ""
        self._seen.append((now, state.folded))
        while now - self._seen[0][0] > WINDOW:
            self._seen.popleft()
        seconds, records = now - self._seen[0][0], state.folded - self._seen[0][1]
        if seconds < 1 or records <= 0:
            return ""
        rate = records / seconds
        return f"{rate:,.0f} events/s, {(state.total - state.folded) / rate:,.0f} s left"


@contextmanager
def progress() -> Iterator[OnProgress]:
    """Yield the function that a rebuild reports its progress to."""
    console, speed = Console(stderr=True, highlight=False), Speed()
    if not console.is_terminal:
        yield _Lines(speed).report
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TextColumn("{task.fields[speed]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1, speed="")

        def report(state: RebuildProgress) -> None:
            bar.update(
                task,
                description=f"{state.generation.projection if state.snapshot is None else _what(state)} "
                f"{state.phase.value}",
                completed=state.folded,
                total=max(1, state.total),
                speed=speed.text(state),
            )

        yield report


class _Lines:
    def __init__(self, speed: Speed) -> None:
        self._speed = speed
        self._phase: Phase | None = None
        self._printed_at = 0.0

    def report(self, state: RebuildProgress) -> None:
        speed, now = self._speed.text(state), time.monotonic()
        if state.phase is self._phase and now - self._printed_at < EVERY:
            return
        self._phase, self._printed_at = state.phase, now
        text = f"{_what(state)}: {state.phase.value}"
        if state.total:
            text += f" {state.folded:,} of {state.total:,}"
        print(text + (f", {speed}" if speed else ""), file=sys.stderr, flush=True)


def _what(state: RebuildProgress) -> str:
    if state.snapshot is not None:
        return f"snapshot {state.snapshot}"
    return f"{state.generation.projection} generation {state.generation.number}"
