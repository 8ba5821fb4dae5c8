"""What the fields of timelines and differences mean where other calls have fields of these names."""

from collections.abc import Mapping

_OWN = {
    "diff.from": "The earlier moment: a date or time, ms since the epoch, or a position vector.",
    "events.outcome": "Accepted or refused ones alone.",
    "events.field": "Only what changed this field, or one below it, or was refused when it asked to: `alias.prod`, `versions.3`, `params.lr`, …",
    "events.type": "Event types, such as `TagsSet` or `runfold.runs.TagsSet`: the parameter is repeated.",
}
MEANINGS: Mapping[str, str] = {
    f"/api/runfold/v1/{subject}/{field}": text
    for subject in ("runs/{run_id}", "experiments/{experiment_id}", "models/{name}", "logged-models/{model_id}")
    for field, text in _OWN.items()
}
