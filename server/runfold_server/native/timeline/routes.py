"""The operations of all kinds of entities."""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

from runfold_projections.catalog import history_subjects
from runfold_projections.core.entity import HistorySubject
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import RawHandler, RawOperation, TimeTravel
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.openapi_schemas.common import JSON, Schema
from runfold_server.openapi_schemas.timeline import DIFF, EVENTS, WHY

from .diff import Between, diff
from .events import TimelinePage, events
from .why import WhyField, why

_ABOUT = {
    "events": "The timeline: every event that belongs to it, accepted or rejected, with what it changed and "
    "caused. By the broker's time.",
    "why": "The event that set a field (`status`, `params.lr`, `tags.team`, `alias.prod`, `versions.3.stage`, …), "
    "and the ones that did before.",
    "diff": "What differs between two moments, field by field, and the event that gave each its later value.",
}


def _operations(subject: HistorySubject) -> tuple[RawOperation[Any], ...]:
    def get(
        what: str, message: type[Message], handler: RawHandler[Any], answer: Schema, time_travel: TimeTravel
    ) -> RawOperation[Any]:
        return RawOperation(
            "GET",
            f"{NATIVE_PREFIX}/{subject.path}/{what}",
            _with_parameter(message, subject),
            handler,
            f"Of one of {subject.collection}: {_ABOUT[what][0].lower()}{_ABOUT[what][1:]}",
            {200: (JSON, answer)},
            time_travel=time_travel,
            errors=(400, 404, 503),
        )

    return (
        get("events", TimelinePage, events(subject), EVENTS, TimeTravel.AS_OF),
        get("why", WhyField, why(subject), WHY, TimeTravel.AS_OF),
        get("diff", Between, diff(subject), DIFF, TimeTravel.NONE),
    )


def _with_parameter(message: type[Message], subject: HistorySubject) -> type[Message]:
    """Return the message with the parameter of the path that names the entity."""
    parameter = subject.parameter
    made: type[Any] = msgspec.defstruct(
        f"{message.__name__}Of{parameter.title().replace('_', '')}",
        [(parameter, Annotated[str, Rule(about=subject.about)])],
        bases=(message,),
        kw_only=True,
        frozen=True,
    )
    return made


def timeline_operations(subjects: Iterable[HistorySubject]) -> tuple[RawOperation[Any], ...]:
    """Return the operations on the histories of these kinds of entities."""
    return tuple(operation for subject in subjects for operation in _operations(subject))


OPERATIONS = timeline_operations(history_subjects())
