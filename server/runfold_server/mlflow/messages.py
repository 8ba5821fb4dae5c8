"""Messages and types of fields that several of MLflow's requests have."""

from typing import Annotated, Literal

from runfold_server.http.messages import Message, Rule

RunId = Annotated[str, Rule(alias="run_uuid")]
View = Literal["ACTIVE_ONLY", "DELETED_ONLY", "ALL"]


class Tag(Message, frozen=True):
    """A tag, or a param of a logged model."""

    key: str = ""
    value: str = ""


class KeyValue(Message, frozen=True):
    """A param or a tag of a run."""

    key: str
    value: str = ""


class RunRequest(Message, frozen=True):
    """A request about one run."""

    run_id: RunId
