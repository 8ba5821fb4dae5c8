"""Runfold's own API, beside MLflow's: ready events in; runs, series, models and the log's own facts out."""
