"""The fold of metric points: keys, branches, summaries."""
