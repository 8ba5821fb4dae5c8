"""The operations of all kinds of entities."""

from collections.abc import Iterable

from runfold_projections.catalog import history_subjects
from runfold_projections.core.entity import HistorySubject
from runfold_server.http.operation import RawOperation
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.request_fields import Field
from runfold_server.openapi_schemas.timeline import DIFF, EVENTS, WHY

from .diff import BETWEEN, diff
from .events import PAGE, events
from .why import FIELD, why

_ABOUT = {
    "events": "The timeline: every event that belongs to it, accepted or refused, with what it changed and caused. By the broker's time.",
    "why": "The event that set a field (`status`, `params.lr`, `tags.team`, `alias.prod`, `versions.3.stage`, …), and the ones that did before.",
    "diff": "What differs between two moments, field by field, and the event that gave each its later value.",
}


def timeline_operations(subjects: Iterable[HistorySubject]) -> tuple[RawOperation, ...]:
    """Return the operations on the histories of these kinds of entities."""
    made = []
    for subject in subjects:
        own = Field(subject.parameter, required=True)
        for what, handler, fields, answer, past in (
            ("events", events(subject), PAGE, EVENTS, True),
            ("why", why(subject), FIELD, WHY, True),
            ("diff", diff(subject), BETWEEN, DIFF, False),
        ):
            made.append(
                RawOperation(
                    "GET",
                    f"{NATIVE_PREFIX}/{subject.path}/{what}",
                    handler,
                    f"Of one of {subject.collection}: {_ABOUT[what][0].lower()}{_ABOUT[what][1:]}",
                    {200: ("application/json", answer)},
                    (own, *fields),
                    past=past,
                    errors=(400, 404, 503),
                )
            )
    return tuple(made)


OPERATIONS = timeline_operations(history_subjects())
