"""What logged models bring to the catalog."""

from runfold_projections.core.canonical import Listing
from runfold_projections.core.entity import Entity, Table
from runfold_projections.core.projection import Projection
from runfold_schemas.events.logged_models import LoggedModelCreated, LoggedModelFact

from .history import SUBJECT
from .projector import LoggedModelsProjector
from .rejections import MEANINGS

LOGGED_MODELS = Entity(
    package=__package__,
    projection=Projection.REGISTRY,
    layout=1,
    tables=(
        Table(
            "logged_model",
            Listing(
                """
            SELECT model_id, workspace, experiment_id, name, artifact_uri, model_type, source_run_id,
            status, lifecycle_stage, created_ms, updated_ms, created_by::text
            FROM logged_model ORDER BY model_id
            """
            ),
        ),
        Table(
            "logged_model_param", Listing("SELECT model_id, key, value FROM logged_model_param ORDER BY model_id, key")
        ),
        Table("logged_model_tag", Listing("SELECT model_id, key, value FROM logged_model_tag ORDER BY model_id, key")),
    ),
    projector=lambda _: LoggedModelsProjector(),
    facts=(LoggedModelFact,),
    creations=(LoggedModelCreated,),
    rejections=MEANINGS,
    subject=SUBJECT,
)
