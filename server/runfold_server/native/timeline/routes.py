"""The operations of all kinds of entities."""

from runfold_server.http.operation import RawOperation
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.request_fields import Field
from runfold_server.openapi_schemas.timeline import DIFF, EVENTS, WHY

from .diff import BETWEEN, diff
from .entities import SUBJECTS
from .events import PAGE, events
from .why import FIELD, why

_ABOUT = {
    "events": "The timeline: every event that belongs to it, accepted or refused, with what it changed and caused. By the broker's time.",
    "why": "The event that set a field (`status`, `params.lr`, `tags.team`, `alias.prod`, `versions.3.stage`, …), and the ones that did before.",
    "diff": "What differs between two moments, field by field, and the event that gave each its later value.",
}


def _operations() -> tuple[RawOperation, ...]:
    made = []
    for subject in SUBJECTS:
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
                    f"Of one of {subject.path.split('/')[0]}: {_ABOUT[what][0].lower()}{_ABOUT[what][1:]}",
                    {200: ("application/json", answer)},
                    (own, *fields),
                    past=past,
                    errors=(400, 404, 503),
                )
            )
    return tuple(made)


OPERATIONS = _operations()
