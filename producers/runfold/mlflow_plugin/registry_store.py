"""The model registry store for the plugin's URIs. MLflow loads it through its entry point."""

from functools import partial

from mlflow.store.model_registry.rest_store import RestStore
from mlflow.utils.credentials import get_default_host_creds

from runfold.tracking_uri import web_of_plugin


class RunfoldRegistry(RestStore):
    """MLflow's REST store, connected to the API server of a `runfold+` URI."""

    def __init__(self, store_uri: str, tracking_uri: str | None = None) -> None:
        super().__init__(partial(get_default_host_creds, web_of_plugin(store_uri) or store_uri))
