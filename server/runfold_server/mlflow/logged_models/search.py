"""logged-models/search: MLflow's own language for it, and its own tokens."""

from typing import Any

from runfold_projections.logged_models.queries import LoggedModel, ModelSearch, search_logged_models
from runfold_projections.logged_models.search_vocabulary import MeasuredOn, check_orders, read_filter, read_order
from runfold_schemas.events.runs import DEFAULT_WORKSPACE
from runfold_server.core.errors import InvalidParameter
from runfold_server.http.operation import Call, Operation
from runfold_server.http.request_fields import Field, Kind
from runfold_server.http.services import Services
from runfold_server.mlflow import validation
from runfold_server.mlflow.answers import runs
from runfold_server.mlflow.answers.logged_models import logged_model
from runfold_server.openapi_schemas.common import page

from .page_tokens import make_token, read_token
from .routes import MODEL

Json = dict[str, Any]
MOST_DATASETS = 100
MOST_MODELS = 1000
"""Models of one page; who asks for more gets a token."""
_WHEN_ZERO = 100
_LARGEST_ID = 2**63 - 1


async def _search(services: Services, call: Call) -> Json:
    args = call.args
    asked, filter_string = args["experiment_ids"], args["filter"] or None
    order_by = [_order(one) for one in args["order_by"]] or None
    datasets = _datasets(args["datasets"])
    offset = read_token(args["page_token"], asked, filter_string, order_by)
    limit = min(_size(args["max_results"]), MOST_MODELS)
    experiments = [number for text in asked if 0 <= (number := validation.parse_experiment_id(text)) <= _LARGEST_ID]

    async def query(connection: Any) -> list[LoggedModel]:
        check_orders(order_by or ())
        orders = [
            read_order(one["field_name"], one["ascending"], one["dataset_name"], one["dataset_digest"])
            for one in order_by or ()
        ]
        search = ModelSearch(DEFAULT_WORKSPACE, experiments, read_filter(filter_string or ""), datasets, orders)
        return await search_logged_models(connection, search, limit + 1, offset)

    rows = (await services.reads.reader.strong(MODEL, query)).value
    token = make_token(asked, filter_string, order_by, offset + limit) if len(rows) > limit else None
    return runs.page("models", [logged_model(row) for row in rows[:limit]], token)


def _size(most: int) -> int:
    if most < 0:
        raise InvalidParameter(
            f"Invalid value {most} for parameter 'max_results' supplied. It must be a positive integer"
        )
    return most or _WHEN_ZERO


def _order(one: Json) -> Json:
    return {
        "field_name": one["field_name"],
        "ascending": one["ascending"],
        "dataset_name": one["dataset_name"] or None,
        "dataset_digest": one["dataset_digest"] or None,
    }


def _datasets(given: list[Json]) -> list[MeasuredOn]:
    if not all(one["dataset_name"] for one in given):
        raise InvalidParameter("`dataset_name` in the `datasets` clause must be specified.")
    if len(given) > MOST_DATASETS:
        raise InvalidParameter(f"A search may name {MOST_DATASETS} data sets, this one names {len(given)}")
    return [MeasuredOn(one["dataset_name"], one["dataset_digest"] or None) for one in given]


_DATASET = (Field("dataset_name", default=""), Field("dataset_digest", default=""))

OPERATIONS = (
    Operation(
        "POST",
        "logged-models/search",
        _search,
        (
            Field("experiment_ids", Kind.STRINGS, required=True),
            Field("filter", default=""),
            Field("datasets", Kind.OBJECTS, fields=_DATASET),
            Field("max_results", Kind.INT32, default=50),
            Field(
                "order_by",
                Kind.OBJECTS,
                fields=(
                    Field("field_name", required=True),
                    Field("ascending", Kind.BOOL, default=True),
                    *_DATASET,
                ),
            ),
            Field("page_token"),
        ),
        about="Logged models of experiments that match a filter, a page at a time, at most 1000. Deleted ones are not shown.",
        answer=page("models", "LoggedModel"),
        from_past=True,
    ),
)
