"""HTTP: MLflow's REST over the log and its read models, and Runfold's own API."""
