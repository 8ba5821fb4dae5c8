"""MLflow's REST API 2.0: what each call asks of the log and of the read models."""
