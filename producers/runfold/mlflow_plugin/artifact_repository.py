"""MLflow's artifacts under a tracking URI of the plugin: files go to the API server that the URI names.

MLflow's own repository for `mlflow-artifacts:` takes the server's address from the tracking URI, which must be http. This one takes its place, by its entry
point (`mlflow.artifact_repository`), and differs for our URIs only. MLflow loads it while it is being imported: nothing but what it builds on
is imported here.
"""

from typing import Any

from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from runfold.tracking_uri import web_of_plugin


class RunfoldArtifactsRepository(MlflowArtifactsRepository):
    """MLflow's repository, which finds the server of a `runfold+` tracking URI too."""

    @classmethod
    def resolve_uri(cls, artifact_uri: str, tracking_uri: str) -> Any:
        """See MlflowArtifactsRepository."""
        return super().resolve_uri(artifact_uri, web_of_plugin(tracking_uri) or tracking_uri)
