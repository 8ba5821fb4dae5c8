"""experiments/search-datasets."""

from typing import Any

from runfold_projections.postgres.connection import Connection
from runfold_projections.runs.datasets import DatasetUse, dataset_uses
from runfold_schemas.positions.topics import Topic
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.messages import Message
from runfold_server.http.operation import Call, Operation, TimeTravel
from runfold_server.http.services import Services
from runfold_server.mlflow import validation
from runfold_server.mlflow.answers.runs import encode_dataset_summary
from runfold_server.mlflow.answers.values import without_empty
from runfold_server.openapi_schemas.common import having, listed, ref
from runfold_server.reads.scopes import of_topics

MOST_EXPERIMENTS = 20
MOST_SUMMARIES = 1000


class SearchDatasets(Message, frozen=True):
    """experiments/search-datasets."""

    experiment_ids: tuple[str, ...] = ()


async def _search(services: Services, call: Call[SearchDatasets]) -> dict[str, Any]:
    texts = call.request.experiment_ids
    if not texts:
        raise InvalidParameter("SearchDatasets request must specify at least one experiment_id.")
    if len(texts) > MOST_EXPERIMENTS:
        raise InvalidParameter(
            f"SearchDatasets request cannot specify more than {MOST_EXPERIMENTS} experiment_ids. "
            f"Received {len(texts)} experiment_ids."
        )
    wanted = [validation.parse_experiment_id(text) for text in texts]

    async def query(connection: Connection) -> list[DatasetUse]:
        return await dataset_uses(connection, wanted, MOST_SUMMARIES)

    rows = (await services.reads.reader.read(of_topics(Topic.RUNS), query)).value
    return without_empty({"dataset_summaries": [encode_dataset_summary(row) for row in rows]})


OPERATIONS = (
    Operation(
        "POST",
        "experiments/search-datasets",
        SearchDatasets,
        _search,
        about="Datasets that runs of these experiments used, once per context, at most 1000; by experiment, name, "
        "digest, context.",
        answer=having({}, {"dataset_summaries": listed(ref("DatasetSummary"))}),
        time_travel=TimeTravel.SNAPSHOT,
    ),
)
