"""Searches over runs: columns in memory, or SQL."""
