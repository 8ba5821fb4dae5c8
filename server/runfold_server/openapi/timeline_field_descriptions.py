"""Descriptions of the fields of timelines and differences whose names have another meaning elsewhere."""

from collections.abc import Mapping

_OWN = {
    "diff.from": "The earlier moment: a date or time, ms since the epoch, or a position vector.",
    "events.outcome": "Only accepted events, or only rejected ones.",
    "events.field": "Only events that changed this field or one below it, or were rejected when they tried to: "
    "`alias.prod`, `versions.3`, `params.lr`, …",
    "events.type": "Event types, such as `TagsSet` or `runfold.runs.TagsSet`. Repeatable.",
}
MEANINGS: Mapping[str, str] = {
    f"/api/runfold/v1/{subject}/{field}": text
    for subject in ("runs/{run_id}", "experiments/{experiment_id}", "models/{name}", "logged-models/{model_id}")
    for field, text in _OWN.items()
}
