"""…/why: the event by which a field is as it is."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from starlette.responses import Response

from runfold_projections.history import timeline
from runfold_projections.postgres.connection import Connection
from runfold_server.core.errors import NotFound
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import RawCall, RawHandler
from runfold_server.http.responses import json_response, with_moment
from runfold_server.http.services import Services
from runfold_server.reads import moments

from .entities import Subject, end_of, moment
from .event_json import Json, said
from .events import MOST_EVENTS

_MOST_NAMED = 20


class WhyField(Message, frozen=True):
    """…/why."""

    field: str
    limit: Annotated[int, Rule(bits=32, least=1, most=MOST_EVENTS)] = 100


def why(subject: Subject) -> RawHandler[WhyField]:
    """The handler of a kind of entity."""

    async def handler(services: Services, call: RawCall[WhyField]) -> Response:
        name, wanted = subject.name_in(call.http), call.request.field
        asked, vector = await moment(services, call.http)

        async def read(connection: Connection) -> Json:
            sources = await subject.sources(connection, name, vector)
            if sources is None:
                raise await subject.missing(connection, name, asked)
            story, end = sources[0], end_of(sources[0], vector)
            found = await timeline.why(connection, story, wanted, end)
            others = await subject.namesakes(connection, name, story, vector) if subject.namesakes is not None else None
            if not found:
                fields = story.fields(await timeline.state_of(connection, story, end))
                raise _unknown_field(wanted, fields, others or ())
            events = [{"from": one.before, "to": one.after, "event": said(one.told)} for one in found]
            answer = {
                "field": wanted,
                "value": found[0].after,
                "set_by": events[0],
                "earlier": events[1 : call.request.limit],
            }
            return answer if others is None else answer | {"namesakes": others}

        shown = await services.reads.reader.at(subject.scope(name)(vector), read)
        return with_moment(json_response(shown.value | {"as_of": moments.said(vector)}), asked)

    return handler


def _unknown_field(name: str, fields: Mapping[str, Any], others: Sequence[Json]) -> NotFound:
    if name.startswith("metrics."):
        return NotFound(f"Field {name[:100]!r} is a metric's: its points are series, `series:history` tells them all.")
    some = sorted(fields, key=lambda field: (field.split(".")[0] != name.split(".")[0], field))[:_MOST_NAMED]
    more = "" if len(fields) <= _MOST_NAMED else ", …"
    before = f" Another model had this name before: ask as of {others[0]['as_of']}." if others else ""
    return NotFound(f"Field {name[:100]!r} never had a value. Fields are: {', '.join(some) or 'none'}{more}.{before}")
