"""What artifacts bring to the catalog."""

from runfold_projections.core.canonical import Listing
from runfold_projections.core.entity import Entity, Table
from runfold_projections.core.projection import Projection
from runfold_schemas.events.artifacts import ArtifactsDeleted, ArtifactStored

from .projector import ArtifactsProjector

ARTIFACTS = Entity(
    package=__package__,
    projection=Projection.RUNS,
    layout=1,
    tables=(
        Table(
            "artifact",
            Listing("SELECT owner, path, size, sha256, object_key, stored_ms FROM artifact ORDER BY owner, path"),
        ),
    ),
    projector=lambda _: ArtifactsProjector(),
    facts=(
        ArtifactStored,
        ArtifactsDeleted,
    ),
)
