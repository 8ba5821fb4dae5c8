"""webhooks of the native API: deliveries and their results, and redelivery from a position of the log on."""

from typing import Annotated, Literal, get_args

from starlette.responses import Response

from runfold_projections.postgres.connection import Connection
from runfold_projections.webhooks import deliveries
from runfold_projections.webhooks.queries import WebhookRow, webhooks
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_schemas.positions.position import Partition, Position
from runfold_schemas.positions.topics import Topic
from runfold_server.core.errors import InvalidParameter, NotFound
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import RawCall, RawOperation
from runfold_server.http.prefixes import NATIVE_PREFIX
from runfold_server.http.responses import json_response
from runfold_server.http.services import Services
from runfold_server.mlflow.registry.webhooks import REGISTRY
from runfold_server.openapi_schemas.common import INT64, JSON, MS, NULLABLE_INT, NULLABLE_TEXT, TEXT, having, listed

from .query_parameters import next_page

DeliveryState = Literal["waiting", "delivered", "failed"]
_MOST = 10_000
_WHERE = Partition(Topic.REGISTRY, 0)


class ListDeliveries(Message, frozen=True):
    """webhooks/deliveries."""

    webhook: str | None = None
    state: DeliveryState | None = None
    limit: Annotated[int, Rule(bits=32, least=0, most=1_000)] = 100
    offset: Annotated[int, Rule(bits=32, least=0)] = 0


class Redeliver(Message, frozen=True):
    """webhooks/{webhook}/redeliver."""

    webhook: str
    start: Annotated[str, Rule(name="from")]


async def _deliveries(services: Services, call: RawCall[ListDeliveries]) -> Response:
    request = call.request
    limit, offset, state, named = request.limit, request.offset, request.state, request.webhook
    webhook_id = (await _find(services, named)).webhook_id if named else None
    async with services.reads.database.connection() as connection:
        rows = await deliveries.list_deliveries(connection, webhook_id, state, limit + 1, offset)
    more = next_page(len(rows), limit, offset)
    return json_response({"deliveries": rows[:limit]} | more)


async def _redeliver(services: Services, call: RawCall[Redeliver]) -> Response:
    hook = await _find(services, call.request.webhook)
    try:
        position = Position.parse(call.request.start)
    except ValueError as error:
        raise InvalidParameter(f"Invalid value for parameter 'from' supplied: {error}.") from None
    if position.where != _WHERE:
        raise InvalidParameter("Webhooks receive events of `registry`: give a position such as registry:0:120.")
    ends = await services.reads.log_ends.now()
    if position.offset > ends[_WHERE]:
        raise InvalidParameter(f"The log of {_WHERE} ends at {ends[_WHERE]}; {position} lies beyond.")
    # Events that are not folded yet are delivered anyway.
    until = (await services.reads.database.checkpoints()).get(_WHERE, 0)
    if position.offset < until:
        async with services.reads.database.connection() as connection:
            await deliveries.request_redelivery(connection, hook.webhook_id, position.offset, until)
    return json_response({"webhook_id": hook.webhook_id, "from": position.offset, "until": max(position.offset, until)})


async def _find(services: Services, named: str) -> WebhookRow:
    """By id or by name."""

    async def query(connection: Connection) -> list[WebhookRow]:
        return await webhooks(connection, DEFAULT_WORKSPACE, _MOST)

    found = [
        hook
        for hook in (await services.reads.reader.read(REGISTRY, query)).value
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
        "state": {"enum": list(get_args(DeliveryState))},
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
        ListDeliveries,
        _deliveries,
        "Deliveries of webhooks, latest first: waiting, delivered, and failed with the reason.",
        {200: (JSON, having({"deliveries": listed(_DELIVERY)}, {"next_offset": INT64}))},
        errors=(400, 404, 503),
    ),
    RawOperation(
        "POST",
        f"{NATIVE_PREFIX}/webhooks/{{webhook}}/redeliver",
        Redeliver,
        _redeliver,
        "Redeliver to a webhook all events from a position of `registry` on, under the same delivery ids.",
        {200: (JSON, having({"webhook_id": TEXT, "from": INT64, "until": INT64}))},
        errors=(400, 404, 503),
    ),
)
