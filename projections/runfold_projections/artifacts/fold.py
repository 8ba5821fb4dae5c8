"""Artifacts: per owner a set of files by path. The last fact about a path counts; nothing is rejected, whatever the run's state."""

from dataclasses import dataclass, field

from runfold_schemas.events.artifacts import ArtifactsDeleted, ArtifactStored

File = tuple[int, str, str, int]
"""Size, SHA-256, object key, and when it was stored: ms by the writer's clock."""
Place = tuple[str, str]
"""Owner and path."""


def is_below(path: str, folder: str) -> bool:
    """Whether a path is the folder itself, or below it."""
    return not folder or path == folder or path.startswith(f"{folder}/")


@dataclass(slots=True)
class Artifacts:
    """What a batch of events changes: files that are there after it, and places whose older files are gone."""

    stored: dict[Place, File] = field(default_factory=dict)
    deleted: list[Place] = field(default_factory=list)

    def fold(self, event: ArtifactStored | ArtifactsDeleted, time_ms: int) -> None:
        """Take an event in, in the log's order."""
        if isinstance(event, ArtifactStored):
            self.stored[event.owner, event.path] = (event.size, event.sha256, event.object_key, time_ms)
            return
        self.deleted.append((event.owner, event.path))
        for owner, path in [place for place in self.stored if place[0] == event.owner]:
            if is_below(path, event.path):
                del self.stored[owner, path]
