"""Descriptions of the fields of requests, by name, or by `path.field` where a name has a meaning of its own."""

from collections.abc import Mapping

from . import registry_field_descriptions, timeline_field_descriptions

_RUN = "Id of the run. `run_uuid` is accepted too."
_KEY = "Key: at most 250 letters, digits, `_`, `-`, `.`, `:`, `/` and spaces; not a path that leaves its folder."
_PAGE = "`next_page_token` of the previous page; none for the first page."
_ORDER = "Columns to sort by, each with `ASC` or `DESC`, such as `metrics.loss DESC`."
_VIEW = "Active ones, deleted ones, or all."

MEANINGS: Mapping[str, str] = {
    "consistency": "`strong` shows every acknowledged write or answers 503; `eventual` shows what is folded by now.",
    "path": "A path with slashes below the root. Rejected if one of its parts is empty, `.` or `..`.",
    "run_uuid": "Id of the run.",
    "allow_deleted": "`true` shows a deleted one, too.",
    "artifact_directory_path": "Folder below the model's root; empty for the root.",
    "artifact_file_path": "Path of the file below the model's root.",
    "artifact_location": "URI below which its runs keep artifacts; by default in the server's store.",
    "dataset": "The dataset.",
    "dataset_digest": "Digest of the dataset that the metric was measured on.",
    "dataset_name": "Name of the dataset that the metric was measured on.",
    "datasets": "Datasets, each with the tags of its use, such as `mlflow.data.context`.",
    "digest": "Digest of the dataset; name and digest identify it.",
    "end_step": "Last step; only together with `start_step`.",
    "end_time": "When the run ended, in ms since the epoch.",
    "experiment_id": "Id of the experiment: a whole number in a string.",
    "experiment_ids": "Ids of experiments.",
    "experiment_name": "Name of the experiment.",
    "field": "Name of the field, such as `status`, `params.lr`, `tags.team`, `alias.prod`, `versions.3.stage`.",
    "filter": "Filter in MLflow's search language.",
    "key": _KEY,
    "field_name": "`metrics.<key>`, for its latest value, or an attribute such as `creation_timestamp`.",
    "ascending": "Whether small values come first. Missing values always come last.",
    "limit": "Most items to return. With 0, where allowed, the answer names no next page.",
    "max_results": "Most items to return.",
    "metric_key": "Key of the metric.",
    "metrics": "Points of metrics.",
    "model_id": "Id of a logged model.",
    "model_json": "The model as JSON: `artifact_path`, `flavors`, `run_id` and `utc_time_created` at least.",
    "model_type": "Kind of model, in the client's words.",
    "models": "Logged models.",
    "name": "Name.",
    "new_name": "The new name.",
    "offset": "Items to skip.",
    "order": "Which items come first.",
    "order_by": _ORDER,
    "page_token": _PAGE,
    "params": "Params.",
    "prefix": "Prefix of the keys.",
    "profile": "Profile of the dataset as JSON, such as its number of rows.",
    "rank": "Only this rank; -1 for writers that named none.",
    "regex": "A regular expression of Postgres, matched anywhere in a key.",
    "run_id": _RUN,
    "run_ids": "Ids of runs.",
    "run_name": "Name of the run; also kept as the tag `mlflow.runName`.",
    "run_view_type": _VIEW,
    "schema": "Schema of the dataset as JSON.",
    "since": "`live` of an answer about exactly these runs, or the id of an event.",
    "source": "Source of the dataset as JSON.",
    "source_run_id": "Id of the run that made the model.",
    "source_type": "Kind of the source, such as `http`.",
    "start_step": "First step; only together with `end_step`.",
    "start_time": "When the run began, in ms since the epoch.",
    "status": "Status of the run.",
    "step": "Step of the point; may be negative.",
    "tag_key": "Key of the tag: the rest of the path, slashes included.",
    "tags": "Tags.",
    "timestamp": "When the point was measured, in ms since the epoch.",
    "trace": "The trace.",
    "trace_info": "The trace as MLflow's client describes it.",
    "to": "The later moment; by default now.",
    "user_id": "The user who runs it. MLflow prefers the tag `mlflow.user`.",
    "value": "Value.",
    "view_type": _VIEW,
    "wait": "`append` answers when the log has the records, `outcome` when they are folded.",
    "fetchMaxId": "`true`: also return the largest id.",
    "id": "Id of a schema, from the first bytes of a record's value.",
    "latestOnly": "`true`: only the newest version of each subject.",
    "subject": "Full name of an event.",
    "subjectPrefix": "Prefix of the names of subjects.",
    "version": "Number of a version, or `latest`.",
    "actor": "Only events of these actors. Repeatable.",
    "entity": "Only events about these ids of runs, experiments and models, or names. Repeatable.",
    "from": "`now` (the default), `beginning`, the id of an event, a position vector, a time by the broker's clock "
    "(RFC 3339, or ms since the epoch).",
    "outcome": "`true`: send events once the fold has decided, with their `outcome`, and leave out duplicates.",
    "points": "`false`: send only keys, number of rows and steps of metrics.",
    "topic": "Only these topics, without their namespace. Repeatable.",
    "type": "Only events whose type, or its last part, matches; `*`, `?` and `[...]` match characters. Repeatable. A "
    "pattern that "
    "matches no type of this release is accepted, because a newer release may append such events: a misspelt type gets "
    "nothing but heartbeats.",
    "workspace": "Only events of these workspaces. Repeatable.",
    "/api/runfold/v1/events:stream.experiment_id": "Only events that name these experiments: their own, and those "
    "that create runs in them. Repeatable.",
    "action": "What happened to it: `CREATED`, `DELETED` or `SET`.",
    "webhooks.events.entity": "Kind of entity, such as `MODEL_VERSION`.",
    "webhooks/{webhook_id}.events.entity": "Kind of entity, such as `MODEL_VERSION`.",
    "webhooks/{webhook_id}/test.event.entity": "Kind of entity of the example, such as `MODEL_VERSION`.",
    "event": "The event of the example; by default the first that the webhook gets.",
    "secret": "Signs deliveries (HMAC-SHA256). It is kept outside the log and never returned.",
    "state": "`waiting`, `delivered` or `failed`.",
    "url": "URL that deliveries are posted to.",
    "webhook": "Id or name of the webhook.",
    "webhook_id": "Id of the webhook.",
    "webhooks.events": "Events that it gets.",
    "webhooks.status": "`ACTIVE`, or `DISABLED`: it gets nothing.",
    "webhooks/{webhook_id}.events": "Events that it gets from now on.",
    "webhooks/{webhook_id}.status": "`ACTIVE`, or `DISABLED`: it gets nothing.",
    "/api/runfold/v1/webhooks/{webhook}/redeliver.from": "A position of `registry`, such as `registry:0:120`.",
    "/api/runfold/v1/series:live.run_id": "Ids of runs. Repeatable.",
    "/api/runfold/v1/series:live.key": "Keys of metrics. Repeatable.",
    "experiments/search.max_results": "Most experiments to return: 1 to 50,000. There is no default.",
    "logged-models.name": 'Name of the model, which need not be unique: at most 500 characters, none of `/ : . % " '
    "'`.",
    "logged-models.experiment_id": "Id of the experiment that the model belongs to.",
    "logged-models/{model_id}.status": "Outcome of the upload of the model's files.",
    "logged-models/search.datasets": "Only metrics measured on one of these datasets count. Without a digest, any "
    "dataset of the name.",
    "logged-models/search.filter": "Comparisons of `attributes.`, `metrics.`, `params.` and `tags.`, joined by AND. "
    "A metric matches if one of its points "
    "does.",
    "logged-models/search.max_results": "Most models to return, at most 1000.",
    "logged-models/search.order_by": "Columns to sort by; then by creation, newest first, and by id.",
    "metrics/get-history-bulk.run_id": "Ids of up to 100 runs. Repeatable.",
    "runs/log-metric.value": 'Value of the point; "NaN", "Infinity" and "-Infinity" as strings.',
    "runs/log-batch.metrics.value": 'Value of the point; "NaN", "Infinity" and "-Infinity" as strings.',
    "runs/log-parameter.value": "Value of the param, at most 524,288 characters.",
    "runs/set-tag.value": "Value of the tag, at most 524,288 characters.",
    "experiments/set-experiment-tag.value": "Value of the tag, at most 20,000 characters.",
    "experiments/create.name": "Name of the experiment, at most 500 characters.",
    "experiments/update.new_name": "The new name, at most 500 characters.",
    **registry_field_descriptions.MEANINGS,
    **timeline_field_descriptions.MEANINGS,
}


def meaning(path: str, name: str) -> str:
    """Return the description of a field by its path (`runs/log-batch.metrics`) and name. KeyError if there is none."""
    return MEANINGS.get(f"{path}.{name}") or MEANINGS[name]
