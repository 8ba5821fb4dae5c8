"""MLflow's logged models: their fold, tables, queries and history."""
