"""webhooks/*: events of the registry's topic. Their secrets are no events; they are in Postgres alone."""

import asyncio
import re
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from runfold_projections.webhooks import deliveries
from runfold_projections.webhooks.payloads import MLFLOW_KINDS, example, is_mlflows, mlflow_body
from runfold_projections.webhooks.queries import WebhookRow, get_webhook, webhooks
from runfold_projections.webhooks.rejections import WebhookRejection
from runfold_schemas.events.webhooks import MAX_URL_CHARS, WebhookCreated, WebhookDeleted, WebhookFact, WebhookUpdated
from runfold_schemas.positions.topics import Topic
from runfold_server.core.errors import Internal, InvalidParameter, NotFound
from runfold_server.http.messages import Message, Rule
from runfold_server.http.operation import Call, Operation
from runfold_server.http.services import Services
from runfold_server.openapi_schemas.common import MS, NOTHING, TEXT, having, listed
from runfold_server.reads.scopes import of_topics
from runfold_server.writes.feature_levels import require_level
from runfold_server.writes.writes import RejectedWrite, WriteOrigin

Json = dict[str, Any]
REGISTRY = of_topics(Topic.REGISTRY)
TRIAL_WAIT_SECONDS = 40.0
"""Most time that a request waits for a worker's trial delivery."""
_MOST_PAGE = 1_000
_MOST_EVENTS = 100
WebhookEntity = Literal[
    "REGISTERED_MODEL",
    "MODEL_VERSION",
    "MODEL_VERSION_TAG",
    "MODEL_VERSION_ALIAS",
    "PROMPT",
    "PROMPT_VERSION",
    "PROMPT_TAG",
    "PROMPT_VERSION_TAG",
    "PROMPT_ALIAS",
    "BUDGET_POLICY",
]
WebhookAction = Literal["CREATED", "UPDATED", "DELETED", "SET", "EXCEEDED"]
WebhookStatus = Literal["ACTIVE", "DISABLED"]
_WEBHOOK_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class WebhookEvent(Message, frozen=True):
    """A kind of event that a webhook gets."""

    entity: WebhookEntity | None = None
    action: WebhookAction | None = None


Events = Annotated[tuple[WebhookEvent, ...], Rule(most=_MOST_EVENTS)]


class CreateWebhook(Message, frozen=True):
    """webhooks, by POST."""

    name: str
    url: str
    events: Events
    description: str | None = None
    secret: str | None = None
    status: WebhookStatus | None = None


class ListWebhooks(Message, frozen=True):
    """webhooks, by GET."""

    max_results: Annotated[int, Rule(bits=32, least=1, most=_MOST_PAGE)] = 100
    page_token: str | None = None


class WebhookRequest(Message, frozen=True):
    """A request about one webhook."""

    webhook_id: str


class UpdateWebhook(WebhookRequest, frozen=True):
    """webhooks/{webhook_id}, by PATCH."""

    name: str | None = None
    url: str | None = None
    events: Events = ()
    description: str | None = None
    secret: str | None = None
    status: WebhookStatus | None = None


class TestWebhook(WebhookRequest, frozen=True):
    """webhooks/{webhook_id}/test."""

    event: WebhookEvent | None = None


def no_webhook(webhook_id: str) -> NotFound:
    """Return the error for a webhook that does not exist."""
    return NotFound(f"Webhook with ID {webhook_id} not found.")


async def find_webhook(services: Services, workspace: str, webhook_id: str) -> WebhookRow:
    """Return the webhook, by a strong read; NotFound if it does not exist."""
    shown = await services.reads.reader.read(
        REGISTRY, lambda connection: get_webhook(connection, workspace, webhook_id)
    )
    if shown.value is None:
        raise no_webhook(webhook_id)
    return shown.value


async def _append_and_wait(services: Services, origin: WriteOrigin, event: WebhookFact) -> None:
    await require_level(services.log, type(event))
    try:
        await services.writes.append_and_wait(event, origin)
    except RejectedWrite as refused:
        if refused.rejection.code == WebhookRejection.NOT_FOUND.value:
            raise no_webhook(event.webhook_id) from None
        raise Internal(f"The server's own event was rejected: {refused.rejection.message}") from None


async def _create(services: Services, call: Call[CreateWebhook]) -> Json:
    request = call.request
    webhook_id = str(uuid.uuid4())
    event = WebhookCreated(
        webhook_id=webhook_id,
        name=check_name(request.name),
        url=_url(services, request.url),
        kinds=_kinds(request.events),
        description=request.description or None,
        active=request.status != "DISABLED",
    )
    # The secret comes first, so that no delivery of a new webhook lacks its signature.
    await _keep_secret(services, webhook_id, request.secret)
    await _append_and_wait(services, call.origin, event)
    return {"webhook": encode_webhook(await find_webhook(services, call.origin.workspace, webhook_id))}


async def _update(services: Services, call: Call[UpdateWebhook]) -> Json:
    request = call.request
    webhook_id = request.webhook_id
    await find_webhook(services, call.origin.workspace, webhook_id)
    event = WebhookUpdated(
        webhook_id=webhook_id,
        name=check_name(request.name) if request.name else None,
        url=_url(services, request.url) if request.url else None,
        kinds=_kinds(request.events) if request.events else None,
        description=request.description,
        active=None if request.status is None else request.status == "ACTIVE",
    )
    await _append_and_wait(services, call.origin, event)
    if request.secret is not None:
        await _keep_secret(services, webhook_id, request.secret)
    return {"webhook": encode_webhook(await find_webhook(services, call.origin.workspace, webhook_id))}


async def _get(services: Services, call: Call[WebhookRequest]) -> Json:
    return {"webhook": encode_webhook(await find_webhook(services, call.origin.workspace, call.request.webhook_id))}


async def _list(services: Services, call: Call[ListWebhooks]) -> Json:
    limit, after = call.request.max_results, call.request.page_token or ""
    workspace = call.origin.workspace
    shown = await services.reads.reader.read(
        REGISTRY, lambda connection: webhooks(connection, workspace, limit + 1, after)
    )
    found = shown.value
    more = {"next_page_token": found[limit - 1].webhook_id} if len(found) > limit else {}
    return {"webhooks": [encode_webhook(hook) for hook in found[:limit]]} | more


async def _delete(services: Services, call: Call[WebhookRequest]) -> Json:
    await find_webhook(services, call.origin.workspace, call.request.webhook_id)
    await _append_and_wait(services, call.origin, WebhookDeleted(webhook_id=call.request.webhook_id))
    return {}


async def _test(services: Services, call: Call[TestWebhook]) -> Json:
    hook = await find_webhook(services, call.origin.workspace, call.request.webhook_id)
    event = call.request.event
    kinds = _kinds([event]) if event else [kind for kind in hook.kinds if is_mlflows(kind)]
    kind = kinds[0] if kinds else "registered_model.created"
    delivery_id = str(uuid.uuid4())
    trial = deliveries.Delivery(
        delivery_id,
        hook.webhook_id,
        delivery_id,
        deliveries.TRIAL,
        0,
        kind,
        mlflow_body(kind, example(kind), services.ids.now_ms()),
        1,
    )
    async with services.reads.database.connection() as connection:
        await deliveries.enqueue(connection, [trial])
    return {"result": await _outcome(services, delivery_id)}


async def _outcome(services: Services, delivery_id: str) -> Json:
    """Wait for the trial delivery, which a worker makes: the server calls no addresses."""
    try:
        async with asyncio.timeout(TRIAL_WAIT_SECONDS):
            while True:
                async with services.reads.database.connection() as connection:
                    found = await deliveries.find_delivery(connection, delivery_id)
                if found is None or found["state"] != "waiting":
                    break
                await asyncio.sleep(0.1)
    except TimeoutError:
        found = None
    if found is None:
        return {"success": False, "error_message": "No worker has tried it in time. Is one running?"}
    if found["status"] is None:
        return {"success": False, "error_message": f"Failed to test webhook: {found['error']}"}
    return {
        "success": found["status"] < 400,
        "response_status": found["status"],
        "response_body": found["answer"] or "",
    }


async def _keep_secret(services: Services, webhook_id: str, secret: str | None) -> None:
    if secret is not None and len(secret) > 1_000:
        raise InvalidParameter("Webhook secret is longer than 1000 characters.")
    async with services.reads.database.connection() as connection:
        await deliveries.put_secret(connection, webhook_id, secret)


def check_name(name: str) -> str:
    """Return a valid name, as `mlflow.utils.validation._validate_webhook_name` 3.17.2 does. It allows 63 characters."""
    if not _WEBHOOK_NAME.fullmatch(name):
        raise InvalidParameter(
            f"Webhook name {name[:1000]!r} is invalid. It must start and end with a letter or digit, be less than 63 "
            "characters long, and contain only letters, digits, dots (.), underscores (_), and hyphens (-)."
        )
    return name


def _url(services: Services, url: str) -> str:
    """Return a valid URL, as `mlflow.utils.validation._validate_webhook_url` does.

    A delivery checks that it is public.
    """
    if not url.strip():
        raise InvalidParameter(f"Webhook URL cannot be empty or just whitespace: {url!r}")
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, parts.username
    except ValueError as error:
        raise InvalidParameter(f"Invalid webhook URL {url!r}: {error!r}") from None
    if parts.scheme not in services.config.webhook_schemes:
        allowed = ", ".join(services.config.webhook_schemes)
        raise InvalidParameter(f"Invalid webhook URL scheme: {parts.scheme!r}. Allowed schemes are: {allowed}.")
    if not host:
        raise InvalidParameter(f"Webhook URL must include a hostname: {url!r}")
    if user is not None or len(url) > MAX_URL_CHARS or any(char.isspace() for char in url):
        raise InvalidParameter(
            f"Webhook URL must have no user, no password, no spaces, and at most {MAX_URL_CHARS} characters: it is "
            "kept in the log."
        )
    return url


def _kinds(events: Sequence[WebhookEvent]) -> list[str]:
    found = []
    for event in events:
        entity, action = (event.entity or "").lower(), (event.action or "").lower()
        if action not in MLFLOW_KINDS.get(entity, ()):
            valid = sorted(MLFLOW_KINDS.get(entity, ()))
            raise InvalidParameter(f"Invalid action '{action}' for entity '{entity}'. Valid actions are: {valid}")
        found.append(f"{entity}.{action}")
    if not found:
        raise InvalidParameter("Webhook events must be a non-empty list of WebhookEvent objects: [].")
    return list(dict.fromkeys(found))


def encode_webhook(hook: WebhookRow) -> Json:
    """Return MLflow's `Webhook`. Only the native API shows patterns of event types, which MLflow lacks."""
    kinds = [kind.split(".") for kind in hook.kinds if is_mlflows(kind)]
    return {
        "webhook_id": hook.webhook_id,
        "name": hook.name,
        "url": hook.url,
        "events": [{"entity": entity.upper(), "action": action.upper()} for entity, action in kinds],
        "status": "ACTIVE" if hook.active else "DISABLED",
        "creation_timestamp": hook.created_ms,
        "last_updated_timestamp": hook.updated_ms,
    } | ({"description": hook.description} if hook.description else {})


_SHAPE = having(
    {
        "webhook_id": TEXT,
        "name": TEXT,
        "url": TEXT,
        "events": listed(having({"entity": TEXT, "action": TEXT})),
        "status": {"enum": list(get_args(WebhookStatus))},
        "creation_timestamp": MS,
        "last_updated_timestamp": MS,
    },
    {"description": TEXT},
)
_ONE = having({"webhook": _SHAPE})


OPERATIONS = (
    Operation(
        "POST",
        "webhooks",
        CreateWebhook,
        _create,
        about="Create a webhook. Its secret signs deliveries and is never returned.",
        answer=_ONE,
        errors=(501,),
    ),
    Operation(
        "GET",
        "webhooks",
        ListWebhooks,
        _list,
        about="Webhooks, by id.",
        answer=having({"webhooks": listed(_SHAPE)}, {"next_page_token": TEXT}),
    ),
    Operation("GET", "webhooks/{webhook_id}", WebhookRequest, _get, about="A webhook by its id.", answer=_ONE),
    Operation(
        "PATCH",
        "webhooks/{webhook_id}",
        UpdateWebhook,
        _update,
        about="Change the given fields of a webhook. An empty secret removes it.",
        answer=_ONE,
        errors=(501,),
    ),
    Operation(
        "DELETE",
        "webhooks/{webhook_id}",
        WebhookRequest,
        _delete,
        about="Delete a webhook, its secret, and its waiting deliveries.",
        answer=NOTHING,
        errors=(501,),
    ),
    Operation(
        "POST",
        "webhooks/{webhook_id}/test",
        TestWebhook,
        _test,
        about="Send a webhook an example event, once, and return the result.",
        answer=having(
            {
                "result": having(
                    {"success": {"type": "boolean"}},
                    {"response_status": {"type": "integer"}, "response_body": TEXT, "error_message": TEXT},
                )
            }
        ),
    ),
)
