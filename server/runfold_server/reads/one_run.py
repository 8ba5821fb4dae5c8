"""One run with its latest metrics, for MLflow's API and the native one."""

from runfold_projections.postgres.connection import Connection
from runfold_projections.runs.as_of import run_shown_at
from runfold_projections.runs.queries import Run, get_run
from runfold_schemas.positions.topics import Topic
from runfold_schemas.positions.vector import Vector
from runfold_server.core.entity_errors import no_run
from runfold_server.reads.reader import ReadResult
from runfold_server.reads.scopes import of_run, of_runs, of_topics

from .reader import Consistency, Reader

RUN_TOPICS = (Topic.RUNS, Topic.METRICS, Topic.EXPERIMENTS)
"""What a run as it is answered is folded from."""


async def find_run(
    reader: Reader, run_id: str, as_of: Vector | None = None, consistency: Consistency = Consistency.STRONG
) -> ReadResult[Run]:
    """The run now, or as it was at the vector; NotFound if there is none."""

    async def query(connection: Connection) -> Run | None:
        return await (get_run(connection, run_id) if as_of is None else run_shown_at(connection, run_id, as_of))

    shown = await reader.read(
        of_run(run_id, *RUN_TOPICS) if as_of is None else of_topics(*RUN_TOPICS),
        query,
        lambda run: of_runs([] if run is None else run.ancestors, Topic.METRICS),
        as_of=as_of,
        consistency=consistency,
    )
    if shown.value is None:
        raise no_run(run_id, as_of)
    return ReadResult(shown.value, shown.positions)
