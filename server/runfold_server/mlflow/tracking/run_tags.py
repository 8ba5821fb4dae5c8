"""Tags of runs that mean something to MLflow."""

RUN_NAME_TAG = "mlflow.runName"


def effective_tags(tags: dict[str, str]) -> dict[str, str]:
    """Return the tags that a write sets. An empty run name is "not given" to MLflow, so it changes nothing."""
    return {key: value for key, value in tags.items() if value or key != RUN_NAME_TAG}
