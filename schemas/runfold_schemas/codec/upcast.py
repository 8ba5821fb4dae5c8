"""Steps from one version of an event to the next, where Avro's resolution (defaults for new fields) is not enough."""

from collections.abc import Callable
from typing import Any

from .catalog import Released

Fields = dict[str, Any]
STEPS: dict[tuple[str, int], Callable[[Fields], Fields]] = {}
"""(subject, version that the event was written in) -> the event as the next version would have said it."""


def upcast(written: Released, fields: Fields) -> Fields:
    """Lift fields, step by step, from the version they were written in to the newest."""
    last = max((version for subject, version in STEPS if subject == written.subject), default=0)
    for version in range(written.version, last + 1):
        # Most versions need no step; a later one may all the same.
        step = STEPS.get((written.subject, version))
        if step is not None:
            fields = step(fields)
    return fields
