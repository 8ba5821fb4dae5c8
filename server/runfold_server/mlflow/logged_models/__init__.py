"""Calls about MLflow's logged models."""
