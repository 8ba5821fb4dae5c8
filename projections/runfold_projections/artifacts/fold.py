"""Artifacts: the files of each owner, by path. The last event about a path counts; nothing is rejected."""

from dataclasses import dataclass, field

from runfold_schemas.events.artifacts import ArtifactsDeleted, ArtifactStored

File = tuple[int, str, str, int]
"""Size in bytes, SHA-256, object key, and the time of storing: ms since the epoch by the writer's clock."""
OwnedPath = tuple[str, str]
"""Owner and path."""


def is_below(path: str, folder: str) -> bool:
    """Return whether a path is the folder itself or below it."""
    return not folder or path == folder or path.startswith(f"{folder}/")


@dataclass(slots=True)
class Artifacts:
    """What a batch of events changes: files that exist after it, and paths whose older files are deleted."""

    stored: dict[OwnedPath, File] = field(default_factory=dict)
    deleted: list[OwnedPath] = field(default_factory=list)

    def fold(self, event: ArtifactStored | ArtifactsDeleted, time_ms: int) -> None:
        """Fold an event, in the log's order."""
        if isinstance(event, ArtifactStored):
            self.stored[event.owner, event.path] = (event.size, event.sha256, event.object_key, time_ms)
            return
        self.deleted.append((event.owner, event.path))
        for owner, path in [place for place in self.stored if place[0] == event.owner]:
            if is_below(path, event.path):
                del self.stored[owner, path]
