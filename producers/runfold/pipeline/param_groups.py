"""Grouping of params into events.

A fold rejects an event as a whole, so a changed param must not share one with others.
"""

import threading
from collections.abc import Iterator, Mapping


class ParamGroups:
    """Decides which params of a call share an event. Thread-safe.

    In a run that only this process writes, names that are logged for the first time share one event. A repeated name,
    or any name of a `shared` run, may be rejected and gets its own event. The split happens before the events are
    saved, so repeated deliveries carry the same events.
    """

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def split(self, params: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """Yield the params of each event, in order."""
        with self._lock:
            safe = {} if self._shared else {name: text for name, text in params.items() if name not in self._known}
            self._known.update(safe)
        if safe:
            yield safe
        for name, text in params.items():
            if name not in safe:
                yield {name: text}
