"""Metric points at rest, and their compaction."""
