"""What the fields of requests mean, for the OpenAPI document: by `path.field` where a name means something of its own, else by name."""

from collections.abc import Mapping

from . import registry_meanings

_RUN = "Id of the run. `run_uuid` is taken too."
_KEY = "Key: at most 250 letters, digits, `_`, `-`, `.`, `:`, `/` and blanks; no path that leads elsewhere."
_PAGE = "Token of the page before; none for the first one."
_ORDER = "Columns to sort by, each with `ASC` or `DESC`, such as `metrics.loss DESC`."
_VIEW = "Whether active or deleted ones are meant, or all."

MEANINGS: Mapping[str, str] = {
    "consistency": "`strong` shows all that was acknowledged before, or answers 503; `eventual` shows what is folded by now.",
    "path": "A path with slashes, below the root that the call is about. Refused if a part of it is empty, `.` or `..`.",
    "run_uuid": "Id of the run.",
    "artifact_location": "Where its runs keep artifacts, as a URI; by default below the server's store.",
    "dataset": "The data set.",
    "dataset_digest": "Digest of the data set the metric was measured on.",
    "dataset_name": "Name of the data set the metric was measured on.",
    "datasets": "Data sets, each with the tags of this use, such as `mlflow.data.context`.",
    "digest": "Digest of the data set; with its name, it tells it from others.",
    "end_step": "Last step to show; only together with `start_step`.",
    "end_time": "When the run ended, in ms since the epoch.",
    "experiment_id": "Id of the experiment: a whole number in a string.",
    "experiment_ids": "Ids of experiments.",
    "experiment_name": "Name of the experiment.",
    "filter": "What to find, in MLflow's search language.",
    "key": _KEY,
    "limit": "How many to show.",
    "max_results": "How many to answer at most.",
    "metric_key": "Key of the metric.",
    "metrics": "Points of metrics.",
    "model_id": "Id of a logged model.",
    "model_json": "The model as JSON: `artifact_path`, `flavors`, `run_id` and `utc_time_created` at least.",
    "models": "Logged models.",
    "name": "Name.",
    "new_name": "The new name.",
    "offset": "How many to pass over.",
    "order_by": _ORDER,
    "page_token": _PAGE,
    "params": "Params.",
    "prefix": "What keys begin with.",
    "profile": "Profile of the data set, such as its number of rows, as JSON.",
    "rank": "This rank alone; -1 for writers that named none.",
    "regex": "A regular expression of Postgres, found anywhere in a key.",
    "run_id": _RUN,
    "run_ids": "Ids of runs.",
    "run_name": "Name of the run; kept as the tag `mlflow.runName` too.",
    "run_view_type": _VIEW,
    "schema": "Schema of the data set, as JSON.",
    "since": "The `live` of an answer about exactly these runs, or the id of an event.",
    "source": "Where the data set comes from, as JSON.",
    "source_type": "Kind of the source, such as `http`.",
    "start_step": "First step to show; only together with `end_step`.",
    "start_time": "When the run began, in ms since the epoch.",
    "status": "Status of the run.",
    "step": "Step of the point; may be negative.",
    "tags": "Tags.",
    "timestamp": "When the point was measured, in ms since the epoch.",
    "user_id": "Who runs it. Deprecated by MLflow for the tag `mlflow.user`.",
    "value": "Value.",
    "view_type": _VIEW,
    "wait": "`append` answers when the log has the records, `outcome` when they are folded.",
    "fetchMaxId": "`true`: the largest id that there is, too.",
    "id": "Id of a schema, as it stands in the first bytes of a record's value.",
    "latestOnly": "`true`: of each subject its newest version only.",
    "subject": "Full name of an event.",
    "subjectPrefix": "What names of subjects begin with.",
    "version": "Number of a version, or `latest`.",
    "actor": "Only events of these actors: the parameter is repeated.",
    "entity": "Only events about these: ids of runs, experiments and models, or names. The parameter is repeated.",
    "from": "`now` (the default), `beginning`, the id of an event, a position vector, a time by the broker's clock (RFC 3339, or ms since the epoch).",
    "outcome": "`true`: events are told once the fold has decided about them, with their `outcome`; duplicates are left out.",
    "points": "`false`: of metrics only keys, number of rows and steps are told.",
    "topic": "Only these topics, without their namespace: the parameter is repeated.",
    "type": "Only events whose type, or its last part, fits: `*`, `?` and `[...]` stand for characters. The parameter is repeated.",
    "workspace": "Only events of these workspaces: the parameter is repeated.",
    "/api/runfold/v1/events:stream.experiment_id": "Only events that name these experiments: their own, and those that create runs in them. The parameter is repeated.",
    "/api/runfold/v1/series:live.run_id": "Ids of runs: the parameter is repeated.",
    "/api/runfold/v1/series:live.key": "Keys of metrics: the parameter is repeated.",
    "experiments/search.max_results": "How many to answer at most: 1 to 50,000. There is no default.",
    "metrics/get-history-bulk.run_id": "Ids of up to 100 runs: the parameter is repeated.",
    "runs/log-metric.value": 'Value of the point; "NaN", "Infinity" and "-Infinity" as strings.',
    "runs/log-batch.metrics.value": 'Value of the point; "NaN", "Infinity" and "-Infinity" as strings.',
    "runs/log-parameter.value": "Value of the param; MLflow cuts it at 6000 characters.",
    "runs/set-tag.value": "Value of the tag; MLflow cuts it at 8000 characters.",
    "experiments/set-experiment-tag.value": "Value of the tag, at most 20,000 characters.",
    "experiments/create.name": "Name of the experiment, at most 500 characters.",
    "experiments/update.new_name": "The new name, at most 500 characters.",
    **registry_meanings.MEANINGS,
}


def meaning(path: str, name: str) -> str:
    """The meaning of the field of this path (`runs/log-batch.metrics`) and name. KeyError if nobody wrote it down."""
    return MEANINGS.get(f"{path}.{name}") or MEANINGS[name]
