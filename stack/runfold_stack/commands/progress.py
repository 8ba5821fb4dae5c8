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

    def said(self, told: RebuildProgress) -> str:
        """In words; empty before it can be known, and while nothing is folded."""
        now = self._clock()
        if told.phase not in (Phase.REPLAY, Phase.CATCH_UP):
            self._seen.clear()
            return ""
        self._seen.append((now, told.folded))
        while now - self._seen[0][0] > WINDOW:
            self._seen.popleft()
        seconds, records = now - self._seen[0][0], told.folded - self._seen[0][1]
        if seconds < 1 or records <= 0:
            return ""
        rate = records / seconds
        return f"{rate:,.0f} events/s, {(told.total - told.folded) / rate:,.0f} s left"


@contextmanager
def progress() -> Iterator[OnProgress]:
    """What a rebuild tells its progress to."""
    console, speed = Console(stderr=True, highlight=False), Speed()
    if not console.is_terminal:
        yield _Lines(speed).tell
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TextColumn("{task.fields[speed]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1, speed="")

        def tell(told: RebuildProgress) -> None:
            bar.update(
                task,
                description=f"{told.generation.projection if told.snapshot is None else _what(told)} "
                f"{told.phase.value}",
                completed=told.folded,
                total=max(1, told.total),
                speed=speed.said(told),
            )

        yield tell


class _Lines:
    def __init__(self, speed: Speed) -> None:
        self._speed = speed
        self._phase: Phase | None = None
        self._said = 0.0

    def tell(self, told: RebuildProgress) -> None:
        speed, now = self._speed.said(told), time.monotonic()
        if told.phase is self._phase and now - self._said < EVERY:
            return
        self._phase, self._said = told.phase, now
        text = f"{_what(told)}: {told.phase.value}"
        if told.total:
            text += f" {told.folded:,} of {told.total:,}"
        print(text + (f", {speed}" if speed else ""), file=sys.stderr, flush=True)


def _what(told: RebuildProgress) -> str:
    if told.snapshot is not None:
        return f"snapshot {told.snapshot}"
    return f"{told.generation.projection} generation {told.generation.number}"
