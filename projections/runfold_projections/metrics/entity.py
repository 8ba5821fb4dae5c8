"""What metrics, and the branches that their points lie on, bring to the catalog."""

from runfold_projections.core.canonical import Listing
from runfold_projections.core.entity import Entity, Table
from runfold_projections.core.projection import Projection
from runfold_schemas.events.metrics import BranchFact, MetricsLogged

from .canonical import POINTS, SUMMARIES
from .projector import MetricsProjector

METRICS = Entity(
    package=__package__,
    projection=Projection.METRICS,
    layout=11,
    tables=(
        Table(
            "attempt", Listing("SELECT run_id, attempt, ordinal, first_offset FROM attempt ORDER BY run_id, ordinal")
        ),
        Table(
            "attempt_start",
            Listing(
                """
            SELECT run_id, attempt, world_size, start_step, log_offset, started_ms
            FROM attempt_start ORDER BY run_id, attempt
            """
            ),
        ),
        Table(
            "cut",
            Listing(
                """
            SELECT run_id, number, attempt, rank, step, opens, writer, sequence, log_offset, event_id::text
            FROM cut ORDER BY run_id, number
            """
            ),
        ),
        Table(
            "fork",
            Listing(
                """
            SELECT run_id, parent_run_id, parent_branch, step, log_offset, event_id::text
            FROM fork ORDER BY run_id
            """
            ),
        ),
        Table("segment", POINTS),
        Table("metric_block", SUMMARIES),
        Table(
            "model_value",
            Listing(
                """
            SELECT model_id, run_id, key, dataset_name, dataset_digest, time_ms, step, value, least, most
            FROM model_metric ORDER BY model_id, key, run_id, dataset
            """,
                reals=frozenset({"value", "least", "most"}),
            ),
        ),
        Table("model_block"),
        Table("metric_repeat"),
        Table("metric_change"),
    ),
    projector=MetricsProjector,
    facts=(
        MetricsLogged,
        BranchFact,
    ),
    views=("metric", "model_metric"),
    change_table="metric_change",
)
