"""Params cut into events: a fold refuses an event as a whole, and one param that would change must not take the others with it."""

import threading
from collections.abc import Iterator, Mapping


class ParamGroups:
    """Which params of a call may share an event. Thread-safe.

    In a run of this process alone, all names that it logs for the first time. A name again, or any name of a run that others may have
    written to, may be refused, and goes alone: decided before it is written, so that what is sent again is the same events.
    """

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def cut(self, params: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """The params of each event, in order."""
        with self._lock:
            safe = {} if self._shared else {name: text for name, text in params.items() if name not in self._known}
            self._known.update(safe)
        if safe:
            yield safe
        for name, text in params.items():
            if name not in safe:
                yield {name: text}
