"""Artifacts of runs and models, and checks of their bytes."""
