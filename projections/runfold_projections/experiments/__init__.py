"""Experiments: their fold, tables, queries and history."""
