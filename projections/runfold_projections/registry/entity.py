"""What registered models, with their versions and aliases, bring to the catalog."""

from runfold_projections.core.canonical import Listing
from runfold_projections.core.entity import Entity, Table
from runfold_projections.core.projection import Projection
from runfold_schemas.events.registered_models import RegisteredModelCreated, RegisteredModelFact

from .names import SUBJECT
from .projector import RegisteredModelsProjector
from .rejections import MEANINGS

REGISTERED_MODELS = Entity(
    package=__package__,
    projection=Projection.REGISTRY,
    layout=4,
    tables=(
        Table(
            "registered_model",
            Listing(
                """
            SELECT born, workspace, name, description, created_ms, updated_ms, renamed_ms, last_version,
            is_prompt
            FROM registered_model ORDER BY born
            """
            ),
        ),
        Table("registered_model_tag", Listing("SELECT born, key, value FROM registered_model_tag ORDER BY born, key")),
        Table("model_alias", Listing("SELECT born, alias, version FROM model_alias ORDER BY born, alias")),
        Table(
            "model_version",
            Listing(
                """
            SELECT born, version, log_offset, source, storage_location, run_id, run_link, model_id,
            description, stage, created_ms, updated_ms
            FROM model_version ORDER BY born, version
            """
            ),
        ),
        Table(
            "model_version_tag",
            Listing("SELECT born, version, key, value FROM model_version_tag ORDER BY born, version, key"),
        ),
        Table("model_naming"),
        Table("model_made_of"),
    ),
    projector=lambda _: RegisteredModelsProjector(),
    facts=(RegisteredModelFact,),
    creations=(RegisteredModelCreated,),
    rejections=MEANINGS,
    subject=SUBJECT,
)
