"""logged-models/search, with MLflow's language and page tokens of this call."""

from collections.abc import Sequence
from typing import Any

from runfold_projections.logged_models.queries import LoggedModel, ModelSearch, search_logged_models
from runfold_projections.logged_models.search_vocabulary import LOGGED_MODELS, MeasuredOn
from runfold_projections.search.operands import check_order_count
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.messages import Int32, Message
from runfold_server.http.operation import Call, Operation, TimeTravel
from runfold_server.http.services import Services
from runfold_server.mlflow import validation
from runfold_server.mlflow.answers.logged_models import encode_logged_model
from runfold_server.mlflow.answers.values import encode_page
from runfold_server.openapi_schemas.common import page

from .logged_models import MODEL
from .search_tokens import make_token, read_token

Json = dict[str, Any]
MOST_DATASETS = 100
MOST_MODELS = 1000
"""Models of one page; a search for more gets a token."""
_DEFAULT_SIZE = 100
"""Size of a page where the request has 0."""
_LARGEST_ID = 2**63 - 1


class MeasuredDataset(Message, frozen=True):
    """A dataset that metrics were measured on."""

    dataset_name: str = ""
    dataset_digest: str = ""


class Order(Message, frozen=True):
    """A column to sort by."""

    field_name: str
    ascending: bool = True
    dataset_name: str = ""
    dataset_digest: str = ""


class SearchLoggedModels(Message, frozen=True):
    """logged-models/search."""

    experiment_ids: tuple[str, ...]
    filter: str = ""
    datasets: tuple[MeasuredDataset, ...] = ()
    max_results: Int32 = 50
    order_by: tuple[Order, ...] = ()
    page_token: str | None = None


async def _search(services: Services, call: Call[SearchLoggedModels]) -> Json:
    request = call.request
    experiment_ids, filter_string = request.experiment_ids, request.filter or None
    order_by = [_order(one) for one in request.order_by] or None
    datasets = _datasets(request.datasets)
    offset = read_token(request.page_token, experiment_ids, filter_string, order_by)
    limit = min(_size(request.max_results), MOST_MODELS)
    experiments = [
        number for text in experiment_ids if 0 <= (number := validation.parse_experiment_id(text)) <= _LARGEST_ID
    ]

    async def query(connection: Any) -> list[LoggedModel]:
        check_order_count(order_by or ())
        orders = [
            LOGGED_MODELS.order(one["field_name"], one["ascending"], one["dataset_name"], one["dataset_digest"])
            for one in order_by or ()
        ]
        search = ModelSearch(
            DEFAULT_WORKSPACE, experiments, LOGGED_MODELS.filter(filter_string or ""), datasets, orders
        )
        return await search_logged_models(connection, search, limit + 1, offset)

    rows = (await services.reads.reader.read(MODEL, query)).value
    token = make_token(experiment_ids, filter_string, order_by, offset + limit) if len(rows) > limit else None
    return encode_page("models", [encode_logged_model(row) for row in rows[:limit]], token)


def _size(most: int) -> int:
    if most < 0:
        raise InvalidParameter(
            f"Invalid value {most} for parameter 'max_results' supplied. It must be a positive integer"
        )
    return most or _DEFAULT_SIZE


def _order(one: Order) -> Json:
    return {
        "field_name": one.field_name,
        "ascending": one.ascending,
        "dataset_name": one.dataset_name or None,
        "dataset_digest": one.dataset_digest or None,
    }


def _datasets(given: Sequence[MeasuredDataset]) -> list[MeasuredOn]:
    if not all(one.dataset_name for one in given):
        raise InvalidParameter("`dataset_name` in the `datasets` clause must be specified.")
    if len(given) > MOST_DATASETS:
        raise InvalidParameter(f"A search may name {MOST_DATASETS} datasets, this one names {len(given)}")
    return [MeasuredOn(one.dataset_name, one.dataset_digest or None) for one in given]


OPERATIONS = (
    Operation(
        "POST",
        "logged-models/search",
        SearchLoggedModels,
        _search,
        about="Logged models of experiments that match a filter, a page at a time, at most 1000. Deleted models are "
        "not found.",
        answer=page("models", "LoggedModel"),
        time_travel=TimeTravel.SNAPSHOT,
    ),
)
