"""What experiments bring to the catalog."""

from runfold_projections.core.canonical import Listing
from runfold_projections.core.entity import Entity, Table
from runfold_projections.core.projection import Projection
from runfold_schemas.events.experiments import ExperimentCreated, ExperimentFact
from runfold_schemas.events.system import Genesis

from .history import SUBJECT
from .projector import ExperimentsProjector
from .rejections import MEANINGS

EXPERIMENTS = Entity(
    package=__package__,
    projection=Projection.EXPERIMENTS,
    layout=2,
    tables=(
        Table(
            "experiment",
            Listing(
                """
            SELECT experiment_id, workspace, name, artifact_location, lifecycle_stage, created_ms,
            updated_ms, created_by::text
            FROM experiment ORDER BY experiment_id
            """
            ),
        ),
        Table(
            "experiment_tag",
            Listing("SELECT experiment_id, key, value FROM experiment_tag ORDER BY experiment_id, key"),
        ),
        Table("experiment_naming"),
    ),
    projector=lambda _: ExperimentsProjector(),
    facts=(
        Genesis,
        ExperimentCreated,
        ExperimentFact,
    ),
    creations=(
        Genesis,
        ExperimentCreated,
    ),
    rejections=MEANINGS,
    subject=SUBJECT,
)
