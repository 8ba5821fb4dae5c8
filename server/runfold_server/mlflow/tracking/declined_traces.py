"""Traces are not kept.

MLflow's client warns of every denied trace, and autologging sends thousands, so only the first is denied.

The first trace of a run (or, outside of runs, of a script in an experiment) gets a 501, which the client shows as a
warning. Later ones are answered as if they were kept, for as long as the denial is remembered.
"""

import time
from collections import OrderedDict
from typing import Any

from starlette.responses import Response

from runfold_server.core.errors import NotImplementedYet
from runfold_server.http.messages import Message, NoFields
from runfold_server.http.operation import Call, Operation, RawCall, RawOperation
from runfold_server.http.services import Services
from runfold_server.openapi_schemas.common import having

Json = dict[str, Any]
REMEMBERED_SECONDS = 3600.0
"""Time after which a trace of the same run is denied again."""
MOST_REMEMBERED = 10_000
_LABEL_CHARS = 300
"""Characters of a name that identifies the sender."""
_SENDER_NAMES = ("mlflow.sourceRun", "mlflow.source.name", "mlflow.user")


class Announced:
    """Remembers the latest `most` senders that were denied, for `seconds`."""

    def __init__(self, most: int = MOST_REMEMBERED, seconds: float = REMEMBERED_SECONDS) -> None:
        self._most, self._seconds = most, seconds
        self._known: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def announced_before(self, sender: tuple[str, ...]) -> bool:
        """Return whether the sender was denied lately, and remember it from now on."""
        now = time.monotonic()
        denied_at = self._known.get(sender)
        if denied_at is not None and now - denied_at < self._seconds:
            return True
        self._known[sender] = now
        self._known.move_to_end(sender)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return False


_announced = Announced()


class Trace(Message, frozen=True):
    """A trace, as MLflow's client sends it."""

    trace_info: dict[str, Any]


class StartTrace(Message, frozen=True):
    """traces, by POST."""

    trace: Trace


def _tracer(info: Json) -> tuple[str, ...]:
    """Return what identifies the sender: the experiment, the run, or else the script and its user."""
    metadata = info.get("trace_metadata")
    known = metadata if isinstance(metadata, dict) else {}
    return (
        str(info.get("trace_location"))[:_LABEL_CHARS],
        *(str(known.get(name))[:_LABEL_CHARS] for name in _SENDER_NAMES),
    )


async def _start(_: Services, call: Call[StartTrace]) -> Json:
    info = call.request.trace.trace_info
    if not _announced.announced_before(_tracer(info)):
        raise NotImplementedYet(
            "Traces are not served by this release of Runfold; they come with a later one. Neither this trace nor "
            "later ones are kept, and later ones get no warning. MLFLOW_TRACE_SAMPLING_RATIO=0 turns tracing off."
        )
    given = info.get("tags")
    tags: Json = given if isinstance(given, dict) else {}
    # With this tag the client does not upload the spans.
    return {"trace": {"trace_info": info | {"tags": tags | {"mlflow.trace.spansLocation": "TRACKING_STORE"}}}}


async def _spans(_: Services, __: RawCall[NoFields]) -> Response:
    # At this message MLflow's client stops sending spans.
    raise NotImplementedYet("REST OTLP span logging is not supported by Runfold: traces come with a later release.")


START = Operation(
    "POST",
    "traces",
    StartTrace,
    _start,
    about="Traces are not kept. The first one of a run gets a 501; later ones are answered as if they were kept.",
    answer=having({"trace": having({"trace_info": {"type": "object", "description": "The trace as it was sent."}})}),
    errors=(501,),
)
SPANS = RawOperation(
    "POST",
    "/v1/traces",
    NoFields,
    _spans,
    "OpenTelemetry's spans are not kept. The message makes MLflow's client stop sending them.",
    {},
    body_type="application/x-protobuf",
    errors=(501,),
)
