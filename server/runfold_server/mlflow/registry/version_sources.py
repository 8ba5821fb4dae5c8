"""The source of a new model version: its files, run and logged model, found by strong reads before the append."""

from dataclasses import dataclass

from runfold_projections.registry.version_queries import ModelVersion
from runfold_schemas.events.base import DEFAULT_WORKSPACE
from runfold_server.core.errors import ApiError, InvalidParameter
from runfold_server.http.services import Services
from runfold_server.mlflow.tracking.artifact_roots import (
    ArtifactRoot,
    check_logged_model,
    check_run,
    logged_model_artifact_root,
    no_logged_model,
    run_artifact_root,
)
from runfold_server.mlflow.tracking.location_credentials import check_no_credentials

from . import registry_validation as limits
from .source_rules import (
    PROMPT_SOURCES,
    ModelUri,
    authority_of,
    check_no_way_up,
    check_not_local,
    is_served_artifact,
    lies_within,
    not_contained,
    parse_model_uri,
    scheme_of,
)
from .version_search import find_model, latest_of, version_by_alias, version_of


@dataclass(frozen=True, slots=True)
class Source:
    """The source of a version. `storage_location` is None if it is the source itself."""

    source: str
    storage_location: str | None
    run_id: str | None
    model_id: str | None


async def find_source(
    services: Services, source: str, run_id: str | None, model_id: str | None, *, prompt: bool, run_link: str = ""
) -> Source:
    """Return the source as a version keeps it.

    InvalidParameter, in MLflow's words, for a source that the request may not name; NotFound for a missing run or
    model.
    """
    if len(source) > limits.MAX_SOURCE:
        raise InvalidParameter(f"'source' exceeds the maximum length of {limits.MAX_SOURCE} characters")
    check_no_credentials("source", source)
    if prompt:
        if source not in PROMPT_SOURCES:
            raise InvalidParameter(f"Invalid prompt source: '{source}'. Prompt sources must use an MLflow placeholder.")
        await _check_named(services, run_id, run_link, model_id)
        return Source(source, None, run_id, model_id)
    storage = None
    if scheme_of(source) == "models":
        if authority_of(source):
            raise InvalidParameter(
                f"Invalid model version source: '{source}'. Registered model sources must use the active model "
                "registry."
            )
        uri = parse_model_uri(source)
        if uri.model_id is None:
            version = await _registered(services, source, uri)
            _check_same_origin(source, version, run_id, model_id)
            source = f"models:/{version.name}/{version.version}"
            storage = version.storage_location or version.source
            run_id = version.run_id if run_id is None else run_id
            model_id = version.model_id if model_id is None else model_id
    await (_check_model(services, source, model_id) if model_id else _check_run(services, source, run_id))
    if storage is None:
        await _check_named(services, run_id, run_link, model_id)
    if scheme_of(source) == "models" and storage is None:
        found = await _origin_of_model(services, source, parse_model_uri(source).model_id or "")
        storage, run_id = found.artifact_uri, run_id or found.run_id
    elif model_id and not run_id:
        run_id = (await _origin_of_model(services, source, model_id)).run_id
    return Source(source, storage, run_id, model_id)


async def _check_named(services: Services, run_id: str | None, run_link: str, model_id: str | None) -> None:
    """Check that the named run and model exist. Those of a copied version were checked when it was created."""
    await check_logged_model(services, DEFAULT_WORKSPACE, model_id)
    await check_run(services, run_id, run_link)


async def _registered(services: Services, source: str, uri: ModelUri) -> ModelVersion:
    """Return the version of a registered model that the address names."""
    model = await find_model(services, uri.name)
    if model.tags.get("mlflow.prompt.is_prompt", "false").lower() == "true":
        raise InvalidParameter(
            f"Invalid model version source: '{source}'. Prompt versions cannot be used as model version sources."
        )
    if uri.version is not None:
        return await version_of(services, uri.name, uri.version)
    if uri.alias is not None:
        return await version_by_alias(services, uri.name, uri.alias)
    return await latest_of(services, model, uri.stage)


def _check_same_origin(source: str, version: ModelVersion, run_id: str | None, model_id: str | None) -> None:
    for given, has in ((run_id, version.run_id), (model_id, version.model_id)):
        if given is not None and given != (has or ""):
            raise InvalidParameter(
                f"Invalid model version source: '{source}'. The run_id and model_id request parameters must match "
                "the referenced model version."
            )


async def _check_run(services: Services, source: str, run_id: str | None) -> None:
    check_not_local(source, "run_id")
    check_no_way_up(source)
    scheme = scheme_of(source)
    if scheme == "runs":
        named = "" if authority_of(source) else source.partition(":")[2].lstrip("/").partition("/")[0]
        if not run_id or named != run_id:
            not_contained(source, "run_id")
    elif scheme == "models" and parse_model_uri(source).model_id is not None:
        not_contained(source, "model_id")
    elif is_served_artifact(source):
        found = await run_artifact_root(services, run_id) if run_id else None
        if found is None or not lies_within(source, found.artifact_uri):
            not_contained(source, "run_id")


async def _check_model(services: Services, source: str, model_id: str) -> None:
    check_not_local(source, "model_id")
    check_no_way_up(source)
    scheme = scheme_of(source)
    named = parse_model_uri(source).model_id if scheme == "models" else None
    if scheme == "runs" or (named is not None and named != model_id):
        not_contained(source, "model_id")
    if is_served_artifact(source):
        found = await logged_model_artifact_root(services, DEFAULT_WORKSPACE, model_id)
        if found is None or not lies_within(source, found.artifact_uri):
            not_contained(source, "model_id")


async def _origin_of_model(services: Services, source: str, model_id: str) -> ArtifactRoot:
    found = await logged_model_artifact_root(services, DEFAULT_WORKSPACE, model_id)
    if found is None:
        # MLflow's server calls itself here, and answers 500 with the error of that call in it.
        raise unfetched(source, no_logged_model(model_id))
    return found


def unfetched(source: str, error: ApiError) -> InvalidParameter:
    """Return the error for a source that names something missing."""
    return InvalidParameter(
        f"Unable to fetch model from model URI source artifact location '{source}'.Error: {error.message}"
    )
