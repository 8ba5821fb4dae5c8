"""Metrics: branches and their fold, metric keys, summaries of points."""
