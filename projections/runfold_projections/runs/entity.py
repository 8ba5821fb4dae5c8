"""What runs bring to the catalog."""

from runfold_projections.core.canonical import Listing
from runfold_projections.core.entity import Entity, Table
from runfold_projections.core.projection import Projection
from runfold_schemas.events.runs import RunCreated, RunFact

from .history import SUBJECT
from .projector import RunsProjector
from .rejections import MEANINGS

RUNS = Entity(
    package=__package__,
    projection=Projection.RUNS,
    layout=4,
    tables=(
        Table(
            "run",
            Listing(
                """
            SELECT run_id, partition, experiment_id, name, user_id, status, start_ms, end_ms,
            lifecycle_stage, deleted_ms, artifact_uri, created_by::text
            FROM run ORDER BY run_id
            """
            ),
        ),
        Table("run_param", Listing("SELECT run_id, key, value FROM run_param ORDER BY run_id, key")),
        Table("run_tag", Listing("SELECT run_id, key, value FROM run_tag ORDER BY run_id, key")),
        Table(
            "run_dataset",
            Listing(
                """
            SELECT run_id, ordinal, name, digest, source_type, source, schema, profile, tags::text
            FROM run_dataset ORDER BY run_id, ordinal
            """
            ),
        ),
        Table("run_model", Listing("SELECT run_id, ordinal, model_id FROM run_model ORDER BY run_id, ordinal")),
        Table("run_output", Listing("SELECT run_id, ordinal, model_id, step FROM run_output ORDER BY run_id, ordinal")),
        Table("run_change"),
    ),
    projector=RunsProjector,
    facts=(RunFact,),
    creations=(RunCreated,),
    rejections=MEANINGS,
    change_table="run_change",
    subject=SUBJECT,
)
