"""Streams of metric points."""
