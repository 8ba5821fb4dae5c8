"""Entities as MLflow's JSON."""
