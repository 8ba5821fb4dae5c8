"""Processes that are kept alive and never left behind."""
