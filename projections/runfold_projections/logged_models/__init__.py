"""MLflow's logged models, from events to rows and answers."""
