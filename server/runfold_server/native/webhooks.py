"""webhooks of the native API: how deliveries went, and telling a webhook anew from a position of the log on."""

from starlette.requests import Request
from starlette.responses import Response

from runfold_projections.postgres.connection import Connection
from runfold_projections.webhooks import deliveries
from runfold_projections.webhooks.queries import Hook, webhooks
from runfold_schemas.events.runs import DEFAULT_WORKSPACE
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import Topic
from runfold_server.core.errors import InvalidParameter, NotFound
from runfold_server.http.dispatch import json_response
from runfold_server.http.operation import RawOperation
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.request_fields import Field, Kind
from runfold_server.http.services import Services
from runfold_server.mlflow.registry.webhooks import REGISTRY
from runfold_server.openapi_schemas.common import INT64, JSON, MS, NULLABLE_INT, NULLABLE_TEXT, TEXT, having, listed

from .query_parameters import next_page, number

_STATES = ("waiting", "delivered", "failed")
_MOST = 10_000
_WHERE = Partition(Topic.REGISTRY, 0)


async def _deliveries(services: Services, request: Request) -> Response:
    limit, offset = number(request, "limit", 100, 1_000), number(request, "offset", 0, 2**31)
    state, named = request.query_params.get("state"), request.query_params.get("webhook")
    if state is not None and state not in _STATES:
        raise InvalidParameter(f"Parameter 'state' is one of {', '.join(_STATES)}.")
    webhook_id = (await _find(services, named)).webhook_id if named else None
    async with services.reads.database.connection() as connection:
        rows = await deliveries.listed(connection, webhook_id, state, limit + 1, offset)
    more = next_page(len(rows), limit, offset)
    return json_response({"deliveries": rows[:limit]} | more)


async def _redeliver(services: Services, request: Request) -> Response:
    hook = await _find(services, str(request.path_params["webhook"]))
    try:
        position = Position.parse(request.query_params.get("from", ""))
    except ValueError as error:
        raise InvalidParameter(f"Invalid value for parameter 'from' supplied: {error}.") from None
    if position.where != _WHERE:
        raise InvalidParameter("Webhooks are told of events of `registry`: give a position such as registry:0:120.")
    ends = await services.reads.log_ends.now()
    if position.offset > ends[_WHERE]:
        raise InvalidParameter(f"The log of {_WHERE} ends at {ends[_WHERE]}; {position} lies beyond.")
    # What is not folded yet is told by itself.
    until = (await services.reads.database.checkpoints()).get(_WHERE, 0)
    if position.offset < until:
        async with services.reads.database.connection() as connection:
            await deliveries.ask_again(connection, hook.webhook_id, position.offset, until)
    return json_response({"webhook_id": hook.webhook_id, "from": position.offset, "until": max(position.offset, until)})


async def _find(services: Services, named: str) -> Hook:
    """By id or by name."""

    async def query(connection: Connection) -> list[Hook]:
        return await webhooks(connection, DEFAULT_WORKSPACE, _MOST)

    found = [
        hook
        for hook in (await services.reads.reader.strong(REGISTRY, query)).value
        if named in (hook.webhook_id, hook.name)
    ]
    if not found:
        raise NotFound(f"There is no webhook {named!r}.")
    if len(found) > 1:
        raise InvalidParameter(f"{len(found)} webhooks have the name {named!r}: name one by its id.")
    return found[0]


_DELIVERY = having(
    {
        "delivery_id": TEXT,
        "webhook_id": TEXT,
        "event_id": TEXT,
        "position": TEXT,
        "kind": TEXT,
        "state": {"enum": list(_STATES)},
        "attempts": INT64,
        "status": NULLABLE_INT,
        "answer": NULLABLE_TEXT,
        "error": NULLABLE_TEXT,
        "created_ms": MS,
        "due_ms": MS,
        "ended_ms": NULLABLE_INT,
    }
)
OPERATIONS = (
    RawOperation(
        "GET",
        f"{NATIVE_PREFIX}/webhooks/deliveries",
        _deliveries,
        "Deliveries of webhooks, latest first: what waits, what was told, what failed and why.",
        {200: (JSON, having({"deliveries": listed(_DELIVERY)}, {"next_offset": INT64}))},
        (
            Field("webhook"),
            Field("state", Kind.CHOICE, choices=_STATES),
            Field("limit", Kind.INT32, default=100, least=0, most=1_000),
            Field("offset", Kind.INT32, default=0, least=0),
        ),
        errors=(400, 404, 503),
    ),
    RawOperation(
        "POST",
        f"{NATIVE_PREFIX}/webhooks/{{webhook}}/redeliver",
        _redeliver,
        "Tell a webhook anew of all events from a position of `registry` on, under the same delivery ids.",
        {200: (JSON, having({"webhook_id": TEXT, "from": INT64, "until": INT64}))},
        (Field("webhook", required=True), Field("from", required=True)),
        errors=(400, 404, 503),
    ),
)
