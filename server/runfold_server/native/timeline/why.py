"""…/why: the event by which a field is as it is."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from starlette.responses import Response

from runfold_projections.core.entity import HistorySubject
from runfold_projections.history.timeline import state_at
from runfold_projections.history.why import field_settings
from runfold_projections.postgres.connection import Connection
from runfold_server.core.errors import NotFound
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import RawCall, RawHandler
from runfold_server.http.responses import json_answer, with_moment
from runfold_server.http.services import Services
from runfold_server.reads import moments

from .entities import find_histories, find_namesakes, moment, name_in, scope_of
from .event_json import Json, said
from .events import MOST_EVENTS

_MOST_NAMED = 20


class WhyField(Message, frozen=True):
    """…/why."""

    field: str
    limit: Annotated[int, Rule(bits=32, least=1, most=MOST_EVENTS)] = 100


def why(subject: HistorySubject) -> RawHandler[WhyField]:
    """The handler of a kind of entity."""

    async def handler(services: Services, call: RawCall[WhyField]) -> Response:
        name, wanted = name_in(subject, call.http), call.request.field
        asked, vector = await moment(services, call.http)

        async def read(connection: Connection) -> Json:
            history = (await find_histories(connection, subject, name, vector, asked))[0]
            end = history.end_offset(vector)
            found = await field_settings(connection, history, wanted, end)
            others = await find_namesakes(connection, subject, name, history, vector)
            if not found:
                fields = history.fields(await state_at(connection, history, end))
                raise _unknown_field(wanted, fields, others or ())
            events = [{"from": one.before, "to": one.after, "event": said(one.event)} for one in found]
            answer = {
                "field": wanted,
                "value": found[0].after,
                "set_by": events[0],
                "earlier": events[1 : call.request.limit],
            }
            return answer if others is None else answer | {"namesakes": others}

        shown = await services.reads.reader.read_after(scope_of(subject, name)(vector), read)
        return with_moment(await json_answer(shown.value | {"as_of": moments.vector_text(vector)}), asked)

    return handler


def _unknown_field(name: str, fields: Mapping[str, Any], others: Sequence[Json]) -> NotFound:
    if name.startswith("metrics."):
        return NotFound(f"Field {name[:100]!r} is a metric's: its points are a series, which `series:history` returns.")
    some = sorted(fields, key=lambda field: (field.split(".")[0] != name.split(".")[0], field))[:_MOST_NAMED]
    more = "" if len(fields) <= _MOST_NAMED else ", …"
    before = f" Another model had this name before: ask as of {others[0]['as_of']}." if others else ""
    return NotFound(f"Field {name[:100]!r} never had a value. Fields are: {', '.join(some) or 'none'}{more}.{before}")
