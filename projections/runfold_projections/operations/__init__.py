"""Outcomes of writes, and an operator's overview."""
