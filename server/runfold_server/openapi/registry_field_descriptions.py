"""Descriptions of the fields of requests to the model registry."""

from collections.abc import Mapping

_NAME = "Name of the registered model: at most 256 characters, no `/` and no `:`."
_VALUE = "Value of the tag, at most 100,000 characters."
_MODELS = (
    "create",
    "get",
    "rename",
    "update",
    "delete",
    "set-tag",
    "delete-tag",
    "alias",
    "get-latest-versions",
)
_VERSIONS = ("create", "get", "update", "delete", "transition-stage", "get-download-uri", "set-tag", "delete-tag")

MEANINGS: Mapping[str, str] = {
    **{f"registered-models/{call}.name": _NAME for call in _MODELS},
    **{f"model-versions/{call}.name": _NAME for call in _VERSIONS},
    "alias": "The alias without `@`: letters, digits, `_` and `-`; neither `latest` nor `v` and a number.",
    "archive_existing_versions": "Whether the other versions in that stage become `Archived`. Only for `Staging` and "
    "`Production`.",
    "/api/runfold/v1/models/{name}.name": _NAME,
    "description": "Description.",
    "run_link": "Address of the run, if it is on another server.",
    "stage": "`None`, `Staging`, `Production` or `Archived`, in any case.",
    "stages": "Stages, in any case; none means all.",
    "version": "Number of the version, in a string.",
    "registered-models/rename.new_name": _NAME,
    "registered-models/set-tag.value": _VALUE,
    "model-versions/set-tag.value": _VALUE,
    "registered-models/search.max_results": "Most models to return: 1 to 1,000.",
    "model-versions/search.max_results": "Most versions to return: 1 to 200,000.",
    "model-versions/create.source": "Address of the model: `models:/<logged model's id>`, "
    "`models:/<name>/<version>`, `runs:/<run id>/<path>`, or the address of its files.",
    "model-versions/create.model_id": "Id of the logged model that it is.",
}
"""Descriptions by `path.field`, or by the field alone."""
