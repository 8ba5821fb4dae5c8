"""Appends to the log, and what became of them."""
