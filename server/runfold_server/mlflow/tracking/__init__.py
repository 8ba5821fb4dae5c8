"""MLflow's experiments, runs and metrics."""
