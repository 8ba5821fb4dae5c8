"""MLflow's logged models."""
