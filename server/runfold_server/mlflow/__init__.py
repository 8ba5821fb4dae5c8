"""MLflow's REST API: the handlers of its calls."""
