"""What toys bring to the catalog."""

from runfold_projections.core.canonical import Listing
from runfold_projections.core.entity import Entity, Table
from runfold_projections.core.projection import Projection

from .events import ToyFact, ToyMade
from .history import SUBJECT
from .projector import ToysProjector
from .rejections import MEANINGS

TOYS = Entity(
    package=__package__,
    projection=Projection.REGISTRY,
    layout=1,
    tables=(Table("toy", Listing("SELECT toy_id, name, color, made_ms, is_broken FROM toy ORDER BY toy_id")),),
    projector=lambda _: ToysProjector(),
    facts=(ToyFact,),
    creations=(ToyMade,),
    rejections=MEANINGS,
    subject=SUBJECT,
)
