"""Folding a batch of records in one transaction."""
