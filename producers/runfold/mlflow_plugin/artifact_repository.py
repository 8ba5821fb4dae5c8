"""The repository for `mlflow-artifacts:` URIs. It also accepts the plugin's tracking URIs.

MLflow's own repository takes the server's address from the tracking URI, which must be http. The entry point
`mlflow.artifact_repository` replaces it with this one, which behaves differently only for the plugin's URIs. MLflow
loads this module while it is itself being imported, so imports here must stay minimal.
"""

from typing import Any

from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from runfold.tracking_uri import web_of_plugin


class RunfoldArtifactsRepository(MlflowArtifactsRepository):
    """MLflow's repository, extended to `runfold+` tracking URIs."""

    @classmethod
    def resolve_uri(cls, artifact_uri: str, tracking_uri: str) -> Any:
        """See MlflowArtifactsRepository."""
        return super().resolve_uri(artifact_uri, web_of_plugin(tracking_uri) or tracking_uri)
