"""Histories, charts, keys and live points of metrics."""
