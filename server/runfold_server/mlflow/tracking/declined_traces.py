"""Traces are not kept, and that is said once: MLflow's client warns of every trace that is refused, and an autologged training has thousands.

The first trace of a run (or, outside of runs, of a script in an experiment) is refused with 501, which the client shows as a warning.
Those that follow are answered as if they were taken, for as long as the refusal is remembered.
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
REMEMBERED = 3600.0
"""Seconds after which it is said again."""
MOST = 10_000
_LABEL = 300
_OF = ("mlflow.sourceRun", "mlflow.source.name", "mlflow.user")


class Announced:
    """Whom it was said to, and when; at most `most` of them, the latest."""

    def __init__(self, most: int = MOST, remembered: float = REMEMBERED) -> None:
        self._most, self._remembered = most, remembered
        self._known: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def announced_before(self, whom: tuple[str, ...]) -> bool:
        """Whether it was said to them lately; from now on it was."""
        now = time.monotonic()
        said = self._known.get(whom)
        if said is not None and now - said < self._remembered:
            return True
        self._known[whom] = now
        self._known.move_to_end(whom)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return False


_announced = Announced()


class Trace(Message, frozen=True):
    """A trace. What MLflow's client sends of it is kept whole for the answer."""

    trace_info: dict[str, Any]


class StartTrace(Message, frozen=True):
    """traces, by POST."""

    trace: Trace


def _tracer(info: Json) -> tuple[str, ...]:
    """Who traces: the experiment, and the run, or else the script and its user."""
    metadata = info.get("trace_metadata")
    known = metadata if isinstance(metadata, dict) else {}
    return (str(info.get("trace_location"))[:_LABEL], *(str(known.get(name))[:_LABEL] for name in _OF))


async def _start(_: Services, call: Call[StartTrace]) -> Json:
    info = call.request.trace.trace_info
    if not _announced.announced_before(_tracer(info)):
        raise NotImplementedYet(
            "Traces are not served by this release of Runfold; they come with a later one. This trace is not kept, nor are those that "
            "follow, of which nothing more is said. MLFLOW_TRACE_SAMPLING_RATIO=0 turns tracing off."
        )
    given = info.get("tags")
    tags: Json = given if isinstance(given, dict) else {}
    # The client looks here for whether it still has to upload the spans.
    return {"trace": {"trace_info": info | {"tags": tags | {"mlflow.trace.spansLocation": "TRACKING_STORE"}}}}


async def _spans(_: Services, __: RawCall[NoFields]) -> Response:
    # By these words MLflow's client knows that it need not send any more.
    raise NotImplementedYet("REST OTLP span logging is not supported by Runfold: traces come with a later release.")


START = Operation(
    "POST",
    "traces",
    StartTrace,
    _start,
    about="Traces are not kept. The first one of a run is refused with 501; those that follow are answered as if they were taken.",
    answer=having({"trace": having({"trace_info": {"type": "object", "description": "As it was sent."}})}),
    errors=(501,),
)
SPANS = RawOperation(
    "POST",
    "/v1/traces",
    NoFields,
    _spans,
    "OpenTelemetry's spans are not kept: MLflow's client is told so in the words by which it stops to send them.",
    {},
    takes="application/x-protobuf",
    errors=(501,),
)
