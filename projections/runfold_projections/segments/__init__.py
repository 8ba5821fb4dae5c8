"""Metric points at rest: segments, and their compaction."""
