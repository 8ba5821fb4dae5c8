"""Reads of metric points."""
