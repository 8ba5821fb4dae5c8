"""Disk usage of a run on this node. All its processes share one bound."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from .layout import SEGMENT

RECHECK_SECONDS = 1.0
"""How long a measured size is reused by all writers of this process, so the longest that another process's growth
goes unnoticed."""
_measured: dict[Path, tuple[float, int]] = {}
"""Per run directory: when it was measured (monotonic seconds), and its size in bytes."""


class SpoolUsage:
    """Size of all spools of a run, those of dead processes included, as seen by one of its writers."""

    def __init__(self, directory: Path, own: Callable[[], int]) -> None:
        """`directory` is the writer's spool; `own` returns its exact size in bytes."""
        self._run_directory, self._own = directory.parent, own
        self._measured_at, self._own_then = -1.0, 0

    def size(self) -> int:
        """Return bytes: the latest measurement, adjusted by what this writer has added or freed since."""
        own = self._own()
        measured_at, total = _measure(self._run_directory)
        if measured_at != self._measured_at:
            self._measured_at, self._own_then = measured_at, own
        return max(own, total + own - self._own_then)


def _measure(run_directory: Path) -> tuple[float, int]:
    # Without a lock, which a forked child could never release. Two concurrent measurements do no harm.
    now = time.monotonic()
    last = _measured.get(run_directory)
    if last is not None and now - last[0] < RECHECK_SECONDS:
        return last
    found = _measured[run_directory] = (now, _size_on_disk(run_directory))
    # A process that writes run after run must not remember all of them.
    for known in [path for path, (when, _) in list(_measured.items()) if now - when > 60 * RECHECK_SECONDS]:
        _measured.pop(known, None)
    return found


def _size_on_disk(run_directory: Path) -> int:
    total = 0
    for spool in _entries(run_directory):
        for file in _entries(Path(spool.path)):
            if SEGMENT.fullmatch(file.name):
                try:
                    total += file.stat().st_size
                except OSError:
                    pass  # acknowledged and deleted meanwhile
    return total


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as found:
            return list(found)
    except OSError:
        return []
