"""Events of webhooks, on the `registry` topic.

Their secrets never enter the log. Field meanings stand in the `.avsc` files.
"""

from typing import Annotated

from pydantic import Field

from .base import Fact, Name, Text

MAX_URL_CHARS = 2_000
MOST_KINDS = 100

WebhookId = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_\-]{0,63}$")]
Url = Annotated[Text, Field(min_length=1, max_length=MAX_URL_CHARS)]
Kinds = Annotated[
    list[Annotated[Text, Field(min_length=1, max_length=200, pattern=r"^[^\n]+$")]],
    Field(min_length=1, max_length=MOST_KINDS),
]


class WebhookFact(Fact):
    """Base of the events about one webhook. They are keyed by the workspace, as all of their topic."""

    webhook_id: WebhookId


class WebhookCreated(WebhookFact):
    subject = "runfold.registry.WebhookCreated"
    name: Name
    url: Url
    kinds: Kinds
    description: Text | None = None
    active: bool = True


class WebhookUpdated(WebhookFact):
    subject = "runfold.registry.WebhookUpdated"
    name: Name | None = None
    url: Url | None = None
    kinds: Kinds | None = None
    description: Text | None = None
    active: bool | None = None


class WebhookDeleted(WebhookFact):
    subject = "runfold.registry.WebhookDeleted"


EVENTS: tuple[type[WebhookFact], ...] = (WebhookCreated, WebhookUpdated, WebhookDeleted)
"""Event classes of this module."""
