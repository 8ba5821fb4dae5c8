"""The operations of all kinds of entities."""

from typing import Any

import msgspec

from runfold_server.http.messages import Message
from runfold_server.http.operation import RawHandler, RawOperation, TimeTravel
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.openapi_schemas.common import JSON, Schema
from runfold_server.openapi_schemas.timeline import DIFF, EVENTS, WHY

from .diff import Between, diff
from .entities import SUBJECTS, Subject
from .events import TimelinePage, events
from .why import WhyField, why

_ABOUT = {
    "events": "The timeline: every event that belongs to it, accepted or rejected, with what it changed and caused. By the broker's time.",
    "why": "The event that set a field (`status`, `params.lr`, `tags.team`, `alias.prod`, `versions.3.stage`, …), and the ones that did before.",
    "diff": "What differs between two moments, field by field, and the event that gave each its later value.",
}


def _operations(subject: Subject) -> tuple[RawOperation[Any], ...]:
    def get(
        what: str, message: type[Message], handler: RawHandler[Any], answer: Schema, time_travel: TimeTravel
    ) -> RawOperation[Any]:
        return RawOperation(
            "GET",
            f"{NATIVE_PREFIX}/{subject.path}/{what}",
            _with_parameter(message, subject.parameter),
            handler,
            f"Of one of {subject.path.split('/')[0]}: {_ABOUT[what][0].lower()}{_ABOUT[what][1:]}",
            {200: (JSON, answer)},
            time_travel=time_travel,
            errors=(400, 404, 503),
        )

    return (
        get("events", TimelinePage, events(subject), EVENTS, TimeTravel.AS_OF),
        get("why", WhyField, why(subject), WHY, TimeTravel.AS_OF),
        get("diff", Between, diff(subject), DIFF, TimeTravel.NONE),
    )


def _with_parameter(message: type[Message], parameter: str) -> type[Message]:
    """Return the message with the parameter of the path that names the entity."""
    made: type[Any] = msgspec.defstruct(
        f"{message.__name__}Of{parameter.title().replace('_', '')}",
        [(parameter, str)],
        bases=(message,),
        kw_only=True,
        frozen=True,
    )
    return made


OPERATIONS = tuple(operation for subject in SUBJECTS for operation in _operations(subject))
