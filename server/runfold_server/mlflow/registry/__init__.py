"""MLflow's registered models, versions and webhooks."""
