"""Encoders of entities as MLflow's JSON."""
