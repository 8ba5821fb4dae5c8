"""A run's creation before its experiment's id is known. It is completed when a server answers."""

import json
from dataclasses import asdict, dataclass, field
from typing import Self

from runfold.transports.base import Experiment
from runfold_schemas.codec import wire
from runfold_schemas.codec.batch import Outgoing
from runfold_schemas.codec.envelope import Envelope, Writer
from runfold_schemas.events.artifact_paths import append_path
from runfold_schemas.events.runs import RunCreated
from runfold_schemas.positions.topics import Topic


@dataclass(frozen=True, slots=True)
class Creation:
    """A `RunCreated` event and its envelope without the experiment's id and the artifact location, which depends on it.

    Completing it twice yields the same event id, writer and sequence number. The fold accepts the first and drops the
    second, even if they name different experiments.
    """

    run_id: str
    experiment: str
    name: str
    user_id: str
    start_ms: int
    event_id: str
    writer: str
    sequence: int
    node: str = ""
    rank: int | None = None
    attempt: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, payload: bytes) -> Self:
        """Decode the payload of a spool frame."""
        return cls(**json.loads(payload))

    def payload(self) -> bytes:
        """Encode as the payload of a spool frame."""
        return json.dumps(asdict(self)).encode()

    def event(self, experiment: Experiment) -> RunCreated:
        """Complete the event. pydantic.ValidationError if a field is invalid."""
        return RunCreated(
            run_id=self.run_id,
            experiment_id=int(experiment.id),
            name=self.name,
            user_id=self.user_id,
            start_ms=self.start_ms,
            artifact_uri=append_path(experiment.artifact_location, f"{self.run_id}/artifacts"),
            tags=self.tags,
        )

    def record(self, experiment: Experiment) -> Outgoing:
        """Complete the record that creates the run in the experiment."""
        event = self.event(experiment)
        writer = Writer(self.writer, self.node, self.rank, self.attempt)
        envelope = Envelope(self.event_id, event.subject, self.start_ms, writer, self.sequence)
        return Outgoing(Topic.RUNS, self.run_id.encode(), wire.encode(event), envelope.headers())
