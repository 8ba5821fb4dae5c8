"""Runs: their fold, tables, queries and history."""
