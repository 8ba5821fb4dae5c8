"""Which events clients may append themselves: those that say nothing which only the server can know, and hold no
secrets.
"""

from runfold_schemas.errors import SchemaError
from runfold_schemas.events.all_events import Event
from runfold_schemas.events.artifacts import ArtifactStored
from runfold_schemas.events.experiments import ExperimentCreated
from runfold_schemas.events.logged_models import LoggedModelCreated
from runfold_schemas.events.registered_models import ModelVersionCreated
from runfold_schemas.events.runs import RunCreated
from runfold_schemas.events.webhooks import WebhookCreated, WebhookUpdated
from runfold_server.mlflow.tracking.location_credentials import holds_credentials


class NotForClients(SchemaError):
    """The event is the server's own to append, or holds what may not be in the log."""


def admit(event: Event) -> None:
    """NotForClients unless a client may append the event."""
    match event:
        case ArtifactStored():
            # It names an object, and who may read a file reads that object.
            raise NotForClients(
                f"{event.subject} is appended by the server when it has the bytes: send them to "
                "mlflow-artifacts/artifacts/…"
            )
        case RunCreated() | LoggedModelCreated():
            _check("artifact_uri", event.artifact_uri)
        case ExperimentCreated():
            _check("artifact_location", event.artifact_location)
        case ModelVersionCreated():
            _check("source", event.source)
        case WebhookCreated() | WebhookUpdated():
            # A receiver's address may well have a token in its query: there is no other place for it.
            _check("url", (event.url or "").partition("?")[0])


def _check(field: str, address: str | None) -> None:
    if address and holds_credentials(address):
        raise NotForClients(f"{field} holds credentials, and the log keeps it for ever: give the address without them")
