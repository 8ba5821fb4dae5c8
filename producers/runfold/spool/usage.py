"""How much a run has on this node's disk: its processes have one bound together."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from .layout import SEGMENT

LOOK_AGAIN = 1.0
"""Seconds for which a look at the disk holds, for all writers of this process: so long another process's growth may go unseen."""
_looks: dict[Path, tuple[float, int]] = {}


class Usage:
    """What lies in the spools of a run, those of dead processes too, as one of its writers sees it."""

    def __init__(self, directory: Path, own: Callable[[], int]) -> None:
        """`directory` is the writer's spool, `own` tells exactly what is in it."""
        self._of_run, self._own = directory.parent, own
        self._looked, self._then = -1.0, 0

    def size(self) -> int:
        """Bytes: the last look at the disk, and what this writer has added or freed since."""
        own = self._own()
        looked, total = _look(self._of_run)
        if looked != self._looked:
            self._looked, self._then = looked, own
        return max(own, total + own - self._then)


def _look(of_run: Path) -> tuple[float, int]:
    # Without a lock, which a forked child would never get back: two looks at once are no harm.
    now = time.monotonic()
    last = _looks.get(of_run)
    if last is not None and now - last[0] < LOOK_AGAIN:
        return last
    found = _looks[of_run] = (now, _on_disk(of_run))
    # A process that writes run after run must not remember them all.
    for known in [path for path, (when, _) in list(_looks.items()) if now - when > 60 * LOOK_AGAIN]:
        _looks.pop(known, None)
    return found


def _on_disk(of_run: Path) -> int:
    total = 0
    for spool in _entries(of_run):
        for file in _entries(Path(spool.path)):
            if SEGMENT.fullmatch(file.name):
                try:
                    total += file.stat().st_size
                except OSError:
                    pass  # acknowledged meanwhile
    return total


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as found:
            return list(found)
    except OSError:
        return []
