"""Eviction of runs from memory: the least recently used first."""

from collections import Counter, OrderedDict
from collections.abc import Collection

from .run_metrics import RunMetrics


def make_room(runs: OrderedDict[str, RunMetrics], wanted: Collection[str], most_bytes: int) -> None:
    """Drop the least recently used runs, but none of the wanted, until the rest take at most `most_bytes`."""
    held = {id(run.summaries.keys_held): run.summaries.keys_held for run in runs.values()}
    users = Counter(id(run.summaries.keys_held) for run in runs.values())
    size = sum(run.summaries.size for run in runs.values()) + sum(keys.bytes for keys in held.values())
    if size <= most_bytes:
        return
    for run_id in [run_id for run_id in runs if run_id not in wanted]:
        gone = runs.pop(run_id).summaries
        size -= gone.size
        users[id(gone.keys_held)] -= 1
        if not users[id(gone.keys_held)]:
            size -= gone.keys_held.bytes
        if size <= most_bytes:
            break
    _trim(runs)


def _trim(runs: OrderedDict[str, RunMetrics]) -> None:
    """Drop key names that no remaining run has."""
    longest: dict[int, int] = {}
    for run in runs.values():
        at = id(run.summaries.keys_held)
        longest[at] = max(longest.get(at, 0), len(run.summaries))
    for keys in {id(run.summaries.keys_held): run.summaries.keys_held for run in runs.values()}.values():
        if longest[id(keys)] < len(keys):
            keys.trim(longest[id(keys)])
